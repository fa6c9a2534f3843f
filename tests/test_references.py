"""The bibliography: whole entries, each once, and one for every study that a chapter cites by author and year."""
import json, re
from collections import Counter
from conftest import ROOT

BIB = (ROOT/'docs'/'references.bib').read_text(encoding='utf-8')
ENTRIES = {m[1]: m[0] for m in re.finditer(r'^@\w+\{([^,\s]+),.*?^\}', BIB, re.M | re.S)}
NAME = r"(?:(?:van der |van den |von |de |Ben )?[A-Z][\w'’-]+)"
CITED = re.compile(rf'({NAME})(?:,? (?:{NAME}, )*(?:et al\.|(?:and|&) {NAME}))?,? \(?((?:19|20)\d\d)\b')

def field(entry, name):
    "One field of an entry, without its braces; empty if it has none."
    match = re.search(rf'^\s*{name}\s*=\s*[{{"](.*?)["}}],?\s*$', entry, re.M | re.I | re.S)
    return re.sub(r'[{}]', '', match[1]) if match else ''

def works():
    "First author's family name and year of every entry."
    for entry in ENTRIES.values():
        first = re.split(r'\s+and\s+', field(entry, 'author'))[0]
        yield (first.split(',')[0] if ',' in first else first.split()[-1]).strip(), field(entry, 'year')

def citations():
    "Every author and year in a text cell of a chapter."
    for path in sorted(ROOT.glob('nbs/[0-9]*/*.ipynb')):
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            if cell['cell_type'] != 'markdown': continue
            for name, year in CITED.findall(''.join(cell['source'])): yield path.name, name, year

def test_entries_are_whole_and_come_once():
    keys = re.findall(r'^@\w+\{([^,\s]+),', BIB, re.M)
    assert not [key for key, n in Counter(keys).items() if n > 1]
    assert sorted(keys) == sorted(ENTRIES), 'an entry does not end with a closing brace'
    for key, entry in ENTRIES.items():
        assert entry.count('{') == entry.count('}'), key
        missing = [name for name in ('title', 'year') if not field(entry, name)]
        assert not missing and (field(entry, 'author') or field(entry, 'key')), (key, missing)

def test_every_cited_study_has_an_entry():
    known = {(name.split()[-1].lower(), year) for name, year in works()}
    missing = sorted({(name, year, path) for path, name, year in citations() if (name.split()[-1].lower(), year) not in known})
    assert not missing, '\n'.join(map(str, missing))

def test_citations_are_recognised():
    text = 'As He et al. (2022) and [Roy and Vetterli, 2007] show; (Zheng, Gu, Li and Dong, 2024), (Howard, 2019).'
    assert {('He', '2022'), ('Roy', '2007'), ('Howard', '2019')} <= set(CITED.findall(text))
