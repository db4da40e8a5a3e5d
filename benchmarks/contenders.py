"""What a confirmed round trip is compared with: the bare echo of asyncio, and the incumbent.

Both ends run on one loop in one process, so that the CPU time of a round trip is exact. Each contender is opened
once and then asked for bursts of round trips of the same message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import echorig

REF = '2022-01-01_1_subject'
FRAME = echorig.EchoProtocol.encode([2, REF, None])
RoundTrip = Callable[[], Awaitable[Any]]
# A contender is opened on the running loop; it returns one round trip, and how to close it.
Contender = Callable[[str], Awaitable[tuple[RoundTrip, Callable[[], None]]]]


async def open_echorig(transport: str) -> tuple[RoundTrip, Callable[[], None]]:
    """Open an echorig client and server; the server has a callback."""
    server = await echorig.EchoProtocol.server(f'{transport}://127.0.0.1:0', 'server')
    client = await echorig.EchoProtocol.client(server.server_uri, 'client')
    server.assign_callback('EXPSTART', lambda data, addr: None)
    return lambda: client.start(REF), lambda: (client.close(), server.close())  # type: ignore[func-returns-value]


async def open_iblutil(transport: str) -> tuple[RoundTrip, Callable[[], None]]:
    """Open the incumbent's client and server in the same way."""
    from iblutil.io.net.app import EchoProtocol  # only where it is installed

    logger = logging.getLogger('iblutil.benchmark')
    logger.setLevel(logging.WARNING)
    port = _free_port(transport)
    scheme = 'udp' if transport == 'udp' else 'ws'
    server = await EchoProtocol.server(f'{scheme}://127.0.0.1:{port}', 'server', log=logger)
    client = await EchoProtocol.client(f'{scheme}://127.0.0.1:{port}', 'client', log=logger)
    server.assign_callback('EXPSTART', lambda data, addr: None)

    def close() -> None:
        client.close()
        server.close()
        if server.Server is not None:
            server.Server.close()

    return lambda: client.start(REF), close


class _Bare(asyncio.DatagramProtocol, asyncio.Protocol):
    """The shortest echo that asyncio can be asked for; no JSON, no comparison, no timeout."""

    echoed: asyncio.Future[Any] | None = None
    is_server = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.is_server:
            self.transport.sendto(data, addr)
        elif self.echoed is not None:
            self.echoed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.is_server:
            self.transport.write(data)
        elif self.echoed is not None:
            self.echoed.set_result(None)


class _BareServer(_Bare):
    is_server = True


async def open_bare(transport: str) -> tuple[RoundTrip, Callable[[], None]]:
    """Open a bare echo."""
    loop = asyncio.get_running_loop()
    closing: list[Any]
    if transport == 'udp':
        server, _ = await loop.create_datagram_endpoint(_BareServer, local_addr=('127.0.0.1', 0))
        addr = server.get_extra_info('sockname')
        handle, client = await loop.create_datagram_endpoint(_Bare, remote_addr=addr)
        closing, send = [handle, server], handle.sendto
    else:
        listener = await loop.create_server(_BareServer, '127.0.0.1', 0)
        addr = listener.sockets[0].getsockname()
        stream, client = await loop.create_connection(_Bare, *addr)
        closing, send = [stream, listener], stream.write

    async def round_trip() -> None:
        client.echoed = loop.create_future()
        send(FRAME)
        await client.echoed

    return round_trip, lambda: [item.close() for item in closing]  # type: ignore[return-value]


def _free_port(transport: str) -> int:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == 'udp' else socket.SOCK_STREAM) as sock:
        sock.bind(('127.0.0.1', 0))
        return int(sock.getsockname()[1])


CONTENDERS: dict[str, Contender] = {'echorig': open_echorig, 'bare': open_bare, 'iblutil': open_iblutil}
