"""JupyterLab's settings under `make lab`: a chapter that was only opened and run is saved as git has it.

What was changed is saved with its outputs; LM4LV_KEEP_OUTPUTS=1 keeps those of every cell, for writing a chapter.
"""
import json, os, subprocess
from pathlib import Path


def committed(path):
    "The notebook as git last had it, or None."
    try: done = subprocess.run(['git', 'show', f'HEAD:./{path.name}'], cwd=path.parent, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired): return None
    return json.loads(done.stdout) if not done.returncode else None


def as_committed(notebook, before):
    "Give cells whose source is git's their committed outputs, in place; what JupyterLab adds to the file goes."
    known = {cell.get('id'): cell for cell in before['cells']}
    for cell in notebook['cells']:
        old = known.get(cell.get('id'))
        if cell['cell_type'] == 'code': cell['execution_count'] = None
        if not old or ''.join(old['source']) != ''.join(cell['source']): continue
        cell['metadata'] = old['metadata']
        if cell['cell_type'] == 'code': cell['outputs'], cell['execution_count'] = old['outputs'], old['execution_count']
    notebook['metadata'], notebook['nbformat_minor'] = before['metadata'], before['nbformat_minor']


def tidy(model, path, contents_manager, **_):
    "Jupyter's hook before a file is saved."
    if model['type'] != 'notebook' or os.environ.get('LM4LV_KEEP_OUTPUTS'): return
    before = committed(Path(contents_manager._get_os_path(path)))
    if before: as_committed(model['content'], before)


if 'get_config' in globals():
    get_config().FileContentsManager.pre_save_hook = tidy
