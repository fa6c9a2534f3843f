"The drawn figures: what is committed is what the script draws, large enough to read, and inside its frame."
import importlib.util, re
import xml.etree.ElementTree as ET
from pathlib import Path
import matplotlib, pytest
from PIL import ImageFont
from test_house import FLOORS

ROOT = Path(__file__).parent.parent
IMAGES = ROOT/'nbs'/'images'
SVG = '{http://www.w3.org/2000/svg}'
spec = importlib.util.spec_from_file_location('draw_architecture', ROOT/'docs'/'draw_architecture.py')
diagram = importlib.util.module_from_spec(spec)
spec.loader.exec_module(diagram)
FIGURES = ['architecture', 'house', *(f'architecture-{chapter}' for chapter in diagram.CHAPTERS)]
CHAPTERS = re.findall(r'\d\d_(\w+)', ' '.join(sorted(p.stem for p in (ROOT/'nbs').glob('[0-9]*/[0-9][0-9]_*.ipynb'))))

def root(name): return ET.parse(IMAGES/f'{name}.svg').getroot()

FONTS = {weight: ImageFont.truetype(f'{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans{weight}.ttf', 100)
         for weight in ('', '-Bold')} # among the widest that browsers take for sans-serif

def text_box(element):
    "Left, top, right, bottom of a text in DejaVu Sans."
    x, y, size = (float(element.get(key)) for key in ('x', 'y', 'font-size'))
    width = FONTS['-Bold' if element.get('font-weight') == 'bold' else ''].getlength(element.text)*size/100
    left = x - width*{'start': 0, 'middle': .5, 'end': 1}[element.get('text-anchor')]
    return left, y - .75*size, left + width, y + .25*size

def path_points(d):
    "The points that a path of absolute M, L, Q, T, V, H and relative h, v, A visits (control points too)."
    x = y = 0.
    for command, numbers in re.findall(r'([A-Za-z])([^A-Za-z]*)', d):
        values = [float(v) for v in re.findall(r'-?\d*\.?\d+', numbers)]
        if command == 'A': values = values[5:]
        if command in 'Hh': x = values[0] + (x if command == 'h' else 0); yield x, y
        elif command in 'Vv': y = values[0] + (y if command == 'v' else 0); yield x, y
        elif command not in 'Zz':
            for x, y in zip(values[::2], values[1::2]): yield x, y

def extent(element):
    "Left, top, right, bottom of one shape, before its group is moved."
    get = lambda *keys: [float(element.get(key, 0)) for key in keys]
    kind = element.tag.removeprefix(SVG)
    if kind == 'text': return text_box(element)
    if kind == 'rect': x, y, w, h = get('x', 'y', 'width', 'height'); return x, y, x + w, y + h
    if kind == 'circle': x, y, r = get('cx', 'cy', 'r'); return x - r, y - r, x + r, y + r
    if kind == 'polygon': points = [tuple(map(float, p.split(','))) for p in element.get('points').split()]
    else: points = list(path_points(element.get('d')))
    xs, ys = zip(*points)
    return min(xs), min(ys), max(xs), max(ys)

def shapes(element, dx=0., dy=0., scale=1.):
    "Every shape with its extent on the page; turned ones keep the extent of the unturned."
    for child in element:
        moved = re.search(r'translate\(([-\d.]+) ([-\d.]+)\)', child.get('transform', ''))
        grown = re.search(r'scale\(([\d.]+)\)', child.get('transform', ''))
        x, y = map(float, moved.groups()) if moved else (0., 0.)
        here = (dx + scale*x, dy + scale*y, scale*float(grown[1]) if grown else scale)
        if child.tag == f'{SVG}g': yield from shapes(child, *here)
        elif child.tag not in (f'{SVG}title', f'{SVG}desc'):
            left, top, right, bottom = extent(child)
            x, y, s = here
            yield child, (x + s*left, y + s*top, x + s*right, y + s*bottom)

def test_committed_figures_are_what_the_script_draws(tmp_path):
    diagram.main(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {f'{name}.svg' for name in FIGURES}
    for path in tmp_path.iterdir():
        same = path.read_bytes() == (IMAGES/path.name).read_bytes()
        assert same, f'{path.name} is not what the script draws: run python docs/draw_architecture.py'
    assert not {p.name for p in IMAGES.glob('architecture*.svg')} - {f'{name}.svg' for name in FIGURES}

@pytest.mark.parametrize('name', FIGURES)
def test_is_small_and_says_what_it_shows(name):
    svg = root(name)
    assert (IMAGES/f'{name}.svg').stat().st_size < 30_000
    assert svg.find(f'{SVG}title').text and len(svg.find(f'{SVG}desc').text) > 100
    assert svg.get('aria-labelledby').split() == [svg.find(f'{SVG}{part}').get('id') for part in ('title', 'desc')]

@pytest.mark.parametrize('name', FIGURES)
def test_can_be_read(name):
    svg = root(name)
    shown = min(900, float(svg.get('width')))/float(svg.get('viewBox').split()[2]) # pixels per unit, at most 900 wide
    sizes = [float(e.get('font-size'))*shown for e in svg.iter(f'{SVG}text')]
    assert sizes and min(sizes) >= 12 # pixels: 9 points

@pytest.mark.parametrize('name', FIGURES)
def test_lies_inside_its_frame(name):
    svg = root(name)
    _, _, width, height = map(float, svg.get('viewBox').split())
    for element, (left, top, right, bottom) in shapes(svg):
        inside = left >= 0 and top >= 0 and right <= width and bottom <= height
        assert inside, (element.tag, element.attrib, element.text)

@pytest.mark.parametrize('name', FIGURES)
def test_no_text_covers_another(name):
    texts = [(e.text, box) for e, box in shapes(root(name)) if e.tag == f'{SVG}text']
    for i, (one, a) in enumerate(texts):
        for other, b in texts[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (one, other)

def test_every_main_chapter_up_to_the_ablations_has_its_figure():
    numbered = [name.replace('_', '-') for name in CHAPTERS if name != 'verdicts'] # the verdicts are about the whole
    assert numbered == list(diagram.CHAPTERS)

@pytest.mark.parametrize('chapter', diagram.CHAPTERS)
def test_a_chapter_dims_what_it_is_not_about(chapter):
    focus = diagram.CHAPTERS[chapter][1].split()
    groups = root(f'architecture-{chapter}').findall(f'{SVG}g')
    parts = {g.get('data-part'): g.get('opacity') for g in groups}
    assert {name for name, opacity in parts.items() if opacity is None} == set(focus)
    assert 0 < len(set(focus)) < len(parts)

def test_the_house_has_the_floors_of_the_package():
    assert [name for name, _ in diagram.FLOORS] == FLOORS
    words = [e.text for e in root('house').iter(f'{SVG}text')]
    assert all(f'{i}_{name}' in words for i, name in enumerate(FLOORS))
