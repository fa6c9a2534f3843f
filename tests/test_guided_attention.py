"Heads that are shown where to look: the loss, what it moves, and a training that begins with it."
import json, shutil
import pytest
import torch
from lm4lv.ablations.guided import copy_stages
from lm4lv.ablations.rotation import with_parts
from lm4lv.images.degradations import TASKS, Pairs, get_task, make_pairs
from lm4lv.model.guided_attention import Guided, guide, log_attention, source_tokens
from lm4lv.model.next_element import tiny_model
from lm4lv.training.trainer import TrainConfig, build, set_values, train, training_data

@pytest.mark.parametrize('task', ['rotate', 'flip', 'repeat', 'denoise'])
@pytest.mark.parametrize('extra', [0, 1])
def test_a_token_is_made_from_the_patch_that_the_task_brings_there(task, extra):
    "Pictures of patches of one colour each, moved as the task moves them."
    colours = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    image = colours.repeat_interleave(8, 2).repeat_interleave(8, 3)
    moved = get_task(task).apply(image, None) if get_task(task).spatial else image
    order = source_tokens(task, 9 + extra)
    assert torch.equal(moved[0, 0, ::8, ::8].flatten(), colours.flatten()[order[extra:] - extra])
    if extra: assert order[0] == 0

def test_a_grid_that_is_no_square_is_refused():
    with pytest.raises(ValueError, match='12 visual tokens: expected a square'): source_tokens('flip', 12)
    assert len(source_tokens('denoise', 12)) == 12 # nothing moves, so that no grid is needed

@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return tiny_model(tokenizer=tokenizer, tasks=('flip', 'rotate', 'denoise'))

def a_batch(model, tasks=('flip', 'rotate', 'denoise')):
    images = torch.rand(len(tasks), 3, 16, 16, generator=torch.Generator().manual_seed(2))
    pairs = [make_pairs(images[i:i + 1], task, [i]) for i, task in enumerate(tasks)]
    return model.pair_batch(Pairs(torch.cat([p.input for p in pairs]), torch.cat([p.target for p in pairs]), [q for p in pairs for q in p.params]))

@pytest.mark.parametrize('layer', [0, 1])
def test_the_shares_are_those_of_transformers_for_each_row_and_its_task(model, layer):
    batch, images = a_batch(model)
    features = model.encode(images)
    logs, others = log_attention(model, batch, features, layer)
    ours = logs.exp()
    usual = model.llm.model.config._attn_implementation
    model.llm.model.set_attn_implementation('eager')
    maps = model.llm.model.base_model(inputs_embeds=model.embed(batch, features), output_attentions=True).attentions[layer]
    model.llm.model.set_attn_implementation(usual)
    T, N = batch.ids.shape[1], model.vision.num_tokens
    rows, columns = batch.visual_from[:N] % T, batch.visual[:N] % T
    for b, task in enumerate(('flip', 'rotate', 'denoise')):
        for i, source in enumerate(source_tokens(task, N).tolist()):
            torch.testing.assert_close(ours[b, :, i], maps[b, :, rows[i], columns[source]], atol=1e-5, rtol=1e-4)
            seen = batch.visual[2 * N * b:2 * N * (b + 1)] % T # by this row: the input, and of the answer what is written
            torch.testing.assert_close(others[b, :, i], maps[b, :, rows[i], seen].sum(1) - ours[b, :, i], atol=1e-5, rtol=1e-4)

def test_the_loss_takes_the_best_head_of_each_group(model):
    batch, images = a_batch(model)
    logs, _ = log_attention(model, batch, model.encode(images), 1) # four heads, in two groups
    means = logs.mean((0, 2))
    loss, share = Guided(model)(batch, images)
    best = [max((0, 1), key=lambda h: means[h]), max((2, 3), key=lambda h: means[h])]
    torch.testing.assert_close(loss, -means[best].mean())
    torch.testing.assert_close(share, logs[:, best].exp().mean())

class Rows:
    "A few pairs, again and again."
    def __init__(self): self.images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    def __len__(self): return 8
    def __getitem__(self, i): return i % 8
    def collate(self, rows):
        pairs = make_pairs(self.images[rows], 'flip', rows)
        return dict(input=pairs.input, target=pairs.target, params=pairs.params)

def test_quiet_heads_look_less_at_tokens_that_are_not_asked_for(tokenizer):
    rows, config, left = Rows(), TrainConfig().fit, []
    config.batch, config.log_every = 8, 10
    for quiet in (0., 20.):
        model = tiny_model(tokenizer=tokenizer, tasks=('flip',))
        guide(model, rows, rows.collate, config, 40, 1, quiet=quiet)
        batch, images = model.pair_batch(Pairs(**rows.collate(list(range(8)))))
        left.append(log_attention(model, batch, model.encode(images), 1)[1].mean().item())
    assert left[1] < .95 * left[0], left

