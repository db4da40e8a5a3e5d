"""`Endpoint`: the sockets of one communicator, over UDP or TCP, as client or server.

1. Only `close` closes it. A client that loses its TCP connection looks for its server until then; a message that was
   on its way fails, and is never sent a second time.
2. It calls the event loop's and the connections' user by callables, and knows no communicator.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from ..errors import ConnectionClosedError, EchoError
from ..events.notifier import Changes, ConnectionChange
from ..security.access import AccessPolicy
from ..security.log_limit import LogLimit
from ..security.safe_log import SafeLog
from ..transports import tcp, udp
from ..transports.connection import Connection, StreamContext
from ..transports.connection_limits import ConnectionLimiter
from ..transports.interfaces import ConnectionUser
from ..transports.reconnect import Reconnector
from ..tuning import InternalTuning
from ..uri import Uri, as_address
from ._pipeline import MessagePipeline
from .addressing import AddressBook
from .labels import Labels
from .sender import Sender

__all__ = ['Endpoint']

_CLOSED_HERE = 'Close called on communicator'


class Endpoint:
    """The sockets of one communicator.

    Parameters
    ----------
    labels : Labels
        The names of the communicator and its peers.
    tuning : InternalTuning
        The limits.
    pipeline, sender : MessagePipeline, Sender
        Take what is received, and what is lost.
    addresses, access : AddressBook, AccessPolicy
        The addresses of peers, and who may connect.
    changes : Changes
        Reports the connections that are made and lost.
    log, log_limit : SafeLog, LogLimit
        Where it logs.
    fail_waiters : callable
        Ends the coroutines that wait for messages, with an error.

    Attributes
    ----------
    server : asyncio.Server or None
        The listening server, over TCP.
    socket : socket.socket or None
        The socket of the server or the client.
    limiter : ConnectionLimiter
        The limits on TCP connections.
    reconnector : Reconnector or None
        Connects a client again.
    on_connection_lost, on_error_received, on_eof_received : asyncio.Future
        As documented for `EchoProtocol`.
    """

    def __init__(
        self,
        labels: Labels,
        tuning: InternalTuning,
        pipeline: MessagePipeline,
        sender: Sender,
        addresses: AddressBook,
        access: AccessPolicy,
        changes: Changes[ConnectionChange],
        log: SafeLog,
        log_limit: LogLimit,
        fail_waiters: Callable[[EchoError], Any],
    ) -> None:
        self._labels, self._tuning = labels, tuning
        self._pipeline, self._sender, self._addresses = pipeline, sender, addresses
        self._log, self._log_limit, self._fail_waiters = log, log_limit, fail_waiters
        self._loop = pipeline.loop
        self.is_udp = labels.protocol == 'udp'
        self.server: asyncio.Server | None = None
        self.socket: Any = None
        self.reconnector: Reconnector | None = None
        self._changes = changes
        self.on_connection_lost: asyncio.Future[Any] = self._loop.create_future()
        self.on_error_received: asyncio.Future[Exception] = self._loop.create_future()
        self.on_eof_received: asyncio.Future[bool] = self._loop.create_future()
        self._closed_future: asyncio.Future[None] = self._loop.create_future()
        self.limiter = ConnectionLimiter(
            *(tuning, self._loop, access.rejections, not labels.is_client, sender.ping_nowait, self._set_paused)
        )
        pipeline.on_write = self.limiter.on_write
        user = ConnectionUser(
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
        self._context = StreamContext(
            *(user, labels.name, not labels.is_client, tuning, self._loop, log, access.rejections, self.limiter)
        )

    def _set_paused(self, n: int) -> None:
        self._pipeline.n_paused = n

    def _attempt_failed(self, error: BaseException) -> None:
        self._pipeline.lost_because = error

    # --- opening ---

    async def listen(self, protocol: asyncio.DatagramProtocol, uri: Uri, kwargs: dict[str, Any]) -> None:
        """Open the socket of a server."""
        if self.is_udp:
            await udp.listen(protocol, uri, **kwargs)
            return
        self.server = await tcp.listen(self._context, uri, **kwargs)
        self.socket = self.server.sockets[0]
        self._pipeline.watch_stalls()  # a first connection may have waited for a program that stood still

    async def connect(
        self, protocol: asyncio.DatagramProtocol, uri: Uri, hostname: str, kwargs: dict[str, Any]
    ) -> None:
        """Open the socket of a client."""
        if self.is_udp:
            kwargs.pop('reconnect', None)  # without connections none is lost
            await udp.connect(protocol, uri, **kwargs)
            return
        self.reconnector = await tcp.connect(self._context, uri, hostname, **kwargs)
        self._pipeline.reconnects = self.reconnector is not None

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens."""
        if self._pipeline.closed:
            return False
        if self.server is not None:
            return self.server.is_serving()
        transport = self._pipeline.transport
        return transport is not None and not transport.is_closing()

    # --- called by the event loop ---

    def connection_made(self, transport: Any) -> None:
        """Take a transport that was opened."""
        sock = transport.get_extra_info('socket')
        kind = getattr(sock, 'type', None)
        if kind != (socket.SOCK_DGRAM if self.is_udp else socket.SOCK_STREAM):
            raise RuntimeError(f'Unsupported transport layer for {self._labels.server_uri}: socket type {kind}')
        self._pipeline.transport = transport
        self._pipeline.watch_stalls()
        if self.server is None:
            self.socket = sock
        if self._labels.is_client and (peername := transport.get_extra_info('peername')):
            # What the system made of the address: of 0.0.0.0 this computer, of a scope's name its number.
            before, self._addresses.server = self._addresses.server, as_address(peername)
            self._addresses.names[before[0]] = self._addresses.server[0]
        self._log.debug('Connected with socket %s', sock)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the newest TCP connection."""
        for connection in reversed(self._pipeline.connections.values()):
            connection.data_received(data)
            return

    def error_received(self, exc: Exception) -> None:
        """Take an error that the system reports for an earlier datagram."""
        addr = self._addresses.server if self._labels.is_client else self._pipeline.current_addr
        if self._log_limit.allows('errors of the system', addr):
            self._log.error('Error received: %s', exc)
        if not self.on_error_received.done():
            self.on_error_received.set_result(exc)
        if addr is not None and isinstance(exc, OSError):
            self._sender.system_error(addr, exc)
            self._loop.call_soon(self._pipeline.flush)  # not from within one

    def eof_received(self) -> None:
        """Note that a TCP peer has ended its side of the connection; the connection closes."""
        self._log.debug('EOF received')
        if not self.on_eof_received.done():
            self.on_eof_received.set_result(True)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take the loss of the transport of a client, or of a server over UDP."""
        pipeline = self._pipeline
        self._log.info('Connection closed')
        pipeline.lost_transport = True
        pipeline.lost_because = exc
        if not pipeline.closed:
            self._sender.lost(self._addresses.server, exc)
            why = f': {exc}' if exc else ''
            who = f'{self._labels.name} ({self._labels.server_uri})'
            self._fail_waiters(ConnectionClosedError(f'{who} lost its connection{why}'))
        if not self.on_connection_lost.done():
            self.on_connection_lost.set_result(exc)
        if not pipeline.closed and not self.is_udp:
            if self.reconnector is not None:
                self.reconnector.start()
            self._changes.tell(ConnectionChange('lost', self._addresses.server, exc))
        self._check_closed()

    # --- TCP connections ---

    def _connected(self, connection: Connection) -> None:
        """Take a new TCP connection."""
        pipeline = self._pipeline
        if pipeline.closed or not self.limiter.register(connection, connection.addr[0], connection.splitter):
            connection.abort()
            connection.transport = None  # nobody has heard of it, so nobody need hear of its end
            return
        if pipeline.lost_transport:
            pipeline.transport.close()  # some loops want it said even of one that is gone
        self.connection_made(connection.transport)
        if self._labels.is_client:
            connection.addr = self._addresses.server  # the same object, which is quicker to look up
        pipeline.connections[connection.addr] = connection
        if pipeline.lost_transport:  # a client that has found its server again, and may lose it again
            pipeline.lost_transport = False
            self.on_connection_lost = self._loop.create_future()
            if self.on_eof_received.done():
                self.on_eof_received = self._loop.create_future()
        self._changes.tell(ConnectionChange('connected', connection.addr))

    def _disconnected(self, connection: Connection, exc: BaseException | None) -> None:
        """Drop a TCP connection that is gone."""
        if self._pipeline.connections.get(connection.addr) is connection:
            del self._pipeline.connections[connection.addr]
        if self._labels.is_client:
            self.connection_lost(exc)
            return
        self._log.info('Connection with %s:%s closed', *connection.addr)
        self._sender.lost(connection.addr, exc)
        if not self._pipeline.closed:
            self._changes.tell(ConnectionChange('lost', connection.addr, exc))
        self._check_closed()

    # --- closing ---

    def close_sockets(self) -> None:
        """Close all sockets, after what waits for streams was written."""
        if self.reconnector is not None:
            self.reconnector.stop()
        if self.server is not None:
            self.server.close()
        for connection in list(self._pipeline.connections.values()):
            connection.close()
        self.limiter.close()
        if self._pipeline.transport is not None:
            self._pipeline.transport.close()

    def end(self) -> None:
        """Resolve the futures that report the end."""
        self._changes.close(self._labels.closed())
        for future in (self.on_error_received, self.on_eof_received):
            future.cancel(_CLOSED_HERE)
        if not self.on_connection_lost.done():
            self.on_connection_lost.set_result(_CLOSED_HERE)
        if not self.is_udp or self._pipeline.transport is None:
            self._check_closed()

    async def wait_closed(self) -> None:
        """Wait until the sockets are gone."""
        await asyncio.shield(self._closed_future)
        if self.reconnector is not None:
            await self.reconnector.stopped()
        if self.server is not None:
            # Some loops wait here for those who have connected and never shaken hands.
            closing = asyncio.ensure_future(self.server.wait_closed())
            await asyncio.wait({closing}, timeout=self._tuning.close_grace)
            closing.cancel()

    def _check_closed(self) -> None:
        """Note that the sockets are gone, once they are."""
        over = self._pipeline.closed or (self._labels.is_client and self.reconnector is None)
        if over and not self._closed_future.done() and not self._pipeline.connections:
            self._closed_future.set_result(None)
