"""A newcomer's timing of README's commands: an empty environment, an empty home, an empty cache.

    python tests/newcomer.py --json nbs/results/newcomer.json

Clones the repository as it is committed and installs it, then runs the commands of README, on a photograph that comes with
scikit-image, and with fewer steps in trainings. Of each it says how long until the first line and until the end, CPU seconds,
the largest memory of a process, and what pip fetched.
"""
import argparse, json, os, platform, re, shlex, signal, subprocess, sys, tempfile, threading, time, venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_BUILD = 'torch --index-url https://download.pytorch.org/whl/cpu'
SHORT = {'steps=1000': 'steps=4', '--seeds 3': '--seeds 1', 'evaluate --images': 'evaluate --count 4 --images'}
PHOTOS = """
from PIL import Image
from skimage import data
photo = Image.fromarray(data.astronaut())
for i in range(4): photo.crop((60 * i, 60 * i, 60 * i + 200, 60 * i + 200)).save(f'my-photos/{i}.png')
photo.resize((160, 160)).save('noisy.jpg')
"""


def from_readme():
    "The commands of README that do not change the checkout, trainings shortened."
    block = re.search(r'## On the command line\n\n```console\n(.*?)```', (ROOT/'README.md').read_text(encoding='utf-8'), re.S)[1]
    commands = ['lm4lv demo', *block.strip().splitlines()]
    for long, short in SHORT.items(): commands = [command.replace(long, short) for command in commands]
    return commands


def megabytes(folder): return round(sum(p.stat().st_size for p in folder.rglob('*') if p.is_file() and not p.is_symlink()) / 1e6)


def measure(command, folder, env, until=None, limit=3600):
    "Run a command; `until`: a text after which it is interrupted, as by Ctrl-C."
    start, said, stamps = time.time(), [], []
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) # what a shell starts in the background does not
    pipe = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heed)
    process = subprocess.Popen(shlex.split(command), cwd=folder, env=env, **pipe)
    late = threading.Timer(limit, process.kill)
    late.start()
    for line in process.stdout:
        stamps.append(time.time() - start); said.append(line.rstrip())
        if until and until in line: process.send_signal(signal.SIGINT)
    _, status, used = os.wait4(process.pid, 0)
    late.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    sizes = re.findall(r'Downloading .*?\(([\d.]+) ([kMG]B)', '\n'.join(said))
    fetched = [float(number) * dict(kB=1e-3, MB=1, GB=1e3)[unit] for number, unit in sizes]
    kilo = 1 if platform.system() == 'Darwin' else 1024 # what ru_maxrss counts in
    row = dict(exit=process.returncode, first_line_s=round(min(stamps, default=0), 1), seconds=round(time.time() - start, 1),
               cpu_s=round(used.ru_utime + used.ru_stime, 1), megabytes=round(used.ru_maxrss * kilo / 1e6),
               fetched_mb=round(sum(fetched)))
    print(command, row, *said[:1], *(said[-5:] if process.returncode else []), sep='\n', flush=True)
    return row


def main(json_path, torch, installed):
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ('home', 'cache', 'work/my-photos'): (base/name).mkdir(parents=True)
        place = Path(installed).absolute() if installed else base/'env'
        if not installed: venv.create(place, with_pip=True)
        env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV', 'PYTHONDONTWRITEBYTECODE')}
        env.update(PYTHONUNBUFFERED='1', HOME=str(base/'home'), LM4LV_CACHE=str(base/'cache')) # lines come as on a terminal
        subprocess.run(['git', 'clone', '--quiet', '--depth', '1', ROOT.as_uri(), base/'clone'], check=True)
        def run(command, words='', folder=base/'work', **more):
            return dict(command=command, **measure(f'{place}/bin/{command} {words}', folder, env, **more))
        rows, installs = [], [] if installed else [f'pip install {torch}', 'pip install .']
        for command in installs: rows.append(run(command, '--no-cache-dir', base/'clone'))
        sizes = dict(environment=megabytes(place), torch=sum(map(megabytes, place.glob('lib/python*/site-packages/torch'))))
        subprocess.run([place/'bin'/'python', '-c', PHOTOS], cwd=base/'work', env=env, check=True)
        for command in from_readme():
            if command.startswith('lm4lv app'): rows.append(run(command, '--no-browser', until='http'))
            else: rows.append(run(command))
            machine = f'{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}'
            how = 'python tests/newcomer.py' + ' --env ENV' * bool(installed)
            report = dict(how=how, machine=machine, python=platform.python_version(),
                          megabytes=dict(sizes, cache=megabytes(base/'cache')), commands=rows)
            if json_path: Path(json_path).write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    sys.exit(any(row['exit'] for row in rows))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', help='where the report goes')
    parser.add_argument('--torch', default=CPU_BUILD, help='what pip installs first')
    parser.add_argument('--env', help='an environment that has the package already: only the commands are timed')
    given = parser.parse_args()
    main(given.json, given.torch, given.env)
