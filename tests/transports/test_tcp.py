"""TCP: whole messages on a stream, any number of clients, each on its own connection."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

import pytest

from echorig import ConnectionClosedError, EchoProtocol, ExpMessage, TLSError, Tuning
from echorig.tuning import InternalTuning
from echorig.wire._framing import FrameSplitter
from eventually import eventually
from lab import REF
from tagging import TAG_SIZE, set_ack, strip_tag


async def test_two_messages_in_one_segment(lab):
    server = await lab.server('tcp')
    heard = []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append((event, data)))
    reader, writer = await asyncio.open_connection(server.hostname, server.port)
    both = b'[1, null][2, "ref", {"a": "]["}]'
    writer.write(both)
    assert await asyncio.wait_for(reader.readexactly(len(both)), 2) == both
    assert heard == [(ExpMessage.EXPINIT, [None]), (ExpMessage.EXPSTART, ['ref', {'a': ']['}])]
    writer.close()
    await writer.wait_closed()


async def test_one_message_in_100_segments(lab):
    server = await lab.server('tcp')
    heard = []
    server.assign_callback('EXPSTART', lambda data, addr: heard.append(data))
    reader, writer = await asyncio.open_connection(server.hostname, server.port)
    message = server.encode([2, 'é"\\[' * 10, {'x': list(range(60))}])
    edges = [len(message) * i // 100 for i in range(101)]
    pieces = [message[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert len(pieces) == 100
    assert all(pieces)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    assert await asyncio.wait_for(reader.readexactly(len(message)), 2) == message
    assert heard == [server.decode(message)[1:]]
    writer.close()
    await writer.wait_closed()


async def test_a_message_of_2_mb(lab):
    server, client = await lab.pair('tcp')
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append(data))
    data = {'image': 'x' * 2_000_000, 'é': list(range(10_000))}
    await client.confirmed_send([64, 20, data], timeout=30)
    assert heard == [[20, data]]


async def test_50_clients_at_once(lab):
    server = await lab.server('tcp')
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append((addr, data[1])))
    clients = [await lab.client(server, f'c{i}') for i in range(50)]
    await asyncio.gather(*(client.info(0, [i, k]) for i, client in enumerate(clients) for k in range(20)))
    assert len(heard) == 1000
    for i, client in enumerate(clients):
        own = client._transport.get_extra_info('sockname')[:2]
        assert [content for addr, content in heard if addr == own] == [[i, k] for k in range(20)]
    addrs = {addr for addr, _ in heard}
    answers = [asyncio.ensure_future(client.on_event('EXPSTART')) for client in clients]
    await asyncio.sleep(0)
    await asyncio.gather(*(server.start(str(addr[1]), addr=addr) for addr in addrs))
    for client, answer in zip(clients, answers, strict=True):
        assert (await answer)[0][0] == str(client._transport.get_extra_info('sockname')[1])


async def test_messages_are_pipelined(lab):
    accepted = asyncio.Queue()
    raw = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), '127.0.0.1', 0)
    client = await lab.client(f'tcp://127.0.0.1:{raw.sockets[0].getsockname()[1]}')
    sends = [asyncio.ensure_future(client.info(0, i)) for i in range(10)]
    reader, writer = await accepted.get()
    expected = [client.encode([64, 0, i]) for i in range(10)]
    first = await asyncio.wait_for(reader.readexactly(len(expected[0]) + TAG_SIZE), 2)
    writer.write(set_ack(first))  # from now on it is known that this end tells messages apart
    others = await asyncio.wait_for(reader.readexactly(sum(len(frame) + TAG_SIZE for frame in expected[1:])), 2)
    assert [strip_tag(frame) for frame in FrameSplitter(10**6).feed(first + others)] == expected
    for frame in FrameSplitter(10**6).feed(others):
        writer.write(set_ack(frame))
    await asyncio.gather(*sends)
    writer.close()
    raw.close()
    await raw.wait_closed()


async def test_small_messages_are_sent_at_once_on_both_ends(lab):
    own = socket.socket()  # without a protocol number the loops keep the delay
    own.bind(('127.0.0.1', 0))
    server = await EchoProtocol.server('tcp://127.0.0.1', 'server', sock=own)
    lab.opened.append(server)
    client = await lab.client(server)
    await client.init()
    for com in (server, client):
        sock = com._transport.get_extra_info('socket')
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize('raw', [b'[1, 2', b'[1][2]', '[', b'[1] '])
async def test_raw_bytes_that_would_break_the_stream_are_refused(lab, raw):
    _, client = await lab.pair('tcp')
    with pytest.raises(ValueError, match='whole JSON array'):
        await client.confirmed_send(raw)
    await client.confirmed_send(b'bare text')
    await client.confirmed_send(b'[8]')


async def test_a_message_over_the_limit_closes_the_connection(lab, caplog):
    server = await lab.server('tcp', tuning=Tuning(max_stream_message=1000))
    other, client = await lab.client(server), await lab.client(server, tuning=Tuning(max_stream_message=10**6))
    await client.init('x' * 800)
    with pytest.raises(ConnectionClosedError):
        await client.confirmed_send([1, 'x' * 2000], timeout=10)
    assert 'larger than 1000 bytes' in caplog.text
    await other.init()


async def test_an_end_inside_a_message_is_logged(lab, caplog):
    server, client = await lab.pair('tcp')
    _, writer = await asyncio.open_connection(server.hostname, server.port)
    writer.write(b'[2, "unfinished')
    writer.write_eof()
    await eventually(
        lambda: any('15 bytes are lost' in r.getMessage() for r in caplog.records),
        'the lost bytes are logged',
    )
    assert all(r.levelno < logging.ERROR for r in caplog.records)
    writer.close()
    await client.init()


async def test_a_client_that_never_reads_is_closed_and_does_not_delay_closing(lab, caplog):
    server = await lab.server('tcp', tuning=InternalTuning(max_send_buffer=2**20, close_grace=0.05))
    _, writer = await asyncio.open_connection(server.hostname, server.port)
    frame = server.encode([64, 'x' * 100_000])
    while 'more than 1048576 bytes wait to be sent (Tuning.max_send_buffer)' not in caplog.text:
        if not writer.is_closing():
            writer.write(frame)
        await asyncio.sleep(0.001)
    writer.transport.abort()
    other = await lab.server('tcp', tuning=InternalTuning(close_grace=0.05))
    _, writer = await asyncio.open_connection(other.hostname, other.port)
    waiting = asyncio.ensure_future(other.on_event('EXPINFO'))
    for _ in range(80):
        writer.write(frame)
    await waiting
    other.close()
    await asyncio.wait_for(other.wait_closed(), 5)
    writer.transport.abort()


@pytest.mark.blocks
async def test_a_client_without_a_handshake_does_not_delay_closing(lab, certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = await lab.server('wss', ssl=context, tuning=InternalTuning(close_grace=0.05))
    with socket.create_connection((server.hostname, server.port)):
        await asyncio.sleep(0.02)
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)


async def test_nothing_is_delivered_after_closing(lab, caplog):
    server = await lab.server('tcp')
    heard = []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: (heard.append(event), server.close()))
    _, writer = await asyncio.open_connection(server.hostname, server.port)
    writer.write(b'[4, null][1, 1][1, 2]')
    await asyncio.wait_for(server.wait_closed(), 5)
    assert heard == [ExpMessage.EXPEND]
    assert 'No echo sent' not in caplog.text
    writer.close()


async def test_data_received_may_be_called_directly(lab):
    server, client = await lab.pair('tcp')
    waiting = asyncio.ensure_future(client.on_event('EXPEND'))
    await asyncio.sleep(0)
    client.data_received(b'[4, ')
    client.data_received(b'"x"]')
    assert await waiting == (['x'], (server.hostname, server.port))
    with pytest.raises(RuntimeError, match='Unsupported transport'):
        (await lab.client('udp://127.0.0.1:9')).connection_made(client._transport)


@pytest.mark.blocks  # contexts are loaded from files
async def test_wss_is_tls(lab, certificate):
    cert, key = certificate
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context(cafile=str(cert))
    ours.load_cert_chain(cert, key)
    server = await lab.server('wss', ssl=ours)
    for host in ('127.0.0.1', 'localhost'):
        client = await lab.client(f'wss://{host}:{server.port}', ssl=theirs)
        waiting = asyncio.create_task(server.on_event('EXPSTART'))
        await client.start(REF)
        assert (await waiting)[0] == [REF, None]
        assert client._transport.get_extra_info('ssl_object') is not None
    with pytest.raises(TLSError, match='self-signed'):
        await lab.client(server.server_uri)
    for scheme in ('ws', 'tcp', 'udp'):
        with pytest.raises(ValueError, match='use tls'):
            await lab.server(scheme, ssl=ours)
        with pytest.raises(ValueError, match='use tls'):
            await lab.client(f'{scheme}://127.0.0.1:9', ssl=theirs)
