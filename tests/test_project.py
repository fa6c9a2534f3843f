"What others see of the project: links that resolve on PyPI, templates, and versions that are said to be tested."
import json, os, re, shlex, subprocess, sys
from configparser import ConfigParser
import pytest
from conftest import ROOT

parser = ConfigParser(delimiters=['='], interpolation=None)
parser.read(ROOT/'settings.ini', encoding='utf-8')
SETTINGS = parser['DEFAULT']

@pytest.fixture(scope='module')
def description():
    done = subprocess.run([sys.executable, 'setup.py', '--long-description'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout

def test_every_link_of_the_readme_resolves_on_pypi(description):
    links = re.findall(r'(!?)\[[^\]]*\]\(([^)\s]+)\)', description)
    assert links and all(address.startswith(('https://', '#')) for _, address in links)
    for picture, address in links:
        if not address.startswith(SETTINGS['git_url'] + ('/raw/' if picture else '/blob/')): continue
        path = address.split('/', 7)[-1].split('#')[0]
        assert (ROOT/path).exists(), address

def test_code_is_left_alone():
    sys.path.insert(0, str(ROOT))
    source = (ROOT/'setup.py').read_text(encoding='utf-8').split('\nsetup(')[0].replace('__file__', repr(str(ROOT/'setup.py')))
    space = {}
    exec(source, space)
    assert space['absolute']('[a](b.md) ![c](d.png) [e](https://f) [g](#h)') == (
        f"[a]({SETTINGS['git_url']}/blob/main/b.md) ![c]({SETTINGS['git_url']}/raw/main/d.png) [e](https://f) [g](#h)")

def test_the_lowest_versions_are_those_that_were_tested():
    tested = json.loads((ROOT/'nbs'/'results'/'install.json').read_text())['tested']['lowest']
    numbers = lambda version: [int(n) for n in version.split('.')]
    for requirement in SETTINGS['requirements'].split():
        name, lowest = requirement.split('>=')
        assert numbers(tested[name.replace('-', '_')])[:len(numbers(lowest))] == numbers(lowest), requirement

def test_what_a_newcomer_is_timed_with(tmp_path):
    from newcomer import from_readme, measure
    commands = from_readme()
    assert commands[0] == 'lm4lv demo' and len(commands) > 8 and all(c.startswith('lm4lv ') and 'steps=1000' not in c for c in commands)
    said = "import time; print('Downloading x.whl (12.5 MB)', 'http', flush=True); time.sleep(60)"
    row = measure(shlex.join([sys.executable, '-c', said]), tmp_path, dict(os.environ), until='http')
    assert row['exit'] and row['seconds'] < 60 and row['fetched_mb'] == 12 and row['megabytes'] > 1

def test_templates_are_there():
    for name in ('bug.md', 'chapter.md', 'idea.md', 'config.yml'): assert (ROOT/'.github'/'ISSUE_TEMPLATE'/name).exists()
    assert 'Contributor Covenant' in (ROOT/'.github'/'CODE_OF_CONDUCT.md').read_text()
    assert 'version: ' + SETTINGS['version'] in (ROOT/'CITATION.cff').read_text()
