"""Draw the architecture of LM4LV as SVG: one whole figure, one per main chapter with its part in focus, and the house.

    python docs/draw_architecture.py [FOLDER]      # nbs/images by default

All lengths are SVG units; the figure is 900 wide, so that 12 units are 9 points when it is shown 900 pixels wide.
"""
import random, sys
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).resolve().parent.parent/'nbs'/'images'
WIDTH, HEIGHT, FONT = 900, 580, 12.5
DIMMED = .2 # opacity of what a chapter is not about
INK, GREY, PALE = '#222222', '#666666', '#bbbbbb'
BLUE, ICE = '#0072b2', '#dceefa'       # frozen; the palette is Okabe and Ito's
VERMILION, AMBER = '#b34700', '#f5b731' # trained
GREEN, FOREST = '#2fb48c', '#00664b'   # visual tokens: patch, class token
PURPLE, ROSE = '#a0447a', '#f8e6f0'    # losses

# --- shapes -------------------------------------------------------------------------------------------------------

def num(value): return f'{value:.1f}'.removesuffix('.0')

def tag(name, body='', **attributes):
    "An SVG element; `stroke_width=2` becomes `stroke-width='2'`."
    pairs = ((key.replace('_', '-'), num(v) if isinstance(v, float) else v) for key, v in attributes.items())
    head = name + ''.join(f' {key}="{v}"' for key, v in pairs if v is not None)
    return f'<{head}>{body}</{name}>' if body else f'<{head}/>'

def text(x, y, words, size=FONT, fill=INK, anchor='middle', bold=False):
    return tag('text', escape(words), x=x, y=y, font_size=size, fill=fill, text_anchor=anchor,
               font_weight='bold' if bold else None)

def box(x, y, w, h, fill='#ffffff', stroke=PALE, width=1.5, r=5, dash=None):
    return tag('rect', x=x, y=y, width=w, height=h, rx=r, fill=fill, stroke=stroke, stroke_width=width,
               stroke_dasharray=dash)

def polygon(points, fill, stroke='none', width=1.5):
    return tag('polygon', points=' '.join(f'{num(x)},{num(y)}' for x, y in points), fill=fill, stroke=stroke,
               stroke_width=width, stroke_linejoin='round')

def line(*points, stroke=INK, width=1.5, dash=None):
    "A line with rounded corners through points that lie straight above or beside each other."
    (x, y), path = points[0], f'M{num(points[0][0])} {num(points[0][1])}'
    for (bx, by), (cx, cy) in zip(points[1:], points[2:]):
        back, on = min(8, abs(bx - x) + abs(by - y)), min(8, abs(cx - bx) + abs(cy - by))
        sign = lambda d: (d > 0) - (d < 0)
        path += f'L{num(bx - back*sign(bx - x))} {num(by - back*sign(by - y))}'
        path += f'Q{num(bx)} {num(by)} {num(bx + on*sign(cx - bx))} {num(by + on*sign(cy - by))}'
        x, y = bx, by
    path += f'L{num(points[-1][0])} {num(points[-1][1])}'
    return tag('path', d=path, fill='none', stroke=stroke, stroke_width=width, stroke_dasharray=dash)

def arrow(*points, stroke=INK, width=1.5, dash=None):
    "A line whose last point is the tip of an arrowhead."
    (ax, ay), (x, y) = points[-2:]
    length, half = 8, 4.5
    dx, dy = ((x > ax) - (x < ax), (y > ay) - (y < ay))
    base = (x - length*dx, y - length*dy)
    wings = [(base[0] + half*dy*s, base[1] + half*dx*s) for s in (1, -1)]
    return line(*points[:-1], (base[0] + dx, base[1] + dy), stroke=stroke, width=width, dash=dash) + \
        polygon([(x, y), *wings], stroke)

# --- pieces -------------------------------------------------------------------------------------------------------

def snowflake(x, y, r=8):
    "The mark of what is frozen."
    arm = f'M0 0V{-r}M{num(-r*.35)} {num(-r*.9)}L0 {num(-r*.55)}L{num(r*.35)} {num(-r*.9)}'
    arms = ''.join(tag('path', d=arm, transform=f'rotate({angle})' if angle else None) for angle in range(0, 360, 60))
    return tag('g', arms, transform=f'translate({num(x)} {num(y)})', fill='none', stroke=BLUE, stroke_width=1.4,
               stroke_linecap='round')

