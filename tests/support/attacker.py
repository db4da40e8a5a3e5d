"""An attacker on the network of the lab: between two computers, or on one of his own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

Filter = Callable[[bytes], bytes]
TO_RIG, TO_MAIN = 'to the rig', 'to the main PC'


class Between:
    """What both relays have: everything is heard, may be changed, and more can be said under either address.

    Attributes
    ----------
    heard : list of (str, bytes)
        What has passed, and where to.
    change : dict
        For each way, what becomes of what passes; ``b''`` is nothing.
    """

    uri: str

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.change: dict[str, Filter] = {TO_RIG: bytes, TO_MAIN: bytes}

    def passes(self, way: str, data: bytes) -> None:
        self.heard.append((way, data))
        if changed := self.change[way](data):
            self.say(way, changed)

    def said(self, way: str) -> list[bytes]:
        """Return what has passed one way."""
        return [data for where, data in self.heard if where == way]

    def say(self, way: str, data: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class BetweenUdp(Between, asyncio.DatagramProtocol):
    """Between a main PC and a rig, over UDP."""

    @classmethod
    async def open(cls, rig: Any) -> BetweenUdp:
        _, self = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=('127.0.0.1', 0))
        self.rig = rig.hostname, rig.port
        return self

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.uri = 'udp://{}:{}'.format(*transport.get_extra_info('sockname'))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr != self.rig:
            self.main = addr
        self.passes(TO_MAIN if addr == self.rig else TO_RIG, data)

    def say(self, way: str, data: bytes) -> None:
        self.transport.sendto(data, self.rig if way == TO_RIG else self.main)

    def close(self) -> None:
        self.transport.close()


class BetweenTcp(Between):
    """Between main PCs and a rig, over TCP; what he says goes to the newest connection."""

    @classmethod
    async def open(cls, rig: Any) -> BetweenTcp:
        self = cls()
        self.rig = rig.hostname, rig.port
        self._tasks: set[Any] = set()
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._server = await asyncio.start_server(self._accept, '127.0.0.1', 0)
        self.uri = f'{rig.protocol}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}'
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self.rig)
        self._writers = {TO_RIG: back, TO_MAIN: writer}
        self._tasks |= {asyncio.current_task()}
        try:
            await asyncio.gather(self._carry(reader, TO_RIG), self._carry(there, TO_MAIN))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            back.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, way: str) -> None:
        while data := await reader.read(65536):
            self.passes(way, data)
        raise ConnectionError('one end has hung up')

    def say(self, way: str, data: bytes) -> None:
        self._writers[way].write(data)

    def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
