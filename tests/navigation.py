"""The line of links that ends each chapter: `python tests/navigation.py` writes it anew wherever it is not true any more.

Main chapters lead along the main line and name their bonus chapters; bonus chapters lead through all, in the index's order.
"""
import json, os
from pathlib import Path

NBS = Path(__file__).resolve().parent.parent/'nbs'
START = '[Index](../index.ipynb)'


def chapters():
    "All notebooks of the numbered folders, in the order of the index."
    shown = [p for p in NBS.glob('[0-9]*_*/[0-9]*.ipynb') if '.ipynb_checkpoints' not in p.parts]
    return sorted(shown, key=lambda p: (int(p.parent.name.split('_')[0]), p.stem.split('_')[0]))


def number(path): return path.stem.split('_')[0]


def is_main(path): return number(path).isdigit()


def title(path):
    "What its first line asks."
    return ''.join(json.loads(path.read_text(encoding='utf-8'))['cells'][0]['source']).splitlines()[0].strip('# ')


def link(target, source):
    "A link from one chapter to another, as JupyterLab and the site follow it."
    address = target.name if target.parent == source.parent else f'../{target.parent.name}/{target.name}'
    return f'[{title(target)}]({address})'


def neighbours(path, listed):
    "The chapters before and after it, None at an end; for a main chapter those of the main line, while there are any."
    def beside(order):
        i = order.index(path)
        return (order[i - 1] if i else None), (order[i + 1] if i + 1 < len(order) else None)
    main = beside([p for p in listed if is_main(p)]) if is_main(path) else (None, None)
    return tuple(a or b for a, b in zip(main, beside(listed)))


def line(path, listed):
    "The line that a chapter must have."
    before, after = neighbours(path, listed)
    parts = [START]
    if before: parts.append(f'Previous: {link(before, path)}')
    if after: parts.append(f'Next: {link(after, path)}')
    bonus = [p for p in listed if is_main(path) and not is_main(p) and number(p)[:-1] == number(path)]
    if bonus: parts.append(f"Bonus: {', '.join(link(p, path) for p in bonus)}")
    return ' · '.join(parts)


def with_line(text, wanted):
    "A chapter's last text with the line in place of an earlier one, or at its end."
    lines = text.splitlines()
    kept = [wanted if l.startswith(START) else l for l in lines]
    if kept.count(wanted) != 1: kept = [l for l in kept if l != wanted] + [''] * bool(lines and lines[-1].strip()) + [wanted]
    return '\n'.join(kept)


def wrong():
    "Chapters whose last cell does not have its line: path -> (notebook, line)."
    listed, found = chapters(), {}
    for path in listed:
        notebook, wanted = json.loads(path.read_text(encoding='utf-8')), line(path, listed)
        last = notebook['cells'][-1]
        if last['cell_type'] != 'markdown' or ''.join(last['source']).splitlines().count(wanted) != 1: found[path] = notebook, wanted
    return found


def mend(path, notebook, wanted):
    "Write the line into the last cell; a chapter that ends with code gets a cell for it."
    cells = notebook['cells']
    if cells[-1]['cell_type'] != 'markdown':
        cells.append(dict(cell_type='markdown', id='navigation', metadata={}, source=[]))
    cells[-1]['source'] = with_line(''.join(cells[-1]['source']), wanted).splitlines(keepends=True)
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    os.replace(partial, path)


if __name__ == '__main__':
    for path, (notebook, wanted) in wrong().items():
        mend(path, notebook, wanted)
        print(f'{path.relative_to(NBS)}: links written anew')
