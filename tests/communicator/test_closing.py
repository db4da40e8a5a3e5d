"""Closing: its effect on waiting coroutines, on sockets, and on later calls."""

from __future__ import annotations

import asyncio
import gc
from unittest import mock

import pytest

from conftest import LOOPS
from echorig import ConnectionClosedError, EchoProtocol
from lab import REF, RawUdp


async def test_close_as_documented(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, 'camera')
    loop = asyncio.get_running_loop()
    event, echo = loop.create_future(), loop.create_future()
    client.assign_callback('EXPCLEANUP', event)
    client.assign_callback('EXPCLEANUP', mock.Mock())
    client._last_sent['10.0.0.1', 9] = (None, echo)
    sending = asyncio.ensure_future(client.start(REF))
    queued = asyncio.ensure_future(client.stop())
    waiting = asyncio.ensure_future(client.on_event('EXPEND'))
    await peer.hear()
    _, shown_echo = client._last_sent[peer.addr]
    client.close()
    client.close()
    assert client.is_connected is False
    assert event.cancelled()
    assert echo.cancelled()
    assert client.on_error_received.cancelled()
    assert client.on_eof_received.cancelled()
    assert await client.on_connection_lost == 'Close called on communicator'
    assert not any(client._callbacks.values())
    for task in (sending, queued, waiting):
        with pytest.raises(ConnectionClosedError, match='camera'):
            await task
    assert shown_echo.cancelled()
    assert client._transport.is_closing()
    await client.wait_closed()
    peer.close()


async def test_calls_on_a_closed_communicator_fail_at_once(lab, transport):
    server, client = await lab.pair(transport)
    client.close()
    for call in (
        lambda: client.start(REF),
        lambda: client.on_event('EXPEND'),
        lambda: client.alyx(),
        lambda: client.confirmed_send([8], timeout=100),
    ):
        with pytest.raises(ConnectionClosedError, match='closed'):
            await call()
    with pytest.raises(ConnectionClosedError):
        client.send([8])
    with pytest.raises(ConnectionClosedError):
        client.assign_callback('EXPEND', print)
    assert client.clear_callbacks('EXPEND') == 0
    assert server.is_connected


async def test_the_task_that_is_cancelled_is_told_so(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    for coro in (client.start(REF), client.on_event('EXPEND'), client.alyx()):
        task = asyncio.ensure_future(coro)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    peer.close()


async def test_the_port_is_free_again(lab, transport):
    server = await lab.server(transport)
    clients = [await lab.client(server) for _ in range(3)]
    for client in clients:
        await client.init()
    uri = server.server_uri
    server.close()
    await server.wait_closed()
    again = await EchoProtocol.server(uri, 'again')
    assert again.is_connected is True
    async with again:
        pass
    assert not again.is_connected
    await again.wait_closed()


async def test_a_client_is_told_when_its_connection_is_gone(lab):
    server, client = await lab.pair('tcp')
    await client.init()
    server.clear_callbacks('EXPINIT')
    waiting = asyncio.ensure_future(client.on_event('EXPEND'))
    await asyncio.sleep(0)
    server.close()
    assert await asyncio.wait_for(client.on_connection_lost, 2) is None
    assert await client.on_eof_received is True
    with pytest.raises(ConnectionClosedError, match='lost its connection'):
        await waiting
    for call in (lambda: client.init(), lambda: client.on_event('EXPEND')):
        with pytest.raises(ConnectionClosedError):
            await asyncio.wait_for(call(), 2)
    assert not client.is_connected


async def test_sends_fail_at_once_when_the_connection_breaks(lab):
    accepted = asyncio.Queue()
    raw = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), '127.0.0.1', 0)
    client = await lab.client(f'tcp://127.0.0.1:{raw.sockets[0].getsockname()[1]}', 'camera')
    client.default_echo_timeout = 60.0
    sends = [asyncio.ensure_future(client.init(i)) for i in range(3)]
    reader, writer = await accepted.get()
    await reader.readexactly(6)
    writer.transport.abort()
    for send in sends:
        with pytest.raises(ConnectionClosedError, match=r'camera .*EXPINIT') as caught:
            await asyncio.wait_for(send, 5)
    assert 'EXPINIT' in str(caught.value)
    raw.close()
    await raw.wait_closed()


async def test_one_client_leaving_fails_only_what_goes_to_it(lab):
    server = await lab.server('tcp')
    server.default_echo_timeout = 60.0
    addrs = asyncio.Queue()
    server.assign_callback('EXPINIT', lambda data, addr: addrs.put_nowait(addr))
    staying = await lab.client(server, 'staying')
    await staying.init()
    stays = await addrs.get()
    reader, writer = await asyncio.open_connection(server.hostname, server.port)
    writer.write(b'[1, null]')
    leaves = await addrs.get()
    sending = asyncio.ensure_future(server.start(REF, addr=leaves))
    await reader.readexactly(len(f'[1, null][2, "{REF}", null]'))
    writer.close()
    await writer.wait_closed()
    with pytest.raises(ConnectionClosedError, match='EXPSTART'):
        await asyncio.wait_for(sending, 5)
    await server.start(REF, addr=stays)
    assert server.is_connected
    assert not server.on_connection_lost.done()


@pytest.mark.parametrize('scheme', ['udp', 'tcp'])
def test_close_between_two_runs_of_the_loop(scheme):
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(EchoProtocol.server(f'{scheme}://127.0.0.1:0', 'server'))
    client = loop.run_until_complete(EchoProtocol.client(server.server_uri, 'client'))
    loop.run_until_complete(client.init())
    client.close()
    server.close()
    for com in (client, server):
        loop.run_until_complete(com.wait_closed())
    loop.close()


def test_close_after_the_loop_has_ended():
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(EchoProtocol.client('127.0.0.1:9', 'client'))
    transport = client._transport
    transport.close()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    client.close()
    assert not client.is_connected


@pytest.mark.parametrize('new_loop', LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize('scheme', ['udp', 'tcp'])
@pytest.mark.filterwarnings('ignore:unclosed:ResourceWarning')
def test_close_after_its_loop_was_closed_frees_the_port(new_loop, scheme):
    loop, again = new_loop(), new_loop()
    server = loop.run_until_complete(EchoProtocol.server(f'{scheme}://127.0.0.1:0', 'server'))
    client = loop.run_until_complete(EchoProtocol.client(server.server_uri, 'client'))
    loop.run_until_complete(client.init())
    loop.close()
    for com in (client, server):
        com.close()
        assert not com.is_connected
    other = again.run_until_complete(EchoProtocol.server(server.server_uri, 'other'))
    other.close()
    again.run_until_complete(other.wait_closed())
    again.close()
    del com, client, server, other
    gc.collect()  # the transports of asyncio warn when they are deleted


async def test_closing_inside_a_callback(lab, transport):
    server, client = await lab.pair(transport)
    server.assign_callback('EXPEND', lambda data, addr: server.close())
    other = mock.Mock()
    server.assign_callback('EXPEND', other)
    await client.stop()
    await asyncio.wait_for(server.wait_closed(), 2)
