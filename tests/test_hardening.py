"What can go wrong with files, settings and several writers: each ends in one clear line, and nothing is lost."
import json, os
from pathlib import Path
import pytest
import torch
from PIL import Image
from lm4lv.core.loop import FitConfig, NonFiniteLoss, check_converged, fit, only_one
from lm4lv.images.photos import PhotoError, Photos, folder_paths
from lm4lv.training.trainer import TrainConfig, check_training, set_values
from test_cli import fails

def noise(path, side=40):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((side, side), 60).convert('RGB').save(path)
    return path

# settings

BAD_SETTINGS = {
    'betas=0.9': 'betas', 'betas=0.9,1.0': 'betas', 'warmup=-5': 'warmup', 'lr=0': 'lr', 'lr=nan': 'lr', 'lr=inf': 'lr',
    'clip=-1': 'clip', 'weight_decay=-0.1': 'weight_decay', 'final_lr=2': 'final_lr', 'precision=fp8': 'precision',
    'workers=-1': 'workers', 'snapshot_every=-1': 'snapshot_every', 'batch=1000000000': 'batch', 'batch=0': 'batch',
    'task_length=-2': 'task_length', 'refit=-1': 'refit', 'refit_share=1.5': 'refit_share', 'warm_start=-1': 'warm_start', 'tasks=denoise,denoise': 'each task once',
    'tasks=': 'at least one', 'tasks=dehaze': 'dehaze', 'text_every=0': 'text_every', 'lora_rank=0': 'lora_rank',
    'input_noise=-1': 'input_noise', 'text_weight=nan': 'text_weight', 'steps=many': 'steps', 'steps': 'key=value', 'stepz=1': 'key=value'}

@pytest.mark.parametrize('text', BAD_SETTINGS)
def test_a_bad_setting_is_named_before_anything_is_loaded(text):
    with pytest.raises(ValueError, match=BAD_SETTINGS[text]) as caught: check_training(set_values(TrainConfig(), [text]))
    assert '\n' not in str(caught.value)

def test_the_settings_as_they_are_can_be_trained_with(): check_training(TrainConfig())

# training

class Line(torch.nn.Module):
    "One weight; the target is 1 wherever one looks."
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x): return ((self.weight * x - 1) ** 2).mean(), {}

