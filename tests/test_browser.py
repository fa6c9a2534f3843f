"""Chapters 12 and 12a in a real JupyterLab in a real browser: every control of every widget is moved by keyboard.

With LM4LV_SCREENSHOTS=nbs/images, the screenshots of the chapter are taken anew.
"""
import json, os, secrets, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
import pytest
from conftest import CHAPTERS

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = { # everything on the page at once, nothing saved by itself, nothing fetched from elsewhere
    'notebook-extension/tracker': dict(windowingMode='none'), 'docmanager-extension/plugin': dict(autosave=False),
    'apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False, doNotDisturbMode=True)}
SHOWN = ('adapter', 'attention') # whose screenshots stand in the chapter
WIDGETS = ('adapter', 'spectrum', 'text', 'playground', 'player', 'attention') # in the chapter's order
STATE = """() => [...document.querySelectorAll('.jp-CodeCell')].map(cell => ({
    prompt: cell.querySelector('.jp-InputPrompt').textContent,
    empty: cell.querySelector('.cm-content')?.textContent.trim() === '', // a folded cell has no editor, and is not empty
    error: cell.querySelector('[data-mime-type="application/vnd.jupyter.error"]')?.textContent}))"""
PICTURE = """area => [...area.querySelectorAll('canvas')].map(c => c.toDataURL())
    .concat([...area.querySelectorAll('.lm4lv-picture')].map(p => p.innerHTML)).join()"""
CONTROLS = '.lm4lv-explorer select, .lm4lv-explorer input, .lm4lv-explorer button, .lm4lv-explorer canvas'


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A JupyterLab on copies of the chapters; yields a function from a chapter to its address."
    home, token = tmp_path_factory.mktemp('lab'), secrets.token_hex(16)
    (home/'nbs'/'6_evaluation').mkdir(parents=True); (home/'lm4lv').symlink_to(ROOT/'lm4lv'); shutil.copytree(ROOT/'nbs'/'images', home/'nbs'/'images')
    for chapter in ('12_adapter_weights', '12a_widgets'): shutil.copy(CHAPTERS[chapter], home/'nbs'/'6_evaluation')
    for name, settings in SETTINGS.items():
        path = home/'settings'/'@jupyterlab'/f'{name}.jupyterlab-settings'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != 'LM4LV_STILL'} | dict(PYTHONPATH=str(ROOT), JUPYTER_CONFIG_DIR=str(home/'config'),
        JUPYTERLAB_SETTINGS_DIR=str(home/'settings'), JUPYTERLAB_WORKSPACES_DIR=str(home/'workspaces'), JUPYTER_RUNTIME_DIR=str(home/'runtime'))
    with open(home/'lab.log', 'w') as log:
        server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--port={port}', '--ServerApp.port_retries=0',
            f'--IdentityProvider.token={token}', f'--ServerApp.root_dir={home}', '--LabApp.extension_manager=readonly'], env=env, stdout=log, stderr=log)
    try:
        wait_for_server(f'http://127.0.0.1:{port}/api/status?token={token}', server, home/'lab.log')
        yield lambda chapter: f'http://127.0.0.1:{port}/lab/tree/nbs/6_evaluation/{chapter}.ipynb?token={token}&reset'
    finally:
        server.terminate()
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()


def wait_for_server(address, server, log):
    for _ in range(900):
        assert server.poll() is None, log.read_text()
        try: return urllib.request.urlopen(address, timeout=30).read()
        except OSError: time.sleep(0.2)
    raise AssertionError(f'JupyterLab did not start: {log.read_text()[-2000:]}')


@pytest.fixture(scope='module')
def browser():
    api = pytest.importorskip('playwright.sync_api', reason='NO BROWSER TEST: playwright is missing, pip install playwright')
    from get_browser import find
    path = find()
    if not path: pytest.skip('NO BROWSER TEST: no browser was found and none could be installed; install chromium, or name one in LM4LV_BROWSER')
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=['--no-sandbox', '--disable-dev-shm-usage'])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport=dict(width=1400, height=1000))
    page.complaints = []
    page.set_default_timeout(120_000)
    page.on('console', lambda message: page.complaints.append(f'{message.text} {message.location}') if message.type == 'error' else None)
    page.on('pageerror', lambda error: page.complaints.append(str(error)))
    yield page
    page.close()


def run_all(page, address, seconds=600):
    "Open a chapter, run all of its cells, and see that each one ran."
    page.goto(address)
    page.wait_for_selector('.jp-NotebookPanel .jp-CodeCell')
    page.locator('.jp-KernelName', has_text='Python 3').wait_for() # run before a kernel is there, JupyterLab asks for one
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    page.get_by_role('menuitem', name='View', exact=True).click() # a folded cell has no number
    page.locator('li[data-command="notebook:show-all-cell-code"]').click()
    end = time.time() + seconds
    while not any(cell['prompt'].strip('[]: ') for cell in page.evaluate(STATE)): # asked before its kernel is there, JupyterLab does nothing
        assert time.time() < end, 'JupyterLab did not begin to run the chapter'
        page.get_by_role('menuitem', name='Run', exact=True).click()
        page.locator('li[data-command="runmenu:run-all"]').click()
        page.wait_for_timeout(2000)
    waiting = True
    while waiting:
        time.sleep(0.3)
        cells = page.evaluate(STATE)
        for cell in cells: assert not cell['error'], cell['error']
        waiting = [i for i, cell in enumerate(cells) if not cell['empty'] and not cell['prompt'].strip('[]: ').isdigit()]
        assert time.time() < end, f'code cells {waiting} were not run after {seconds} s'


