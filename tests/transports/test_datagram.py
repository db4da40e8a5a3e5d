"""The compiled datagram transport implements the contract of asyncio, and is the default."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import sys
import time
import warnings
from typing import Any

import pytest

from echorig import EchoProtocol
from lab import REF

try:
    from echorig.transports._datagram import DatagramTransport
except ImportError:
    pytest.skip('here the loop has a transport of its own', allow_module_level=True)

HOSTS = {socket.AF_INET: '127.0.0.1', socket.AF_INET6: '::1'}


class Recorder(asyncio.DatagramProtocol):
    """Records all calls in order."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.got: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.flow: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.event = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append((data, addr))
        self.event.set()

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.flow.append('pause')

    def resume_writing(self) -> None:
        self.flow.append('resume')
        self.event.set()

    async def until(self, condition: Any) -> None:
        async def wait() -> None:
            while not condition():
                self.event.clear()
                await self.event.wait()

        await asyncio.wait_for(wait(), 10)


def bound(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((HOSTS[family], 0))
    return sock


def connected(to: Any, family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect(to)
    return sock


def opened(sock: socket.socket) -> Recorder:
    protocol = Recorder()
    DatagramTransport(asyncio.get_running_loop(), sock, protocol)
    return protocol


async def ended(*protocols: Recorder) -> None:
    for protocol in protocols:
        protocol.transport.abort()
    for protocol in protocols:
        await asyncio.wait_for(protocol.lost, 10)


@pytest.mark.parametrize('family', HOSTS)
async def test_there_and_back(family):
    server = opened(bound(family))
    sockname = server.transport.get_extra_info('sockname')
    client = opened(connected(sockname, family))
    for data in (b'one', bytearray(b'two'), memoryview(b'three'), b'x' * 60_000):
        client.transport.sendto(data)
        await server.until(lambda: server.got)
        got, addr = server.got.pop()
        assert (got, type(got), addr) == (bytes(data), bytes, client.transport.get_extra_info('sockname'))
        server.transport.sendto(got, addr)
        await client.until(lambda: client.got)
        assert client.got.pop() == (got, sockname)
    await ended(server, client)


async def test_addresses_are_cached_and_any_numeric_form_is_accepted():
    """Many senders are answered out of order; each receives its own answer."""
    server = opened(bound())
    address = server.transport.get_extra_info('sockname')
    socks = [connected(address) for _ in range(200)]
    for round_ in range(2):
        for i, sock in enumerate(socks):
            sock.send(b'%d %d' % (round_, i))
        await server.until(lambda: len(server.got) == len(socks))
        for data, addr in reversed(server.got):
            server.transport.sendto(data, tuple(list(addr)))  # noqa: C414  an equal address, another object
        server.got.clear()
        for i, sock in enumerate(socks):
            assert sock.recv(100) == b'%d %d' % (round_, i)
    for sock in socks:
        sock.close()
    await ended(server)


async def test_ipv6_with_a_scope():
    server = opened(bound(socket.AF_INET6))
    other = opened(bound(socket.AF_INET6))
    port = other.transport.get_extra_info('sockname')[1]
    for addr in (('::1', port), ('::1', port, 0, 0), ('0:0:0:0:0:0:0:1', port)):
        server.transport.sendto(b'hello', addr)
        await other.until(lambda: other.got)
        assert other.got.pop()[1] == server.transport.get_extra_info('sockname')
    await ended(server, other)


async def test_bad_arguments():
    server = opened(bound())
    client = opened(connected(server.transport.get_extra_info('sockname')))
    with pytest.raises(TypeError, match='not str'):
        client.transport.sendto('text')
    with pytest.raises(ValueError, match='connected to'):
        client.transport.sendto(b'x', ('127.0.0.1', 1))
    with pytest.raises(ValueError, match='address is needed'):
        server.transport.sendto(b'x')
    with pytest.raises(ValueError, match='no numeric address'):
        server.transport.sendto(b'x', ('localhost', 9))
    with pytest.raises(ValueError, match='no numeric address'):
        server.transport.sendto(b'x', ('::1', 9))
    for bad in (('127.0.0.1', 70_000), ('127.0.0.1', '9'), ('127.0.0.1',), ['127.0.0.1', 9], (None, 9)):
        with pytest.raises(ValueError, match='numeric'):
            server.transport.sendto(b'x', bad)
    with pytest.raises(ValueError, match='high >= low'):
        server.transport.set_write_buffer_limits(high=1, low=2)
    client.transport.sendto(b'')  # nothing is sent
    client.transport.sendto(b'x', server.transport.get_extra_info('sockname'))
    await server.until(lambda: server.got)
    assert [data for data, _ in server.got] == [b'x']
    await ended(server, client)


async def test_each_refusal_is_reported_and_closes_nothing():
    """Some loops do not watch a socket any more after an error; the transport registers it again."""
    sock = bound()
    address = sock.getsockname()
    sock.close()
    client = opened(connected(address))
    for i in range(1, 4):
        client.transport.sendto(b'anybody?')
        await client.until(lambda i=i: len(client.errors) == i)
    assert all(isinstance(error, ConnectionRefusedError) for error in client.errors)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(address)
    late = opened(sock)
    client.transport.sendto(b'now?')
    await late.until(lambda: late.got)
    late.transport.sendto(b'yes', late.got[0][1])
    await client.until(lambda: client.got)
    assert client.got == [(b'yes', address)]
    await ended(client, late)


async def test_a_datagram_that_is_too_long_is_a_system_error():
    server = opened(bound())
    client = opened(connected(server.transport.get_extra_info('sockname')))
    client.transport.sendto(b'x' * 65_508)
    assert [error.errno for error in client.errors] == [errno.EMSGSIZE]
    client.transport.sendto(b'short')
    await server.until(lambda: server.got)
    await ended(server, client)


def clogged() -> tuple[socket.socket, socket.socket]:
    """Return a pair whose receiver does not read; UDP over loopback would drop and never block."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in pair:
        sock.setblocking(False)
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return pair


def drained(receiver: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(receiver.recv(65536))
        except BlockingIOError:
            return found


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere the error is another one')
async def test_datagrams_wait_until_the_system_accepts_them():
    sender, receiver = clogged()
    client = opened(sender)
    client.transport.set_write_buffer_limits(high=3000)
    sent = [b'%03d' % i + b'.' * 997 for i in range(50)]
    for data in sent:
        client.transport.sendto(data)
    assert client.transport.get_write_buffer_limits() == (750, 3000)
    assert client.transport.get_write_buffer_size() > 3000
    assert client.flow == ['pause']
    got = []
    for _ in range(1000):
        got += drained(receiver)
        if len(got) == len(sent):
            break
        await asyncio.sleep(0.001)
    assert got == sent
    await client.until(lambda: client.flow == ['pause', 'resume'])
    assert client.transport.get_write_buffer_size() == 0
    receiver.close()
    await ended(client)


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere the error is another one')
@pytest.mark.parametrize('how', ['close', 'abort'])
async def test_close_sends_unsent_datagrams_and_abort_drops_them(how):
    sender, receiver = clogged()
    client = opened(sender)
    for i in range(50):
        client.transport.sendto(b'%03d' % i + b'.' * 997)
    getattr(client.transport, how)()
    assert client.transport.is_closing()
    client.transport.sendto(b'too late')
    got = []
    for _ in range(1000):
        got += drained(receiver)
        if client.lost.done():
            break
        await asyncio.sleep(0.001)
    assert await asyncio.wait_for(client.lost, 10) is None
    got += drained(receiver)
    assert [data[:3] for data in got][:3] == [b'000', b'001', b'002']
    assert len(got) == 50 if how == 'close' else len(got) < 50
    client.transport.close()
    client.transport.abort()
    receiver.close()


async def test_reading_pauses():
    server = opened(bound())
    client = opened(connected(server.transport.get_extra_info('sockname')))
    server.transport.pause_reading()
    server.transport.pause_reading()
    assert not server.transport.is_reading()
    client.transport.sendto(b'wait')
    for _ in range(20):
        await asyncio.sleep(0)
    assert not server.got
    server.transport.resume_reading()
    server.transport.resume_reading()
    await server.until(lambda: server.got)
    await ended(server, client)


async def test_many_datagrams_are_read_in_batches_in_order_and_fairly():
    server = opened(bound())
    sock = connected(server.transport.get_extra_info('sockname'))
    in_a_turn = []

    def turn(seen: int = 0) -> None:
        in_a_turn.append(len(server.got) - seen)
        if len(server.got) < 1000:
            loop.call_soon(turn, len(server.got))

    loop = asyncio.get_running_loop()
    loop.call_soon(turn)
    for start in range(0, 1000, 100):
        for i in range(start, start + 100):
            sock.send(b'%d' % i)
        await server.until(lambda start=start: len(server.got) == start + 100)
    assert [int(data) for data, _ in server.got] == list(range(1000))
    assert 1 < max(in_a_turn) <= 64
    assert len({id(addr) for _, addr in server.got}) == 1
    sock.close()
    await ended(server)


async def test_closing_stops_a_batch():
    server = opened(bound())
    sock = connected(server.transport.get_extra_info('sockname'))
    for batch in range(2):  # the first makes the transport read batches
        for _ in range(60):
            sock.send(b'.')
        if batch:
            server.datagram_received = lambda data, addr: (server.got.append(data), server.transport.close())
            server.got.clear()
            await asyncio.wait_for(server.lost, 10)
        else:
            await server.until(lambda: len(server.got) == 60)
    assert len(server.got) == 1
    sock.close()


async def test_pausing_within_a_batch_keeps_the_rest():
    server = opened(bound())
    sock = connected(server.transport.get_extra_info('sockname'))
    for _ in range(60):
        sock.send(b'.')
    await server.until(lambda: len(server.got) == 60)
    server.got.clear()
    heard = Recorder.datagram_received

    def pausing(data: bytes, addr: Any) -> None:
        heard(server, data, addr)
        server.transport.pause_reading()

    server.datagram_received = pausing
    for i in range(12):
        sock.send(b'%d' % i)
    for n in range(1, 13):
        await server.until(lambda n=n: len(server.got) >= n)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(server.got) == n
        server.transport.resume_reading()
    assert [int(data) for data, _ in server.got] == list(range(12))
    sock.close()
    await ended(server)


async def test_a_refusal_of_an_earlier_datagram_does_not_affect_this_one():
    sock = bound()
    address = sock.getsockname()
    sock.close()
    client = opened(connected(address))
    client.transport.sendto(b'to nobody')
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(address)
    late = opened(sock)
    client.transport.sendto(b'to somebody')  # the system reports the first one here
    await late.until(lambda: late.got)
    assert [data for data, _ in late.got] == [b'to somebody']
    assert [type(error) for error in client.errors] == [ConnectionRefusedError]
    await ended(client, late)


async def test_a_protocol_that_raises_stops_nothing():
    loop = asyncio.get_running_loop()
    escaped: list[Any] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    server = opened(bound())
    sock = connected(server.transport.get_extra_info('sockname'))
    heard = Recorder.datagram_received

    def failing(data: bytes, addr: Any) -> None:
        heard(server, data, addr)
        raise ValueError(data)

    server.datagram_received = failing
    for i in range(70):
        sock.send(b'%d' % i)
    await server.until(lambda: len(server.got) == 70)
    await asyncio.sleep(0)
    loop.set_exception_handler(before)
    assert [context['exception'].args[0] for context in escaped] == [data for data, _ in server.got]
    assert escaped[0]['transport'] is server.transport
    sock.close()
    await ended(server)


async def test_the_rest_of_the_contract():
    sock = bound()
    server = opened(sock)
    info = server.transport.get_extra_info
    assert info('socket').fileno() == sock.fileno()
    assert info('sockname') == sock.getsockname()
    assert info('peername') is None
    assert info('nothing', 5) == 5
    assert server.transport.get_protocol() is server
    other = Recorder()
    server.transport.set_protocol(other)
    with connected(info('sockname')) as client:
        client.send(b'x')
        await other.until(lambda: other.got)
    assert 'open' in repr(server.transport)
    server.transport.close()
    assert 'closing' in repr(server.transport)
    await asyncio.wait_for(other.lost, 10)
    assert 'closed' in repr(server.transport)
    assert sock.fileno() == -1


async def test_a_protocol_that_refuses_the_connection_keeps_the_socket():
    class Refusing(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            raise RuntimeError('not this one')

    with bound() as sock, pytest.raises(RuntimeError, match='not this one'):
        DatagramTransport(asyncio.get_running_loop(), sock, Refusing())


async def test_an_unclosed_transport_warns():
    server = opened(bound())
    server.transport.pause_reading()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        del server.transport
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert 'unclosed transport' in str(caught[0].message)


# --- how long a datagram lay in the socket ---

knows_when = pytest.mark.skipif(sys.platform not in ('linux', 'darwin'), reason='the system has no timestamps')


def noting_waits(server: Recorder) -> list[float]:
    """Record how long each datagram lay in the socket."""
    waits: list[float] = []
    heard = Recorder.datagram_received

    def noting(data: bytes, addr: Any) -> None:
        waits.append(server.transport.waited)
        heard(server, data, addr)

    server.datagram_received = noting
    return waits


async def stamped(server: Recorder, sock: socket.socket, waits: list[float]) -> None:
    """Wait until datagrams have timestamps, which Linux starts only after a moment."""
    for _ in range(30):
        n = len(waits)
        sock.send(b'x')
        time.sleep(0.3)
        await server.until(lambda n=n: len(waits) > n)
        if waits[-1] >= 0.25:
            return
    pytest.fail(f'no datagram is known to have waited: {waits}')


@knows_when
@pytest.mark.blocks
async def test_the_time_in_the_socket_is_measured():
    server = opened(bound())
    waits = noting_waits(server)
    sock = connected(server.transport.get_extra_info('sockname'))
    assert server.transport.waited == -1.0
    sock.send(b'x')
    await server.until(lambda: waits)
    assert 0 <= waits[0] < 60
    await stamped(server, sock, waits)
    assert 0.25 <= waits[-1] < 60
    assert server.transport.waited == -1.0  # no datagram is being delivered
    sock.close()
    await ended(server)


@knows_when
@pytest.mark.blocks
async def test_datagrams_of_batches_and_held_ones_keep_their_timestamps():
    server = opened(bound())
    waits = noting_waits(server)
    sock = connected(server.transport.get_extra_info('sockname'))
    await stamped(server, sock, waits)
    for batch in range(2):  # the first makes the transport read batches
        waits.clear()
        for _ in range(60):
            sock.send(b'x')
        if not batch:
            await server.until(lambda: len(waits) == 60)
    time.sleep(0.3)
    sock.send(b'last')
    noting = server.datagram_received

    def pausing(data: bytes, addr: Any) -> None:
        noting(data, addr)
        if len(waits) == 1:
            server.transport.pause_reading()

    server.datagram_received = pausing
    await server.until(lambda: len(waits) == 1)
    time.sleep(0.5)
    server.transport.resume_reading()
    await server.until(lambda: len(waits) == 61)
    assert 0.25 <= waits[0] < 60
    assert min(waits[1:60]) >= 0.75
    assert max(waits) < 60
    assert waits[60] >= 0.45
    sock.close()
    await ended(server)


# --- its use ---


async def test_it_is_the_default(lab, monkeypatch):
    monkeypatch.delenv('ECHORIG_TRANSPORTS', raising=False)
    for com in await lab.pair('udp'):
        assert type(com._transport) is DatagramTransport


@pytest.mark.parametrize('how', ['environment', 'options'])
async def test_the_transport_of_the_loop_can_be_chosen(lab, monkeypatch, how):
    monkeypatch.delenv('ECHORIG_TRANSPORTS', raising=False)
    kwargs: dict[str, Any] = {}
    if how == 'environment':
        monkeypatch.setenv('ECHORIG_TRANSPORTS', 'loop')
    else:
        kwargs['allow_broadcast'] = True
    with bound() as free:
        port = free.getsockname()[1]
    async with (
        await EchoProtocol.server(f'udp://127.0.0.1:{port}', **kwargs) as server,
        await EchoProtocol.client(server.server_uri, **kwargs) as client,
    ):
        assert not any(isinstance(com._transport, DatagramTransport) for com in (server, client))
        await client.start(REF)


async def test_unknown_values_of_the_environment_are_refused(monkeypatch):
    monkeypatch.setenv('ECHORIG_TRANSPORTS', 'quick')
    with pytest.raises(ValueError, match=r"ECHORIG_TRANSPORTS is 'quick'"):
        await EchoProtocol.server('127.0.0.1:0')


def test_a_loop_without_readers_uses_its_own_transport():
    """The proactor of Windows has none."""

    class NoReaders(asyncio.SelectorEventLoop):
        def add_reader(self, *args: Any) -> None:
            raise NotImplementedError

    async def main() -> None:
        async with (
            await EchoProtocol.server('127.0.0.1:0') as server,
            await EchoProtocol.client(server.server_uri) as client,
        ):
            assert not isinstance(client._transport, DatagramTransport)
            await client.start(REF)

    loop = NoReaders()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


async def test_senders_of_a_batch_are_answered_without_a_look_up(monkeypatch):
    """In a flood no address is looked up twice."""
    sock = bound()
    transport = DatagramTransport(asyncio.get_running_loop(), sock, protocol := Recorder())
    peers = [bound() for _ in range(200)]
    for peer in peers:
        peer.sendto(b'x', sock.getsockname())
    await protocol.until(lambda: len(protocol.got) == len(peers))
    asked = []
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args: asked.append(args))
    for data, addr in protocol.got:
        transport.sendto(data, addr)
    for peer in peers:
        assert peer.recv(10) == b'x'
        peer.close()
    assert not asked
    transport.close()
    await protocol.lost
