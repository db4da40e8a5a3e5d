"""Calls, connections, handshakes and limits while this program stands still for longer than each may take.

The other end is on another thread or in another process, which goes on meanwhile. The loop stands still where it
reads a socket: libuv runs its timers right after that, before it looks at the sockets again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import internals
from echorig import EchoTimeoutError, Services, ServicesTimeoutError, Tuning, sync
from echorig.stall import DelayedCall
from echorig.sync.portal import current_portal
from echorig.testing import FakeRig
from echorig.tuning import InternalTuning
from echorig.wire._tags import set_ack
from eventually import eventually
from lab import REF

trustme = pytest.importorskip('trustme')

SHORT = 0.7  # seconds; what each may take
LONG = 0.9  # seconds that this program stands still

pytestmark = pytest.mark.blocks


class Meanwhile:
    """What the other end does while this program stands still."""

    def __init__(self) -> None:
        self._begun, self._done = threading.Event(), threading.Event()

    def wait(self, result: Any = None) -> Any:
        """Return something once this program stands still; for the other thread."""
        assert self._begun.wait(30)
        self._done.set()
        return result

    async def stand_still(self) -> None:
        """Let this thread stand still until it is too late for everything, and the other end has done its part."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        near, far = socket.socketpair()

        def block() -> None:
            self.block()
            over.set_result(None)

        def block_once() -> None:
            loop.remove_reader(far)
            block()

        with near, far:
            try:
                loop.add_reader(far, block_once)
            except NotImplementedError:  # the proactor of Windows
                loop.call_soon(block)
            near.send(b'x')
            await over

    def block(self) -> None:
        self._begun.set()
        assert self._done.wait(30)
        time.sleep(LONG)


@pytest.fixture
def meanwhile():
    return Meanwhile()


@pytest.fixture
def rig(transport):
    """A rig that goes on while this program stands still."""
    with FakeRig(f'{transport}://127.0.0.1:0') as rig:
        yield rig


# --- sets of rigs ---


@pytest.mark.parametrize('concurrent', [True, False])
async def test_an_answer_that_came_meanwhile(lab, rig, meanwhile, concurrent):
    rig.script(answer=meanwhile.wait)
    client = await lab.client(rig.uri, 'rig')
    client.default_echo_timeout = 30.0
    starting = asyncio.ensure_future(Services([client], timeout=SHORT).start(REF, concurrent=concurrent))
    await eventually(lambda: rig.received, 'rig.received')
    if not concurrent:  # the time begins with the echo
        await eventually(lambda: not client.awaiting_response(), 'not client.awaiting_response()')
        await asyncio.sleep(0.01)
    await meanwhile.stand_still()
    assert await starting == {'rig': [REF, None]}


async def test_an_answer_of_each_of_many_rigs(lab, meanwhile):
    rigs = [FakeRig(name=f'rig{i}') for i in range(8)]
    opened = [rig.__enter__() for rig in rigs]
    try:
        clients = [await lab.client(rig.uri, rig.name) for rig in opened]
        for rig, client in zip(opened, clients, strict=True):
            rig.script(answer_delay=0.1)
            client.default_echo_timeout = 30.0
        opened[-1].script(answer_delay=0.2, answer=meanwhile.wait)
        starting = asyncio.ensure_future(Services(clients, timeout=SHORT).start(REF))
        await eventually(lambda: all(rig.received for rig in rigs), 'all((rig.received for rig in rigs))')
        await meanwhile.stand_still()
        assert await starting == {rig.name: [REF, None] for rig in opened}
    finally:
        for rig in rigs:
            rig.__exit__(None, None, None)


@pytest.mark.slow
async def test_what_does_not_come_is_still_missed(lab, rig, meanwhile):
    rig.script(answer=lambda data: meanwhile.wait())
    client = await lab.client(rig.uri, 'rig')
    starting = asyncio.ensure_future(Services([client], timeout=SHORT).start(REF))
    await eventually(lambda: rig.received and not client.awaiting_response(), 'the rig has it, confirmed')
    await meanwhile.stand_still()
    with pytest.raises(ServicesTimeoutError, match='confirmed, but did not answer EXPSTART'):
        await starting


