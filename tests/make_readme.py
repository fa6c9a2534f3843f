"""Writes README.md from nbs/index.ipynb: runs it, and keeps the prose and what the cells show."""
import os
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor

ROOT = Path(__file__).parent.parent

notebook = nbformat.read(ROOT/'nbs'/'index.ipynb', as_version=4)
ExecutePreprocessor(timeout=600).preprocess(notebook, dict(metadata=dict(path=str(ROOT/'nbs'))))
for cell in notebook.cells:
    if cell.cell_type != 'code': continue
    if '#| hide' in cell.source: cell.outputs = []
    if '#| hide' in cell.source or '#| echo: false' in cell.source: cell.source = ''
notebook.cells = [c for c in notebook.cells if c.source or c.get('outputs')]
text, _ = MarkdownExporter().from_notebook_node(notebook)
for part in ('```python\n\n```\n', '```python\n```\n'): text = text.replace(part, '')
while '\n\n\n' in text: text = text.replace('\n\n\n', '\n\n')
text = text.replace('](images/', '](nbs/images/')
for name in sorted(str(p.relative_to(ROOT/'nbs')) for p in (ROOT/'nbs').rglob('*.ipynb')): text = text.replace(f']({name})', f'](nbs/{name})')
part = ROOT/'.README.part'
part.write_text('<!-- Written from nbs/index.ipynb by `make readme`. -->\n\n' + text.strip() + '\n', encoding='utf-8')
os.replace(part, ROOT/'README.md')
