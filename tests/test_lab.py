"What `make lab` promises: the index opens, and a chapter that was only opened and run leaves git clean."
import copy, json, re, subprocess, sys
import nbformat
import pytest
from conftest import CHAPTERS, ROOT

sys.path.insert(0, str(ROOT/'docs'))
from lab import as_committed, tidy

def ran(notebook):
    "A notebook as JupyterLab holds it after every cell was run."
    for i, cell in enumerate(notebook.cells):
        cell.metadata['trusted'] = True
        if cell.cell_type == 'code':
            cell.execution_count, cell.metadata['execution'] = i, {'iopub.status.busy': 'now'}
            cell.outputs = [nbformat.v4.new_output('stream', text=f'{i} s')]
    notebook.metadata['language_info'] = dict(name='python', version='3.99')
    return notebook

def repository(tmp_path, names):
    git = lambda *words: subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    (tmp_path/'.gitignore').write_bytes((ROOT/'.gitignore').read_bytes())
    for name in names: (tmp_path/f'{name}.ipynb').write_bytes(CHAPTERS[name].read_bytes())
    git('init', '-q'); git('add', '.'); git('commit', '-qm', 'all')
    return git

def save(path, notebook):
    "As the server does, with the hook of `make lab`."
    manager = pytest.importorskip('jupyter_server.services.contents.filemanager').FileContentsManager(root_dir=str(path.parent))
    manager.pre_save_hook = tidy
    manager.save(dict(type='notebook', format='json', content=notebook), path.name)

def test_opening_and_running_every_chapter_leaves_git_clean(tmp_path):
    git = repository(tmp_path, CHAPTERS)
    for name in CHAPTERS: save(tmp_path/f'{name}.ipynb', ran(nbformat.read(tmp_path/f'{name}.ipynb', 4)))
    assert git('status', '--porcelain') == ''

def test_what_was_changed_is_saved_with_its_output(tmp_path, monkeypatch):
    name = '06_adapters'
    git = repository(tmp_path, [name])
    notebook = ran(nbformat.read(tmp_path/f'{name}.ipynb', 4))
    cell = next(c for c in notebook.cells if c.cell_type == 'code')
    cell.source += '\nmine = 1'
    save(tmp_path/f'{name}.ipynb', notebook)
    saved = nbformat.read(tmp_path/f'{name}.ipynb', 4)
    mine = next(c for c in saved.cells if c.id == cell.id)
    assert 'mine = 1' in mine.source and mine.outputs and git('status', '--porcelain')
    monkeypatch.setenv('LM4LV_KEEP_OUTPUTS', '1')
    notebook = ran(nbformat.read(tmp_path/f'{name}.ipynb', 4))
    save(tmp_path/f'{name}.ipynb', notebook)
    assert all(c.outputs[0].text.endswith(' s') for c in nbformat.read(tmp_path/f'{name}.ipynb', 4).cells if c.cell_type == 'code')

def test_a_notebook_that_git_does_not_know_is_saved_as_it_is(tmp_path):
    repository(tmp_path, ['06_adapters'])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('1', outputs=[nbformat.v4.new_output('stream', text='1')])])
    before = copy.deepcopy(notebook)
    save(tmp_path/'mine.ipynb', notebook)
    assert nbformat.read(tmp_path/'mine.ipynb', 4).cells[0].outputs == before.cells[0].outputs

def test_make_lab_opens_the_index_with_these_settings():
    rule = re.search(r'^lab:.*\n\t(.*)', (ROOT/'Makefile').read_text(), re.M)[1]
    assert 'default_url=/lab/tree/index.ipynb' in rule and '--config=docs/lab.py' in rule