async def test_an_event_that_came_meanwhile(lab, rig, meanwhile):
    client = await lab.client(rig.uri, 'rig')
    await client.status('RUNNING')
    rigs = Services([client], timeout=SHORT)
    waiting = asyncio.ensure_future(rigs.await_all('EXPEND'))
    await asyncio.sleep(0.01)
    with ThreadPoolExecutor() as pool:
        telling = pool.submit(lambda: rig.send(meanwhile.wait([4, 'done']), timeout=30.0))
        await meanwhile.stand_still()
        assert await waiting == {'rig': ['done']}
        await asyncio.wrap_future(telling)


async def test_a_token_that_came_meanwhile(lab, rig, meanwhile):
    rig.script('ALYX', answer=lambda data: meanwhile.wait(['https://alyx.example', {}]))
    client = await lab.client(rig.uri, 'rig', tuning=Tuning(tags=False))
    client.response_timeout = SHORT
    asking = asyncio.ensure_future(client.alyx())
    await eventually(lambda: rig.received and not client.awaiting_response(), 'the rig has it, confirmed')
    await asyncio.sleep(0.01)
    await meanwhile.stand_still()
    assert await asking == ['https://alyx.example', {}]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, 'SIGSTOP'), reason='processes cannot be stopped')
@pytest.mark.parametrize('kind', ['asyncio', 'uvloop'])
def test_a_main_pc_that_was_stopped(rig, meanwhile, kind):
    """It wakes from its poll empty-handed, long after its time was over."""
    if kind == 'uvloop':
        pytest.importorskip('uvloop')
    program = f"""
import asyncio
from echorig import EchoProtocol, Services
async def main():
    client = await EchoProtocol.client({rig.uri!r}, 'rig')
    client.default_echo_timeout = 30.0
    print('ready', flush=True)
    print(await Services([client], timeout={SHORT}).start('x'), flush=True)
    client.close()
    await client.wait_closed()
asyncio.run(main())
"""
    rig.script(answer=meanwhile.wait)
    process = subprocess.Popen(
        [sys.executable, '-c', program], stdout=subprocess.PIPE, text=True, env={**os.environ, 'ECHORIG_LOOP': kind}
    )
    try:
        assert process.stdout.readline() == 'ready\n'
        deadline = time.monotonic() + 30
        while not rig.received:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        meanwhile.block()
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "{'rig': ['x', None]}\n"
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_background_thread_of_blocking_calls(meanwhile):
    """A callback, or other work of the program, keeps that thread."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with FakeRig() as rig:
            client = await loop.run_in_executor(None, sync.EchoProtocol.client, rig.uri, 'rig')
            await loop.run_in_executor(None, client.status, 'RUNNING')
            waiting = loop.run_in_executor(None, lambda: client.on_event('EXPEND', timeout=SHORT))
            await eventually(lambda: internals.waiters(client.asynchronous), 'internals.waiters(client.asynchronous)')
            current_portal().loop.call_soon_threadsafe(lambda: asyncio.ensure_future(meanwhile.stand_still()))
            await loop.run_in_executor(None, meanwhile.wait)
            await rig.send([4, 'done'], timeout=30.0)
            assert (await waiting)[0] == ['done']
            await loop.run_in_executor(None, client.close)

    asyncio.run(main())


# --- connections ---


@pytest.mark.parametrize('turns', range(6))
async def test_opening_a_set(turns):
    """At each step of it. Only the system has to answer."""
    with FakeRig('tcp://127.0.0.1:0') as rig:
        opening = asyncio.ensure_future(Services.connect({'rig': rig.uri}, timeout=0.1))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.2)
        async with await opening as rigs:
            assert rigs.is_connected


@pytest.mark.parametrize('turns', range(4))
async def test_looking_for_a_server(lab, turns):
    """An attempt during which this program stood still is not over."""
    loop = asyncio.get_running_loop()
    with FakeRig('tcp://127.0.0.1:0') as rig:
        tuning = InternalTuning(first_reconnect_delay=0.01, max_reconnect_delay=0.02, reconnect_timeout=0.1)
        client = await lab.client(rig.uri, tuning=tuning)
        attempts: list[int] = []

        def stand_still(turns: int) -> None:
            if turns:
                loop.call_soon(stand_still, turns - 1)
            else:
                time.sleep(0.2)

        def standing_still(connect: Any) -> Any:
            async def attempt() -> None:
                attempts.append(len(attempts))
                stand_still(turns)
                await connect()

            return attempt

        internals.wrap_connect(client, standing_still)
        client._transport.abort()
        await eventually(lambda: attempts, 'attempts')
        await asyncio.wait_for(internals.reconnector(client).stopped(), 30)
        assert client.is_connected
        assert attempts == [0]


@pytest.fixture(scope='module')
def papers():
    """The contexts of a server and of a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert('127.0.0.1').configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def test_the_handshake_of_a_client(lab, papers, meanwhile):
    asked = threading.Event()

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            assert sock.recv(1, socket.MSG_PEEK)
            asked.set()
            meanwhile.wait()
            with papers[0].wrap_socket(sock, server_side=True) as tls:
                while tls.recv(1000):
                    pass

    with ThreadPoolExecutor() as pool, socket.create_server(('127.0.0.1', 0)) as listener:
        serving = pool.submit(serve)
        uri = f'wss://127.0.0.1:{listener.getsockname()[1]}'
        opening = asyncio.ensure_future(lab.client(uri, ssl=papers[1], tuning=Tuning(handshake_timeout=SHORT)))
        await eventually(asked.is_set, 'asked.is_set')
        await meanwhile.stand_still()
        client = await opening
        assert client.is_connected
        client.close()
        await asyncio.wrap_future(serving)


