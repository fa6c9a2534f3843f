import json, os, shutil, subprocess, sys
import numpy as np
import pytest
from PIL import Image
from lm4lv.llm.frozen import load_llm
from lm4lv.model.next_element import LM4LV
from conftest import ROOT
from families import write_llm

COMMANDS = ('demo', 'restore', 'degrade', 'train', 'train-mae', 'evaluate', 'evaluate-mae')

def fails(done, *words):
    "Exit code 2, nothing but one line that says why, after what says that something is loading."
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith('loading ')]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1 and lines[0].startswith('lm4lv: error: '), done.stderr
    assert all(str(word) in lines[0] for word in words), lines[0]

@pytest.mark.parametrize('command', COMMANDS)
def test_help_explains_each_command_with_an_example(lm4lv, command):
    done = lm4lv(command, '--help')
    assert done.returncode == 0 and f'lm4lv {command}' in done.stdout and done.stderr == ''

def test_help_lists_all_commands(lm4lv):
    done = lm4lv('--help')
    assert done.returncode == 0 and all(f' {command} ' in done.stdout for command in COMMANDS)

HEAVY = ('torch', 'transformers', 'accelerate', 'torchmetrics', 'matplotlib')

def loaded_after(code):
    done = subprocess.run([sys.executable, '-c', f'{code}\nimport sys; print([m for m in {HEAVY} if m in sys.modules])'],
                          env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]

def test_importing_the_package_imports_nothing_heavy(): assert loaded_after('import lm4lv, lm4lv.cli') == '[]'

def test_help_imports_nothing_heavy():
    assert loaded_after('''
import sys
from lm4lv.cli import main
sys.argv = ['lm4lv', '--help']
try: main()
except SystemExit as stop: assert not stop.code''') == '[]'

# bad input

def test_an_unknown_task_is_one_line(lm4lv, photo, tmp_path):
    fails(lm4lv('degrade', photo, '--task', 'dehaze', '--out', tmp_path/'out'), "'dehaze'", 'denoise')
    assert not (tmp_path/'out').exists()

def test_a_task_that_the_checkpoint_lacks_is_one_line(lm4lv, photo, checkpoint, tmp_path):
    fails(lm4lv('restore', photo, '--task', 'derain', '--out', tmp_path/'out', '--checkpoint', checkpoint), "'derain'", 'denoise, flip')

def test_an_empty_folder_is_one_line(lm4lv, tmp_path):
    fails(lm4lv('degrade', tmp_path, '--task', 'denoise', '--out', tmp_path/'out'), tmp_path, 'no pictures')

def test_a_missing_folder_is_one_line(lm4lv, tmp_path):
    fails(lm4lv('degrade', tmp_path/'nowhere', '--task', 'denoise', '--out', tmp_path/'out'), tmp_path/'nowhere')

def test_a_missing_folder_to_evaluate_is_one_line(lm4lv, tmp_path):
    fails(lm4lv('evaluate-mae', '--images', tmp_path/'nowhere'), tmp_path/'nowhere')

def test_an_unreadable_picture_alone_is_one_line(lm4lv, tmp_path):
    (tmp_path/'a.jpg').write_text('no picture')
    fails(lm4lv('degrade', tmp_path/'a.jpg', '--task', 'denoise', '--out', tmp_path/'out'), tmp_path/'a.jpg')

def test_only_unreadable_pictures_to_evaluate_are_one_line(lm4lv, tmp_path):
    (tmp_path/'a.jpg').write_text('no picture')
    fails(lm4lv('evaluate-mae', '--images', tmp_path), tmp_path/'a.jpg')

def test_unreadable_pictures_end_with_exit_code_2_and_no_traceback(lm4lv, tmp_path):
    (tmp_path/'a.jpg').write_text('no picture')
    done = lm4lv('degrade', tmp_path, '--task', 'denoise', '--out', tmp_path/'out')
    assert done.returncode == 2 and 'Traceback' not in done.stderr and str(tmp_path/'a.jpg') in done.stderr

def test_an_unknown_setting_is_one_line_that_lists_the_others(lm4lv): fails(lm4lv('train', 'stepz=10'), "'stepz=10'", 'steps')

def test_a_wrong_value_is_one_line(lm4lv): fails(lm4lv('train-mae', 'steps=many'), "steps='many'")

def test_an_unknown_checkpoint_is_one_line(lm4lv, photo, tmp_path):
    fails(lm4lv('restore', photo, '--task', 'denoise', '--out', tmp_path, '--checkpoint', tmp_path/'nowhere'), tmp_path/'nowhere')

def test_a_checkpoint_for_another_language_model_is_one_line(lm4lv, photo, checkpoint, tokenizer, tmp_path):
    write_llm('llama', tokenizer, tmp_path/'other', seed=1)
    shutil.copytree(checkpoint, tmp_path/'model')
    config = json.loads((tmp_path/'model'/'lm4lv.json').read_text())
    (tmp_path/'model'/'lm4lv.json').write_text(json.dumps(dict(config, llm=str(tmp_path/'other'))))
    fails(lm4lv('evaluate', '--images', photo, '--checkpoint', tmp_path/'model'), 'another language model')

