import json
import pytest
import torch
from safetensors.torch import load_file
from lm4lv.core.io import checkpoints
from lm4lv.core.loop import FitConfig
from lm4lv.images.degradations import Pairs, make_pairs
from lm4lv.vision.mae_training import MAEConfig
from lm4lv.llm.frozen import load_llm
from lm4lv.evaluation.failures import answer_errors
from lm4lv.model.next_element import LM4LV
from lm4lv.training.trainer import PairBatches, TrainConfig, build, describe, set_values, train, training_data

# settings

def test_settings_are_changed_by_name_and_kind():
    config = set_values(TrainConfig(), ['tasks=denoise,flip', 'steps=1e3', 'lr=2e-4', 'init=runs/a', 'betas=0.8,0.9', 'llm_dtype=bfloat16'])
    assert (config.tasks, config.fit.steps, config.fit.lr) == (('denoise', 'flip'), 1000, 2e-4)
    assert (config.init, config.fit.betas, config.llm_dtype) == ('runs/a', (0.8, 0.9), 'bfloat16')
    assert isinstance(config.fit.steps, int)

def test_a_value_may_hold_equals_signs(): assert set_values(TrainConfig(), ['images=a=b']).images == 'a=b'

def test_none_clears_a_setting_that_may_be_empty(): assert set_values(TrainConfig(init='a'), ['init=none']).init is None

@pytest.mark.parametrize('text', ['stepz=1', 'steps', '', '=3', 'fit=3', ' steps=3'])
def test_an_unknown_setting_is_an_error_that_lists_the_known(text):
    for config in (TrainConfig(), MAEConfig(), FitConfig()):
        with pytest.raises(ValueError) as error: set_values(config, [text])
        assert repr(text) in str(error.value) and 'steps' in str(error.value) and ' fit,' not in str(error.value)

@pytest.mark.parametrize('text', ['steps=many', 'lr=fast', 'betas=a,b', 'steps=nan', 'steps='])
def test_a_wrong_value_is_an_error_that_names_it(text):
    with pytest.raises(ValueError, match=text.split('=')[0] + '=.*expected a value like'): set_values(TrainConfig(), [text])

@pytest.mark.parametrize('text', ['seed=inf', 'steps=none', 'steps=2.5'])
def test_a_value_that_is_no_whole_number_is_an_error_that_names_it(text):
    with pytest.raises(ValueError, match=text.split('=')[0]): set_values(TrainConfig(), [text])

# pairs

@pytest.fixture
def samples():
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return [dict(image=image, index=i * 5) for i, image in enumerate(images)]

def test_a_pair_follows_from_its_index_whatever_the_batch(samples):
    make = PairBatches(['denoise', 'flip', 'demask'])
    whole = make(samples)
    for i, sample in enumerate(samples):
        one = make([sample])
        assert one['params'][0] == whole['params'][i]
        torch.testing.assert_close(one['input'][0], whole['input'][i], atol=1e-6, rtol=0)
        torch.testing.assert_close(one['target'][0], whole['target'][i], atol=1e-6, rtol=0)

def test_recorded_parameters_make_the_same_pairs(samples):
    batch = PairBatches(['denoise', 'flip', 'demask'])(samples)
    for i, p in enumerate(batch['params']):
        pair = make_pairs(samples[i]['image'][None], p['task'], seeds=[p['seed']])
        torch.testing.assert_close(batch['input'][i], pair.input[0], atol=1e-6, rtol=0)

def test_the_seed_changes_the_pairs(samples):
    a, b, c = (PairBatches(['denoise'], seed)(samples)['input'] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)

def test_all_tasks_have_equal_chances():
    make = PairBatches(['denoise', 'flip', 'derain'])
    counts = [sum(make.task(i) == t for i in range(3000)) for t in make.tasks]
    assert all(abs(count - 1000) < 5 * (3000 * 2 / 9) ** 0.5 for count in counts)

def test_an_unknown_task_is_named():
    with pytest.raises(ValueError, match="'dehaze'"): PairBatches(['denoise', 'dehaze'])

# training

@pytest.fixture
def settings(base):
    def make(steps=3, out=None, **more):
        return TrainConfig(images=str(base/'photos'), llm=str(base/'llm'), vision=str(base/'mae'), task_length=3,
                           **dict(dict(tasks=('denoise', 'flip'), warm_start=8, llm_dtype='float32'), **more),
                           fit=FitConfig(steps=steps, batch=4, lr=1e-2, warmup=1, log_every=1, save_every=1, out=out and str(out)))
    return make

