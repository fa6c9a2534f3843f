"Vision modules by name: classes of one's own, what is refused, and what a checkpoint records."
import json
import pytest
import torch
from lm4lv.vision.loading import PROTOCOL, PlainVision, load_vision
from lm4lv.vision.mae import VisionModule

OWN = """
import torch.nn.functional as F
from torch import nn
from lm4lv.vision.mae import VisionBase

class Patches: # no torch module at all
    image_size, num_tokens, feature_dim = 16, 4, 192
    def encode(self, images): return F.unfold(images, 8, stride=8).transpose(1, 2)
    def decode(self, features): return F.fold(features.transpose(1, 2), 16, 8, stride=8)

class Turned(Patches): # holds a torch module
    def __init__(self): self.turn = nn.Linear(192, 192, bias=False)
    def encode(self, images): return self.turn(super().encode(images))

class Derived(VisionBase):
    def __init__(self): super().__init__(16, 4, 192)
    def _encode_raw(self, images): return F.unfold(images, 8, stride=8).transpose(1, 2)
    def _decode_raw(self, features): return F.fold(features.transpose(1, 2), 16, 8, stride=8)

class NoSize:
    num_tokens, feature_dim = 4, 192
    def encode(self, images): pass
    def decode(self, features): pass

class Needy(Patches):
    def __init__(self, folder): pass

class Harmful:
    def __init__(self): raise SystemExit('was called')

def function(): raise SystemExit('was called')
"""

@pytest.fixture
def own(tmp_path, monkeypatch):
    "The name of a module of one's own, which Python finds."
    name = f'own_{tmp_path.name}'.replace('-', '_')
    (tmp_path/f'{name}.py').write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name

@pytest.fixture
def images(): return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))

@pytest.mark.parametrize('kind', ['Patches', 'Derived'])
def test_a_class_of_ones_own_is_a_vision_module(own, images, kind):
    vision = load_vision(f'{own}:{kind}')
    assert isinstance(vision, VisionModule) and isinstance(vision, torch.nn.Module) and not vision.training
    assert (vision.image_size, vision.num_tokens, vision.feature_dim) == (16, 4, 192)
    torch.testing.assert_close(vision(images), images)

def test_torch_modules_inside_a_plain_class_are_frozen_and_belong_to_it(own):
    vision = load_vision(f'{own}:Turned')
    assert isinstance(vision, PlainVision) and [p.shape for p in vision.parameters()] == [(192, 192)]
    assert not any(p.requires_grad for p in vision.parameters())
    assert vision.double().plain.turn.weight.dtype == torch.float64

@pytest.mark.parametrize('kind,words', [('NoSize', 'no image_size'), ('Needy', 'without arguments'), ('Nothing', 'has no class Nothing'),
    ('function', 'has no class function'), ('Harmful', 'no encode and decode')])
def test_what_is_no_vision_module_is_one_clear_line(own, kind, words):
    with pytest.raises(ValueError) as error: load_vision(f'{own}:{kind}')
    assert '\n' not in str(error.value) and words in str(error.value) and f'{own}:{kind}' in str(error.value)
    assert 'expected' in str(error.value) or kind == 'Needy' or all(name in str(error.value) for name in PROTOCOL)

@pytest.mark.parametrize('name', ['no_such_package:Thing', 'c:nowhere'])
def test_a_module_that_cannot_be_imported_is_one_clear_line(name):
    with pytest.raises(ValueError, match='cannot be imported .*vq:NAME.*package.module:Class'): load_vision(name)

def test_a_name_without_a_colon_is_a_mae():
    with pytest.raises(ValueError, match='no MAE'): load_vision('nowhere')

def test_a_folder_whose_name_has_a_colon_is_a_folder(tmp_path, monkeypatch):
    from lm4lv.vision.mae import new_mae
    monkeypatch.chdir(tmp_path)
    new_mae(16, 8, 16, 1, 2, 16, 1).save_pretrained('run:first')
    assert load_vision('run:first').image_size == 16

def test_a_checkpoint_records_the_class_and_is_loaded_with_it(own, images, tokenizer, base, tmp_path):
    from lm4lv.model.next_element import LM4LV
    from lm4lv.core.loop import FitConfig
    from lm4lv.training.trainer import TrainConfig, train
    name = f'{own}:Patches'
    config = TrainConfig(images=str(base/'photos'), tasks=('rotate',), llm=str(base/'llm'), vision=name, warm_start=4, llm_dtype='float32',
                         fit=FitConfig(steps=2, batch=2, warmup=1))
    train(config, tmp_path/'model', progress=False)
    assert json.loads((tmp_path/'model'/'lm4lv.json').read_text())['vision'] == name
    loaded = LM4LV.from_pretrained(tmp_path/'model')
    assert loaded.vision_name == name
    torch.testing.assert_close(loaded.vision(images), images)
