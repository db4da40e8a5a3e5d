"""The layers: folders import only from the folders below them, and no object reads private attributes of another.

1. `MAY_IMPORT` is the only place that says which folder may import which. Files at the top of the package are level 1,
   except those in `PROGRAMS`.
2. Imports for type checkers, under ``if TYPE_CHECKING:``, and imports in functions count like any other.
3. No two modules import each other, directly or through others.
4. The wire and the rules of delivery know no I/O and no clock.
5. `KNOWN` lists what breaks the rules today. It may only get shorter, and so may `MAX_REACHES`.
6. Tests use private attributes of the package only through `tests/support/internals.py`, and that ever fewer of them.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    'level 1': set(),
    'wire': {'level 1'},
    'delivery': {'wire', 'level 1'},
    'security': {'wire', 'level 1'},
    'events': {'wire', 'security', 'level 1'},
    'journal': {'wire', 'security', 'level 1'},
    'discovery': {'security', 'transports', 'level 1'},
    'transports': {'wire', 'security', 'events', 'level 1'},
    'communicator': {'wire', 'delivery', 'security', 'events', 'journal', 'transports', 'discovery', 'level 1'},
    'diagnosis': {'wire', 'security', 'transports', 'communicator', 'level 1'},
    'services': {'wire', 'security', 'events', 'journal', 'discovery', 'communicator', 'level 1'},
    'rig': {'security', 'events', 'communicator', 'level 1'},
    'programs': {'wire', 'security', 'events', 'communicator', 'services', 'level 1'},
    'compat': {'programs', 'level 1'},
    'sync': {'security', 'events', 'journal', 'discovery', 'communicator', 'services', 'rig', 'level 1'},
    'testing': {'wire', 'security', 'events', 'transports', 'communicator', 'services', 'sync', 'level 1'},
    'demo': {'communicator', 'services', 'level 1'},
    'cli': {
        *('wire', 'security', 'events', 'journal', 'discovery', 'communicator', 'diagnosis', 'services', 'rig'),
        *('programs', 'demo', 'compat', 'level 1'),
    },
    '__init__': {
        *('delivery', 'security', 'events', 'discovery', 'communicator', 'services', 'rig', 'programs', 'level 1')
    },
    '__main__': {'cli'},
}
PROGRAMS = {'app', 'base', 'main'}
WITHOUT_IO = {'wire', 'delivery'}
IO = {'asyncio', 'socket', 'select', 'selectors', 'ssl', 'threading', 'time', 'logging', 'uvloop', 'winloop'}

# What breaks the rules: (module, imported module).
KNOWN: set[tuple[str, str]] = set()
KNOWN_CYCLES: set[frozenset[str]] = set()
# How often the package, aside from testing and demo, reads a private attribute of another object.
MAX_REACHES = 5

# The one test module that may use undocumented private attributes of the package, and how many different ones at most.
INTERNALS = ROOT / 'tests' / 'support' / 'internals.py'
MAX_INTERNALS = 32
# Documented hooks of a communicator, what existing programs call of `Services`, and private names of the standard
# library and of ONE-api.
ALLOWED_IN_TESTS = {'_transport', '_receive', '_last_sent', '_callbacks', '_socket', '_signal'}
ALLOWED_IN_TESTS |= {'_current_frames', '_exit', '_mock_wraps', '_par', '_replace', '_token'}

CYTHON_IMPORT = re.compile(r'^\s*from\s+(\S+)\s+c?import\s+(.+)$|^\s*c?import\s+(.+)$', re.MULTILINE)
CYTHON_REACH = re.compile(r'\b(?!self\.|cls\.)([A-Za-z_]\w*)\._(?!_)\w+')


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """List every source file with the name of its module inside of the package."""
    for folder, pattern in ((root / 'src' / 'echorig', '*.py*'), (root / 'ext' / 'echorig', '*.p[yx][xd]')):
        for path in sorted(folder.rglob(pattern)):
            if path.suffix in ('.py', '.pyi', '.pyx', '.pxd'):
                parts = path.relative_to(folder).with_suffix('').parts
                yield '.'.join(parts[:-1] if len(parts) > 1 and parts[-1] == '__init__' else parts), path


def layer(module: str) -> str:
    first, _, rest = module.partition('.')
    if rest or first in MAY_IMPORT:
        return first
    return 'programs' if first in PROGRAMS else 'level 1'


def python_imports(path: Path, package: tuple[str, ...]) -> Iterator[str]:
    """List the full dotted names that a Python file imports."""
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield from ('.'.join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def cython_imports(path: Path) -> Iterator[str]:
    """List the full dotted names that a Cython file imports or cimports."""
    text = re.sub(r'\(([^()]*)\)', lambda names: names.group(1).replace('\n', ' '), path.read_text('utf-8'))
    for module, names, modules in CYTHON_IMPORT.findall(text):
        for first in (name.split()[0] for name in (names or modules).split('#')[0].split(',') if name.strip()):
            yield f'{module}.{first}' if module else first


def imports(root: Path, path: Path) -> Iterator[str]:
    if path.suffix in ('.pyx', '.pxd'):
        return cython_imports(path)
    return python_imports(path, path.relative_to(root / 'src').parent.parts)


def graph(root: Path) -> tuple[dict[str, set[str]], list[str]]:
    """Return the imports between our modules, and the forbidden imports of the modules without I/O."""
    modules = {module for module, _ in sources(root)}
    edges: dict[str, set[str]] = {module: set() for module in modules}
    found = []
    for module, path in sources(root):
        for name in imports(root, path):
            first, _, target = name.partition('.')
            if first != 'echorig':
                if layer(module) in WITHOUT_IO and first in IO:
                    found.append(f'{module} imports {first}')
                continue
            while target and target not in modules:
                target = target.rpartition('.')[0]
            if (target or '__init__') != module:
                edges[module].add(target or '__init__')
    return edges, found


def complaints(root: Path, known: set[tuple[str, str]]) -> list[str]:
    """List the violations in the sources of a folder, and the entries of `known` that are out of date."""
    edges, found = graph(root)
    upward = {
        (module, target)
        for module, targets in edges.items()
        for target in targets
        if layer(target) != layer(module) and layer(target) not in MAY_IMPORT[layer(module)]
    }
    found += [f'{module} imports {target}' for module, target in sorted(upward - known)]
    found += [f'{module} no longer imports {target}: shorten KNOWN' for module, target in sorted(known - upward)]
    return found


def cycles(root: Path) -> set[frozenset[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    edges, _ = graph(root)

    def reachable(module: str) -> set[str]:
        found, left = set(), [module]
        while left:
            for target in edges[left.pop()] - found:
                found.add(target)
                left.append(target)
        return found

    reach = {module: reachable(module) for module in edges}
    return {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in edges
        if module in reach[module]
    }


def reaches(root: Path) -> list[str]:
    """List the uses of private attributes of other objects."""
    found = []
    for module, path in sources(root):
        if layer(module) in ('testing', 'demo') or path.suffix == '.pyi':
            continue
        text = path.read_text('utf-8')
        if path.suffix == '.py':
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Attribute) and node.attr.startswith('_') and not node.attr.startswith('__'):
                    value = node.value
                    own = isinstance(value, ast.Name) and value.id in ('self', 'cls')
                    own = own or (isinstance(value, ast.Call) and ast.unparse(value.func) == 'super')
                    if not own:
                        found.append(f'{module}:{node.lineno}: {ast.unparse(node)}')
        else:
            for number, line in enumerate(text.splitlines(), 1):
                if not re.match(r'\s*(from|cimport|import)\b', line):
                    code = line.split('#')[0]
                    found += [f'{module}:{number}: {reach.group(0)}' for reach in CYTHON_REACH.finditer(code)]
    return found


def private_attributes(code: str) -> Iterator[tuple[int, str]]:
    """List the private attributes of other objects that a test uses, including programs in its strings."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and '._' in node.value:
            try:
                found = list(private_attributes(textwrap.dedent(node.value)))
            except SyntaxError:  # a template of a program
                names = re.findall(r'\w+\)*\._(?!_)\w+', node.value) if '\n' in node.value else []
                found = [(1, name.rpartition('.')[2]) for name in names if not re.match(r'(self|cls)\.', name)]
            yield from ((node.lineno + number - 1, name) for number, name in found if name not in ALLOWED_IN_TESTS)
        elif isinstance(node, ast.Attribute) and re.match(r'_(?!_)', node.attr) and node.attr not in ALLOWED_IN_TESTS:
            value = ast.unparse(node.value)
            if value not in ('self', 'cls', 'super()'):
                yield node.lineno, node.attr


