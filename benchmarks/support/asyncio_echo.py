"""The bare echo: the cost of the event loop alone, without JSON, comparison, time-out or callback."""

from __future__ import annotations

import asyncio
from typing import Any

FRAME = b'[2,"2022-01-01_1_subject",null]'


class EchoClient(asyncio.DatagramProtocol, asyncio.Protocol):
    """A client that waits for the echo of each message."""

    echoed: asyncio.Future[None]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send = transport.sendto if hasattr(transport, 'sendto') else transport.write

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.echoed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.echoed.set_result(None)

    async def round_trip(self) -> None:
        """Send the message and wait for the echo."""
        self.echoed = asyncio.get_running_loop().create_future()
        self.send(FRAME)
        await self.echoed


class EchoServer(EchoClient):
    """A server that sends all data back."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def listen(transport: str) -> tuple[Any, str]:
    """Open a server; return it and its URI."""
    loop = asyncio.get_running_loop()
    if transport == 'udp':
        server: Any
        server, _ = await loop.create_datagram_endpoint(EchoServer, local_addr=('127.0.0.1', 0))
        host, port = server.get_extra_info('sockname')
    else:
        server = await loop.create_server(EchoServer, '127.0.0.1', 0)
        host, port = server.sockets[0].getsockname()
    return server, f'{transport}://{host}:{port}'


async def connect(uri: str) -> EchoClient:
    """Open a client of a server."""
    loop = asyncio.get_running_loop()
    transport, _, address = uri.partition('://')
    host, _, port = address.partition(':')
    if transport == 'udp':
        _, client = await loop.create_datagram_endpoint(EchoClient, remote_addr=(host, int(port)))
    else:
        _, client = await loop.create_connection(EchoClient, host, int(port))
    return client
