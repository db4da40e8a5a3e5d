"""The house: which module is in which room, and that nothing is imported from a floor above.

1. The table below is the only place that says where a module belongs; a module that is not in it fails.
2. A file imports from its own floor, if that makes no cycle, and from the floors below.
3. What is imported for type checkers only, under ``if TYPE_CHECKING:``, counts for nothing.
4. The wire knows no I/O and no clock.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    'ground': (
        *('signals', '_version', 'checks', 'errors', 'messages', 'tuning', 'uri', 'names', 'loop', 'stall'),
        *('allow', 'options', 'rejections', 'safe_log', 'tls_errors'),
    ),
    'wire': ('_codec', '_tags', '_framing', '_peer', '_exchange', '_signature', '_session', '_signing'),
    'model': (
        *('concealed', 'log_limit', 'notices', 'redact', 'service'),
        *('callbacks', 'streams', 'changes', '_origin', '_turn', 'backlog', 'waiting'),
        *('_dispatch', 'communicator', 'messenger', 'peers'),
    ),
    'shells': (
        *('_datagram', '_courier', 'delivery', 'last_sent'),
        *('crowd', 'reconnecting', 'tls', 'connection', 'tcp', 'udp', 'sockets', 'access', 'admission', 'link'),
    ),
    'user': (
        *('failure', 'protocol', 'answers', 'rig_listener', 'rigs_file', 'presence', 'rig_set', 'opening', 'services'),
        *('entry', 'sync'),
    ),
    'faces': ('app', 'base', '__init__', 'cli', 'demo', 'testing', '__main__'),
}
FLOOR_OF = {module: floor for floor, (_, modules) in enumerate(FLOORS.items()) for module in modules}
FORBIDDEN_IN_WIRE = {'asyncio', 'socket', 'select', 'selectors', 'ssl', 'threading', 'time', 'uvloop', 'winloop'}

CYTHON_IMPORT = re.compile(r'^\s*from\s+(\S+)\s+c?import\s+(.+)$|^\s*c?import\s+(.+)$', re.MULTILINE)


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Every source file with the module that it belongs to; a folder is one module."""
    package = root / 'src' / 'echorig'
    for path in sorted([*package.rglob('*.py'), *package.glob('*.pyi')]):
        yield path.relative_to(package).parts[0].split('.')[0], path
    for path in sorted((root / 'ext' / 'echorig').glob('*.p[yx][xdi]')):
        yield path.stem, path


