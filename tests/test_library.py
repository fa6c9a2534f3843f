"The door in one line: what goes in comes out restored, and of the same kind."
import os, subprocess, sys
import numpy as np
import pytest
import torch
from PIL import Image
import lm4lv
from lm4lv.app import library
from lm4lv.images.photos import to_tensor
from lm4lv.model.task_models import by_task

@pytest.fixture
def door(tiny, monkeypatch):
    "The function, around a tiny random model."
    monkeypatch.setattr(library, 'load_models', lambda checkpoint, device: by_task(tiny))
    return lm4lv.restore

@pytest.fixture
def picture(): return Image.effect_noise((30, 22), 60).convert('RGB')

def test_each_kind_comes_back_as_its_own_kind(door, picture, tmp_path):
    picture.save(tmp_path/'ü.png')
    array, tensor = np.asarray(picture), to_tensor(picture)
    from_path, from_image = door(str(tmp_path/'ü.png'), 'denoise'), door(picture, 'denoise')
    from_array, from_floats, from_tensor = door(array, 'denoise'), door(array.astype('float64') / 255, 'denoise'), door(tensor, 'denoise')
    assert isinstance(from_path, Image.Image) and from_path.size == from_image.size == (30, 22)
    assert np.array_equal(np.asarray(from_path), np.asarray(from_image)) and np.array_equal(np.asarray(from_image), from_array)
    assert from_array.dtype == np.uint8 and from_floats.dtype == np.float64 and from_tensor.dtype == torch.float32
    assert np.abs(from_floats - from_tensor.permute(1, 2, 0).numpy()).max() < 1e-5

def test_several_at_once(door, picture):
    tensor = to_tensor(picture)
    listed, batch = door([picture, tensor], 'denoise'), door(torch.stack([tensor, tensor]), 'denoise')
    assert isinstance(listed, list) and isinstance(listed[0], Image.Image) and torch.is_tensor(listed[1])
    assert batch.shape == (2, 3, 22, 30)
    torch.testing.assert_close(batch[1], listed[1], atol=1e-5, rtol=1e-5)

def test_spatial_tasks_take_the_whole_picture(door, picture): assert door(picture, 'flip').size == (30, 22)

@pytest.mark.parametrize('wrong, named', [
    (torch.zeros(3, 8, 8, dtype=torch.uint8), 'uint8'), (torch.full((3, 8, 8), 255.), 'divide by 255'), (torch.full((3, 8, 8), float('nan')), 'NaN'),
    (torch.zeros(8, 8), r'shape \(8, 8\)'), (np.zeros((8, 8)), r'shape \(8, 8\)'), (np.zeros((8, 8, 3), 'int32'), 'int32'), ('no-such.png', 'no-such.png'), (5, 'int')])
def test_what_is_no_picture_is_named(door, wrong, named):
    with pytest.raises((ValueError, TypeError), match=named): door(wrong, 'denoise')

def test_an_unknown_task_is_named(door, picture):
    with pytest.raises((ValueError, KeyError), match='sharpen'): door(picture, 'sharpen')

def test_the_import_is_lazy_and_names_are_listed():
    code = "import sys, lm4lv; assert 'torch' not in sys.modules; assert 'restore' in dir(lm4lv); print(lm4lv.restore.__module__)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(os.getcwd())))
    assert done.stdout.strip() == 'lm4lv.app.library', done.stderr
    with pytest.raises(AttributeError, match='nothing'): lm4lv.nothing
