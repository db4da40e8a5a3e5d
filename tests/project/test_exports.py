"""Exported names exist and are in docs/api.rst; docstrings describe parameters, results and errors."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import echorig
from echorig.tuning import InternalTuning

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / 'docs' / 'api.rst').read_text('utf-8')
DOCUMENTED = set(re.findall(r'^\.\. (?:auto\w+|py:data):: (\S+)$', REFERENCE, re.MULTILINE))
FACES = [echorig, echorig.base, echorig.app]
EXPORTS = [(module, name) for module in FACES for name in module.__all__]
IDS = [f'{module.__name__}.{name}' for module, name in EXPORTS]
VARIABLE = {'args', 'kwargs'}


def attribute_docstrings() -> dict[str, str]:
    """Return the docstrings of assignments in the modules at the top, by name."""
    found = {}
    for path in sorted((ROOT / 'src' / 'echorig').glob('*.py')):
        body = ast.parse(path.read_text('utf-8')).body
        for node, behind in pairwise(body):
            if (
                isinstance(node, ast.Assign)
                and isinstance(behind, ast.Expr)
                and isinstance(behind.value, ast.Constant)
                and isinstance(behind.value.value, str)
            ):
                found.update({target.id: behind.value.value for target in node.targets if isinstance(target, ast.Name)})
    return found


def docstring(module: ModuleType, name: str) -> str | None:
    """Return the docstring of an object itself, not that of its base or type."""
    thing = getattr(module, name)
    if inspect.isclass(thing):
        return vars(thing).get('__doc__')
    if inspect.ismodule(thing) or inspect.isroutine(thing):
        return thing.__doc__
    return attribute_docstrings().get(name)


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public functions and methods of the package, each once."""
    seen = set()
    for name in echorig.__all__:
        thing = getattr(echorig, name)
        members = {name: thing}
        if inspect.isclass(thing):
            members = {f'{name}.{key}': inspect.getattr_static(thing, key) for key in dir(thing) if key[0] != '_'}
            if '__init__' in vars(thing) and not dataclasses.is_dataclass(thing):  # fields are described one by one
                members[f'{name}.__init__'] = thing
        for label, member in members.items():
            member = getattr(member, '__func__', member)
            if not inspect.isroutine(member) and not inspect.isclass(member):
                continue
            if not getattr(member, '__module__', '').startswith('echorig') or member in seen:
                continue
            seen.add(member)
            yield label, member


FUNCTIONS = dict(functions())


def parameters_described(text: str) -> list[str]:
    """Return the names in the Parameters section of a numpy docstring."""
    section = re.search(r'^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)', text, re.MULTILINE | re.DOTALL)
    lines = re.findall(r'^(\w[\w, ]*)(?: : .+)?$', section.group(1), re.MULTILINE) if section else []
    return [name for line in lines for name in line.split(', ')]


@pytest.mark.parametrize(('module', 'name'), EXPORTS, ids=IDS)
def test_exported(module: ModuleType, name: str) -> None:
    assert hasattr(module, name)
    assert getattr(module, name) is getattr(echorig, name)
    assert docstring(module, name), 'it has no docstring of its own'


@pytest.mark.parametrize(('module', 'name'), EXPORTS, ids=IDS)
def test_in_the_reference(module: ModuleType, name: str) -> None:
    assert f'echorig.{name}' in DOCUMENTED, 'there is no directive for it in docs/api.rst'
    assert re.search(rf'(?<!\w){module.__name__}\.{name}(?!\w)', REFERENCE), 'its full name is not in docs/api.rst'


@pytest.mark.parametrize('module', FACES, ids=lambda module: module.__name__)
def test_all_is_sorted_and_complete(module: ModuleType) -> None:
    names = [name for name in module.__all__ if not name.startswith('__')]
    assert len(set(module.__all__)) == len(module.__all__)
    public = {name for name, thing in vars(module).items() if name[0] != '_' and not inspect.ismodule(thing)}
    assert public <= set(names)


def test_reference_has_nothing_else() -> None:
    """Each directive names an existing object."""
    for target in DOCUMENTED:
        assert exists(target), target


def exists(target: str) -> bool:
    """Return whether there is a module of that name, or an object in one."""
    module, _, name = target.rpartition('.')
    if module and hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(target)  # an attribute of its package only after it has been imported
    except ModuleNotFoundError:
        return False
    return True


def test_values_in_the_reference() -> None:
    values = re.findall(
        r'^\.\. py:data:: echorig\.(\S+)\n   :type: (\w+)\n(?:   :value: (.+)\n)?', REFERENCE, re.MULTILINE
    )
    assert {name for name, _, _ in values} == {'PROTOCOL_VERSION', 'LISTEN_PORT', '__version__'}
    for name, kind, value in values:
        thing = getattr(echorig, name)
        assert type(thing).__name__ == kind
        assert value in ('', repr(thing))


def test_errors_are_exported() -> None:
    assert set(importlib.import_module('echorig.errors').__all__) <= set(echorig.__all__)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_parameters_are_described(name: str) -> None:
    """The docstring describes the parameters of the signature, in its order, and no others."""
    function = FUNCTIONS[name]
    text = inspect.cleandoc(function.__doc__ or '')
    assert text, 'it has no docstring'
    signature = [parameter for parameter in inspect.signature(function).parameters if parameter not in ('self', 'cls')]
    described = parameters_described(text)
    if 'kwargs' in signature:
        # What passes through ** may be described by its own name.
        assert [name for name in described if name in signature] == [name for name in signature if name in described]
        assert set(signature) - set(described) <= VARIABLE
    else:
        assert described == signature


@pytest.mark.parametrize(
    'name', [name for name, function in FUNCTIONS.items() if inspect.iscoroutinefunction(function)]
)
def test_results_and_errors_are_described(name: str) -> None:
    """Docstrings of coroutine functions have the sections Returns and Raises."""
    text = inspect.cleandoc(FUNCTIONS[name].__doc__ or '')
    annotation = inspect.signature(FUNCTIONS[name]).return_annotation
    assert ('Returns\n-------\n' in text) == (annotation not in ('None', None)), annotation
    assert 'Raises\n------\n' in text or name.endswith('wait_closed')


@pytest.mark.parametrize(
    'cls',
    [echorig.Tuning, InternalTuning, echorig.PeerStatistics, echorig.Rejected, echorig.FoundRig],
    ids=lambda cls: cls.__name__,
)
def test_fields_are_described(cls: Any) -> None:
    tree = ast.parse(Path(inspect.getfile(cls)).read_text('utf-8'))
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    fields = [
        (node.target.id, ast.unparse(node.annotation), behind.value.value)
        for node, behind in pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(behind, ast.Expr)
    ]
    inherited = getattr(cls.__base__, '__dataclass_fields__', {})
    assert {name for name, _, _ in fields} == cls.__dataclass_fields__.keys() - inherited.keys()
    assert all(text.startswith(f'{kind.replace(" | ", " or ")}: ') for _, kind, text in fields)


PACKAGE = Path(echorig.__file__).parent
MODULES = sorted(
    '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)
    for path in PACKAGE.rglob('[!_]*.py')
    if path.stem.isidentifier()
)


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(f'echorig.{name}')
    assert doctest.testmod(module).failed == 0