class Ones(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return torch.ones(1)

def trained(out, **settings):
    model = Line()
    config = FitConfig(**dict(dict(steps=40, batch=2, lr=.05, warmup=0, log_every=5, save_every=20, out=str(out)), **settings))
    return model, fit(model, Ones(), lambda module, x: module(x), config, torch.stack, progress=False)

def test_a_diverged_training_is_an_error(tmp_path):
    with pytest.raises(NonFiniteLoss, match='diverged: loss .* lower lr'): trained(tmp_path, lr=20., steps=2, log_every=1)
    assert not list(tmp_path.glob('step-*'))

def test_a_training_that_learns_is_none(tmp_path): assert trained(tmp_path)[1][-1]['loss'] < 1

def test_weights_that_are_not_finite_are_named():
    model = Line()
    model.weight.data[:] = float('nan')
    with pytest.raises(NonFiniteLoss, match='weight is not finite after step 3'): check_converged(model, 3, [], 1., False)

def test_one_training_at_a_time_writes_into_a_folder(tmp_path):
    import subprocess, sys
    code = f"from lm4lv.core.loop import only_one\nwith only_one({str(tmp_path)!r}): pass"
    with only_one(tmp_path):
        with only_one(tmp_path): pass # in the same process it is the same training
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'another training writes there' in done.stderr.splitlines()[-1]
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0

def test_a_lock_under_a_file_is_one_clear_error(tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(OSError, match='no folder for checkpoints'):
        with only_one(tmp_path/'file'/'inner'): pass

# photographs

def test_unreadable_pictures_never_take_the_place_of_readable_ones(tmp_path):
    for i in range(8):
        if i % 2: noise(tmp_path/f'{i}.png')
        else: (tmp_path/f'{i}.png').write_text('no picture')
    crops, groups = Photos(tmp_path, crops=1).spread_groups(4)
    assert len(crops) == 4 and sorted(groups.tolist()) == [1, 3, 5, 7]

def test_the_same_crops_are_chosen_where_all_can_be_read(tmp_path):
    for i in range(6): noise(tmp_path/f'{i}.png')
    assert Photos(tmp_path, crops=2).spread_groups(4)[1].tolist() == [0, 1, 3, 4]

def test_no_crops_are_an_error(tmp_path):
    with pytest.raises(ValueError, match='crops 0'): Photos(noise(tmp_path/'a.png'), crops=0)

def test_a_loop_of_links_is_named(tmp_path):
    noise(tmp_path/'a.png')
    (tmp_path/'b.png').symlink_to(tmp_path/'c.png')
    (tmp_path/'c.png').symlink_to(tmp_path/'b.png')
    (tmp_path/'inner').symlink_to(tmp_path)
    assert [p.name for p in folder_paths(tmp_path)] == ['a.png', 'b.png', 'c.png']
    with pytest.raises(PhotoError, match='b.png'): Photos(tmp_path/'b.png', crops=1).spread_groups(1)

# the command line

def degrade(lm4lv, *paths, out, more=()): return lm4lv('degrade', *paths, '--task', 'denoise', '--out', out, *more)

def test_degrade_goes_on_past_every_bad_file_and_its_exit_code_tells(lm4lv, tmp_path):
    noise(tmp_path/'in'/'x.jpg'); noise(tmp_path/'in'/'x.png'); noise(tmp_path/'in'/f"{'n' * 250}.png")
    (tmp_path/'in'/'bad.jpg').write_text('no picture')
    done = degrade(lm4lv, tmp_path/'in', tmp_path/'nowhere', out=tmp_path/'out')
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    assert all(word in done.stderr for word in ('bad.jpg', 'nowhere: no such file', 'came through'))
    results = [Path(r['result']).name for r in json.loads((tmp_path/'out'/'degradations.json').read_text())]
    assert {'x.png', 'x.jpg.png'} <= set(results) and all((tmp_path/'out'/name).exists() for name in results)

def test_a_degradation_goes_on_where_it_stopped(lm4lv, tmp_path):
    for name in 'ab': noise(tmp_path/'in'/f'{name}.png')
    assert degrade(lm4lv, tmp_path/'in', out=tmp_path/'out').returncode == 0
    first = json.loads((tmp_path/'out'/'degradations.json').read_text())
    b = (tmp_path/'out'/'b.png').read_bytes()
    (tmp_path/'out'/'b.png').unlink()
    done = degrade(lm4lv, tmp_path/'in', out=tmp_path/'out')
    assert done.returncode == 0 and 'kept' in done.stderr
    assert json.loads((tmp_path/'out'/'degradations.json').read_text()) == first and (tmp_path/'out'/'b.png').read_bytes() == b

def test_restore_goes_on_past_a_missing_path(lm4lv, photo, checkpoint, tmp_path):
    done = lm4lv('restore', photo, tmp_path/'nowhere.png', '--task', 'denoise', '--out', tmp_path/'out', '--checkpoint', checkpoint)
    assert done.returncode == 1 and 'nowhere.png: no such file' in done.stderr and len(done.stdout.splitlines()) == 1

BEFORE_THE_WORK = {
    'missing': (['restore', '{tmp}/no.png', '--task', 'denoise', '--out', '{tmp}/o'], 'no such file'),
    'out is a file': (['restore', '{tmp}/a.png', '--task', 'denoise', '--out', '{tmp}/file'], '--out'),
    'save on a file': (['train', 'steps=1', '--save', '{tmp}/file'], '--save'),
    'save under a file': (['train-mae', 'steps=1', '--save', '{tmp}/file/run'], '--save'),
    'json on a folder': (['evaluate', '--json', '{tmp}'], '--json'),
    'json under a file': (['bench', '--json', '{tmp}/file/a.json'], '--json'),
    'device': (['evaluate', '--device', 'warp'], '--device'),
}

@pytest.mark.parametrize('case', BEFORE_THE_WORK)
def test_what_cannot_end_well_does_not_begin(lm4lv, tmp_path, case):
    noise(tmp_path/'a.png'); (tmp_path/'file').write_text('mine')
    arguments, word = BEFORE_THE_WORK[case]
    fails(lm4lv(*(a.format(tmp=tmp_path) for a in arguments)), word)
    assert (tmp_path/'file').read_text() == 'mine'

def test_json_can_go_to_standard_output(lm4lv, photo, checkpoint):
    done = lm4lv('evaluate', '--images', photo, '--checkpoint', checkpoint, '--tasks', 'denoise', '--crops', 2, '--json', '-')
    assert done.returncode == 0 and json.loads(done.stdout)['tasks']['denoise']['n'] == 2, done.stderr
    assert done.stderr.splitlines()[0].startswith('loading ')

def test_quiet_says_nothing_but_results(lm4lv, photo, checkpoint, tmp_path):
    done = lm4lv('restore', photo, '--task', 'denoise', '--out', tmp_path/'out', '--checkpoint', checkpoint, '-q')
    assert done.returncode == 0 and done.stderr == '' and len(done.stdout.splitlines()) == 1

def test_version_help_and_tasks(lm4lv):
    import lm4lv as package
    from lm4lv.cli import TASK_NAMES
    from lm4lv.images.degradations import TASKS
    assert lm4lv('--version').stdout.strip() == f'lm4lv {package.__version__}'
    assert TASK_NAMES == tuple(TASKS)
    text = ' '.join(lm4lv('restore', '--help').stdout.split())
    assert ', '.join(TASK_NAMES) in text
    assert '...' not in lm4lv('--help').stdout.split('Commands:')[1]

def test_a_shell_completes_commands(lm4lv, monkeypatch):
    import subprocess, sys
    env = dict(os.environ, _LM4LV_COMPLETE='complete_bash', COMP_WORDS='lm4lv res', COMP_CWORD='1')
    done = subprocess.run([sys.executable, '-c', "from lm4lv.cli import app; app(prog_name='lm4lv')"], env=env, capture_output=True, text=True)
    assert 'restore' in done.stdout, done.stderr

# checkpoints

BAD_VALUES = [('tasks', 5), ('tasks', None), ('tasks', [{}]), ('task_length', -1), ('task_length', 'ten'), ('task_length', 10 ** 12),
              ('task_length', True), ('vision', None), ('lora', [1]), ('lora', dict(rank='all')), ('llm_fingerprint', 7), ('template', []),
              ('visual_layer', 'last'), ('gpt_prefix', 3), ('llm', {})]

@pytest.mark.parametrize('key,value', BAD_VALUES)
def test_a_wrong_value_in_a_checkpoint_is_named(checkpoint, tmp_path, key, value):
    from lm4lv.model.storing import CheckpointError, read_config
    config = json.loads((checkpoint/'lm4lv.json').read_text())
    (tmp_path/'lm4lv.json').write_text(json.dumps({**config, key: value}))
    with pytest.raises(CheckpointError, match=f'lm4lv.json: {key}=.*: expected'): read_config(tmp_path)

def test_weights_that_are_not_finite_are_refused(checkpoint, tmp_path):
    import shutil
    from safetensors.torch import load_file, save_file
    from lm4lv.model.next_element import LM4LV
    from lm4lv.model.storing import CheckpointError
    shutil.copytree(checkpoint, tmp_path/'model')
    weights = load_file(tmp_path/'model'/'adapters.safetensors')
    name = next(name for name in weights if name.startswith('adapters.'))
    weights[name].flatten()[0] = float('nan')
    save_file(weights, tmp_path/'model'/'adapters.safetensors')
    with pytest.raises(CheckpointError, match=f'{name} holds values that are not finite'): LM4LV.from_pretrained(tmp_path/'model')

# a clone

def test_a_script_above_a_clone_imports_the_library(tmp_path):
    import subprocess, sys
    from conftest import ROOT
    (tmp_path/'lm4lv').symlink_to(ROOT)
    (tmp_path/'script.py').write_text("import lm4lv\nfrom lm4lv.core.io import WEIGHTS\nprint(lm4lv.__version__, WEIGHTS.exists(), lm4lv.Photos.__name__)")
    done = subprocess.run([sys.executable, 'script.py'], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split()[1:] == ['True', 'Photos'], done.stderr

def test_the_doctor_says_what_there_is_and_how_to_mend_what_is_missing(lm4lv):
    from configparser import ConfigParser
    from conftest import ROOT
    from lm4lv.cli import EXTRAS
    parser = ConfigParser(delimiters=['='], interpolation=None)
    parser.read(ROOT/'settings.ini')
    assert all(f'{extra}_requirements' in parser['DEFAULT'] for extra in EXTRAS)
    done = lm4lv('doctor', '--json', '-')
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report['weights'] and report['language_model'] and report['gflops'] > 0, done.stderr
    assert all(f'lm4lv[{extra}]' in done.stderr for extra in report['missing_extras'])
