"""The exercises at the chapters' ends: a starter is not done yet, an answer is right, a plausible mistake gets its hint."""
import contextlib, io, re
import nbformat
import pytest
from chapter_answers import ANSWERS
from conftest import CHAPTERS, ROOT


def pairs(chapter):
    "Starters of a chapter, each with the check after it."
    cells = [c for c in nbformat.read(CHAPTERS[chapter], 4).cells if c.cell_type == 'code']
    return [(a.source, b.source) for a, b in zip(cells, cells[1:]) if re.search(r'^    raise NotImplementedError', a.source, re.M) and '@check(' in b.source]

def outcome(answer, check):
    "What a check says of an answer, with nothing around it but the check's own imports."
    imports = '\n'.join(line for line in check.splitlines() if re.match('import |from ', line))
    space = {}
    with contextlib.redirect_stdout(io.StringIO()): exec(f'{imports}\n{answer}\n{check}', space)
    return space['outcome']

def test_every_checked_exercise_has_an_answer(): assert [c for c in CHAPTERS if pairs(c)] == sorted(ANSWERS)

@pytest.mark.parametrize('chapter', sorted(ANSWERS))
def test_answers_are_right_and_mistakes_get_their_hint(chapter):
    (starter, check), = pairs(chapter)
    answer, mistakes = ANSWERS[chapter]
    assert outcome(starter, check).state == 'todo'
    assert outcome(answer, check).text == 'Right.'
    for mistake, hint in mistakes:
        result = outcome(mistake, check)
        assert result.state == 'wrong' and hint in result.text, result.text

def exercises(chapter):
    "Numbers and texts of the exercises at a chapter's end."
    cells = nbformat.read(CHAPTERS[chapter], 4).cells
    ends = [c.source.partition('**Exercises**')[2] for c in cells if c.cell_type == 'markdown' and '**Exercises**' in c.source]
    return re.findall(r'^(\d)\. (.*(?:\n[ ].*)*)', '\n'.join(ends), re.M)

@pytest.mark.parametrize('chapter', sorted(ANSWERS))
def test_a_chapter_has_two_to_four_exercises(chapter): assert 2 <= len(exercises(chapter)) <= 4

@pytest.mark.parametrize('chapter', [c for c in CHAPTERS if exercises(c)])
def test_every_exercise_has_a_hint_and_a_worked_answer(chapter):
    assert not [number for number, text in exercises(chapter) if '*Hint' not in text], 'an exercise without a hint'
    path = ROOT/'nbs'/'solutions'/f'{chapter}.ipynb'
    assert path.exists(), 'no worked answers'
    titles = [line for c in nbformat.read(path, 4).cells if c.cell_type == 'markdown' for line in c.source.splitlines() if line.startswith('## ')]
    answered = {number for title in titles for number in re.findall(r'\d', title.split('.')[0])}
    assert answered == {number for number, _ in exercises(chapter)}
