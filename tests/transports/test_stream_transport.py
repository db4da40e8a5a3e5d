"""The compiled stream transport implements the contract of asyncio, and is the default.

Each test of the contract also runs with the transport of the loop: it expects no more than asyncio promises.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import internals
from echorig import EchoProtocol
from echorig.wire._framing import FrameSplitter
from eventually import eventually
from lab import REF

try:
    from echorig.transports._stream import StreamTransport
except ImportError:
    pytest.skip('here the loop has a transport of its own', allow_module_level=True)
from echorig.transports.stream_server import StreamServer

pytestmark = pytest.mark.blocks  # sockets of the tests are connected while the loop waits

HOSTS = {socket.AF_INET: '127.0.0.1', socket.AF_INET6: '::1'}
PIECE = b'x' * 100_000


class Recorder(asyncio.Protocol):
    """Records all calls in order."""

    def __init__(self, stays_open: bool = False) -> None:
        self.transport: Any = None
        self.calls: list[str] = []
        self.data = bytearray()
        self.stays_open = stays_open
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.calls.append('made')

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.calls.append('eof')
        return self.stays_open

    def pause_writing(self) -> None:
        self.calls.append('pause')

    def resume_writing(self) -> None:
        self.calls.append('resume')

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append('lost')
        self.lost.set_result(exc)


def connected(family: int = socket.AF_INET, small: bool = False) -> tuple[socket.socket, socket.socket]:
    """Return the two non-blocking ends of a TCP connection; small ones have room for few bytes."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        if small:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind((HOSTS[family], 0))
        listener.listen()
        near = socket.socket(family, socket.SOCK_STREAM)
        if small:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


@pytest.fixture(params=['compiled', 'loop'])
def attach(request):
    """Return a function that makes the transport of a socket."""

    async def attach(sock: socket.socket, protocol: Any) -> Any:
        if request.param == 'compiled':
            return StreamTransport(asyncio.get_running_loop(), sock, protocol)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
        return transport

    return attach


@pytest.fixture
def ends():
    """Return a function that makes connections, whose far ends are closed after the test."""
    made: list[socket.socket] = []

    def make(family: int = socket.AF_INET, small: bool = False) -> tuple[socket.socket, socket.socket]:
        near, far = connected(family, small)
        made.append(far)
        return near, far

    yield make
    for far in made:
        far.close()


async def received(sock: socket.socket, n: int) -> bytes:
    """Read n bytes, or until the end of the stream."""
    data = bytearray()
    while len(data) < n:
        piece = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1_000_000), 30)
        if not piece:
            break
        data += piece
    return bytes(data)


async def lost(protocol: Recorder) -> Exception | None:
    return await asyncio.wait_for(asyncio.shield(protocol.lost), 30)


# --- the contract ---


@pytest.mark.parametrize('family', HOSTS)
async def test_data_goes_both_ways(attach, ends, family):
    near, far = ends(family)
    protocol = Recorder()
    transport = await attach(near, protocol)
    transport.write(b'one')
    transport.write(bytearray(b'two'))
    transport.writelines([b'three', memoryview(b'four')])
    transport.write(b'')
    assert await received(far, 15) == b'onetwothreefour'
    far.send(b'answer')
    await eventually(lambda: protocol.data == b'answer', 'the answer is received')
    assert transport.get_extra_info('peername') == far.getsockname()
    assert transport.get_extra_info('sockname') == far.getpeername()
    assert transport.get_extra_info('socket').fileno() == near.fileno()
    assert transport.get_extra_info('cipher', 'none') == 'none'
    assert transport.get_protocol() is protocol
    transport.close()
    transport.close()
    assert transport.is_closing()
    assert await lost(protocol) is None
    assert protocol.calls == ['made', 'lost']


async def test_messages_leave_at_once(ends):
    near, _ = ends()
    transport = StreamTransport(asyncio.get_running_loop(), near, Recorder())
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    transport.abort()
    await asyncio.sleep(0)


