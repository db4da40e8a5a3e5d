"""Errors and log lines name the rig, its address and the reason."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time

import numpy as np
import pytest

from echorig import EchoProtocol, EchoTimeoutError, ExpMessage, Services, ServicesTimeoutError, Tuning
from eventually import eventually
from lab import RawUdp, free_port
from systems import needs_refusals


@pytest.mark.parametrize(
    ('message', 'error', 'text'),
    [
        (['start'], TypeError, 'its first element is of type str'),
        (['EXPSTART', 'ref'], TypeError, r"ExpMessage\.EXPSTART; its first element is 'EXPSTART'"),
        (('init', 1), TypeError, 'event code'),
        ([None], TypeError, 'NoneType'),
        ([True], TypeError, 'bool'),
        ([2.5], TypeError, 'float'),
        ([[1]], TypeError, 'list'),
        ([{'a': 1}], TypeError, 'dict'),
        ([-1], ValueError, 'int'),
        ([10**9], ValueError, 'int'),
        (np.array([0.5]), TypeError, 'event code'),
    ],
    ids=repr,
)
async def test_arrays_without_an_event_code_are_refused(lab, message, error, text):
    server, client = await lab.pair()
    for send in (client.confirmed_send, lambda message: asyncio.sleep(0, client.send(message))):
        with pytest.raises(error, match=text):
            await send(message)
    assert client.peers.get((server.hostname, server.port)) is None


async def test_other_messages_are_sent(lab, transport):
    _, client = await lab.pair(transport)
    for message in ([], [2, 'ref'], (ExpMessage.EXPEND, None), np.array([1, 2])):
        await client.confirmed_send(message)
    client.send([0, 'no', 2])  # a notice is not echoed
    for message in ('start', b'start', '["start"]', b'["start"]', {'a': 1}):
        await client.confirmed_send(message)


async def test_a_callback_that_fails_is_logged_with_its_traceback(lab, caplog):
    server, client = await lab.pair()

    def broken(data, addr):
        try:
            {}['disk']
        except KeyError as ex:
            raise ValueError('no disk') from ex

    async def broken_later(data, addr):
        raise ValueError('no lamp')

    async def secretive(data, addr):
        raise ValueError(f'bad token {data}')

    server.assign_callback('EXPINIT', broken)
    server.assign_callback('EXPSTART', broken_later)
    server.assign_callback('EXPEND', secretive)
    await client.init()
    await eventually(lambda: 'no disk' in caplog.text, 'the error is logged')
    assert 'failed with error "ValueError: no disk"' in caplog.text
    assert "KeyError: 'disk'" in caplog.text
    assert 'in broken' in caplog.text
    await client.start('2026-01-31_1_mouse')
    await eventually(lambda: 'in broken_later' in caplog.text, 'the error of the coroutine is logged')
    await client.stop('hunter2')
    await eventually(lambda: 'in secretive' in caplog.text, 'the place of the third error is logged')
    assert 'failed with error "ValueError"' in caplog.text
    assert 'hunter2' not in caplog.text


async def test_an_address_in_use_names_the_rig(transport):
    async with EchoProtocol.server(f'{transport}://127.0.0.1:0') as server:
        with pytest.raises(OSError, match=rf'camera \({server.server_uri}\)') as caught:
            await EchoProtocol.server(server.server_uri, 'camera')
        assert caught.value.errno
        assert str(caught.value).startswith(f'[Errno {caught.value.errno}]')


async def test_an_address_of_another_computer_names_the_rig(transport):
    with pytest.raises(OSError, match=rf'camera \({transport}://192\.0\.2\.1:11001\)') as caught:
        await EchoProtocol.server(f'{transport}://192.0.2.1', 'camera')
    assert caught.value.errno or 'could not bind' in str(caught.value)  # asyncio of Python 3.13 gives no number


@needs_refusals
async def test_repeated_refusals_are_one_line(lab, caplog):
    port = free_port()
    client = await lab.client(f'udp://127.0.0.1:{port}', 'camera')
    for _ in range(5):
        with pytest.raises(EchoTimeoutError):
            await client.confirmed_send([1], timeout=0.2)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == 1
    assert lines[0].startswith('Error received: ')
    assert f'camera (udp://127.0.0.1:{port})' in lines[0]


@pytest.mark.parametrize(
    'request_line', [b'GET / HTTP/1.1', b'GET /rig HTTP/1.1\r\nUpgrade: websocket', b'POST /x HTTP/1.0']
)
async def test_an_http_request_is_refused(lab, request_line, caplog):
    server = await lab.server('ws')
    for _ in range(3):
        reader, writer = await asyncio.open_connection(server.hostname, server.port)
        writer.write(request_line + b'\r\nHost: rig\r\n\r\n')
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b''
        writer.close()
    await eventually(lambda: server.rejected['127.0.0.1'].cut == 3, 'all are counted')
    assert caplog.text.count('ws:// is plain TCP here, not WebSocket') == 1
    client = await lab.client(server)
    await client.confirmed_send('GET ready')


NEVER = 'never heard from it: off, wrong address, or firewall; see docs/troubleshooting'


async def test_a_time_out_of_a_peer_that_was_never_heard(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, 'camera')
    for send in (client.confirmed_send([1], timeout=0.2), client.ping(timeout=0.2)):
        with pytest.raises(EchoTimeoutError, match=f'did not echo .*: {NEVER}'):
            await send
    with pytest.raises(ServicesTimeoutError, match=f'did not echo EXPINIT within .*: {NEVER}'):
        await Services([client], timeout=0.3).init()
    peer.close()


async def test_a_time_out_of_a_silent_tcp_server(lab):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        client = await lab.client(f'tcp://127.0.0.1:{listener.getsockname()[1]}', 'camera')
        with pytest.raises(EchoTimeoutError, match='connected, but never heard from it'):
            await client.confirmed_send([1], timeout=0.2)


async def test_a_time_out_of_a_peer_that_was_heard_before(lab):
    server, client = await lab.pair()
    await client.ping()
    server.close()
    await server.wait_closed()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((server.hostname, server.port))
        with pytest.raises(EchoTimeoutError, match=r'was last heard \d+\.\d s ago'):
            await client.confirmed_send([1], timeout=0.3)


async def test_a_time_out_of_a_rig_that_confirms_and_does_not_answer(lab, transport):
    server = await lab.server(transport)
    client = await lab.client(server, 'camera')
    server.assign_callback('EXPINIT', lambda data, addr: None)
    what = 'answers pings, but its program has not answered EXPINIT: busy or blocked'
    with pytest.raises(ServicesTimeoutError, match=f'confirmed, but did not answer EXPINIT within .*: {what}'):
        await Services([client], timeout=0.3).init()


async def fill(client):
    """Send messages, and pings meanwhile."""
    for number in range(3, 10):
        sending = asyncio.ensure_future(client.confirmed_send([1, number], timeout=0.5))
        while not sending.done():
            await client.ping()
        await sending


async def test_a_time_out_of_a_rig_that_does_not_accept(lab):
    """A full backlog accepts no message, but the rig answers pings."""
    server = await lab.server(tuning=Tuning(max_backlog=1))
    client = await lab.client(server, 'camera')
    waiting = asyncio.ensure_future(server.on_event('EXPINIT'))
    await asyncio.sleep(0)
    await client.init(1)
    await waiting
    await client.init(2)  # it is kept
    started = time.monotonic()
    with pytest.raises(EchoTimeoutError) as caught:
        await fill(client)
    assert 'answers pings, but its program has not answered EXPINIT: busy or blocked' in str(caught.value)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize('scheme', ['tls', 'wss'])
async def test_tls_has_two_names(lab, scheme, papers):
    server = await lab.server(scheme, ssl=papers.servers['good'])
    assert server.server_uri.startswith(f'{scheme}://127.0.0.1:')
    client = await lab.client(server, ssl=papers.client)
    await client.confirmed_send([1])
    assert client.protocol == scheme
    with pytest.raises(ValueError, match='needs TLS'):
        await lab.server(scheme)
