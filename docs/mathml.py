"""Equations as MathML, made while the site is built.

MathML needs no script and no network, is read by screen readers, takes its colour from the page (dark mode), and
every current browser draws it. MathJax would have to be taken out of some other package or fetched; no pip package
ships KaTeX with its fonts. What MathML needs for good looks is a font with a table of mathematics: STIX Two Math
(Open Font License), which the package ziamath brings.
"""
import re
from importlib.util import find_spec
from pathlib import Path
from docutils import nodes
from fontTools.ttLib import TTFont
from latex2mathml.converter import convert
from sphinx.util import logging

log = logging.getLogger(__name__)
# what the converter leaves as LaTeX in \big\langle and its like
SIZED = {'langle': '⟨', 'rangle': '⟩', 'lfloor': '⌊', 'rfloor': '⌋', 'lceil': '⌈', 'rceil': '⌉', 'lvert': '|',
         'rvert': '|', 'vert': '|', 'lVert': '‖', 'rVert': '‖', 'Vert': '‖', '{': '{', '}': '}', '|': '‖'}
DELIMITER = re.compile(r'(?<=>)\\([a-zA-Z]+|[{}|])(?=</mo>)')
ENVIRONMENTS = {'aligned': 'align*', r'gathered|gather\*?': 'matrix', 'dcases': 'cases'}
# a break of lines stands where an environment was not understood
UNKNOWN = re.compile(r'\\[a-zA-Z]+|linebreak="newline"')
ARG = re.compile(r'\\arg\s*\\(min|max)') # written apart, which the converter does not know


def known(latex, display):
    "The same LaTeX in environments and commands that the converter knows; lines without an environment are aligned."
    bare = display == 'block' and r'\\' in latex and r'\begin' not in latex
    if bare: latex = rf'\begin{{aligned}}{latex}\end{{aligned}}'
    for pattern, name in ENVIRONMENTS.items():
        latex = re.sub(rf'\\(begin|end)\{{({pattern})\}}', rf'\\\1{{{name}}}', latex)
    return ARG.sub(r'\\arg\1', latex)


def to_mathml(latex, display, place):
    "LaTeX as MathML; warns of commands that are not understood, which would stand on the page as they are."
    latex = known(latex, display)
    try: made = convert(latex, display=display)
    except Exception as error: # the converter raises many kinds
        log.warning('equation %r: %r', latex, error, location=place)
        return f'<code>{nodes.unescape(latex)}</code>'
    made = DELIMITER.sub(lambda m: SIZED.get(m[1], m[0]), made)
    if unknown := UNKNOWN.findall(made):
        log.warning('equation %r: unknown %s', latex, ', '.join(unknown), location=place)
    return made


def visit_inline(self, node):
    self.body.append(to_mathml(node.astext(), 'inline', node))
    raise nodes.SkipNode


def visit_block(self, node):
    self.body.append(self.starttag(node, 'div', CLASS='math'))
    if node.get('number'):
        self.body.append(f'<span class="eqno">({node["number"]})</span>')
    self.body.append(to_mathml(node.astext(), 'block', node) + '</div>')
    raise nodes.SkipNode


def write_font(app, error):
    "The font of mathematics, compressed, beside the pages."
    if error or app.builder.format != 'html': return
    out = Path(app.outdir)/'_static'/'STIXTwoMath.woff'
    if out.exists(): return
    font = TTFont(Path(find_spec('ziamath').origin).parent/'fonts'/'STIXTwoMath-Regular.ttf')
    font.flavor = 'woff'
    font.save(out)


def setup(app):
    app.add_html_math_renderer('mathml', (visit_inline, None), (visit_block, None))
    app.connect('build-finished', write_font)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
