import json, os, subprocess, sys
import xml.etree.ElementTree as xml
from pathlib import Path
import pytest
from conftest import CHAPTERS
import torch
from PIL import Image, ImageChops
pytest.importorskip('anywidget')
from lm4lv.images.degradations import TASKS, make_pairs
from lm4lv.images.photos import to_tensor
from lm4lv.evaluation.adapter_weights import attention, matrices, read_snapshots
from lm4lv.evaluation.widgets import MAPS, STRENGTHS, AdapterExplorer, Control, Explorer, MatrixView, answer_time, attention_explorer, bars_svg, degradation_playground, framed, generation_player, in_a_row, lines_svg, look, painted, spectrum_explorer, spoil, task_token_explorer, unfinished

ROOT = Path(__file__).resolve().parent.parent
VIEW = 'application/vnd.jupyter.widget-view+json'

def pictures(n): return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(n))

# pictures

@pytest.mark.parametrize('name', MAPS)
def test_colours_end_where_they_are_told_to_and_zero_has_its_own(name):
    matrix = torch.tensor([[-5., -1, 0, 1, 5]])
    pixels = [painted(matrix, name, 1.0).getpixel((i, 0)) for i in range(5)]
    assert pixels[0] == pixels[1] and pixels[3] == pixels[4] and len({pixels[2], pixels[3]}) == 2
    assert (pixels[1] != pixels[3]) == MAPS[name]

@pytest.mark.parametrize('name', MAPS)
def test_no_colour_map_needs_red_told_from_green(name):
    # seen without the difference of red and green (their mean in place of both), neighbours a tenth of the range apart still differ
    seen = [painted(torch.tensor([[x / 10]]), name, 1.0).getpixel((0, 0)) for x in range(-10 if MAPS[name] else 0, 11)]
    flat = [((r + g) / 2, b) for r, g, b in seen]
    assert all(sum(abs(a - b) for a, b in zip(x, y)) > 6 for x, y in zip(flat, flat[1:]))

def test_a_matrix_of_zeros_can_be_painted(): assert painted(torch.zeros(2, 3)).size == (3, 2)

def test_pictures_in_a_row_keep_their_positions():
    row = to_tensor(in_a_row([Image.new('RGB', (2, 2), c) for c in ('black', 'white')], side=10, gap=4))
    assert row.shape == (3, 10, 24) and row[:, :, :10].max() == 0 and row[:, :, 10:].min() == 1

@pytest.mark.parametrize('log', [True, False])
def test_curves_stay_inside_of_their_picture(log):
    drawn = xml.fromstring(lines_svg({'a < b & "c"': [5, 0, 1e-9, 3], 'one': [2]}, log, 'across'))
    points = [tuple(map(float, p.split(','))) for e in drawn if e.tag.endswith('polyline') for p in e.get('points').split()]
    assert len(points) == 5 and all(0 <= x <= 560 and 0 <= y <= 240 for x, y in points)

def test_bars_of_any_text_are_well_formed_and_in_proportion():
    drawn = xml.fromstring(bars_svg([("'<script>'", .2), ("'&'", .1), ('x', -.5)], mark=.15))
    widths = [float(e.get('width')) for e in drawn if e.tag.endswith('rect')]
    assert widths[0] == pytest.approx(2 * widths[1], rel=1e-3) and widths[2] == 0

# the shell

def test_an_explorer_hands_options_over_and_shows_what_comes_back():
    asked = []
    def drawing(**chosen):
        asked.append(chosen)
        return painted(torch.eye(2)), str(chosen)
    explorer = Explorer(drawing, 'Title', a=Control('first', [10, 20], start=-1), b=Control('second', 'xyz', slider=False))
    explorer.chosen = dict(a=0, b=2)
    assert asked == [dict(a=20, b='x'), dict(a=10, b='z')] and explorer.said == str(asked[1])
    assert explorer.html.startswith('<img') and explorer.answered == 2

def test_an_explorer_answers_even_when_nothing_could_be_drawn():
    def drawing(n):
        if n: raise RuntimeError('no picture')
        return None, 'nothing'
    explorer = Explorer(drawing, '', n=Control('n', [0, 1]))
    with pytest.raises(RuntimeError): explorer.chosen = dict(n=1)
    assert explorer.answered == 2

def test_where_no_widget_can_be_the_picture_is(monkeypatch):
    for picture, kind in ((painted(torch.eye(2)), 'image/png'), ('<svg xmlns="http://www.w3.org/2000/svg"/>', 'image/svg+xml')):
        explorer = Explorer(lambda n: (picture, ''), '', n=Control('n', [0, 1]))
        monkeypatch.delenv('LM4LV_STILL', raising=False)
        assert {VIEW, kind} <= set(explorer._repr_mimebundle_()[0])
        monkeypatch.setenv('LM4LV_STILL', '1')
        assert set(explorer._repr_mimebundle_()[0]) == {'text/plain', kind}

def test_a_matrix_of_any_shape_is_sent_whole():
    view = MatrixView(torch.randn(3, 4))
    large = torch.randn(576, 384)
    view.show(large.half().t().t())
    assert (view.rows, view.columns) == (576, 384)
    assert torch.equal(torch.frombuffer(bytearray(view.data), dtype=torch.float32).view(576, 384), large.half().float())

