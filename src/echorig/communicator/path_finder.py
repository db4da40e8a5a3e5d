"""`PathFinder`: keeps a UDP client connected to its server when the way there changes.

1. After an error of the system on sending, the client gets a new socket. Nothing is sent for that.
2. When the server is silent while a message waits, its name is looked up again, and each of its addresses is pinged
   from a socket of its own. The first address from which a valid echo arrives is used from then on.
3. The present address is tried from an unconnected socket, so that an echo from another address of the server is
   received. Retransmissions to an echorig server are sent by that socket too: their numbers show the duplicates.
4. A legacy server is not pinged. After an error, or after a message that was not echoed, its name is looked up. If the
   name does not lead to the present address any more, the new address is used.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

from ..delivery._peer import Send
from ..security.safe_log import SafeLog
from ..stall import sleep, wait_for
from ..transports.udp_probe import UdpProbe
from ..uri import Address, Uri, as_address
from ..wire._tags import is_ping, read_tag
from ._pipeline import MessagePipeline
from .addressing import AddressBook
from .sender import Sender

__all__ = ['PathFinder']

_SILENCE = 0.25  # seconds without any frame before other addresses are tried
_SAME_ADDRESS_SILENCE = 0.5  # seconds before the present address is tried from another socket
_FIRST_ROUND, _LONGEST_ROUND = 0.25, 2.0  # seconds for which new sockets wait for an echo
_GRACE = 0.1  # seconds after the echo on another socket, in which the present one may receive it too
_CHECK_INTERVAL = 0.05  # seconds
_RENEWAL_INTERVAL = 0.1  # seconds between two attempts to get a new socket
_LOOKUP_TIMEOUT = 5.0  # seconds
_REFUSAL_MEMORY = 1.0  # seconds for which all addresses count as refused

_PATH_ERRORS = {
    getattr(errno, name)
    for name in (
        *('ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL', 'EINVAL', 'ENETDOWN', 'ENETRESET', 'EHOSTDOWN', 'ENODEV'),
        *('WSAENETUNREACH', 'WSAEHOSTUNREACH', 'WSAEADDRNOTAVAIL', 'WSAEINVAL', 'WSAENETDOWN', 'WSAENETRESET'),
    )
    if hasattr(errno, name)
}


class PathFinder:
    """Finds the server of one UDP client.

    `lookup` returns the URIs of the server's name; it is None if the server was given by its address. `admits`
    returns whether the client may talk to a host. `reconnect` replaces the socket of the client by one that is
    connected to an address; it raises OSError if there is no way.
    """

    def __init__(
        self,
        pipeline: MessagePipeline,
        sender: Sender,
        addresses: AddressBook,
        log: SafeLog,
        lookup: Callable[[], Awaitable[Sequence[Uri]]] | None,
        admits: Callable[[str], bool],
        reconnect: Callable[[Address], Awaitable[None]],
    ) -> None:
        self._pipeline, self._exchange, self._sender = pipeline, pipeline.exchange, sender
        self._addresses, self._log = addresses, log
        self._lookup, self._admits, self._reconnect = lookup, admits, reconnect
        self._search: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._lookup_task: asyncio.Task[list[str]] | None = None
        self._probes: dict[Address, UdpProbe] = {}  # by the address that they try
        self._pings: list[Send] = []
        self._found: asyncio.Future[Address] | None = None  # of the present round
        self._held: list[tuple[bytes, Address]] | None = None  # frames that wait for the socket to the found address
        self._n_probed = self._n_before = 0  # frames received by probes; frames received otherwise, before this round
        self._is_refused = False  # the present address, from which nothing was ever received
        self._refused_until = 0.0
        self.tried: list[str] = []  # the addresses of the last search without success
        pipeline.on_alarm = self._check
        sender.on_timeout = self._on_timeout
        sender.defers_refusal = self._defers_refusal
        sender.addresses_tried = lambda: self.tried

    def close(self) -> None:
        """Stop."""
        self._pipeline.on_alarm = None
        for task in (self._search, self._renewal, self._lookup_task):
            if task is not None:
                task.cancel()
        self._end_round()

    # --- signals ---

    def _check(self) -> None:
        """Start a search if the server is silent while something waits for it."""
        if self._search is None and self._silence() >= _SILENCE:
            self._start_search()

    def on_error(self, error: OSError) -> None:
        """Get a new socket if the system has reported that there is no way by the present one."""
        if error.errno in _PATH_ERRORS or getattr(error, 'winerror', None) in _PATH_ERRORS:
            self._start_renewal()

    def _on_timeout(self, addr: Address) -> None:
        """Look the name of a legacy server up after a message that was not echoed."""
        if self._lookup is not None and self._exchange.kind(addr) == 'legacy':
            self._start_renewal(only_if_moved=True)

    def _defers_refusal(self, addr: Address) -> bool:
        """Return whether other addresses are tried before a refusal counts: none was ever received from."""
        if self._lookup is None or addr != self._addresses.server or self._exchange.was_seen(addr):
            return False
        if monotonic() < self._refused_until or self._pipeline.closed:
            return False
        self._is_refused = True
        if self._search is None:
            self._start_search()
        return True

    def _silence(self) -> float:
        return self._exchange.silence(self._addresses.server, monotonic())

    def _is_wanted(self) -> bool:
        """Return whether a search goes on."""
        if self._pipeline.closed or not self._exchange.is_waiting(self._addresses.server):
            return False
        return self._is_refused or self._silence() > 0.0

    # --- a new socket after an error ---

    def _start_renewal(self, only_if_moved: bool = False) -> None:
        if self._renewal is None and not self._pipeline.closed:
            self._renewal = self._pipeline.loop.create_task(self._renew(only_if_moved))
            self._renewal.add_done_callback(self._on_renewed)

    def _on_renewed(self, task: asyncio.Task[None]) -> None:
        self._renewal = None
        self._log_failure(task)

    async def _renew(self, only_if_moved: bool) -> None:
        addr = self._addresses.server
        if self._lookup is not None and self._exchange.kind(addr) == 'legacy':
            hosts = await self._hosts()
            if addr[0] not in hosts:
                addr = next(((host, addr[1]) for host in hosts if self._admits(host)), addr)
        if addr != self._addresses.server or not only_if_moved:
            await self._use(addr)
        await asyncio.sleep(_RENEWAL_INTERVAL)

    async def _use(self, addr: Address) -> bool:
        """Replace the socket and the address, and send the unconfirmed messages again; return whether that worked."""
        before = self._addresses.server
        await self._sleep(0.0)
        try:
            await self._reconnect(addr)
        except OSError as ex:
            self._log.debug('There is no way to %s:%s now: %s', *addr, ex)
            return False
        if self._pipeline.closed:
            return False
        if addr != before:
            self._log.warning('The server at %s:%s is now reached at %s:%s', *before, *addr)
            self._exchange.relocate(before, addr, monotonic())
            if self._pipeline.signer is not None:
                self._pipeline.signer.abandon(before)
        else:
            self._log.info('The way to %s:%s has changed: using a new socket', *addr)
        self._exchange.hasten(addr, monotonic())
        self._pipeline.flush()
        return True

    # --- a search while the server is silent ---

    def _start_search(self) -> None:
        if not self._pipeline.closed:
            self._search = self._pipeline.loop.create_task(self._run_search())
            self._search.add_done_callback(self._on_searched)

    def _on_searched(self, task: asyncio.Task[None]) -> None:
        self._search = None
        self._log_failure(task)

    def _log_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._log.error('Looking for the server failed: %r', task.exception())

    async def _run_search(self) -> None:
        length = _FIRST_ROUND
        self.tried = [self._addresses.server[0]]
        while self._is_wanted():
            try:
                addr = await self._round(length)
                if addr == self._addresses.server and await self._hears_again():
                    break
                is_found = addr is not None and await self._use(addr)
            finally:
                self._end_round()
            if is_found:
                self.tried = []
                break
            if self._is_refused:
                self._report_refusal()
            length = min(2 * length, _LONGEST_ROUND)
        self._is_refused = False
        server = self._addresses.server
        if not self._pipeline.closed and self._exchange.kind(server) == 'echorig' and not self._silence():
            self._sender.ping_nowait(server, 1.0)  # the server sends to the socket of the newest number

    async def _hears_again(self) -> bool:
        """Return whether the present socket receives too, soon after the other one: the link is only slow."""
        await self._sleep(_GRACE)
        return self._exchange.n_received - self._n_probed != self._n_before

    async def _sleep(self, delay: float) -> None:
        """Wait, and until all that the sockets received by then is read: a socket that is closed may have an echo."""
        await sleep(delay, lambda: self._exchange.n_received)

    def _report_refusal(self) -> None:
        """End the sends to a server that refuses them at every address."""
        self._is_refused = False
        self._refused_until = monotonic() + _REFUSAL_MEMORY
        self._exchange.on_refused(self._addresses.server, monotonic())
        self._pipeline.flush()

    async def _round(self, length: float) -> Address | None:
        """Try all addresses for a time; return the one that has echoed, or None."""
        loop = self._pipeline.loop
        self._found = loop.create_future()
        self._n_before = self._exchange.n_received - self._n_probed
        end = loop.time() + length
        lookup = self._start_lookup()
        while loop.time() < end and not self._found.done() and self._is_wanted():
            if self._silence() >= _SAME_ADDRESS_SILENCE and self._addresses.server not in self._probes:
                await self._probe(self._addresses.server, length)
            if lookup is not None and lookup.done():
                for host in [] if lookup.cancelled() or lookup.exception() else lookup.result():
                    if host != self._addresses.server[0] and self._admits(host):
                        await self._probe((host, self._addresses.server[1]), length)
                lookup = None
            if self._is_refused and lookup is None and all(ping.future.done() for ping in self._pings):
                break
            waited_for = {self._found, *(ping.future for ping in self._pings if not ping.future.done())}
            if lookup is not None:
                waited_for.add(lookup)
            await asyncio.wait(waited_for, timeout=_CHECK_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
        await self._sleep(0.0)
        return self._found.result() if self._found.done() else None

    def _start_lookup(self) -> asyncio.Task[list[str]] | None:
        """Return the look-up of the name that runs, or a new one; None without a name."""
        if self._lookup is None:
            return None
        if self._lookup_task is None or self._lookup_task.done():
            self._lookup_task = self._pipeline.loop.create_task(self._hosts())
        return self._lookup_task

    async def _hosts(self) -> list[str]:
        """Return the addresses of the server's name; none if it does not resolve."""
        assert self._lookup is not None
        try:
            return [uri.host for uri in await wait_for(self._lookup(), _LOOKUP_TIMEOUT)]
        except (OSError, ValueError, asyncio.TimeoutError) as ex:
            self._log.debug('The name of the server does not resolve now: %s', ex)
            return []

    async def _probe(self, addr: Address, timeout: float) -> None:
        """Try an address from a new socket."""
        is_same = addr == self._addresses.server
        probe = UdpProbe(addr, self._on_datagram, self._on_error)
        self._probes[addr] = probe
        if addr[0] not in self.tried:
            self.tried.append(addr[0])
        try:
            await probe.open(connected=not is_same)
        except OSError as ex:
            self._log.debug('There is no way to %s:%s now: %s', *addr, ex)
            return
        self._pipeline.route = self._route
        if is_same:
            self._exchange.hasten(addr, monotonic())
        else:
            ping = self._exchange.ping(addr, self._pipeline.loop.create_future(), monotonic(), timeout, anew=True)
            ping.future.add_done_callback(lambda future: future.cancelled() or future.exception())
            self._pings.append(ping)
        self._pipeline.flush()

    def _end_round(self) -> None:
        """Close the sockets of a round, and forget the addresses that were not found."""
        self._pipeline.route, held, self._held = None, self._held, None
        for frame, _ in held or ():
            self._transmit(frame)
        for ping in self._pings:
            self._sender.cancel(ping)
        self._pings.clear()
        for addr, probe in self._probes.items():
            probe.close()
            if addr != self._addresses.server and self._exchange.current_addr(addr) == addr:
                self._exchange.disconnect(addr, monotonic())
        self._probes.clear()

    # --- frames during a search ---

    def _route(self, frame: bytes, addr: Address) -> None:
        """Send a frame by the sockets that lead to its address."""
        if self._held is not None:
            self._held.append((frame, addr))
            return
        probe, server = self._probes.get(addr), self._addresses.server
        if addr == server:
            self._transmit(frame)
            if probe is None or not (self._exchange.kind(server) == 'echorig' or is_ping(frame)):
                return
        if probe is not None:
            probe.send(frame)

    def _transmit(self, frame: bytes) -> None:
        """Send a frame by the socket of the client."""
        transport = self._pipeline.transport
        if transport is not None and not transport.is_closing():
            transport.sendto(frame)  # type: ignore[attr-defined]

    def _on_datagram(self, probe: UdpProbe, data: bytes, sender: Any) -> None:
        """Receive a datagram; the address that it is from is found if it is a valid echo of a frame of ours."""
        source = as_address(sender)
        if self._pipeline.closed or probe.transport is None:
            return
        if source != probe.addr:
            # Another address of the same server, or a stranger, of whom no message is received.
            tag = read_tag(data)
            if source[1] != probe.addr[1] or tag is None or tag[1] != self._exchange.run or not self._admits(source[0]):
                return
        wanted = self._is_wanted()
        if self._held is None:
            self._held = []  # what is sent now may be lost at the present address, and a legacy server gets it once
        n_received = self._exchange.n_received
        is_echo = self._pipeline.receive_from(probe.transport, data, probe.addr)
        self._n_probed += self._exchange.n_received - n_received
        if self._found is None or self._found.done():
            return
        if is_echo and wanted:
            self._found.set_result(source)
        else:
            held, self._held = self._held, None
            for frame, addr in held:
                self._route(frame, addr)

    def _on_error(self, probe: UdpProbe, error: Exception) -> None:
        if isinstance(error, OSError) and probe.addr != self._addresses.server:
            self._sender.system_error(probe.addr, error)
            self._pipeline.loop.call_soon(self._pipeline.flush)
