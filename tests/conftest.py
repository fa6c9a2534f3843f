import os
os.environ['OMP_NUM_THREADS'] = '1'
os.environ.setdefault('HF_HUB_OFFLINE', '1') # no test may depend on the hub, or wait for it
import sys
from pathlib import Path
import pytest
import torch

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CHAPTERS = {p.stem: p for p in sorted((ROOT/'nbs').glob('[0-9]*/*.ipynb'))} # name -> notebook

@pytest.fixture(scope='session')
def llm():
    from lm4lv.llm.frozen import load_llm
    return load_llm()

@pytest.fixture(scope='session')
def tokenizer(llm): return llm.tokenizer

@pytest.fixture
def tiny(tokenizer):
    from lm4lv.model.next_element import tiny_model
    return tiny_model(tokenizer=tokenizer).eval()

@pytest.fixture(scope='module')
def base(tokenizer, tmp_path_factory):
    "A folder with a tiny language model (llm), a tiny MAE (mae) and four pictures of noise (photos)."
    import torch
    from PIL import Image
    from families import write_llm
    from lm4lv.vision.mae import new_mae
    folder = tmp_path_factory.mktemp('base')
    write_llm('llama', tokenizer, folder/'llm')
    torch.manual_seed(0)
    new_mae(16, 8, 16, 1, 2, 16, 1).save_pretrained(folder/'mae')
    (folder/'photos').mkdir()
    for i in range(4): Image.effect_noise((40, 40), 60).convert('RGB').save(folder/'photos'/f'{i}.png')
    return folder

@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    from PIL import Image
    path = tmp_path_factory.mktemp('photos')/'my photo.png'
    Image.effect_noise((50, 40), 60).convert('RGB').save(path)
    return path

@pytest.fixture(scope='module')
def checkpoint(tokenizer, tmp_path_factory):
    "A checkpoint around a tiny language model and a tiny MAE, all in one folder."
    from families import write_llm
    from lm4lv.llm.frozen import load_llm
    from lm4lv.model.next_element import LM4LV
    from lm4lv.vision.mae import MAE, new_mae
    folder = tmp_path_factory.mktemp('checkpoint')
    write_llm('llama', tokenizer, folder/'llm')
    new_mae(16, 8, 16, 1, 2, 16, 1).save_pretrained(folder/'mae')
    model = LM4LV(load_llm(folder/'llm'), MAE.from_pretrained(folder/'mae'), ['denoise', 'flip'], 3, vision_name=str(folder/'mae'))
    model.save_pretrained(folder/'model')
    return folder/'model'

@pytest.fixture(scope='module')
def lm4lv(tmp_path_factory):
    "The command: from arguments to what became of it, as `subprocess.run` tells it."
    from fresh import call
    folder = tmp_path_factory.mktemp('cwd')
    env = dict(os.environ, ACCELERATE_USE_CPU='true')
    def run(*arguments): return call('lm4lv.cli', 'main', arguments, folder, env)
    return run