def test_training_changes_adapters_and_task_tokens_only(settings, base):
    before = load_llm(base/'llm').fingerprint()
    start = build(settings())
    model, _ = train(settings(), progress=False)
    assert model.llm.fingerprint() == before
    old = start.state_dict()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, old[k])}
    assert changed == set(model.trained_state())

def test_a_trained_model_is_saved_with_a_card_and_loads(settings, base, tmp_path):
    model, log = train(settings(), tmp_path/'save', progress=False)
    card = json.loads((tmp_path/'save'/'training_record.json').read_text())
    assert card['samples'] == 12 and card['settings']['fit']['lr'] == 1e-2 and card['log'] == log
    again = LM4LV.from_pretrained(tmp_path/'save')
    assert all(torch.equal(a, b) for a, b in zip(model.trained_state().values(), again.trained_state().values()))

def test_a_stopped_training_ends_with_the_same_bits(settings, tmp_path):
    whole, _ = train(settings(4), progress=False)
    def stop(entry):
        if entry['step'] == 3: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): train(settings(4, tmp_path), on_log=stop, progress=False)
    assert len(checkpoints(tmp_path)) == 2
    again, _ = train(settings(4, tmp_path), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.trained_state().values(), again.trained_state().values()))

def test_the_trail_holds_adapters_and_task_tokens_and_nothing_else(settings, tmp_path):
    config = settings(trainable=('adapter', 'deadapter', 'task_tokens', 'encoder'))
    config.fit.out, config.fit.snapshot_every = str(tmp_path), config.fit.steps
    model, _ = train(config, progress=False)
    first, last = (load_file(p) for p in sorted((tmp_path/'snapshots').iterdir()))
    assert set(first) == set(last) == {k for k in model.trained_state()}
    assert all(torch.equal(last[k], v.half()) for k, v in model.trained_state().items())
    assert any(not torch.equal(first[k], last[k]) for k in last)

def test_the_loss_falls(settings):
    log = train(settings(30), progress=False)[1]
    assert log[-1]['loss'] < log[0]['loss'] and abs(log[0]['text'] + log[0]['visual'] - log[0]['loss']) < 1e-4

@pytest.mark.parametrize('words', [0., .25])
def test_words_count_as_much_as_a_setting_says(settings, words):
    entry, = train(settings(1, text_weight=words), progress=False)[1]
    assert entry['loss'] == pytest.approx(words * entry.get('text', 0) + entry['visual'], abs=1e-5)
    assert ('text' in entry) == bool(words) and entry.get('text', 2) > 1 # without a weight it is not even computed

def test_fine_tuning_for_one_of_several_tasks_saves_its_checkpoints(settings, tmp_path):
    train(settings(), tmp_path/'both', progress=False)
    model, _ = train(settings(out=tmp_path/'out', init=str(tmp_path/'both'), tasks=('flip',)), progress=False)
    assert len(checkpoints(tmp_path/'out')) == 2

def test_a_task_that_a_checkpoint_lacks_starts_from_the_tokens_that_are_there(settings, tmp_path):
    train(settings(1), tmp_path, progress=False)
    before = build(settings(1, init=str(tmp_path), tasks=('flip', 'derain')))
    at_first = before.tasks.bank['derain'].clone()
    assert torch.allclose(at_first, torch.stack([before.tasks.bank[task] for task in ('denoise', 'flip')]).mean(0))
    model, _ = train(settings(3, init=str(tmp_path), tasks=('derain',)), progress=False)
    assert model.tasks.names == ['denoise', 'flip', 'derain'] and not torch.allclose(model.tasks.bank['derain'], at_first)
    assert torch.equal(model.tasks.bank['flip'], before.tasks.bank['flip']), 'a task that is not trained keeps its tokens'

def test_a_last_fit_changes_the_way_out_alone_and_lowers_its_error_on_what_it_saw(settings):
    plain, log = train(settings(3), progress=False)
    fitted, _ = train(settings(3, refit=24), progress=False)
    changed = {k for k, v in fitted.trained_state().items() if not torch.equal(v, plain.trained_state()[k])}
    assert changed == {'adapters.deadapter.weight', 'adapters.deadapter.bias'}
    data, collate = training_data(settings(3), 16)
    pairs = Pairs(**collate([data[12 + i] for i in range(24)])) # those behind the twelve that were trained on
    with torch.no_grad(): errors = [answer_errors(model, pairs).mean() for model in (plain, fitted)]
    assert errors[1] < errors[0]

