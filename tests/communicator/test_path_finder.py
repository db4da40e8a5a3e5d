"""A UDP client finds its server again: other addresses of a name, a socket that has stopped to work, a moved rig."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from echorig import EchoProtocol, EchoTimeoutError, PeerUnreachableError, Tuning
from echorig.wire._tags import set_ack
from eventually import eventually

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='only Linux has all of 127.0.0.0/8')

ONE, TWO, THREE = '127.0.0.71', '127.0.0.72', '127.0.0.73'
PLAIN = Tuning(tags=False)
KEY = 'a key that both ends have'


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A table of names that a test may change."""
    table: dict[str, list[str]] = {}
    ask = socket.getaddrinfo

    def getaddrinfo(host: str, port: object, *args: object, **kwargs: object) -> list[object]:
        return [found for address in table.get(host, [host]) for found in ask(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    return table


@contextmanager
def bound(host: str, port: int = 0) -> Iterator[socket.socket]:
    """Open a socket that nobody reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((host, port))
        yield sock


def numbers_at(rig: EchoProtocol) -> list[int]:
    received: list[int] = []
    rig.assign_callback('EXPINFO', lambda data, addr: received.append(data[1]))
    return received


@pytest.mark.parametrize('key', [{}, {'key': KEY}], ids=['unsigned', 'signed'])
@pytest.mark.parametrize('first', ['refuses', 'is silent'])
async def test_second_address_of_a_name(names: dict[str, list[str]], first: str, key: dict[str, str]) -> None:
    names['rigpc'] = [ONE, TWO]
    async with await EchoProtocol.server(f'udp://{TWO}:0', 'rig', **key) as rig:
        received = numbers_at(rig)
        with bound(ONE, rig.port if first == 'is silent' else 0):
            async with await EchoProtocol.client(f'udp://rigpc:{rig.port}', 'main', **key) as com:
                for number in range(5):
                    await com.confirmed_send([64, 20, number], timeout=10)
                assert list(com.peers) == [(TWO, rig.port)]
                await com.confirmed_send([64, 20, 5], addr=('rigpc', rig.port), timeout=10)
        assert received == list(range(6))


async def test_no_address_of_a_name_answers(names: dict[str, list[str]]) -> None:
    """The error names all of them."""
    names['rigpc'] = [ONE, TWO]
    with bound(THREE) as sock:
        port = sock.getsockname()[1]
    async with await EchoProtocol.client(f'udp://rigpc:{port}', 'main') as com:
        started = time.monotonic()
        with pytest.raises(PeerUnreachableError, match=f'tried {ONE}, {TWO}'):
            await com.confirmed_send([64, 20, 0], timeout=20)
        assert time.monotonic() - started < 10
    with bound(ONE, port), bound(TWO, port):
        async with await EchoProtocol.client(f'udp://rigpc:{port}', 'main') as com:
            with pytest.raises(EchoTimeoutError, match=f'tried {ONE}, {TWO}'):
                await com.confirmed_send([64, 20, 0], timeout=2)


@pytest.mark.parametrize('restarted', [False, True])
async def test_rig_with_another_address(names: dict[str, list[str]], restarted: bool) -> None:
    names['rigpc'] = [ONE]
    async with await EchoProtocol.server('udp://0.0.0.0:0', 'rig') as rig:
        received, port = numbers_at(rig), rig.port
        async with await EchoProtocol.client(f'udp://rigpc:{port}', 'main') as com:
            await com.confirmed_send([64, 20, 0], timeout=10)
            rig.close()
            await rig.wait_closed()
            names['rigpc'] = [TWO]
            with bound(ONE, port):
                waiting = asyncio.ensure_future(com.confirmed_send([64, 20, 1], timeout=20))
                await asyncio.sleep(0.5)
                async with await EchoProtocol.server(f'udp://{TWO}:{port}', 'rig') as other:
                    received_there = numbers_at(other)
                    await waiting
                    await com.confirmed_send([64, 20, 2], timeout=10)
                    statistics = com.peers[TWO, port]
                    assert statistics.restarts == 1
                    assert com.peers[ONE, port] == statistics  # found by its former address too
        assert (received, received_there) == ([0], [1, 2])


class Relay(asyncio.DatagramProtocol):
    """Passes datagrams on between clients and a rig, except those of blocked clients."""

    def __init__(self, rig: tuple[str, int]) -> None:
        self.rig, self.blocked, self.ways = rig, set(), {}  # type: ignore[var-annotated]

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr not in self.blocked:
            asyncio.get_running_loop().create_task(self.pass_on(data, addr))

    async def pass_on(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr not in self.ways:
            self.ways[addr] = asyncio.get_running_loop().create_future()
            front = self.transport

            class Back(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, _: object) -> None:
                    front.sendto(data, addr)

            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Back, remote_addr=self.rig)
            self.ways[addr].set_result(transport)
        (await self.ways[addr]).sendto(data)

    def close(self) -> None:
        self.transport.close()
        for way in self.ways.values():
            way.result().close()


@pytest.mark.parametrize('key', [{}, {'key': KEY}], ids=['unsigned', 'signed'])
async def test_a_socket_that_fails_silently(key: dict[str, str]) -> None:
    """As behind a router that has forgotten a connection, or after a VPN has changed the routes."""
    async with await EchoProtocol.server('udp://127.0.0.1:0', 'rig', **key) as rig:
        received = numbers_at(rig)
        _, relay = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Relay(('127.0.0.1', rig.port)), local_addr=('127.0.0.1', 0)
        )
        port = relay.transport.get_extra_info('sockname')[1]
        async with await EchoProtocol.client(f'udp://127.0.0.1:{port}', 'main', **key) as com:
            from_rig: list[int] = []
            com.assign_callback('EXPINFO', lambda data, addr: from_rig.append(data[1]))
            for number in range(20):
                if number in (5, 15):
                    relay.blocked.update(relay.ways)
                await com.confirmed_send([64, 20, number], timeout=10)
            (client,) = rig.peers  # it knows the new socket
            await rig.confirmed_send([64, 20, 0], addr=client, timeout=10)
            assert from_rig == [0]
            assert len(relay.ways) >= 3
        assert received == list(range(20))
        relay.close()
        await asyncio.sleep(0)


class OtherAddress(asyncio.DatagramProtocol):
    """A rig with two addresses that answers from the second one: echorig sets the flag, others send the same bytes."""

    def __init__(self, back: socket.socket, echo: Callable[[bytes], bytes]) -> None:
        self.back, self.echo, self.messages = back, echo, []  # type: ignore[var-annotated]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not data.startswith(b'[ ') and not data.startswith(b'[\t'):
            self.messages.append(data[:11])
        self.back.sendto(self.echo(data), addr)


@pytest.mark.parametrize('echo', [set_ack, bytes], ids=['echorig', 'legacy'])
async def test_echo_from_another_address(echo: Callable[[bytes], bytes]) -> None:
    loop = asyncio.get_running_loop()
    with bound(TWO) as back:
        port = back.getsockname()[1]
        first, rig = await loop.create_datagram_endpoint(lambda: OtherAddress(back, echo), local_addr=(ONE, port))
        second, _ = await loop.create_datagram_endpoint(lambda: rig, sock=back)
        async with await EchoProtocol.client(f'udp://{ONE}:{port}', 'main') as com:
            await com.confirmed_send([64, 20, 1], timeout=10)
            await com.confirmed_send([64, 20, 2], timeout=10)
            assert list(com.peers) == [(TWO, port)]
        assert rig.messages in ([b'[64, 20, 1 ', b'[64, 20, 2 '], [b'[64, 20, 1\t', b'[64, 20, 2\t'])
        first.close()
        second.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize('allow', [[ONE], None], ids=['not allowed', 'forged'])
async def test_echo_from_an_address_that_does_not_count(allow: list[str] | None) -> None:
    """It is outside of `allow`, or has another run than that of the client."""
    loop = asyncio.get_running_loop()

    def forged(data: bytes) -> bytes:
        return data[:-128] + b' ' * 127 + b']'

    with bound(TWO) as back:
        port = back.getsockname()[1]
        echo = set_ack if allow else forged
        first, _ = await loop.create_datagram_endpoint(lambda: OtherAddress(back, echo), local_addr=(ONE, port))
        async with await EchoProtocol.client(f'udp://{ONE}:{port}', 'main', allow=allow) as com:
            with pytest.raises(EchoTimeoutError):
                await com.confirmed_send([64, 20, 1], timeout=1.5)
            assert list(com.peers) == [(ONE, port)]
        first.close()
        await asyncio.sleep(0)


async def test_name_outside_of_allow(names: dict[str, list[str]]) -> None:
    """No address outside of `allow` is tried."""
    names['rigpc'] = [ONE]
    with bound(ONE) as silent, bound(TWO, silent.getsockname()[1]) as other:
        uri = f'udp://rigpc:{silent.getsockname()[1]}'
        async with await EchoProtocol.client(uri, 'main', allow=[ONE]) as com:
            names['rigpc'] = [ONE, TWO]
            with pytest.raises(EchoTimeoutError):
                await com.confirmed_send([64, 20, 1], timeout=1.5)
        with pytest.raises(BlockingIOError):
            other.recv(100)


class Legacy(asyncio.DatagramProtocol):
    """Sends every frame back, until it is silent."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, object]] = []
        self.is_silent = False

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.received.append((data, addr))
        if not self.is_silent:
            self.transport.sendto(data, addr)  # type: ignore[arg-type]


async def test_silent_legacy_rig_is_not_pinged(names: dict[str, list[str]]) -> None:
    """It gets each message once, and from the same socket."""
    names['rigpc'] = [ONE, TWO]
    _, rig = await asyncio.get_running_loop().create_datagram_endpoint(Legacy, local_addr=(ONE, 0))
    port = rig.transport.get_extra_info('sockname')[1]
    with bound(TWO, port) as other:
        async with await EchoProtocol.client(f'udp://rigpc:{port}', 'main') as com:
            await com.confirmed_send([64, 20, 1], timeout=10)
            assert com.peers[ONE, port].kind == 'legacy'
            rig.is_silent = True
            before = len(rig.received)
            for number in (2, 3):
                with pytest.raises(EchoTimeoutError):
                    await com.confirmed_send([64, 20, number], timeout=1.5)
            assert [data[:10] for data, _ in rig.received[before:]] == [b'[64, 20, 2', b'[64, 20, 3']
            assert len({sender for _, sender in rig.received}) == 1
            with pytest.raises(BlockingIOError):
                other.recv(1000)
    rig.transport.close()
    await asyncio.sleep(0)


async def test_legacy_rig_with_another_address(names: dict[str, list[str]]) -> None:
    """After a message that was not echoed, its name leads to the new address only."""
    names['rigpc'] = [ONE]
    loop = asyncio.get_running_loop()
    _, rig = await loop.create_datagram_endpoint(Legacy, local_addr=(ONE, 0))
    port = rig.transport.get_extra_info('sockname')[1]
    _, moved = await loop.create_datagram_endpoint(Legacy, local_addr=(TWO, port))
    async with await EchoProtocol.client(f'udp://rigpc:{port}', 'main') as com:
        await com.confirmed_send([64, 20, 1], timeout=10)
        rig.is_silent = True
        names['rigpc'] = [TWO]
        with pytest.raises(EchoTimeoutError):
            await com.confirmed_send([64, 20, 2], timeout=1.5)
        await eventually(lambda: list(com.peers) == [(TWO, port)], 'the new address')
        await com.confirmed_send([64, 20, 3], timeout=10)
        assert [data[:10] for data, _ in moved.received] == [b'[64, 20, 3']
    for end in (rig, moved):
        end.transport.close()
    await asyncio.sleep(0)
