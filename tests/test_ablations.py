"Each variant changes what it says and nothing else; series resume; results files are safe."
import dataclasses, json
from functools import partial
import pytest
import torch
from PIL import Image
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from lm4lv.core.io import checkpoints, fingerprint, trained
from lm4lv.core.loop import FitConfig, StepSampler
from lm4lv.images.degradations import TASKS, Pairs, make_pairs
from lm4lv.images.photos import to_image
from lm4lv.model.adapters import Adapters
from lm4lv.model.conversations import check_item
from lm4lv.model.generation import restore
from lm4lv.model.next_element import LM4LV, tiny_model
from lm4lv.training.trainer import TrainConfig, training_data
from lm4lv.ablations import comparisons; from lm4lv.training import trainer as training
from lm4lv.ablations.comparisons import (Variant, build_variant, compared, find_variants, interval, plot_curves, plot_rows, read_results, read_strip, record,
                                        reference, run_series, run_variant, settings_of, strip, table)
from lm4lv.ablations.experts import EXPERTS, count_parameters, matched, mlp, one_layer_transformer
from lm4lv.ablations.heads import HEADS, Mixture, with_head
from lm4lv.ablations.language_model import SENTENCES, Parallel, Bidirectional, VARIANTS, Sentence, first_layers, parallel, random_llm, shuffled_llm, solve
from lm4lv.ablations.guided import GUIDED
from lm4lv.ablations.verdicts import (CLAIMS, DOUBLINGS, MINIMUM, PAPER_SAMPLES, Claim, Evidence, all_variants, closer_detail, evidence, gain, halfway,
                                     in_words, judge, levels, moves, page, plot_forest, shipped_runs)

@pytest.fixture
def config(base):
    def make(steps=3, seed=0, **more):
        settings = dict(dict(tasks=('denoise',), warm_start=8, input_noise=.5, llm_dtype='float32'), **more)
        return TrainConfig(images=str(base/'photos'), llm=str(base/'llm'), vision=str(base/'mae'), **settings,
                           fit=FitConfig(steps=steps, batch=4, lr=1e-3, warmup=1, seed=seed))
    return make

@pytest.fixture
def photos(): return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(3))

def weights(llm): return dict(llm.model.named_parameters())

# the language model

def test_random_weights_have_the_same_shapes_and_follow_from_the_seed(tiny, tokenizer):
    old, a, b, c = weights(tiny.llm), *(weights(random_llm(tiny.llm, seed)) for seed in (1, 1, 2))
    assert {k: (v.shape, v.dtype) for k, v in a.items()} == {k: (v.shape, v.dtype) for k, v in old.items()}
    for k in old:
        assert torch.equal(a[k], b[k])
        if old[k].ndim > 1: assert not torch.equal(a[k], c[k]) and not torch.equal(a[k], old[k])

def test_drawing_random_weights_leaves_the_other_dice_alone(tiny):
    torch.manual_seed(5); here = torch.rand(3)
    torch.manual_seed(5); random_llm(tiny.llm, 1)
    assert torch.equal(torch.rand(3), here)

def test_random_weights_are_as_large_as_the_initialiser_says(tiny):
    matrix = weights(random_llm(tiny.llm, 1))['model.embed_tokens.weight']
    assert abs(matrix.std().item() / tiny.llm.model.config.initializer_range - 1) < .02

def test_shuffling_keeps_the_values_of_each_matrix_and_the_norms(tiny, tokenizer):
    old = {k: v.clone() for k, v in weights(tiny.llm).items()}
    new, again = weights(shuffled_llm(tiny.llm, 1)), weights(shuffled_llm(tiny_model(tokenizer=tokenizer).llm, 1))
    for k in old:
        assert torch.equal(new[k].flatten().sort().values, old[k].flatten().sort().values)
        assert torch.equal(new[k], old[k]) == (old[k].ndim == 1)
        assert torch.equal(new[k], again[k])

