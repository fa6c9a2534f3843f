"Plans from shapes alone, and the paper's settings on tiny models."
import json
import pytest
import torch
import yaml
from lm4lv.images.degradations import TASKS, make_pairs
from lm4lv.vision.mae import new_mae
from lm4lv.llm.frozen import FrozenLLM
from lm4lv.model.next_element import LM4LV
from lm4lv.training.presets import PRESETS, SHAPES, build_meta, check_room, config_file, example, plan, preset, remembered
from lm4lv.images.photos import to_image
from lm4lv.training.trainer import TrainConfig, build, train
from families import tiny_llm

@pytest.mark.parametrize('name', [f'{scale}-{task}' for scale in PRESETS for task in ('denoise', 'flip')])
def test_every_preset_makes_a_plan(name):
    made = plan(preset(name), 'a100', 4)
    assert made.trained < 0.01 * made.total and made.hours > 0 and made.memory > 0 and len(made.rows()) == 9

def test_all_tasks_have_presets():
    for task in TASKS: assert preset(f'paper-{task}').tasks == (task,)

@pytest.mark.parametrize('name', ['paper', 'paper-', 'paper-dehaze', 'cluster-denoise', ''])
def test_an_unknown_preset_is_an_error_that_lists_the_known(name):
    with pytest.raises(ValueError, match='denoise'): preset(name)

def test_the_papers_settings_are_the_papers():
    config = preset('paper-denoise')
    assert (config.fit.lr, config.fit.warmup, config.fit.batch, config.task_length) == (3e-4, 200, 256, 10)
    assert abs(config.fit.steps * config.fit.batch / 595_375 - 2) < 0.01
    made = plan(config, 'a100', 4)
    assert abs(made.total / 1e9 - 7.08) < 0.02 and made.trained == 2 * 1024 * 4096 + 4096 + 1024 + 10 * 4096

def test_the_papers_hours_are_near_those_it_reports(): assert 4 < plan(preset('paper-denoise'), 'a100', 4).hours < 16

def test_a_small_plan_counts_the_parameters_of_the_real_model():
    config = TrainConfig()
    real, made = build(config), plan(config, 'laptop')
    assert (made.trained, made.total) == (sum(p.numel() for p in real.parameters() if p.requires_grad), sum(p.numel() for p in real.parameters()))

def test_memory_and_hours_follow_batch_and_cards():
    config = preset('paper-denoise')
    one, four = plan(config, 'a100', 1), plan(config, 'a100', 4)
    assert one.memory > 2 * four.memory and abs(one.hours / four.hours - 4) < 1e-6

def test_lora_is_planned_with_its_parameters():
    pytest.importorskip('peft')
    config = preset('paper-denoise')
    config.trainable = (*config.trainable, 'lora')
    assert plan(config, 'a100', 4).trained - plan(preset('paper-denoise'), 'a100', 4).trained == 32 * 4 * 32 * 2 * 4096

def test_an_unknown_card_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match='a100'): plan(preset('laptop-denoise'), 'abacus')

def test_an_unknown_model_is_an_error_that_names_it():
    config = preset('paper-denoise')
    config.llm = 'nobody/nothing'
    with pytest.raises(ValueError, match='nobody/nothing'): plan(config)

def test_a_machine_that_is_too_small_is_told_so(monkeypatch):
    import lm4lv.training.presets as module
    monkeypatch.setattr(module, 'available_memory', lambda: 4e9)
    with pytest.raises(ValueError, match='accumulate'): check_room('paper-denoise', preset('paper-denoise'))
    check_room('laptop-denoise', preset('laptop-denoise'))

def test_the_papers_sequence_is_trained_by_the_same_code(tokenizer):
    torch.manual_seed(0)
    mae = new_mae(image_size=56, patch_size=4, width=32, layers=1, heads=2, decoder_width=32, decoder_layers=1)
    model = LM4LV(FrozenLLM(tiny_llm('llama', tokenizer), tokenizer, 'tiny'), mae, ['denoise'], template='official')
    assert model.vision.num_tokens == 197
    batch, images = model.pair_batch(make_pairs(torch.rand(2, 3, 56, 56), 'denoise'))
    assert len(batch.visual_to) == 2 * 197
    model.adapters.requires_grad_(True); model.tasks.requires_grad_(True)
    loss = model(batch, images)
    loss.total.backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.adapters.parameters())

@pytest.mark.parametrize('name', ['ddp', 'fsdp2', 'deepspeed'])
def test_settings_for_launchers_are_read_by_accelerate(name):
    from accelerate.commands.config.config_args import load_config_from_file
    with open(config_file(name)) as file: written = yaml.safe_load(file)
    read = load_config_from_file(config_file(name))
    assert read.num_processes == written['num_processes'] == 4 and str(read.distributed_type).endswith(written['distributed_type'])

def test_unknown_settings_for_a_launcher_are_named():
    with pytest.raises(ValueError, match='ddp, deepspeed, fsdp2|deepspeed'): config_file('mpi')

def test_a_meta_model_holds_no_numbers(): assert all(p.is_meta for p in build_meta(preset('paper-denoise')).parameters())

def test_known_shapes_are_complete():
    for scale in PRESETS:
        config = PRESETS[scale]()
        assert config.llm in SHAPES and (config.vision == 'default' or config.vision in SHAPES)

@pytest.mark.parametrize('stage', ['captions', 'instructions'])
def test_stages_in_words_train_what_they_say(stage):
    config = preset(f'paper-{stage}')
    assert not build_meta(config).tasks.bank[config.tasks[0]].numel() # no task tokens
    answer = example(config)['turns'][-1]
    assert answer[0] == 'gpt' and '<image>' not in answer[1] and len(answer[1].split()) == dict(captions=12, instructions=100)[stage]
    made = plan(config, 'a100', 4)
    adapter, lora = 1024 * 4096 + 4096, 32 * 4 * 32 * 2 * 4096
    assert made.trained == adapter + lora * (stage == 'instructions')

def test_a_stage_in_words_runs_on_a_file_of_captions(tmp_path):
    to_image(torch.rand(3, 40, 40)).save(tmp_path/'a.png')
    items = [dict(image='a.png', conversations=[{'from': 'human', 'value': 'Describe the image. <image>'}, {'from': 'gpt', 'value': ' a wall.'}])]
    (tmp_path/'items.json').write_text(json.dumps(items))
    config = preset('laptop-captions')
    config.items, config.image_root = str(tmp_path/'items.json'), None
    config.fit.steps, config.fit.batch, config.fit.warmup = 3, 2, 1
    model, log = train(config, progress=False)
    assert log[-1]['visual'] == 0 and log[-1]['text'] > 0 and model.gpt_prefix == 'A picture of'
    assert not any(p.requires_grad for p in model.adapters.deadapter.parameters())