async def test_a_slow_reader_gets_every_byte(attach, ends):
    near, far = ends(small=True)
    protocol = Recorder()
    transport = await attach(near, protocol)
    sent = bytearray()
    for i in range(800):
        piece = bytes([i % 251]) * 10_007
        transport.write(piece)
        sent += piece
    assert transport.get_write_buffer_size() > 0
    transport.close()
    assert protocol.calls[-1] == 'pause'
    assert await received(far, len(sent)) == sent
    assert await lost(protocol) is None
    assert protocol.calls == ['made', 'pause', 'resume', 'lost']
    assert transport.get_write_buffer_size() == 0


async def test_small_pieces_that_wait_keep_their_order(attach, ends):
    near, far = ends(small=True)
    transport = await attach(near, Recorder())
    sent = bytearray()
    for i in range(5000):  # more take some loops a minute
        piece = b'%d,' % i
        transport.write(piece)
        sent += piece
    assert await received(far, len(sent)) == sent
    transport.abort()
    await asyncio.sleep(0)


async def test_limits_of_the_write_buffer(attach, ends):
    near, far = ends(small=True)
    protocol = Recorder()
    transport = await attach(near, protocol)
    for limits in ({'high': 1, 'low': 2}, {'low': -1}):
        with pytest.raises(ValueError, match=r'high|low'):
            transport.set_write_buffer_limits(**limits)
    transport.set_write_buffer_limits(high=100)
    assert transport.get_write_buffer_limits() == (25, 100)
    while 'pause' not in protocol.calls:
        transport.write(PIECE)
        await asyncio.sleep(0)
    size = transport.get_write_buffer_size()
    assert size > 100
    reading = asyncio.ensure_future(received(far, 2**62))
    await eventually(lambda: protocol.calls[-1] == 'resume', 'the protocol is resumed')
    transport.set_write_buffer_limits()
    assert transport.get_write_buffer_limits() == (16384, 65536)
    transport.close()
    await reading


async def test_half_close_by_this_side(attach, ends):
    near, far = ends()
    protocol = Recorder()
    transport = await attach(near, protocol)
    assert transport.can_write_eof()
    transport.write(b'last')
    transport.write_eof()
    transport.write_eof()
    with pytest.raises(RuntimeError):
        transport.write(b'more')
    assert await received(far, 100) == b'last'
    far.send(b'answer')
    await eventually(lambda: protocol.data == b'answer', 'the answer is received')
    far.close()
    assert await lost(protocol) is None
    assert protocol.calls == ['made', 'eof', 'lost']


async def test_half_close_waits_for_the_unsent_bytes(attach, ends):
    near, far = ends(small=True)
    transport = await attach(near, Recorder())
    for _ in range(10):
        transport.write(PIECE)
    transport.write_eof()
    assert len(await received(far, 2**62)) == 10 * len(PIECE)
    transport.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize('stays_open', [False, True])
async def test_half_close_by_the_peer(attach, ends, stays_open):
    near, far = ends()
    protocol = Recorder(stays_open)
    transport = await attach(near, protocol)
    far.send(b'question')
    far.shutdown(socket.SHUT_WR)
    await eventually(lambda: 'eof' in protocol.calls, 'the end is received')
    assert protocol.data == b'question'
    if stays_open:
        transport.write(b'answer')
        assert await received(far, 6) == b'answer'
        transport.close()
    assert await lost(protocol) is None
    assert protocol.calls == ['made', 'eof', 'lost']


async def test_abort_drops_what_is_unsent(attach, ends):
    near, far = ends(small=True)
    protocol = Recorder()
    transport = await attach(near, protocol)
    for _ in range(100):
        transport.write(PIECE)
    transport.abort()
    transport.abort()
    transport.close()
    assert protocol.calls[-1] != 'lost', 'never within the call'
    assert await lost(protocol) is None
    assert transport.get_write_buffer_size() == 0
    assert len(await received(far, 2**62)) < 100 * len(PIECE)


async def test_a_reset_by_the_peer_is_the_reason_of_the_loss(attach, ends):
    near, far = ends()
    protocol = Recorder()
    await attach(near, protocol)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    far.close()
    assert isinstance(await lost(protocol), ConnectionResetError)
    assert protocol.calls == ['made', 'lost']