def test_an_unknown_vision_module_is_one_line(lm4lv, tmp_path): fails(lm4lv('evaluate-mae', '--vision', tmp_path/'nowhere'), tmp_path/'nowhere')

# degrade

def test_degrade_is_reproducible_and_records_what_it_drew(lm4lv, photo, tmp_path):
    for out in 'ab': assert lm4lv('degrade', photo, '--task', 'denoise', '--seed', 7, '--out', tmp_path/out).returncode == 0
    assert (tmp_path/'a'/'my photo.png').read_bytes() == (tmp_path/'b'/'my photo.png').read_bytes()
    record, = json.loads((tmp_path/'a'/'degradations.json').read_text())
    assert record['task'] == 'denoise' and record['source'] == str(photo) and 0 <= record['sigma'] <= 50 / 255

def test_what_degrade_recorded_gives_the_picture_again(lm4lv, photo, tmp_path):
    from lm4lv.images.degradations import make_pairs
    from lm4lv.images.photos import open_photo, to_image, to_tensor
    lm4lv('degrade', photo, '--task', 'derain', '--out', tmp_path)
    record, = json.loads((tmp_path/'degradations.json').read_text())
    again = to_image(make_pairs(to_tensor(open_photo(photo))[None], 'derain', params=[record]).input[0])
    assert np.array_equal(np.asarray(again), np.asarray(Image.open(record['result'])))

def test_degrade_steps_over_an_unreadable_picture_and_names_it(lm4lv, photo, tmp_path):
    shutil.copy(photo, tmp_path/'b.png')
    (tmp_path/'a.jpg').write_text('no picture')
    done = lm4lv('degrade', tmp_path, '--task', 'flip', '--out', tmp_path/'out')
    assert done.returncode == 1 and str(tmp_path/'a.jpg') in done.stderr
    assert sorted(p.name for p in (tmp_path/'out').iterdir()) == ['b.png', 'degradations.json', 'items.json']

def test_degrade_does_not_overwrite_the_record_of_another_run(lm4lv, photo, tmp_path):
    shutil.copy(photo, tmp_path/'other.png')
    lm4lv('degrade', photo, '--task', 'denoise', '--out', tmp_path/'out')
    first = json.loads((tmp_path/'out'/'degradations.json').read_text())[0]
    lm4lv('degrade', tmp_path/'other.png', '--task', 'denoise', '--out', tmp_path/'out')
    assert first in json.loads((tmp_path/'out'/'degradations.json').read_text())

@pytest.mark.parametrize('overwrite', [(), ('--overwrite',)])
def test_two_pictures_never_share_one_result(lm4lv, photo, tmp_path, overwrite):
    for folder in 'ab':
        (tmp_path/folder).mkdir()
        shutil.copy(photo, tmp_path/folder/'x.png')
    done = lm4lv('degrade', tmp_path/'a', tmp_path/'b', '--task', 'flip', '--out', tmp_path/'out', *overwrite)
    assert done.returncode == 1 and str(tmp_path/'b'/'x.png') in done.stderr
    record, = json.loads((tmp_path/'out'/'degradations.json').read_text())
    assert record['source'] == str(tmp_path/'a'/'x.png')

# restore

def test_restore_keeps_the_size_and_overwrites_only_when_told(lm4lv, photo, checkpoint, tmp_path):
    def restore(*more): return lm4lv('restore', photo, '--task', 'denoise', '--out', tmp_path, '--checkpoint', checkpoint, *more)
    done, result = restore(), tmp_path/'my photo.png'
    assert done.returncode == 0 and done.stdout.strip() == str(result), done.stderr
    assert Image.open(result).size == (50, 40)
    result.write_bytes(b'mine')
    fails(restore(), result, '--overwrite')
    assert result.read_bytes() == b'mine'
    assert restore('--overwrite', '--size', 25).returncode == 0 and Image.open(result).size == (25, 20)
    assert [p.name for p in tmp_path.iterdir()] == ['my photo.png']

def test_restore_of_some_bad_files_ends_with_exit_code_1_and_of_only_bad_ones_with_2(lm4lv, photo, checkpoint, tmp_path):
    (tmp_path/'in'/'inner').mkdir(parents=True)
    shutil.copy(photo, tmp_path/'in'/'inner'/'good.png')
    (tmp_path/'in'/'bad.jpg').write_text('no picture')
    restore = lambda *more: lm4lv('restore', *more, '--task', 'denoise', '--out', tmp_path/'out', '--checkpoint', checkpoint)
    done = restore(tmp_path/'in')
    assert done.returncode == 1 and 'Traceback' not in done.stderr and str(tmp_path/'in'/'bad.jpg') in done.stderr and '1 of 2' in done.stderr
    assert done.stdout.strip() == str(tmp_path/'out'/'inner'/'good.png') and Image.open(tmp_path/'out'/'inner'/'good.png').size == (50, 40)
    fails(restore(tmp_path/'in'/'bad.jpg'), tmp_path/'in'/'bad.jpg')

