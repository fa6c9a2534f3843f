"""The page of `lm4lv app`: over plain HTTP, and in a real browser at the widths of a laptop and a phone.

LM4LV_SCREENSHOTS=folder keeps pictures of the page; with LM4LV_REAL=1 they show the shipped model.
"""
import http.client, json, os, threading
from pathlib import Path
import pytest
import torch
from PIL import Image
from lm4lv.app.page import LARGEST, SCALES, Growing, Studio, damaged, level, serve
from lm4lv.images.degradations import TASKS
from lm4lv.model.generation import restore
from test_browser import browser, page # fixtures

HEADERS = {'X-LM4LV': '1'}
WIDTHS = dict(laptop=1280, phone=390)

def served(studio):
    server = serve(studio)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

@pytest.fixture
def studio(tiny): return Studio(lambda: dict.fromkeys(['denoise', 'flip'], tiny), tasks=['denoise', 'flip'], size=40)

@pytest.fixture
def app(studio):
    server = served(studio)
    yield server.server_address[1]
    server.shutdown()

def ask(port, method, path, body=None, headers=HEADERS):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers

def lines(port, **wanted):
    status, text, _ = ask(port, 'POST', '/restore', json.dumps(wanted))
    assert status == 200, text
    return [json.loads(line) for line in text.splitlines()]

def test_the_last_picture_is_the_restored_one(tiny):
    image, seen = torch.rand(3, 30, 22), []
    restored = Growing(tiny, image, 'denoise', lambda n, of, x: seen.append(x)).restored()
    torch.testing.assert_close(seen[-1], restored, atol=1e-5, rtol=0)
    tile = torch.rand(1, 3, 16, 16)
    alone = Growing(tiny, tile[0], 'denoise', lambda *_: None).restored()
    torch.testing.assert_close(alone, restore(tiny, tile, 'denoise')[0], atol=1e-5, rtol=0)

def test_each_token_changes_something_and_spares_what_is_not_written(tiny):
    seen = []
    growing = Growing(tiny, torch.rand(3, 16, 16), 'denoise', lambda n, of, x: seen.append(x))
    growing.restored()
    assert len(seen) == tiny.vision.num_tokens and all(not torch.equal(a, b) for a, b in zip(seen, seen[1:]))

@pytest.mark.parametrize('task', TASKS)
def test_every_task_has_its_damage(task):
    photo = torch.rand(3, 24, 40)
    given, target = damaged(photo, task, .5)
    assert given.shape[0] == 3 and (task in SCALES) == (not TASKS[task].spatial)
    if task in SCALES:
        assert level(task, 0) == (1 if task == 'deblur' else 0) and torch.equal(damaged(photo, task, 0)[0], photo)

def test_a_restoration_is_told_line_by_line(app, tiny):
    told = lines(app, task='denoise', strength=.5)
    assert 'loading' in told[0]['said'] and [l['token'] for l in told if 'token' in l] == list(range(1, tiny.vision.num_tokens + 1))
    assert set(told[1]['start']) == {'degraded', 'mae_r', 'lm4lv', 'photograph', 'psnr'} and told[-1]['done']['psnr'] > 0
    assert 'said' not in lines(app, task='flip')[0] # loaded once

def test_a_damaged_photograph_is_restored_as_it_is(app):
    told = lines(app, task='denoise', damaged=True)
    start = next(l['start'] for l in told if 'start' in l)
    assert 'photograph' not in start and 'psnr' not in start and 'psnr' not in told[-1]['done']

def test_another_photograph_is_taken(app, studio, tmp_path):
    Image.effect_noise((90, 30), 60).convert('RGB').save(tmp_path/'a.png')
    status, name, _ = ask(app, 'POST', '/photograph', (tmp_path/'a.png').read_bytes(), HEADERS | {'X-Name': '..%2F%C3%BC.png'})
    assert (status, name) == (200, 'ü.png') and tuple(studio.photo.shape) == (3, 13, 40)

@pytest.mark.parametrize('path, body, said', [
    ('/photograph', b'no picture', 'cannot be read'), ('/restore', b'{"task": "sharpen"}', 'denoise, flip'), ('/restore', b'{', 'Expecting'),
    ('/restore', b'[]', 'expected'), ('/restore', b'{"task": "denoise", "strength": "much"}', 'strength'), ('/restore', b'{"task": "denoise", "strength": 7}', '0 to 1')])
