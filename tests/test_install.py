"""The installed package, outside of the repository, with what it says it requires and nothing else."""
import os, subprocess, sys, venv, zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def run(*command, **kwargs):
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    return subprocess.run([str(c) for c in command], check=True, text=True, capture_output=True, timeout=600, env=clean, **kwargs)


def needed(requirements, extras=(), found=None):
    "(name, extra) of each installed distribution that requirements lead to."
    found = set() if found is None else found
    for requirement in map(Requirement, requirements):
        if requirement.marker and not any(requirement.marker.evaluate(dict(extra=e)) for e in ('', *extras)): continue
        new = {(requirement.name.lower(), extra) for extra in ('', *requirement.extras)} - found
        found |= new
        if new: needed(distribution(requirement.name).requires or [], requirement.extras, found)
    return found


def lend(name, folder):
    "Link an installed distribution's files into another environment: it looks installed there."
    for top in {file.parts[0] for file in distribution(name).files} - {'..', '__pycache__'}:
        if not (folder/top).exists(): (folder/top).symlink_to(distribution(name).locate_file(top))


def test_the_wheel_restores_photographs_elsewhere(tmp_path):
    run(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--quiet', '-w', tmp_path, ROOT)
    [wheel] = tmp_path.glob('lm4lv-*.whl')
    carried = set(zipfile.ZipFile(wheel).namelist())
    assert {'lm4lv/static/explorer.js', 'lm4lv/static/matrix.js', 'lm4lv/static/explorer.css', 'lm4lv/weights/snapshots/training_record.json'} <= carried

    venv.create(tmp_path/'env')
    programs = tmp_path/'env'/('Scripts' if os.name == 'nt' else 'bin')
    site = Path(run(programs/'python', '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').stdout.strip())
    pip = sys.executable, '-m', 'pip', '--python', programs/'python'
    run(*pip, 'install', '--quiet', '--no-deps', '--no-compile', wheel)
    [package] = Distribution.discover(name='lm4lv', path=[str(site)])
    for name in {name for name, _ in needed(package.requires)}: lend(name, site)
    run(*pip, 'check')
    listed = run(*pip, 'list', '--format=freeze').stdout
    assert 'torch==' in listed and 'nbdev' not in listed and 'execnb' not in listed

    done = run(programs/'lm4lv', 'demo', '--count', '8', cwd=tmp_path)
    assert 'denoise' in done.stdout and 'LM4LV' in done.stdout
    assert (tmp_path/'lm4lv-demo.png').stat().st_size > 10_000


def test_importing_takes_no_time():
    code = 'import sys, lm4lv; print(any(m in sys.modules for m in ("torch", "transformers", "numpy")))'
    assert run(sys.executable, '-c', code, cwd=ROOT).stdout.strip() == 'False'
