"What `make lab` promises: the index opens, chapters run with what it installs, and one that was only opened and run leaves git clean."
import ast, copy, json, os, re, subprocess, sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
import nbformat
import pytest
from packaging.utils import canonicalize_name
from conftest import CHAPTERS, ROOT
from test_install import needed

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

def code(path):
    "The code cells of a chapter that are run, without what IPython alone reads."
    cells = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == 'code' and not re.search(r'^#\s*\|\s*eval:\s*false', c.source, re.M)]
    return [re.sub(r'^[%!].*', '', source, flags=re.M) for source in cells]

def test_chapters_import_what_the_lab_extra_brings():
    settings = ConfigParser(delimiters=['='], interpolation=None)
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    wanted = [*settings['DEFAULT']['requirements'].split(), *settings['DEFAULT']['lab_requirements'].split()]
    there, owners = {canonicalize_name(name) for name, _ in needed(wanted)}, packages_distributions()
    for path in [ROOT/'nbs'/'index.ipynb', *CHAPTERS.values()]:
        for node in [node for source in code(path) for node in ast.parse(source).body]: # what a function or a try imports, it asks for itself
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in {name.split('.')[0] for name in names} - {'lm4lv'} - sys.stdlib_module_names:
                assert there & {canonicalize_name(owner) for owner in owners.get(name, [])}, f'{path.stem} imports {name}'

@pytest.mark.parametrize('name', ['16b_teaching', '16c_grading'])
def test_the_chapters_on_teaching_run_without_nbgrader(name):
    run = "import sys, json; sys.modules['nbgrader'] = None\nfor cell in json.load(sys.stdin): exec(cell, globals())"
    done = subprocess.run([sys.executable, '-c', run], input=json.dumps(code(CHAPTERS[name])), cwd=CHAPTERS[name].parent, capture_output=True, text=True,
                          env=dict(os.environ, MPLBACKEND='agg', PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr
    assert 'lm4lv[classroom]' in done.stdout

def test_no_chapter_needs_the_folder_of_the_package_beside_it():
    for path in [ROOT/'nbs'/'index.ipynb', *CHAPTERS.values()]:
        assert not re.search(r"['\"](?:\.\./)+lm4lv/", '\n'.join(code(path))), path.stem
