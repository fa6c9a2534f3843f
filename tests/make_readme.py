"""Writes README.md from nbs/index.ipynb: runs it, and keeps the prose and what the cells show."""
import os
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor

ROOT = Path(__file__).parent.parent
NBS = ROOT/'nbs'


def without_code(notebook):
    "Leaves out what is hidden, and the source of cells whose output alone is shown."
    for cell in notebook.cells:
        if cell.cell_type != 'code': continue
        if '#| hide' in cell.source: cell.outputs = []
        if '#| hide' in cell.source or '#| echo: false' in cell.source: cell.source = ''
    notebook.cells = [c for c in notebook.cells if c.source or c.get('outputs')]
    return notebook


def as_markdown(notebook):
    "The notebook's text, with links as they are from the root of the repository."
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    for empty in ('```python\n\n```\n', '```python\n```\n'): text = text.replace(empty, '')
    while '\n\n\n' in text: text = text.replace('\n\n\n', '\n\n')
    text = text.replace('](images/', '](nbs/images/')
    for path in sorted(NBS.rglob('*.ipynb')):
        name = path.relative_to(NBS).as_posix()
        text = text.replace(f']({name})', f'](nbs/{name})')
    return '<!-- Written from nbs/index.ipynb by `make readme`. -->\n\n' + text.strip() + '\n'


if __name__ == '__main__':
    notebook = nbformat.read(NBS/'index.ipynb', as_version=4)
    ExecutePreprocessor(timeout=600).preprocess(notebook, dict(metadata=dict(path=str(NBS))))
    partial = ROOT/'.README.partial'
    partial.write_text(as_markdown(without_code(notebook)), encoding='utf-8')
    os.replace(partial, ROOT/'README.md')
