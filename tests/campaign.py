"""A campaign of bad input: strange pictures, bad settings and checkpoints, a full disk, kills at random moments, two writers.

    python tests/campaign.py --json nbs/results/campaign.json

What it wants: nothing but clean lines, nothing lost, nothing silently wrong. Each fault is printed, and counted in the JSON file;
tests/test_campaign.py runs a small version.
"""
import argparse, contextlib, hashlib, io, json, os, random, shutil, struct, sys, tempfile, time, traceback
from pathlib import Path

os.environ.update(OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1', ACCELERATE_USE_CPU='true')
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
import fresh

FOREVER = 600 # seconds; a command that takes longer hangs


# what a command is started with, and what is wrong with how it ended

def limited(limit: int): # bytes that a file may have
    "The command on a disk that is full for large files: EFBIG where a full disk says ENOSPC."
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    from lm4lv.cli import main
    main()


def lm4lv(*arguments, env=None, limit=None):
    "The command line in a process of its own."
    where = ('campaign', 'limited') if limit else ('lm4lv.cli', 'main')
    options = dict(limit=limit) if limit else {}
    try: return fresh.call(*where, arguments, tempfile.gettempdir(), dict(os.environ, **(env or {})), FOREVER, **options)
    except fresh.TimeoutExpired: return fresh.CompletedProcess(arguments, 'none', '', f'Traceback: still running after {FOREVER} s')


def inside(*arguments):
    "The same within this process, which saves the seconds of a start."
    import signal, warnings
    from unittest.mock import patch
    from lm4lv.cli import main
    def late(*_): raise TimeoutError(f'still running after {FOREVER} s')
    out, err, code = io.StringIO(), io.StringIO(), 0
    signal.signal(signal.SIGALRM, late)
    signal.alarm(FOREVER)
    with patch.object(sys, 'argv', ['lm4lv', *map(str, arguments)]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), \
            warnings.catch_warnings():
        try: main()
        except SystemExit as stop: code = stop.code or 0
        except BaseException:
            traceback.print_exc(file=err)
            code = 1
        finally: signal.alarm(0)
    return fresh.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def complaints(done, codes=(0, 1, 2)):
    "What is not clean about the end of a command."
    text = done.stdout + done.stderr
    found = [] if done.returncode in codes else [f'exit code {done.returncode}']
    if 'Traceback' in text: found.append('traceback: ' + text.strip().splitlines()[-1][:200])
    if 'Warning' in text: found.append('warning: ' + next(l for l in text.splitlines() if 'Warning' in l)[:200])
    if done.returncode == 2 and not done.stderr.strip(): found.append('fails without a word')
    return found


def refused(done):
    "The same for what must be refused: exit code 2 and one line that says error."
    said = [l for l in done.stderr.splitlines() if 'error' in l.lower()]
    return complaints(done, (2,)) + ([] if len(said) == 1 else [f'{len(said)} lines say error'])


class Part:
    "Counts of one part of the campaign, and its faults."
    def __init__(self, name):
        self.name, self.counts, self.faults, self.start = name, {}, [], time.time()

    def add(self, key, n=1): self.counts[key] = self.counts.get(key, 0) + n

    def judge(self, what, faults):
        "Count a case, and print what is wrong with it."
        self.add('cases')
        self.faults += [f'{what}: {fault}' for fault in faults]
        for fault in faults: print(f'FAULT {self.name}: {what}: {fault}', flush=True)

    def report(self): return dict(self.counts, faults=self.faults, seconds=round(time.time() - self.start))


def hashes(folder):
    "Every file of a folder and what it holds; links and pipes are not followed."
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob('*')) if p.is_file() and not p.is_symlink()}


# strange pictures

def _noise(rng, mode='RGB', size=None):
    from PIL import Image
    size = size or (rng.randint(9, 60), rng.randint(9, 60))
    return Image.effect_noise(size, 60).convert(mode)

def _bytes(image, kind='PNG', **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()

def _cut(rng, kind):
    data = _bytes(_noise(rng), kind)
    return data[:rng.randint(0, len(data) - 1)]

def _flipped(rng, kind):
    data = bytearray(_bytes(_noise(rng), kind))
    for _ in range(rng.randint(1, 8)): data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)

