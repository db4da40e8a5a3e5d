"""`Link`: a communicator's hold on its transport, over UDP or TCP, as client or server.

1. What a frame is, the exchange says; this class does it: it sends the echo first, then tells the listeners.
2. No failure of one message closes the communicator; only `close` does. A client that loses its connection looks for
   its server until then; a message that was under way fails, and is never sent a second time.
3. Nothing that a peer sends raises into the event loop.
4. An address is a (host, port) pair, and in the client role there is only one: the server's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from time import monotonic
from types import TracebackType
from typing import Any, Literal, TypeVar

from ..checks import described, number_of, seconds, set_checked
from ..delivery._exchange import Exchange
from ..delivery.statistics import Peers
from ..errors import ConnectionClosedError
from ..events.notifier import Changes, ConnectionChange, ConnectionChanges
from ..security.allowlist import Allowed
from ..security.log_limit import LogLimit
from ..security.redaction import LazyFrame
from ..security.rejections import Rejections
from ..transports.connection import Connection, StreamContext
from ..transports.connection_limits import ConnectionLimiter
from ..transports.interfaces import ConnectionUser
from ..transports.reconnect import Reconnector
from ..transports.udp import max_size as udp_limit
from ..tuning import DEFAULT_TUNING, Tuning
from ..uri import Address, address_text, as_address, checked_address
from ._pipeline import datagram_received, receive, received
from .access import AccessControl, signer_for
from .experiment import Messenger
from .flow_control import FlowControl
from .last_sent import LastSent
from .options import polling
from .sender import Delivery

__all__ = ['Link']

_CLOSED_HERE = 'Close called on communicator'
_Self = TypeVar('_Self', bound='Link')


class Link(Messenger, AccessControl, ConnectionChanges, asyncio.DatagramProtocol):
    """The part of `EchoProtocol` that the event loop and the connections call.

    Parameters
    ----------
    server_uri, role, name, logger, tuning, key
        As for `EchoProtocol`.
    """

    __slots__ = (
        '__dict__',
        '__weakref__',
        '_delivery',
        '_last_sent',
        '_role',
        '_socket',
        '_transport',
        'on_connection_lost',
        'on_eof_received',
        'on_error_received',
        'tuning',
    )
    on_connection_lost: asyncio.Future[Any]
    on_error_received: asyncio.Future[Exception]
    on_eof_received: asyncio.Future[bool]
    _last_sent: LastSent

    Server: asyncio.Server | None = None
    default_echo_timeout: float = 1.0
    max_message_size: int = 65535
    __setattr__ = set_checked(default_echo_timeout=seconds, max_message_size=number_of, response_timeout=seconds)

    def __init__(
        self,
        server_uri: Any,
        role: Literal['client', 'server'],
        name: str | None = None,
        logger: logging.Logger | None = None,
        tuning: Tuning = DEFAULT_TUNING,
        key: bytes | str | None = None,
    ) -> None:
        self._role = ''
        self.role = role
        super().__init__(server_uri, name=name, logger=logger, tuning=tuning)
        self.tuning = tuning
        self._loop = asyncio.get_running_loop()
        self._log_limit = LogLimit(self._log, tuning.log_burst, tuning.log_interval, self._loop.call_later)
        self._socket: Any = None
        self._transport: Any = None
        self._connections: dict[Address, Connection] = {}
        self._names: dict[str, str] = {}
        self._server_addr: Address = (self.hostname, self.port)
        self._is_udp = self.protocol == 'udp'
        self._allowed: Allowed | None = None
        self._rejections = Rejections(self._log)
        max_datagram = udp_limit(self.hostname)
        signer = signer_for(key, self._is_udp, self._tuning)
        self._exchange = Exchange(
            self._tuning,
            stream=not self._is_udp,
            max_size=self.max_message_size,
            run=secrets.randbits(31),
            max_frame=2**62 if signer is not None else max_datagram if self._is_udp else tuning.max_stream_message,
            signed=signer is not None,
        )
        self._delivery = Delivery(
            self,
            self._loop,
            self._exchange,
            self._log,
            self._role == 'client',
            max_datagram if self._is_udp else None,
            signer,
        )
        self._last_sent = LastSent(self._delivery)
        self._reconnector: Reconnector | None = None
        self._lost_because: BaseException | None = None
        self._connection_changes: Changes[ConnectionChange] = Changes('changes', tuning.max_backlog, self._log)
        self.on_connection_lost = self._loop.create_future()
        self.on_error_received = self._loop.create_future()
        self.on_eof_received = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._keeps_messages = self.role == 'server'
        self._flow_control = FlowControl(
            self._exchange,
            self._waiting,
            self._loop,
            self._is_udp,
            lambda frame, addr: self._receive(frame, addr),
            lambda frame, addr: self._received(frame, addr),
            lambda addr: self._is_udp or addr in self._connections,
            lambda: self.default_echo_timeout,
        )
        self._waiting.on_room = self._flow_control.update
        is_server = self.role == 'server'
        self._limiter = ConnectionLimiter(
            self._tuning, self._loop, self._rejections, is_server, self._delivery.ask, self._delivery.set_paused
        )
        user = ConnectionUser(
            frame_received=self._delivery.frame_received,
            peer_connected=self._connected,
            peer_lost=self._disconnected,
            peer_ended=self.eof_received,
            describe=self._who,
            admits=self._admits,
            is_closed=lambda: self._delivery.closed,
            has_connection=lambda: self.is_connected,
            attempt_failed=self._attempt_failed,
        )
        self._stream_context = StreamContext(
            user, self.name, is_server, self._tuning, self._loop, self._log, self._rejections, self._limiter
        )

    # --- state ---

    @property
    def role(self) -> str:
        """str: 'client' or 'server'; it can be set once."""
        return self._role

    @role.setter
    def role(self, value: str) -> None:
        if self._role:
            raise AttributeError('The role of a communicator cannot be changed')
        role = value.strip().lower() if isinstance(value, str) else ''
        if role not in ('client', 'server'):
            raise ValueError(f'The role must be "client" or "server", not {described(value)}')
        self._role = role

    @property
    def busy_poll(self) -> float:
        """float: For how long to poll for messages instead of sleeping, in seconds; 0, the default, is not at all.

        A client does so after each send until its echo is there, a server after each message. It takes a whole
        processor core for that time, and spares the system waking the program, which takes several times as long as
        a round trip.
        """
        return self._delivery.busy_poll

    @busy_poll.setter
    def busy_poll(self, value: float) -> None:
        self._delivery.busy_poll = polling(value)

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens, without any client yet."""
        if self._delivery.closed:
            return False
        if self.Server is not None:
            return self.Server.is_serving()
        return self._transport is not None and not self._transport.is_closing()

    def _who(self, addr: Address) -> str:
        """Name a peer for people."""
        if self._role == 'client':
            return f'{self.name} ({self.server_uri})'
        return f'{address_text(self.protocol, addr)} (client of {self.name})'

    @property
    def peers(self) -> Peers:
        """mapping: What is known of each remote address: ``communicator.peers[addr]`` is a `PeerStatistics`."""
        return Peers(self._exchange)

    # --- receiving ---

    _received = received
    _receive = receive

    def _malformed(self, data: bytes, addr: Address, why: str, expected_list: bool = True) -> None:
        self._exchange.malformed(addr, monotonic())
        super()._malformed(data, addr, why, expected_list)

    def _matches_by_hand(self, data: bytes, addr: Address) -> bool:
        """Tell whether a frame was dealt with as the echo of a pair put into `_last_sent` by hand."""
        outcome = self._last_sent.take(data, addr, self.tuning.min_truncated_echo, self.max_message_size)
        if outcome is True:
            self._log.info('Confirmation received')
        elif outcome is not None:
            self._log.error('%s (%s)', outcome, self._who(addr))
        return outcome is not None

    # --- called by the event loop ---

    def connection_made(self, transport: Any) -> None:
        """Called by the event loop when the transport is there.

        Parameters
        ----------
        transport : asyncio.BaseTransport
            The transport.

        Raises
        ------
        RuntimeError
            Its socket is not of the kind that the URI asks for.
        """
        sock = transport.get_extra_info('socket')
        kind = getattr(sock, 'type', None)
        if kind != (socket.SOCK_DGRAM if self._is_udp else socket.SOCK_STREAM):
            raise RuntimeError(f'Unsupported transport layer for {self.server_uri}: socket type {kind}')
        self._transport = transport
        self._delivery.watch_stalls()
        if self.Server is None:
            self._socket = sock
        if self._role == 'client' and (peername := transport.get_extra_info('peername')):
            # What the system made of the address: of 0.0.0.0 this computer, of a scope's name its number.
            self._server_addr = as_address(peername)
            self._names[self.hostname] = self._server_addr[0]
        self._log.debug('Connected with socket %s', sock)

    datagram_received = datagram_received

    def _source_of(self, addr: Any, data: bytes) -> Address | None:
        """Return the address that a datagram came from as we write it; None if it is not to be received."""
        source = addr if len(addr) == 2 else as_address(addr)
        if self._role == 'server':
            return source if self._allowed is None or self._admits(source[0]) else None
        if source == self._server_addr:
            return self._server_addr  # the same object, which is quicker to look up
        if source[0] != self._server_addr[0]:
            if self._log_limit.allows('packets of unexpected hosts', source):
                self._log.warning('Ignoring UDP packet from unexpected host (%s:%s): %s', *source, LazyFrame(data))
            return None
        return source

    def data_received(self, data: bytes) -> None:
        """Take bytes of the newest TCP connection, as its transport delivers them.

        Parameters
        ----------
        data : bytes
            Any piece of the stream.
        """
        for connection in reversed(self._connections.values()):
            connection.data_received(data)
            return

    def error_received(self, exc: Exception) -> None:
        """Called by the event loop with an error that the system reports for an earlier datagram.

        Parameters
        ----------
        exc : Exception
            The error.
        """
        addr = self._server_addr if self._role == 'client' else self._delivery.sending_to
        if self._log_limit.allows('errors of the system', addr):
            self._log.error('Error received: %s', exc)
        if not self.on_error_received.done():
            self.on_error_received.set_result(exc)
        if addr is not None and isinstance(exc, OSError):
            self._delivery.system_error(addr, exc)
            self._loop.call_soon(self._delivery.flush)  # not from within one

    def eof_received(self) -> None:
        """Called when a TCP peer has ended its side of the connection; the connection closes."""
        self._log.debug('EOF received')
        if not self.on_eof_received.done():
            self.on_eof_received.set_result(True)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop when the transport of a client is gone.

        Parameters
        ----------
        exc : BaseException or None
            The reason; None if this end or the other closed it in the ordinary way.
        """
        self._log.info('Connection closed')
        self._delivery.lost_transport = True
        self._lost_because = exc
        if not self._delivery.closed:
            self._delivery.lost(self._server_addr, exc)
            why = f': {exc}' if exc else ''
            self._fail_waiters(ConnectionClosedError(f'{self.name} ({self.server_uri}) lost its connection{why}'))
        if not self.on_connection_lost.done():
            self.on_connection_lost.set_result(exc)
        if not self._delivery.closed and not self._is_udp:
            if self._reconnector is not None:
                self._reconnector.start()
            self._connection_changes.tell(ConnectionChange('lost', self._server_addr, exc))
        self._settle()

    def _connected(self, connection: Connection) -> None:
        """Take up a new TCP connection."""
        if self._delivery.closed or not self._limiter.register(connection, connection.addr[0], connection.splitter):
            connection.abort()
            connection.transport = None  # nobody has heard of it, so nobody need hear of its end
            return
        if self._delivery.lost_transport:
            self._transport.close()  # some loops want it said even of one that is gone
        self.connection_made(connection.transport)
        if self._role == 'client':
            connection.addr = self._server_addr  # the same object, which is quicker to look up
        self._connections[connection.addr] = connection
        if self._delivery.lost_transport:  # a client that has found its server again, and may lose it again
            self._delivery.lost_transport = False
            self.on_connection_lost = self._loop.create_future()
            if self.on_eof_received.done():
                self.on_eof_received = self._loop.create_future()
        self._connection_changes.tell(ConnectionChange('connected', connection.addr))

    def _attempt_failed(self, error: BaseException) -> None:
        self._lost_because = error

    def _disconnected(self, connection: Connection, exc: BaseException | None) -> None:
        """Drop a TCP connection that is gone."""
        if self._connections.get(connection.addr) is connection:
            del self._connections[connection.addr]
        if self._role == 'client':
            self.connection_lost(exc)
            return
        self._log.info('Connection with %s:%s closed', *connection.addr)
        self._delivery.lost(connection.addr, exc)
        if not self._delivery.closed:
            self._connection_changes.tell(ConnectionChange('lost', connection.addr, exc))
        self._settle()

    # --- closing ---

    def close(self) -> None:
        """Close the communicator; its callbacks are removed and its futures cancelled.

        `on_connection_lost` is resolved. Coroutines that wait for a confirmation or an event raise
        `ConnectionClosedError`. Closing twice does nothing.
        """
        if self._delivery.closed:
            return
        if not self._loop.is_closed():
            self._delivery.write_all()
        self._delivery.closed = True
        if not self._loop.is_closed():
            if self._reconnector is not None:
                self._reconnector.stop()
            if self.Server is not None:
                self.Server.close()
            for connection in list(self._connections.values()):
                connection.close()
            self._limiter.close()
            if self._transport is not None:
                self._transport.close()
            super().close()
            self._connection_changes.close(self._closed_error())
            self._flow_control.close()
            self._delivery.close()
            self._last_sent.cancel_all()
            for future in (self.on_error_received, self.on_eof_received):
                future.cancel(_CLOSED_HERE)
            if not self.on_connection_lost.done():
                self.on_connection_lost.set_result(_CLOSED_HERE)
            if not self._is_udp or self._transport is None:
                self._settle()

    async def wait_closed(self) -> None:
        """Wait until the communicator is closed and its sockets are gone."""
        await asyncio.shield(self._gone)
        if self._reconnector is not None:
            await self._reconnector.stopped()
        if self.Server is not None:
            # Some loops wait here for whoever has connected and never shaken hands.
            closing = asyncio.ensure_future(self.Server.wait_closed())
            await asyncio.wait({closing}, timeout=self._tuning.close_grace)
            closing.cancel()

    def _settle(self) -> None:
        """Note that the sockets are gone, once they are."""
        over = self._delivery.closed or (self._role == 'client' and self._reconnector is None)
        if over and not self._gone.done() and not self._connections:
            self._gone.set_result(None)

    def _closed_error(self) -> ConnectionClosedError:
        return ConnectionClosedError(f'{self.name} ({self.server_uri}) is closed')

    def _check_open(self) -> None:
        if self._delivery.closed:
            raise self._closed_error()
        if self._delivery.lost_transport and self._role == 'client':
            so_far = '' if self._reconnector is None else ' and looks for its server'
            why = '' if self._lost_because is None else f': {self._lost_because}'
            raise ConnectionClosedError(
                f'{self.name} ({self.server_uri}) has lost its connection{so_far}{why}'
            ) from self._lost_because

    def _check_usable(self) -> None:
        if self._delivery.closed or self._reconnector is None:
            self._check_open()

    def _not_connected(self, addr: Address) -> ConnectionClosedError:
        if self._role == 'client':
            return ConnectionClosedError(f'{self._who(addr)} is not connected')
        return ConnectionClosedError(f'No client of {self.name} ({self.server_uri}) at {addr[0]}:{addr[1]}')

    def _is_from(self, sender: Address, addr: Any) -> bool:
        host, port = checked_address(addr)
        return sender == (self._names.get(host, host), port)

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()