def flame(x, y, s=1.):
    "The mark of what is trained."
    outer = 'M0 -9C1 -5 6 -3 6 3A6 6 0 0 1 -6 3C-6 0 -4 -1 -3 -4C-2 -3 -1 -2 -1 -1C0 -3 0 -6 0 -9Z'
    inner = 'M0 1C1 3 3 4 3 6A3 3 0 0 1 -3 6C-3 4 -1 4 0 1Z'
    return tag('g', tag('path', d=outer, fill=VERMILION) + tag('path', d=inner, fill='#ffffff'),
               transform=f'translate({num(x)} {num(y)}) scale({num(s)})')

def photo(x, y, noise=0, detail=True, size=74):
    "A landscape; `noise` dots on it, and no fine detail if it was restored."
    s, sun = size/74, tag('circle', cx=56, cy=17, r=8, fill='#f0e442')
    far, near = [(0, 54), (20, 20), (34, 42), (46, 28), (74, 60), (74, 74), (0, 74)], 'M0 56Q24 44 44 54T74 52V74H0Z'
    parts = [tag('rect', width=74, height=74, fill='#a9d8f5'), sun, polygon(far, '#7d8fa3'),
             tag('path', d=near, fill='#3f9b6e'), tag('rect', x=44, y=50, width=18, height=14, fill='#ffffff'),
             polygon([(41, 51), (53, 41), (65, 51)], '#c75b1a')]
    if detail:
        parts += [polygon([(13, 33), (20, 20), (27, 31), (22, 29), (18, 33)], '#ffffff'),
                  tag('rect', x=51, y=55, width=5, height=9, fill='#5a3b22'),
                  tag('rect', x=16, y=56, width=3, height=9, fill='#5a3b22'),
                  polygon([(10, 58), (17.5, 40), (25, 58)], '#00553e')]
    draw = random.Random(0)
    for colour in ('#000000', '#ffffff'):
        dots = ''.join(f'M{draw.randrange(1, 71)} {draw.randrange(1, 71)}h2.4v2.4h-2.4z' for _ in range(noise//2))
        if dots: parts.append(tag('path', d=dots, fill=colour))
    frame = tag('rect', width=74, height=74, fill='none', stroke=INK, stroke_width=1.5)
    return tag('g', ''.join(parts) + frame, transform=f'translate({x} {y})' + (f' scale({s})' if s != 1 else ''))

def bars(x, y, n=17, h=28, width=92, first=FOREST, fill=GREEN, stroke=None, done=None):
    "Vectors side by side; from `done` on they are empty, for they are not yet written."
    pitch, done = width/(n - .25), n if done is None else done
    def some(numbers, fill, stroke):
        path = ''.join(f'M{num(x + i*pitch)} {y}h{num(pitch*.75)}v{h}h-{num(pitch*.75)}z' for i in numbers)
        return tag('path', d=path, fill=fill, stroke=stroke) if path else ''
    return some([0], first, stroke) + some(range(1, done), fill, stroke) + some(range(done, n), '#ffffff', fill)

def word(x, y, w, words, lossy=False):
    "A word of the prompt or of the answer."
    stroke, width = (PURPLE, 1.5) if lossy else (GREY, 1)
    return box(x, y, w, 28, stroke=stroke, width=width) + text(x + w/2, y + 18.5, words)

def linear(centre, y, name, size):
    "A linear layer: its matrix (strong on the diagonal), its name, the mark of what is trained."
    x = centre - 67
    rows = ''.join(f'M{x + 9} {y + 8 + 5*i}h24' for i in range(5))
    diagonal = ''.join(f'M{x + 9 + 5*i} {y + 8 + 5*i}h4' for i in range(5))
    cells = tag('path', d=rows, stroke='#ffffff', stroke_width=4, stroke_dasharray='4 1')
    cells += tag('path', d=diagonal, stroke=VERMILION, stroke_width=4)
    words = text(x + 40, y + 15.5, name, anchor='start', bold=True) + text(x + 40, y + 30, size, anchor='start')
    return box(x, y, 134, 36, AMBER, VERMILION, 2, 6) + cells + words + flame(x + 120, y + 22)

def mae(name, x, y):
    "The words and the mark on a part of the MAE; `y` is the first word's base line."
    return snowflake(x, y - 23, 7.5) + text(x, y, 'MAE', bold=True) + text(x, y + 15, name, bold=True)

def pill(x, y, w, h, *lines, fill=ROSE, stroke=PURPLE):
    return box(x, y, w, h, fill, stroke, 1.5, 11) + labels(x + w/2, y + h/2 + 4.5 - 7.5*(len(lines) - 1), *lines)

def labels(x, y, *lines, **style):
    return ''.join(text(x, y + 15*i, words, **style) for i, words in enumerate(lines))

# --- the figure ---------------------------------------------------------------------------------------------------

SEEN, WRITTEN = 226, 599           # left ends of the two pictures in the sequence
IN, OUT = SEEN + 46, WRITTEN + 46  # their centres: what goes into the language model, what comes out
RIGHT = 842                        # centre of the decoder's column
INPUT, OUTPUT, FEATURES = 194, 270, 390 # tops of three rows of tokens
DASH = '5 3'                       # of what happens only in training and evaluation

def left_parts():
    "From the degraded photograph to the sequence."
    encoder = polygon([(116, 20), (206, 32), (206, 80), (116, 92)], ICE, BLUE, 2) + mae('encoder', 161, 62)
    return dict(
        degraded=photo(22, 19, noise=110) + labels(59, 110, 'degraded', 'photograph'),
        encoder=arrow((97, 56), (115, 56)) + encoder,
        tokens=arrow((207, 56), (224, 56)) + bars(SEEN, 38, h=36) +
            labels(350, 79, '17 visual tokens of 192 numbers:', '1 class token + 16 patches', fill=GREY,
                   anchor='start'),
        mae_r=arrow((322, 56), (RIGHT, 56), (RIGHT, 371), stroke=GREY, width=1.2) +
            text(590, 48, 'MAE-r: the MAE alone, without a language model', fill=GREY),
        adapter=arrow((IN, 78), (IN, 119)) + linear(IN, 120, 'adapter', '192 → 576') +
            arrow((IN, 157), (IN, INPUT - 2)))

def sequence_parts(done, asked):
    "The frozen language model, what it reads (upper row) and what it writes (lower row)."
    title = 'Is it the language model?' if asked else 'Frozen language model'
    below = 'random weights, a small expert, none?' if asked else \
        'predicts the next element: word or visual token'
    words = text(126, 279, title, 18, anchor='start', bold=True) + text(126, 297, below, anchor='start', fill=GREY)
    mark = text(418, 296, '?', 48, VERMILION, bold=True) if asked else ''
    first, last, turn = WRITTEN + 2, WRITTEN + 90, 252
    return dict(
        llm=box(92, 180, 676, 132, ICE, BLUE, 2, 10) + snowflake(110, 273, 10) + words + mark,
        prompt=word(104, INPUT, 56, 'Human:') + word(167, INPUT, 52, '<Img>') + word(325, INPUT, 56, '</Img>') +
            word(465, INPUT, 68, 'Assistant:') + word(540, INPUT, 52, '<Img>') + word(698, INPUT, 56, '</Img>'),
        seen=bars(SEEN, INPUT) + text(IN, 238, 'degraded', fill=GREY),
        task=bars(388, INPUT, 10, width=70, first=AMBER, fill=AMBER, stroke=VERMILION) +
            text(423, 238, '10 task tokens', fill=VERMILION),
        written=bars(WRITTEN, INPUT, done=done) + text(OUT, 238, 'restored', fill=GREY),
        answer=arrow((499, 223), (499, OUTPUT - 2), stroke=GREY) + word(473, OUTPUT, 52, '<Img>', True) +
            arrow((last, 225), (last, turn), (726, turn), (726, OUTPUT - 2), stroke=GREY) +
            word(698, OUTPUT, 56, '</Img>', True),
        hidden=arrow((566, 223), (566, turn), (first, turn), (first, OUTPUT - 2), stroke=GREY) +
            arrow((OUT, 244), (OUT, OUTPUT - 2), stroke=GREY) +
            bars(WRITTEN, OUTPUT, first=GREY, fill='#999999', done=done and done + 1))

def right_parts(done):
    "From the sequence to the restored photograph, and back into the sequence."
    decoder = polygon([(817, 372), (867, 372), (887, 440), (797, 440)], ICE, BLUE, 2) + mae('decoder', RIGHT, 410)
    return dict(
        deadapter=arrow((OUT, 300), (OUT, 329)) + linear(OUT, 330, 'de-adapter', '576 → 192') +
            arrow((OUT, 367), (OUT, FEATURES - 2)),
        features=bars(WRITTEN, FEATURES, h=36, done=done and done + 1),
        feedback=arrow((695, 408), (786, 408), (786, 104), (OUT, 104), (OUT, 119), width=2.4) +
            labels(786, 82, 'one at a time: each', 'is the next input', anchor='end', bold=True),
        adapter_again=linear(OUT, 120, 'adapter', 'the same') + arrow((OUT, 157), (OUT, INPUT - 2)),
        to_decoder=arrow((776, 408), (806, 408)),
        decoder=decoder + arrow((RIGHT, 441), (RIGHT, 455)),
        restored=photo(805, 457, detail=False) + labels(RIGHT, 546, 'restored', 'photograph'))

def training_parts():
    "The clean photograph and what it is for: pairs, losses, metrics."
    encoder = polygon([(490, 457), (400, 469), (400, 519), (490, 531)], ICE, BLUE, 2) + mae('encoder', 445, 500)
    return dict(
        clean=photo(608, 457) + text(OUT, 546, 'clean photograph'),
        degrade=arrow((OUT, 552), (OUT, 566), (59, 566), (59, 131), stroke=GREY, dash=DASH) +
            text(330, 560, 'degrade: noise, blur, rain, …', fill=GREY),
        target=arrow((607, 494), (491, 494), dash=DASH) + encoder + arrow((445, 461), (445, 428), dash=DASH) +
            bars(399, FEATURES, h=36),
        l2=arrow((494, 408), (514, 408), stroke=PURPLE, dash=DASH) + pill(515, 396, 60, 24, 'L2 loss') +
            arrow((596, 408), (576, 408), stroke=PURPLE, dash=DASH),
        entropy=''.join(arrow((x, 299), (x, 329), stroke=PURPLE, dash=DASH) +
                        pill(x - 29, 330, 58, 36, 'cross-', 'entropy') for x in (499, 748)),
        metrics=arrow((683, 494), (712, 494), dash=DASH) + arrow((804, 494), (776, 494), dash=DASH) +
            pill(713, 472, 62, 44, 'PSNR', 'SSIM', fill='#eeeeee', stroke=INK))

def legend_parts():
    rows = [('frozen', box(92, 330, 26, 18, ICE, BLUE, 1.5, 4) + snowflake(105, 339, 6)),
            ('trained', box(92, 353, 26, 18, AMBER, VERMILION, 1.5, 4) + flame(105, 361.5, .8)),
            ('visual tokens', bars(92, 376, 5, 18, 26)),
            ('loss', box(92, 399, 26, 18, ROSE, PURPLE, 1.5, 9)),
            ('only to train and to evaluate', line((92, 431), (118, 431), dash=DASH))]
    key = ''.join(art + text(128, 343.5 + 23*i, words, anchor='start') for i, (words, art) in enumerate(rows))
    table = [('', 'here', 'paper'), ('language model', 'SmolLM2-135M', 'LLaMA2-7B'),
             ('visual tokens', '17 × 192', '197 × 1024'), ('task tokens', '10 × 576', '10 × 4096')]
    cells = ''.join(text(x, 471 + 19*i, words, anchor='start', bold=not i, fill=GREY if x == 92 else INK)
                    for i, row in enumerate(table) for x, words in zip((92, 203, 308), row) if words)
    return dict(legend=key, scale=cells)

def badges():
    "The three pictures that an evaluation compares with the clean one."
    places = [(22, 19, '1'), (400, 56, '2'), (92, 180, '3')]
    return ''.join(tag('circle', cx=x, cy=y, r=11, fill=INK) + text(x, y + 4.5, n, fill='#ffffff', bold=True)
                   for x, y, n in places)

SEQUENCE = 'prompt seen task written'
LOSSES = 'l2 entropy'
CHAPTERS = { # chapter -> what its figure shows, the parts in focus
    'photographs': ('the photographs', 'degraded clean restored'),
    'degradations': ('how a clean photograph becomes a degraded one', 'clean degrade degraded'),
    'metrics': ('the comparison of the restored with the clean photograph', 'restored clean metrics'),
    'mae': ('the masked autoencoder: encoder, visual tokens, decoder',
            'degraded encoder tokens mae_r decoder restored'),
    'language-model': ('the frozen language model', f'llm {SEQUENCE} answer hidden'),
    'adapters': ('the two linear layers and the task tokens',
                 'tokens adapter seen task written adapter_again hidden deadapter features'),
    'conversations': ('the prompt and the answer as one sequence', f'{SEQUENCE} answer'),
    'next-element': ('the two losses of next-element prediction',
                     f'{SEQUENCE} answer hidden deadapter features target {LOSSES} clean'),
    'generation': ('the feedback of each visual token', 'written hidden deadapter features feedback adapter_again'),
    'training': ('what is trained, and the losses', f'adapter task deadapter adapter_again legend {LOSSES}'),
    'evaluation': ('degraded (1), MAE-r (2) and LM4LV (3) against the clean photograph',
                   f'degraded encoder tokens mae_r adapter llm {SEQUENCE} answer hidden deadapter features feedback '
                   'adapter_again to_decoder decoder restored metrics clean'),
    'adapter-weights': ('the matrices of adapter and de-adapter', 'adapter deadapter'),
    'ablations': ('the question whether it is the language model', 'llm'),
}
ABOUT = """A degraded photograph goes through the frozen MAE encoder, which gives 17 visual tokens; the adapter, a
trained linear layer, carries them into the sequence of a frozen language model, between the words of a prompt and ten
trained task tokens. The language model writes the visual tokens of the restored photograph one at a time: the trained
de-adapter carries each back, and the adapter feeds it in again as the next input. The frozen MAE decoder draws the
restored photograph. Cross-entropy on words and L2 on visual tokens train the two linear layers and the task tokens.
MAE-r encodes and decodes without the language model."""

def svg(name, width, height, title, about, body):
    head = tag('title', escape(title), id=f'{name}-title') + '\n' + tag('desc', escape(about), id=f'{name}-desc')
    paper = box(.5, .5, width - 1, height - 1, '#ffffff', '#e0e0e0', 1, 12)
    return tag('svg', '\n'.join(['', head, paper, *body, '']), xmlns='http://www.w3.org/2000/svg', width=width,
               height=height, viewBox=f'0 0 {width} {height}', font_family='sans-serif', role='img',
               aria_labelledby=f'{name}-title {name}-desc') + '\n'

def architecture(chapter=None):
    "The whole figure, or the same with one chapter's parts in focus."
    done = 6 if chapter == 'generation' else None
    parts = sequence_parts(done, asked=chapter == 'ablations')
    parts |= left_parts() | right_parts(done) | training_parts() | legend_parts()
    shows, focus = CHAPTERS.get(chapter, ('', ' '.join(parts)))
    assert set(focus.split()) <= set(parts), f'{chapter}: no such part'
    dim = {name: None if name in focus.split() else DIMMED for name in parts}
    body = [tag('g', art, data_part=name, opacity=dim[name]) for name, art in parts.items()]
    if chapter == 'evaluation': body.append(badges())
    title = 'LM4LV: a frozen language model restores photographs' if chapter is None else f'LM4LV: {shows}'
    about = ABOUT if chapter is None else f'In focus: {shows}. {ABOUT}'
    return svg(chapter or 'architecture', WIDTH, HEIGHT, title, about, body)

# --- the house ----------------------------------------------------------------------------------------------------

FLOORS = [('core', 'files, and the loop that trains anything'), ('images', 'photographs, degradations, metrics'),
          ('vision', 'the MAE and other vision modules'), ('llm', 'the frozen language model'),
          ('model', 'adapters, conversations, next element, generation'), ('training', 'from two cores to many GPUs'),
          ('evaluation', 'what it can do, and what the adapters learned'), ('ablations', 'is it the language model?'),
          ('app', 'large pictures, image files, speed'), ('course', 'exercises, assignments, grading')]

def house():
    "Ten floors, a folder each; imports go down."
    width, storey, top = 640, 30, 74
    ground, left, wide = top + storey*len(FLOORS), 40, 490
    body = [polygon([(left - 14, top), (left + wide/2, 14), (left + wide + 14, top)], AMBER, VERMILION, 2) +
            text(left + wide/2, 58, 'lm4lv, the command', 14, bold=True)]
    for i, (name, about) in enumerate(FLOORS):
        y = ground - storey*(i + 1)
        body.append(tag('rect', x=left, y=y, width=wide, height=storey, fill=ICE if i % 2 else '#ffffff', stroke=BLUE,
                        stroke_width=1.5) + text(left + 14, y + 20, f'{i}_{name}', 14, anchor='start', bold=True) +
                    text(left + 130, y + 20, about, 13, anchor='start'))
    body.append(line((14, ground), (width - 14, ground), stroke=GREY, width=3))
    body.append(arrow((left + wide + 24, top + 12), (left + wide + 24, ground - 12), width=2.4) +
                labels(left + wide + 34, top + 145, 'imports', 'go down', size=13, anchor='start'))
    about = '; '.join(f'{i}_{name}: {words}' for i, (name, words) in enumerate(FLOORS))
    title = 'The house of lm4lv: ten floors, and imports only go down'
    return svg('house', width, ground + 16, title, f'From the ground up: {about}.', body)

def main(folder=IMAGES):
    pictures = {'architecture': architecture(), 'house': house()}
    pictures |= {f'architecture-{chapter}': architecture(chapter) for chapter in CHAPTERS}
    for name, picture in pictures.items(): (Path(folder)/f'{name}.svg').write_bytes(picture.encode())

if __name__ == '__main__': main(*sys.argv[1:])
