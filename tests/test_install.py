"""The installed package, in an environment of its own, outside of the repository."""
import os, subprocess, sys, venv, zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*command, **kwargs):
    return subprocess.run([str(c) for c in command], check=True, text=True, capture_output=True, timeout=1500, **kwargs)


def test_the_wheel_restores_photographs_elsewhere(tmp_path):
    # Takes minutes: the run-time dependencies alone are installed anew, which shows that none is missing.
    run(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--quiet', '-w', tmp_path, ROOT)
    venv.create(tmp_path/'env', with_pip=True)
    binaries = tmp_path/'env'/('Scripts' if os.name == 'nt' else 'bin')
    [wheel] = tmp_path.glob('lm4lv-*.whl')
    carried = set(zipfile.ZipFile(wheel).namelist())
    assert {'lm4lv/static/explorer.js', 'lm4lv/static/matrix.js', 'lm4lv/static/explorer.css', 'lm4lv/weights/trail/card.json'} <= carried
    run(binaries/'python', '-m', 'pip', 'install', '--quiet', '--no-compile', '-c', ROOT/'tests'/'constraints.txt', wheel)
    listed = run(binaries/'python', '-m', 'pip', 'list', '--format=freeze').stdout
    assert 'nbdev' not in listed and 'execnb' not in listed
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    done = run(binaries/'lm4lv', 'demo', '--count', '8', cwd=tmp_path, env=clean)
    assert 'denoise' in done.stdout and 'LM4LV' in done.stdout
    assert (tmp_path/'lm4lv-demo.png').stat().st_size > 10_000


def test_importing_takes_no_time():
    code = 'import sys, lm4lv; print(any(m in sys.modules for m in ("torch", "transformers", "numpy")))'
    assert run(sys.executable, '-c', code).stdout.strip() == 'False'
