import itertools, json, os, random, signal, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
import psutil
import pytest
import torch
from safetensors.torch import load_file
from lm4lv.core.io import checkpoints, earlier_results, load_checkpoint, save_checkpoint, save_snapshot, write_json
from lm4lv.core.loop import FitConfig, NonFiniteLoss, StepSampler, fit, learning_rate, smooth
from fresh import torchrun
from loop_child import Numbers, loss_fn, network, run

CHILD = str(Path(__file__).with_name('loop_child.py'))

def config(**more): return FitConfig(**dict(dict(steps=30, batch=8, lr=1e-2, warmup=5, log_every=5, save_every=5), **more))

def same(a, b, **close):
    for key, value in a.state_dict().items():
        if close: torch.testing.assert_close(value, b.state_dict()[key], **close)
        else: assert torch.equal(value, b.state_dict()[key]), key

def losses(log): return [{k: v for k, v in entry.items() if k != 'seconds'} for entry in log]

def stop_at(step):
    def stop(entry):
        if entry['step'] >= step: raise KeyboardInterrupt
    return stop

def run_until(kind, settings, step):
    with pytest.raises(KeyboardInterrupt): run(kind, settings, on_log=stop_at(step))

# order and rate

@pytest.mark.parametrize('length,batch', [(10, 4), (7, 7), (3, 8), (1, 5), (100, 16)])
def test_every_round_is_a_permutation_of_all_samples(length, batch):
    steps = -(-3 * length // batch)
    indices = sum(StepSampler(length, batch, steps), [])
    for turn in range(3):
        assert sorted(indices[turn * length:(turn + 1) * length]) == list(range(turn * length, (turn + 1) * length))

def test_a_sampler_that_starts_late_goes_on_where_the_other_stopped():
    whole = list(StepSampler(10, 4, 20, seed=3))
    for start in (0, 1, 7, 20): assert list(StepSampler(10, 4, 20, seed=3, start=start)) == whole[start:]

def test_the_order_follows_the_seed_and_changes_between_rounds():
    a, b, c = (sum(StepSampler(50, 10, 10, seed=s), []) for s in (0, 0, 1))
    assert a == b != c
    assert a[:50] != [i - 50 for i in a[50:]]

def test_the_length_of_a_sampler_is_what_it_yields():
    sampler = StepSampler(10, 4, 6, start=2)
    assert len(sampler) == len(list(sampler)) == 4

def test_the_learning_rate_rises_then_falls_to_its_end():
    c = FitConfig(steps=100, warmup=10, lr=1.0, final_lr=0.1)
    rates = [learning_rate(s, c) for s in range(101)]
    assert rates[0] == 0.1 and max(rates) == rates[9] == rates[10] == 1.0 and abs(rates[100] - 0.1) < 1e-12
    assert all(a > b for a, b in zip(rates[10:], rates[11:]))

def test_the_learning_rate_is_that_of_transformers_cosine_schedule():
    from transformers import get_cosine_schedule_with_warmup
    c = FitConfig(steps=50, warmup=10, lr=2.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 10, 50)
    for step in range(50):
        # during warm-up theirs is one step late, since it begins at zero
        expected = schedule.get_last_lr()[0] + (2.0 / 10 if step < 10 else 0)
        assert abs(learning_rate(step, c) - expected) < 1e-9
        optimizer.step(); schedule.step()

def test_fit_equals_a_plain_loop_with_adamw():
    c = config(steps=20)
    model, _ = run('plain', c)
    plain, data = network('plain'), Numbers()
    optimizer = torch.optim.AdamW(plain.parameters(), c.lr, c.betas, weight_decay=0)
    for step, indices in enumerate(StepSampler(32, 8, 20)):
        loss, _ = loss_fn(plain, torch.utils.data.default_collate([data[i] for i in indices]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.param_groups[0]['lr'] = learning_rate(step, c)
        optimizer.step(); optimizer.zero_grad()
    same(model, plain, atol=1e-6, rtol=1e-5)

# resuming

@pytest.fixture(scope='module')
def child(tmp_path_factory):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS='1', ACCELERATE_USE_CPU='true')
    def start(kind, out, result, *settings, launcher=()):
        return subprocess.Popen([sys.executable, *launcher, CHILD, kind, str(out), str(result), *settings],
                                env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return start

def finish(process):
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said

def test_a_run_killed_at_a_random_moment_ends_with_the_same_bits(child, tmp_path):
    whole, killed = tmp_path/'whole', tmp_path/'killed'
    finish(child('dropout', whole, tmp_path/'a.safetensors'))
    process = child('dropout', killed, tmp_path/'b.safetensors')
    while not checkpoints(killed):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    time.sleep(wait := random.random() * 0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    reached = json.loads((checkpoints(killed)[-1]/'state.json').read_text())['step']
    print(f'killed {wait:.3f} s after the first checkpoint, at step {reached}')
    finish(child('dropout', killed, tmp_path/'b.safetensors'))
    assert reached < 100
    a, b = load_file(tmp_path/'a.safetensors'), load_file(tmp_path/'b.safetensors')
    assert all(torch.equal(a[k], b[k]) for k in a)
    logs = [losses(json.loads((tmp_path/f'{n}.safetensors.json').read_text())) for n in 'ab']
    assert logs[0] == logs[1]

@pytest.mark.parametrize('stop', [5, 10, 25])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path, stop):
    whole, log = run('dropout', config())
    run_until('dropout', config(out=str(tmp_path)), stop + 1)
    again, log_again = run('dropout', config(out=str(tmp_path)))
    same(whole, again)
    assert losses(log) == losses(log_again)

def test_a_stopped_run_with_accumulation_ends_with_the_same_bits(tmp_path):
    whole, log = run('dropout', config(accumulate=2))
    run_until('dropout', config(out=str(tmp_path), accumulate=2), 15)
    again, log_again = run('dropout', config(out=str(tmp_path), accumulate=2))
    same(whole, again)
    assert losses(log) == losses(log_again)

def test_a_log_is_the_same_when_checkpoints_fall_between_its_entries(tmp_path):
    settings = dict(save_every=7, log_every=5)
    _, log = run('plain', config(**settings))
    run_until('plain', config(out=str(tmp_path), **settings), 15)
    assert losses(run('plain', config(out=str(tmp_path), **settings))[1]) == losses(log)

def test_a_parameter_that_is_used_now_and_then_resumes_with_the_same_bits(tmp_path):
    settings = dict(batch=1, log_every=1, save_every=3)
    whole, _ = run('bank', config(**settings))
    run_until('bank', config(out=str(tmp_path), **settings), 10)
    again, _ = run('bank', config(out=str(tmp_path), **settings))
    same(whole, again)

def test_a_finished_run_is_not_trained_again(tmp_path):
    first, log = run('plain', config(out=str(tmp_path)))
    again, log_again = run('plain', config(out=str(tmp_path)))
    same(first, again)
    assert log == log_again

def test_a_finished_run_with_fewer_steps_is_not_trained_again(tmp_path):
    first, log = run('plain', config(out=str(tmp_path)))
    again, log_again = run('plain', config(out=str(tmp_path), steps=10))
    same(first, again)
    assert log == log_again

def test_workers_that_load_data_change_nothing():
    same(run('plain', config(steps=10))[0], run('plain', config(steps=10, workers=1))[0])

# checkpoints

def test_only_the_newest_checkpoints_are_kept_and_all_are_whole(tmp_path):
    run('plain', config(out=str(tmp_path), keep=2))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ['step-00000025', 'step-00000030']
    for folder in checkpoints(tmp_path): assert load_checkpoint(folder, network('plain'))[0] == int(folder.name[5:])

def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    from lm4lv.core import io
    def full(*args, **kwargs): raise OSError('no space left on device')
    monkeypatch.setattr(io, 'write_json', full) # called after the tensors: the checkpoint is half written
    with pytest.raises(OSError, match='no space'): run('plain', config(out=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []

@pytest.mark.skipif(os.name == 'nt', reason='no such permissions')
def test_others_may_read_what_they_may_read_of_any_other_file(tmp_path):
    run('plain', config(steps=5, snapshot_every=5, out=str(tmp_path/'run')))
    (tmp_path/'plain').write_text('')
    written = [p for p in (tmp_path/'run').rglob('*') if p.is_file()]
    assert len(written) == 4 and {p.stat().st_mode for p in written} == {(tmp_path/'plain').stat().st_mode}

def test_the_scale_of_a_loss_in_float16_is_kept(tmp_path):
    module, scaler = network('plain'), torch.amp.GradScaler('cpu', init_scale=1024.)
    optimizer = torch.optim.SGD(module.parameters(), 1.)
    scaler.scale(next(module.parameters()).sum() * torch.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    saved, new = save_checkpoint(tmp_path, module, optimizer, 1, [], config(), scaler=scaler), torch.amp.GradScaler('cpu', init_scale=7.)
    load_checkpoint(saved, network('plain'), scaler=new)
    assert new.state_dict() == scaler.state_dict() and new.state_dict()['scale'] == 512

def test_what_a_killed_process_of_the_same_number_left_does_no_harm(tmp_path):
    (tmp_path/f'.part-{os.getpid()}').mkdir()
    (tmp_path/f'.part-{os.getpid()}'/'state.safetensors').write_bytes(b'half')
    run('plain', config(out=str(tmp_path)))
    assert [p.name for p in checkpoints(tmp_path)] == ['step-00000025', 'step-00000030']

def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path/'.part-1').mkdir()
    run('plain', config(out=str(tmp_path)))
    assert not (tmp_path/'.part-1').exists()

def test_a_checkpoint_of_another_shape_is_one_clear_error(tmp_path):
    run('plain', config(out=str(tmp_path)))
    with pytest.raises(ValueError) as error: fit(torch.nn.Linear(4, 1), Numbers(), loss_fn, config(out=str(tmp_path)), progress=False)
    assert '\n' not in str(error.value) and 'made for another model' in str(error.value) and str(tmp_path) in str(error.value)

@pytest.mark.parametrize('file', ['state.safetensors', 'state.json'])
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path, file):
    run('plain', config(out=str(tmp_path)))
    path = checkpoints(tmp_path)[-1]/file
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError) as error: run('plain', config(out=str(tmp_path)))
    assert '\n' not in str(error.value) and str(path.parent) in str(error.value)

def test_json_is_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path/'a.json', dict(a=1))
    with pytest.raises(TypeError): write_json(tmp_path/'a.json', dict(a=object()))
    assert json.loads((tmp_path/'a.json').read_text()) == dict(a=1)
    assert [p.name for p in tmp_path.iterdir()] == ['a.json']

def test_earlier_results_go_on_only_with_the_settings_that_they_were_measured_with(tmp_path):
    path = tmp_path/'r.json'
    settings = dict(seed=0, scale=(.1, .3), name='a')
    assert earlier_results(path, settings, rows={}) == dict(settings=dict(settings, scale=[.1, .3]), rows={}) and not path.exists()
    write_json(path, dict(settings=settings, rows=dict(one=1)))
    assert earlier_results(path, settings, rows={})['rows'] == dict(one=1)
    with pytest.raises(ValueError, match=r"r\.json.*other settings \(seed: 0 there, 2 here; more: None there, 1 here\)"):
        earlier_results(path, dict(settings, seed=2, more=1))
    with pytest.raises(ValueError, match='name: .a. there, None here'): earlier_results(path, dict(seed=0, scale=(.1, .3)))
    for damaged in ('{"settings"', '[]', '{"rows": {}}', '{"settings": 3}'):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r'r\.json: (no results in JSON|results without settings)'): earlier_results(path, settings)

# trouble

class Poisoned(Numbers):
    def __getitem__(self, i): return dict(super().__getitem__(i), y=torch.tensor(float('nan') if i == 40 else 0.))

def test_a_loss_that_is_no_number_stops_the_run_and_saves_the_batch(tmp_path):
    with pytest.raises(NonFiniteLoss) as error:
        fit(network('plain'), Poisoned(), loss_fn, config(out=str(tmp_path)), progress=False)
    file, = tmp_path.glob('nonfinite-*.safetensors')
    assert str(file) in str(error.value) and '\n' not in str(error.value)
    assert load_file(file)['y'].isnan().sum() == 1

def test_a_loss_that_is_no_number_leaves_the_weights_finite():
    model = network('plain')
    with pytest.raises(NonFiniteLoss, match='set `out`'): fit(model, Poisoned(), loss_fn, config(), progress=False)
    assert all(p.isfinite().all() for p in model.parameters())

# accumulation and processes

def test_accumulation_gives_nearly_the_same_weights():
    same(run('plain', config())[0], run('plain', config(accumulate=4))[0], atol=1e-5, rtol=1e-4)

def test_a_batch_that_cannot_be_split_evenly_is_refused():
    with pytest.raises(ValueError, match='accumulate'): run('plain', config(batch=8, accumulate=3))

@pytest.mark.parametrize('change', [dict(steps=0), dict(batch=0), dict(log_every=0), dict(keep=0)])
def test_a_setting_that_makes_no_sense_is_refused_by_name(change, tmp_path):
    with pytest.raises(ValueError, match=next(iter(change))): run('plain', config(out=str(tmp_path), **change))

def two_processes(child, *arguments): return child(*arguments, launcher=torchrun())

@pytest.fixture(scope='module')
def alone_and_together(child, tmp_path_factory): # some 15 s: three processes import torch
    folder, settings = tmp_path_factory.mktemp('ddp'), ['steps=20']
    finish(two_processes(child, 'plain', folder/'out', folder/'two.safetensors', *settings))
    model, log = run('plain', config(steps=20))
    return model.state_dict(), log, load_file(folder/'two.safetensors'), json.loads((folder/'two.safetensors.json').read_text())

def test_two_processes_give_the_same_weights_as_one(alone_and_together):
    one, _, two, _ = alone_and_together
    for key in one: torch.testing.assert_close(one[key], two[key], atol=1e-5, rtol=1e-5)

def test_two_processes_log_the_loss_of_the_whole_batch(alone_and_together):
    _, one, _, two = alone_and_together
    for a, b in zip(one, two): assert abs(a['loss'] - b['loss']) < 1e-4 * a['loss']

def test_two_processes_train_parameters_that_not_every_sample_uses(child, tmp_path):
    finish(two_processes(child, 'bank', tmp_path/'out', tmp_path/'two.safetensors', 'steps=10', 'batch=2'))

def test_the_running_mean_of_a_constant_is_that_constant(): assert smooth([2.0] * 50) == [2.0] * 50

def test_two_processes_killed_end_with_the_same_bits(child, tmp_path):
    finish(two_processes(child, 'dropout', tmp_path/'whole', tmp_path/'a.safetensors'))
    process = two_processes(child, 'dropout', tmp_path/'killed', tmp_path/'b.safetensors')
    while not checkpoints(tmp_path/'killed'):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    below = psutil.Process(process.pid).children()
    assert len(below) == 2
    for one in below: one.kill()
    process.kill()
    process.communicate()
    assert json.loads((checkpoints(tmp_path/'killed')[-1]/'state.json').read_text())['step'] < 100
    finish(two_processes(child, 'dropout', tmp_path/'killed', tmp_path/'b.safetensors'))
    a, b = load_file(tmp_path/'a.safetensors'), load_file(tmp_path/'b.safetensors')
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert losses(json.loads((tmp_path/'a.safetensors.json').read_text())) == losses(json.loads((tmp_path/'b.safetensors.json').read_text()))

def test_two_processes_stop_together_when_one_has_a_loss_that_is_no_number(child, tmp_path):
    process = two_processes(child, 'poisoned', tmp_path/'out', tmp_path/'two.safetensors', 'steps=20')
    said, _ = process.communicate(timeout=600)
    assert process.returncode and 'the batch is in' in said and 'another process' in said
    assert len(list((tmp_path/'out').glob('nonfinite-*.safetensors'))) == 1

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='file size limits are those of POSIX')
def test_a_full_disk_loses_nothing(child, tmp_path):
    settings = ['log_every=1', 'save_every=5']
    finish(child('plain', tmp_path/'whole', tmp_path/'a.safetensors', *settings))
    limited = 'import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")'
    process = child('plain', tmp_path/'full', tmp_path/'b.safetensors', *settings, launcher=['-c', limited])
    said, _ = process.communicate(timeout=600)
    assert process.returncode and 'could not be written' in said and 'goes on from the previous one' in said
    kept = checkpoints(tmp_path/'full')
    assert kept and [p for p in (tmp_path/'full').iterdir() if p not in kept] == []
    load_checkpoint(kept[-1], network('plain'))
    finish(child('plain', tmp_path/'full', tmp_path/'b.safetensors', *settings))
    a, b = load_file(tmp_path/'a.safetensors'), load_file(tmp_path/'b.safetensors')
    assert all(torch.equal(a[k], b[k]) for k in a)

