"""A server on all addresses of its computer answers from the address that the peer has sent to."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from echorig import EchoProtocol
from echorig.transports import udp_addresses
from echorig.transports.choice import ENVIRONMENT, wants_compiled
from systems import needs_reuse_port

REF = '2026-01-31_1_mouse'

needs_fast = pytest.mark.skipif(
    not wants_compiled(), reason='the transport of the loop has sockets for known addresses only'
)
pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='only Linux answers on all of 127.0.0.0/8')


@contextmanager
def peer(host: str, port: int) -> Iterator[socket.socket]:
    """Open a socket that receives only from this address."""
    with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, port))
        yield sock


async def ask(sock: socket.socket, frame: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, frame)
    return await asyncio.wait_for(loop.sock_recv(sock, 4096), 5)


@needs_fast
@pytest.mark.parametrize('uri', ['udp://0.0.0.0:0', 'udp://[::]:0'])
async def test_the_echo_comes_from_the_address_that_was_asked(uri: str) -> None:
    hosts = ['127.0.0.1', '127.0.0.2', '127.1.2.3', *(['::1'] if '::' in uri else [])]
    async with await EchoProtocol.server(uri, 'rig') as rig:
        with ExitStack() as stack:
            peers = [stack.enter_context(peer(host, rig.port)) for host in hosts]
            for frame in (b'[64, 20, 1]', b'[64, 20, 2]'):
                for sock in peers:
                    assert await ask(sock, frame) == frame


class Sources(asyncio.DatagramProtocol):
    """Collects where datagrams come from."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[object] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.received.put_nowait(addr)


@needs_fast
async def test_one_peer_that_uses_two_addresses_is_answered_from_each() -> None:
    loop = asyncio.get_running_loop()
    async with await EchoProtocol.server('udp://0.0.0.0:0', 'rig') as rig:
        transport, sources = await loop.create_datagram_endpoint(Sources, local_addr=('127.0.0.1', 0))
        for i, host in enumerate(('127.0.0.2', '127.0.0.3', '127.0.0.2')):
            transport.sendto(b'[64, 20, %d]' % i, (host, rig.port))
            assert await asyncio.wait_for(sources.received.get(), 5) == (host, rig.port)
        transport.close()
        await asyncio.sleep(0)


@needs_fast
async def test_many_datagrams_at_once_are_answered_from_their_addresses() -> None:
    """They are read in batches, and answered after others were read."""
    async with await EchoProtocol.server('udp://0.0.0.0:0', 'rig') as rig:
        with ExitStack() as stack:
            peers = [stack.enter_context(peer(f'127.0.0.{i}', rig.port)) for i in range(1, 100)]
            loop = asyncio.get_running_loop()
            for i in range(3):
                for sock in peers:
                    sock.send(b'[64, 20, %d]' % i)
                for sock in peers:
                    assert await asyncio.wait_for(loop.sock_recv(sock, 4096), 5) == b'[64, 20, %d]' % i


@needs_fast
async def test_a_rig_on_all_addresses_serves_a_client_of_any() -> None:
    async with await EchoProtocol.server('udp://0.0.0.0:0', 'rig') as rig:
        for host in ('127.0.0.1', '127.0.0.7'):
            async with await EchoProtocol.client(f'udp://{host}:{rig.port}', 'main') as com:
                await com.start(REF)
                await com.ping()


@needs_reuse_port
@pytest.mark.parametrize('uri', ['udp://0.0.0.0:0', 'udp://[::]:0'])
async def test_the_transport_of_the_loop_has_a_socket_for_each_address(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on systems that do not tell the address of a datagram; also for addresses that are added later."""
    monkeypatch.setenv(ENVIRONMENT, 'loop')
    monkeypatch.setattr(udp_addresses, '_INTERVAL', 0.01)
    hosts = ['127.0.0.1', '127.0.0.2']
    form = '::ffff:{}' if '::' in uri else '{}'
    rest = (0, 0) if '::' in uri else ()
    monkeypatch.setattr(udp_addresses, 'local_addresses', lambda family: {(form.format(h), 0, *rest) for h in hosts})
    async with await EchoProtocol.server(uri, 'rig') as rig:
        with pytest.raises(OSError, match='in use'):
            await EchoProtocol.server(f'udp://127.0.0.1:{rig.port}', 'another')
        with ExitStack() as stack:
            peers = [stack.enter_context(peer(host, rig.port)) for host in hosts]
            for frame in (b'[64, 20, 1]', b'[64, 20, 2]'):
                for sock in peers:
                    assert await ask(sock, frame) == frame
            hosts.append('127.1.2.3')
            await asyncio.sleep(0.5)
            assert await ask(stack.enter_context(peer('127.1.2.3', rig.port)), b'[64, 20, 3]') == b'[64, 20, 3]'
        async with await EchoProtocol.client(f'udp://127.0.0.2:{rig.port}', 'main') as com:
            await com.start(REF)
            *_, client = rig.peers
            await rig.confirmed_send([64, 20, 1], addr=client)
    async with await EchoProtocol.server(uri.replace(':0', f':{rig.port}'), 'rig'):
        pass  # the port is free again


def test_addresses_of_this_computer() -> None:
    assert ('127.0.0.1', 0) in udp_addresses.local_addresses(socket.AF_INET)
    assert ('::ffff:127.0.0.1', 0, 0, 0) in udp_addresses.local_addresses(socket.AF_INET6)