def test_without_anywidget_the_extra_is_named():
    code = "import sys; sys.modules['anywidget'] = None; import lm4lv.evaluation.widgets"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode and 'lm4lv[widgets]' in done.stderr

# the explorers, each option of each control

@pytest.fixture
def seen(tiny):
    degraded = make_pairs(pictures(2), 'denoise').input
    return tiny, attention(tiny, degraded, 'denoise'), degraded

def go_through(explorer):
    "The sentences of all options, one control at a time; each names its own."
    said = {}
    for name, control in explorer.choices.items():
        at_first, said[name] = explorer.chosen, []
        for i in range(len(control.options)):
            explorer.chosen = dict(at_first, **{name: i})
            said[name].append(explorer.said)
        explorer.chosen = at_first
        assert len(set(said[name])) == len(control.options), f'{name}: different options are described alike'
    return said

def test_the_adapter_explorer_shows_each_matrix_of_each_step():
    snapshots = dict(list(read_snapshots().items())[::4])
    adapters = AdapterExplorer(snapshots)
    go_through(adapters.explorer)
    for i, seen in enumerate(snapshots):
        for j, (name, matrix) in enumerate(matrices(snapshots[seen]).items()):
            adapters.explorer.chosen = dict(matrix=j, seen=i)
            assert torch.equal(adapters.view.matrix, matrix), (seen, name)
    assert adapters.still().size == (576, 384)

def test_spectra_and_text_tokens_of_each_step(tiny):
    state = {k: v.clone() for k, v in tiny.trained_state().items()}
    snapshots = {0: state, 8: {k: v + 0.1 * torch.randn_like(v) for k, v in state.items()}}
    spectra = spectrum_explorer(snapshots)
    for i in range(2): spectra.chosen = dict(spectra.chosen, scale=i)
    assert 'polyline' in spectra.html and 'after 8' in spectra.said
    tokens = task_token_explorer(tiny, snapshots)
    tokens.chosen = dict(task=1, seen=1, token=2, count=11)
    assert tokens.html.count('<rect') == 12 and 'token 2' in tokens.said

def test_the_playground_spoils_as_the_tasks_do():
    playground = degradation_playground(pictures(3))
    go_through(playground)
    for task in TASKS:
        at_end = spoil(pictures(1)[0], task, 1.0, 5)
        if task in STRENGTHS: assert not torch.equal(at_end, pictures(1)[0]) and torch.allclose(spoil(pictures(1)[0], task, 0.0, 5), pictures(1)[0])
    assert torch.equal(spoil(pictures(1)[0], 'flip', .1, 0), pictures(1)[0].flip(-1))
    assert torch.equal(spoil(pictures(1)[0], 'denoise', .5, 5), make_pairs(pictures(1), 'denoise', params=[dict(seed=5, sigma=25 / 255)]).input[0])

def test_the_player_ends_with_the_finished_picture(seen):
    tiny, looked, degraded = seen
    player = generation_player(tiny, looked, degraded)
    go_through(player)
    N = tiny.vision.num_tokens
    frames = unfinished(tiny, looked.features[0], list(range(N + 1)))
    torch.testing.assert_close(frames[-1:], tiny.vision.decode(looked.features[:1]).clamp(0, 1))
    torch.testing.assert_close(frames[:1], tiny.vision.decode(torch.zeros_like(looked.features[:1])).clamp(0, 1))
    assert all(not torch.equal(a, b) for a, b in zip(frames, frames[1:]))

def test_the_attention_explorer_shows_what_was_looked_at(seen):
    tiny, looked, degraded = seen
    explorer = attention_explorer(looked, degraded)
    for name, control in explorer.choices.items():
        for i in range(len(control.options)): explorer.chosen = dict(explorer.chosen, **{name: i})
    shares = look(looked, 1, 0, 3, 2)
    assert shares.shape == (2, 2) and shares.sum() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(shares.flatten(), looked.maps[1, 0, 3, 2, 1:] / looked.maps[1, 0, 3, 2, 1:].sum())
    shares, frame = looked.share(), framed(looked.share(), 1, 2, side=80) # two layers, four heads
    plain = painted(shares).resize((80, 80), Image.Resampling.NEAREST)
    assert ImageChops.difference(frame, plain).getbbox() == (40, 40, 61, 80)

def test_answer_times_are_measured_and_leave_all_as_it_was():
    explorer = Explorer(lambda n: (None, str(n)), '', n=Control('n', list(range(5)), start=3))
    assert 0 < answer_time(explorer) < 1000 and explorer.chosen == dict(n=3)

# what is committed

@pytest.mark.parametrize('chapter', ['12_adapter_weights', '12a_widgets'])
def test_committed_outputs_are_still_pictures(chapter):
    # a view without its kernel shows an error; run the chapter with LM4LV_STILL=1 and --ExecutePreprocessor.store_widget_state=False
    notebook = json.loads((CHAPTERS[chapter]).read_text())
    kinds = [set(o.get('data', {})) for c in notebook['cells'] for o in c.get('outputs', [])]
    assert 'widgets' not in notebook['metadata'] and not any(VIEW in k for k in kinds)
    assert sum(bool(k & {'image/png', 'image/svg+xml'}) for k in kinds) >= 6
