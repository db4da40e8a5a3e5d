"""`Endpoint`: the sockets of one communicator, over UDP or TCP, as client or server.

1. Only `close` closes it. A client that loses its TCP connection reconnects until then. A message that was being sent
   fails, and is never sent a second time.
2. The event loop and the connections call it by callables; it does not know the communicator.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

from ..blocked_loop import BlockedLoopWatch
from ..delivery.statistics import Peers
from ..errors import ConnectionClosedError, EchoError
from ..events.notifier import ConnectionEvent, Notifier
from ..security.access import AccessPolicy
from ..security.log_limit import RateLimitedLog
from ..security.redaction import LazyFrame
from ..security.safe_log import SafeLog
from ..transports import tcp, udp
from ..transports.connection import Connection, StreamContext
from ..transports.connection_limits import ConnectionLimiter
from ..transports.local_address import LocalAddressWatch
from ..transports.nats.transport import NatsReports, NatsTransport
from ..transports.nats.transport import open_endpoint as open_nats
from ..transports.reconnect import Reconnector
from ..transports.stream_server import StreamServer
from ..transports.udp_probe import retire
from ..tuning import InternalTuning
from ..uri import Address, Uri, address_text, as_address
from ._pipeline import MessagePipeline
from .addressing import AddressBook
from .connection_check import ConnectionCheck
from .labels import Labels
from .path_finder import PathFinder
from .sender import Sender
from .subject_book import Addresses

__all__ = ['Endpoint']

_CLOSED_HERE = 'Close called on communicator'


class Endpoint:
    """The sockets of one communicator, and the futures that report what happens to them."""

    def __init__(
        self,
        labels: Labels,
        tuning: InternalTuning,
        pipeline: MessagePipeline,
        sender: Sender,
        addresses: Addresses,
        access: AccessPolicy,
        connection_notifier: Notifier[ConnectionEvent],
        log: SafeLog,
        log_limit: RateLimitedLog,
        fail_waiters: Callable[[EchoError], object],
    ) -> None:
        self._labels, self._tuning = labels, tuning
        self._pipeline, self._sender, self._addresses = pipeline, sender, addresses
        self._log, self._log_limit, self._fail_waiters = log, log_limit, fail_waiters
        self._loop = pipeline.loop
        self.has_datagrams = labels.has_datagrams
        self.server: asyncio.Server | StreamServer | None = None
        self.socket: socket.socket | None = None
        self.reconnector: Reconnector | None = None
        self.path_finder: PathFinder | None = None
        self._address_watch: LocalAddressWatch | None = None
        self._blocked_watch = BlockedLoopWatch.of(self._loop)
        self.on_server_moved: Callable[[str], object] = lambda uri: None
        self._connection_notifier = connection_notifier
        self.on_connection_lost: asyncio.Future[BaseException | str | None] = self._loop.create_future()
        self.on_error_received: asyncio.Future[Exception] = self._loop.create_future()
        self.on_eof_received: asyncio.Future[bool] = self._loop.create_future()
        self._closed_future: asyncio.Future[None] = self._loop.create_future()
        self.limiter = ConnectionLimiter(
            *(tuning, self._loop, access.rejections, not labels.is_client, sender.ping_nowait, self._set_paused)
        )
        pipeline.on_write = self.limiter.on_write
        self._connection_check = ConnectionCheck(pipeline, sender, tuning)
        if not self.has_datagrams:
            sender.on_timeout = self._connection_check.start
        pipeline.observer = sender
        pipeline.source_of = addresses.source_of
        pipeline.on_unsigned = access.count_unsigned
        access.on_unsigned = sender.not_signed
        self._context = StreamContext(
            name=labels.name,
            is_server=not labels.is_client,
            tuning=tuning,
            loop=self._loop,
            log=log,
            log_limit=log_limit,
            rejections=access.rejections,
            limits=self.limiter,
            stream_received=pipeline.stream_received,
            peer_connected=self._connected,
            peer_lost=self._disconnected,
            peer_ended=self.eof_received,
            describe=labels.peer,
            admits=access.admits,
            is_closed=lambda: pipeline.closed,
            has_connection=lambda: self.is_connected,
            attempt_failed=self._attempt_failed,
        )

    def _set_paused(self, n: int) -> None:
        self._pipeline.n_paused = n

    def _attempt_failed(self, error: BaseException) -> None:
        self._pipeline.disconnect_error = error

    # --- opening ---

    async def listen(
        self, protocol: asyncio.DatagramProtocol, uri: Uri, kwargs: dict[str, Any], is_own_socket: bool
    ) -> None:
        """Open the socket of a server; one that the program has not made is made again when its address was gone."""
        await self._listen_first(protocol, uri, kwargs, is_own_socket)
        self._blocked_watch.subscribe(self, lambda: self._pipeline.exchange.n_peers > 0, self._log_blocked)

    async def _listen_first(
        self, protocol: asyncio.DatagramProtocol, uri: Uri, kwargs: dict[str, Any], is_own_socket: bool
    ) -> None:
        if uri.scheme == 'nats':
            await self._open_nats(protocol, uri, kwargs)
            return
        if self.has_datagrams:
            await udp.open_endpoint(protocol, uri, kwargs, is_client=False)
            self._address_watch = LocalAddressWatch.of(self._loop, self.socket, self._labels.name, self._log)
            return
        await self._listen(uri, kwargs)
        listen = None
        if is_own_socket:
            kwargs.pop('sock', None)  # it is made again
            listen = partial(self._listen, uri, kwargs)
        self._address_watch = LocalAddressWatch.of(self._loop, self.socket, self._labels.name, self._log, listen)
        self._pipeline.watch_stalls()  # a first connection may have waited while this program stood still

    def _log_blocked(self, seconds: float, stack: str) -> None:
        """Warn that the program has blocked the loop."""
        if self._log_limit.should_log('blocks of the event loop'):
            self._log.warning(
                '%s (%s) was blocked for %.1f s and looked as if it were off: this program blocked its event loop '
                '(use a thread, or await). It was here:\n%s',
                *(self._labels.name, self._labels.server_uri, seconds, stack.rstrip()),
            )

    async def _listen(self, uri: Uri, kwargs: dict[str, Any]) -> None:
        """Listen over TCP, instead of a socket whose address was gone."""
        if self.server is not None:
            self.server.close()
        self.server = await tcp.listen(self._context, uri, **kwargs)
        self.socket = self.server.sockets[0]
        if self._pipeline.closed:
            self.server.close()

    async def connect(
        self,
        protocol: asyncio.DatagramProtocol,
        uris: Sequence[Uri],
        hostname: str,
        lookup: Callable[[], Awaitable[Sequence[Uri]]],
        kwargs: dict[str, Any],
    ) -> None:
        """Open the socket of a client; `lookup` returns the URIs again when a connection was lost."""
        if uris[0].scheme == 'nats':
            await self._open_nats(protocol, uris[0], kwargs)
            return
        if self.has_datagrams:
            kwargs.pop('reconnect', None)  # without connections none is lost
            await udp.open_endpoint(protocol, uris[0], kwargs, is_client=True)
            return
        self.reconnector = await tcp.connect(self._context, uris, hostname, lookup, **kwargs)
        self._pipeline.reconnects = self.reconnector is not None

    async def _open_nats(self, protocol: asyncio.DatagramProtocol, uri: Uri, kwargs: dict[str, Any]) -> None:
        reports = NatsReports(self._peer_error, self._foreign_received, self._broker_lost, self._broker_found)
        await open_nats(protocol, uri, kwargs, reports, is_client=self._labels.is_client)

    def _foreign_received(self, addr: Address, data: bytes) -> None:
        if self._log_limit.should_log('that no echorig program has sent', addr):
            self._log.warning(
                'Ignored %d bytes from the subject %s, no message: %s', len(data), addr[0], LazyFrame(data)
            )

    def _broker_lost(self, error: Exception | None) -> None:
        why = '' if error is None else f': {error}'
        self._log.warning('%s has lost its broker, and reconnects%s', self._labels.server_uri, why)

    def _broker_found(self) -> None:
        self._log.info('%s has its broker again', self._labels.server_uri)

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens."""
        if self._pipeline.closed:
            return False
        if self.server is not None:
            return self.server.is_serving()
        transport = self._pipeline.transport
        return transport is not None and not transport.is_closing()

    def follow_server(
        self,
        protocol: asyncio.DatagramProtocol,
        lookup: Callable[[], Awaitable[Sequence[Uri]]] | None,
        admits: Callable[[str], bool],
    ) -> None:
        """Follow the server of a UDP client when the way to it changes; see `PathFinder`."""

        async def reconnect(addr: Address) -> None:
            former = self._pipeline.transport
            try:
                await udp.connect(protocol, Uri('udp', *addr))
            finally:
                if former is not None and self._pipeline.transport is not former:
                    retire(former)
            if self._pipeline.closed and self._pipeline.transport is not None:
                self._pipeline.transport.close()

        addresses = self._addresses
        assert isinstance(addresses, AddressBook)  # nothing is looked up over NATS
        self.path_finder = PathFinder(*(self._pipeline, self._sender, addresses, self._log, lookup, admits, reconnect))

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Use a transport that was opened."""
        sock = transport.get_extra_info('socket')
        kind = getattr(sock, 'type', None)
        if isinstance(transport, NatsTransport):
            self._pipeline.set_longest(transport.max_size)
        elif kind != (socket.SOCK_DGRAM if self.has_datagrams else socket.SOCK_STREAM):
            raise RuntimeError(f'Unsupported transport layer for {self._labels.server_uri}: socket type {kind}')
        self._pipeline.transport = transport
        self._pipeline.watch_stalls()
        if self.server is None:
            self.socket = sock
        if self._labels.is_client and (peername := transport.get_extra_info('peername')):
            # The system replaces 0.0.0.0 by an address of this computer, and the name of a scope by its number.
            before, server = self._addresses.server, as_address(peername)
            self._addresses.move_server(server)
            if _is_other(before[0], server[0]):
                self._labels.server_uri = address_text(self._labels.protocol, server)
                self._pipeline.exchange.inherit(before, server)
                self.on_server_moved(self._labels.server_uri)
        self._log.debug('Connected with socket %s', sock)

    def data_received(self, data: bytes) -> None:
        """Receive bytes of the newest TCP connection."""
        for connection in reversed(self._pipeline.connections.values()):
            connection.data_received(data)
            return

    def error_received(self, exc: Exception) -> None:
        """Handle an error that the system reports for an earlier datagram."""
        self._peer_error(self._addresses.server if self._labels.is_client else self._pipeline.current_addr, exc)

    def _peer_error(self, addr: Address | None, exc: Exception) -> None:
        if self._is_new_error(exc, addr):
            who = f'{self._labels.name} ({self._labels.server_uri})' if addr is None else self._labels.peer(addr)
            self._log.error('Error received: %s: %s', exc, who)
        if not self.on_error_received.done():
            self.on_error_received.set_result(exc)
        if addr is not None and isinstance(exc, OSError):
            self._sender.system_error(addr, exc)
            self._loop.call_soon(self._pipeline.flush)  # this may be called within a flush
            if self.path_finder is not None:
                self.path_finder.on_error(exc)

    def _is_new_error(self, exc: Exception, addr: Address | None) -> bool:
        """Return whether to log an error; that a peer refuses is logged once for each time that it was away."""
        if addr is None or not isinstance(exc, ConnectionRefusedError):
            return self._log_limit.should_log('errors of the system', addr)
        peer = Peers(self._pipeline.exchange).get(addr)
        return self._log_limit.should_log_once('refused messages', (addr, peer and peer.last_seen))

    def eof_received(self) -> None:
        """Note that a TCP peer has ended its side of the connection; the connection closes."""
        self._log.debug('EOF received')
        if not self.on_eof_received.done():
            self.on_eof_received.set_result(True)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Handle the loss of the transport of a client, or of a server over UDP."""
        pipeline = self._pipeline
        self._log.info('Connection closed')
        pipeline.lost_transport = True
        pipeline.disconnect_error = exc
        if not pipeline.closed:
            self._sender.lost(self._addresses.server, exc)
            why = f': {exc}' if exc else ''
            who = f'{self._labels.name} ({self._labels.server_uri})'
            self._fail_waiters(ConnectionClosedError(f'{who} lost its connection{why}'))
        if not self.on_connection_lost.done():
            self.on_connection_lost.set_result(exc)
        if not pipeline.closed and not self.has_datagrams:
            if self.reconnector is not None:
                self.reconnector.start()
            self._connection_notifier.notify(ConnectionEvent('lost', self._addresses.server, exc))
        self._check_closed()

    # --- TCP connections ---

    def _connected(self, connection: Connection) -> None:
        """Register a new TCP connection."""
        pipeline, transport = self._pipeline, connection.transport
        is_refused = pipeline.closed or not self.limiter.register(connection, connection.splitter)
        if is_refused or transport is None:
            connection.abort()
            connection.transport = None  # it was never reported, so its end must not be
            return
        if pipeline.lost_transport and pipeline.transport is not None:
            pipeline.transport.close()  # some loops need that, although the transport is lost
        self.connection_made(transport)
        if self._labels.is_client:
            connection.addr = self._addresses.server  # the same object, which is quicker to look up
        pipeline.connections[connection.addr] = connection
        if pipeline.lost_transport:  # the connection of a client that has reconnected
            pipeline.lost_transport = False
            self.on_connection_lost = self._loop.create_future()
            if self.on_eof_received.done():
                self.on_eof_received = self._loop.create_future()
        self._connection_notifier.notify(ConnectionEvent('connected', connection.addr))

    def _disconnected(self, connection: Connection, exc: BaseException | None) -> None:
        """Handle the loss of a TCP connection."""
        if self._pipeline.connections.get(connection.addr) is connection:
            del self._pipeline.connections[connection.addr]
        if self._labels.is_client:
            self.connection_lost(exc)
            return
        self._log.info('Connection with %s:%s closed', *connection.addr)
        self._sender.lost(connection.addr, exc)
        if not self._pipeline.closed:
            self._connection_notifier.notify(ConnectionEvent('lost', connection.addr, exc))
        self._check_closed()

    # --- closing ---

    def close_sockets(self) -> None:
        """Close all sockets."""
        self._blocked_watch.unsubscribe(self)
        if self.reconnector is not None:
            self.reconnector.stop()
        if self.path_finder is not None:
            self.path_finder.close()
        if self._address_watch is not None:
            self._address_watch.close()
        if self.server is not None:
            self.server.close()
        for connection in list(self._pipeline.connections.values()):
            connection.close()
        self.limiter.close()
        self._connection_check.close()
        if self._pipeline.transport is not None:
            self._pipeline.transport.close()

    def close_without_loop(self) -> None:
        """Free the ports after the loop was closed, which its transports cannot do any more."""
        self._blocked_watch.unsubscribe(self)
        transports: list[Any] = [
            self._pipeline.transport,
            *(own.transport for own in self._pipeline.connections.values()),
        ]
        sockets = [transport.get_extra_info('socket') for transport in transports if transport is not None]
        for transport in filter(None, transports):
            with suppress(RuntimeError):  # the loop is closed
                transport.abort()
        for sock in (*sockets, *(self.server.sockets if self.server is not None else ())):
            plain = getattr(sock, '_sock', None)  # asyncio.trsock.TransportSocket cannot be closed itself
            if plain is not None:  # uvloop has closed its sockets with the loop
                plain.close()

    def end(self) -> None:
        """Resolve the futures that report the end."""
        self._connection_notifier.close(self._labels.closed())
        for future in (self.on_error_received, self.on_eof_received):
            future.cancel(_CLOSED_HERE)
        if not self.on_connection_lost.done():
            self.on_connection_lost.set_result(_CLOSED_HERE)
        if not self.has_datagrams or self._pipeline.transport is None:
            self._check_closed()

    async def wait_closed(self) -> None:
        """Wait until the sockets are closed."""
        await asyncio.shield(self._closed_future)
        if self.reconnector is not None:
            await self.reconnector.stopped()
        if self.server is not None:
            # Some loops wait here for connections that never finished the handshake.
            closing = asyncio.ensure_future(self.server.wait_closed())
            await asyncio.wait({closing}, timeout=self._tuning.close_grace)
            closing.cancel()

    def _check_closed(self) -> None:
        """Resolve the future that `wait_closed` waits for, if all sockets are closed."""
        is_over = self._pipeline.closed or (self._labels.is_client and self.reconnector is None)
        if is_over and not self._closed_future.done() and not self._pipeline.connections:
            self._closed_future.set_result(None)


def _is_other(before: str, now: str) -> bool:
    """Return whether an address of a server is another one; all addresses stand for any of this computer."""
    former, present = (ip_address(host.partition('%')[0]) for host in (before, now))
    return former != present and not former.is_unspecified