def test_a_last_fit_goes_as_far_as_it_is_told(settings):
    "Half-way lies in the middle between the trained de-adapter and the least-squares one."
    weights = [train(settings(3, refit=24, refit_share=share), progress=False)[0].adapters.deadapter.weight for share in (0., .5, 1.)]
    plain, _ = train(settings(3), progress=False)
    assert torch.equal(weights[0], plain.adapters.deadapter.weight) and not torch.allclose(weights[0], weights[2])
    assert torch.allclose(weights[1], (weights[0] + weights[2]) / 2, atol=1e-6)

def test_a_wrong_dtype_is_an_error_that_names_it(settings):
    with pytest.raises(ValueError, match='float99'): build(settings(llm_dtype='float99'))

def test_no_tasks_at_all_is_an_error(settings):
    with pytest.raises(ValueError, match='tasks'): train(settings(tasks=()), progress=False)

def test_the_description_counts_what_is_trained(settings):
    model = build(settings())
    trained = sum(v.numel() for v in model.trained_state().values())
    assert describe(model).startswith(f'{trained:,} of ')

# parts

def changed(model, start):
    old = start.state_dict()
    return {k for k, v in model.state_dict().items() if k not in old or not torch.equal(v, old[k])}

@pytest.mark.parametrize('part,prefix', [('adapter', 'adapters.adapter.'), ('deadapter', 'adapters.deadapter.'), ('task_tokens', 'tasks.'), ('encoder', 'vision.model.vit.')])
def test_only_the_part_that_is_named_is_trained(settings, part, prefix):
    model, _ = train(settings(trainable=(part,), warm_start=0), progress=False)
    found = changed(model, build(settings(warm_start=0)))
    assert found and all(name.startswith(prefix) for name in found)

def test_the_decoder_is_trained_by_a_loss_on_pixels(settings):
    model, log = train(settings(trainable=('decoder',), pixel_weight=1.0, warm_start=0), progress=False)
    found = changed(model, build(settings(warm_start=0)))
    assert found and all(name.startswith('vision.model.decoder.') for name in found) and 'pixel' in log[0]

def test_a_decoder_that_no_loss_reaches_is_refused(settings):
    with pytest.raises(ValueError, match='pixel_weight=1'): build(settings(trainable=('decoder',)))

@pytest.mark.parametrize('parts', [('adapters',), ()])
def test_an_unknown_part_is_an_error_that_lists_the_known(settings, parts):
    with pytest.raises(ValueError, match='deadapter'): build(settings(trainable=parts))

def test_a_vision_module_that_was_trained_along_is_saved_and_loaded(settings, tmp_path):
    model, _ = train(settings(trainable=('adapter', 'deadapter', 'task_tokens', 'encoder'), warm_start=0), tmp_path/'a', progress=False)
    again = LM4LV.from_pretrained(tmp_path/'a')
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(model.vision.encode(x), again.vision.encode(x))

def test_lora_is_trained_saved_and_loaded_and_the_model_beneath_stays(settings, base, tmp_path):
    pytest.importorskip('peft')
    before = load_llm(base/'llm').fingerprint()
    config = lambda **more: settings(trainable=('adapter', 'deadapter', 'task_tokens', 'lora'), lora_rank=2, **more)
    model, _ = train(config(), tmp_path/'a', progress=False)
    assert model.llm.fingerprint() == before and model.llm.fast
    lora = {k: v for k, v in model.trained_state().items() if 'lora_B' in k}
    assert len(lora) == 2 * 4 and all(v.abs().sum() > 0 for v in lora.values())
    again = LM4LV.from_pretrained(tmp_path/'a')
    assert all(torch.equal(a, b) for a, b in zip(model.trained_state().values(), again.trained_state().values()))
    pairs = make_pairs(torch.rand(2, 3, 16, 16), 'denoise')
    batch, images = model.pair_batch(pairs)
    torch.testing.assert_close(model(batch, images).total, again(batch, images).total)