def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path/'file').write_text('x')
    with pytest.raises(OSError) as error: run('plain', config(out=str(tmp_path/'file'/'out')))
    assert str(tmp_path/'file'/'out') in str(error.value) and 'choose another out' in str(error.value)

# trackers

def test_a_tracker_that_is_not_installed_is_said_aloud():
    with pytest.raises(ValueError, match="'clearestml' is not installed.*pip install"): run('plain', config(tracker='clearestml'))

def test_tensorboard_gets_every_entry_of_the_log(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    _, log = run('plain', config(tracker='tensorboard', out=str(tmp_path)))
    file, = [f for f in tmp_path.rglob('events*') if EventAccumulator(str(f)).Reload().Tags()['scalars']]
    logged = EventAccumulator(str(file)).Reload().Scalars('loss')
    assert [(e.step, round(e.value, 5)) for e in logged] == [(e['step'], round(e['loss'], 5)) for e in log]

# snapshots

def snapshots(out): return sorted((out/'snapshots').glob('*'))

def test_no_snapshot_is_kept_unless_asked_for(tmp_path):
    run('plain', config(out=str(tmp_path)))
    assert not (tmp_path/'snapshots').exists()

def test_snapshots_are_of_the_start_of_each_so_many_steps_and_of_the_end(tmp_path):
    model, _ = run('plain', config(steps=25, snapshot_every=10, out=str(tmp_path)))
    assert [p.name for p in snapshots(tmp_path)] == [f'samples-{8 * s:08d}.safetensors' for s in (0, 10, 20, 25)]
    first, last = load_file(snapshots(tmp_path)[0]), load_file(snapshots(tmp_path)[-1])
    for held, network_ in ((first, network('plain')), (last, model)):
        for key, value in network_.state_dict().items(): assert torch.equal(held[key], value.half()), key

@pytest.mark.parametrize('every', [3, 10])
def test_a_stopped_run_leaves_the_same_snapshots_and_ends_with_the_same_bits(tmp_path, every):
    whole, stopped = (config(snapshot_every=every, out=str(tmp_path/n)) for n in ('whole', 'stopped'))
    a, _ = run('dropout', whole)
    run_until('dropout', stopped, 15)
    b, _ = run('dropout', stopped)
    same(a, b); same(a, run('dropout', config())[0])
    assert [p.name for p in snapshots(tmp_path/'whole')] == [p.name for p in snapshots(tmp_path/'stopped')]
    for one, other in zip(snapshots(tmp_path/'whole'), snapshots(tmp_path/'stopped')): assert one.read_bytes() == other.read_bytes()

def test_only_the_named_weights_go_into_a_snapshot(tmp_path):
    run('plain', config(steps=5, snapshot_every=5, out=str(tmp_path)), snapshot_names=('0.', '2.b'))
    assert set(load_file(snapshots(tmp_path)[-1])) == {'0.weight', '0.bias', '2.bias'}

def test_a_snapshot_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from lm4lv.core import io
    save_snapshot(tmp_path, network('plain'), 8)
    written = snapshots(tmp_path)[0].read_bytes()
    def full(*args, **kwargs): raise OSError('no space left on device')
    monkeypatch.setattr(io.os, 'replace', full)
    for samples in (8, 16):
        with pytest.raises(OSError, match=f'samples-{samples:08d}.*no space.*snapshot_every=0'): save_snapshot(tmp_path, network('plain'), samples)
    assert [p.read_bytes() for p in snapshots(tmp_path)] == [written]

def test_what_a_killed_process_left_of_a_snapshot_is_removed(tmp_path):
    save_snapshot(tmp_path, network('plain'), 0)
    (tmp_path/'snapshots'/'.samples-00000004.safetensors.1').write_bytes(b'half')
    run('plain', config(steps=5, out=str(tmp_path)))
    assert [p.name for p in snapshots(tmp_path)] == ['samples-00000000.safetensors']

def test_snapshots_that_cannot_be_are_refused_before_training():
    with pytest.raises(ValueError, match='snapshot_every=-1'): run('plain', config(snapshot_every=-1))
    with pytest.raises(ValueError, match='snapshot_every.*out'): run('plain', config(snapshot_every=5))
# a budget of seconds

@pytest.fixture
def clock(monkeypatch):
    "A clock for training that a busy machine cannot hurry: 10 ms pass each time somebody looks at it."
    looks = itertools.count()
    monkeypatch.setattr('lm4lv.core.loop.time', SimpleNamespace(perf_counter=lambda: next(looks) / 100))

def test_a_timed_run_stops_with_its_time_and_its_rate_ends_at_zero(clock):
    log = run('plain', config(seconds=0.6, steps=1, log_every=1))[1]
    assert log[-1]['seconds'] >= 0.6 > log[-2]['seconds'] and len(log) == 60
    assert log[-1]['lr'] < 0.1 * max(e['lr'] for e in log) and [e['step'] for e in log] == list(range(1, len(log) + 1))

def test_a_timed_run_goes_on_with_the_time_that_is_left(tmp_path, clock):
    settings = dict(seconds=1.0, out=str(tmp_path), save_every=3, log_every=7)
    run_until('plain', config(**settings), 21)
    kept = json.loads((checkpoints(tmp_path)[-1]/'state.json').read_text())
    assert kept['log'][-1]['step'] == kept['step'] # a checkpoint knows its own time
    _, log = run('plain', config(**settings))
    assert log[:len(kept['log'])] == kept['log'] and log[-1]['step'] == 100
    again, log_again = run('plain', config(**settings))
    assert log_again == log

@pytest.mark.parametrize('seconds', [-1.0, float('nan')])
def test_a_budget_below_zero_is_refused(seconds):
    with pytest.raises(ValueError, match='seconds'): run('plain', config(seconds=seconds))

def test_two_timed_processes_stop_at_the_same_step(child, tmp_path):
    finish(two_processes(child, 'plain', tmp_path/'out', tmp_path/'two.safetensors', 'seconds=0.5', 'log_every=1'))
    log = json.loads((tmp_path/'two.safetensors.json').read_text())
    assert log[-1]['seconds'] >= 0.5 and all(entry['seconds'] < 0.5 for entry in log[:-1]) # on a busy machine the first step may be the last
