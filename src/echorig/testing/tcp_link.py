"""`TcpFaultLink`: a TCP link between clients and a server, which splits and delays the stream, and breaks connections.

1. A stream loses and reorders nothing by itself: only its pieces, their delay and its end can change.
2. Each connection has its own random numbers, from the seed and its place in the order of arrival.
3. The link buffers a bounded number of bytes: a side that does not read slows the other one down.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from contextlib import suppress
from math import inf
from typing import Any

from ..resolver import resolve
from ..uri import Uri, as_address
from .faults import Counters, PerDirection, flip_bit, per_direction, seeded_random

__all__ = ['CuttingLink', 'TcpFaultLink']

MAXIMA = {'corrupt': 1.0, 'segment': inf, 'delay': inf, 'jitter': inf, 'cut_after': inf}
READ_SIZE = 65536  # bytes
RESET = struct.pack('hh' if os.name == 'nt' else 'ii', 1, 0)  # SO_LINGER for 0 s: close with RST


class TcpFaultLink:
    """A TCP link to a server, with faults; an asynchronous context manager. `CuttingLink` is its former name.

    Any number of clients may use `uri` in place of that of the server. Each setting is a number for both directions, or
    a pair ``(to_server, to_client)``. TLS passes through unread.

    Parameters
    ----------
    target : str
        The URI of the server. While it does not listen, connections to the link are aborted.
    segment : int or tuple of (int, int)
        The largest piece, in bytes: the stream is split into pieces of random size up to this one. 0 does not split it.
    delay, jitter : float or tuple of (float, float)
        The delay of each piece, and the longest additional delay, which is random, in seconds.
    corrupt : float or tuple of (float, float)
        The chance of each piece, 0 to 1, to get a wrong bit.
    cut_after : int or tuple of (int, int)
        The number of bytes of each connection after which it breaks. 0 means never.
    abort : bool
        Whether a connection breaks with a reset, as when a computer crashes, or with an orderly end, as when a
        program exits.
    seed : int
        The seed of the random numbers.

    Attributes
    ----------
    counters : PerDirection of Counters
        Counts of the pieces: ``counters.to_server`` and ``counters.to_client``.

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
        self._faults = per_direction(MAXIMA, locals())
        self.target = target
        self.abort = abort
        self.seed = seed
        self.counters = PerDirection(Counters(), Counters())
        self._uri: Uri | None = None
        self._server: Uri
        self._listener: asyncio.Server
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._n_accepted = 0
        self._is_cut = False

    @property
    def uri(self) -> str:
        """str: The URI for clients; a RuntimeError if the link is not open."""
        if self._uri is None:
            raise RuntimeError('The link has no address before it is entered with "async with"')
        return str(self._uri)

    @property
    def n_connections(self) -> int:
        """int: The number of connected clients."""
        return len(self._connections)

    def cut(self) -> None:
        """Break every connection, and each new one, until `mend`."""
        self._is_cut = True
        for writers in self._connections.values():
            self._break(writers)

    def mend(self) -> None:
        """Accept connections again; those that are broken stay broken."""
        self._is_cut = False

    async def __aenter__(self) -> TcpFaultLink:
        _, self._server = await resolve(self.target)
        if self._server.scheme == 'udp':
            raise ValueError(f'A TcpFaultLink carries streams, and {self.target} takes datagrams: use LossyLink')
        host = '::1' if ':' in self._server.host else '127.0.0.1'
        self._listener = await asyncio.start_server(self._accept, host, 0)
        self._uri = Uri(self._server.scheme, *as_address(self._listener.sockets[0].getsockname()))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listener.close()
        tasks = list(self._connections)
        for task in tasks:
            _close(self._connections[task])
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._listener.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        task = asyncio.ensure_future(self._connect(reader, writers, self._n_accepted))
        self._n_accepted += 1
        self._connections[task] = writers
        task.add_done_callback(self._connections.pop)

    async def _connect(self, client: asyncio.StreamReader, writers: list[asyncio.StreamWriter], number: int) -> None:
        """Connect a client with the server, until either end closes or the connection breaks."""
        pumps: list[asyncio.Task[None]] = []
        try:
            if self._is_cut:
                raise ConnectionAbortedError
            server, writer = await asyncio.open_connection(self._server.host, self._server.port)
            writers.append(writer)
            for writer in writers:  # drain() waits for all written bytes: a reset would discard the rest
                writer.transport.set_write_buffer_limits(high=0)
            if self._is_cut:
                raise ConnectionAbortedError
            ends = zip((client, server), reversed(writers), self._faults, self.counters, strict=True)
            for direction, end in enumerate(ends):
                pump = self._pump(*end, seeded_random(self.seed, number, direction))
                pumps.append(asyncio.create_task(pump))
            await asyncio.gather(*pumps)
        except OSError:  # one end is closed, so close the other one
            self._break(writers)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            _close(writers)
            for writer in writers:
                with suppress(OSError):
                    await writer.wait_closed()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        faults: dict[str, Any],
        counters: Counters,
        chances: random.Random,
    ) -> None:
        """Forward one direction of a connection; raise `ConnectionError` where it breaks."""
        left = faults['cut_after'] or inf
        while data := await reader.read(READ_SIZE):
            for piece in _split(data, int(faults['segment']), chances):
                counters.received += 1
                # Even without a delay each piece gets its own loop iteration, so that it arrives alone.
                await asyncio.sleep(faults['delay'] + faults['jitter'] * chances.random())
                if chances.random() < faults['corrupt']:
                    counters.corrupted += 1
                    piece = flip_bit(piece, chances.random())
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

    def _break(self, writers: list[asyncio.StreamWriter]) -> None:
        for writer in writers:
            if self.abort and not writer.is_closing():
                sock = writer.get_extra_info('socket')
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.transport.abort()
        _close(writers)


CuttingLink = TcpFaultLink


def _close(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        if not writer.is_closing():
            writer.close()


def _split(data: bytes, longest: int, chances: random.Random) -> list[bytes]:
    if not longest:
        return [data]
    pieces = []
    while data:
        size = chances.randint(1, longest)
        pieces.append(data[:size])
        data = data[size:]
    return pieces
