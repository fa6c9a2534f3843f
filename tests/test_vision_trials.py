import json
import pytest
from families import write_llm
from lm4lv.ablations.vision_trials import add_trial, trials_table, main, read_trial, run_trial

ROW = dict(name='a', image_size=32, patch_size=8, width=192, depth=4, tokens=17, objective='l1', pretrain_samples=1, decoder_samples=2,
           seconds=3., reconstruction_psnr=30., ssim=.9)

def test_settings_reach_their_parts_and_no_others():
    trial = read_trial(['name=x', 'mae.width=96', 'pretrain.unmasked=1', 'decoder.perceptual=.2', 'adapters.batch=4'])
    assert (trial.name, trial.pretrain.width, trial.decoder.width, trial.pretrain.unmasked, trial.decoder.unmasked) == ('x', 96, 96, 1.0, .5)
    assert (trial.decoder.perceptual, trial.pretrain.perceptual, trial.adapters.fit.batch, trial.pretrain.fit.batch) == (.2, 0, 4, 128)

@pytest.mark.parametrize('bad', ['nose.width=1', 'mae.nose=1', 'nose=1', 'mae.width=wide', 'name', 'mae.width'])
def test_an_unknown_setting_is_one_clear_line(bad):
    with pytest.raises(ValueError) as error: read_trial([bad])
    assert '\n' not in str(error.value) and bad.split('=')[0].split('.')[-1] in str(error.value)

def test_a_trial_takes_the_place_of_the_older_one_of_its_name(tmp_path):
    path = tmp_path/'trials.json'
    for row in (ROW, dict(ROW, name='b'), dict(ROW, ssim=.5)): trials = add_trial(path, row)
    assert [(t['name'], t['ssim']) for t in trials] == [('b', .9), ('a', .5)] == [(t['name'], t['ssim']) for t in json.loads(path.read_text())['trials']]
    assert [p.name for p in tmp_path.iterdir()] == ['trials.json']

@pytest.mark.parametrize('text', ['{"trials": 3}', '[]', '{"trials": ['])
def test_a_file_that_holds_something_else_is_left_as_it_is(tmp_path, text):
    (tmp_path/'a.json').write_text(text)
    with pytest.raises(ValueError, match='a.json'): add_trial(tmp_path/'a.json', ROW)
    assert (tmp_path/'a.json').read_text() == text

def test_other_keys_of_the_file_are_kept(tmp_path):
    (tmp_path/'a.json').write_text('{"note": "mine"}')
    add_trial(tmp_path/'a.json', ROW)
    assert json.loads((tmp_path/'a.json').read_text())['note'] == 'mine'

def test_a_table_has_a_row_for_each_trial_measured_or_not():
    full = dict(ROW, name='b', adapter_samples=16, adapter_seconds=5., degraded_psnr=22., mae_r_psnr=21., lm4lv_psnr=20.5, n=8)
    lines = trials_table([ROW, full]).splitlines()
    assert len(lines) == 4 and len({line.count('|') for line in lines}) == 1 and '20.50' in lines[3] and lines[2].startswith('| a ')

def test_a_trial_trains_measures_records_and_resumes(tmp_path, tokenizer):
    write_llm('llama', tokenizer, tmp_path/'llm')
    settings = ['name=t', f'out={tmp_path}', 'pretrain_seconds=0.2', 'decoder_seconds=0.2', 'adapter_seconds=0.2', 'count=6', 'crops=1', 'mae.image_size=16',
                'mae.width=16', 'mae.heads=2', 'mae.layers=1', 'mae.decoder_width=16', 'mae.decoder_layers=1', 'mae.batch=4', 'adapters.batch=2',
                'adapters.task_length=3', 'adapters.warm_start=0', f'adapters.llm={tmp_path/"llm"}']
    row = run_trial(read_trial(settings), tmp_path/'trials.json', progress=False)
    assert json.loads((tmp_path/'trials.json').read_text())['trials'][0].keys() == row.keys() >= ROW.keys() | {'adapter_samples', 'adapter_seconds', 'degraded_psnr', 'mae_r_psnr', 'lm4lv_psnr', 'n'}
    assert row['n'] == 6 and row['tokens'] == 5 and row['seconds'] >= .4 and row['adapter_seconds'] >= .2
    assert run_trial(read_trial(settings), progress=False) == row # finished parts are not trained again
    judged = run_trial(read_trial([*settings, 'name=judged', f'vision={tmp_path/"t"/"mae"}']), progress=False)
    assert judged['reconstruction_psnr'] == row['reconstruction_psnr'] and judged['objective'] == 'as it was'

def test_a_vision_module_may_be_judged_alone_from_a_start_at_random(tmp_path):
    settings = ['name=alone', f'out={tmp_path}', 'pretrain_seconds=0.2', 'decoder_seconds=0.2', 'adapter_seconds=0', 'count=6', 'crops=1', 'mae.image_size=16',
                'mae.width=16', 'mae.heads=2', 'mae.layers=1', 'mae.decoder_width=16', 'mae.decoder_layers=1', 'mae.batch=4', 'pretrain.pca=false']
    row = run_trial(read_trial(settings), tmp_path/'trials.json', progress=False)
    assert row['n'] == 6 and 'adapter_samples' not in row and 'random start' in row['objective'] and 'random start' in trials_table([row])

@pytest.mark.parametrize('arguments', [[], ['name=x'], ['a.json', 'nose=1']])
def test_a_wrong_command_stops_with_one_line(arguments):
    with pytest.raises(SystemExit) as stop: main(arguments)
    assert isinstance(stop.value.code, str) and '\n' not in stop.value.code
