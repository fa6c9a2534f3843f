"FSDP2 on two real processes: weights in shares train, stop, go on and are saved as in one process."
import json, os, subprocess, sys
from importlib.util import find_spec
from pathlib import Path
import pytest
import torch
from fresh import torchrun
from safetensors.torch import load_file

CHILD = str(Path(__file__).with_name('sharded_child.py'))
FSDP2 = dict(ACCELERATE_USE_FSDP='true', FSDP_VERSION='2', FSDP_AUTO_WRAP_POLICY='TRANSFORMER_BASED_WRAP', FSDP_STATE_DICT_TYPE='FULL_STATE_DICT',
             FSDP_TRANSFORMER_CLS_TO_WRAP='LlamaDecoderLayer', FSDP_RESHARD_AFTER_FORWARD='true') # as configs/fsdp2.yaml says

def train(base, folder, *settings, processes=1, **env):
    "What the child said, and the weights that it saved."
    plain = {} if 'ACCELERATE_USE_DEEPSPEED' in env else dict(ACCELERATE_USE_CPU='true')
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS='1', **plain, **env)
    launcher = torchrun(processes) if processes > 1 else []
    done = subprocess.run([sys.executable, *launcher, CHILD, base, folder/'out', folder/'saved', *settings], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads((folder/f'said_{rank}.json').read_text()) for rank in range(processes)]
    return said, load_file(folder/'saved'/'adapters.safetensors')

def losses(folder): return [entry['loss'] for entry in json.loads((folder/'saved'/'training_record.json').read_text())['log']]

@pytest.fixture(scope='module')
def one(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp('one')
    said, weights = train(base, folder)
    assert said == [dict(sharded=False, kinds=['Tensor'])]
    return folder, weights

def test_two_processes_with_shares_train_as_one_does_and_resume_to_the_bit(base, one, tmp_path):
    folder, alone = one
    said, together = train(base, tmp_path/'two', processes=2, **FSDP2)
    assert said == [dict(sharded=True, kinds=['DTensor'])] * 2
    assert alone.keys() == together.keys()
    for name in alone: torch.testing.assert_close(together[name], alone[name], atol=1e-5, rtol=1e-4)
    assert losses(tmp_path/'two') == pytest.approx(losses(folder), rel=1e-4)
    for settings in (['steps=3'], []): _, resumed = train(base, tmp_path/'resumed', *settings, processes=2, **FSDP2)
    assert all(torch.equal(resumed[name], together[name]) for name in together)
    config, plain = (json.loads((place/'saved'/'lm4lv.json').read_text()) for place in (tmp_path/'two', folder))
    hashes = [each.pop('weights_hash') for each in (config, plain)] # of files whose numbers are equal but for rounding, as compared above
    assert config == plain and all(hashes) # fingerprints of weights in shares are those of the whole ones

@pytest.mark.skipif(not find_spec('deepspeed'), reason='deepspeed is not installed')
def test_two_processes_under_deepspeed_train_as_one_does(base, tmp_path):
    settings = ['tasks=denoise'] # of several tasks, DeepSpeed lets unused ones move on by their momentum
    _, alone = train(base, tmp_path/'one', *settings)
    zero2 = dict(ACCELERATE_USE_DEEPSPEED='true', ACCELERATE_DEEPSPEED_ZERO_STAGE='2', DS_ACCELERATOR='cpu')
    _, together = train(base, tmp_path/'two', *settings, processes=2, **zero2)
    for name in alone: torch.testing.assert_close(together[name], alone[name], atol=1e-5, rtol=1e-4)
    assert losses(tmp_path/'two') == pytest.approx(losses(tmp_path/'one'), rel=1e-4)

def test_accelerates_own_test_passes_on_two_processes():
    "What `accelerate test` runs: if it fails, a failure of ours may be the machine's."
    env = dict(os.environ, ACCELERATE_USE_CPU='true', OMP_NUM_THREADS='1')
    command = [sys.executable, *torchrun(), '-m', 'accelerate.test_utils.scripts.test_script']
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert 'Training yielded the same results on one CPU or distributed setup with no batch split.' in done.stdout