async def test_the_handshake_of_a_server(lab, papers, meanwhile):
    server = await lab.server('wss', ssl=papers[0], tuning=Tuning(handshake_timeout=SHORT))
    asked, received = threading.Event(), asyncio.get_running_loop().create_future()
    server.assign_callback('EXPINFO', lambda data, addr: received.set_result(data))

    def connect() -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = papers[1].wrap_bio(incoming, outgoing, server_hostname='127.0.0.1')

        def shake_hands() -> bool:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            return True

        with socket.create_connection(('127.0.0.1', server.port)) as sock:
            assert not shake_hands()
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(100_000))
            while not shake_hands():
                incoming.write(sock.recv(100_000))
            asked.set()
            meanwhile.wait()
            sock.sendall(outgoing.read())
            still.wait(30)
            tls.write(b'[64, 20, "here"]')
            sock.sendall(outgoing.read())
            sock.recv(100)

    still = threading.Event()
    with ThreadPoolExecutor() as pool:
        connecting = pool.submit(connect)
        await eventually(asked.is_set, 'asked.is_set')
        await meanwhile.stand_still()
        await asyncio.sleep(0.1)
        still.set()
        assert await asyncio.wait_for(received, 30) == [20, 'here']
        await asyncio.wrap_future(connecting)
        assert server.rejected == {}


# --- limits of a server ---


async def test_who_said_something_meanwhile_is_not_silent(lab, meanwhile):
    server = await lab.server('tcp', tuning=Tuning(idle_timeout=2 * SHORT))
    asked = threading.Event()

    def connect() -> bool:
        with socket.create_connection(('127.0.0.1', server.port)) as sock:
            ping = sock.recv(1000)
            asked.set()
            meanwhile.wait()
            sock.sendall(ping)
            sock.settimeout(2 * LONG)
            try:
                return bool(sock.recv(1000))
            except TimeoutError:
                return True

    with ThreadPoolExecutor() as pool:
        connecting = pool.submit(connect)
        await eventually(asked.is_set, 'asked.is_set')
        await meanwhile.stand_still()
        assert await asyncio.wrap_future(connecting)
        assert server.rejected == {}