def test_lora_changes_what_a_prefix_means_so_it_is_run_for_each_batch_and_learns_there_too(settings):
    pytest.importorskip('peft')
    model = build(settings(trainable=('lora',), lora_rank=2))
    lora = [p for name, p in model.llm.named_parameters() if 'lora_' in name]
    batch, images = model.pair_batch(make_pairs(torch.rand(2, 3, 16, 16), 'denoise'))
    features = model.vision.encode(images)
    assert batch.prefix > 0
    for _ in range(2): # another time with other weights
        for name, p in model.llm.named_parameters():
            if 'lora_B' in name: torch.nn.init.normal_(p.data, std=.05)
        base, L = model.llm.model.model, model.llm.num_layers
        states = base(inputs_embeds=model.embed(batch, features), output_hidden_states=True)
        visual = base.norm(states.hidden_states[model.visual_layer]) if model.visual_layer < L else states.last_hidden_state
        whole = torch.cat([visual.flatten(0, 1)[batch.visual_from], states.last_hidden_state.flatten(0, 1)[batch.text_from]])
        found = torch.cat(model.outputs(batch, features))
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)
        for ours, theirs in zip(*(torch.autograd.grad((out * out.detach().roll(1, -1)).sum(), lora) for out in (found, whole))):
            torch.testing.assert_close(ours, theirs, atol=1e-4 * theirs.abs().max().item(), rtol=1e-3)
    assert not model._prefixes

def test_lora_where_it_finds_nothing_is_one_clear_error(tokenizer):
    pytest.importorskip('peft')
    from lm4lv.llm.frozen import FrozenLLM, LLMError
    from families import tiny_llm
    with pytest.raises(LLMError, match='q_proj'): FrozenLLM(tiny_llm('gpt2', tokenizer), tokenizer, 'tiny').add_lora()

def test_features_that_are_aimed_at_do_not_move_towards_the_guess(settings):
    model = build(settings(trainable=('encoder',), warm_start=0))
    batch, images = model.pair_batch(make_pairs(torch.rand(2, 3, 16, 16), 'denoise'))
    target = images[1::2].clone().requires_grad_()
    all_images = images.clone()
    all_images[1::2] = target
    with torch.no_grad(): reference = model(batch, images).visual
    loss = model(batch, all_images)
    torch.testing.assert_close(loss.visual.detach(), reference)
    model.adapters.adapter.weight.data.zero_() # inputs say nothing: what is left could only come through the targets
    model(batch, all_images).visual.backward()
    assert target.grad is None or target.grad.abs().max() == 0

# conversations from a file

@pytest.fixture
def pairs_file(base, tmp_path):
    turns = [dict(role='human', value='<image> <task>'), dict(role='gpt', value='<image>')]
    photos = sorted((base/'photos').glob('*.png'))
    items = [dict(image=[str(p), str(p)], task='denoise', conversations=turns) for p in photos]
    (tmp_path/'items.json').write_text(json.dumps(items))
    return tmp_path/'items.json'

def test_a_files_own_conversations_are_trained_on(settings, pairs_file):
    log = train(settings(6, items=str(pairs_file)), progress=False)[1]
    assert log[-1]['visual'] < log[0]['visual']

def test_a_files_pictures_are_spoiled_on_the_fly(settings, pairs_file):
    config = settings(2)
    config.images = str(pairs_file)
    assert len(train(config, progress=False)[1]) == 2

def test_workers_that_read_items_change_nothing(settings, pairs_file):
    one, two = settings(3, items=str(pairs_file)), settings(3, items=str(pairs_file))
    two.fit.workers = 1
    a, b = train(one, progress=False)[0], train(two, progress=False)[0]
    assert all(torch.equal(x, y) for x, y in zip(a.trained_state().values(), b.trained_state().values()))

# watching

def test_watching_draws_and_changes_nothing(settings, monkeypatch):
    import matplotlib
    matplotlib.use('agg')
    shown = []
    import IPython.display
    monkeypatch.setattr(IPython.display, 'display', lambda figure, display_id: shown.append(figure))
    from lm4lv.training.trainer import Watch
    plain = train(settings(3), progress=False)[0]
    watch = Watch(torch.rand(2, 3, 16, 16), 'denoise', every=2)
    watched = train(settings(3), on_log=watch, progress=False)[0]
    assert len(watch.log) == 3 and len(shown) == 1 and len(watch.written) == 1
    assert all(torch.equal(a, b) for a, b in zip(plain.trained_state().values(), watched.trained_state().values()))