@pytest.mark.parametrize('count', [0, 1, 2])
def test_the_first_layers_are_those_of_the_whole(tiny, count):
    x, base = torch.randn(2, 5, 64), tiny.llm.model.base_model
    with torch.no_grad():
        states = base(inputs_embeds=x, output_hidden_states=True).hidden_states
        wanted = states[-1] if count == 2 else base.norm(states[count])
        cut = first_layers(count, tiny.llm)
        torch.testing.assert_close(cut.hidden(x), wanted, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(cut.hidden(x, only=torch.tensor([1, 4])), wanted[:, [1, 4]], atol=1e-5, rtol=1e-4)
    assert cut.num_layers == count == len(cut.model.base_model.layers)

def test_no_layer_at_all_can_write_pictures(tiny, photos):
    model = LM4LV(first_layers(0, tiny.llm), tiny.vision, ['denoise'], task_length=3).eval()
    assert torch.stack(restore(model, photos, 'denoise')).shape == photos.shape

def test_more_layers_than_there_are_is_an_error(tiny):
    with pytest.raises(ValueError, match='first 5 layers.*not 2'): first_layers(5, tiny.llm)

# a sentence

@pytest.mark.parametrize('task', TASKS)
def test_every_task_has_a_sentence_that_stands_where_its_tokens_stood(tiny, task):
    sentence = Sentence(tiny.llm, task)
    tiny.tasks = sentence
    tokens = tiny.llm.tokenizer(SENTENCES[task], add_special_tokens=False).input_ids
    batch = tiny.compile([check_item(dict(task=task, image=['a'], conversations=[dict(role='human', value='<image> <task>')]))])
    vectors = tiny.embed(batch, torch.randn(1, 5, 16))
    assert sentence.length == len(tokens) == len(batch.task)
    torch.testing.assert_close(vectors.flatten(0, 1)[batch.task], tiny.llm.embed(torch.tensor(tokens)))
    assert not list(sentence.parameters())

# everything at once

def test_vit_llm_sees_all_and_knows_no_order(tiny):
    body, features = parallel(True, tiny, TrainConfig()).body, torch.randn(2, 5, 16)
    later, order = features.clone(), torch.randperm(5)
    later[:, 4] += 1
    with torch.no_grad():
        assert (body(later) - body(features))[:, 0].abs().max() > 1e-4
        torch.testing.assert_close(body(features[:, order]), body(features)[:, order], atol=1e-5, rtol=1e-4)

def test_the_reference_does_not_see_what_comes_later(tiny):
    x = torch.randn(1, 5, 64); later = x.clone(); later[:, 4] += 1
    with torch.no_grad(): assert torch.equal(tiny.llm.hidden(x)[:, :4], tiny.llm.hidden(later)[:, :4])

def test_layers_without_order_or_past_give_the_gradients_of_their_forward(tiny):
    layers, x = Bidirectional(tiny.llm.model.base_model), torch.randn(1, 4, 64, requires_grad=True)
    with torch.no_grad(): plain = layers(x)
    torch.testing.assert_close(layers(x).detach(), plain, atol=1e-5, rtol=1e-4)
    layers(x)[:, 0].sum().backward()
    assert x.grad[0, 3].abs().max() > 0

def test_padding_stays_unseen_without_order(tiny):
    layers, x = Bidirectional(tiny.llm.model.base_model), torch.randn(1, 4, 64)
    mask = torch.tensor([[True, True, True, False]])
    with torch.no_grad(): torch.testing.assert_close(layers(x, mask)[:, :3], layers(x[:, :3]), atol=1e-5, rtol=1e-4)

def test_adapters_alone_are_one_affine_map(tiny):
    body = parallel(False, tiny, TrainConfig()).body
    a, b = tiny.adapters.adapter, tiny.adapters.deadapter
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(body(x), x @ (b.weight @ a.weight).T + b.weight @ a.bias + b.bias, atol=1e-6, rtol=1e-4)
    assert Parallel(tiny.vision, body).llm is None

def test_a_parallel_model_is_trained_on_the_squared_error_of_the_target(tiny, photos):
    model = parallel(False, tiny, TrainConfig())
    pairs = make_pairs(photos, 'denoise')
    loss = model(*model.pair_batch(pairs))
    wanted = (model.body(tiny.vision.encode(pairs.input)) - tiny.vision.encode(pairs.target)).square().mean()
    torch.testing.assert_close(loss.total, wanted)
    assert loss.text == 0 and loss.pixel == 0
    assert model(*model.pair_batch(pairs), pixel_weight=1.).total > loss.total

def test_nothing_in_closed_form_beats_least_squares_on_its_own_samples(config, base):
    settings = config(steps=6)
    model, used = build_variant(VARIANTS['linear'], settings)
    model, log = solve(used, model=model)
    data, collate = training_data(used, 16)
    assert log[0]['samples'] == 24
    pairs = Pairs(**collate([data[i] for some in StepSampler(len(data), 4, 6, 0) for i in some]))
    x, y = (model.vision.encode(p).flatten(0, 1) for p in (pairs.input, pairs.target))
    best = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1).double(), y.double()).solution
    error = lambda guess: (guess - y).square().mean().item()
    assert error(torch.cat([x, torch.ones(len(x), 1)], 1).double() @ best) <= error(model.body(x)) * 1.0001 <= 1.02 * error(torch.cat([x, torch.ones(len(x), 1)], 1).double() @ best)

# heads

def test_the_plain_head_is_the_squared_error(): 
    head, x, y = Adapters(6, 10), torch.randn(7, 10), torch.randn(7, 6)
    torch.testing.assert_close(head.error(x, y), (head.to_vision(x) - y).square().mean())

@pytest.mark.parametrize('components', [1, 3])
def test_the_mixtures_likelihood_is_torchs(components):
    head, hidden, truth = Mixture(6, 10, components=components), torch.randn(20, 10), torch.randn(20, 6)
    weights, widths, means = head.mixture(hidden)
    theirs = MixtureSameFamily(Categorical(logits=weights), Independent(Normal(means, widths.exp()[..., None].expand_as(means)), 1))
    torch.testing.assert_close(head.error(hidden, truth), -theirs.log_prob(truth).mean() / 6)