def test_guiding_moves_adapter_and_task_tokens_alone(model):
    model.llm.requires_grad_(False)
    before, words = {k: v.clone() for k, v in model.trained_state().items()}, model.llm.fingerprint()
    rows, config = Rows(), TrainConfig().fit
    config.batch, config.log_every = 8, 10
    log = guide(model, rows, rows.collate, config, 20, 1)
    after = model.trained_state()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert 'adapters.adapter.weight' in changed and 'tasks.bank.flip' in changed
    assert not any('deadapter' in name for name in changed) and 'tasks.bank.rotate' not in changed
    assert model.llm.fingerprint() == words
    assert log[-1]['loss'] < log[0]['loss']
    assert all(p.requires_grad for p in model.adapters.deadapter.parameters()), 'trained again afterwards'

def test_heads_of_the_real_model_learn_to_look_along_a_rotation(llm):
    config = TrainConfig(tasks=('rotate',), input_noise=.5)
    config.fit.batch, config.fit.lr, config.fit.log_every, config.fit.seed = 8, 4e-3, 5, 1
    model = build(config)
    log = guide(model, *training_data(config, 32), config.fit, 30, 1, .5)
    assert log[-1]['loss'] < log[0]['loss'] - 1, [entry['loss'] for entry in log]
    assert log[-1]['share'] > 2 * log[0]['share'] and log[-1]['share'] > 2 / 93, 'a share of a sequence of 93 positions'

def test_lora_waits_until_heads_have_been_guided(model):
    model.requires_grad_(False)
    model.adapters.requires_grad_(True)
    model.llm.add_lora(2, 4.)
    lora = {name: p for name, p in model.llm.named_parameters() if 'lora_' in name}
    for p in lora.values(): p.requires_grad_(True)
    before, rows, config = {name: p.detach().clone() for name, p in lora.items()}, Rows(), TrainConfig().fit
    config.batch = 4
    guide(model, rows, rows.collate, config, 2, 1)
    for name, p in lora.items(): assert torch.equal(p, before[name]) and p.requires_grad, name

def test_a_layer_that_is_not_run_and_a_model_that_hides_its_attention_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match='guide_layer'): Guided(model, 2)
    with pytest.raises(ValueError, match='guide_steps: .* expected a LLaMA-style model'):
        Guided(tiny_model(tokenizer=tokenizer, kind='gpt2'))

@pytest.mark.parametrize('kind', ['FSDP', 'DEEPSPEED'])
def test_shared_out_weights_are_refused_with_what_to_do(model, kind, monkeypatch):
    monkeypatch.setenv(f'ACCELERATE_USE_{kind}', 'true')
    with pytest.raises(ValueError, match='init='): guide(model, None, None, TrainConfig().fit, 1)

def short(base, **more): return set_values(TrainConfig(tasks=('flip',)), [f'{k}={v}' for k, v in dict(
    llm=base/'llm', vision=base/'mae', images=base/'photos', crop_scale='0.5,1',
    steps=3, batch=2, warmup=1, warm_start=4, guide_steps=2, guide_layer=0, save_every=1, log_every=1, **more).items()])

def test_a_training_begins_with_it_once_and_its_record_says_so(base, tmp_path):
    out = tmp_path/'run'
    whole, _ = train(short(base, out=out), save=tmp_path/'whole', progress=False)
    record = json.loads((tmp_path/'whole/training_record.json').read_text())
    assert record['guide'][-1]['step'] == 2
    assert record['guide'] == json.loads((out/'guide.json').read_text()) and 0 <= record['guide'][-1]['share'] <= 1
    shutil.rmtree(sorted(out.glob('step-*'))[-1]) # as if it had stopped a step before its end
    again, _ = train(short(base, out=out), save=tmp_path/'again', progress=False)
    for name, value in whole.trained_state().items(): assert torch.equal(value, again.trained_state()[name]), name
    assert json.loads((tmp_path/'again/training_record.json').read_text())['guide'] == record['guide']

def test_without_it_nothing_changes(base, tmp_path):
    config = short(base)
    config.guide_steps = 0
    train(config, save=tmp_path/'plain', progress=False)
    assert 'guide' not in json.loads((tmp_path/'plain/training_record.json').read_text())

def test_parts_of_a_rotation_can_be_guided_too():
    with with_parts():
        assert 'roll' in TASKS and source_tokens('roll', 17).tolist() == [0, *range(5, 17), *range(1, 5)]
        with with_parts(): pass
        assert 'roll' in TASKS, 'the inner one must leave what it found'

def test_stages_of_a_copy_are_measured_where_heads_look(tokenizer):
    model = tiny_model(tokenizer=tokenizer, tasks=('repeat',)).eval()
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(6))
    stages = copy_stages(model, images, batch_size=5)
    assert list(stages['error']) == ['values', 'heads', 'after attention', 'after the MLP']
    batch, pictures = model.pair_batch(make_pairs(images[:5], 'repeat'))
    logs, others = log_attention(model, batch, model.encode(pictures), 1)
    once = copy_stages(model, images[:5])
    torch.testing.assert_close(torch.tensor(once['right']), logs.exp().mean((0, 2)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(once['others']), others.mean((0, 2)), atol=1e-5, rtol=1e-4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.llm.modules()), 'nothing is left behind'
