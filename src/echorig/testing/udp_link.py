"""`LossyLink`: a UDP link between clients and a server that treats datagrams as a bad network does.

1. Each client has a socket of its own towards the server, so the server can tell clients apart and speak to them.
2. Each client has its own chances, from the seed and its place in the order of arrival: what one client's datagrams
   suffer does not depend on when those of others come.
3. Delays keep the order of one client's datagrams; only what is picked for reordering is overtaken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..resolver import resolve
from ..transports import sockets
from ..uri import Address, Uri, as_address
from .faults import Counters, Rule, Ways, dice, each_way
from .link_direction import Lane

__all__ = ['LossyLink']

RULES = [
    *(Rule(name, 1.0) for name in ('loss', 'duplicate', 'reorder', 'truncate', 'corrupt')),
    *(Rule(name) for name in ('delay', 'jitter', 'hold')),
]


class LossyLink:
    """A UDP link to a server, with faults; an asynchronous context manager.

    Any number of clients may use `uri` in place of the server's. Each setting is a number, or a pair of them:
    for what goes to the server, and for what comes back. Chances are those of each single datagram, 0 to 1.

    Parameters
    ----------
    target : str
        The URI of the server, which need not be there yet and may come and go.
    loss : float or tuple of (float, float)
        The chance to be dropped.
    duplicate : float or tuple of (float, float)
        The chance to arrive twice.
    reorder : float or tuple of (float, float)
        The chance to be held back until the next datagram of the same client and way has passed.
    truncate : float or tuple of (float, float)
        The chance to lose its end.
    corrupt : float or tuple of (float, float)
        The chance to get a wrong bit. (On a real network the checksum of UDP catches nearly all of these.)
    delay : float or tuple of (float, float)
        How long each takes, in seconds.
    jitter : float or tuple of (float, float)
        How much longer it takes at most, by chance, in seconds.
    hold : float or tuple of (float, float)
        The longest time to hold one back for reordering, in seconds.
    seed : int
        What the chances are drawn from: the same seed and traffic give the same faults.

    Attributes
    ----------
    counters : Ways of Counters
        What has happened so far, ``counters.there`` and ``counters.back``.

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
        given = locals()
        self.target = target
        self.seed = seed
        self.counters: Ways[Counters] = Ways(Counters(), Counters())
        self._faults = each_way(RULES, given)
        self._uri: Uri | None = None
        self._server: Uri | None = None
        self._clients: dict[Address, _Client] = {}
        self._is_cut = Ways(False, False)
        self._front: asyncio.DatagramTransport | None = None

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

    def cut(self, there: bool = True, back: bool = True) -> None:
        """Unplug the cable: what comes in, and what is under way, is dropped until `mend`.

        Parameters
        ----------
        there, back : bool
            Whether to cut the way to the server, and the way back.
        """
        self._set_cut(self._is_cut.there or there, self._is_cut.back or back)

    def mend(self) -> None:
        """Plug the cable in again, both ways."""
        self._set_cut(False, False)

    def _set_cut(self, *cuts: bool) -> None:
        self._is_cut = Ways(*cuts)
        for client in self._clients.values():
            for lane, cut in zip(client.lanes, self._is_cut, strict=True):
                lane.is_cut = cut
                if cut:
                    lane.clear()

    async def __aenter__(self) -> LossyLink:
        _, self._server = await resolve(self.target)
        if self._server.scheme != 'udp':
            raise ValueError(f'A LossyLink carries datagrams, and {self.target} is a stream: use CuttingLink')
        here = Uri('udp', '::1' if ':' in self._server.host else '127.0.0.1', 0)
        options: dict[str, Any] = {}
        sock = sockets.bound(here, options)
        assert sock is not None
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(lambda: _Ear(self._from_client), **options)
        self._uri = Uri('udp', *as_address(sock.getsockname()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._front is not None:
            self._front.close()
        openings = [client.close() for client in self._clients.values()]
        await asyncio.gather(*openings, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes the sockets of closed transports in its next turn

    def _from_client(self, data: bytes, addr: Address) -> None:
        client = self._clients.get(addr)
        if client is None:
            client = self._clients[addr] = _Client(self, addr, len(self._clients))
        client.lanes.there.take(data)


class _Ear(asyncio.DatagramProtocol):
    """Hands on what a socket hears; nobody being there is an ordinary thing on a bad network."""

    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data, addr)

    def error_received(self, exc: Exception) -> None:
        pass


class _Client:
    """One client of a link, and its socket towards the server."""

    def __init__(self, link: LossyLink, addr: Address, number: int) -> None:
        self._link = link
        self._addr = addr
        self._upstream: asyncio.DatagramTransport | None = None
        self._early: list[bytes] = []  # until the socket is there
        self.lanes = Ways(
            Lane(self._to_server, link._faults.there, link.counters.there, dice(link.seed, number, 0)),
            Lane(self._to_client, link._faults.back, link.counters.back, dice(link.seed, number, 1)),
        )
        for lane, cut in zip(self.lanes, link._is_cut, strict=True):
            lane.is_cut = cut
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        assert self._link._server is not None
        options: dict[str, Any] = {}
        sockets.connected(self._link._server, options)
        upstream, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Ear(lambda data, _: self.lanes.back.take(data)), **options
        )
        self._upstream = upstream
        for data in self._early:
            self._upstream.sendto(data)
        self._early.clear()

    def _to_server(self, data: bytes) -> None:
        if self._upstream is None:
            self._early.append(data)
        elif not self._upstream.is_closing():
            self._upstream.sendto(data)

    def _to_client(self, data: bytes) -> None:
        if self._link._front is not None and not self._link._front.is_closing():
            self._link._front.sendto(data, self._addr)

    async def close(self) -> None:
        for lane in self.lanes:
            lane.clear()
        await self._opening
        if self._upstream is not None:
            self._upstream.close()
