"A copy near a large constant, read in a white basis: what is trained there is an ordinary linear layer in the end."
import json, shutil
import pytest
import torch
from torch import nn
from lm4lv.core.loop import FitConfig, fit
from lm4lv.images.degradations import Pairs
from lm4lv.llm.frozen import load_llm
from lm4lv.model.linear_copy import WhiteLinear, add_constant, linear_error
from lm4lv.model.next_element import LM4LV, tiny_model
from lm4lv.model.storing import CheckpointError, read_config
from lm4lv.model.task_models import TaskModels
from lm4lv.training.trainer import TrainConfig, build, output_pairs, set_values, train, training_data

@pytest.fixture
def inputs():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(500, 6, generator=rng) @ torch.randn(6, 6, generator=rng) * .1 + 5

def test_inputs_are_white_in_the_basis_and_the_plain_layer_gives_the_same(inputs):
    white = WhiteLinear.of(nn.Linear(6, 3), inputs)
    covariance = torch.cov(((inputs - white.mean) @ white.basis).T)
    torch.testing.assert_close(covariance, torch.eye(6), atol=.02, rtol=0)
    torch.testing.assert_close(white.plain()(inputs), white(inputs), atol=1e-3, rtol=1e-3)

def test_least_squares_in_the_basis_finds_a_linear_map(inputs):
    truth = nn.Linear(6, 3)
    white = WhiteLinear.of(nn.Linear(6, 3), inputs)
    white.fit(inputs, truth(inputs))
    torch.testing.assert_close(white(inputs), truth(inputs), atol=1e-3, rtol=1e-3)

def test_with_pictures_each_counts_by_the_logarithm_of_its_error(inputs):
    "Half of the pictures follow a map exactly, half are noise: the mean of logarithms lets go of the noise, the mean error does not."
    truth = nn.Linear(6, 3).requires_grad_(False)
    noise = torch.zeros(500, 3)
    noise[250:] = 3 + torch.randn(250, 3, generator=torch.Generator().manual_seed(4))
    white, errors = WhiteLinear.of(nn.Linear(6, 3), inputs), []
    for picture in (0, 10):
        white.fit(inputs, truth(inputs) + noise, picture)
        errors.append((white(inputs) - truth(inputs) - noise).square().mean(1).view(50, 10).mean(1))
    plain, log = errors
    assert log.log().mean() < plain.log().mean() - 1 and log.mean() > plain.mean()
    assert log[:25].max() < .01 < plain[:25].min()

def test_a_direction_that_does_not_vary_is_left_out():
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
    x[:, 3] = x[:, 0]
    white = WhiteLinear.of(nn.Linear(4, 2), x)
    assert torch.isfinite(white.basis).all() and (white.basis.norm(dim=0) == 0).sum() == 1
    unseen = torch.tensor([1., 0., 0., -1.]) # along it
    torch.testing.assert_close(white(x + unseen), white(x), atol=1e-5, rtol=0)

def test_weights_in_a_basis_have_names_of_their_own(): # so that nothing takes them for a de-adapter's
    white = WhiteLinear(nn.Linear(4, 2), torch.zeros(4), torch.eye(4))
    assert set(white.state_dict()) == {'linear.weight', 'linear.bias'}

def test_a_frozen_layer_stays_frozen():
    plain = nn.Linear(4, 2).requires_grad_(False)
    assert not any(p.requires_grad for p in WhiteLinear(plain, torch.zeros(4), torch.eye(4)).parameters())

def test_the_error_of_the_best_linear_map():
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(2))
    assert linear_error(x, x @ torch.randn(5, 2) - 3) < 1e-6
    assert linear_error(x, torch.randn(400, 2, generator=torch.Generator().manual_seed(3))) > .9

def test_a_constant_needs_a_bias(tokenizer):
    with pytest.raises(ValueError, match='adapter_constant'): add_constant(tiny_model(tokenizer=tokenizer, adapter='identity').adapters, 1.)