async def test_writing_to_a_peer_that_is_gone(attach, ends):
    near, far = ends()
    protocol = Recorder()
    transport = await attach(near, protocol)
    transport.pause_reading()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    far.close()

    def write() -> bool:
        if not protocol.lost.done():
            transport.write(b'x')
        return protocol.lost.done()

    await eventually(write, 'the connection is lost')
    assert isinstance(protocol.lost.result(), ConnectionResetError | BrokenPipeError)


async def test_paused_reading(attach, ends):
    near, far = ends()
    protocol = Recorder()
    transport = await attach(near, protocol)
    assert transport.is_reading()
    transport.pause_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    far.send(b'data')
    await asyncio.sleep(0.05)
    assert protocol.data == b''
    transport.resume_reading()
    transport.resume_reading()
    await eventually(lambda: protocol.data == b'data', 'the data is received')
    transport.close()
    transport.resume_reading()
    assert not transport.is_reading()
    await lost(protocol)


async def test_pausing_and_closing_while_data_is_received(attach, ends):
    near, far = ends()

    class Stopping(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.data == b'a':
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)
            else:
                self.transport.write(b'bye')
                self.transport.close()

    protocol = Stopping()
    await attach(near, protocol)
    far.send(b'a')
    await eventually(lambda: protocol.data == b'a', 'the first byte')
    far.send(b'b')
    assert await received(far, 100) == b'bye'
    assert await lost(protocol) is None
    assert protocol.data == b'ab'


async def test_another_protocol(attach, ends):
    near, far = ends()
    first, second = Recorder(), Recorder()
    transport = await attach(near, first)
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    far.send(b'data')
    await eventually(lambda: second.data == b'data', 'the second one receives')
    transport.close()
    await lost(second)
    assert first.calls == ['made']


@pytest.mark.parametrize('method', ['data_received', 'eof_received'])
async def test_an_exception_of_the_protocol_closes_only_its_connection(attach, ends, method):
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    near, far = ends()
    protocol = Recorder()

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    setattr(protocol, method, fail)
    await attach(near, protocol)
    far.send(b'data')
    far.close()
    await lost(protocol)
    assert isinstance(reports[0]['exception'], ZeroDivisionError)
    loop.set_exception_handler(None)


async def test_arguments_are_checked(attach, ends):
    near, _ = ends()
    protocol = Recorder()
    transport = await attach(near, protocol)
    with pytest.raises(TypeError):
        transport.write('text')
    transport.close()
    await lost(protocol)


# --- the compiled transport ---


async def test_calls_after_the_end_do_nothing(ends):
    near, far = ends()
    protocol = Recorder(stays_open=True)
    transport = StreamTransport(asyncio.get_running_loop(), near, protocol)
    far.shutdown(socket.SHUT_WR)
    await eventually(lambda: 'eof' in protocol.calls, 'the end is received')
    transport.pause_reading()
    transport.resume_reading()  # there is nothing to read any more
    assert not transport.is_reading()
    transport.close()
    transport.write(b'ignored')
    transport.write_eof()
    await lost(protocol)
    transport.write(b'ignored')
    transport.abort()
    transport.set_write_buffer_limits(1)
    assert protocol.calls == ['made', 'eof', 'lost']
    assert await received(far, 1) == b''


async def test_a_number_of_a_closed_socket_may_be_used_again(ends):
    """A transport that is closed must not stop the reading of the next one."""
    loop = asyncio.get_running_loop()
    for _ in range(50):
        near, _far = ends()
        number = near.fileno()
        first, second = Recorder(), Recorder()
        StreamTransport(loop, near, first).abort()
        await lost(first)
        again, other = ends()
        if again.fileno() != number:
            os.dup2(again.fileno(), number)
            again.close()
            again = socket.socket(fileno=number)
            again.setblocking(False)
        transport = StreamTransport(loop, again, second)
        other.send(b'data')
        await eventually(lambda second=second: second.data == b'data', 'the second one receives')
        transport.abort()
        await lost(second)