def test_layers() -> None:
    assert complaints(ROOT, KNOWN) == []


def test_no_cycles() -> None:
    assert cycles(ROOT) == KNOWN_CYCLES


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in (ROOT / 'src' / 'echorig').iterdir() if path.is_dir() and path.name[0] != '_'}
    assert folders <= set(MAY_IMPORT)


def test_layers_are_in_order() -> None:
    assert set(TopologicalSorter(MAY_IMPORT).static_order()) == set(MAY_IMPORT)


def test_reaches() -> None:
    found = reaches(ROOT)
    assert len(found) <= MAX_REACHES, '\n'.join(found)
    assert len(found) > MAX_REACHES - 3, f'there are only {len(found)}: lower MAX_REACHES'


def test_private_attributes_in_tests() -> None:
    found = [
        f'{path.relative_to(ROOT)}:{number}: {name}'
        for path in sorted((ROOT / 'tests').rglob('*.py'))
        if path not in (INTERNALS, Path(__file__))
        for number, name in private_attributes(path.read_text('utf-8'))
    ]
    assert not found, '\n'.join(found)
    used = {name for _, name in private_attributes(INTERNALS.read_text('utf-8'))}
    assert len(used) <= MAX_INTERNALS, used
    assert len(used) > MAX_INTERNALS - 3, f'there are only {len(used)}: lower MAX_INTERNALS'