def test_the_likeliest_mean_is_written_and_samples_scatter_around_means():
    head, hidden = Mixture(2, 4, components=2), torch.randn(1, 4).expand(4000, 4)
    weights, widths, means = head.mixture(hidden[0])
    torch.testing.assert_close(head.to_vision(hidden)[0], means[weights.argmax()])
    head.sample = True
    torch.testing.assert_close(head.to_vision(hidden).mean(0), (weights.exp()[:, None] * means).sum(0), atol=.1, rtol=0)

def test_a_mixture_starts_near_least_squares():
    x = torch.randn(500, 10)
    y = x @ torch.randn(10, 6) + .1 * torch.randn(500, 6)
    plain, head = Adapters(6, 10), Mixture(6, 10)
    plain.fit(x, y); head.fit(x, y)
    assert (head.to_vision(x) - y).square().mean() < 1.5 * (plain.to_vision(x) - y).square().mean()
    _, widths, means = head.mixture(x)
    assert not torch.allclose(means[:, 0], means[:, 1])

def test_a_skip_connection_and_a_silent_head_are_the_mae_alone(photos):
    tiny = tiny_model(adapter='skip').eval()
    torch.nn.init.zeros_(tiny.adapters.deadapter.weight)
    with torch.no_grad(): torch.testing.assert_close(torch.stack(restore(tiny, photos, 'denoise')), tiny.vision(photos).clamp(0, 1))

def test_the_skip_connection_takes_the_tokens_of_the_input_in_training_too(photos):
    tiny, pairs = tiny_model(adapter='skip').eval(), make_pairs(photos, 'denoise')
    torch.nn.init.zeros_(tiny.adapters.deadapter.weight)
    loss = tiny(*tiny.pair_batch(pairs))
    wanted = (tiny.vision.encode(pairs.input) - tiny.vision.encode(pairs.target)).square().mean()
    torch.testing.assert_close(loss.visual, wanted)

def test_what_stands_before_is_of_the_same_conversation(tiny, photos):
    alone = check_item(dict(image=['a'], conversations=[dict(role='human', value='Draw.'), dict(role='gpt', value='<image>')]))
    pair = check_item(dict(task='denoise', image=['a', 'b'], conversations=[dict(role='human', value='<image> <task>'), dict(role='gpt', value='<image>')]))
    batch, features = tiny.compile([pair, alone]), torch.randn(3, 5, 16)
    before = tiny.previous_features(batch, features)
    assert torch.equal(before[:5], features[0]) and not before[5:].any()

def test_two_pictures_in_one_answer_each_have_one_before(tiny):
    item = check_item(dict(task='denoise', image=['a', 'b', 'c'], conversations=[dict(role='human', value='<image> <task>'), dict(role='gpt', value='<image> <image>')]))
    features = torch.randn(3, 5, 16)
    assert torch.equal(tiny.previous_features(tiny.compile([item]), features), features[:2].flatten(0, 1))

# experts

@pytest.mark.parametrize('kind', [mlp, one_layer_transformer])
@pytest.mark.parametrize('width,parameters', [(192, 227_712), (16, 3_000), (100, 200_000), (1024, 9_000_000)])
def test_experts_have_as_many_parameters_as_asked_for(kind, width, parameters):
    assert abs(count_parameters(matched(kind, width, parameters)) - parameters) <= .05 * parameters

def test_an_expert_that_cannot_be_matched_is_an_error():
    with pytest.raises(ValueError, match='one_layer_transformer of width 192.*within 5%'):
        matched(one_layer_transformer, 192, 20_000)

@pytest.mark.parametrize('name', EXPERTS)
def test_experts_are_matched_to_the_model_at_hand(config, name):
    settings = config(task_length=40)
    reference = sum(p.numel() for p in trained(build_variant(VARIANTS['lm4lv'], settings)[0]).values())
    model, _ = build_variant(EXPERTS[name], settings)
    assert abs(sum(p.numel() for p in trained(model).values()) / reference - 1) <= .05
    assert not any(n.startswith('vision') for n in trained(model))

# every variant

SMALL = [n for n in all_variants() if n not in ('first-5', 'first-10', 'first-20', 'first-30', 'vision-vq', 'vision-beit', 'transformer')]