async def test_a_message_whose_end_came_meanwhile(lab, meanwhile):
    """Far more of it than is read in one turn."""
    server = await lab.server('tcp', tuning=InternalTuning(message_timeout=SHORT))
    received = asyncio.get_running_loop().create_future()
    server.assign_callback('EXPINFO', lambda data, addr: received.set_result(len(data[1])))

    def connect() -> None:
        with socket.create_connection(('127.0.0.1', server.port)) as sock:
            sock.sendall(b'[64, 20, "')
            sock.sendall(meanwhile.wait(b'x' * 2_000_000 + b'"]'))
            sock.recv(100)

    with ThreadPoolExecutor() as pool:
        connecting = pool.submit(connect)
        await eventually(
            lambda: any(connection.splitter.pending for connection in internals.connections(server).values()),
            'a part has come',
        )
        await meanwhile.stand_still()
        assert await asyncio.wait_for(received, 30) == 2_000_000
        await asyncio.wrap_future(connecting)
        assert server.rejected == {}


# --- the exchange ---


async def test_an_echo_that_came_between_the_timer_and_its_expiry(lab, monkeypatch):
    """The timer is of another send, was on time, and reads the sockets; then this program stands still."""
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(('127.0.0.1', 0))
        client = await lab.client(f'udp://127.0.0.1:{sock.getsockname()[1]}')

        def stand_still(callback: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
            if isinstance(getattr(callback, '__self__', None), DelayedCall):
                monkeypatch.undo()
                sock.setblocking(False)
                frame, addr = sock.recvfrom(1000)
                for i in range(10):
                    sock.sendto(b'[64, 20, %d]' % i, addr)
                sock.sendto(frame, addr)
                time.sleep(LONG)
            return call_soon(callback, *args, **kwargs)

        message = b'[4, "data"]'  # from another program's encoder, and so without a tag: it is sent once
        sending = asyncio.ensure_future(client.confirmed_send(message, timeout=SHORT))
        await asyncio.sleep(0.01)
        monkeypatch.setattr(loop, 'call_soon', stand_still)
        with pytest.raises(EchoTimeoutError):
            await client.ping(timeout=SHORT / 4)
        await sending
        assert loop.call_soon == call_soon


async def test_an_echo_on_the_second_socket_of_a_search(lab, meanwhile):
    """A client looks for a silent server from a second socket, which it closes after a while."""
    timeout = 5.0  # seconds; more than until the second socket
    frames: dict[Any, bytes] = {}

    def receive() -> int:
        with contextlib.suppress(BlockingIOError):
            frame, addr = sock.recvfrom(1000)
            if frame.startswith(b'[4'):
                frames[addr] = frame
            elif not frames:  # a ping: the client waits until it knows that this is echorig
                sock.sendto(set_ack(frame), addr)
        return len(frames)

    def echo() -> None:
        for _ in range(10):
            sock.sendto(b'[64, 20, 1]', addr)
        sock.sendto(set_ack(frame), addr)
        time.sleep(timeout)
        meanwhile.wait()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, ThreadPoolExecutor() as pool:
        sock.bind(('127.0.0.1', 0))
        sock.setblocking(False)
        client = await lab.client(f'udp://127.0.0.1:{sock.getsockname()[1]}')
        sending = asyncio.ensure_future(client.confirmed_send([4, 'data'], timeout=timeout))
        await eventually(lambda: receive() == 2, 'the message has come from two sockets')
        addr, frame = list(frames.items())[1]
        echoing = pool.submit(echo)
        await meanwhile.stand_still()
        await sending
        await asyncio.wrap_future(echoing)


async def test_pieces_of_a_long_message_are_progress(lab):
    """A time-out after a stall waits as long as there is more to read, although no message is complete."""
    server = await lab.server('tcp')
    pipeline = internals.pipeline(server)
    with socket.create_connection(('127.0.0.1', server.port)) as sock:
        await eventually(lambda: internals.connections(server), 'the connection')
        before = pipeline.count_received()
        for piece in (b'[64, 20, "', b'long'):
            sock.sendall(piece)
            await eventually(lambda: pipeline.count_received() > before, 'the piece is counted')
            before = pipeline.count_received()
    assert internals.exchange(server).n_received == 0
