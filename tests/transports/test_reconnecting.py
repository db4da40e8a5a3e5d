"""Clients reconnect to servers that were stopped and started again, and report it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

import pytest

import internals
from echorig import (
    ConnectionClosedError,
    ConnectionEvent,
    EchoProtocol,
    EchoTimeoutError,
    PeerUnreachableError,
    Services,
    ServicesError,
)
from echorig.tuning import InternalTuning
from lab import REF, free_port
from tagging import TAG_SIZE

QUICK = InternalTuning(first_reconnect_delay=0.01, max_reconnect_delay=0.02)


async def restarted(lab, server, **kwargs):
    """Open a server at the address of an earlier one."""
    again = await EchoProtocol.server(server.server_uri, 'again', **kwargs)
    lab.opened.append(again)
    return again


async def gone(server):
    server.close()
    await server.wait_closed()


async def test_a_client_reconnects(lab, caplog):
    server = await lab.server('tcp')
    client = await lab.client(server, 'camera', tuning=QUICK)
    caplog.set_level(logging.INFO)
    told, heard = [], []
    client.assign_connection_callback(told.append)
    client.assign_callback('EXPINFO', lambda data, addr: heard.append(data[0]))
    async with client.connection_events() as changes, client.events() as stream:
        await client.init()
        first = client.on_connection_lost
        waiting = asyncio.ensure_future(client.on_event('EXPEND'))
        await asyncio.sleep(0)
        await gone(server)
        assert await asyncio.wait_for(first, 5) is None
        assert client.is_connected is False
        with pytest.raises(ConnectionClosedError, match='lost its connection'):
            await waiting
        for call in (lambda: client.start(REF), lambda: client.ping(), lambda: client.on_event('EXPEND')):
            with pytest.raises(ConnectionClosedError, match=r'camera .* is reconnecting'):
                await call()
        client.assign_callback('EXPEND', lambda data, addr: heard.append(data[0]))  # stays assigned
        server = await restarted(lab, server)
        addr = asyncio.get_running_loop().create_future()
        server.assign_callback('EXPSTART', lambda data, sender: addr.set_result(sender))
        lost, found = [await asyncio.wait_for(changes.__anext__(), 5) for _ in range(2)]
        address = (server.hostname, server.port)
        assert (lost, found) == (ConnectionEvent('lost', address), ConnectionEvent('connected', address))
        assert told == [lost, found]
        assert client.is_connected is True
        assert first.done()
        assert not client.on_connection_lost.done()
        await client.start(REF)
        await server.info(0, addr=await addr)
        await server.stop('x', addr=await addr)
        assert heard == [0, 'x']
        assert len(stream) == 2
        again = client.on_connection_lost
        await gone(server)
        await asyncio.wait_for(again, 5)
    assert client.clear_connection_callbacks() == 1
    assert 'Reconnected to' in caplog.text


async def test_nothing_is_sent_twice(lab):
    """A message in transit fails with its connection, and is not sent to the next program."""
    accepted = asyncio.Queue()
    raw = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), '127.0.0.1', 0)
    uri = f'tcp://127.0.0.1:{raw.sockets[0].getsockname()[1]}'
    client = await lab.client(uri, tuning=QUICK)
    client.default_echo_timeout = 60.0
    sends = [asyncio.ensure_future(client.info(0, i)) for i in range(3)]
    reader, writer = await accepted.get()
    await reader.readexactly(3 * len(client.encode([64, 0, 0])) + 3 * TAG_SIZE)  # received, and never confirmed
    writer.transport.abort()
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionClosedError] * 3
    reader, writer = await asyncio.wait_for(accepted.get(), 5)
    await asyncio.sleep(0)
    sending = asyncio.ensure_future(client.info(0, 'next'))
    frame = await asyncio.wait_for(reader.readexactly(len(client.encode([64, 0, 'next'])) + TAG_SIZE), 5)
    assert frame.startswith(b'[64, 0, "next"')
    writer.write(frame)
    await sending
    writer.close()
    raw.close()
    await raw.wait_closed()


async def test_reconnect_false(lab):
    server = await lab.server('tcp')
    client = await lab.client(server, reconnect=False)
    await client.init()
    await gone(server)
    await asyncio.wait_for(client.wait_closed(), 5)  # the client is closed
    assert client.on_connection_lost.done()
    for call in (client.init, lambda: client.on_event('EXPEND')):
        with pytest.raises(ConnectionClosedError, match=r'has lost its connection$'):
            await call()
    with pytest.raises(ConnectionClosedError):
        client.assign_callback('EXPEND', print)
    client.close()


async def test_a_socket_of_the_user_is_not_replaced(lab):
    server = await lab.server('tcp')
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (server.hostname, server.port))
    client = await lab.client(server, sock=sock)
    await client.init()
    await gone(server)
    await asyncio.wait_for(client.wait_closed(), 5)


async def test_closing_ends_the_attempts(lab):
    for delay in (10.0, 0.001):  # between two attempts, and during one
        server = await lab.server('tcp')
        client = await lab.client(server, tuning=InternalTuning(first_reconnect_delay=delay, max_reconnect_delay=delay))
        async with client.connection_events() as changes:
            await gone(server)
            assert (await asyncio.wait_for(changes.__anext__(), 5)).state == 'lost'
            await asyncio.sleep(0.01)
            client.close()
            await asyncio.wait_for(client.wait_closed(), 5)
            with pytest.raises(ConnectionClosedError):
                await changes.__anext__()
        assert internals.reconnect_task(client).done()
        with pytest.raises(ConnectionClosedError, match='is closed'):
            await client.init()
        with pytest.raises(ConnectionClosedError):
            client.assign_connection_callback(print)


async def test_attempts_to_a_server_that_closes_connections_become_rare(lab):
    accepted = asyncio.Queue()

    def hang_up(reader, writer):
        accepted.put_nowait(None)
        writer.close()

    raw = await asyncio.start_server(hang_up, '127.0.0.1', 0)
    client = await lab.client(
        f'tcp://127.0.0.1:{raw.sockets[0].getsockname()[1]}',
        tuning=InternalTuning(first_reconnect_delay=0.001, max_reconnect_delay=60.0),
    )
    for _ in range(5):
        await asyncio.wait_for(accepted.get(), 5)
    assert internals.reconnect_delay(client) >= 0.001 * 2**4
    client.close()
    await client.wait_closed()
    raw.close()
    await raw.wait_closed()


@pytest.mark.blocks  # contexts are loaded from files
async def test_over_tls(lab, certificate):
    cert, key = certificate
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context(cafile=str(cert))
    ours.load_cert_chain(cert, key)
    server = await lab.server('wss', ssl=ours)
    client = await lab.client(server, ssl=theirs, tuning=QUICK)
    async with client.connection_events() as changes:
        await client.init()
        await gone(server)
        assert (await asyncio.wait_for(changes.__anext__(), 5)).state == 'lost'
        # Meanwhile a program without TLS listens there.
        other = await asyncio.start_server(lambda r, w: w.write(b'hello') or w.close(), '127.0.0.1', server.port)
        await asyncio.sleep(0.05)
        other.close()
        await other.wait_closed()
        await restarted(lab, server, ssl=ours)
        assert (await asyncio.wait_for(changes.__anext__(), 5)).state == 'connected'
        await client.init()
        assert client._transport.get_extra_info('ssl_object') is not None


async def test_a_port_connected_to_itself_is_no_connection(lab):
    """One in some ten thousand attempts to reach a missing local server ends in one."""
    port = free_port()
    with pytest.raises(PeerUnreachableError, match='any more'):
        await lab.client(f'tcp://127.0.0.1:{port}', local_addr=('127.0.0.1', port))


async def test_connection_events_of_a_server(lab, caplog):
    server = await lab.server('tcp')
    told = asyncio.Queue()

    async def tell(change):
        told.put_nowait(change)

    def fail(change):
        raise ValueError('no lamp')

    server.assign_connection_callback(fail)
    server.assign_connection_callback(tell)
    with pytest.raises(TypeError):
        server.assign_connection_callback('lamp')
    client = await lab.client(server)
    addr = client._transport.get_extra_info('sockname')
    assert await asyncio.wait_for(told.get(), 5) == ConnectionEvent('connected', addr)
    client.close()
    change = await asyncio.wait_for(told.get(), 5)
    assert (change.state, change.addr) == ('lost', addr)
    assert 'failed with error "ValueError: no lamp"' in caplog.text
    assert server.clear_connection_callbacks(fail) == 1


async def test_services_fail_at_once_while_a_rig_is_stopped_and_work_again(lab):
    server, other = await lab.answering('tcp', 'rig'), await lab.answering('tcp', 'other')
    rigs = Services([await lab.client(com, com.name, tuning=QUICK) for com in (server, other)], timeout=30.0)
    await rigs.init()
    async with rigs['rig'].connection_events() as changes:
        await gone(server)
        assert (await asyncio.wait_for(changes.__anext__(), 5)).state == 'lost'
        with pytest.raises(ServicesError, match='rig') as caught:
            await asyncio.wait_for(rigs.start(REF), 10)
        assert list(caught.value.failures) == ['rig']
        assert list(caught.value.responses) == ['other']
        assert not rigs.is_connected
        again = await restarted(lab, server)

        async def answer(data, addr):
            await again.start(*data, addr=addr)

        again.assign_callback('EXPSTART', answer)
        assert (await asyncio.wait_for(changes.__anext__(), 5)).state == 'connected'
    assert list(await rigs.start(REF)) == ['rig', 'other']


async def test_a_restarted_udp_rig_receives_messages_again(lab):
    server = await lab.server()
    client = await lab.client(server)
    await client.init()
    await gone(server)
    client.default_echo_timeout = 0.1
    with pytest.raises(EchoTimeoutError):  # it may not be known that nobody listens
        await client.start(REF)
    client.default_echo_timeout = 30.0
    starting = asyncio.ensure_future(client.start(REF))
    await asyncio.sleep(0.02)
    again = await restarted(lab, server)
    heard = []
    again.assign_callback('EXPSTART', lambda data, addr: heard.append(data))
    await starting
    assert heard == [[REF, None]]