@pytest.mark.parametrize('name', SMALL)
def test_every_variant_is_trained_and_measured_and_leaves_the_frozen_frozen(name, config, photos):
    variant, made = all_variants()[name], {}
    depth = dict(visual_depth=1.0) if name in GUIDED else {} # two layers, the second of which is guided
    def keep(model):
        made.update(model=model, llm=model.llm and model.llm.fingerprint(), vision=fingerprint(model.vision))
        return model
    inner, settings = variant.model or (lambda model, config: model), config(**depth)
    if name.startswith('exact'): settings.fit.lr = 1e-5 # small changes are magnified, those that a step makes too
    row, written = run_variant(dataclasses.replace(variant, model=lambda m, c: keep(inner(m, c))), settings, photos, progress=False)
    model = made['model']
    assert (model.llm and model.llm.fingerprint(), fingerprint(model.vision)) == (made['llm'], made['vision'])
    assert written.shape == photos.shape and 0 <= written.min() and written.max() <= 1
    assert row['samples'] == 12 and row['n'] == 6 and row['trained'] > 0
    json.dumps(row)

def test_the_numbers_trained_are_those_that_a_variant_says(config, photos):
    count = lambda name: run_variant(all_variants()[name], config(steps=1), photos, progress=False)[0]['trained']
    adapters = 16 * 64 + 64 + 64 * 16 + 16
    assert count('lm4lv') == adapters + 10 * 64
    assert [count(n) - adapters for n in ('adapters-alone', 'words', 'tokens-0', 'tokens-1', 'tokens-50')] == [0, 0, 0, 64, 3200]
    assert count('vit-llm') == count('lm4lv') == count('skip') == count('random-llm')
    assert count('gmm') - count('lm4lv') == (64 + 1) * (4 * 18 - 16)
    assert count('lora') == count('lora-random') > count('lm4lv')

def test_settings_that_a_variant_changes_do_not_reach_the_others(config):
    settings = config()
    build_variant(VARIANTS['tokens-50'], settings)
    assert settings.task_length == 10

def test_variants_start_from_the_same_directions_each_as_large_as_its_words(config):
    a, b = (build_variant(VARIANTS[n], config())[0].adapters.adapter.weight for n in ('lm4lv', 'shuffled-llm'))
    torch.testing.assert_close(a / a.norm(), b / b.norm())

@pytest.mark.parametrize('more', [dict(tasks=('denoise', 'flip')), dict(items='a.json')])
def test_an_ablation_is_of_one_task_on_photographs(config, photos, more):
    with pytest.raises(ValueError, match='one task'): run_variant(VARIANTS['lm4lv'], config(**more), photos)

# series

@pytest.fixture
def series(config, base, tmp_path):
    def run(names='linear,mlp', seeds=1, said=None, known=None, **more):
        return run_series(find_variants(names, known or all_variants()), config(**more), tmp_path/'rows.json', seeds, str(base/'photos'), 4, 1,
                          tmp_path/'runs', (said if said is not None else []).append, False)
    return run

def test_a_series_is_made_once(series, tmp_path):
    first, again = [], []
    rows = series(said=first, seeds=2)
    assert [(r['name'], r['seed']) for r in rows] == [('linear', 0), ('mlp', 0), ('linear', 1), ('mlp', 1)]
    assert len(first) == 4
    assert json.loads(json.dumps(rows)) == series(said=again, seeds=2) and not again
    assert not list((tmp_path/'runs').glob('*'))

def test_what_is_trained_alike_is_trained_once(series, tmp_path):
    plain, sampled = series('gmm,gmm-sample', steps=4)
    assert plain['seconds'] == sampled['seconds'] and plain['curve'][-1]['loss'] == sampled['curve'][-1]['loss']
    assert plain['psnr'] != sampled['psnr'] and not list((tmp_path/'runs').glob('*'))
    assert all('psnr' in entry for entry in plain['curve']) and not any('psnr' in entry for entry in sampled['curve'])

def test_a_half_finished_series_goes_on_where_it_stopped(series, config, tmp_path, monkeypatch):
    whole = {(r['name'], r['seed']): r for r in series('mlp,linear', steps=6)}
    (tmp_path/'rows.json').unlink()
    steps, fit = [], comparisons.train
    class Killed(Exception): pass
    def killed(config, on_log=None, **more):
        def look(entry):
            on_log(entry); steps.append(entry['step'])
            if len(steps) == 4: raise Killed
        return fit(config, on_log=look, **more)
    known = dict(all_variants(), mlp=dataclasses.replace(EXPERTS['mlp'], fit=killed))
    with pytest.raises(Killed): series('linear,mlp', known=known, steps=6)
    assert [r['name'] for r in read_results(tmp_path/'rows.json')] == ['linear']
    assert checkpoints(next((tmp_path/'runs').iterdir()))[-1].name == 'step-00000003'
    rows = series('linear,mlp', known=known, steps=6)
    assert steps == [1, 2, 3, 4, 4, 5, 6]
    for row in rows:
        assert row['psnr'] == pytest.approx(whole[row['name'], 0]['psnr'], abs=1e-4)
        assert [e['step'] for e in row['curve']] == [e['step'] for e in whole[row['name'], 0]['curve']]

def test_a_larger_budget_replaces_a_smaller_and_never_the_other_way(series, tmp_path):
    series('mlp')
    series('mlp', steps=5)
    assert [r['samples'] for r in read_results(tmp_path/'rows.json')] == [20]
    with pytest.raises(ValueError, match='rows.json: holds mlp .seed 0. after 20 samples, more than 12'): series('mlp')
    assert [r['samples'] for r in read_results(tmp_path/'rows.json')] == [20]