async def test_one_that_floods_does_not_stop_the_others(ends):
    """At most four pieces of each connection are read in one turn of the loop."""
    loop = asyncio.get_running_loop()
    order: list[int] = []

    class Flooded(Recorder):
        def data_received(self, data: bytes) -> None:
            order.append(0)

    class Other(Recorder):
        def data_received(self, data: bytes) -> None:
            order.append(1)

    near, far = ends()
    flooded = StreamTransport(loop, near, Flooded())
    n = 0
    while n < 2_000_000:
        try:
            n += far.send(PIECE)
        except BlockingIOError:
            break
    near, far = ends()
    other = StreamTransport(loop, near, Other())
    far.send(b'x')
    await eventually(lambda: 1 in order, 'the other one is read')
    assert order.index(1) <= 8  # two turns
    flooded.abort()
    other.abort()
    await asyncio.sleep(0)


async def test_bypass(ends):
    """Pieces go to a function, with what it needs; the protocol gets them again after it was replaced."""
    loop = asyncio.get_running_loop()
    near, far = ends()
    protocol = Recorder()
    transport = StreamTransport(loop, near, protocol)
    calls: list[Any] = []

    def receive(splitter: FrameSplitter, data: bytes, addr: tuple[str, int]) -> bool:
        calls.append((splitter.feed(data), addr))
        return data.endswith(b'2]')

    transport.bypass(receive, FrameSplitter(100), ('a', 1), calls.append)
    far.send(b'[1]')
    await eventually(lambda: len(calls) == 1, 'the first piece')
    far.send(b'[22]')
    await eventually(lambda: len(calls) == 3, 'the second piece and its check')
    assert calls == [([b'[1]'], ('a', 1)), ([b'[22]'], ('a', 1)), 4]
    assert protocol.data == b''
    transport.set_protocol(protocol)
    far.send(b'[3]')
    await eventually(lambda: protocol.data == b'[3]', 'the protocol receives')
    transport.close()
    await lost(protocol)


async def test_an_open_transport_that_is_dropped_warns_and_closes(ends):
    near, far = ends()
    transport = StreamTransport(asyncio.get_running_loop(), near, Recorder())
    transport.pause_reading()
    transport.set_protocol(None)
    reference = [transport]
    del transport
    with pytest.warns(ResourceWarning, match='unclosed transport <StreamTransport open'):
        reference.clear()
    assert await received(far, 1) == b''


def test_a_transport_whose_loop_was_closed_is_closed(ends):
    loop = asyncio.new_event_loop()
    near, far = ends()

    async def make() -> StreamTransport:
        return StreamTransport(loop, near, Recorder())

    transport = loop.run_until_complete(make())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        transport.abort()
        assert repr(transport).startswith('<StreamTransport closed')
    far.setblocking(True)
    assert far.recv(10) == b''


async def test_a_protocol_that_refuses_leaves_the_socket_to_the_caller(ends):
    class Refusing(Recorder):
        def connection_made(self, transport: Any) -> None:
            for _ in range(100):
                transport.write(PIECE)
            raise ZeroDivisionError

    near, far = ends()
    with pytest.raises(ZeroDivisionError):
        StreamTransport(asyncio.get_running_loop(), near, Refusing())
    assert (await received(far, 10))[:1] == b'x'
    near.shutdown(socket.SHUT_WR)  # still open
    assert not asyncio.get_running_loop().remove_reader(near)
    assert not asyncio.get_running_loop().remove_writer(near)
    near.close()


async def test_a_protocol_that_cancels_or_is_replaced_while_it_receives(ends):
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    class Cancelling(Recorder):
        def data_received(self, data: bytes) -> None:
            raise asyncio.CancelledError

    near, far = ends()
    protocol = Cancelling()
    StreamTransport(loop, near, protocol)
    far.send(b'x')
    assert isinstance(await lost(protocol), asyncio.CancelledError)
    assert len(reports) == 1

    near, far = ends()
    protocol = Recorder()
    transport = StreamTransport(loop, near, protocol)
    checked: list[int] = []

    def receive(splitter: FrameSplitter, data: bytes, addr: Any) -> bool:
        transport.set_protocol(protocol)
        return True

    transport.bypass(receive, FrameSplitter(100), ('a', 1), checked.append)
    far.send(b'x')
    await eventually(lambda: checked == [1], 'the check of the piece')
    far.send(b'y')
    await eventually(lambda: protocol.data == b'y', 'the protocol receives')
    transport.close()
    await lost(protocol)
    assert len(reports) == 1
    loop.set_exception_handler(None)