def _exif(rng):
    "EXIF with a wrong orientation, a wrong type, or bytes that are none."
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = rng.choice([0, 3, 6, 8, 9, 255, 65535])
    exif[0x010F] = rng.choice(['camera', 'x' * 3000, '\0\0'])
    data = bytearray(exif.tobytes())
    for _ in range(rng.randint(0, 6)): data[rng.randrange(6, len(data))] = rng.randrange(256)
    return _bytes(_noise(rng), rng.choice(['JPEG', 'PNG', 'WEBP']), exif=bytes(data))

def _bomb(rng):
    "A header that promises more pixels than anybody has."
    import zlib
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    side = rng.choice([60_000, 2**31 - 1, 0])
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)) + chunk(b'IEND', b'')

KINDS = {
    'plain': lambda rng: _bytes(_noise(rng)), 'jpeg': lambda rng: _bytes(_noise(rng), 'JPEG'), 'webp': lambda rng: _bytes(_noise(rng), 'WEBP'),
    'tiff': lambda rng: _bytes(_noise(rng), 'TIFF'), 'bmp': lambda rng: _bytes(_noise(rng), 'BMP'), 'grey': lambda rng: _bytes(_noise(rng, 'L')),
    'palette': lambda rng: _bytes(_noise(rng, 'P'), transparency=rng.randrange(256)), 'alpha': lambda rng: _bytes(_noise(rng, rng.choice(['RGBA', 'LA']))),
    'bilevel': lambda rng: _bytes(_noise(rng, '1')), 'deep': lambda rng: _bytes(_noise(rng, 'I;16') if rng.random() < .5 else _noise(rng, 'I')),
    'inks': lambda rng: _bytes(_noise(rng, 'CMYK'), rng.choice(['JPEG', 'TIFF'])), 'floats': lambda rng: _bytes(_noise(rng, 'F'), 'TIFF'),
    'gif': lambda rng: _bytes(_noise(rng, 'P'), 'GIF', save_all=True, append_images=[_noise(rng, 'P')]), 'empty': lambda rng: b'',
    'text': lambda rng: b'no picture', 'cut png': lambda rng: _cut(rng, 'PNG'), 'cut jpeg': lambda rng: _cut(rng, 'JPEG'),
    'cut tiff': lambda rng: _cut(rng, 'TIFF'), 'cut webp': lambda rng: _cut(rng, 'WEBP'), 'flipped png': lambda rng: _flipped(rng, 'PNG'),
    'flipped jpeg': lambda rng: _flipped(rng, 'JPEG'), 'flipped tiff': lambda rng: _flipped(rng, 'TIFF'), 'flipped gif': lambda rng: _flipped(rng, 'GIF'),
    'exif': _exif, 'bomb': _bomb, 'tiny': lambda rng: _bytes(_noise(rng, size=(rng.randint(1, 8), rng.randint(1, 8)))),
    'thin': lambda rng: _bytes(_noise(rng, size=rng.choice([(8, 700), (700, 8), (1, 500)]))), 'profile': lambda rng: _bytes(_noise(rng), icc_profile=rng.randbytes(200)),
    'bytes': lambda rng: rng.randbytes(rng.randint(1, 2000)), 'wrong name': lambda rng: _bytes(_noise(rng), rng.choice(['JPEG', 'BMP', 'GIF']))}
SUFFIX = dict(jpeg='.jpg', webp='.webp', tiff='.tif', bmp='.bmp', gif='.gif', inks='.tif', floats='.tiff', exif='.jpg')
NAMES = ('ä ö', "it's", '-rf', '$HOME', 'a;b', '%s', '{x}', 'tab\there', 'line\nbreak', 'x' * 240, '.hidden', '[b]', 'ümlaut' * 9)

