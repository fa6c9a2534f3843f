"""The words of the course are those of the field: a search over all text finds none that were retired.

The glossary (nbs/9_course/16d_glossary.ipynb) is the one place that may name them: it says what they meant.
"""
import json, re
from collections import defaultdict
import pytest
from conftest import ROOT

SELF, GLOSSARY = 'tests/test_words.py', 'nbs/9_course/16d_glossary.ipynb'

# what may no longer be written, and what to write instead; `torch.eye(n)` and `np.eye(n)` are no eyes
RETIRED = {
    r'(?<![a-z.])eyes?(?![a-z(])': 'vision module, or MAE',
    r'\bby lot\b': 'randomly initialised; at random',
    r'\bway back\b': 'backward pass',
    r'\bspells?\b|\bspelled\b': 'period; written',
    r'\bbridges?\b': 'adapters',
    r'\b(cell|stands?|goes|comes|put|written|placed|right|straight|start|works?) behind\b': 'after',
    r'\bvision_zoo\b|\bload_eye\b': 'vq_beit, loading',
    r'\bas the field (does|has|says|writes)\b': 'nothing',
}

# names that say nothing: where was it found, a part of what, what was before?
NAMELESS = r'^[ ]*(?:(?:\w+, )*(?:found|part)(?:, \w+)*|before) = '

def outputs(cell):
    "What a stored output says in words."
    for out in cell.get('outputs', []):
        held = {'text/plain': out['text']} if out['output_type'] == 'stream' else out.get('data', {})
        for kind in ('text/plain', 'text/markdown'): yield ''.join(held.get(kind, []))

def notebook(path):
    "Every cell of a notebook, with its id: source and stored text."
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        yield cell['id'], '\n'.join([''.join(cell['source']), *outputs(cell)])

def texts():
    "Every text of the repository that people read or write: (path, cell or 'line', text)."
    chapters = [p for p in ROOT.glob('nbs/**/*.ipynb') if '.ipynb_checkpoints' not in p.parts]
    for path in sorted(chapters): yield from ((path, where, text) for where, text in notebook(path))
    plain = [*ROOT.glob('*.md'), *ROOT.glob('lm4lv/**/*.py'), *ROOT.glob('tests/*.py'), *ROOT.glob('docs/*.py'),
             *ROOT.glob('docs/*.md'), *ROOT.glob('nbs/images/*.svg'), *(p for p in ROOT.glob('lm4lv/static/*') if p.suffix != '.tsv'), # names of classes are ImageNet's
             *(ROOT/name for name in ('Makefile', 'settings.ini', 'setup.py', 'pyproject.toml'))]
    for path in sorted(plain): yield path, 'line', path.read_text(encoding='utf-8')

def folder(path):
    "The part of the repository that a path belongs to."
    inside = path.relative_to(ROOT).parts
    return '/'.join(inside[:-1][:2]) or 'root'

TEXTS = defaultdict(list) # folder -> its texts
for path, where, text in texts():
    if path.relative_to(ROOT).as_posix() not in (SELF, GLOSSARY): TEXTS[folder(path)].append((path, where, text))
FOLDERS = sorted(TEXTS)

def search(pattern, name, flags=re.I):
    "Where a pattern occurs in a folder, with its surroundings."
    for path, where, text in TEXTS[name]:
        for match in re.finditer(pattern, text, flags):
            near = text[max(0, match.start() - 40):match.end() + 40].replace('\n', ' ')
            place = 1 + text.count('\n', 0, match.start()) if where == 'line' else where
            yield f'{path.relative_to(ROOT)}:{place}: ...{near}...'

@pytest.mark.parametrize('name', FOLDERS)
def test_no_retired_word_is_left(name):
    left = [f'{hit} (write: {instead})' for pattern, instead in RETIRED.items() for hit in search(pattern, name)]
    assert not left, '\n'.join([f'{len(left)} retired words in {name}:', *left])

@pytest.mark.parametrize('name', [name for name in FOLDERS if name.startswith(('nbs/', 'lm4lv'))])
def test_variables_say_what_they_hold(name):
    left = list(search(NAMELESS, name, re.M))
    assert not left, '\n'.join([f'{len(left)} names in {name}:', *left])

def test_the_search_finds_what_it_should_and_nothing_else():
    eye = next(iter(RETIRED))
    assert all(re.search(eye, text, re.I) for text in ('the eye sees', 'Eyes', 'through_eye', "eye's", 'eye_parts'))
    assert not any(re.search(eye, text, re.I) for text in ('torch.eye(3)', 'np.eye(3)', 'eye(3)', 'keyed', 'greyed', 'eyed'))
    assert re.search(NAMELESS, '    found = 1', re.M) and re.search(NAMELESS, 'found, n = 1, 2', re.M)
    assert not re.search(NAMELESS, 'partly = 1', re.M) and not re.search(NAMELESS, 'if found == 1', re.M)

def test_the_glossary_tells_what_the_old_words_meant():
    text = '\n'.join(text for _, text in notebook(ROOT/GLOSSARY))
    assert all(word in text for word in ('eye', 'drawn by lot', 'way back', 'bridge', 'spell', 'vision module', 'backward pass'))

def test_every_term_links_to_the_chapter_that_introduces_it():
    text = '\n'.join(text for _, text in notebook(ROOT/GLOSSARY))
    rows = re.findall(r'^\| ([^|]+) \| [^|]+ \| \[[^\]]+\]\(([^)]+)\) \|$', text, re.M)
    assert len(rows) > 50
    assert all((ROOT/GLOSSARY).parent.joinpath(link).exists() for _, link in rows)
    terms = [re.sub(r'[^a-z0-9]', '', term.lower()) for term, _ in rows]
    assert terms == sorted(terms), 'the terms stand in alphabetical order'
