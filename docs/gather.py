"""Notebooks of nbs/ as Sphinx shall see them, and the table of contents, both from the folders alone."""
import json, os, re, shutil
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
WORK = Path(os.environ.get('LM4LV_SITE_WORK', ROOT/'docs'/'_build'))
SOURCE = WORK/'source' # what Sphinx reads; written anew by each build
_parser = ConfigParser(delimiters=['='], interpolation=None)
_parser.read(ROOT/'settings.ini', encoding='utf-8')
SETTINGS = _parser['DEFAULT']
BLOB = f"{SETTINGS['git_url']}/blob/{SETTINGS['branch']}"
PUBLISHED = 'gh-pages' # the branch that holds the built site, and with it the notebooks for Colab
REPOSITORY = SETTINGS['git_url'].split('github.com/')[-1]
COLAB = f'https://colab.research.google.com/github/{REPOSITORY}/blob/{PUBLISHED}/colab'

LINK = re.compile(r'(\]\()([^)\s]+)')
DIRECTIVE = re.compile(r'#\s*\|\s*(.*)')
CODE = re.compile(r'(^ *(`{3,}|~{3,}).*?^ *\2|`[^`\n]+`)', re.S | re.M)
CITATION = re.compile(r'\[((?:@[\w:.-]+(?:;\s*)?)+)\]')
PLUMBING = ('default_exp', 'hide', 'include: false')
SOLUTION = re.compile(r'^( *)### BEGIN (SOLUTION|HIDDEN TESTS)\n.*?### END \2\n?', re.S | re.M)
WIDGET = 'application/vnd.jupyter.widget-view+json'


@dataclass(frozen=True)
class Chapter:
    "A notebook and its place in the table of contents."
    path: Path # relative to nbs/

    @cached_property
    def notebook(self): return json.loads((NBS/self.path).read_text(encoding='utf-8'))

    @cached_property
    def opening(self):
        "Lines of the first cell that is text."
        cell = next((c for c in self.notebook['cells'] if c['cell_type'] == 'markdown'), dict(source=''))
        return ''.join(cell['source']).strip().splitlines()

    @property
    def doc(self): return self.path.with_suffix('').as_posix()

    @property
    def folder(self): return self.path.parts[0] if len(self.path.parts) > 1 else ''

    @property
    def number(self):
        "`4` or `4a`; empty outside the numbered folders."
        match = re.match(r'0*(\d+[a-z]?)_', self.path.stem)
        return match[1] if match and self.folder[:1].isdigit() else ''

    @property
    def title(self): return next((l[2:].strip() for l in self.opening if l.startswith('# ')), self.path.stem)

    @property
    def summary(self): return next((l.lstrip('> ').strip() for l in self.opening if l.startswith('>')), '')

    @property
    def label(self): return f'{self.number}. {self.title}' if self.number else self.title

    @property
    def entry(self):
        "Its line in a toctree."
        return f"{self.label} </{self.doc}>"

    @property
    def module(self):
        "Name of the module that it exports, or None."
        text = '\n'.join(''.join(c['source']) for c in self.notebook['cells'] if c['cell_type'] == 'code')
        match = re.search(r'^#\s*\|\s*default_exp +(\S+)', text, re.M)
        return f"{SETTINGS['lib_name']}.{match[1]}" if match else None


def chapters():
    "Every notebook of nbs/, in the order of folders and names."
    paths = [p.relative_to(NBS) for p in sorted(NBS.rglob('*.ipynb'))]
    shown = [p for p in paths if not any(part[0] in '._' for part in p.parts)]
    return [Chapter(p) for p in sorted(shown, key=lambda p: (int(re.match(r'\d*', p.parts[0])[0] or 99), p))]


def parts(chapters):
    "The main line, bonus chapters by folder, and what lies in folders without a number, by folder."
    main, bonus, other = [], {}, {}
    for chapter in chapters:
        if chapter.number.isdigit(): main.append(chapter)
        elif chapter.number: bonus.setdefault(chapter.folder, []).append(chapter)
        elif chapter.folder: other.setdefault(chapter.folder, []).append(chapter)
    return sorted(main, key=lambda c: int(c.number)), bonus, other


def directives(source):
    "nbdev's directives at the head of a code cell, without their sign."
    lines = (DIRECTIVE.match(line) for line in source.lstrip().splitlines())
    said = []
    for line in lines:
        if not line: break
        said.append(line[1].strip())
    return said


