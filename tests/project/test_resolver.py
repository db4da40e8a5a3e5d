"""Names are resolved to all their addresses, in threads of their own, and a look-up never outlives its caller."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from echorig import EchoProtocol, EchoTimeoutError, validate_uri
from echorig.resolver import lookup, resolve_all
from echorig.uri import parse
from eventually import eventually


def info(*hosts: str) -> list[Any]:
    """Return a result of getaddrinfo()."""
    return [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, '', (host, 0, 0, 0))
        if ':' in host
        else (socket.AF_INET, socket.SOCK_DGRAM, 17, '', (host, 0))
        for host in hosts
    ]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a mapping of names to lists of addresses, errors or functions, which replaces the system's resolver."""
    known: dict[str, Any] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        found = known.get(host)
        if found is None:
            return real(host, *args, **kwargs)
        if callable(found):
            found = found()
        if isinstance(found, Exception):
            raise found
        return info(*found)

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    return known


async def test_all_addresses_of_a_name(system: dict[str, Any]) -> None:
    system['rig'] = ['::1', '10.0.0.1', '10.0.0.2', '10.0.0.1']
    assert await lookup('rig') == ['10.0.0.1', '10.0.0.2', '::1']
    assert [str(uri) for uri in (await resolve_all('tcp://rig:5'))[1]] == [
        *('tcp://10.0.0.1:5', 'tcp://10.0.0.2:5', 'tcp://[::1]:5')
    ]
    assert validate_uri('rig') == 'udp://10.0.0.1:11001'
    assert await lookup('10.9.9.9') == ['10.9.9.9']


async def test_errors_name_the_host(system: dict[str, Any]) -> None:
    system['rig'] = socket.gaierror(-2, 'Name or service not known')
    for uri in ('rig', 'tcp://rig'):
        with pytest.raises(ValueError, match=r"resolve the host name 'rig': .*not known"):
            await EchoProtocol.client(uri)
    with pytest.raises(ValueError, match=r"resolve the host name 'rig' in allow=: .*not known"):
        await EchoProtocol.server('udp://127.0.0.1:0', allow='rig')


async def test_a_lookup_waits_for_no_other_thread(system: dict[str, Any]) -> None:
    """The default executor is full of the program's own work."""
    loop, end = asyncio.get_running_loop(), threading.Event()
    jobs = [loop.run_in_executor(None, end.wait, 60) for _ in range(min(32, (os.cpu_count() or 1) + 4) + 1)]
    try:
        system['rig'] = ['127.0.0.1']
        assert await asyncio.wait_for(lookup('rig'), 30) == ['127.0.0.1']
    finally:
        end.set()
        await asyncio.gather(*jobs)


async def test_a_lookup_is_cancelled_with_its_call(system: dict[str, Any]) -> None:
    end, started = threading.Event(), []

    def hang() -> list[str]:
        started.append(1)
        end.wait(60)
        return ['127.0.0.1']

    system['rig'] = hang
    try:
        for _ in range(3):  # they share one thread
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(EchoProtocol.client('udp://rig'), 0.05)
        assert started == [1]
        waiting = asyncio.ensure_future(lookup('rig'))
        await asyncio.sleep(0)
    finally:
        end.set()
    assert await asyncio.wait_for(waiting, 30) == ['127.0.0.1']
    await eventually(lambda: 'rig' not in {thread.name for thread in threading.enumerate()}, 'the thread ends')
    system['rig'] = ['127.0.0.9']
    assert await lookup('rig') == ['127.0.0.9']  # nothing is remembered


PROGRAM = """
import asyncio, socket, sys, time
real = socket.getaddrinfo
def hang(host, *args, **kwargs):
    if host == 'away':
        time.sleep(600)
    return real(host, *args, **kwargs)
socket.getaddrinfo = hang
import echorig
from echorig import sync
try:
    if sys.argv[1] == 'sync':
        sync.Services.connect({'camera': 'udp://away'}, timeout=0.1)
    else:
        echorig.run(echorig.Services.connect({'camera': 'udp://away'}, timeout=0.1))
except TimeoutError:
    print('timed out')
"""


@pytest.mark.parametrize('how', ['sync', 'async'])
@pytest.mark.parametrize('loop', ['uvloop', 'asyncio'])
def test_a_lookup_that_hangs_does_not_keep_the_program(how: str, loop: str) -> None:
    ran = subprocess.run(
        [sys.executable, '-c', PROGRAM, how],
        env={**os.environ, 'ECHORIG_LOOP': loop},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ('timed out\n', '', 0)


@pytest.mark.parametrize('name', ['käfig-1', 'KÄFIG-1', 'ka\u0308fig-1', 'rig_2', 'rig-', 'rig.lab.', 'ラボ', 'हिन्दी'])
def test_names_that_a_system_may_know_are_accepted(name: str, system: dict[str, Any]) -> None:
    assert parse(f'tcp://{name}:5').host == name
    system[name] = ['10.0.0.5']
    assert validate_uri(f'tcp://{name}:5') == 'tcp://10.0.0.5:5'


@pytest.mark.parametrize('name', ['rig 2', 'a..b', '.', 'ä' * 64, 'rig!', 'rig\x00', 'käfig/1', '-ä'])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match='Invalid'):
        parse(f'udp://{name}')


async def test_a_name_that_the_system_has_as_it_is_written(system: dict[str, Any]) -> None:
    """As files of hosts and multicast DNS have it."""
    system['käfig-1'] = socket.gaierror(-2, 'Name or service not known')
    system['käfig-1'.encode()] = ['10.0.0.5']
    assert await lookup('käfig-1') == ['10.0.0.5']


@pytest.mark.parametrize('call', ['confirmed_send', 'ping'])
async def test_a_name_is_looked_up_within_the_timeout_of_a_call(system: dict[str, Any], call: str) -> None:
    end = threading.Event()
    system['away'] = lambda: (end.wait(60) and ['127.0.0.1']) or ['127.0.0.1']
    try:
        async with await EchoProtocol.server('udp://127.0.0.1:0', 'rig') as rig:
            args = ([64, 20],) if call == 'confirmed_send' else ()
            with pytest.raises(EchoTimeoutError, match=r'away did not resolve within 0.100 s'):
                await asyncio.wait_for(getattr(rig, call)(*args, addr=('away', 5), timeout=0.1), 30)
    finally:
        end.set()


async def test_the_name_of_a_client_is_looked_up_again_after_a_failure(system: dict[str, Any]) -> None:
    """It may have got another address."""
    system['main-pc'] = ['127.0.0.1']
    async with await EchoProtocol.server('udp://127.0.0.1:0', 'rig') as rig:
        async with await EchoProtocol.server('udp://127.0.0.1:0', 'main') as main:
            system['main-pc'] = ['127.0.0.9']
            with pytest.raises(EchoTimeoutError):
                await rig.confirmed_send([64, 20], addr=('main-pc', main.port), timeout=0.1)
            system['main-pc'] = ['127.0.0.1']
            await rig.confirmed_send([64, 20], addr=('main-pc', main.port), timeout=20)


async def test_a_new_lookup_is_made_when_one_hangs_for_long(system: dict[str, Any], monkeypatch: Any) -> None:
    """The network may have changed since."""
    end = threading.Event()
    system['rig'] = lambda: (end.wait(60) and ['127.0.0.9']) or ['127.0.0.9']
    monkeypatch.setattr('echorig.resolver.SHARED_FOR', 0.0)
    try:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(lookup('rig'), 0.05)
        system['rig'] = ['127.0.0.1']
        assert await asyncio.wait_for(lookup('rig'), 30) == ['127.0.0.1']
    finally:
        end.set()
