"""The documentation site: built without warnings, whole, and readable on a phone.

LM4LV_SCREENSHOTS=folder keeps pictures of the pages.
"""
import json, os, re, subprocess, sys
from pathlib import Path
import pytest
from test_browser import browser # a fixture

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p.relative_to(ROOT/'nbs') for p in (ROOT/'nbs').rglob('*.ipynb'))
SHOWN = [p for p in NOTEBOOKS if not any(folder[0] in '._' for folder in p.parts)]
CHAPTERS = [p for p in SHOWN if p.parts[0][0].isdigit()]
MAIN = [p for p in CHAPTERS if re.match(r'\d+_', p.stem)]
WIDTHS = dict(phone=390, laptop=1280)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "The folder of the built site, and what its build said."
    pytest.importorskip('myst_nb', reason='NO TEST OF THE SITE: pip install "lm4lv[site]"')
    folder = tmp_path_factory.mktemp('site')
    env = dict(os.environ, LM4LV_SITE_WORK=str(folder/'work'))
    command = [sys.executable, 'docs/make_site.py', str(folder/'site')]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    return folder/'site', done


@pytest.fixture(scope='module')
def site(built): return built[0]


def text(site, name): return (site/name).read_text(encoding='utf-8')


def words(html): return ' '.join(re.sub(r'<[^>]+>', '', html).split())


def test_there_is_no_warning_and_no_broken_link(built):
    assert built[1].returncode == 0, built[1].stdout + built[1].stderr


def test_every_notebook_has_a_page_and_stands_in_the_contents(site):
    front = text(site, 'index.html')
    assert SHOWN
    for path in SHOWN:
        assert (site/path.with_suffix('.html')).exists(), path
        assert (site/'colab'/path).exists(), path
    for path in CHAPTERS:
        if path in MAIN: assert f'href="{path.with_suffix(".html").as_posix()}"' in front
        else: assert f'../{path.with_suffix(".html").as_posix()}"' in text(site, f'groups/{path.parts[0]}.html')


def test_the_main_line_comes_first_in_the_sidebar(site):
    captions = re.findall(r'class="caption-text">([^<]*)', text(site, 'index.html'))
    assert captions[:2] == ['The course', 'Bonus chapters'] and captions[-1] == 'Reference'


def test_plumbing_is_not_shown(site):
    for path in SHOWN:
        page = words(text(site, path.with_suffix('.html')))
        assert not re.search(r'#\| ?(default_exp|hide|export|echo)', page), path


def test_assignments_are_shown_without_their_solutions(site):
    assigned = [p for p in SHOWN if 'nbgrader' in (ROOT/'nbs'/p).read_text(encoding='utf-8') and p not in CHAPTERS]
    assert assigned
    for path in assigned:
        for name in (path.with_suffix('.html'), f'colab/{path}'): assert 'BEGIN SOLUTION' not in text(site, name), name


def test_the_copy_for_colab_installs_first(site):
    path = CHAPTERS[0]
    first, *others = json.loads(text(site, f'colab/{path}'))['cells']
    assert 'pip install' in first['source'] and path.parent.as_posix() in first['source']
    assert len(others) == len(json.loads((ROOT/'nbs'/path).read_text(encoding='utf-8'))['cells'])
    assert f'/colab/{path.as_posix()}' in text(site, path.with_suffix('.html'))


def test_the_reference_knows_signatures_and_meanings(site):
    page = words(text(site, 'api/lm4lv.images.photos.html'))
    assert 'open_photo(path, min_side=8)' in page
    assert 'pixels; anything smaller is refused' in page and 'str | Path' in page