# --- the server ---


async def test_a_server_that_cannot_listen_leaves_no_socket(monkeypatch):
    monkeypatch.delenv('ECHORIG_TRANSPORTS', raising=False)
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        for _ in range(3):
            with pytest.raises(OSError, match='in use'):
                await EchoProtocol.server(f'tcp://127.0.0.1:{port}')
    with pytest.raises(TypeError):
        await EchoProtocol.server('tcp://127.0.0.1:0', backlog='many')


async def test_the_server():
    loop = asyncio.get_running_loop()
    accepted: list[socket.socket] = []
    sock = socket.create_server(('127.0.0.1', 0))
    sock.setblocking(False)
    address = sock.getsockname()
    server = StreamServer(loop, sock, 5, accepted.append)
    assert server.is_serving()
    assert server.get_loop() is loop
    assert server.sockets[0].getsockname() == address
    await server.start_serving()
    clients = [socket.create_connection(address) for _ in range(3)]
    await eventually(lambda: len(accepted) == 3, 'all are accepted')
    assert not any(one.getblocking() for one in accepted)
    waiting = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    server.close()
    server.close()
    await server.wait_closed()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RuntimeError, match='is closed'):
        await server.serve_forever()
    assert not server.is_serving()
    assert server.sockets == ()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    for one in (*accepted, *clients):
        one.close()


async def test_serve_forever_closes_when_it_is_cancelled():
    sock = socket.create_server(('127.0.0.1', 0))
    sock.setblocking(False)
    server = StreamServer(asyncio.get_running_loop(), sock, 5, lambda sock: None)
    serving = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()
    await server.wait_closed()


async def test_no_room_for_another_connection():
    """The server pauses, and accepts the connection that waits when there is room again."""
    loop = asyncio.get_running_loop()
    accepted: list[socket.socket] = []
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    sock = socket.create_server(('127.0.0.1', 0))
    sock.setblocking(False)
    address = sock.getsockname()

    class Full:
        """The listening socket while the program has too many open files."""

        is_full = True

        def __getattr__(self, name: str) -> Any:
            return getattr(sock, name)

        def accept(self) -> Any:
            if self.is_full:
                raise OSError(errno.EMFILE, 'Too many open files')
            return sock.accept()

    full = Full()
    server = StreamServer(loop, full, 5, accepted.append)  # type: ignore[arg-type]
    with socket.create_connection(address):
        await eventually(lambda: reports, 'it is reported')
        full.is_full = False
        await eventually(lambda: accepted, 'it is accepted')
    assert len(reports) == 1
    assert reports[0]['exception'].errno == errno.EMFILE
    server.close()
    await server.wait_closed()
    accepted[0].close()
    loop.set_exception_handler(None)


async def test_a_connection_that_cannot_be_used_is_closed():
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    sock = socket.create_server(('127.0.0.1', 0))
    sock.setblocking(False)

    def refuse(sock: socket.socket) -> None:
        raise ZeroDivisionError

    server = StreamServer(loop, sock, 5, refuse)
    client = socket.create_connection(sock.getsockname())
    client.setblocking(False)
    assert await received(client, 1) == b''
    assert isinstance(reports[0]['exception'], ZeroDivisionError)
    client.close()
    server.close()
    await server.wait_closed()
    loop.set_exception_handler(None)


# --- communicators ---


async def test_options_of_sockets(lab):
    server = await EchoProtocol.server('tcp://127.0.0.1:0', backlog=0)
    async with server, await EchoProtocol.client(server.server_uri, local_addr=('localhost', 0)) as client:
        await client.start(REF)


