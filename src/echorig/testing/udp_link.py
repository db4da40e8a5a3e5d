"""`LossyLink`: a UDP link between clients and a server, with the faults of a bad network.

1. Each client has its own socket towards the server, so the server can tell the clients apart.
2. Each client has its own random numbers, from the seed and its place in the order of arrival: the faults of one
   client do not depend on the traffic of others.
3. Delays keep the order of the datagrams of one client; only `reorder` changes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from ..resolver import resolve
from ..transports import sockets
from ..transports.delegating import open_datagrams
from ..uri import Address, Uri, as_address
from .faults import Counters, PerDirection, per_direction, seeded_random
from .link_direction import CHANCES, LinkDirection

__all__ = ['LossyLink']

MAXIMA = {**dict.fromkeys(CHANCES, 1.0), 'delay': inf, 'jitter': inf, 'hold': inf}


class LossyLink:
    """A UDP link to a server, with faults; an asynchronous context manager.

    Any number of clients may use `uri` in place of that of the server. Each setting is a number for both directions, or
    a pair ``(to_server, to_client)``. Chances are from 0 to 1, for each single datagram.

    Parameters
    ----------
    target : str
        The URI of the server, which may start, stop and start again meanwhile.
    loss, duplicate, truncate, corrupt : float or tuple of (float, float)
        The chances to be dropped, to arrive twice, to be shortened and to get a wrong bit. (On a real network the
        checksum of UDP detects nearly all wrong bits.)
    reorder : float or tuple of (float, float)
        The chance to be held back until the next datagram of the same client and direction has passed.
    delay, jitter : float or tuple of (float, float)
        The delay of each datagram, and the longest additional delay, which is random, in seconds.
    hold : float or tuple of (float, float)
        The longest time to hold a datagram back for reordering, in seconds.
    seed : int
        The seed of the random numbers: the same seed and traffic give the same faults.

    Attributes
    ----------
    counters : PerDirection of Counters
        Counts of the datagrams: ``counters.to_server`` and ``counters.to_client``.

    Raises
    ------
    TypeError, ValueError
        A setting is no number, or out of its range.
    """

    def __init__(
        self,
        target: str,
        *,
        loss: float | tuple[float, float] = 0.0,
        duplicate: float | tuple[float, float] = 0.0,
        reorder: float | tuple[float, float] = 0.0,
        truncate: float | tuple[float, float] = 0.0,
        corrupt: float | tuple[float, float] = 0.0,
        delay: float | tuple[float, float] = 0.0,
        jitter: float | tuple[float, float] = 0.0,
        hold: float | tuple[float, float] = 0.02,
        seed: int = 0,
    ) -> None:
        self._faults = per_direction(MAXIMA, locals())
        self.target = target
        self.seed = seed
        self.counters = PerDirection(Counters(), Counters())
        self._uri: Uri | None = None
        self._server: Uri
        self._socket = _Socket(self._receive)
        self._upstream: list[_Socket] = []  # one for each client
        self._opening: list[asyncio.Task[None]] = []
        self._clients: dict[Address, PerDirection[LinkDirection]] = {}
        self._is_cut = PerDirection(False, False)

    @property
    def uri(self) -> str:
        """str: The URI for clients; a RuntimeError if the link is not open."""
        if self._uri is None:
            raise RuntimeError('The link has no address before it is entered with "async with"')
        return str(self._uri)

    def cut(self, to_server: bool = True, to_client: bool = True) -> None:
        """Drop all datagrams, also those that are delayed, until `mend`.

        Parameters
        ----------
        to_server, to_client : bool
            Whether to cut this direction.
        """
        self._set_cut(self._is_cut.to_server or to_server, self._is_cut.to_client or to_client)

    def mend(self) -> None:
        """Forward datagrams again, in both directions."""
        self._set_cut(False, False)

    def _set_cut(self, to_server: bool, to_client: bool) -> None:
        self._is_cut = PerDirection(to_server, to_client)
        for client in self._clients.values():
            _cut(client, self._is_cut)

    async def __aenter__(self) -> LossyLink:
        _, self._server = await resolve(self.target)
        if self._server.scheme != 'udp':
            raise ValueError(f'A LossyLink carries datagrams, and {self.target} is a stream: use TcpFaultLink')
        options: dict[str, Any] = {}
        sockets.bind_socket(Uri('udp', '::1' if ':' in self._server.host else '127.0.0.1', 0), options)
        self._uri = Uri('udp', *as_address(options['sock'].getsockname()))
        await self._socket.open(options)
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.gather(*self._opening, return_exceptions=True)
        for client in self._clients.values():
            _cut(client, PerDirection(True, True))
        for socket in (self._socket, *self._upstream):
            socket.close()
        await asyncio.sleep(0)  # the loop closes the sockets of closed transports in its next iteration

    def _receive(self, data: bytes, addr: Address) -> None:
        if addr not in self._clients:
            self._clients[addr] = self._new_client(addr)
        self._clients[addr].to_server.receive(data)

    def _new_client(self, addr: Address) -> PerDirection[LinkDirection]:
        faults, counters, number = self._faults, self.counters, len(self._clients)
        chances = seeded_random(self.seed, number, 1)
        send_back = partial(self._socket.send, addr=addr)
        to_client = LinkDirection(send_back, faults.to_client, counters.to_client, chances)
        upstream = _Socket(lambda data, _: to_client.receive(data))
        chances = seeded_random(self.seed, number, 0)
        to_server = LinkDirection(upstream.send, faults.to_server, counters.to_server, chances)
        options: dict[str, Any] = {}
        sockets.connect_socket(self._server, options)
        self._upstream.append(upstream)
        self._opening.append(asyncio.get_running_loop().create_task(upstream.open(options)))
        client = PerDirection(to_server, to_client)
        _cut(client, self._is_cut)
        return client


def _cut(client: PerDirection[LinkDirection], is_cut: PerDirection[bool]) -> None:
    client.to_server.is_cut, client.to_client.is_cut = is_cut
    for direction in client:
        if direction.is_cut:
            direction.clear()


class _Socket(asyncio.DatagramProtocol):
    """A UDP socket, which keeps datagrams until it is open; it ignores errors, because the other end may be missing."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive
        self._transport: Any = None
        self._unsent: list[tuple[bytes, Address | None]] = []

    async def open(self, options: dict[str, Any]) -> None:
        await open_datagrams(self, options['sock'])

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        for datagram in self._unsent:
            transport.sendto(*datagram)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._receive(data, addr)

    def send(self, data: bytes, addr: Address | None = None) -> None:
        if self._transport is None:
            self._unsent.append((data, addr))
        elif not self._transport.is_closing():
            self._transport.sendto(data, addr)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
