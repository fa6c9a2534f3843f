"""The assignments: solutions earn all points, starters none, plausible mistakes lose them with a hint; the grading never stops."""
import contextlib, copy, csv, io, shutil, sys, warnings
from pathlib import Path
import nbformat
import pytest
from conftest import ROOT
from course_answers import WRONG

pytest.importorskip('nbgrader')
from lm4lv.course import assignments as classroom
from lm4lv.course import grading

SOURCES = ROOT/'nbs'/'exercises'
NAMES = classroom.assignments(SOURCES)

def marked(cell): return cell.metadata.get('nbgrader', {})

def read(path): return nbformat.read(path, 4).cells

def play(cells, until=None):
    "Run the cells that nbgrader knows, as it judges them; returns the message of each check, or of one: None where it passed."
    space, said = {'__name__': '__main__'}, {}
    for cell in cells:
        mark, errors = marked(cell), io.StringIO()
        if cell.cell_type != 'code' or not mark or until and mark['grade'] and mark['grade_id'] != until: continue
        try:
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(): exec(cell.source, space)
        except Exception as error: errors.write(f'{type(error).__name__}: {error}')
        if mark['grade']: said[mark['grade_id']] = errors.getvalue() or None
        elif mark['locked']: assert not errors.getvalue(), errors.getvalue()
        if mark['grade_id'] == until: break
    return said

def checks(cells): return [marked(c) for c in cells if marked(c).get('grade') and c.cell_type == 'code']

def score(cells, said): return sum(mark['points'] for mark in checks(cells) if said[mark['grade_id']] is None)

def worth(cells): return sum(mark['points'] for mark in checks(cells))

@pytest.fixture(scope='module', autouse=True)
def one_language_model(llm):
    "Read once; each notebook gets a copy, for it may change it."
    from lm4lv.llm import frozen
    load, frozen.load_llm = frozen.load_llm, lambda *_: copy.deepcopy(llm)
    yield
    frozen.load_llm = load

@pytest.fixture(scope='module')
def course(tmp_path_factory): return classroom.prepare(tmp_path_factory.mktemp('course'), SOURCES)

@pytest.mark.parametrize('name', NAMES)
def test_solutions_earn_all_points_and_starters_none(name, course):
    source, student = read(SOURCES/f'{name}.ipynb'), read(course/'release'/name/f'{name}.ipynb')
    said = play(source)
    assert score(source, said) == worth(source) == 10, {k: v for k, v in said.items() if v}
    starters = {marked(c)['grade_id']: c.source for c in student if marked(c).get('solution')}
    untouched = [nbformat.from_dict(dict(c, source=starters.get(marked(c).get('grade_id'), c.source))) for c in source]
    said = play(untouched)
    assert score(untouched, said) == 0 and all('NotImplementedError' in text for text in said.values()), said

@pytest.mark.parametrize('name', NAMES)
def test_plausible_mistakes_lose_points_with_a_hint(name):
    assert len({w[0] for w in WRONG[name]}) >= 3
    for cell_id, old, new, check, hint in WRONG[name]:
        cells = [nbformat.from_dict(dict(c)) for c in read(SOURCES/f'{name}.ipynb')]
        cell = next(c for c in cells if marked(c).get('grade_id') == cell_id)
        assert cell.source.count(old) >= 1, (cell_id, old)
        cell.source = cell.source.replace(old, new)
        said = play(cells, check)
        assert said[check] and hint in said[check], (cell_id, new, said[check])

def regions(cells, mark):
    "The lines between marks, of all cells."
    for cell in cells:
        inside = False
        for line in cell.source.splitlines():
            if f'BEGIN {mark}' in line: inside = True
            elif f'END {mark}' in line: inside = False
            elif inside and len(line.strip()) > 12 and line.strip() != 'with torch.no_grad():': yield line.strip()