def draw_pictures(folder, count, seed=0):
    "Strange pictures of all kinds, and names that are strange as well."
    rng, names = random.Random(seed), iter(NAMES)
    for i in range(count):
        kind = list(KINDS)[i % len(KINDS)]
        suffix = SUFFIX.get(kind) or SUFFIX.get(kind.split()[-1]) or '.png'
        inner = folder/rng.choice(['.', 'inner', 'inner/deep'])
        inner.mkdir(parents=True, exist_ok=True)
        stem = next(names, None) if i % 5 == 0 else None
        path = inner/f'{stem or f"{kind} {i}"}{suffix}'
        try: path.write_bytes(KINDS[kind](rng))
        except OSError: path.with_name(f'{i}.png').write_bytes(b'no such name here')
    (folder/'loop a.png').symlink_to(folder/'loop b.png'); (folder/'loop b.png').symlink_to(folder/'loop a.png')
    (folder/'nowhere.png').symlink_to(folder/'gone.png'); (folder/'round').symlink_to(folder)
    (folder/'folder.png').mkdir()

def named(text, path):
    "Is a file's name in what was said, whatever became of its white space?"
    squeeze = lambda s: ''.join(s.split())
    return squeeze(path.name) in squeeze(text)

def pictures(base, count, seed=0):
    "Strange pictures through restore, degrade, evaluate, answer and score."
    from PIL import Image
    part, folder = Part('pictures'), base/'strange'
    draw_pictures(folder, count, seed)
    before = hashes(folder)
    part.add('pictures', len(before))
    commands = {'restore': ['restore', folder, '--task', 'denoise', '--checkpoint', base/'model'], 'degrade': ['degrade', folder, '--task', 'denoise']}
    for name, command in commands.items():
        out = base/f'out-{name}'
        done = lm4lv(*command, '--out', out)
        results = [p for p in out.rglob('*') if p.is_file() and p.suffix != '.json']
        faults = complaints(done, (0, 1))
        for path in results:
            try:
                with Image.open(path) as image: image.load()
            except Exception as error: faults.append(f'{path.name}: not whole: {error}')
        missed = [p for p in map(Path, before) if not _has_result(p, folder, out, results) and not named(done.stdout + done.stderr, p) and p.name[0] != '.']
        faults += [f'{p.name!r}: neither a result nor a word' for p in missed]
        faults += ['something half-written'] * any('.part' in p.name or '.tmp' in p.name for p in out.rglob('*'))
        part.judge(name, faults)
        part.add(f'{name}: results', len(results)); part.add(f'{name}: named', len(before) - len(results))
    for number in (4, 0):
        target = base/f'table-{number}.json'
        done = lm4lv('evaluate', '--images', folder, '--checkpoint', base/'model', '--tasks', 'denoise', '--count', number, '--crops', 1, '--json', target)
        faults = complaints(done, (0,))
        n = json.loads(target.read_text())['tasks']['denoise']['n'] if target.exists() else 0
        if number and n != number: faults.append(f'{n} crops were measured, not {number}')
        part.judge(f'evaluate --count {number}', faults)
        part.add(f'evaluate --count {number}: measured', n)
    shown = [p for p in map(Path, before) if p.name[0] != '.']
    items = [dict(image=[str(p.relative_to(folder))], task='denoise', conversations=[dict(zip(('from', 'value'), turn)) for turn in
             (('human', '<image> <task>'), ('gpt', ''))]) for p in shown]
    (base/'items.json').write_text(json.dumps(items))
    out = base/'out-answer'
    done = lm4lv('answer', base/'items.json', '--image-root', folder, '--checkpoint', base/'model', '--force-image', '--out', out)
    records = json.loads((out/'answers.json').read_text()) if (out/'answers.json').exists() else []
    answered = {record['image'][0] for record in records}
    missed = [p for p in shown if os.path.abspath(p) not in answered and not named(done.stdout + done.stderr, p)]
    part.judge('answer', complaints(done, (0, 1)) + [f'{p.name!r}: neither an answer nor a word' for p in missed])
    part.add('answer: answered', len(records)); part.add('answer: named', len(shown) - len(records))
    scores = base/'scores.json'
    done = lm4lv('score', folder, folder, '--lpips', 'none', '--json', scores)
    scored = json.loads(scores.read_text())['pictures'] if scores.exists() else []
    part.judge('score', complaints(done, (0, 1)) + ['nothing was scored'] * (not scored))
    part.add('score: pictures', len(scored))
    bad = base/'unreadable'
    bad.mkdir()
    for i in range(4): (bad/f'{i}.png').write_bytes(b'no picture')
    part.judge('evaluate, nothing readable', refused(lm4lv('evaluate', '--images', bad, '--checkpoint', base/'model')))
    part.judge('input', [] if hashes(folder) == before else ['a picture that was given has changed'])
    return part