# rates

def test_a_weight_may_learn_faster_than_the_others():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    def pull(module, batch): return (module.a - 100).square().sum() + (module.b - 100).square().sum(), {}
    module = Two()
    config = FitConfig(steps=5, batch=1, lr=.01, warmup=1, schedule='constant')
    fit(module, [dict(x=torch.zeros(1))] * 5, pull, config, progress=False, rates={'b': 10})
    torch.testing.assert_close(module.b, 10 * module.a, rtol=.01, atol=0)
    assert abs(module.a[0] - .05) < 1e-3, 'a learns at lr'

# training

def short(base, **more): return set_values(TrainConfig(tasks=('flip',)), [f'{k}={v}' for k, v in dict(dict(
    llm=base/'llm', vision=base/'mae', images=base/'photos', crop_scale='0.5,1', steps=3, batch=2, warmup=1, warm_start=4,
    guide_steps=2, guide_layer=0, adapter_constant=.5, whiten=60, lr=1e-5, input_noise=.3, save_every=1, log_every=1), **more).items()])

def test_a_stopped_training_goes_on_in_its_basis(base, tmp_path):
    out = tmp_path/'run'
    whole, _ = train(short(base, out=out, refit=4), save=tmp_path/'whole', progress=False)
    shutil.rmtree(sorted(out.glob('step-*'))[-1])
    again, _ = train(short(base, out=out, refit=4), save=tmp_path/'again', progress=False)
    for name, value in whole.trained_state().items(): assert torch.equal(value, again.trained_state()[name]), name
    assert isinstance(whole.adapters.deadapter, nn.Linear) and 'adapters.deadapter.weight' in whole.trained_state()

def test_with_its_constant_only_constant_and_task_tokens_are_guided(base):
    before = build(short(base))
    after, _ = train(short(base, lr=1e-12, whiten=0, warm_start=0), progress=False)
    old, new = before.trained_state(), after.trained_state()
    torch.testing.assert_close(old['adapters.adapter.weight'], new['adapters.adapter.weight'], atol=1e-6, rtol=0)
    for name in ('adapters.adapter.bias', 'tasks.bank.flip'): assert (old[name] - new[name]).abs().max() > 1e-3, name
    assert .3 < old['adapters.adapter.bias'].std() < .7

def test_only_a_linear_de_adapter_can_be_whitened(base):
    with pytest.raises(ValueError, match="whiten: .*'low-rank:4'; set whiten=0"): train(short(base, adapter='low-rank:4', adapter_constant=0), progress=False)

def test_with_a_skip_connection_the_difference_is_fitted_in_the_basis_and_at_the_end(base):
    for more in (dict(refit=0), dict(refit=60, refit_share=1)):
        model, _ = train(config := short(base, adapter='skip', lr=1e-12, **more), progress=False)
        data, collate = training_data(config, model.vision.image_size)
        hidden, features, input_features = output_pairs(model, Pairs(**collate([data[i] for i in range(40)])))
        error = model.adapters.error(hidden, features, input_features)
        difference = (features - input_features).square().mean()
        assert error < 1.5 * difference < .5 * features.square().mean(), more # fitted to the features, it would be off by the input's

def test_too_few_pairs_for_a_basis_are_refused_with_how_many_would_do(base):
    with pytest.raises(ValueError, match='whiten=8: too few pairs for a basis of 64 directions; expected at least [0-9]+'): train(short(base, whiten=8), progress=False)

def test_snapshots_of_another_basis_are_refused(base, tmp_path):
    with pytest.raises(ValueError, match='snapshot_every=0'): build(short(base, snapshot_every=1, out=tmp_path))

def test_a_constant_is_not_added_to_that_of_a_checkpoint(base, tmp_path):
    train(short(base), save=tmp_path/'flip', progress=False)
    with pytest.raises(ValueError, match='adapter_constant: .*flip brings the constant .*; set adapter_constant=0'): build(short(base, init=tmp_path/'flip'))

