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

@pytest.fixture(scope='session')
def llm():
    from lm4lv.llm import load_llm
    return load_llm()

@pytest.fixture(scope='session')
def tokenizer(llm): return llm.tokenizer

@pytest.fixture
def tiny(tokenizer):
    from lm4lv.model import tiny_model
    return tiny_model(tokenizer=tokenizer).eval()