def _has_result(path, folder, out, results):
    inner = path.relative_to(folder)
    return any(r.relative_to(out).parent == inner.parent and r.name.startswith(inner.stem) for r in results)


# bad settings, checkpoints and caches

WRONG = ('', 'x', '-1', '1e99', 'nan', 'inf', '0x10', '[]', '1,2,3,4', 'None', '٣', ' ', '1e-400j')
NUMBERS = ('fit.steps', 'fit.batch', 'fit.lr', 'fit.warmup', 'fit.clip', 'fit.save_every', 'task_length', 'refit', 'warm_start', 'input_noise', 'text_weight',
           'pixel_weight', 'fit.weight_decay', 'fit.betas', 'fit.keep', 'fit.seed', 'lora_rank', 'visual_depth', 'crop_scale')

def settings(base, count, seed=0):
    "Settings that no training can be made with: refused, or the number that they are, never a traceback."
    part, rng = Part('settings'), random.Random(seed)
    plain = ['train', '--images', base/'photos', 'tasks=denoise', 'steps=1', 'batch=2', 'warm_start=0', 'task_length=3', 'llm_dtype=float32',
             f'llm={base/"llm"}', f'vision={base/"mae"}']
    cases = [f'{key.removeprefix("fit.")}={value}' for key in NUMBERS for value in WRONG]
    for i, case in enumerate(rng.sample(cases, min(count, len(cases)))):
        save = base/f'setting-{i}'
        done = inside(*plain, case, '--save', save)
        ok = done.returncode == 0
        part.judge(repr(case), complaints(done, (0,)) if ok else refused(done))
        part.add('accepted' if ok else 'refused')
        if not ok and (save/'lm4lv.json').exists(): part.judge(repr(case), ['saved, though refused'])
        for p in (save, Path(f'{save}-checkpoints')): shutil.rmtree(p, ignore_errors=True)
    return part

def _damage(rng, path):
    "Spoil a file: cut it, flip bits, empty it, remove it, or put a folder in its place; returns what was done."
    how = rng.choice(['cut', 'flip', 'empty', 'remove', 'folder', 'text', 'other JSON'])
    data = path.read_bytes()
    path.unlink()
    if how == 'cut': path.write_bytes(data[:rng.randrange(len(data))])
    if how == 'flip':
        spoiled = bytearray(data)
        for _ in range(3): spoiled[rng.randrange(len(data))] ^= 0xff
        path.write_bytes(bytes(spoiled))
    if how == 'empty': path.write_bytes(b'')
    if how == 'folder': path.mkdir()
    if how == 'text': path.write_bytes(b'\xff\xfe no such format')
    if how == 'other JSON': path.write_text(rng.choice(['[]', 'null', '3', '{}', '"x"', '{"tasks": 3}']))
    return how

