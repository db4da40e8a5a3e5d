"""Time-outs: every public function that takes one follows the same convention.

None is the documented default, `math.inf` is no limit, and anything that is not positive is refused. `TAKES_ZERO` and
`NEEDS_NUMBER` list the documented exceptions.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import echorig
import echorig.sync
import echorig.testing
from echorig import EchoProtocol, Services, main, sync
from echorig.testing import FakeRig

PATIENCE = 30.0


async def called(ends: Any, value: Any) -> None:
    async with await EchoProtocol.client(ends.rig.uri) as com:
        await com.call('EXPINIT', timeout=value)


async def connected(ends: Any, value: Any) -> None:
    async with await Services.connect({'rig': ends.server.server_uri}, timeout=value):
        pass


def called_blocking(value: Any, part: Callable[[sync.EchoProtocol], Any]) -> Any:
    with FakeRig() as rig, sync.EchoProtocol.client(rig.uri) as com:
        result = part(com).call('EXPINIT', timeout=value)
        return result.result() if hasattr(result, 'result') else result


# How each of them is called, with a server, a client of it, and a rig and a stream that have just received a message.
ASYNCHRONOUS: dict[str, Callable[..., Any]] = {
    'EchoProtocol.confirmed_send': lambda e, value: e.client.confirmed_send([1], timeout=value),
    'EchoProtocol.ping': lambda e, value: e.client.ping(timeout=value),
    'Services': lambda e, value: Services([e.client], timeout=value),
    'EchoProtocol.call': lambda e, value: called(e, value),
    'Services.connect': lambda e, value: connected(e, value),
    'EchoProtocol.measure_clock': lambda e, value: e.client.measure_clock(timeout=value),
    'Services.wait_online': lambda e, value: Services([e.client]).wait_online(timeout=value),
    'Services.ping': lambda e, value: Services([e.client]).ping(timeout=value),
    'Services.watch': lambda e, value: Services([e.client]).watch(timeout=value),
    'main': lambda e, value: main('client', e.server.server_uri, timeout=value),
    'testing.FakeRig.wait_for': lambda e, value: e.rig.wait_for(timeout=value),
    'testing.FakeRig.send': lambda e, value: e.rig.send([1, None], ('127.0.0.1', e.server.port), timeout=value),
}
BLOCKING: dict[str, Callable[..., Any]] = {
    'sync.EchoProtocol.confirmed_send': ASYNCHRONOUS['EchoProtocol.confirmed_send'],
    'sync.EchoProtocol.ping': ASYNCHRONOUS['EchoProtocol.ping'],
    'sync.EchoProtocol.on_event': lambda e, value: e.server.on_event('EXPINIT', timeout=value),
    'sync.Services': lambda e, value: sync.Services([e.client], timeout=value),
    'sync.EchoProtocol.call': lambda e, value: called_blocking(value, lambda com: com),
    'sync.SubmitEchoProtocol.call': lambda e, value: called_blocking(value, lambda com: com.submit),
    'sync.Services.connect': lambda e, value: sync.Services.connect({'rig': e.server.server_uri}, value).close(),
    'sync.EchoProtocol.measure_clock': ASYNCHRONOUS['EchoProtocol.measure_clock'],
    'sync.SubmitEchoProtocol.measure_clock': lambda e, value: e.client.submit.measure_clock(timeout=value),
    'sync.Services.wait_online': lambda e, value: sync.Services([e.client]).wait_online(timeout=value),
    'sync.SubmitServices.wait_online': lambda e, value: sync.Services([e.client]).submit.wait_online(timeout=value),
    'sync.Services.ping': lambda e, value: sync.Services([e.client]).ping(timeout=value),
    'sync.Services.watch': lambda e, value: sync.Services([e.client]).watch(timeout=value),
    'sync.Stream.get': lambda e, value: e.stream.get(timeout=value),
    'sync.SubmitEchoProtocol.confirmed_send': lambda e, value: e.client.submit.confirmed_send([1], timeout=value),
    'sync.SubmitEchoProtocol.ping': lambda e, value: e.client.submit.ping(timeout=value),
    'sync.SubmitEchoProtocol.on_event': lambda e, value: e.server.submit.on_event('EXPINIT', timeout=value),
    'sync.SubmitServices.ping': lambda e, value: sync.Services([e.client]).submit.ping(timeout=value),
    'testing.BlockingFakeRig.wait_for': ASYNCHRONOUS['testing.FakeRig.wait_for'],
    'testing.BlockingFakeRig.send': ASYNCHRONOUS['testing.FakeRig.send'],
}
# 0 is no limit for sets of rigs, as None is. Where something is read, 0 asks for what is there already.
TAKES_ZERO = {
    *('Services', 'Services.connect', 'sync.Services', 'sync.Services.connect'),
    *('Services.wait_online', 'sync.Services.wait_online', 'sync.SubmitServices.wait_online'),
    *('sync.EchoProtocol.on_event', 'sync.SubmitEchoProtocol.on_event', 'sync.Stream.get'),
    *('testing.FakeRig.wait_for', 'testing.BlockingFakeRig.wait_for'),
}
# The default is a number that the signature shows.
NEEDS_NUMBER = {
    name for name in {*ASYNCHRONOUS, *BLOCKING} if name.endswith(('.watch', '.call', 'Rig.wait_for', 'Rig.send'))
}
# Abstract, and made by `watch`; for the search of rigs see tests/discovery.
OTHERS = {'Communicator.confirmed_send', 'Presence', 'discover', 'Services.discover'}
OTHERS |= {'sync.discover', 'sync.Services.discover'}
IN_KWARGS = {'main'}


def public_functions() -> Iterator[str]:
    """The public functions that have a parameter called timeout."""
    for module in (echorig, echorig.sync, echorig.testing):
        prefix = module.__name__.removeprefix('echorig').removeprefix('.')
        for name in module.__all__:
            thing = getattr(module, name)
            label = f'{prefix}.{name}' if prefix else name
            named = {label: thing}
            if inspect.isclass(thing):
                members = ((key, getattr(thing, key)) for key in dir(thing) if key[0] != '_')
                named |= {f'{label}.{key}': member for key, member in members if inspect.isroutine(member)}
            for full, function in named.items():
                try:
                    parameters = inspect.signature(function).parameters
                except (TypeError, ValueError):  # no function, or a built-in one
                    continue
                if 'timeout' in parameters:
                    yield full


def test_all_are_tried_here() -> None:
    tried = ASYNCHRONOUS.keys() | BLOCKING.keys()
    assert set(public_functions()) == (tried - IN_KWARGS) | OTHERS


def bad_values(name: str) -> list[tuple[type[Exception], Any]]:
    wrong = [True, '1', [1]] if name not in NEEDS_NUMBER else [True, '1', [1], None]
    bad = [-1, -0.5, math.nan, -math.inf] if name in TAKES_ZERO else [0, 0.0, -1, math.nan, -math.inf]
    return [(TypeError, value) for value in wrong] + [(ValueError, value) for value in bad]


def good_values(name: str) -> list[Any]:
    return [5, PATIENCE, math.inf] if name in NEEDS_NUMBER else [5, PATIENCE, math.inf, None]


@pytest.mark.parametrize('name', ASYNCHRONOUS)
async def test_asynchronous(lab, name):
    async def call(value: Any) -> None:
        result = ASYNCHRONOUS[name](ends, value)
        if inspect.isawaitable(result):
            await result

    server = await lab.server()
    client = await lab.client(server)
    async with FakeRig() as rig:
        ends = SimpleNamespace(server=server, client=client, rig=rig)
        for kind, value in bad_values(name):
            with pytest.raises(kind, match=r'(?i)timeout'):
                await call(value)
        sender = await lab.client(rig.uri)
        for value in good_values(name):
            await sender.init()
            await call(value)


@pytest.mark.parametrize('name', BLOCKING)
def test_blocking(name):
    def call(value: Any) -> None:
        result = BLOCKING[name](ends, value)
        if hasattr(result, 'result'):
            result.result(PATIENCE)

    with (
        sync.EchoProtocol.server('127.0.0.1:0') as server,
        sync.EchoProtocol.client(server.server_uri) as client,
        FakeRig() as rig,
        sync.EchoProtocol.client(rig.uri) as sender,
        server.events() as stream,
    ):
        ends = SimpleNamespace(server=server, client=client, rig=rig, stream=stream)
        for kind, value in bad_values(name):
            with pytest.raises(kind, match=r'(?i)timeout'):
                call(value)
        first = server.submit.on_event('EXPINIT')  # later ones are kept
        client.init()
        first.result(PATIENCE)
        for value in good_values(name):
            client.init()
            sender.init()
            call(value)


@pytest.mark.parametrize('name', ['default_echo_timeout', 'response_timeout'])
async def test_attributes(lab, name):
    client = await lab.client('udp://127.0.0.1:9')
    default = getattr(EchoProtocol, name)
    for value in (0, -1, math.nan, -math.inf):
        with pytest.raises(ValueError, match=name):
            setattr(client, name, value)
    for value in (None, True, '1'):
        with pytest.raises(TypeError, match=name):
            setattr(client, name, value)
    assert getattr(client, name) == default
    setattr(client, name, math.inf)
    assert getattr(client, name) == math.inf


async def test_a_default_on_a_class_is_checked_when_it_is_used(lab):
    class Hasty(EchoProtocol):
        default_echo_timeout = 0

    server = await lab.server()
    client = Hasty(server.server_uri, 'client')
    with pytest.raises(ValueError, match='default_echo_timeout'):
        await client.confirmed_send([1])
    with pytest.raises(ValueError, match='default_echo_timeout'):
        await client.ping()
    client.close()