def tags(cell, said):
    "myst-nb's tags for a code cell: what is not shown of it, or only on demand."
    echo = any(re.match(r'echo: *false|hide_input', d) for d in said)
    folded = cell['metadata'].get('jupyter', {}).get('source_hidden') or any(re.match(r'code-fold', d) for d in said)
    silent = any(re.match(r'output: *false|hide_output', d) for d in said)
    return ['remove-input'] * echo + ['hide-input'] * bool(folded and not echo) + ['remove-output'] * silent


def still(output):
    "An output without its live widget; None if that was all, as it is with progress bars."
    if WIDGET not in output.get('data', {}): return output
    data = {k: v for k, v in output['data'].items() if k != WIDGET}
    return output | dict(data=data) if data.keys() - {'text/plain'} else None


def shown_output(output, folder):
    "An output as readers see it, or None; links in Markdown are those of the site."
    output = still(output)
    if not output or 'text/markdown' not in output.get('data', {}): return output
    text = prose(''.join(output['data']['text/markdown']), folder)
    return output | dict(data=output['data'] | {'text/markdown': text})


def shown_code(cell, folder):
    "A code cell as readers see it, or None."
    source = ''.join(cell['source'])
    said = directives(source)
    if any(d.startswith(PLUMBING) and not d.startswith(('hide_', 'hide-')) for d in said): return None
    source = '\n'.join(l for l in source.splitlines() if not DIRECTIVE.match(l))
    source = SOLUTION.sub(r'\1...\n', source).strip('\n')
    outputs = [shown for output in cell.get('outputs', []) if (shown := shown_output(output, folder))]
    if not source.strip() and not outputs: return None
    return cell | dict(source=source, outputs=outputs, metadata=dict(tags=tags(cell, said)))


def outside_code(change, text):
    "Apply a function to the parts of a Markdown text that are not code."
    pieces, end = [], 0
    for code in CODE.finditer(text):
        pieces += [change(text[end:code.start()]), code[0]]
        end = code.end()
    return ''.join(pieces) + change(text[end:])


def relink(text, change):
    "Apply a function to every relative link of a Markdown text."
    relative = lambda address: not re.match(r'[a-z]+:|#|/|attachment:', address)
    swap = lambda m: m[1] + change(m[2]) if relative(m[2]) else m[0]
    return outside_code(lambda part: LINK.sub(swap, part), text)


def link_of_site(folder, address):
    "A link as the site needs it: pictures are copied, files that have no page are shown on GitHub."
    path, _, fragment = unquote(address).partition('#')
    target = (NBS/folder/path).resolve()
    if not target.exists() or not target.is_relative_to(ROOT) or path.endswith('.ipynb'): return address
    if target.suffix.lower() in ('.png', '.jpg', '.jpeg', '.svg', '.gif', '.webp') and target.is_relative_to(NBS):
        copy = SOURCE/target.relative_to(NBS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(target, copy)
        return address
    return f'{BLOB}/{target.relative_to(ROOT).as_posix()}' + f'#{fragment}' * bool(fragment)


def cite(text):
    "Pandoc's `[@key; @key]` as Sphinx's citation."
    keys = lambda m: ','.join(re.findall(r'@([\w:.-]+)', m[1]))
    return outside_code(lambda part: CITATION.sub(lambda m: f'{{cite:p}}`{keys(m)}`', part), text)


def prose(text, folder):
    "A notebook's Markdown as Markdown of the site."
    return cite(relink(text, lambda address: link_of_site(folder, address)))


def link_line(chapter):
    "The line below a chapter's summary: where else it can be opened."
    path = chapter.path.as_posix()
    places = [f'[Open in Colab]({COLAB}/{path})', f'[Notebook]({BLOB}/nbs/{path})']
    if chapter.module: places.append(f'[Module `{chapter.module}`](/api/{chapter.module}.md)')
    return '{.chapter-links}\n' + ' · '.join(places)


def with_links(source, line):
    "A chapter's first text with a line after its title and summary."
    lines = source.splitlines()
    head = next((i for i, l in enumerate(lines) if l.startswith('# ')), -1) + 1
    while head < len(lines) and (not lines[head].strip() or lines[head].startswith('>')): head += 1
    return '\n'.join([*lines[:head], '', line, '', *lines[head:]])


def page(chapter):
    "The notebook that Sphinx reads."
    cells, folder, opened = [], chapter.path.parent, False
    for cell in chapter.notebook['cells']:
        if cell['cell_type'] == 'code': cell = shown_code(cell, folder)
        elif cell['cell_type'] == 'markdown':
            source = prose(''.join(cell['source']), folder)
            if chapter.folder and not opened: source, opened = with_links(source, link_line(chapter)), True
            cell = cell | dict(source=source, metadata={})
        if cell: cells.append(cell)
    kernel = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'),
                  language_info=dict(name='python'))
    return chapter.notebook | dict(cells=cells, metadata=kernel)