def checkpoints(base, count, seed=0):
    "Models and runs with a spoiled file: refused in one line, or restored by the same pictures as before."
    part, rng = Part('checkpoints'), random.Random(seed)
    photo = base/'photos'/'0.png'
    def restored(folder, out): return inside('restore', photo, '--task', 'denoise', '--checkpoint', folder, '--out', out, '--overwrite')
    assert restored(base/'model', base/'good').returncode == 0
    good = (base/'good'/'0.png').read_bytes()
    files = ['model/lm4lv.json', 'model/adapters.safetensors', 'mae/config.json', 'mae/model.safetensors', 'llm/config.json', 'llm/model.safetensors',
             'run-checkpoints/state.json', 'run-checkpoints/state.safetensors']
    for i in range(count):
        name, copy = files[i % len(files)], base/f'spoiled-{i}'
        shutil.copytree(base/'kit', copy)
        for path in copy.rglob('*.json'): path.write_text(path.read_text().replace(str(base/'kit'), str(copy)))
        if name.startswith('run'):
            target = sorted((copy/'run-checkpoints').glob('step-*'))[-1]/Path(name).name
            how = _damage(rng, target)
            done = inside(*_training(copy, 'run'))
            faults = complaints(done, (0,)) if done.returncode == 0 else refused(done)
        else:
            how = _damage(rng, copy/name)
            done = restored(copy/'model', copy/'out')
            faults = refused(done) if done.returncode else complaints(done)
            if done.returncode == 0 and (copy/'out'/'0.png').read_bytes() != good: faults.append('another picture, without a word')
        part.judge(f'{name}: {how}', faults)
        part.add('refused' if done.returncode else 'unharmed')
        shutil.rmtree(copy)
    return part

def not_finite(base):
    "NaN or infinity in every kind of weights: refused, never a black picture."
    import torch
    from safetensors.torch import load_file, save_file
    part = Part('weights that are not finite')
    for name in ('model/adapters.safetensors', 'mae/model.safetensors', 'llm/model.safetensors'):
        for value in (float('nan'), float('inf')):
            copy = base/'not-finite'
            shutil.copytree(base/'kit', copy)
            for path in copy.rglob('*.json'): path.write_text(path.read_text().replace(str(base/'kit'), str(copy)))
            weights = load_file(copy/name)
            key = next(k for k, w in weights.items() if w.is_floating_point() and w.ndim == 2)
            weights[key] = torch.full_like(weights[key], value)
            save_file(weights, copy/name, metadata=dict(format='pt'))
            part.judge(f'{name}: {value}', refused(inside('restore', base/'photos'/'0.png', '--task', 'denoise', '--checkpoint', copy/'model', '--out', copy/'out')))
            shutil.rmtree(copy)
    return part

def disks(base):
    "A disk that fills up during a training, a save, a restoration and a report; folders that cannot be used."
    part = Part('full disks and caches')
    for limit in (200, 2_000, 20_000, 60_000, 150_000, 400_000):
        save = base/f'full-{limit}'
        done = lm4lv(*_training(base/'kit', save), limit=limit)
        faults = complaints(done, (0,)) if done.returncode == 0 else refused(done)
        faults += ['something half-written'] * any('.part' in str(p) for p in base.glob(f'full-{limit}*/**/*'))
        part.judge(f'training, files up to {limit} bytes', faults)
        again = lm4lv(*_training(base/'kit', save))
        part.judge(f'the same training with room again ({limit})', complaints(again, (0,)))
    done = lm4lv('restore', base/'photos', '--task', 'denoise', '--checkpoint', base/'kit'/'model', '--out', base/'full', limit=500)
    part.judge('restore', complaints(done, (1, 2)) + ['something half-written'] * bool(list((base/'full').rglob('*.png'))))
    done = lm4lv('evaluate', '--images', base/'photos', '--checkpoint', base/'kit'/'model', '--tasks', 'denoise', '--json', base/'full.json', limit=1500)
    part.judge('evaluate --json', refused(done) + ['something half-written'] * (base/'full.json').exists())
    (base/'a file').write_text('mine')
    for what, cache in dict(file=base/'a file', inside_a_file=base/'a file'/'x', dev_null=Path('/dev/null')).items():
        done = lm4lv('doctor', env=dict(LM4LV_CACHE=str(cache)))
        part.judge(f'LM4LV_CACHE is {what}', complaints(done))
    return part


# kills and two writers

def _training(kit, save, steps=12):
    return ['train', '--images', kit/'photos', 'tasks=denoise', f'steps={steps}', 'batch=2', 'save_every=3', 'log_every=3', 'warm_start=0', 'task_length=3',
            'llm_dtype=float32', f'llm={kit/"llm"}', f'vision={kit/"mae"}', '--save', kit/save]

