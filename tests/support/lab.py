"""Communicators and raw UDP peers for tests, on ports that the system chooses."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Any, ClassVar
from uuid import uuid4

from echorig import EchoProtocol, Services
from tagging import is_ping, read_tag

REF = '2022-01-01_1_subject'
_RANDOM = random.SystemRandom()  # hypothesis seeds the global generator, alike in each worker


class Lab:
    """Opens communicators and closes all of them at the end."""

    def __init__(self) -> None:
        self.opened: list[EchoProtocol] = []

    async def server(self, transport: str = 'udp', name: str = 'server', **kwargs: Any) -> EchoProtocol:
        host = kwargs.pop('host', '127.0.0.1')
        com = await EchoProtocol.server(f'{transport}://{host}:0', name, **kwargs)
        self.opened.append(com)
        return com

    async def client(self, server: EchoProtocol | str, name: str = 'client', **kwargs: Any) -> EchoProtocol:
        uri = server if isinstance(server, str) else server.server_uri
        com = await EchoProtocol.client(uri, name, **kwargs)
        self.opened.append(com)
        return com

    async def over_nats(self, broker: str, **kwargs: Any) -> tuple[EchoProtocol, EchoProtocol]:
        """Open a server at a subject of its own, and its client."""
        uri = f'{broker}/lab.t{uuid4().hex}'
        server = await EchoProtocol.server(uri, 'rig', **kwargs)
        self.opened.append(server)
        return server, await self.client(uri, 'main', **kwargs)

    async def pair(self, transport: str = 'udp', **kwargs: Any) -> tuple[EchoProtocol, EchoProtocol]:
        server = await self.server(transport, **kwargs)
        return server, await self.client(server, **kwargs)

    async def answering(self, transport: str = 'udp', name: str = 'rig') -> EchoProtocol:
        """Open a server that answers every event at once with the same event and data."""
        server = await self.server(transport, name)

        async def answer(data: list[Any], addr: tuple[str, int], event: int) -> None:
            await server.confirmed_send([event, *data], addr)

        server.assign_callback(127, answer)
        return server

    async def services(self, n: int, transport: str = 'udp', timeout: float | None = 2.0) -> Services:
        """Open n answering rigs and a set of clients of them."""
        rigs = [await self.answering(transport, f'rig{i}') for i in range(n)]
        return Services([await self.client(rig, f'rig{i}') for i, rig in enumerate(rigs)], timeout=timeout)

    async def close(self) -> None:
        for com in reversed(self.opened):
            com.close()
        await asyncio.wait_for(asyncio.gather(*(com.wait_closed() for com in self.opened)), 10)


class RawUdp(asyncio.DatagramProtocol):
    """A UDP peer that sends only what the test sends; it queues received datagrams."""

    opened: ClassVar[list[RawUdp]] = []

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.transport: asyncio.DatagramTransport

    @classmethod
    async def open(cls, host: str = '127.0.0.1') -> RawUdp:
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        cls.opened.append(peer)
        return peer

    @property
    def addr(self) -> tuple[str, int]:
        name = self.transport.get_extra_info('socket').getsockname()
        return name[0], name[1]

    @property
    def uri(self) -> str:
        return f'udp://{self.addr[0]}:{self.addr[1]}'

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.put_nowait((data, addr[:2]))

    def error_received(self, exc: Exception) -> None:
        pass

    async def hear(self, timeout: float = 2.0) -> tuple[bytes, Any]:
        """Return the next message; skip pings, which a silent peer receives."""
        while True:
            data, addr = await asyncio.wait_for(self.heard.get(), timeout)
            if read_tag(data) < 0 or not is_ping(data):
                return data, addr

    async def silence(self, seconds: float = 0.1) -> bool:
        """Return whether no message arrives for a while."""
        try:
            await self.hear(seconds)
        except asyncio.TimeoutError:
            return True
        return False

    def say(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)

    def close(self) -> None:
        self.transport.close()


def free_port() -> int:
    """Return a port that is free for UDP and TCP.

    It is below the ephemeral range, so that the system gives it to no other program in the meantime.
    """
    while True:
        port = _RANDOM.randrange(12000, 32000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                stack.enter_context(socket.socket(socket.AF_INET, kind)).bind(('127.0.0.1', port))
            return port