def test_a_module_is_read_without_being_imported(tmp_path, monkeypatch):
    pytest.importorskip('sphinx')
    monkeypatch.syspath_prepend(str(ROOT/'docs'))
    import api
    from api import Module, function, parameters, rows
    monkeypatch.setattr(api, 'ROOT', tmp_path)
    path = tmp_path/'example.py'
    path.write_text('import nothing_that_exists\ndef f(\n    a: int, b: int = 2, # width\n        # in pixels\n'
                    '    *rest, # others\n    c=None,\n) -> str: # a name\n    "Does `a`."\n'
                    'def g(x, y): # (B, D)\n    "Two."\n')
    module = Module(path)
    f, g = (n for n in module.tree.body if hasattr(n, 'args'))
    made = rows(module, parameters(f), f.returns.end_lineno)
    assert [(r.names, r.type, r.default, r.meaning) for r in made] == [
        (['a', 'b'], 'int', 'b=2', 'width in pixels'), (['*rest'], '', '', 'others'), (['c'], '', 'None', '')]
    assert 'a name' in function(module, f, {})
    assert '| `` x `` `` y `` | (B, D) |' in function(module, g, {})


def test_equations_are_mathml(monkeypatch):
    pytest.importorskip('latex2mathml')
    monkeypatch.syspath_prepend(str(ROOT/'docs'))
    from mathml import to_mathml
    for latex, char in ((r'\big\langle x', '⟨'), (r'\Big\{ x', '{'), (r'\bigl\| x', '‖'), (r'\arg\min_x f', 'min'),
                        (r'a \\ b', 'mtable'), (r'\begin{aligned}a &= b \\ c &= d\end{aligned}', 'mtable')):
        made = to_mathml(latex, 'block', None)
        assert char in made and '\\' not in made


def test_the_bibliography_is_whole(site):
    keys = re.findall(r'^@\w+\{([^,\s]+)', (ROOT/'docs'/'references.bib').read_text(encoding='utf-8'), re.M)
    page = text(site, 'references.html')
    assert len(re.findall(r'<dt|class="citation"', page)) >= len(keys) and 'low-level vision' in page.lower()


def test_words_of_a_chapter_can_be_searched_for(site):
    index = text(site, 'searchindex.js')
    for path in SHOWN: assert f'"{path.with_suffix("").as_posix()}"' in index


def test_a_broken_link_is_found(tmp_path, monkeypatch):
    pytest.importorskip('sphinx')
    monkeypatch.syspath_prepend(str(ROOT/'docs'))
    from check_links import check
    (tmp_path/'a.html').write_text('<a href="b.html#x">1</a><a href="b.html#y">2</a><img src="c.png">'
                                   '<script src="https://d.org/e.js"></script>')
    (tmp_path/'b.html').write_text('<p id="x">')
    assert [fault.split(': ', 1)[1] for fault in check(tmp_path)] == [
        'b.html#y has no such fragment', 'c.png does not exist', 'https://d.org/e.js is loaded from elsewhere']


@pytest.mark.parametrize('name', WIDTHS)
def test_pages_fit_a_screen(site, browser, name):
    page = browser.new_page(viewport=dict(width=WIDTHS[name], height=900))
    pages = ['index.html', 'references.html', 'genindex.html', 'api/index.html', 'api/lm4lv.images.photos.html']
    for address in [*pages, *(p.with_suffix('.html') for p in (SHOWN if name == 'phone' else MAIN))]:
        page.goto(f'file://{site/address}', wait_until='domcontentloaded')
        fits = page.evaluate('document.documentElement.scrollWidth <= innerWidth')
        assert fits, f'{address} is wider than {WIDTHS[name]} pixels'
    if folder := os.environ.get('LM4LV_SCREENSHOTS'): page.screenshot(path=f'{folder}/site_{name}.png')
    sidebar = page.locator('.bd-sidebar-primary')
    if name == 'phone':
        assert not sidebar.is_visible()
        page.locator('.primary-toggle:visible').first.click()
    sidebar.get_by_role('link', name='1. ', exact=False).first.wait_for(state='visible')
    page.close()


def test_a_word_is_found_and_the_colours_change(site, browser):
    page = browser.new_page(viewport=dict(width=1280, height=900), color_scheme='light')
    page.goto(f'file://{site/"search.html"}?q=adapter')
    page.locator('#search-results li a').first.wait_for()
    page.locator('.theme-switch-button:visible').first.click()
    page.locator('.theme-change-button[data-mode=dark]:visible').first.click()
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    page.close()
