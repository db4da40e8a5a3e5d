"""The modules that echorig puts under the names of iblutil, compared with those of iblutil, each in its own process."""

from __future__ import annotations

import inspect
import json
import pickle
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip('iblutil')

SWITCH = 'import echorig.compat; echorig.compat.install()\n'


def run(text: str, switched: bool) -> bytes:
    """Run a program with iblutil, or with the line that switches it; return what it prints."""
    program = (SWITCH if switched else '') + textwrap.dedent(text)
    return subprocess.run([sys.executable, '-c', program], check=True, capture_output=True, timeout=100).stdout


def both(text: str) -> list:
    """Return what a program prints as JSON with iblutil, and with echorig under its names."""
    return [json.loads(run(text, switched)) for switched in (False, True)]


@pytest.mark.parametrize('module', ['app', 'base'])
def test_module_attributes(module):
    """Programs and tests reach `app.asyncio` or `base.socket`, and replace them."""
    theirs, ours = both(f"""
        import json
        from iblutil.io.net import {module} as module
        names = {{}}
        for name in dir(module):
            value = getattr(module, name)
            if not name.startswith('__'):
                names[name] = type(value).__name__
        for name in {'["colorlog", "util"]' if module == 'app' else '["urllib"]'}:
            names[name] = getattr(module, name).__name__
        print(json.dumps(names))
    """)
    assert len(theirs) > 15
    assert set(theirs) <= set(ours)
    unlike = {name for name in theirs if theirs[name] != ours[name]}
    assert unlike <= {'ExpMessage', 'ExpStatus', 'encode'}


@pytest.mark.parametrize('name', ['EchoProtocol', 'Services', 'base.Communicator', 'base.Service'])
def test_class_attributes(name):
    """Mocks with ``spec_set`` have the attributes of the class only."""
    theirs, ours = both(f"""
        import json
        from iblutil.io.net import app
        print(json.dumps([name for name in dir(app.{name}) if not name.startswith('__')]))
    """)
    private = {'_abc_impl', '_role', '_MutableMapping__marker'}
    assert set(theirs) - set(ours) <= private


def test_enums():
    theirs, ours = both("""
        import copy, json
        from iblutil.io.net.app import base
        from iblutil.io.net.base import ExpMessage, ExpStatus
        assert base.ExpStatus is ExpStatus

        def facts(enum):
            return {
                'members': {name: member.value for name, member in enum.__members__.items()},
                'shown': [[repr(member), str(member), f'{member}', '%d' % member] for member in enum],
                'json': json.dumps(list(enum.__members__.values())),
                'equal': [member == member.value for member in enum],
                'same': all(enum(member.value) is enum[name] for name, member in enum.__members__.items()),
                'copies': all(copy.deepcopy(member) is member for member in enum),
                'name': [enum.__name__, enum.__module__, enum.__version__],
                'kind': [cls.__name__ for cls in enum.__mro__[1:]],
            }

        compound = ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT
        print(json.dumps([
            facts(ExpMessage), facts(ExpStatus), [int(event) for event in compound], int(ExpMessage.any()),
            repr(compound), str(compound), int(~ExpMessage.ALYX & ExpMessage.any()), ExpMessage.ALYX in compound,
            int(ExpMessage.validate(' expstart ')), int(ExpMessage.validate(12)), repr(ExpMessage(0)), base.LISTEN_PORT,
            base.PROTOCOL_VERSION, [type(event).__name__ in ('int', 'ExpMessage') for event in compound],
        ]))
    """)
    assert ours == theirs


DUMP = """
    import pickle, sys
    from iblutil.io.net.base import ExpMessage, ExpStatus
    sys.stdout.buffer.write(pickle.dumps([*ExpMessage, *ExpStatus, ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT]))
"""


@pytest.mark.parametrize('writer', [False, True])
@pytest.mark.parametrize('reader', [False, True])
def test_pickled_enums_are_read_by_the_other(writer, reader):
    """A file of a switched program is read by one that has no echorig, and the other way round."""
    dumped = run(DUMP, writer)
    assert b'echorig' not in dumped
    found = run(
        f"""
        import pickle
        from iblutil.io.net.base import ExpMessage, ExpStatus
        found = pickle.loads({dumped!r})
        assert found == [*ExpMessage, *ExpStatus, ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT], found
        assert found[0] is ExpMessage.EXPINIT
        assert found[8] is ExpStatus.CONNECTED
        print(len(found))
        """,
        reader,
    )
    assert found.strip() == b'13'
    assert [int(member) for member in pickle.loads(dumped)][:3] == [1, 2, 4]


def test_signatures():
    """The parameters of iblutil are there, in their order and with their defaults; echorig adds further ones."""
    theirs, ours = both("""
        import inspect, json
        from iblutil.io.net import app, base

        def parameters(function):
            found = inspect.signature(function).parameters.values()
            return [[p.name, p.kind.name, repr(p.default)] for p in found if p.name != 'self']

        found = {}
        for cls in (app.EchoProtocol, app.Services, base.Communicator, base.Service):
            for name in dir(cls):
                method = inspect.getattr_static(cls, name)
                method = getattr(method, '__func__', method)
                if inspect.isfunction(method) and not name.startswith('_') and method.__module__ != 'collections.abc':
                    found[f'{cls.__name__}.{name}'] = parameters(method)
        for module in (app, base):
            for name, function in vars(module).items():
                if inspect.isfunction(function) and not name.startswith('_'):
                    found[name] = parameters(function)
        print(json.dumps(found))
    """)
    assert len(theirs) > 40
    compiled = {'EchoProtocol.encode', 'Communicator.encode'}
    unlike = []
    for name, parameters in theirs.items():
        got = ours.get(name, [])[: len(parameters)]
        if name not in compiled and got != parameters:
            unlike.append((name, parameters, got))
    # Without an argument it requests the token.
    empty = repr(inspect.Parameter.empty)
    kind = 'POSITIONAL_OR_KEYWORD'
    assert unlike == [('Communicator.alyx', [['alyx', kind, empty]], [['alyx', kind, 'None']])]


def test_the_program_of_the_module():
    """``python -m iblutil.io.net.app`` is a program of iblutil, too."""
    words = ['-m', 'echorig.compat', '-m', 'iblutil.io.net.app', '--help']
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, timeout=100)
    assert '{server,client}' in done.stdout
    assert '--host' in done.stdout