@pytest.mark.parametrize('name', NAMES)
def test_student_version_holds_no_solution_and_no_hidden_test(name, course):
    source = read(SOURCES/f'{name}.ipynb')
    text = (course/'release'/name/f'{name}.ipynb').read_text()
    shown = '\n'.join(c.source for c in read(course/'release'/name/f'{name}.ipynb'))
    for line in [*regions(source, 'SOLUTION'), *regions(source, 'HIDDEN TESTS')]: assert line not in shown, line
    for cell in source:
        if marked(cell).get('solution') and cell.cell_type == 'markdown': assert cell.source not in shown
    assert 'BEGIN' not in text and 'HIDDEN' not in text and '"outputs": []' in text
    assert len(list(regions(source, 'SOLUTION'))) >= 8 and len(list(regions(source, 'HIDDEN TESTS'))) >= 6

@pytest.mark.parametrize('name', NAMES)
def test_every_solution_cell_is_checked_openly_and_in_secret(name):
    cells = [c for c in read(SOURCES/f'{name}.ipynb') if marked(c) and c.cell_type == 'code']
    for cell, following in zip(cells, cells[1:] + [None]):
        if marked(cell)['solution']: assert following is not None and marked(following)['grade'], marked(cell)['grade_id']
        if marked(cell)['grade']:
            open_part = cell.source.split('### BEGIN HIDDEN TESTS')[0]
            assert 'assert' in open_part and 'HIDDEN TESTS' in cell.source

ENDLESS = 'def patchify(images, side):\n    while True: pass\n'

@pytest.fixture(scope='module')
def graded(course, tmp_path_factory):
    "A class of nine, graded."
    room = tmp_path_factory.mktemp('room')/'submissions'
    name, starter = '1_mae', course/'release'/'1_mae'/'1_mae.ipynb'
    solutions = {marked(c)['grade_id']: c.source for c in read(SOURCES/f'{name}.ipynb') if marked(c).get('solution')}
    def hand_in(student, answers, path=f'{name}.ipynb'):
        notebook = nbformat.read(starter, 4)
        for cell in notebook.cells: cell.source = answers.get(marked(cell).get('grade_id'), cell.source)
        (room/student/path).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, room/student/path)
    hand_in('full marks', solutions, f'{name}/{name}.ipynb')
    hand_in('empty', {})
    wrong = dict(psnr=solutions['psnr'].replace('10 * torch', '20 * torch'), swap=solutions['swap'].replace('i + 1', 'i').replace('j + 1', 'j'))
    hand_in('wrong', solutions | wrong)
    hand_in('crash', dict(patchify='import os\nos._exit(3)'))
    hand_in('endless', solutions | dict(patchify=ENDLESS))
    hand_in('typo', solutions | dict(psnr='def psnr(a, b:\n    return 0'))
    for student in ('essay', 'nobody'): (room/student).mkdir()
    (room/'essay'/f'{name}.ipynb').write_text('On autoencoders, an essay')
    (room/'nobody'/f'{name} (1).ipynb').write_text('{}')
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('1 + 1')]), room/'nobody'/'notes.ipynb')
    out = room.parent/'marks'
    return {m.student: m for m in grading.grade(room, out, SOURCES, seconds=150)}, out

EXPECTED = {'full marks': ('graded', 10), 'empty': ('empty', 0), 'wrong': ('graded', 5), 'crash': ('crashed', 0), 'endless': ('time limit', 7),
            'typo': ('graded', 7), 'essay': ('no notebook', 0), 'nobody': ('missing', 0)}

def test_a_class_gets_the_right_marks(graded):
    marks, _ = graded
    assert {s: (m.status, m.score) for s, m in marks.items()} == EXPECTED
    assert all(m.max_score == 10 for m in marks.values())

def test_the_table_says_what_happened(graded):
    marks, out = graded
    rows = {row['student']: row for row in csv.DictReader(open(out/'marks.csv', encoding='utf-8'))}
    assert {s: (r['status'], float(r['score'])) for s, r in rows.items()} == EXPECTED
    for student, words in {'wrong': 'twice as much', 'endless': 'no end within the time limit', 'typo': 'NameError', 'empty': 'not done',
                           'essay': 'cannot be read', 'nobody': '1_mae (1).ipynb', 'crash': 'ernel'}.items():
        assert words in rows[student]['note'], (student, rows[student]['note'])