def test_other_settings_are_another_row(series, tmp_path):
    said = []
    series('mlp', said=said); series('mlp', said=said, lora_rank=8)
    assert len(said) == 2 and len(read_results(tmp_path/'rows.json')) == 1

def test_rows_of_one_series_have_their_settings_in_common_whatever_seed_and_task(series):
    rows = series('linear,tokens-1', seeds=2) + series('linear', tasks=('repeat',))
    assert len({r['common'] for r in rows}) == 1
    assert series('mlp', lora_rank=8)[0]['common'] != rows[0]['common']

def test_settings_that_are_the_usual_ones_are_not_written(config):
    found = settings_of(TrainConfig(llm_dtype='float32'))
    assert found == dict(fit={k: getattr(TrainConfig().fit, k) for k in ('steps', 'batch', 'lr', 'seed')})
    assert settings_of(TrainConfig(pixel_weight=.5, llm_dtype='float32'), test=3) == dict(found, pixel_weight=.5, test=3)

@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_frozen_models_type_is_written_as_what_auto_stands_for(dtype, monkeypatch):
    monkeypatch.setattr(training, 'best_dtype', lambda device: getattr(torch, dtype))
    assert settings_of(TrainConfig()) == settings_of(TrainConfig(llm_dtype=dtype))
    assert settings_of(TrainConfig()).get('llm_dtype', 'float32') == dtype

def test_rows_of_another_type_are_other_rows_of_the_same_series_and_say_so(series):
    exact, = series('lm4lv')
    rough, = series('lm4lv', llm_dtype='bfloat16')
    assert rough['common'] == exact['common'] and rough['settings'] != exact['settings']
    assert '× 1, bfloat16 |' in table([rough]) and '× 1 |' in table([exact])

def test_a_folder_of_checkpoints_is_no_part_of_the_settings(series, tmp_path):
    assert 'runs' not in json.dumps(series('mlp')[0]['settings'])

def test_rows_of_other_tasks_and_seeds_stay(tmp_path):
    path = tmp_path/'rows.json'
    keys = [dict(name=n, task=t, seed=s, samples=1) for n in 'ab' for t in 'xy' for s in (0, 1)]
    for key in keys: record(path, key)
    assert len(read_results(path)) == 8
    record(path, dict(keys[3], samples=2))
    assert len(read_results(path)) == 8 and not list(tmp_path.glob('.*'))

