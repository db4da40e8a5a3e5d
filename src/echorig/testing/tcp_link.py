"""`CuttingLink`: a TCP link between clients and a server, which delivers in odd pieces, late, and breaks.

1. A stream loses and reorders nothing by itself: what can happen to it is how it is cut up, when it comes, and its
   end.
2. Each connection has its own chances, from the seed and its place in the order of arrival.
3. What is read is bounded: a side that does not read slows the other down, as on a real network.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Any

from ..resolver import resolve
from ..uri import Uri, as_address
from .faults import Counters, Rule, Ways, corrupted, dice, each_way

__all__ = ['CuttingLink']

RULES = [Rule('corrupt', 1.0), *(Rule(name) for name in ('segment', 'delay', 'jitter', 'cut_after'))]
READ = 65536  # bytes
RESET = struct.pack('hh' if os.name == 'nt' else 'ii', 1, 0)  # linger for no time: close with RST


class CuttingLink:
    """A TCP link to a server, with faults; an asynchronous context manager.

    Any number of clients may use `uri` in place of the server's. Each setting is a number, or a pair of them: for
    what goes to the server, and for what comes back. TLS passes through unread.

    Parameters
    ----------
    target : str
        The URI of the server. While it is not there, connections are aborted.
    segment : int or tuple of (int, int)
        The longest piece, in bytes: the stream arrives in pieces of 1 to as many, by chance. 0 leaves it as it is.
    delay : float or tuple of (float, float)
        How long each piece waits before it goes on, in seconds.
    jitter : float or tuple of (float, float)
        How much longer at most, by chance, in seconds.
    corrupt : float or tuple of (float, float)
        The chance of each piece, 0 to 1, to get a wrong bit.
    cut_after : int or tuple of (int, int)
        How many bytes of each connection get through before it breaks. 0 means all.
    abort : bool
        Whether a connection breaks with a reset, as when a computer crashes, or with an orderly end, as when a
        program is stopped.
    seed : int
        What the chances are drawn from.

    Attributes
    ----------
    counters : Ways of Counters
        What has happened so far to the pieces, ``counters.there`` and ``counters.back``.

    Raises
    ------
    TypeError, ValueError
        A setting is no number, or out of its range.
    """

    def __init__(
        self,
        target: str,
        *,
        segment: int | tuple[int, int] = 0,
        delay: float | tuple[float, float] = 0.0,
        jitter: float | tuple[float, float] = 0.0,
        corrupt: float | tuple[float, float] = 0.0,
        cut_after: int | tuple[int, int] = 0,
        abort: bool = True,
        seed: int = 0,
    ) -> None:
        self._faults = each_way(RULES, locals())
        self.target = target
        self.abort = abort
        self.seed = seed
        self.counters: Ways[Counters] = Ways(Counters(), Counters())
        self._uri: Uri | None = None
        self._server: Uri | None = None
        self._front: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._n_clients = 0
        self._is_cut = False

    @property
    def uri(self) -> str:
        """str: What clients connect to.

        Raises
        ------
        RuntimeError
            The link is not open.
        """
        if self._uri is None:
            raise RuntimeError('The link has no address before it is entered with "async with"')
        return str(self._uri)

    @property
    def n_connections(self) -> int:
        """int: How many clients are connected."""
        return len(self._open)

    def cut(self) -> None:
        """Break every connection, and each new one, until `mend`."""
        self._is_cut = True
        for ends in self._open.values():
            self._break(ends)

    def mend(self) -> None:
        """Let clients connect again; what is broken stays so."""
        self._is_cut = False

    async def __aenter__(self) -> CuttingLink:
        _, self._server = await resolve(self.target)
        if self._server.scheme == 'udp':
            raise ValueError(f'A CuttingLink carries streams, and {self.target} takes datagrams: use LossyLink')
        host = '::1' if ':' in self._server.host else '127.0.0.1'
        self._front = await asyncio.start_server(self._accept, host, 0)
        self._uri = Uri(self._server.scheme, *as_address(self._front.sockets[0].getsockname()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._front is not None:
            self._front.close()
        tasks = list(self._open)
        for task in tasks:
            _close(self._open[task])
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._front is not None:
            await self._front.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer, self._n_clients))
        self._n_clients += 1
        self._open[task] = [writer]
        task.add_done_callback(self._open.pop)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        """Carry one connection, until either end closes or it breaks."""
        assert self._server is not None
        task = asyncio.current_task()
        assert task is not None
        ends = self._open[task]
        pumps: list[asyncio.Task[None]] = []
        try:
            if self._is_cut:
                raise ConnectionAbortedError
            to_server = await asyncio.open_connection(self._server.host, self._server.port)
            ends.append(to_server[1])
            for end in ends:  # drain() waits for all that was written: a reset would take along what is left
                end.transport.set_write_buffer_limits(high=0)
            if self._is_cut:
                raise ConnectionAbortedError
            pumps = [
                asyncio.create_task(self._pump(reader, to_server[1], 0, dice(self.seed, number, 0))),
                asyncio.create_task(self._pump(to_server[0], writer, 1, dice(self.seed, number, 1))),
            ]
            await asyncio.gather(*pumps)
        except OSError:  # one end is gone, and so shall the other be
            self._break(ends)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            _close(ends)
            for end in ends:
                with suppress(OSError):
                    await end.wait_closed()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int, chances: random.Random
    ) -> None:
        """Carry one way of a connection; raise `ConnectionError` where it breaks."""
        faults, counters = self._faults[way], self.counters[way]
        left = faults['cut_after'] or float('inf')
        while data := await reader.read(READ):
            for piece in _pieces(data, int(faults['segment']), chances):
                counters.received += 1
                await self._wait(faults, chances)
                if chances.random() < faults['corrupt']:
                    counters.corrupted += 1
                    piece = corrupted(piece, chances.random())
                if len(piece) > left:
                    counters.truncated += 1
                    piece = piece[: int(left)]
                left -= len(piece)
                if writer.is_closing():
                    raise ConnectionResetError
                if piece:
                    counters.forwarded += 1
                    writer.write(piece)
                    await writer.drain()
                if left == 0:
                    raise ConnectionAbortedError
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    async def _wait(self, faults: dict[str, Any], chances: random.Random) -> None:
        # Even without a delay each piece gets a turn of the loop of its own, so that it arrives alone.
        await asyncio.sleep(faults['delay'] + faults['jitter'] * chances.random())

    def _break(self, ends: list[asyncio.StreamWriter]) -> None:
        for end in ends:
            if self.abort and not end.is_closing():
                sock = end.get_extra_info('socket')
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.transport.abort()
        _close(ends)


def _close(ends: list[asyncio.StreamWriter]) -> None:
    for end in ends:
        if not end.is_closing():
            end.close()


def _pieces(data: bytes, longest: int, chances: random.Random) -> list[bytes]:
    if not longest:
        return [data]
    pieces = []
    while data:
        size = chances.randint(1, longest)
        pieces.append(data[:size])
        data = data[size:]
    return pieces