def python_imports(path: Path, package: tuple[str, ...]) -> Iterator[str]:
    """The full dotted names that a Python file imports, those for type checkers excepted."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ('TYPE_CHECKING', 'typing.TYPE_CHECKING'):
            children: list[ast.AST] = list(node.orelse)
        else:
            children = list(ast.iter_child_nodes(node))
        for child in children:
            yield child
            yield from walk(child)

    for node in walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield from ('.'.join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def cython_imports(path: Path) -> Iterator[str]:
    """The full dotted names that a Cython file imports or cimports."""
    text = re.sub(r'\(([^()]*)\)', lambda names: names.group(1).replace('\n', ' '), path.read_text('utf-8'))
    for module, names, modules in CYTHON_IMPORT.findall(text):
        for first in (name.split()[0] for name in (names or modules).split('#')[0].split(',') if name.strip()):
            yield f'{module}.{first}' if module else first


def imports(root: Path, path: Path) -> Iterator[str]:
    if path.suffix in ('.pyx', '.pxd', '.pxi'):
        return cython_imports(path)
    return python_imports(path, path.relative_to(root / 'src').parent.parts)


def own(name: str) -> str | None:
    """The module of this package that an imported name belongs to, or None."""
    first, *rest = name.split('.')
    if first != 'echorig':
        return None
    return rest[0] if rest and rest[0] in FLOOR_OF else '__init__'


def complaints(root: Path) -> list[str]:
    """Everything about the sources in a folder that breaks the rules."""
    found = []
    graph: dict[str, set[str]] = {}
    for module, path in sources(root):
        where = path.relative_to(root)
        if module not in FLOOR_OF:
            found.append(f'{where}: not in the table of rooms')
            continue
        for name in imports(root, path):
            target = own(name)
            if target is None:
                if module in FLOORS['wire'] and name.split('.')[0] in FORBIDDEN_IN_WIRE:
                    found.append(f'{where}: the wire imports {name}')
            elif target != module:
                graph.setdefault(module, set()).add(target)
                if FLOOR_OF[target] > FLOOR_OF[module]:
                    found.append(f'{where}: imports {name} from above')
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f'a cycle: {" <- ".join(error.args[1])}')
    return found


def test_house() -> None:
    assert complaints(ROOT) == []


def test_table() -> None:
    """The table names each module once, and none that is not there."""
    modules = [module for modules in FLOORS.values() for module in modules]
    assert sorted(modules) == sorted({module for module, _ in sources(ROOT)})


def test_wire_is_found() -> None:
    """The Cython sources are read: the exchange is known to use the codec, and the codec the messages."""
    ext = ROOT / 'ext' / 'echorig'
    assert 'echorig._codec.peek' in set(cython_imports(ext / '_exchange.pyx'))
    assert {'echorig.messages.ExpMessage', 'orjson'} <= set(cython_imports(ext / '_codec.pyx'))


@pytest.mark.parametrize(
    ('path', 'text', 'complaint'),
    [
        ('src/echorig/attic.py', '', 'not in the table'),
        ('src/echorig/uri.py', 'from .protocol import EchoProtocol\n', 'from above'),
        ('src/echorig/uri.py', 'from . import tcp, udp\n', 'from above'),
        ('src/echorig/uri.py', 'import echorig.services as s\n', 'from above'),
        ('src/echorig/uri.py', 'from echorig import Services\n', 'from above'),
        ('src/echorig/service.py', 'def f():\n    from .entry import main\n', 'from above'),
        ('src/echorig/service.py', 'if not TYPE_CHECKING:\n    from .entry import main\n', 'from above'),
        (
            'src/echorig/service.py',
            'try:\n    from .entry import main\nexcept ImportError:\n    main = 0\n',
            'from above',
        ),
        ('src/echorig/_codec.pyi', 'from .callbacks import Backlog\n', 'from above'),
        ('ext/echorig/_codec.pyx', 'from echorig.tcp import (\n    Connection,\n)\n', 'from above'),
        ('ext/echorig/_codec.pyx', 'cdef f():\n    import json, asyncio\n', 'the wire imports asyncio'),
        ('ext/echorig/_framing.pyx', 'from socket import socket as s\n', 'the wire imports socket'),
        ('ext/echorig/_framing.pxd', 'cimport echorig.tcp\n', 'from above'),
    ],
)
def test_complaints(tmp_path: Path, path: str, text: str, complaint: str) -> None:
    """A rule that is broken is seen."""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    found = complaints(tmp_path)
    assert found
    assert all(complaint in line for line in found)


def test_cycle_on_one_floor(tmp_path: Path) -> None:
    package = tmp_path / 'src' / 'echorig'
    package.mkdir(parents=True)
    (package / 'errors.py').write_text('from .uri import Uri\n')
    assert complaints(tmp_path) == []
    (package / 'uri.py').write_text('from .loop import run\n')
    (package / 'loop.py').write_text('from . import errors\n')
    assert [line.partition(':')[0] for line in complaints(tmp_path)] == ['a cycle']


def test_allowed(tmp_path: Path) -> None:
    """What stands below, outside of the package, or is for type checkers only."""
    package = tmp_path / 'src' / 'echorig'
    (package / 'demo').mkdir(parents=True)
    (package / 'tcp.py').write_text('import asyncio\nif TYPE_CHECKING:\n    from .protocol import EchoProtocol\n')
    (package / 'demo' / '__init__.py').write_text('from ..protocol import EchoProtocol\nfrom .rig import rig\n')
    (package / 'demo' / 'rig.py').write_text('from . import rigs\nfrom .. import errors\n')
    assert complaints(tmp_path) == []
