"""Wrong types and values: each public call refuses them, names the argument, and stays usable."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import math
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import internals
from echorig import EchoProtocol, ExpMessage, Services, Tuning, hostname2ip, is_success, main, sync, validate_uri
from echorig.checks import described, flag, number_of, seconds, short
from echorig.cli.main import main as command_line
from echorig.services.rigs_file import read_rigs
from echorig.sync.portal import current_portal
from echorig.testing import FakeRig
from echorig.tuning import InternalTuning
from lab import REF

ROOT = Path(__file__).parents[2]
NAN, INF = math.nan, math.inf


class Mute:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError('no repr')


class BytesPath:
    def __fspath__(self) -> bytes:
        return b'rigs.yaml'


class Values(NamedTuple):
    """What an argument must not be."""

    wrong: list[Any]
    """Of a wrong type."""
    bad: list[Any]
    """Out of range."""


NO_NUMBER = [True, False, '1', b'1', [1], (), {}, 1j, Mute(), lambda: 0]
NO_TEXT = [5, 2.5, True, b'x', [], {}, Mute(), Exception('x')]
SECONDS = Values([*NO_NUMBER], [0, 0.0, -1, -0.5, NAN, -INF, -(10**400)])
NEEDED_SECONDS = Values([*NO_NUMBER, None], SECONDS.bad)
LIMIT = Values([*NO_NUMBER], [-1, -0.5, NAN, -INF])  # none at all, or 0, is without limit
COUNT = Values([*NO_NUMBER, 3.5, 5.0, NAN, INF], [0, -1, -(2**70)])
FLAG = Values([0, 1, 'no', b'', [], None, 2.5, NAN, Mute()], [])
ADDRESS = Values(
    [
        *(5, 2.5, True, '127.0.0.1', '127.0.0.1:5', b'x', {}, set(), Mute(), 'x' * 100_000, 2**70),
        *((), ('127.0.0.1',), ('127.0.0.1', 5, 0), ('::1', 5, 0, 'eth0'), (None, 5), (5, 5), (b'127.0.0.1', 5)),
        *(('127.0.0.1', port) for port in (None, True, b'5', [])),
    ],
    [
        *(('127.0.0.1', port) for port in (-1, 70_000, 2**70, 1.5, NAN, INF, 'x', '', '1_0', ' 5')),
        *((host, 5) for host in ('127.0.0.1\n', 'bad host', 'a' * 300, '\ud800', '-')),
    ],
)
EVENT = Values([None, 2.5, True, b'EXPEND', [], {}, Mute()], ['', 'nope', '\ud800', 'x' * 100_000, -1, 256, 2**70])
CALLBACK = Values([5, 'x', b'', [], True, Mute()], [])
PARTS = {'date': '2022-01-01', 'sequence': 1, 'subject': 'x'}
REFERENCE = Values(
    [
        *(5, 2.5, True, b'x', [], ('2022-01-01', 1, 'x'), Mute()),
        *({**PARTS, 'sequence': wrong} for wrong in (1.5, True, None)),
        *({**PARTS, part: None} for part in ('date', 'subject')),
    ],
    [{}, {'date': '2022-01-01', 'subject': 'x'}, {**PARTS, 'sequence': 'one'}, {**PARTS, 'sequence': -1}],
)
STATUS = Values([None, 2.5, 20.0, True, b'RUNNING', [], Mute()], ['', 'ASLEEP', 5, -1, 2**70, 'x' * 100_000])
ALYX = Values([5, '', 'token', b'', [], {}, True, Mute()], [])
TEXT = Values(NO_TEXT, [])


class Call(NamedTuple):
    """A call with one argument that is wrong."""

    whose: str
    """On what: the client, the server, the set of both, or a class."""
    method: str
    values: Values
    says: str
    """What the text of the error names, a regular expression."""
    before: tuple[Any, ...] = ()
    """The arguments before."""
    keyword: str = ''
    """The name of the argument, where it is passed by name."""
    others: tuple[tuple[str, Any], ...] = ()
    """Further arguments."""

    def __str__(self) -> str:
        return f'{self.whose}.{self.method}({self.keyword or self.says})'

    def __call__(self, com: Any, value: Any) -> Any:
        if self.keyword:
            return getattr(com, self.method)(*self.before, **{self.keyword: value}, **dict(self.others))
        return getattr(com, self.method)(*self.before, value)


MESSAGES = {'init': (), 'stop': (), 'cleanup': (), 'start': (REF,), 'status': (20,), 'info': (20,)}
WAITING = [
    *(Call('client', method, ADDRESS, 'addr', before, 'addr') for method, before in MESSAGES.items()),
    *(Call('server', method, ADDRESS, 'addr', before, 'addr') for method, before in MESSAGES.items()),
    *(Call(whose, 'confirmed_send', ADDRESS, 'addr', ([32, 20],)) for whose in ('client', 'server')),
    *(Call(whose, 'ping', ADDRESS, 'addr') for whose in ('client', 'server')),
    Call('client', 'confirmed_send', SECONDS, 'timeout', ([32, 20],), 'timeout'),
    Call('client', 'ping', SECONDS, 'timeout', (), 'timeout'),
    Call('client', 'confirmed_send', Values([object(), [2j]], ['\ud800', '', b'']), 'message|data'),
    Call('client', 'start', REFERENCE, 'exp_ref'),
    Call('client', 'stop', FLAG, 'immediately', (), 'immediately'),
    Call('client', 'status', STATUS, 'status'),
    Call('client', 'info', STATUS, 'status'),
    Call('client', 'alyx', ALYX, 'alyx'),
    Call('client', 'alyx', ADDRESS, 'addr', (), 'addr'),
    Call('client', 'on_event', EVENT, 'event'),
    Call('rigs', 'await_all', EVENT, 'event'),
    Call('rigs', 'ping', SECONDS, 'timeout'),
    Call('rigs', 'start', REFERENCE, 'exp_ref'),
    Call('rigs', 'status', STATUS, 'status'),
    Call('rigs', 'info', STATUS, 'status'),
    Call('rigs', 'alyx', ALYX, 'alyx'),
    Call('rigs', 'stop', FLAG, 'immediately', (), 'immediately'),
    *(Call('rigs', method, FLAG, 'concurrent', before, 'concurrent') for method, before in MESSAGES.items()),
    Call('rigs', 'stop', FLAG, 'reverse', (), 'reverse'),
    Call('client', 'call', FLAG, 'check_exp_ref', ('EXPSTART', REF), 'check_exp_ref'),
]
AT_ONCE = [
    Call('client', 'send', Values([object()], ['\ud800', '', b'']), 'message|data'),
    *(Call(whose, 'send', ADDRESS, 'addr', ([32, 20],)) for whose in ('client', 'server')),
    *(Call(whose, 'awaiting_response', ADDRESS, 'addr') for whose in ('client', 'server')),
    Call('client', 'assign_callback', EVENT, 'event', (), 'event', (('callback', print),)),
    Call('client', 'assign_callback', Values([*CALLBACK.wrong, None], []), 'callback', ('EXPEND',)),
    Call('client', 'clear_callbacks', EVENT, 'event'),
    Call('client', 'clear_callbacks', CALLBACK, 'callback', ('EXPEND',)),
    Call('client', 'clear_callbacks', FLAG, 'cancel_futures', ('EXPEND', None), 'cancel_futures'),
    Call('client', 'assign_connection_callback', Values([*CALLBACK.wrong, None], []), 'callback'),
    Call('client', 'clear_connection_callbacks', CALLBACK, 'callback'),
    Call('client', 'connection_events', COUNT, 'limit'),
    Call('client', 'events', EVENT, 'event'),
    Call('client', 'events', COUNT, 'limit', (), 'limit'),
    Call('client', 'decode', Values([5, 2**40, 'x', None, [], Mute()], []), 'data'),
    Call('rigs', 'assign_callback', EVENT, 'event', (), 'event', (('callback', print),)),
    Call('rigs', 'assign_callback', Values([*CALLBACK.wrong, None], []), 'callback', ('EXPEND',)),
    Call('rigs', 'assign_callback', FLAG, 'return_service', ('EXPEND', print), 'return_service'),
    Call('rigs', 'clear_callbacks', EVENT, 'event'),
    Call('rigs', 'clear_callbacks', CALLBACK, 'callback', ('EXPEND',)),
    Call('rigs', 'watch', Values(NEEDED_SECONDS.wrong, [*SECONDS.bad, INF]), 'interval'),
    Call('rigs', 'watch', NEEDED_SECONDS, 'timeout', (), 'timeout'),
]
SETTINGS = [
    ('client', 'default_echo_timeout', NEEDED_SECONDS, 2.5),
    ('client', 'response_timeout', NEEDED_SECONDS, INF),
    ('client', 'max_message_size', Values([*COUNT.wrong, None], [*COUNT.bad, 2**31]), 1000),
    ('client', 'busy_poll', Values([*NO_NUMBER, None], [-1, NAN, INF]), 0.0),
    ('rigs', 'timeout', LIMIT, None),
]
OPTIONS = [
    ('name', TEXT),
    ('log', Values([5, True, 'log', b'', [], print, Mute()], [])),
    ('tuning', Values([5, True, 'x', [], {}, Tuning, Mute()], [])),
    ('key', Values([5, True, 2.5, [], Mute()], ['', b'short', '\ud800' * 40])),
    (
        'allow',
        Values([5, True, b'127.0.0.1', [None], (b'x',), [5], Mute()], ['', [], 'http://x', '10.0.0.0/33', '1:2']),
    ),
    ('ssl', Values([5, True, 'x', b'', [], ssl, ssl.SSLContext, Mute()], [])),
    ('sock', Values([5, True, 'x', b'', [], socket, Mute()], [])),
    ('busy_poll', Values(NO_NUMBER, [-1, NAN, INF])),
]
URIS = Values([5, None, True, 2.5, b'localhost', ['localhost'], ('127.0.0.1', 5), Mute()], [':x', 'a b', 'x' * 300])
SILENT = 'object is not|object has no|unsupported operand|not supported between|NoneType|must be real number|unpack'


def names(call: Any) -> str:
    return str(call) if isinstance(call, (Call, str)) else ''


@contextmanager
def refused(kind: type[Exception], says: str, value: Any) -> Iterator[None]:
    """Check that something is refused with an error of a kind, in words that somebody can use."""
    try:
        yield
    except (TypeError, ValueError) as ex:
        error = ex
    else:
        pytest.fail(f'{short(value)} was accepted')
    text = str(error)
    assert isinstance(error, kind), f'{short(value)}: {error!r}'
    assert re.search(says, text, re.IGNORECASE), f'{short(value)}: {says} is not named in {text!r}'
    assert not re.search(SILENT, text), f'{short(value)}: {text!r} says nothing'
    assert len(text) < 600, f'{short(value)}: {len(text)} characters'


def each(values: Values) -> Iterator[tuple[type[Exception], Any]]:
    yield from ((TypeError, value) for value in values.wrong)
    yield from ((ValueError, value) for value in values.bad)


# --- communicators and sets of rigs ---


async def outcome(made: Any) -> Any:
    return await asyncio.wait_for(made, 30) if inspect.isawaitable(made) else made


async def world(lab: Any, transport: str) -> dict[str, Any]:
    server = await lab.server(transport)
    client = await lab.client(server, 'camera')
    client.default_echo_timeout = 20.0
    await client.init()
    return {'client': client, 'server': server, 'rigs': Services([client], 20.0)}


async def test_ports_that_nobody_has(lab, transport):
    coms = await world(lab, transport)
    for com in (coms['client'], coms['server']):
        for send in (com.init, com.cleanup):
            with refused(ValueError, 'addr', 0):
                await send(addr=('127.0.0.1', 0))
        if transport == 'udp':  # over TCP it is logged, as every address that is not connected
            with refused(ValueError, 'addr', 0):
                com.send([32, 20], ('127.0.0.1', 0))


@pytest.mark.parametrize('call', [*WAITING, *AT_ONCE], ids=names)
async def test_calls(lab, transport, call):
    coms = await world(lab, transport)
    received = []
    coms['server'].assign_callback(ExpMessage.any(), lambda data, addr, event: received.append(event))
    for kind, value in each(call.values):
        with refused(kind, call.says, value):
            await outcome(call(coms[call.whose], value))
    assert received == [], 'something was sent'
    assert not coms['client'].awaiting_response()
    await coms['client'].status('RUNNING')
    assert received == [ExpMessage.EXPSTATUS]


@pytest.mark.parametrize(('whose', 'name', 'values', 'good'), SETTINGS, ids=names)
async def test_settings(lab, transport, whose, name, values, good):
    coms = await world(lab, transport)
    com = coms[whose]
    before = getattr(com, name)
    for kind, value in each(values):
        with refused(kind, name, value):
            setattr(com, name, value)
        assert getattr(com, name) == before
    setattr(com, name, good)
    assert getattr(com, name) == good
    await coms['client'].status('RUNNING')


def test_settings_of_a_class():
    """As before they can be set on a class, and a subclass may have its own."""

    class Patient(EchoProtocol):
        default_echo_timeout = 30.0

    assert (EchoProtocol.default_echo_timeout, EchoProtocol.response_timeout) == (1.0, 3.0)
    assert (EchoProtocol.max_message_size, Patient.default_echo_timeout) == (65535, 30.0)


async def test_settings_can_be_taken_back(lab):
    client = await lab.client('udp://127.0.0.1:9')
    client.default_echo_timeout = 5
    del client.default_echo_timeout
    assert client.default_echo_timeout == 1.0


async def test_no_limit(lab, transport):
    """An infinite time-out is none, wherever one is taken."""
    server = await lab.answering(transport)
    async with await Services.connect({'camera': server.server_uri}, timeout=INF) as rigs:
        rigs['camera'].default_echo_timeout = INF
        assert rigs.timeout == INF
        assert await asyncio.wait_for(rigs.init('x'), 30) == {'camera': ['x']}
        assert 0 < (await asyncio.wait_for(rigs.ping(INF), 30))['camera'] < 30


# --- opening ---


@contextmanager
def nothing_opened() -> Iterator[None]:
    """Check that no socket or file is left open, where the system can tell."""
    if not os.path.isdir('/proc/self/fd'):
        yield
        return
    current_portal()  # has some of its own
    before = set(os.listdir('/proc/self/fd'))
    yield
    assert set(os.listdir('/proc/self/fd')) - before == set()


@pytest.mark.blocks  # it looks which files are open
@pytest.mark.parametrize(('option', 'values'), OPTIONS, ids=names)
@pytest.mark.parametrize('role', ['client', 'server', 'connect'])
async def test_options(lab, transport, role, option, values):
    server = await lab.server(transport)

    def opened(value: Any) -> Any:
        if role == 'client':
            return EchoProtocol.client(server.server_uri, **{option: value})
        if role == 'server':
            return EchoProtocol.server(f'{transport}://127.0.0.1:0', **{option: value})
        if option == 'name':
            return Services.connect({value: server.server_uri})
        return Services.connect({'camera': server.server_uri}, **{option: value})

    with nothing_opened():
        for kind, value in each(values):
            if role == 'connect' and kind is ValueError and option not in ('busy_poll', 'allow'):
                continue  # of one rig, and so a ServicesError
            if option == 'name' and role == 'connect' and (value == [] or value == {}):
                continue  # a key of no mapping
            if role == 'connect' and value == []:
                continue
            with refused(kind, 'rigs' if option == 'name' and role == 'connect' else option, value):
                await outcome(opened(value))
    await (await lab.client(server)).init()


async def test_options_that_are_none(lab, transport):
    """None stands for the default."""
    nothing = dict.fromkeys(['name', 'log', 'tuning', 'key', 'allow', 'ssl', 'sock', 'busy_poll'])
    server = await EchoProtocol.server(f'{transport}://127.0.0.1:0', **nothing)
    lab.opened.append(server)
    await (await lab.client(server, reconnect=None, **nothing)).init()


async def test_reconnect_is_a_truth_value(lab, transport):
    server = await lab.server(transport)
    for value in FLAG.wrong:
        if value is not None:
            with refused(TypeError, 'reconnect', value):
                await EchoProtocol.client(server.server_uri, reconnect=value)


@pytest.mark.blocks
@pytest.mark.parametrize(
    'open_', [EchoProtocol.client, EchoProtocol.server, FakeRig, sync.EchoProtocol.client, validate_uri]
)
async def test_uris(open_):
    with nothing_opened():
        for kind, value in each(URIS):
            with refused(kind, 'URI', value):
                await outcome(open_(value))


async def test_sockets_that_do_not_fit(lab, transport):
    """They are refused before the loop sees them, and stay the caller's."""
    server = await lab.server(transport)
    kind, other = (
        (socket.SOCK_DGRAM, socket.SOCK_STREAM) if transport == 'udp' else (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    )
    with closing(socket.socket(socket.AF_INET, other)) as odd, closing(socket.socket(socket.AF_INET, kind)) as fresh:
        with refused(ValueError, 'sock', odd):
            await EchoProtocol.client(server.server_uri, sock=odd)
        for sock in (odd, fresh):
            with refused(ValueError, 'sock', sock):
                await EchoProtocol.server(f'{transport}://127.0.0.1:0', sock=sock)
        if transport == 'tcp':
            with refused(ValueError, 'sock must be connected', fresh):
                await EchoProtocol.client(server.server_uri, sock=fresh)
        assert odd.fileno() >= 0 <= fresh.fileno()
    with refused(ValueError, 'sock is closed', fresh):
        await EchoProtocol.client(server.server_uri, sock=fresh)
    await (await lab.client(server)).init()


@pytest.mark.blocks
async def test_opening_sets(lab):
    server = await lab.server()
    for value in (5, None, True, 2.5, b'x', ['camera'], Mute()):
        with refused(TypeError, 'rigs', value), nothing_opened():
            await Services.connect(value)
    for value in URIS.wrong:
        with refused(TypeError, 'rigs', value), nothing_opened():
            await Services.connect({'other': server.server_uri, 'camera': value})
    for kind, value in each(LIMIT):
        with refused(kind, 'timeout', value), nothing_opened():
            await Services.connect({'camera': server.server_uri}, timeout=value)
        with refused(kind, 'timeout', value):
            Services([await lab.client(server)], timeout=value)
    for value in FLAG.wrong:
        with refused(TypeError, 'wait', value), nothing_opened():
            await Services.connect({'camera': server.server_uri}, wait=value)
    for value in (5, None, True, 'camera', '', b'', [5], ['camera'], [None], {'camera': 5}, Mute()):
        for make in (Services, sync.Services):
            with refused(TypeError, 'rig', value):
                make(value)


async def test_signals(lab):
    """`_signal` is there for the programs of the documented API."""
    rigs = await lab.services(1)
    for kind, value in each(EVENT):
        with refused(kind, 'event', value):
            await internals.call_rigs(rigs, value, 'init')
    for value in (5, None, True, b'init'):
        with refused(TypeError, 'method', value):
            await internals.call_rigs(rigs, 'EXPINIT', value)
    for value in FLAG.wrong:
        with refused(TypeError, 'concurrent', value):
            await internals.call_rigs(rigs, 'EXPINIT', 'init', concurrent=value)
    assert await internals.call_rigs(rigs, 'EXPINIT', '', 'x') == {'rig0': ['x']}


# --- blocking calls ---


@pytest.fixture
def blocking() -> Iterator[dict[str, Any]]:
    with sync.EchoProtocol.server('udp://127.0.0.1:0', 'rig') as server:
        with sync.EchoProtocol.client(server.server_uri, 'camera') as client:
            client.default_echo_timeout = 20.0
            client.init()
            yield {'client': client, 'server': server, 'rigs': sync.Services([client], 20.0)}


@pytest.mark.parametrize('call', [*WAITING, *AT_ONCE], ids=names)
def test_blocking_calls(blocking, call):
    for kind, value in each(call.values):
        with refused(kind, call.says, value):
            call(blocking[call.whose], value)
    blocking['client'].status('RUNNING')


@pytest.mark.parametrize('call', WAITING, ids=names)
def test_submitted_calls(blocking, call):
    for kind, value in each(call.values):
        with refused(kind, call.says, value):
            call(blocking[call.whose].submit, value).result(30)
    blocking['client'].status('RUNNING')


@pytest.mark.parametrize(('whose', 'name', 'values', 'good'), SETTINGS, ids=names)
def test_blocking_settings(blocking, whose, name, values, good):
    for kind, value in each(values):
        with refused(kind, name, value):
            setattr(blocking[whose], name, value)
    setattr(blocking[whose], name, good)
    assert getattr(blocking[whose], name) == good


def test_blocking_reads(blocking):
    """A time-out of 0 asks for what is there already."""
    server, client = blocking['server'], blocking['client']
    with server.events() as stream:
        for kind, value in each(LIMIT):
            with refused(kind, 'timeout', value):
                stream.get(value)
            with refused(kind, 'timeout', value):
                server.on_event('EXPEND', timeout=value)
            with refused(kind, 'timeout', value):
                server.submit.on_event('EXPEND', timeout=value).result(30)
        with pytest.raises(TimeoutError):
            stream.get(0)
        client.stop('x')
        assert stream.get(0)[0] == ['x']
        client.stop('y')
        assert stream.get(INF)[0] == ['y']


def test_blocking_openings():
    with sync.EchoProtocol.server('udp://127.0.0.1:0', 'rig') as server:
        for option, values in OPTIONS:
            for kind, value in each(values):
                with refused(kind, option, value):
                    sync.EchoProtocol.client(server.server_uri, **{option: value})
        for value in (5, True, None, b'x', 2.5):
            with refused(TypeError, 'rigs', value):
                sync.Services.connect(value)
        with sync.EchoProtocol.client(server.server_uri) as client:
            client.init()


# --- files ---

NO_PATHS = [True, 0, -1, 2.5, None, b'rigs.yaml', BytesPath(), ['rigs.yaml'], Mute()]


def readers() -> list[Any]:
    def picture(path: Any) -> None:
        pytest.importorskip('rich')
        from echorig.demo.view import save_svg

        save_svg(None, path)  # type: ignore[arg-type]

    return [
        pytest.param(lambda path: asyncio.run(Services.connect(path)), id='Services.connect'),
        pytest.param(sync.Services.connect, id='sync.Services.connect'),
        pytest.param(read_rigs, id='read_rigs'),
        pytest.param(picture, id='save_svg'),
        pytest.param(lambda path: command_line(['server', '127.0.0.1:0', '--key-file', path]), id='--key-file'),
        pytest.param(lambda path: command_line(['server', '127.0.0.1:0', '--cafile', path]), id='--cafile'),
        pytest.param(lambda path: command_line(['server', '127.0.0.1:0', '--cert', path]), id='--cert'),
        pytest.param(lambda path: command_line(['demo', '--svg', path]), id='--svg'),
    ]


@pytest.mark.parametrize('reader', readers())
def test_a_number_is_no_file(reader):
    """Python's `open` takes one for a file that the process has open, and closes that: the loop's, or the terminal."""
    ends = os.pipe()
    try:
        for value in (*ends, *NO_PATHS):
            with refused(TypeError, 'path|argv|rigs', value):
                reader(value)
        for end in ends:
            os.fstat(end)  # is open
    finally:
        for end in ends:
            os.close(end)
    for end in (0, 1, 2):
        os.fstat(end)


@pytest.mark.parametrize('name', ['', 'a\0b', '\ud800'])
def test_names_that_no_file_can_have(name):
    if name == '\ud800' and os.name == 'nt':
        pytest.skip('Windows has files of any name')
    with refused(ValueError, 'rigs must be the path of a file', name):
        read_rigs(name)


def test_every_path_is_checked():
    """Nothing in the package is opened by a name that has not been through `checks.path`."""
    found = 0
    for file in sorted((ROOT / 'src' / 'echorig').rglob('*.py')):
        for scope in ast.walk(ast.parse(file.read_text('utf-8'))):
            if not isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            checked = {
                target.id
                for node in ast.walk(scope)
                if isinstance(node, ast.Assign) and is_checked(node.value)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for node in ast.walk(scope):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ('open', 'Path'):
                    first = node.args[0]
                    found += 1
                    assert is_checked(first) or getattr(first, 'id', None) in checked, f'{file.name}:{node.lineno}'
    assert found >= 3, 'the files that are opened were not found'


def is_checked(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ('path', 'checked_path')


@pytest.mark.parametrize('argv', [5, 'server', b'server', ['server', 5], [None]])
def test_command_lines(argv):
    with refused(TypeError, 'argv', argv):
        command_line(argv)


# --- limits and timings ---

FIELDS = {'bool': FLAG, 'int': Values([*COUNT.wrong, None], [*COUNT.bad, 2**70]), 'float': NEEDED_SECONDS}


@pytest.mark.parametrize(
    ('cls', 'field'),
    [(cls, field) for cls in (Tuning, InternalTuning) for field in dataclasses.fields(cls)],
    ids=lambda value: getattr(value, 'name', getattr(value, '__name__', None)),
)
def test_tuning(cls, field):
    for kind, value in each(FIELDS[str(field.type)]):
        with refused(kind, rf'\b{cls.__name__}\.{field.name}\b', value):
            cls(**{field.name: value})
    assert getattr(cls(**{field.name: field.default}), field.name) == field.default


def test_numbers_of_other_kinds():
    """What is a number is taken, and kept as a plain one."""
    np = pytest.importorskip('numpy')
    tuning = InternalTuning(max_peers=np.int64(50), initial_rto=np.float32(0.5), idle_timeout=30, tags=np.bool_(True))
    assert (tuning.max_peers, tuning.initial_rto, tuning.idle_timeout, tuning.tags) == (50, 0.5, 30.0, True)
    kinds = [type(getattr(tuning, name)) for name in ('max_peers', 'initial_rto', 'idle_timeout', 'tags')]
    assert kinds == [int, float, float, bool]
    for wrong in (np.bool_(True), np.array([1.0]), np.complex64(1)):
        with refused(TypeError, 'timeout', wrong):
            seconds(wrong, 'timeout')


# --- everything else ---


async def test_programs():
    with refused(ValueError, 'role', 5):
        await main(5, '127.0.0.1')
    for kind, value in each(SECONDS):
        with refused(kind, 'timeout', value):
            await main('client', '127.0.0.1', timeout=value)


def test_helpers():
    for value in (5, b'x', [], True):
        with refused(TypeError, 'hostname', value):
            hostname2ip(value)
    with refused(ValueError, 'host name', 'a\0b'):
        hostname2ip('a\0b')
    for value in (None, [], b'5', True):
        with refused(TypeError, 'port', value):
            validate_uri('127.0.0.1', default_port=value)
        with refused(TypeError, 'default_proc', value):
            validate_uri('127.0.0.1', default_proc=value)
    for value in (None, 'no', 1):
        with refused(TypeError, 'resolve_host', value):
            validate_uri('127.0.0.1', resolve_host=value)
    for value in (None, 5, 'x'):
        with refused(TypeError, 'future', value):
            is_success(value)


async def test_fake_rigs():
    for name, values in (('kind', TEXT), ('name', TEXT), ('buffer', COUNT)):
        for kind, value in each(values):
            with refused(kind, name, value):
                FakeRig(**{name: value})
    rig = FakeRig()
    scripts = {
        'echo': FLAG,
        'echo_delay': Values(NO_NUMBER, [-1, NAN]),
        'answer_delay': Values(NO_NUMBER, [-1, NAN]),
        'answer': Values(['text', b'x', 5, 2.5], []),
        'notice': TEXT,
        'times': COUNT,
    }
    for name, values in scripts.items():
        for kind, value in each(values):
            with refused(kind, name, value):
                rig.script(**{name: value})
    async with rig:
        for kind, value in each(LIMIT):
            with refused(kind, 'timeout', value):
                await rig.wait_for(timeout=value)
        for kind, value in each(NEEDED_SECONDS):
            with refused(kind, 'timeout', value):
                await rig.send([1], ('127.0.0.1', 9), timeout=value)
        for value in ADDRESS.wrong:
            with refused(TypeError, 'addr', value):
                await rig.send([1], value)


def test_what_is_a_number_of_seconds():
    assert [seconds(value, 'x') for value in (1, 2.5, Fraction(1, 2), INF, 2**70, 10**400)] == [
        *(1.0, 2.5, 0.5, INF, 2.0**70, INF)
    ]  # fmt: skip
    assert all(type(seconds(value, 'x')) is float for value in (1, Fraction(1, 2)))
    assert seconds(0, 'x', zero=True) == 0.0
    with refused(ValueError, 'busy_poll', INF):
        seconds(INF, 'busy_poll', endless=False)
    assert number_of(7, 'n', 7) == 7
    with refused(ValueError, 'n must be 0 to 7', 8):
        number_of(8, 'n', 7, 0)
    assert flag(True, 'x') is True
    assert flag(False, 'x') is False


def test_what_is_an_address():
    from echorig.uri import checked_address

    for good, address in {
        ('127.0.0.1', 5): ('127.0.0.1', 5),
        ('rig.lab', '5'): ('rig.lab', 5),
        (ip_address('::1'), 5.0): ('::1', 5),
        ('0:0:0:0:0:0:0:1', 5, 0, 0): ('::1', 5),
        ('fe80::1', 5, 0, 2): ('fe80::1%2', 5),
    }.items():
        assert checked_address(good) == checked_address(list(good)) == address


def test_values_in_texts():
    """Whatever it is, what was given is shown in one line that is not long."""
    assert described(None) == 'None'
    assert described('no\npe') == "str: 'no\\npe'"
    assert described(Mute()).startswith('Mute: <')
    for value in ('x' * 10**6, list(range(10**5)), {i: i for i in range(10**4)}, [[[[[[]]]]]] * 9, 10**5000, '\ud800'):
        assert len(described(value)) < 250
        assert '\n' not in described(value)
        described(value).encode()


def test_nobody_asks_for_a_truth_value_by_accident():
    """Every parameter that is a bool in the signatures of the main classes is checked by some test here."""
    tested = {call.keyword for call in (*WAITING, *AT_ONCE)} | {'wait'}  # see test_opening_sets
    for cls in (EchoProtocol, Services):
        for name, function in inspect.getmembers(cls, inspect.isroutine):
            if name[0] == '_' or not getattr(function, '__module__', '').startswith('echorig'):
                continue
            for parameter in inspect.signature(function).parameters.values():
                if parameter.annotation == 'bool':
                    assert parameter.name in tested, f'{cls.__name__}.{name}({parameter.name})'


def test_the_loop_of_a_communicator_may_go_on_in_another_thread():
    loop = asyncio.new_event_loop()

    async def open_pair() -> tuple[EchoProtocol, EchoProtocol]:
        server = await EchoProtocol.server('udp://127.0.0.1:0')
        return server, await EchoProtocol.client(server.server_uri)

    async def close() -> None:
        for com in pair:
            com.close()
            await com.wait_closed()

    pair = loop.run_until_complete(open_pair())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(pair[1].confirmed_send([4, None], timeout=20), loop).result(30)
    asyncio.run_coroutine_threadsafe(close(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


def test_a_send_in_another_event_loop_is_refused():
    """In another thread, or in a loop that runs after the one of the communicator."""

    async def open_client() -> EchoProtocol:
        client = await EchoProtocol.client('udp://127.0.0.1:9', 'rig')
        await asyncio.get_running_loop().run_in_executor(None, send_elsewhere, client)
        return client

    def send_elsewhere(client: EchoProtocol) -> None:
        async def send() -> None:
            with pytest.raises(RuntimeError, match='rig belongs to another event loop'):
                await client.confirmed_send([4, None])

        asyncio.run(send())

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(open_client())
    send_elsewhere(client)
    client.close()
    loop.run_until_complete(client.wait_closed())
    loop.close()