def start(*arguments):
    "A command that goes on while something else is done: the process, and the file of what it says."
    said = Path(tempfile.mkdtemp())/'said'
    fresh.new.set_forkserver_preload(fresh.HEAVY)
    process = fresh.new.Process(target=fresh._inside, args=(str(said), tempfile.gettempdir(), dict(os.environ), ['lm4lv', *map(str, arguments)], 'lm4lv.cli', 'main', {}))
    process.start()
    return process, said

def weights_of(folder): return hashlib.sha256((folder/'adapters.safetensors').read_bytes()).hexdigest()

def kills(base, count, seed=0):
    "kill -9 at random moments, at the first checkpoint and before the final save: a rerun ends with the very same weights."
    part, rng, kit = Part('kills'), random.Random(seed), base/'kit'
    began = time.time()
    process, said = start(*_training(kit, base/'whole'))
    process.join(FOREVER)
    seconds, wanted = time.time() - began, weights_of(base/'whole')
    moments = ['first checkpoint', 'before the final save', *[rng.uniform(.2, 1.) * seconds for _ in range(max(count - 2, 0))]][:count]
    for i, moment in enumerate(moments):
        save = base/f'killed-{i}'
        process, said = start(*_training(kit, save))
        _wait_for(process, moment, Path(f'{save}-checkpoints'))
        early = process.is_alive()
        process.kill(); process.join()
        part.add('killed while it ran' if early else 'had already ended')
        there = sorted(p.name for p in Path(f'{save}-checkpoints').glob('step-*'))
        part.add('killed before any checkpoint' if not there else 'killed after a checkpoint')
        done = lm4lv(*_training(kit, save))
        faults = complaints(done, (0,))
        if done.returncode == 0 and weights_of(save) != wanted: faults.append('other weights than those of an undisturbed run')
        if list(Path(f'{save}-checkpoints').glob('.part-*')): faults.append('half a checkpoint is left')
        part.judge(moment if isinstance(moment, str) else f'after {moment:.1f} of {seconds:.1f} s', faults)
    return part

def _wait_for(process, moment, folder):
    "Wait for a moment: seconds, or something that appears in the folder of checkpoints."
    end = time.time() + (moment if isinstance(moment, float) else FOREVER)
    pattern = {'first checkpoint': '.part-*', 'before the final save': 'step-00000012'}.get(moment)
    while process.is_alive() and time.time() < end:
        if pattern and any(folder.glob(pattern)): return
        time.sleep(.0005 if pattern else .02)

def writers(base, count=4):
    "Two of every command that writes, into one place at once."
    from PIL import Image
    part, kit = Part('two writers'), base/'kit'
    for i in range(count):
        pair = {
            'train': [_training(kit, base/f'both-{i}')] * 2,
            'restore': [['restore', base/'photos', '--task', 'denoise', '--checkpoint', kit/'model', '--out', base/f'both-restore-{i}']] * 2,
            'degrade': [['degrade', base/'photos', '--task', 'denoise', '--out', base/f'both-degrade-{i}']] * 2,
            'evaluate': [['evaluate', '--images', base/'photos', '--checkpoint', kit/'model', '--tasks', 'denoise', '--json', base/f'both-{i}.json']] * 2}
        for name, commands in pair.items():
            running = [start(*command) for command in commands]
            for process, _ in running: process.join(FOREVER)
            codes = [process.exitcode for process, _ in running]
            texts = [Path(f'{said}.err').read_text() for _, said in running]
            faults = [f'traceback: {t.strip().splitlines()[-1][:200]}' for t in texts if 'Traceback' in t]
            faults += [f'exit code {code}' for code in codes if code not in (0, 1, 2)] + ['neither came through'] * (0 not in codes)
            part.judge(f'two {name}', faults + _results(name, base, i, Image))
            part.add(f'{name}: refused', sum(code != 0 for code in codes))
    return part