async def test_it_is_the_default(lab, monkeypatch):
    monkeypatch.delenv('ECHORIG_TRANSPORTS', raising=False)
    server, client = await lab.pair('tcp')
    assert type(client._transport) is StreamTransport
    assert type(server.Server) is StreamServer
    await client.start(REF)
    assert all(type(one.transport) is StreamTransport for one in internals.connections(server).values())


@pytest.mark.parametrize('how', ['environment', 'options'])
async def test_the_transport_of_the_loop_can_be_chosen(lab, monkeypatch, how):
    monkeypatch.delenv('ECHORIG_TRANSPORTS', raising=False)
    options: dict[str, Any] = {}
    if how == 'environment':
        monkeypatch.setenv('ECHORIG_TRANSPORTS', 'loop')
    else:
        options['family'] = socket.AF_INET
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    async with (
        await EchoProtocol.server(f'tcp://127.0.0.1:{port}', **options) as server,
        await EchoProtocol.client(server.server_uri, **options) as client,
    ):
        assert not isinstance(client._transport, StreamTransport)
        assert not isinstance(server.Server, StreamServer)
        await client.start(REF)


def test_a_loop_without_readers_uses_its_own_transport(monkeypatch):
    """The proactor of Windows has none."""
    monkeypatch.delenv('ECHORIG_TRANSPORTS', raising=False)

    class NoReaders(asyncio.SelectorEventLoop):
        def add_reader(self, *args: Any) -> None:
            raise NotImplementedError

    async def main() -> None:
        async with (
            await EchoProtocol.server('tcp://127.0.0.1:0') as server,
            await EchoProtocol.client(server.server_uri) as client,
        ):
            assert not isinstance(client._transport, StreamTransport)
            assert not isinstance(server.Server, StreamServer)
            await client.start(REF)

    loop = NoReaders()
    loop.run_until_complete(main())
    loop.close()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(max_size=300), min_size=1, max_size=20), st.lists(st.integers(1, 200), max_size=30))
def test_messages_arrive_whole_however_the_stream_is_cut(texts, cuts):
    """A server receives from a plain socket, which sends in pieces of any size."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        received: list[Any] = []
        async with await EchoProtocol.server('tcp://127.0.0.1:0') as server:
            server.assign_callback('EXPINFO', lambda data, addr: received.append(data[1]))
            stream = b''.join(server.encode([64, 20, text]) for text in texts)
            with socket.create_connection(('127.0.0.1', server.port)) as sock:
                sock.setblocking(False)
                for cut in cuts:
                    await loop.sock_sendall(sock, stream[:cut])
                    stream = stream[cut:]
                    await asyncio.sleep(0)
                await loop.sock_sendall(sock, stream)
                await eventually(lambda: len(received) == len(texts), 'all messages are delivered')
        assert received == texts

    asyncio.run(main())


async def test_a_reset_while_bytes_wait_and_nothing_is_read(attach, ends):
    near, far = ends(small=True)
    protocol = Recorder()
    transport = await attach(near, protocol)
    transport.pause_reading()
    while 'pause' not in protocol.calls:
        transport.write(PIECE)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    far.close()
    assert isinstance(await lost(protocol), ConnectionResetError | BrokenPipeError)
    assert transport.get_write_buffer_size() == 0


async def test_a_reset_while_reading_and_bytes_wait(attach, ends):
    near, far = ends(small=True)
    protocol = Recorder()
    transport = await attach(near, protocol)
    while 'pause' not in protocol.calls:
        transport.write(PIECE)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    far.close()
    assert isinstance(await lost(protocol), ConnectionResetError | BrokenPipeError)
    assert protocol.calls.count('lost') == 1


async def test_a_reset_while_reading_is_paused_is_noticed_later(attach, ends):
    near, far = ends()
    protocol = Recorder()
    transport = await attach(near, protocol)
    transport.pause_reading()
    await asyncio.sleep(0.01)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    far.close()
    await asyncio.sleep(0.05)
    transport.resume_reading()
    assert isinstance(await lost(protocol), ConnectionResetError)
