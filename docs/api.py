"""The API reference: a page for each exported module, read from its source and never imported.

Parameters, defaults and meanings come from nbdev's docments: the comment after a parameter says what it means.
"""
import ast, io, json, re, tokenize
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from gather import BLOB, NBS, ROOT, SETTINGS, SOURCE, toctree, write

PACKAGE = ROOT/SETTINGS['lib_path']
FENCE = 7 # backticks around the outermost directive
ORIGIN = re.compile(r'File to edit: [./]*nbs/(\S+\.ipynb)')
SPECIAL = re.compile(r'([\\*_<>\[\]{}$|#~^])')


@dataclass
class Row:
    "A line of a table of parameters: names that share one comment."
    names: list
    type: str = ''
    default: str = ''
    meaning: str = ''


@dataclass
class Module:
    "A Python file, its tree and its comments by line."
    path: Path

    @cached_property
    def source(self): return self.path.read_text(encoding='utf-8')

    @cached_property
    def tree(self): return ast.parse(self.source)

    @cached_property
    def comments(self):
        tokens = tokenize.generate_tokens(io.StringIO(self.source).readline)
        return {t.start[0]: (t.string.lstrip('# ').strip(), t.line.strip().startswith('#'))
                for t in tokens if t.type == tokenize.COMMENT}

    @property
    def name(self):
        parts = self.path.relative_to(PACKAGE.parent).with_suffix('').parts
        return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)

    @property
    def origin(self):
        "The notebook that it was exported from, if that is still there."
        match = ORIGIN.search(self.source)
        return match[1] if match and (NBS/match[1]).exists() else None

    @cached_property
    def exported(self):
        "Names in `__all__`."
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__':
                return ast.literal_eval(node.value)
        return []

    @cached_property
    def public(self):
        "Nodes of the module's public names, in the order of the file."
        return [(name, node) for node in self.tree.body for name in defined(node) if name in self.exported]


def defined(node):
    "Names that a statement of a module defines."
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): return [node.name]
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, 'targets', [])
    return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]


def modules():
    "Modules that export something, in the order of their notebooks."
    listed = [Module(p) for p in sorted(PACKAGE.rglob('*.py')) if p.name != '_modidx.py']
    return sorted((m for m in listed if m.public), key=lambda m: (m.origin is None, m.origin or m.name))