def test_flip_needs_whole(lm4lv, photo, checkpoint, tmp_path):
    restore = lambda *more: lm4lv('restore', photo, '--task', 'flip', '--out', tmp_path/'out', '--checkpoint', checkpoint, *more)
    fails(restore(), "'flip'", '--whole')
    assert restore('--whole').returncode == 0 and Image.open(tmp_path/'out'/'my photo.png').size == (50, 40)

def test_each_task_finds_its_own_checkpoint(lm4lv, photo, checkpoint, tmp_path):
    "A checkpoint for denoise at the top and one for derain in a folder of that name."
    from lm4lv.vision.mae import MAE
    shutil.copytree(checkpoint, tmp_path/'all')
    base = checkpoint.parent
    LM4LV(load_llm(base/'llm'), MAE.from_pretrained(base/'mae'), ['derain'], 3, vision_name=str(base/'mae')).save_pretrained(tmp_path/'all'/'derain')
    for task in ('denoise', 'derain'):
        done = lm4lv('restore', photo, '--task', task, '--out', tmp_path/task, '--checkpoint', tmp_path/'all')
        assert done.returncode == 0, done.stderr
    assert not np.array_equal(*(np.asarray(Image.open(tmp_path/task/'my photo.png')) for task in ('denoise', 'derain')))
    done = lm4lv('evaluate', '--images', photo, '--checkpoint', tmp_path/'all', '--crops', 2, '--json', tmp_path/'a.json')
    assert done.returncode == 0 and list(json.loads((tmp_path/'a.json').read_text())['tasks']) == ['denoise', 'derain', 'flip'], done.stderr

# train, evaluate, demo

def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(lm4lv, tmp_path):
    done = lm4lv('demo', '--out', tmp_path/'demo.gif')
    assert done.returncode == 2 and 'demo.gif' in done.stderr and '.png' in done.stderr, done.stderr

def test_train_then_evaluate_and_demo_work_on_folders(lm4lv, checkpoint, tmp_path):
    photos, base = tmp_path/'photos', checkpoint.parent
    photos.mkdir()
    for i in range(3): Image.effect_noise((40, 40), 60).convert('RGB').save(photos/f'{i}.png')
    done = lm4lv('train', 'tasks=denoise,flip', 'steps=2', 'batch=2', 'warm_start=4', 'task_length=3', f'llm={base/"llm"}',
                 f'vision={base/"mae"}', '--images', photos, '--save', tmp_path/'run')
    assert done.returncode == 0 and '4 samples' in done.stdout, done.stderr
    done = lm4lv('evaluate', '--images', photos, '--checkpoint', tmp_path/'run', '--count', 3, '--crops', 1, '--json', tmp_path/'a.json')
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path/'a.json').read_text())
    assert set(report['tasks']) == {'denoise', 'flip'} and report['tasks']['flip']['n'] == 3
    done = lm4lv('demo', '--images', photos, '--checkpoint', tmp_path/'run', '--count', 3, '--out', tmp_path/'demo.png')
    assert done.returncode == 0 and 'denoise' in done.stdout and Image.open(tmp_path/'demo.png').width > 0, done.stderr

def test_train_mae_then_evaluate_mae_work_on_a_folder(lm4lv, photo, tmp_path):
    small = ['image_size=16', 'width=24', 'layers=1', 'decoder_width=24', 'decoder_layers=1', 'steps=2', 'batch=2']
    done = lm4lv('train-mae', *small, '--images', photo.parent, '--save', tmp_path/'mae')
    assert done.returncode == 0, done.stderr
    done = lm4lv('evaluate-mae', '--vision', tmp_path/'mae', '--images', photo.parent, '--crops', 4, '--json', tmp_path/'a.json')
    assert done.returncode == 0 and 'PSNR' in done.stdout, done.stderr
    assert json.loads((tmp_path/'a.json').read_text())['n'] == 4

def test_a_dry_run_prints_the_plan_and_fetches_nothing(lm4lv):
    done = lm4lv('train', '--preset', 'paper-denoise', '--dry-run', '--gpus', '4')
    assert done.returncode == 0 and '7,076,392,192' in done.stdout and '4 x a100' in done.stdout

def test_an_unknown_preset_is_one_clear_line(lm4lv): fails(lm4lv('train', '--preset', 'paper-dehaze'), 'paper-dehaze', 'denoise')

def test_degraded_pairs_are_listed_as_conversations(lm4lv, photo, tmp_path):
    from lm4lv.training.datasets import ItemPhotos
    assert lm4lv('degrade', photo, '--task', 'denoise', '--out', tmp_path/'noisy').returncode == 0
    data = ItemPhotos(tmp_path/'noisy'/'items.json', size=16)
    degraded, clean = data[0]['images']
    assert data[0]['item']['task'] == 'denoise' and (degraded - clean).abs().max() > 0