def test_what_cannot_be_done_is_said(app, path, body, said):
    status, text, _ = ask(app, 'POST', path, body)
    assert status == 400 and said in text and '\n' not in text

def test_nobody_else_is_let_in(app):
    assert ask(app, 'POST', '/restore', b'{"task": "flip"}', {})[0] == 403 # no page of others may send the header
    assert ask(app, 'GET', '/', headers={'Host': 'elsewhere.org'})[0] == 403 # nor may a name of others lead here
    assert ask(app, 'GET', '/../cli.py')[0] == ask(app, 'GET', '/page.py')[0] == 404
    assert ask(app, 'POST', '/photograph', None, HEADERS | {'Content-Length': str(LARGEST + 1)})[0] == 413
    status, text, headers = ask(app, 'GET', '/')
    assert status == 200 and "default-src 'self'" in headers['Content-Security-Policy'] and 'http://' not in text and 'https://' not in text

def test_one_photograph_at_a_time(app, studio):
    with studio.lock:
        status, text, _ = ask(app, 'POST', '/restore', b'{"task": "denoise"}')
    assert status == 400 and 'wait' in text

def test_a_page_that_is_closed_ends_its_restoration(studio):
    class Closed(Exception): pass
    def say(line):
        if 'token' in line: raise Closed
    with pytest.raises(Closed): studio.run(dict(task='denoise'), say)
    assert studio.lock.acquire(blocking=False)

def test_a_port_that_is_taken_is_one_clear_error(app, studio):
    with pytest.raises(OSError, match=f'port {app}'): serve(studio, app)

def test_the_command_names_what_it_cannot_show(lm4lv, tmp_path):
    from test_cli import fails
    fails(lm4lv('app', tmp_path/'no.png'), 'no.png: no such file')
    fails(lm4lv('app', '--task', 'sharpen'), 'sharpen')
    (tmp_path/'a.png').write_text('no picture')
    fails(lm4lv('app', tmp_path/'a.png', '--no-browser'), 'a.png: cannot be read')

# in the browser

@pytest.fixture
def shown(studio):
    "The studio that the browser sees: a tiny one, or the shipped model's."
    if not os.environ.get('LM4LV_REAL'): return studio
    from lm4lv.model.task_models import TaskModels
    return Studio(TaskModels, size=160)

@pytest.mark.parametrize('width', WIDTHS)
def test_a_photograph_is_restored_in_the_browser(shown, page, tmp_path, width):
    server = served(shown)
    if os.environ.get('LM4LV_REAL'): page.set_default_timeout(900_000)
    page.set_viewport_size(dict(width=WIDTHS[width], height=900))
    page.goto(f'http://127.0.0.1:{server.server_address[1]}/')
    page.get_by_text('Photograph: one that comes with scikit-image').wait_for()
    page.get_by_label('Task').select_option('denoise')
    strength = page.get_by_label('Strength')
    before = page.locator('#strength-says').text_content()
    strength.focus(); page.keyboard.press('ArrowRight')
    assert page.locator('#strength-says').text_content() != before and 'of 255' in before
    page.get_by_role('button', name='Restore').click()
    page.locator('#said', has_text='done:').wait_for()
    assert page.locator('#tokens').evaluate('p => p.value === p.max && p.max > 1')
    captions = page.locator('#rows figcaption').all_text_contents()
    assert [c.split(':')[0] for c in captions] == ['degraded', 'MAE-r', 'LM4LV', 'photograph'] and all('dB' in c for c in captions[:3])
    assert page.locator('img').evaluate_all('all => all.every(i => i.naturalWidth > 0 && i.alt)')
    line = page.get_by_role('slider', name='how much of the picture before')
    line.focus()
    for _ in range(20): page.keyboard.press('ArrowLeft')
    assert page.locator('#stage').evaluate('s => s.style.getPropertyValue("--split")') == '30%'
    assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
    if folder := os.environ.get('LM4LV_SCREENSHOTS'): page.screenshot(path=f'{folder}/app_{width}.png', full_page=True)
    page.get_by_label('it is already damaged').check()
    assert not strength.is_visible()
    Path(tmp_path/'bad.png').write_text('no picture')
    page.get_by_label('Photograph', exact=False).first.set_input_files(tmp_path/'bad.png')
    page.get_by_role('button', name='Restore').click()
    page.locator('#said.wrong', has_text='bad.png: cannot be read').wait_for()
    server.shutdown()
    assert [c for c in page.complaints if '400' not in c] == []