def test_private_attributes_are_seen() -> None:
    code = "self._a\ncls._b\nsuper()._c\nx.__d__\nx._transport\nx._e\n'a = x._f'\n'no code: x._g'\n'''{{\nx._h'''\n"
    assert list(private_attributes(code)) == [(6, '_e'), (7, '_f'), (9, '_h')]


def test_the_compiled_sources_are_read() -> None:
    edges, _ = graph(ROOT)
    assert 'wire._codec' in edges['delivery._exchange']
    assert 'messages' in edges['wire._codec']


@pytest.mark.parametrize(
    ('path', 'text', 'complaint'),
    [
        ('src/echorig/uri.py', 'from .communicator.protocol import EchoProtocol\n', 'uri imports communicator'),
        ('src/echorig/uri.py', 'import echorig.services.services as s\n', 'uri imports services'),
        ('src/echorig/uri.py', 'from echorig import Services\n', 'uri imports __init__'),
        ('src/echorig/wire/a.py', 'def f():\n    from ..main import main\n', 'wire.a imports main'),
        ('src/echorig/wire/a.py', 'if TYPE_CHECKING:\n    from ..main import main\n', 'wire.a imports main'),
        ('src/echorig/wire/_codec.pyi', 'from ..events.callbacks import C\n', 'wire._codec imports events'),
        ('ext/echorig/wire/_codec.pyx', 'from echorig.main import (\n    C,\n)\n', 'wire._codec imports main'),
        ('ext/echorig/wire/_codec.pyx', 'cdef f():\n    import json, asyncio\n', 'wire._codec imports asyncio'),
        ('ext/echorig/wire/_framing.pyx', 'from socket import socket as s\n', 'wire._framing imports socket'),
        ('ext/echorig/wire/_framing.pxd', 'cimport echorig.main\n', 'wire._framing imports main'),
    ],
)
def test_complaints(tmp_path: Path, path: str, text: str, complaint: str) -> None:
    """A violation is detected."""
    for one in (
        *('src/echorig/__init__.py', 'src/echorig/main.py', 'src/echorig/communicator/protocol.py'),
        *('src/echorig/services/services.py', 'src/echorig/events/callbacks.py', path),
    ):
        (tmp_path / one).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / one).write_text(text if one == path else '')
    found = complaints(tmp_path, set())
    assert found
    assert all(line.startswith(complaint) for line in found)


def test_a_known_fault_that_is_mended_leaves_the_list(tmp_path: Path) -> None:
    (tmp_path / 'src/echorig').mkdir(parents=True)
    assert complaints(tmp_path, {('uri', 'main')}) == ['uri no longer imports main: shorten KNOWN']


def test_a_cycle_is_seen(tmp_path: Path) -> None:
    package = tmp_path / 'src' / 'echorig'
    package.mkdir(parents=True)
    (package / 'errors.py').write_text('from .uri import Uri\n')
    (package / 'loop.py').write_text('from . import errors\n')
    (package / 'uri.py').write_text('')
    assert cycles(tmp_path) == set()
    (package / 'uri.py').write_text('if TYPE_CHECKING:\n    from .loop import run\n')
    assert cycles(tmp_path) == {frozenset({'errors', 'loop', 'uri'})}


def test_reaches_are_seen(tmp_path: Path) -> None:
    package = tmp_path / 'src' / 'echorig'
    package.mkdir(parents=True)
    (package / 'a.py').write_text('self._x\ncls._y\nsuper()._z()\na.__class__\nother._x\nself.owner._x = 3\n')
    assert [line.rpartition(' ')[2] for line in reaches(tmp_path)] == ['other._x', 'self.owner._x']
    (tmp_path / 'ext' / 'echorig').mkdir(parents=True)
    (tmp_path / 'ext' / 'echorig' / 'b.pyx').write_text('self._x(1)\nself.owner._x\nfrom a._b import c\n')
    assert len(reaches(tmp_path)) == 3
