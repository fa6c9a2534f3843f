"""What `make test` runs: sources are clean, every notebook runs, pytest passes."""
import hashlib, os, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fresh import call

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
os.environ['PATH'] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
CORES = min(os.cpu_count() or 1, 4) # more would need more memory than a laptop has


def run(*command):
    "Run a command from the root; stop everything if it fails."
    print('$', *command, flush=True)
    start = time.time()
    done = subprocess.run([str(c) for c in command], cwd=ROOT)
    print(f'  {time.time() - start:.0f} s', flush=True)
    if done.returncode: sys.exit(f'failed: {" ".join(map(str, command))}')


def side_by_side(jobs):
    "Do jobs, one on each core; what one says is printed when it ends. All are done before any failure stops the whole."
    def one(job):
        start, done = time.time(), job[1]()
        print('$', job[0], f'\n{done.stdout}{done.stderr}  {time.time() - start:.0f} s', flush=True)
        return done.returncode
    with ThreadPoolExecutor(CORES) as pool: codes = list(pool.map(one, jobs))
    failed = [name for (name, _), code in zip(jobs, codes) if code]
    if failed: sys.exit('failed:\n' + '\n'.join(failed))


def notebook(path):
    "A notebook in a process of its own, as a reader runs it."
    path = path.relative_to(ROOT)
    return f'nbdev_test --path {path}', lambda: call('nbdev.test', 'nbdev_test', folder=ROOT, timeout=3600, path=str(path), n_workers=0, do_print=True)


def browser():
    "One that is there, or a new one where that can be."
    return 'get_browser', lambda: subprocess.run([sys.executable, 'tests/get_browser.py'], cwd=ROOT, capture_output=True, text=True)


def state():
    "A hash of every notebook and module."
    files = sorted([*ROOT.glob('nbs/**/*.ipynb'), *ROOT.glob('lm4lv/**/*.py'), ROOT/'README.md'])
    return {f.relative_to(ROOT): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if '.ipynb_checkpoints' not in str(f)}


def main():
    before = state()
    run(sys.executable, 'tests/navigation.py')
    run('nbdev_export')
    run('nbdev_clean')
    run(sys.executable, 'tests/make_readme.py')
    after = state()
    changed = sorted(str(f) for f in before.keys() | after.keys() if before.get(f) != after.get(f))
    if changed: sys.exit(f'links, export, clean and readme changed {", ".join(changed)}: run them and commit the result')
    run(sys.executable, '-c', 'from lm4lv.llm.frozen import fetch; fetch()') # the language model, once
    os.environ.update(OMP_NUM_THREADS='1', MPLBACKEND='agg')
    side_by_side([browser(), *map(notebook, [ROOT/'nbs'/'index.ipynb', *sorted(ROOT.glob('nbs/[0-9]*/*.ipynb'))])])
    del os.environ['MPLBACKEND']
    run(sys.executable, '-m', 'pytest', '-q', '-rs', '--durations', '8', '-n', CORES, '--dist', 'loadfile', '--no-loadscope-reorder', '--ignore', 'tests/test_browser.py')
    run(sys.executable, '-m', 'pytest', '-q', '-rs', 'tests/test_browser.py') # by itself: it presses keys and waits for pictures


if __name__ == '__main__': main()
