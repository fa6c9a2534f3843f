"""The exercises at the chapters' ends: a starter is not done yet, an answer is right, a plausible mistake gets its hint."""
import contextlib, io, re
import nbformat
import pytest
from chapter_answers import ANSWERS
from conftest import CHAPTERS


def pairs(chapter):
    "Starters of a chapter, each with the check behind it."
    cells = [c for c in nbformat.read(CHAPTERS[chapter], 4).cells if c.cell_type == 'code']
    return [(a.source, b.source) for a, b in zip(cells, cells[1:]) if 'raise NotImplementedError' in a.source and '@check(' in b.source]

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
        found = outcome(mistake, check)
        assert found.state == 'wrong' and hint in found.text, found.text

@pytest.mark.parametrize('chapter', sorted(ANSWERS))
def test_a_chapter_has_two_to_four_exercises(chapter):
    text = next(c.source for c in nbformat.read(CHAPTERS[chapter], 4).cells if '**Exercises**' in c.source)
    assert 2 <= len(re.findall(r'^\d\. ', text.partition('**Exercises**')[2], re.M)) <= 4
