"""`Relay`: a TCP relay between a program and its NATS broker that can hold back what it carries, and let it go on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

__all__ = ['Relay']


class Relay:
    """Carries each connection to a port of this computer; an asynchronous context manager.

    Attributes
    ----------
    held : dict of str to bool
        Whether a direction, ``to_broker`` or ``to_program``, is held back.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._free = {'to_broker': asyncio.Event(), 'to_program': asyncio.Event()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.release()

    @property
    def uri(self) -> str:
        """The URI of the broker for the program."""
        return f'nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}'

    def hold(self, *directions: str) -> None:
        """Hold back what is sent from now on; both directions by default."""
        for direction in directions or self._free:
            self._free[direction].clear()

    def release(self) -> None:
        """Carry everything again, and first what was held."""
        for free in self._free.values():
            free.set()

    def strand(self) -> None:
        """Hold the connections of now for ever, as a network that is gone; new ones are carried."""
        self.hold()
        self._free = {direction: asyncio.Event() for direction in self._free}
        self.release()

    def cut(self) -> None:
        """Close all connections, and lose what was held."""
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._accept, '127.0.0.1', 0)
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._server.close()
        tasks = list(self._tasks)
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers, free = [writer], self._free
        with contextlib.suppress(OSError):
            try:
                broker, to_broker = await asyncio.open_connection('127.0.0.1', self._port)
                writers.append(to_broker)
                pumps = [
                    asyncio.ensure_future(self._pump(reader, to_broker, free['to_broker'])),
                    asyncio.ensure_future(self._pump(broker, writer, free['to_program'])),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
            finally:
                for one in writers:
                    one.transport.abort()
                for one in writers:
                    with contextlib.suppress(OSError):
                        await one.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, free: asyncio.Event) -> None:
        while data := await reader.read(65536):
            await free.wait()
            writer.write(data)
            await writer.drain()