def test_a_checkpoint_keeps_its_kind_of_adapters(base, tmp_path):
    train(short(base), save=tmp_path/'flip', progress=False)
    with pytest.raises(ValueError, match='adapter=skip: .*flip has linear adapters, and keeps them; leave adapter out'): build(short(base, init=tmp_path/'flip', adapter_constant=0, adapter='skip'))

def test_a_checkpoint_with_a_constant_is_guided_by_it_again(base, tmp_path):
    old = train(short(base), save=tmp_path/'flip', progress=False)[0].trained_state()
    again = short(base, init=tmp_path/'flip', adapter_constant=0, guide_quiet=.5, lr=1e-12, whiten=0)
    new = train(again, progress=False)[0].trained_state()
    torch.testing.assert_close(old['adapters.adapter.weight'], new['adapters.adapter.weight'], atol=1e-6, rtol=0)
    assert (old['adapters.adapter.bias'] - new['adapters.adapter.bias']).abs().max() > 1e-3

def test_settings_that_would_do_nothing_are_refused(base):
    with pytest.raises(ValueError, match='guide_quiet: .*set guide_steps=200'): build(short(base, guide_steps=0, guide_quiet=1))
    with pytest.raises(ValueError, match='log_error: .*set refit=0, or whiten=900'): build(short(base, whiten=0, refit=4, log_error='true'))

def test_a_control_is_not_trained_on_the_logarithm(base):
    with pytest.raises(ValueError, match='log_error: expected an LM4LV'): train(short(base, log_error='true'), progress=False, model=nn.Linear(2, 2))

def test_the_logarithm_is_trained_in_the_white_basis_too(base, tmp_path):
    model, log = train(short(base, log_error='true', refit=4), save=tmp_path/'flip', progress=False)
    assert isinstance(model.adapters.deadapter, nn.Linear) and log[-1]['visual'] > 0

# precision

@pytest.mark.parametrize('setting', ['llm_dtype=bfloat16', 'precision=bf16'])
def test_a_large_constant_is_trained_in_float32_or_not_at_all(base, setting):
    key, value = setting.split('=')
    with pytest.raises(ValueError, match='adapter_constant: .* need float32'): build(short(base, **{key: value}))

def test_a_checkpoint_with_a_constant_is_loaded_in_float32_whatever_is_asked_for(base, tmp_path):
    train(short(base), save=tmp_path/'flip', progress=False)
    plain = short(base, adapter_constant=0)
    plain.tasks = ('denoise',)
    train(plain, save=tmp_path/'denoise', progress=False)
    assert [read_config(tmp_path/name)['precision'] for name in ('flip', 'denoise')] == ['float32', None]
    models = TaskModels(tmp_path, dtype=torch.bfloat16)
    assert (models['flip'].llm.dtype, models['denoise'].llm.dtype) == (torch.float32, torch.bfloat16)
    assert LM4LV.from_pretrained(tmp_path/'flip', dtype=torch.bfloat16).llm.dtype == torch.float32
    with pytest.raises(CheckpointError, match='float32 only'): LM4LV.from_pretrained(tmp_path/'flip', load_llm(base/'llm', torch.bfloat16))
    assert build(short(base, init=tmp_path/'flip', adapter_constant=0)).llm.dtype == torch.float32
    with pytest.raises(ValueError, match='precision=bf16: .*flip holds works in float32 only'):
        build(short(base, init=tmp_path/'flip', adapter_constant=0, precision='bf16'))

def test_an_unknown_precision_is_named(base, tmp_path):
    train(short(base), save=tmp_path/'flip', progress=False)
    path = tmp_path/'flip/lm4lv.json'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), precision='float8')))
    with pytest.raises(CheckpointError, match='precision=float8: expected null or float32'): read_config(tmp_path/'flip')