def test_everybody_gets_a_page(graded):
    _, out = graded
    for student, (status, points) in EXPECTED.items():
        page = (out/'feedback'/student/'1_mae'/'1_mae.html').read_text()
        assert len(page) > 10_000 if status in ('graded', 'empty', 'time limit') else status in page
    assert 'twice as much' in (out/'feedback'/'wrong'/'1_mae'/'1_mae.html').read_text()

def test_nbgraders_own_tools_go_on_from_there(graded):
    from nbgrader.api import Gradebook
    with Gradebook(f"sqlite:///{graded[1]/'gradebook.db'}") as book:
        assert book.find_submission('1_mae', 'full marks').score == 10 and book.find_submission('1_mae', 'wrong').score == 5

def test_a_submission_that_ignores_its_limits_is_ended(course, tmp_path):
    cells = [nbformat.v4.new_code_cell('import time\nwhile True:\n    try: time.sleep(1)\n    except BaseException: pass')]
    notebook = nbformat.read(course/'release'/'1_mae'/'1_mae.ipynb', 4)
    notebook.cells = cells + notebook.cells
    nbformat.write(notebook, tmp_path/'x.ipynb')
    mark = grading.grade_one(course, tmp_path/'x.ipynb', 'x', '1_mae', seconds=60, whole=8)
    assert mark.status == 'time limit' and mark.score == 0 and '8 s in all' in mark.note

def test_a_written_answer_waits_for_a_person():
    assert grading.points(SOURCES/'6_ablation.ipynb') == (10, 5)

def test_errors_say_what_to_do(tmp_path, capsys):
    for folder, words in ((tmp_path/'none', 'no such folder'), (tmp_path, 'a folder for each student')):
        with pytest.raises(classroom.ClassroomError, match=words): grading.grade(folder, tmp_path/'out', SOURCES)
    with pytest.raises(SystemExit) as stop: grading.main([])
    assert stop.value.code == 2 and 'make grade DIR=' in capsys.readouterr().err
    with pytest.raises(SystemExit): grading.main([str(tmp_path), '', 'soon'])
    assert "time limit 'soon'" in capsys.readouterr().err
    (tmp_path/'ada').mkdir(); shutil.copy(SOURCES/'1_mae.ipynb', tmp_path/'ada')
    (tmp_path/'kept').mkdir(); (tmp_path/'kept'/'gradebook.db').write_text('')
    with pytest.raises(classroom.ClassroomError, match='given by hand'): grading.grade(tmp_path, tmp_path/'kept', SOURCES)
    with pytest.raises(classroom.ClassroomError, match='root of the repository'): classroom.handout(tmp_path/'h', tmp_path)

def test_neither_release_nor_handout_has_solutions(tmp_path, monkeypatch):
    "Of the repository, only student versions and chapters are handed out; pip's part is left out here."
    repo = tmp_path/'repo'
    shutil.copytree(SOURCES, repo/'nbs'/'exercises')
    (repo/'settings.ini').write_text('')
    for folder in ('solutions', '4_model'): (repo/'nbs'/folder).mkdir()
    shutil.copy(SOURCES/'1_mae.ipynb', repo/'nbs'/'solutions'/'06_adapters.ipynb')
    nbformat.write(nbformat.v4.new_notebook(), repo/'nbs'/'4_model'/'06_adapters.ipynb')
    def pip(command, *arguments, repo):
        if command == 'wheel': (arguments[arguments.index('-w') + 1]/'lm4lv-0.1.0-py3-none-any.whl').touch()
    monkeypatch.setattr(classroom, '_pip', pip)
    out = tmp_path/'handout'
    classroom.handout(out, repo)
    assert sorted(p.stem for p in out.rglob('*.ipynb')) == sorted(['06_adapters', *NAMES])
    assert (out/'chapters'/'4_model'/'06_adapters.ipynb').exists()
    assert not any('solutions' in p.parts or 'BEGIN SOLUTION' in p.read_text() for p in out.rglob('*.ipynb'))

def test_the_installer_of_the_handout_names_what_there_is():
    "Its imports are those of this library."
    compile(classroom.INSTALL, 'install.py', 'exec')
    script = classroom.INSTALL.split("model = '''")[1].split("'''")[0]
    for line in script.splitlines():
        if line.startswith('from lm4lv'): exec(line, {})