def toctree(entries, caption=''):
    "A table of contents that is seen in the sidebar."
    return '\n'.join(['```{toctree}', ':hidden:', *[f':caption: {caption}'] * bool(caption), '', *entries, '```', ''])


def heading(folder):
    "A folder's name as a title; what has no vowel is an abbreviation."
    name = re.sub(r'^\d+_', '', folder).replace('_', ' ')
    return name.capitalize() if re.search('[aeiouy]', name) else name.upper()


def group_page(title, members):
    "A page that lists the chapters of a group."
    lines = [f'- [{c.label}](/{c.path.as_posix()})  \n  {c.summary}' for c in members]
    return '\n'.join([f'# {title}', '', *lines, '', toctree([c.entry for c in members])])


def contents(chapters):
    "What comes after the front page: the whole table of contents."
    main, bonus, other = parts(chapters)
    trees = [toctree([c.entry for c in main], 'The course')]
    for caption, group in (('Bonus chapters', bonus), ('Practice', other)):
        if group: trees.append(toctree([f'groups/{folder}' for folder in group], caption))
    return '\n'.join([*trees, toctree(['api/index', 'references'], 'Reference')])


def write(path, text):
    "Write a file of the source folder."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


def gather():
    "Fill the source folder with chapters, groups and references; returns the chapters."
    shutil.rmtree(SOURCE, ignore_errors=True)
    listed = chapters()
    for chapter in listed:
        made = page(chapter)
        if chapter.doc == 'index': made['cells'].append(text_cell(contents(listed)))
        write(SOURCE/chapter.path, json.dumps(made))
    _, bonus, other = parts(listed)
    for folder, members in (bonus | other).items():
        write(SOURCE/'groups'/f'{folder}.md', group_page(heading(folder), members))
    write(SOURCE/'references.md', '# References\n\n```{bibliography}\n:all:\n:style: plain\n```\n')
    shutil.copy(ROOT/'docs'/'references.bib', SOURCE)
    return listed


def text_cell(source, kind='markdown'):
    "A cell for a notebook."
    code = dict(execution_count=None, outputs=[]) if kind == 'code' else {}
    return dict(cell_type=kind, id=f'site-{kind}', metadata={}, source=source, **code)


INSTALL = """\
# Only on Colab: the library, and the files that this chapter reads
import os
if not os.path.exists('/content/{name}'):
    !git clone --quiet --depth 1 --branch {branch} {url} /content/{name}
    %pip install --quiet "/content/{name}[colab]"
%cd -q /content/{name}/nbs/{folder}"""


def colab_link(chapter, address):
    "A relative link of a chapter as it must be on Colab: other chapters there, everything else on GitHub."
    path, hash, fragment = unquote(address).partition('#')
    target = (NBS/chapter.path.parent/path).resolve()
    if not target.exists() or not target.is_relative_to(ROOT): return address
    if path.endswith('.ipynb'): return f'{COLAB}/{target.relative_to(NBS).as_posix()}{hash}{fragment}'
    return f"{BLOB.replace('/blob/', '/raw/')}/{target.relative_to(ROOT).as_posix()}"


def colab_copy(chapter):
    "The notebook with a cell before it that installs; readers in JupyterLab never see that cell."
    folder = chapter.path.parent.as_posix()
    install = INSTALL.format(name=SETTINGS['lib_name'], branch=SETTINGS['branch'], url=SETTINGS['git_url'],
                             folder=folder)
    cells = [text_cell(install, 'code')]
    for cell in chapter.notebook['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown': source = relink(source, lambda address: colab_link(chapter, address))
        else: source = SOLUTION.sub(r'\1...\n', source)
        cells.append(cell | dict(source=source))
    return chapter.notebook | dict(cells=cells)