def test_a_file_that_is_no_results_file_is_left_alone(tmp_path):
    path = tmp_path/'rows.json'
    for text in ('{', '[]', '{"tasks": {}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match='rows.json: no results file'): record(path, dict(name='a', task='x', seed=0, samples=1))
        assert path.read_text() == text

def test_pictures_of_the_first_seed_are_kept(series, tmp_path):
    series('mlp', seeds=2)
    for name in ('input', 'target', 'mlp'): assert Image.open(strip(tmp_path/'rows.json', 'denoise', name)).size == (4 * 16, 16)
    assert len(plot_rows(tmp_path/'rows.json', ['mlp', 'not-there']).axes) == 3
    assert len(plot_rows(tmp_path/'rows.json', ['mlp'], columns=[2, 0]).axes) == 3
    kept = read_strip(tmp_path/'rows.json', 'denoise', 'mlp')
    assert kept.shape == (4, 3, 16, 16) and 0 <= kept.min() and kept.max() <= 1
    assert to_image(torch.cat(list(kept), -1)).tobytes() == Image.open(strip(tmp_path/'rows.json', 'denoise', 'mlp')).tobytes()
    with pytest.raises(FileNotFoundError): read_strip(tmp_path/'rows.json', 'denoise', 'not-there')

# reports

def rows_of(**psnrs): # name=(psnr of seed 0, 1, ...)
    return [dict(name=n, what='', task='denoise', seed=i, samples=100, common='a', n=5, trained=7, psnr=p, ssim=.5, degraded=1., mae_r=2., ceiling=3., curve=[])
            for n, some in psnrs.items() for i, p in enumerate(some)]

def test_the_interval_is_students():
    from scipy.stats import t
    x = [1., 4., 2., 8.]
    mean, half = interval(x)
    low, high = t.interval(.95, 3, loc=mean, scale=torch.tensor(x, dtype=torch.float64).std().item() / 2)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert interval([3.]) == (3., None)

def test_variants_are_compared_seed_by_seed_at_one_budget():
    rows = rows_of(lm4lv=(1., 2., 3.), other=(2., 4.))
    assert compared(rows, 'other') == [1., 2.]
    longer = [dict(row, samples=300, common='long') for row in rows_of(lm4lv=(5.,), other=(8.,))]
    assert compared(longer + rows, 'other') == [3.], 'of two budgets the larger, and no mean of both'
    rows[-1]['common'] = 'b'
    assert compared(rows, 'other') == [1.]

def test_a_table_says_its_budget():
    text = table(rows_of(lm4lv=(1., 2.), other=(2.,)))
    assert '| 100 × 2 |' in text and '| 100 × 1 |' in text and '| *MAE-r* |' in text
    assert '+1.00' in text

def test_a_table_describes_variants_as_they_are_named_now():
    rows = [dict(row, what='old words') for row in rows_of(lm4lv=(1.,), other=(2.,))]
    text = table(rows, known={'lm4lv': Variant('new words')})
    assert '| lm4lv | new words |' in text and '| other | old words |' in text

def test_curves_of_rows_with_and_without_points():
    rows = rows_of(a=(1.,), b=(2.,))
    rows[0]['curve'] = [dict(samples=1, psnr=1.), dict(samples=2, psnr=2.)]
    assert len(plot_curves(rows, ['a', 'b']).get_lines()) == 2

def test_unknown_names_are_named():
    for names in ('nope', 'lm4lv,nope', '', ','):
        with pytest.raises(ValueError, match='expected all, or some of lm4lv'): find_variants(names, all_variants())

# verdicts

FEW = MINIMUM['samples'] - 1

@pytest.mark.parametrize('values,samples,verdict', [
    ([], 0, 'not run'), ([1., 1., 1.01], 20_000, 'holds'), ([-1., -1., -1.01], 20_000, 'does not hold'),
    ([1., -1., 1.], 20_000, 'cannot tell: spread'), ([0., 0., 0.], 20_000, 'cannot tell: spread'),
    ([1., 1., 1.], FEW, 'cannot tell at this scale'), ([1., 1.], 20_000, 'cannot tell: few seeds')])
def test_verdicts(values, samples, verdict): assert judge(Evidence(values, [], samples)) == verdict

@pytest.mark.parametrize('mean,later,verdict', [
    (1., [.1, 2.], 'holds'), (1., [2., -.1], 'cannot tell: still learning'), (-1., [.1], 'cannot tell: still learning'),
    (-1., [-2.], 'does not hold')])
def test_a_margin_that_more_samples_may_turn_is_no_verdict(mean, later, verdict):
    assert judge(Evidence([mean, mean, mean + .01], later, 20_000)) == verdict

def test_a_hundredth_of_the_papers_samples_is_the_least():
    assert MINIMUM['samples'] == PAPER_SAMPLES // 100 == 12_000
    assert judge(Evidence([1., 1., 1.01], [], MINIMUM['samples'])) == 'holds'

@pytest.mark.parametrize('values', [[1., 1., 1.01], [-1., -1., -1.01], [1., -1., 1.], [1.]])
def test_below_the_least_only_curves_at_rest_are_judged(values):
    assert judge(Evidence(values, [], FEW, moving=True)) == 'cannot tell at this scale'
    assert judge(Evidence(values, [], FEW, moving=False)) == judge(Evidence(values, [], MINIMUM['samples']))

def test_a_verdict_in_words_says_which_way_the_rows_point():
    assert in_words(Evidence([1., 1., 1.01], [], 20_000)) == 'holds'
    assert in_words(Evidence([1., 1., 1.01], [], 500)) == 'cannot tell at this scale; so far as claimed'
    assert in_words(Evidence([-1., -1., -1.01], [.2], 500)) == 'cannot tell at this scale; so far the reverse, but more samples may turn it'
    assert in_words(Evidence([1., -1., .2], [], 20_000)) == 'cannot tell: spread; no clear difference so far'
    assert in_words(Evidence([2.], [], 20_000)) == 'cannot tell: few seeds; so far as claimed'

@pytest.mark.parametrize('end,moving', [(19.95, False), (20.05, False), (20.2, True), (19.7, True)])
def test_a_curve_moves_if_its_second_half_does(end, moving):
    row = dict(samples=100, curve=[dict(samples=25, psnr=5.), dict(samples=50, psnr=20.), dict(samples=75, psnr=25.), dict(samples=100, psnr=end)])
    assert moves(row) == moving

def test_a_closed_form_is_at_rest_and_a_curve_that_was_not_kept_counts_as_moving():
    assert not moves(dict(samples=100, curve=[dict(samples=100)]))
    assert moves(dict(samples=100, curve=[])) and moves(dict(samples=100))
    assert moves(dict(samples=100, curve=[dict(samples=50, loss=1.), dict(samples=100, loss=.5)]))

def test_a_claim_moves_with_any_of_the_rows_that_it_asks_for():
    rows = rows_of(lm4lv=(3., 4., 5.), mlp=(1., 1., 1.), other=(1., 1., 1.))
    for row in rows:
        middle = dict(samples=50, psnr=0. if row['name'] == 'other' else row['psnr'])
        row['curve'] = [middle, dict(samples=100, psnr=row['psnr'])]
    assert not evidence(Claim('', gain('lm4lv', 'mlp')), rows).moving
    assert evidence(Claim('', gain('lm4lv', 'other')), rows).moving
    assert judge(evidence(Claim('', gain('lm4lv', 'other')), rows)) == 'cannot tell at this scale'

def test_a_margin_is_carried_on_at_the_pace_of_its_last_doubling():
    row = rows_of(lm4lv=(20.,))[0]
    row['curve'] = [dict(samples=s, psnr=p) for s, p in ((25, 10.), (49, 16.), (75, 18.), (100, 19.))]
    assert halfway(row, 'psnr') == 17. and halfway(row, 'mae_r') == 2.
    assert halfway(dict(row, curve=[dict(samples=100)]), 'psnr') == 20. # a closed form has no half
    with pytest.raises(KeyError): halfway(row, 'ssim')
    other = dict(row, name='mlp', psnr=18., curve=[dict(samples=50, psnr=17.), dict(samples=100, psnr=17.5)])
    assert evidence(Claim('', gain('lm4lv', 'mlp')), [row, other]) == Evidence([2.], [2. + DOUBLINGS * 2.5, 2.], 100)
    assert evidence(Claim('', gain('lm4lv', 'mlp', key='ssim')), [row, other]) == Evidence([0.], [0.], 100) # its curve is not kept

@pytest.mark.parametrize('plain,other,expected', [(.8, .9, .1), (.8, 1.1, .1), (.8, 1.3, -.1), (1.1, .8, -.1)])
def test_detail_too_much_counts_as_detail_too_little(plain, other, expected):
    of = lambda name, task, key: {'lm4lv': plain, 'gmm-sample': other}[name]
    assert closer_detail('gmm-sample', 'lm4lv')(of) == pytest.approx(expected)

def test_a_longer_run_stands_in_for_lm4lv_where_it_does_better():
    rows = rows_of(lm4lv=(3., 4.), mlp=(5., 5.))
    claim = Claim('', gain('lm4lv', 'mlp'))
    assert evidence(claim, rows, {('lm4lv', 'denoise'): dict(psnr=9.)}).later == [-1.5, 4.]
    assert evidence(claim, rows, {('lm4lv', 'denoise'): dict(psnr=3.5)}).later == [-1.5, -1.25] # better than the first seed only
    assert evidence(claim, rows, {('lm4lv', 'rotate'): dict(psnr=9.)}).later == [-1.5, -1.5]

def test_a_claim_without_rows_takes_the_longer_runs_own_number():
    longer = {('lm4lv', task): dict(psnr=9., mae_r=6., samples=n) for task, n in (('denoise', 40_000), ('rotate', 30_000))}
    claim = Claim('', gain('lm4lv', 'mae_r'))
    assert evidence(claim, [], longer) == Evidence([3.], [], 40_000) and judge(evidence(claim, [], longer)) == 'cannot tell: few seeds'
    assert evidence(claim, rows_of(lm4lv=(3., 4.)), longer).samples == 100, 'rows go first'
    two_tasks = Claim('', lambda of: of('lm4lv', 'denoise', 'psnr') - of('lm4lv', 'rotate', 'psnr'))
    assert evidence(two_tasks, [], longer) == Evidence([0.], [], 30_000)
    assert judge(evidence(Claim('', gain('lm4lv', 'mlp')), [], longer)) == 'not run'

def test_a_claim_takes_all_from_one_seed_and_budget():
    rows = rows_of(lm4lv=(3., 4., 5.), mlp=(1., 1.))
    claim = Claim('', gain('lm4lv', 'mlp'))
    assert evidence(claim, rows) == Evidence([2., 3.], [2.5, 2.5], 100)
    rows[0]['samples'] = 900
    assert evidence(claim, rows) == Evidence([3.], [3., 3.], 100)
    assert evidence(Claim('', gain('lm4lv', 'mae_r')), rows) == Evidence([1.], [1., 1.], 900)

def test_few_seeds_of_a_larger_budget_are_a_look_ahead():
    rows, claim = rows_of(lm4lv=(3., 4., 5.), mlp=(1., 1., 1.)), Claim('', gain('lm4lv', 'mlp'))
    more = [dict(row, samples=400, common='long', psnr=psnr) for row, psnr in zip(rows_of(lm4lv=(3.,), mlp=(1.,)), (6., 8.))]
    assert evidence(claim, rows + more) == Evidence([2., 3., 4.], [3., 3., -2.], 100)
    assert evidence(claim, rows + more[:1]) == Evidence([2., 3., 4.], [3., 3.], 100), 'half of a difference is no look'
    assert evidence(claim, rows[:1] + rows[3:4] + more).samples == 400, 'without enough seeds anywhere the largest budget counts'

def test_shipped_weights_that_were_measured_on_other_crops_are_left_out(tmp_path):
    report = {task: dict(lm4lv=dict(psnr=9.), degraded=dict(psnr=1.), mae_r=dict(psnr=2.), ceiling=dict(psnr=3.)) for task in ('denoise', 'derain')}
    (tmp_path/'table2.json').write_text(json.dumps(dict(tasks=report)))
    runs = shipped_runs(tmp_path/'table2.json', dict(denoise=50, derain=30), rows_of(lm4lv=(3.,)))
    assert runs['lm4lv', 'denoise'] == dict(psnr=9., degraded=1., mae_r=2., ceiling=3., samples=50)
    others = [dict(row, degraded=1.5) for row in rows_of(lm4lv=(3.,))]
    assert list(shipped_runs(tmp_path/'table2.json', dict(denoise=50, derain=30), others)) == [('lm4lv', 'derain')]

def test_every_claim_asks_for_variants_that_exist():
    asked = set()
    def of(name, task, key):
        asked.add((name, task)); return 0.
    for claim in CLAIMS: claim.margin(of)
    assert {n for n, _ in asked} <= set(all_variants()) and {t for _, t in asked} <= set(TASKS)

def test_claims_are_told_apart_and_none_is_negated():
    texts = [claim.text for claim in CLAIMS]
    assert len(set(texts)) == len(texts)
    assert not any(word in text.lower().split() for text in texts for word in ('no', 'not', 'nothing', 'never', 'worse', '...'))

def test_the_papers_own_numbers_would_hold():
    from lm4lv.evaluation.restoration import PAPER
    from lm4lv.ablations.experts import PAPER_3
    def of(name, task, key):
        if key == 'psnr': return (PAPER_3 if name in EXPERTS else {task: {'lm4lv': PAPER[task][2]}})[task][name][0]
        return PAPER[task][dict(degraded=0, mae_r=1, ceiling=1)[key]][0]
    for claim in CLAIMS:
        if claim.paper: assert f'{claim.margin(of):+.2f}' == claim.paper and claim.margin(of) > 0

def test_the_page_has_a_line_for_each_claim():
    rows = rows_of(lm4lv=(3., 4., 5.), mlp=(1., 1., 1.))
    assert len(page(CLAIMS, rows).splitlines()) == len(CLAIMS) + 2
    assert len(plot_forest(CLAIMS, rows).axes[0].get_yticks()) == sum(bool(evidence(c, rows).values) for c in CLAIMS)

def test_a_margin_stands_beside_what_was_compared_and_the_input():
    rows = rows_of(**{'lm4lv': (3., 4., 5.), 'random-llm': (1., 1., 1.)})
    claim = Claim('', gain('lm4lv', 'random-llm'))
    assert levels(claim, evidence(claim, rows).seeds) == 'LM4LV 4.00, random LLM 1.00, input 1.00'
    line = page([claim], rows).splitlines()[-1]
    assert '+3.00 ± 2.48 dB' in line and '| 100 × 3 |' in line and 'cannot tell at this scale; so far as claimed' in line
    turned = [dict(row, task='rotate') for row in rows]
    claim = Claim('', gain('lm4lv', 'random-llm', 'rotate'))
    assert levels(claim, evidence(claim, turned).seeds) == 'LM4LV 4.00, random LLM 1.00', 'the input of a rotation is no floor'

# the command

@pytest.fixture
def command(lm4lv): return partial(lm4lv, 'ablate')

def test_the_command_writes_rows_and_prints_a_table(command, base, tmp_path):
    settings = ['steps=2', 'batch=4', 'warmup=1', 'warm_start=0', 'llm_dtype=float32', f"llm={base/'llm'}", f"vision={base/'mae'}"]
    arguments = ['mlp,linear', '--images', base/'photos', '--test-images', base/'photos', '--seeds', 2, '--count', 4, '--crops', 1,
                 '--out', tmp_path/'runs', '--json', tmp_path/'rows.json', *settings]
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert '| 8 × 2 |' in done.stdout and 'mlp, denoise, seed 1' in done.stderr
    assert [(r['name'], r['seed']) for r in read_results(tmp_path/'rows.json')] == [('linear', 0), ('mlp', 0), ('linear', 1), ('mlp', 1)]
    assert ', seed' not in command(*arguments).stderr # nothing is made twice

@pytest.mark.parametrize('arguments,words', [
    (['nope'], ("no ablation 'nope'", 'random-llm', 'vision-beit')), (['mlp', 'stepz=3'], ("'stepz=3'", 'steps')),
    (['mlp', 'tasks=denoise,flip'], ('one task',)), (['mlp', 'seed=3'], ('--seeds',)), (['mlp', 'tasks=dehaze'], ('dehaze', 'denoise'))])
def test_what_cannot_be_done_is_one_line(command, arguments, words):
    done = command(*arguments)
    lines = [line for line in done.stderr.strip().splitlines() if 'seed 0' not in line and not line.startswith('loading ')]
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith('lm4lv: error: '), done.stderr
    assert all(word in lines[0] for word in words)

def test_help_has_an_example(command): assert 'lm4lv ablate lm4lv,random-llm' in ' '.join(command('--help').stdout.split())
