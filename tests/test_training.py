import json
import pytest
import torch
from PIL import Image
from lm4lv.degradations import make_pairs
from lm4lv.llm import load_llm
from lm4lv.loop import FitConfig, checkpoints
from lm4lv.mae import MAEConfig, new_mae
from lm4lv.model import LM4LV
from lm4lv.training import PairBatches, TrainConfig, build, describe, set_values, train
from families import write_llm

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
        assert repr(text) in str(error.value) and 'steps' in str(error.value) and 'fit,' not in str(error.value)

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

@pytest.fixture(scope='module')
def base(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp('base')
    write_llm('llama', tokenizer, folder/'llm')
    torch.manual_seed(0)
    new_mae(16, 8, 16, 1, 2, 16, 1).save_pretrained(folder/'mae')
    (folder/'photos').mkdir()
    for i in range(4): Image.effect_noise((40, 40), 60).convert('RGB').save(folder/'photos'/f'{i}.png')
    return folder

@pytest.fixture
def settings(base):
    def make(steps=3, out=None, **more):
        return TrainConfig(images=str(base/'photos'), llm=str(base/'llm'), vision=str(base/'mae'), task_length=3, warm_start=8,
                           **dict(dict(tasks=('denoise', 'flip')), **more),
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
    card = json.loads((tmp_path/'save'/'card.json').read_text())
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

def test_the_loss_falls(settings):
    log = train(settings(30), progress=False)[1]
    assert log[-1]['loss'] < log[0]['loss'] and abs(log[0]['text'] + log[0]['visual'] - log[0]['loss']) < 1e-4

def test_fine_tuning_for_one_of_several_tasks_saves_its_checkpoints(settings, tmp_path):
    train(settings(), tmp_path/'both', progress=False)
    model, _ = train(settings(out=tmp_path/'out', init=str(tmp_path/'both'), tasks=('flip',)), progress=False)
    assert len(checkpoints(tmp_path/'out')) == 2

def test_fine_tuning_for_a_task_without_tokens_is_an_error(settings, tmp_path):
    train(settings(1), tmp_path, progress=False)
    with pytest.raises(ValueError, match='no task tokens for derain'): train(settings(init=str(tmp_path), tasks=('derain',)), progress=False)

def test_a_wrong_dtype_is_an_error_that_names_it(settings):
    with pytest.raises(ValueError, match='float99'): build(settings(llm_dtype='float99'))

def test_no_tasks_at_all_is_an_error(settings):
    with pytest.raises(ValueError, match='tasks'): train(settings(tasks=()), progress=False)

def test_the_description_counts_what_is_trained(settings):
    model = build(settings())
    trained = sum(v.numel() for v in model.trained_state().values())
    assert describe(model).startswith(f'{trained:,} of ')
