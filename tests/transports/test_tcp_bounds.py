"""Floods over TCP with real sockets: idle, incomplete and excessive traffic; good clients lose no message."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tracemalloc
from collections import Counter

import pytest

import internals
from attack_modes import MESSAGE, attackers
from echorig import ConnectionClosedError, ExpMessage, Tuning
from echorig.transports.connection_limits import max_connections
from echorig.tuning import InternalTuning
from eventually import eventually
from hosts import BAD, needs_others
from tagging import is_ping, set_ack, tag

pytestmark = needs_others

MIB = 2**20
SPEAKS = b'[64, 20, null]'


@contextlib.asynccontextmanager
async def connections(server, n, host=BAD):
    """Open connections one after the other."""
    made = []
    try:
        for _ in range(n):
            made.append(await asyncio.open_connection(server.hostname, server.port, local_addr=(host, 0)))
        yield made
    finally:
        for _, writer in made:
            writer.transport.abort()


async def is_cut(reader):
    """Return whether the other end has closed the connection."""
    try:
        while await asyncio.wait_for(reader.read(65536), 10):
            pass
    except ConnectionResetError:
        pass
    return True


def listening(server):
    """Record the messages of a server, with their senders."""
    heard = []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append((addr[0], data[-1])))
    return heard


async def talk(client, begin, n):
    for i in range(begin, begin + n):
        await client.confirmed_send([64, 20, i], timeout=30)


def test_the_limit_of_the_system():
    resource = pytest.importorskip('resource')
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        assert max_connections(512) == 150
        assert max_connections(100) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- number ---


async def test_a_host_loses_only_its_own_connections(lab, caplog):
    server = await lab.server('tcp', host='0.0.0.0', tuning=Tuning(max_connections=10))
    heard = listening(server)
    old = await lab.client(f'tcp://127.0.0.1:{server.port}', 'old')
    silent = await lab.client(f'tcp://127.0.0.1:{server.port}', 'silent')  # has never sent a message, and need not
    await old.init()
    async with connections(server, 50) as strangers:
        assert internals.n_connections(server) <= 10
        new = await lab.client(f'tcp://127.0.0.1:{server.port}', 'new')
        await asyncio.gather(*(client.info(0, client.name) for client in (old, silent, new)))
        for reader, _ in strangers[: 50 - 7]:
            assert await is_cut(reader)
        assert internals.n_connections(server) == 10
    assert [data for _, data in heard[1:]] == ['old', 'silent', 'new']
    assert server.rejected[BAD].cut == 50 - 7
    assert '127.0.0.1' not in server.rejected
    assert len([record for record in caplog.records if 'Tuning.max_connections' in record.getMessage()]) == 1


async def test_active_connections_are_closed_last(lab):
    server = await lab.server('tcp', tuning=Tuning(max_connections=4))
    async with connections(server, 4) as (first, second, third, fourth):
        for reader, writer in (first, third):
            writer.write(SPEAKS)
            assert await asyncio.wait_for(reader.readexactly(len(SPEAKS)), 5) == SPEAKS
        second[1].write(b'[64')  # an incomplete message
        async with connections(server, 2):
            assert await is_cut(second[0])
            assert await is_cut(fourth[0])
            assert internals.n_connections(server) == 4
            for reader, writer in (first, third):
                writer.write(SPEAKS)
                assert await asyncio.wait_for(reader.readexactly(len(SPEAKS)), 5) == SPEAKS


async def test_a_newcomer_does_not_evict_an_active_connection_of_another_host(lab):
    server = await lab.server('tcp', host='0.0.0.0', tuning=Tuning(max_connections=3))
    async with contextlib.AsyncExitStack() as stack:
        for i in range(3):
            [(reader, writer)] = await stack.enter_async_context(connections(server, 1, f'127.0.0.{i + 10}'))
            writer.write(SPEAKS)
            assert await asyncio.wait_for(reader.readexactly(len(SPEAKS)), 5) == SPEAKS
        changes = []
        server.assign_connection_callback(changes.append)
        async with connections(server, 1) as [(reader, _)]:
            assert await is_cut(reader)
        assert internals.n_connections(server) == 3
        assert server.rejected[BAD].cut == 1
        assert changes == []


async def test_handshakes_count(lab, papers):
    tuning = Tuning(max_connections=6, handshake_timeout=60)
    server = await lab.server('wss', ssl=papers.servers['good'], host='0.0.0.0', tuning=tuning)
    client = await lab.client(f'wss://localhost:{server.port}', ssl=papers.client)
    await client.init()
    async with connections(server, 20) as strangers:
        for reader, _ in strangers[:15]:
            assert await is_cut(reader)
        await eventually(lambda: len(internals.limiter(server)) == 6, 'len(internals.limiter(server)) == 6')
        await (await lab.client(f'wss://localhost:{server.port}', ssl=papers.client)).init()
        await client.init()
    await eventually(lambda: len(internals.limiter(server)) == 2, 'len(internals.limiter(server)) == 2')
    assert set(server.rejected) == {BAD}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.blocks  # a process is started
@pytest.mark.parametrize('how', ['silent', 'drip', 'deaf', 'unfinished'])
async def test_a_flood_of_connections(lab, how):
    """2,000 connections of one host; messages of others are delivered exactly once."""
    n = 2000 if how == 'silent' else 200
    tuning = InternalTuning(
        max_connections=100,
        max_send_buffer=16 * MIB,
        max_receive_buffer=16 * MIB,
        message_timeout=0.5,
        idle_timeout=1.0,
    )
    server = await lab.server('tcp', host='0.0.0.0', tuning=tuning)
    heard = listening(server)
    good = await lab.client(f'tcp://127.0.0.1:{server.port}', 'good')
    await good.init()
    most = 0

    async def watch():
        nonlocal most
        while True:
            most = max(most, len(internals.limiter(server)))
            assert internals.n_connections(server) <= 2 * 100  # some are being closed: the loop accepts many at a time
            await asyncio.sleep(0)

    watching = asyncio.ensure_future(watch())
    talking = asyncio.ensure_future(talk(good, 0, 300))
    async with attackers(how, server, n):
        await talking
        other = await lab.client(f'tcp://127.0.0.1:{server.port}', 'other')
        await talk(other, 300, 300)
        await eventually(lambda: server.rejected['127.0.0.66'].cut >= n - 100, 'most are cut')
    watching.cancel()
    own = [data for host, data in heard if host == '127.0.0.1']
    assert own == [None, *range(600)]
    assert most <= 100
    assert '127.0.0.1' not in server.rejected


# --- time ---


async def test_one_byte_at_a_time(lab):
    server = await lab.server('tcp', tuning=InternalTuning(message_timeout=0.2))
    good = await lab.client(server)
    async with connections(server, 2) as ((reader, writer), (_, slow)):
        slow.write(b'[64, 20, ')

        async def drip():
            while True:
                writer.write(b'[')
                await asyncio.sleep(0.01)

        dripping = asyncio.ensure_future(drip())
        await talk(good, 0, 20)
        assert await is_cut(reader)
        dripping.cancel()
        await eventually(lambda: internals.n_connections(server) == 1, 'internals.n_connections(server) == 1')
        await talk(good, 20, 20)
    assert server.rejected[BAD].cut == 2


async def test_consecutive_messages_are_not_taken_for_an_incomplete_one(lab, monkeypatch):
    """A stream may always be inside a message, as long as each message is completed in time."""
    now = [0.0]
    monkeypatch.setattr('echorig.transports.connection_limits.monotonic', lambda: now[0])
    server = await lab.server('tcp', tuning=InternalTuning(message_timeout=0.2))
    heard = listening(server)
    async with connections(server, 1) as [(_, writer)]:
        writer.write(b'[64, 20, ')
        for i in range(60):
            writer.write(b'%d][64, 20, ' % i)
            await eventually(lambda i=i: len(heard) == i + 1, 'len(heard) == i + 1')
            now[0] += 0.15
            await asyncio.sleep(0.01)
        assert [data for _, data in heard] == list(range(60))


async def test_an_idle_connection_is_pinged_and_then_closed(lab):
    server = await lab.server('tcp', tuning=Tuning(idle_timeout=0.5))
    live = await lab.client(server)  # idle too, but echoes the ping
    async with connections(server, 2) as ((reader, _), (_, has_spoken)):
        has_spoken.write(SPEAKS)
        ping = await asyncio.wait_for(reader.readuntil(b']'), 10)
        assert is_ping(ping + await asyncio.wait_for(reader.read(100), 10)) or ping == b'[]'
        assert await is_cut(reader)
        await asyncio.sleep(1.0)
        assert internals.n_connections(server) == 2
        assert live.is_connected
    assert server.rejected[BAD].cut == 1
    await live.init()


@pytest.mark.skipif(not hasattr(socket, 'TCP_KEEPIDLE'), reason='the system does not say')
@pytest.mark.parametrize(
    ('tuning', 'idle', 'interval'),
    [(Tuning(), 6, 3), (InternalTuning(path_timeout=1e6, idle_timeout=1e6), 13108, 6553)],
)
async def test_keepalive_is_on(lab, tuning, idle, interval):
    server, client = await lab.pair('tcp', tuning=tuning)
    await client.init()
    for com in (server, client):
        sock = com._transport.get_extra_info('socket')
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == interval
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3


# --- bytes ---


async def test_unfinished_messages_are_bounded_together(lab, caplog):
    server = await lab.server('tcp', host='0.0.0.0', tuning=Tuning(max_receive_buffer=4 * MIB))
    good = await lab.client(f'tcp://127.0.0.1:{server.port}')
    heard = listening(server)
    begin = b'[64, 20, "' + b'x' * (3 * MIB // 2)
    async with connections(server, 2) as (first, second):
        for _, writer in (first, second):
            writer.write(begin)
        await eventually(
            lambda: sum(c.splitter.pending for c in internals.connections(server).values()) == 2 * len(begin),
            'all has come',
        )
        first[1].write(b'x' * 3 * MIB)
        assert await is_cut(first[0])
        await good.confirmed_send([64, 20, 'y' * (2 * MIB)], timeout=30)
        second[1].write(b'"]')
        await eventually(lambda: len(heard) == 2, 'len(heard) == 2')
    assert Counter(host for host, _ in heard) == {'127.0.0.1': 1, BAD: 1}
    assert 'it held most of the unfinished 4194304 bytes' in caplog.text
    assert server.rejected[BAD].cut == 1


async def test_many_small_connections_do_not_evict_a_large_one(lab):
    server = await lab.server('tcp', host='0.0.0.0', tuning=Tuning(max_receive_buffer=2 * MIB))
    heard = listening(server)
    async with connections(server, 15) as strangers, connections(server, 1, '127.0.0.1') as [(reader, good)]:
        for _, writer in strangers:
            writer.write(b'["' + b'x' * 100_000)
        await eventually(
            lambda: sum(c.splitter.pending for c in internals.connections(server).values()) == 15 * 100_002,
            'all has come',
        )
        good.write(b'[64, 20, "' + b'x' * 999_000)
        for _, writer in strangers:
            writer.write(b'x' * 20_000)
        await eventually(lambda: BAD in server.rejected, 'BAD in server.rejected')
        good.write(b'"]')
        assert len(await asyncio.wait_for(reader.readexactly(999_012), 30)) == len(heard[0][1]) + 12 == 999_012
    assert set(server.rejected) == {BAD}


@pytest.mark.slow
@pytest.mark.parametrize('scheme', ['tcp', 'wss'])
async def test_peers_that_never_read_are_bounded_together(lab, papers, scheme):
    """The server sends echoes to all of them; above the limit, those with the most unsent bytes are closed."""
    extra, theirs = ({'ssl': papers.servers['good']}, {'ssl': papers.client}) if scheme == 'wss' else ({}, {})
    server = await lab.server(scheme, host='0.0.0.0', tuning=Tuning(max_send_buffer=8 * MIB), **extra)
    good = await lab.client(f'{scheme}://127.0.0.1:{server.port}', 'good', **theirs)
    loop = asyncio.get_running_loop()
    deaf = []
    for _ in range(4):
        transport, protocol = await loop.create_connection(
            asyncio.Protocol, '127.0.0.1', server.port, local_addr=(BAD, 0),
            **({**theirs, 'server_hostname': 'localhost'} if theirs else {}),
        )  # fmt: skip
        deaf.append(transport)
        transport.pause_reading()
    most = 0
    i = 0
    while server.rejected.get(BAD) is None or server.rejected[BAD].cut < 3:
        for n, transport in enumerate(deaf):
            with contextlib.suppress(AttributeError):  # of Python 3.10, if it is closed
                if not transport.is_closing() and transport.get_write_buffer_size() < MIB:
                    transport.write(MESSAGE * (n + 1))
        await good.confirmed_send([64, 20, i], timeout=30)
        i += 1
        most = max(most, sum(connection.unsent for connection in internals.connections(server).values()))
    assert 4 * MIB < most <= 8 * MIB + 5 * 64 * 1024
    await good.init()
    assert '127.0.0.1' not in server.rejected
    for transport in deaf:
        transport.abort()
    await eventually(lambda: internals.n_connections(server) == 1, 'internals.n_connections(server) == 1')


async def test_a_slow_reader_receives_everything(lab):
    server = await lab.server('tcp', tuning=Tuning(max_send_buffer=64 * MIB))
    async with connections(server, 1) as [(reader, writer)]:
        frames = [tag(MESSAGE.replace(b'20', b'%d' % i), i + 1) for i in range(300)]
        everything = b''.join(map(set_ack, frames))
        writer.write(b''.join(frames))
        await eventually(lambda: internals.n_paused(server) == 1, 'internals.n_paused(server) == 1')
        assert await asyncio.wait_for(reader.readexactly(len(everything)), 30) == everything
        await eventually(lambda: internals.n_paused(server) == 0, 'internals.n_paused(server) == 0')
    assert server.rejected == {}


@pytest.mark.parametrize('scheme', ['tcp', 'wss'])
async def test_busy_connections_are_read_in_turn(lab, papers, scheme):
    extra, theirs = ({'ssl': papers.servers['good']}, {'ssl': papers.client}) if scheme == 'wss' else ({}, {})
    server = await lab.server(scheme, **extra)
    heard = listening(server)
    clients = [await lab.client(server, f'c{i}', **theirs) for i in range(6)]
    rested = []
    limiter, throttle = internals.limiter(server), internals.limiter(server).throttle

    def watched(connection):
        throttle(connection)
        rested.append(internals.n_throttled(server))

    limiter.throttle = watched
    texts = [chr(97 + i) * (3 * MIB) for i in range(6)]
    await asyncio.gather(
        *(client.confirmed_send([64, 20, text], timeout=60) for client, text in zip(clients, texts, strict=True))
    )
    assert sorted(data for _, data in heard) == texts
    assert len(rested) >= 18 * MIB // (2 * 256 * 1024) - 6
    assert max(rested) <= 6
    await asyncio.gather(*(client.init() for client in clients))
    assert internals.n_throttled(server) == 0


async def test_ends_inside_messages_are_not_all_logged(lab, caplog):
    server = await lab.server('tcp')

    def logged():
        return len([record for record in caplog.records if 'ended inside a message' in record.getMessage()])

    for n in range(1, 20):
        async with connections(server, 1) as [(reader, writer)]:
            writer.write(b'[64, ')
            writer.write_eof()
            assert await is_cut(reader)
        await eventually(lambda n=n: logged() + internals.log_limit(server).suppressed == n, f'{n} ends are counted')
    assert logged() == Tuning().log_burst


@pytest.mark.blocks
async def test_memory(lab):
    """64 connections that send as many bytes of incomplete messages as are accepted: up to 64 times 64 MiB."""
    server = await lab.server('tcp', host='0.0.0.0', tuning=Tuning(max_receive_buffer=16 * MIB))
    good = await lab.client(f'tcp://127.0.0.1:{server.port}')
    await good.init()
    tracemalloc.start()
    try:
        async with attackers('unfinished', server, 64):
            await talk(good, 0, 50)
            await eventually(
                lambda: server.rejected.get('127.0.0.66') and server.rejected['127.0.0.66'].cut >= 20,
                '20 are cut',
            )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A growing buffer is up to an eighth larger than what is in it, and is copied when it grows.
    assert peak < 3 * 16 * MIB


async def test_the_client_of_a_flooding_server(lab):
    """A client has one connection, and the same limits."""
    writers = []

    def flood(reader, writer):
        writers.append(writer)  # an unreferenced one is closed, since Python 3.13
        writer.write(b'["' + b'x' * (2 * MIB))

    raw = await asyncio.start_server(flood, '127.0.0.1', 0)
    uri = f'tcp://127.0.0.1:{raw.sockets[0].getsockname()[1]}'
    client = await lab.client(uri, tuning=Tuning(max_receive_buffer=MIB), reconnect=False)
    with pytest.raises(ConnectionClosedError, match=r'Tuning\.max_receive_buffer'):
        await client.confirmed_send([1, None], timeout=10)
    for writer in writers:
        writer.transport.abort()
    raw.close()
    await raw.wait_closed()


# --- messages that wait for the program ---


async def test_the_backlog_is_bounded_in_bytes(lab, transport):
    """Two messages of 40 kB fill a backlog of 60 kB; the third is confirmed later, and none is lost."""
    server = await lab.server(transport, tuning=InternalTuning(max_backlog_bytes=60_000))
    client = await lab.client(server)
    client.default_echo_timeout = 30.0
    texts = [chr(97 + i) * 40_000 for i in range(6)]
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(server.on_event('EXPINFO'), 0.01)  # enables the backlog
    sends = [asyncio.ensure_future(client.confirmed_send([64, 20, text])) for text in texts]
    await asyncio.wait(sends[:2])
    backlog = internals.backlog(server)
    await eventually(lambda: backlog.refused >= (1 if transport == 'udp' else 4), 'the others are refused')
    assert (len(backlog), sum(send.done() for send in sends)) == (2, 2)
    assert 80_000 < backlog.n_bytes < 80_400
    assert internals.flow_control(server).n_bytes < 100_100
    await (await lab.client(server)).status(20)  # other events are not affected
    heard = [(await server.on_event('EXPINFO'))[0][1] for _ in texts[:4]]
    if transport == 'udp':  # repeated by the sender; over TCP no more than 60 kB and one message were held back
        heard += [(await server.on_event('EXPINFO'))[0][1] for _ in texts[4:]]
        await asyncio.gather(*sends)
    else:
        await asyncio.gather(*sends[:4])
    assert heard == texts[: len(heard)]
    assert (len(backlog), backlog.n_bytes, internals.flow_control(server).n_bytes) == (0, 0, 0)
    for send in sends:
        send.cancel()
    await asyncio.gather(*sends, return_exceptions=True)


async def test_streams_are_bounded_in_bytes(lab, caplog):
    server = await lab.server('tcp', tuning=InternalTuning(max_backlog_bytes=100_000))
    client = await lab.client(server)
    async with server.events() as stream:
        for text in ('a', 'b', 'c', 'd', 'e'):
            await client.confirmed_send([64, 20, text * 30_000])
        assert (len(stream), stream.dropped) == (3, 2)
        await client.confirmed_send([64, 20, 'f' * 300_000])  # the newest is kept in any case
        assert (len(stream), stream.dropped) == (1, 5)
        data, _, _ = await stream.__anext__()
        assert data[1] == 'f' * 300_000
        assert internals.n_held(stream) == 0
    assert 'More than 100000 bytes wait to be read' in caplog.text


async def test_infinite_time_limits(lab):
    endless = float('inf')
    tuning = InternalTuning(message_timeout=endless, idle_timeout=endless, handshake_timeout=endless)
    server, client = await lab.pair('tcp', tuning=tuning)
    await client.init()
    assert internals.n_connections(server) == 1