def _results(name, base, i, Image):
    "What is wrong with the results of two writers."
    try:
        if name == 'train': weights_of(base/f'both-{i}'); json.loads((base/f'both-{i}'/'training_record.json').read_text())
        if name == 'evaluate': json.loads((base/f'both-{i}.json').read_text())
        if name in ('restore', 'degrade'):
            found = sorted((base/f'both-{name}-{i}').glob('*.png'))
            for path in found:
                with Image.open(path) as image: image.load()
            if len(found) != len(list((base/'photos').glob('*.png'))): return [f'{len(found)} results']
        if name == 'degrade':
            records = json.loads((base/f'both-degrade-{i}'/'degradations.json').read_text())
            if len({r['result'] for r in records}) != len(found): return ['the record does not tell of every result']
    except Exception as error: return [f'{type(error).__name__}: {error}']
    return []


# all of it

def make_kit(base):
    "Tiny models, a run with checkpoints and four photographs, in base/kit; base/model and base/photos lead there."
    import torch
    from PIL import Image
    from families import write_llm
    from lm4lv.llm.frozen import load_llm
    from lm4lv.model.next_element import LM4LV
    from lm4lv.vision.mae import MAE, new_mae
    kit = base/'kit'
    torch.manual_seed(0)
    write_llm('llama', load_llm().tokenizer, kit/'llm')
    new_mae(16, 8, 16, 1, 2, 16, 1).save_pretrained(kit/'mae')
    LM4LV(load_llm(kit/'llm'), MAE.from_pretrained(kit/'mae'), ['denoise', 'flip'], 3, vision_name=str(kit/'mae')).save_pretrained(kit/'model')
    (kit/'photos').mkdir()
    for i in range(4): Image.effect_noise((40, 40), 60).convert('RGB').save(kit/'photos'/f'{i}.png')
    for name in ('model', 'photos', 'llm', 'mae'): (base/name).symlink_to(kit/name)
    assert lm4lv(*_training(kit, 'run', 6)).returncode == 0

NUMBERS_OF = dict(pictures=300, settings=75, checkpoints=75, kills=20, writers=4) # cases of each part, unless told otherwise

def campaign(counts=NUMBERS_OF, seed=0, only=None, on_part=None):
    "All parts, one after the other; returns counts and faults by part, and hands each on as it ends."
    with tempfile.TemporaryDirectory() as folder:
        base, report = Path(folder), {}
        with contextlib.redirect_stdout(sys.stderr): make_kit(base)
        parts = dict(pictures=lambda: pictures(base, counts['pictures'], seed), settings=lambda: settings(base, counts['settings'], seed),
                     checkpoints=lambda: checkpoints(base, counts['checkpoints'], seed), weights=lambda: not_finite(base), disks=lambda: disks(base),
                     kills=lambda: kills(base, counts['kills'], seed), writers=lambda: writers(base, counts['writers']))
        for name, run in parts.items():
            if only and name not in only: continue
            part = run()
            report[part.name] = part.report()
            print(part.name, {k: v for k, v in report[part.name].items() if k != 'faults'}, f"{len(part.faults)} faults", flush=True)
            if on_part: on_part(part.name, report[part.name])
    return report

def write(path, seed):
    "A function that adds a part to a JSON file."
    def add(name, part):
        there = json.loads(Path(path).read_text()) if Path(path).exists() else {}
        parts = dict(there.get('parts', {}), **{name: part})
        whole = dict(command='python tests/campaign.py', seed=seed, faults=sum(len(p['faults']) for p in parts.values()), parts=parts)
        Path(path).write_text(json.dumps(whole, indent=1) + '\n')
    return add

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, number in dict(NUMBERS_OF, seed=0).items(): parser.add_argument(f'--{name}', type=int, default=number)
    parser.add_argument('--only', nargs='*', help='pictures, settings, checkpoints, weights, disks, kills, writers')
    parser.add_argument('--json', help='each part is put into this file, in place of an earlier one')
    given = parser.parse_args()
    report = campaign({name: getattr(given, name) for name in NUMBERS_OF}, given.seed, given.only, given.json and write(given.json, given.seed))
    faults = sum(len(part['faults']) for part in report.values())
    print(f'{faults} faults')
    sys.exit(bool(faults))
