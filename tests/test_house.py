"The house: a numbered folder of nbs is a sub-package of lm4lv, and imports go down the list or within a folder, never up."
import ast, re
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ['core', 'images', 'vision', 'llm', 'model', 'training', 'evaluation', 'ablations', 'app', 'course']
MODULES = sorted(p for p in (ROOT/'lm4lv').rglob('*.py') if p.name not in ('__init__.py', '_modidx.py'))

def imported(path):
    "Modules of lm4lv that a module imports, at its head or inside its functions: ('images', 'photos')."
    here = path.relative_to(ROOT).with_suffix('').parts
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if not isinstance(node, ast.ImportFrom): continue
        parts = tuple(node.module.split('.')) if node.module else ()
        full = here[:len(here) - node.level] + parts if node.level else parts
        if full[:1] != ('lm4lv',) or len(full) == 1: continue
        if len(full) == 2: yield from ((full[1], alias.name) for alias in node.names)
        else: yield full[1:3]

def test_numbered_folders_are_the_sub_packages():
    folders = sorted((p.name for p in (ROOT/'nbs').iterdir() if p.is_dir() and p.name[0].isdigit()), key=lambda n: int(n.split('_')[0]))
    assert folders == [f'{i}_{name}' for i, name in enumerate(FLOORS)]
    assert sorted(p.name for p in (ROOT/'lm4lv').iterdir() if (p/'__init__.py').exists()) == sorted(FLOORS)

@pytest.mark.parametrize('path', MODULES, ids=lambda p: str(p.relative_to(ROOT/'lm4lv')))
def test_imports_never_go_up(path):
    own = path.relative_to(ROOT/'lm4lv').parts[0]
    floor = FLOORS.index(own) if own in FLOORS else len(FLOORS) # cli.py stands on top of all
    up = [f'{package}.{module}' for package, module in imported(path) if FLOORS.index(package) > floor]
    assert not up, f'{path.name} imports from a floor above: {up}'

def test_there_is_no_circle():
    graph = {p.relative_to(ROOT/'lm4lv').with_suffix('').parts: set(imported(p)) for p in MODULES}
    done, going = set(), []
    def visit(module):
        assert module not in going, f'a circle: {" -> ".join(map(".".join, [*going, module]))}'
        if module in done: return
        going.append(module)
        for other in graph.get(module, ()): visit(other)
        done.add(going.pop())
    for module in graph: visit(module)

def test_main_chapters_are_numbered_and_bonus_chapters_lettered():
    names = [p.stem for p in sorted((ROOT/'nbs').glob('[0-9]*/*.ipynb')) if '.ipynb_checkpoints' not in str(p)]
    assert all(re.match(r'\d\d[a-z]?_\w+$', name) for name in names)
    main = sorted(name for name in names if re.match(r'\d\d_', name))
    assert [int(name[:2]) for name in main] == list(range(1, len(main) + 1))
