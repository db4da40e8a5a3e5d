"""A man in the middle between a main PC and a rig, over UDP and TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

Filter = Callable[[bytes], bytes]
TO_RIG, TO_MAIN = 'to the rig', 'to the main PC'


class Relay:
    """Base of the relays: records and changes what passes, and injects data in either direction.

    Attributes
    ----------
    recorded : list of (str, bytes)
        The direction and the data of everything that has passed.
    change : dict
        A filter for each direction. The data is dropped if the filter returns ``b''``.
    """

    uri: str

    def __init__(self) -> None:
        self.recorded: list[tuple[str, bytes]] = []
        self.change: dict[str, Filter] = {TO_RIG: bytes, TO_MAIN: bytes}

    def forward(self, direction: str, data: bytes) -> None:
        self.recorded.append((direction, data))
        if changed := self.change[direction](data):
            self.inject(direction, changed)

    def sent(self, direction: str) -> list[bytes]:
        """Return the data that was sent in one direction."""
        return [data for where, data in self.recorded if where == direction]

    def inject(self, direction: str, data: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class UdpRelay(Relay, asyncio.DatagramProtocol):
    """A relay between a main PC and a rig, over UDP."""

    @classmethod
    async def open(cls, rig: Any) -> UdpRelay:
        _, self = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=('127.0.0.1', 0))
        self.rig = rig.hostname, rig.port
        return self

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.uri = 'udp://{}:{}'.format(*transport.get_extra_info('sockname'))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr != self.rig:
            self.main = addr
        self.forward(TO_MAIN if addr == self.rig else TO_RIG, data)

    def inject(self, direction: str, data: bytes) -> None:
        self.transport.sendto(data, self.rig if direction == TO_RIG else self.main)

    def close(self) -> None:
        self.transport.close()


class TcpRelay(Relay):
    """A relay between main PCs and a rig, over TCP. It injects data into the newest connection."""

    @classmethod
    async def open(cls, rig: Any) -> TcpRelay:
        self = cls()
        self.rig = rig.hostname, rig.port
        self._tasks: set[Any] = set()
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._server = await asyncio.start_server(self._accept, '127.0.0.1', 0)
        self.uri = f'{rig.protocol}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}'
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rig_reader, rig_writer = await asyncio.open_connection(*self.rig)
        self._writers = {TO_RIG: rig_writer, TO_MAIN: writer}
        self._tasks |= {asyncio.current_task()}
        try:
            await asyncio.gather(self._carry(reader, TO_RIG), self._carry(rig_reader, TO_MAIN))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            rig_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, direction: str) -> None:
        while data := await reader.read(65536):
            self.forward(direction, data)
        raise ConnectionError('one end has hung up')

    def inject(self, direction: str, data: bytes) -> None:
        self._writers[direction].write(data)

    def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