def press(page, area, key, previous, patience=20_000):
    "Press a key, wait for the picture to change, and return the milliseconds that it took."
    started = time.perf_counter()
    page.keyboard.press(key)
    while area.evaluate(PICTURE) == previous:
        spent = 1e3 * (time.perf_counter() - started)
        assert spent < patience, f'{key} did not change the picture; the browser says {page.complaints}'
        page.wait_for_timeout(5)
    return 1e3 * (time.perf_counter() - started)


def describe(control):
    "Kind, accessible name, place and number of options of a control."
    return control.evaluate("""e => ({kind: e.type || e.tagName.toLowerCase(), name: e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent,
        value: Number(e.value), last: Number(e.max ?? (e.options?.length - 1))})""")


def move(page, area, control, about):
    "Move a focused control there and back; each time the picture must change."
    forth, back = ('ArrowDown', 'ArrowUp') if about['kind'] == 'select-one' else ('ArrowRight', 'ArrowLeft')
    if about['value'] >= about['last']: forth, back = back, forth
    if about['kind'] == 'button': forth = back = 'Enter'
    spent = press(page, area, forth, area.evaluate(PICTURE))
    if about['kind'] == 'button': return page.keyboard.press('Enter') or spent # pause
    return (spent + press(page, area, back, area.evaluate(PICTURE))) / 2


def explore_canvas(page, area):
    "Cross, zoom and hover; the line below says what is under the cross."
    said = lambda: area.query_selector('.lm4lv-explorer:has(canvas) .lm4lv-said').inner_text()
    canvas = area.query_selector('canvas')
    canvas.focus()
    page.keyboard.press('Home')
    press(page, area, 'Shift+ArrowDown', area.evaluate(PICTURE))
    press(page, area, 'ArrowRight', area.evaluate(PICTURE))
    crossed = said()
    for key in ('+', '+', '-'): press(page, area, key, area.evaluate(PICTURE))
    assert said() == crossed # zooming leaves the cross where it was
    box = canvas.bounding_box()
    page.mouse.move(box['x'] + 300, box['y'] + 200)
    page.wait_for_function('([area, crossed]) => !area.textContent.includes(crossed)', arg=[area, crossed])
    press(page, area, 'Home', area.evaluate(PICTURE))


def take_picture(page, area, widget):
    "A screenshot as it is shipped in the chapter, the cross of a canvas moved into the matrix."
    if canvas := area.query_selector('canvas'):
        canvas.focus()
        for key in 3 * ['Shift+ArrowDown', 'Shift+ArrowRight']: page.keyboard.press(key)
        canvas.evaluate('e => e.blur()')
    if folder := os.environ.get('LM4LV_SCREENSHOTS'): area.screenshot(path=f'{folder}/{widget}_explorer.png')


def test_the_chapter_on_weights_runs_without_complaint(lab, page):
    run_all(page, lab('12_adapter_weights'))
    assert page.locator('.jp-OutputArea-output img').count() >= 8
    assert not page.complaints


def test_every_control_is_labelled_and_moves_its_picture_by_keyboard(lab, page, capsys):
    run_all(page, lab('12a_widgets'))
    areas = page.locator('.jp-OutputArea-output:has(.lm4lv-explorer)').element_handles()
    assert len(areas) == len(WIDGETS)
    report = []
    for widget, area in zip(WIDGETS, areas):
        area.scroll_into_view_if_needed()
        controls = area.query_selector_all(CONTROLS)
        if widget in SHOWN: take_picture(page, area, widget)
        controls[0].focus()
        for i, control in enumerate(controls):
            if i: page.keyboard.press('Tab')
            assert control.evaluate('e => e === document.activeElement'), f'{widget}: Tab does not lead to control {i}'
            about = describe(control)
            assert about['name'].strip(), f'{widget}: control {i} has no label'
            if about['kind'] != 'canvas' and about['last'] == 0: continue # nothing else to choose
            try: spent = move(page, area, control, about)
            except AssertionError as error: raise AssertionError(f'{widget}, {about}: {error}') from error
            report.append(f'{widget}, {about["name"].split(".")[0]}: {spent:.0f} ms')
            assert control.evaluate('e => e === document.activeElement'), f'{widget}: {about["name"]} lost the focus'
        if area.query_selector('canvas'): explore_canvas(page, area)
    with capsys.disabled(): print('\nfrom key to picture, browser and kernel together:', *report, sep='\n  ')
    assert not page.complaints