def parameters(node):
    "(name, argument, default) of each parameter of a function, without self and cls."
    a = node.args
    plain = a.posonlyargs + a.args
    defaults = [None] * (len(plain) - len(a.defaults)) + a.defaults
    triples = [(x.arg, x, d) for x, d in zip(plain, defaults)]
    if a.vararg: triples.append((f'*{a.vararg.arg}', a.vararg, None))
    triples += [(x.arg, x, d) for x, d in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg: triples.append((f'**{a.kwarg.arg}', a.kwarg, None))
    return [f for f in triples if f[0] not in ('self', 'cls')]


def option(default):
    "A default and its help: typer's options carry both."
    if not isinstance(default, ast.Call): return default, ''
    said = next((k.value.value for k in default.keywords if k.arg == 'help' and isinstance(k.value, ast.Constant)), '')
    if not said: return default, ''
    first = default.args[0] if default.args else None
    return (None if isinstance(first, ast.Constant) and first.value is ... else first), said


def rows(module, triples, last):
    "Table rows of parameters; those on one line share the comment after it, and a comment alone on a line goes on."
    made, by_line = [], {}
    for name, node, default in triples:
        default, said = option(default)
        shown = '' if default is None else ast.unparse(default)
        row = Row([name], ast.unparse(node.annotation) if node.annotation else '', shown, said)
        by_line.setdefault(max(node.end_lineno, default.end_lineno if default else 0), []).append(row)
    for line, group in by_line.items():
        text, alone = module.comments.get(line, ('', False))
        text = '' if line >= last else text
        following = line + 1
        while text and following < last and module.comments.get(following, ('', False))[1]:
            text += ' ' + module.comments[following][0]
            following += 1
        if text: group = shared(group)
        for row in group: row.meaning = row.meaning or text
        made += group
    return made


def shared(group):
    "Rows that one comment explains, as one row."
    kinds, defaults = [r.type for r in group], [r.default for r in group]
    named = ', '.join(f'{r.names[0]}={r.default}' for r in group if r.default)
    default = defaults[0] if len(set(defaults)) == 1 else named
    kind = kinds[0] if len(set(kinds)) == 1 else ', '.join(filter(None, kinds))
    return [Row([n for r in group for n in r.names], kind, default, group[0].meaning)]


def function_rows(module, node):
    "Rows for a function: its parameters and what it returns."
    line = node.returns.end_lineno if node.returns else 0
    on_line = module.comments.get(line, ('', False))[0] if node.body[0].lineno > line else ''
    made = rows(module, parameters(node), line or node.body[0].lineno)
    if node.returns and not (isinstance(node.returns, ast.Constant) and node.returns.value is None):
        made.append(Row(['returns'], ast.unparse(node.returns), '', on_line))
    return made


def fields(module, node):
    "Rows for the annotated attributes of a class."
    annotated = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    attributes = [(n.target.id, n, n.value) for n in annotated]
    return rows(module, [f for f in attributes if not f[0].startswith('_')], node.end_lineno + 1)


def code(text):
    "Text as inline code, also within a table."
    return f"`` {text.replace('|', chr(92) + '|')} ``" if text else ''


def prose(text, known):
    "A docstring or comment as Markdown: code stays code, names that have an entry become links, all else is literal."
    parts = re.split(r'(`[^`]+`)', ' '.join((text or '').split()))
    name = lambda part: f'{{py:obj}}`{part} <{known[part]}>`' if part in known else code(part)
    return ''.join(name(p[1:-1]) if i % 2 else SPECIAL.sub(r'\\\1', p) for i, p in enumerate(parts))


def table(made, known, defaults=False):
    "Rows as a Markdown table, without columns that are empty; the defaults of a function stand in its signature."
    if not any(r.meaning or r.type for r in made): return ''
    names = lambda r: f'*{r.names[0]}*' if r.names == ['returns'] else ' '.join(map(code, r.names))
    columns = dict(Name=[names(r) for r in made], Type=[code(r.type) for r in made],
                   Default=[code(r.default) if defaults else '' for r in made],
                   Meaning=[prose(r.meaning, known) for r in made])
    kept = {k: v for k, v in columns.items() if any(v)}
    lines = [kept, ['---'] * len(kept), *zip(*kept.values())]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def directive(kind, argument, body, depth=0, options=()):
    "A MyST directive; deeper ones have shorter fences."
    fence = '`' * (FENCE - depth)
    return '\n'.join([f'{fence}{{py:{kind}}} {argument}', *options, '', *[b + '\n' for b in body if b], fence, ''])


def signature(name, triples):
    "Name and parameters with defaults; types stand in the table."
    shown, starred = [], False
    for parameter, node, default in triples:
        default, _ = option(default)
        shown.append(parameter + ('' if default is None else f'={ast.unparse(default)}'))
    return f"{name}({', '.join(shown)})"


def decorated(node, *names):
    "Is a function or class decorated by one of these?"
    return any(re.match(r'[\w.]*', ast.unparse(d))[0].split('.')[-1] in names for d in node.decorator_list)


def link(module, node):
    "Where the source of a definition is."
    return f'[source]({BLOB}/{module.path.relative_to(ROOT).as_posix()}#L{node.lineno}){{.source-link}}'


def function(module, node, known, depth=0):
    "The entry of a function or method."
    if decorated(node, 'property', 'cached_property'):
        return directive('property', node.name, [prose(ast.get_docstring(node), known)], depth)
    kind = 'method' if depth else 'function'
    options = [f':{o}:' for o in ('classmethod', 'staticmethod') if decorated(node, o)]
    body = [prose(ast.get_docstring(node), known), table(function_rows(module, node), known), link(module, node)]
    return directive(kind, signature(node.name, parameters(node)), body, depth, options)


def class_(module, node, known):
    "The entry of a class: its docstring, how it is made, its attributes and public methods."
    functions = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
    attributes, init = fields(module, node), functions.get('__init__')
    triples = parameters(init) if init else []
    if not init and decorated(node, 'dataclass'):
        triples = [(n.target.id, n, n.value) for n in node.body if isinstance(n, ast.AnnAssign)]
    made = table(function_rows(module, init), known) if init else ''
    shown = [n for name, n in functions.items() if name == '__call__' or not name.startswith('_')]
    methods = [function(module, n, known, 1) for n in shown if not decorated(n, 'setter')]
    listed = table(attributes, known, not decorated(node, 'dataclass'))
    body = [prose(ast.get_docstring(node), known), made, listed, link(module, node), *methods]
    return directive('class', signature(node.name, triples) if triples else node.name, body)


def constant(module, name, node, known):
    "The entry of a constant; a long value is cut."
    value = ast.unparse(node.value) if node.value else ''
    said = module.comments.get(node.end_lineno, ('', False))[0]
    options = [f":value: {json.dumps(value if len(value) < 80 else value[:77] + '...')}"] if value else []
    return directive('data', name, [prose(said, known)], 0, options)


def entry(module, name, node, known):
    "The entry of one public name."
    if isinstance(node, ast.ClassDef): return class_(module, node, known)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): return function(module, node, known)
    return constant(module, name, node, known)


def page(module, known):
    "A module's page."
    origin = [f'The code of the chapter [](/{module.origin}).'] if module.origin else []
    said = prose(ast.get_docstring(module.tree), known)
    head = [f'# {module.name}', f'```{{py:module}} {module.name}\n```', said, *origin]
    return '\n\n'.join([*head, *[entry(module, name, node, known) for name, node in module.public]])


def index(listed):
    "The page that lists all modules."
    lines = [f'- [`{m.name}`]({m.name}.md): {prose(ast.get_docstring(m.tree), {})}' for m in listed]
    entries = [f"{m.name.removeprefix(SETTINGS['lib_name'] + '.')} <{m.name}>" for m in listed]
    return '\n'.join(['# Modules', '', *lines, '', toctree(entries)])


def unique(listed):
    "Full names by short name, of the names that only one module has."
    pairs = [(name, f'{m.name}.{name}') for m in listed for name, _ in m.public]
    short = [name for name, _ in pairs]
    return {name: full for name, full in pairs if short.count(name) == 1}


def write_api():
    "Write the reference into the source folder; returns the modules."
    listed = modules()
    known = unique(listed)
    for module in listed: write(SOURCE/'api'/f'{module.name}.md', page(module, known))
    write(SOURCE/'api'/'index.md', index(listed))
    return listed
