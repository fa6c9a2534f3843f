import json, shutil
import pytest
import torch
from families import write_llm
from lm4lv.core.io import WEIGHTS
from lm4lv.vision.mae import MAE, new_mae
from lm4lv.llm.frozen import load_llm
from lm4lv.model.next_element import LM4LV
from lm4lv.model.storing import CheckpointError
from lm4lv.model.task_models import TaskModels, by_task, task_folders

@pytest.fixture(scope='module')
def make(tokenizer, tmp_path_factory):
    "Writes checkpoints around one tiny language model and one tiny MAE."
    base = tmp_path_factory.mktemp('base')
    write_llm('llama', tokenizer, base/'llm')
    new_mae(16, 8, 16, 1, 2, 16, 1).save_pretrained(base/'mae')
    llm, mae = load_llm(base/'llm'), MAE.from_pretrained(base/'mae')
    def make(folder, *tasks):
        model = LM4LV(llm, mae, list(tasks), 3, vision_name=str(base/'mae'))
        model.save_pretrained(folder)
        return model
    return make

def test_one_checkpoint_serves_all_its_tasks(make, tmp_path):
    make(tmp_path, 'flip', 'denoise')
    assert task_folders(tmp_path) == {'denoise': tmp_path, 'flip': tmp_path}
    models = TaskModels(tmp_path)
    assert list(models) == ['denoise', 'flip'] and models['flip'] is models['denoise']

def test_a_folder_of_a_task_goes_before_the_top(make, tmp_path):
    top, own = make(tmp_path, 'denoise', 'flip'), make(tmp_path/'flip', 'flip')
    models = TaskModels(tmp_path)
    assert torch.equal(models['flip'].adapters.adapter.weight, own.adapters.adapter.weight)
    assert torch.equal(models['denoise'].adapters.adapter.weight, top.adapters.adapter.weight)

def test_folders_alone_are_enough(make, tmp_path):
    for task in ('rotate', 'deblur'): make(tmp_path/task, task)
    assert list(TaskModels(tmp_path)) == ['deblur', 'rotate']

def test_a_bank_serves_what_nobody_else_does(make, tmp_path):
    make(tmp_path/'bank', 'denoise', 'derain', 'flip'); make(tmp_path, 'denoise'); make(tmp_path/'flip', 'flip')
    assert {task: folder.name for task, folder in task_folders(tmp_path).items()} == {'denoise': tmp_path.name, 'derain': 'bank', 'flip': 'flip'}

def test_a_bank_alone_is_enough(make, tmp_path):
    bank = make(tmp_path/'bank', 'denoise', 'derain')
    models = TaskModels(tmp_path)
    assert list(models) == ['denoise', 'derain'] and torch.equal(models['derain'].adapters.adapter.weight, bank.adapters.adapter.weight)

def test_base_models_are_loaded_once(make, tmp_path, monkeypatch):
    for task in ('denoise', 'flip', 'derain'): make(tmp_path/task, task)
    loads = []
    from lm4lv.model import task_models as checkpoints
    monkeypatch.setattr(checkpoints, 'load_llm', lambda *a: loads.append(a) or load_llm(*a))
    models = TaskModels(tmp_path)
    assert not loads # nothing is loaded before it is asked for
    assert 'derain' in models and not loads
    assert len({id(models[task].llm) for task in models}) == len({id(models[task].vision) for task in models}) == len(loads) == 1

def test_other_weights_use_base_models_that_are_loaded(make, tmp_path):
    make(tmp_path/'a', 'denoise'); make(tmp_path/'b', 'flip')
    first = TaskModels(tmp_path/'a')
    second = TaskModels(tmp_path/'b', like=first)
    assert second['flip'].llm is first['denoise'].llm and second['flip'].vision is first['denoise'].vision
    assert TaskModels(tmp_path/'b')['flip'].llm is not first['denoise'].llm

def test_each_model_answers_as_it_would_alone(make, tmp_path):
    from lm4lv.model.generation import restore
    for task in ('denoise', 'flip'): make(tmp_path/task, task)
    models, images = TaskModels(tmp_path), torch.rand(2, 3, 16, 16)
    for task in models:
        alone = LM4LV.from_pretrained(tmp_path/task)
        torch.testing.assert_close(torch.stack(restore(models[task], images, task)), torch.stack(restore(alone, images, task)))

def test_other_folders_are_left_alone(make, tmp_path):
    make(tmp_path, 'denoise')
    (tmp_path/'vision').mkdir()
    (tmp_path/'vision'/'config.json').write_text('{}')
    (tmp_path/'notes.txt').write_text('')
    assert list(task_folders(tmp_path)) == ['denoise']

# bad input

def test_a_task_that_none_has_is_named(make, tmp_path):
    make(tmp_path, 'denoise'); make(tmp_path/'flip', 'flip')
    with pytest.raises(CheckpointError, match="'derain'.*denoise, flip"): TaskModels(tmp_path)['derain']

def test_a_folder_named_after_another_task_is_refused(make, tmp_path):
    make(tmp_path/'flip', 'denoise')
    with pytest.raises(CheckpointError, match="flip: stands for the task 'flip', but was trained for denoise"): TaskModels(tmp_path)

def test_no_checkpoint_is_one_clear_error(tmp_path):
    for folder in (tmp_path, tmp_path/'nowhere'):
        with pytest.raises(CheckpointError, match=f'{folder}: no LM4LV checkpoint'): TaskModels(folder)

def test_a_damaged_one_among_good_ones_is_named(make, tmp_path):
    make(tmp_path/'flip', 'flip'); make(tmp_path/'denoise', 'denoise')
    (tmp_path/'flip'/'lm4lv.json').write_text('{')
    with pytest.raises(CheckpointError, match='flip'): TaskModels(tmp_path)

def test_a_folder_of_folders_is_no_single_checkpoint_and_says_what_it_holds(make, tmp_path):
    for task in ('flip', 'denoise'): make(tmp_path/task, task)
    with pytest.raises(CheckpointError, match='denoise, flip.*TaskModels'): LM4LV.from_pretrained(tmp_path)

def test_a_model_for_another_language_model_is_refused_when_it_is_asked_for(make, tokenizer, tmp_path):
    make(tmp_path/'flip', 'flip'); make(tmp_path/'denoise', 'denoise')
    write_llm('llama', tokenizer, tmp_path/'other', seed=1)
    path = tmp_path/'flip'/'lm4lv.json'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), llm=str(tmp_path/'other'))))
    models = TaskModels(tmp_path)
    assert models['denoise'] is not None
    with pytest.raises(CheckpointError, match='another language model'): models['flip']

# the shipped ones

def test_the_shipped_weights_are_found_by_task():
    found = task_folders('default')
    assert 'denoise' in found and all((folder/'adapters.safetensors').exists() for folder in found.values())
    assert {folder.parent if folder != WEIGHTS/'lm4lv' else WEIGHTS/'lm4lv' for folder in found.values()} <= {WEIGHTS/'lm4lv'}

def test_one_model_is_a_model_for_each_of_its_tasks(tiny):
    assert by_task(tiny) == {'denoise': tiny, 'flip': tiny}
    mapping = {'flip': tiny}
    assert by_task(mapping) is mapping
