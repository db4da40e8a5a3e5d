"""`EchoProtocol`: one rig's end of the conversation, over UDP or TCP, as client or server.

1. What a frame is, the exchange says; this class does it: it sends the echo first, then tells the listeners.
2. No failure of one message closes the communicator; only `close` does, and the loss of a client's connection.
3. Nothing that a peer sends raises into the event loop.
4. An address is a (host, port) pair, and in the client role there is only one: the server's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal

from . import tcp, udp
from ._exchange import DELIVER, NOTICE, STORM, Exchange
from ._framing import FrameSplitter
from .communicator import Communicator
from .delivery import Delivery
from .errors import ConnectionClosedError, EchoError, MessageTooLongError
from .messenger import Messenger
from .redact import Shown, shown
from .tcp import Connection
from .tuning import DEFAULT_TUNING, Tuning
from .uri import Address, Uri, as_address, is_valid_ip, resolve, resolve_host

__all__ = ['EchoProtocol']

_CLOSED_HERE = 'Close called on communicator'


class EchoProtocol(Messenger, asyncio.DatagramProtocol):
    """A communicator over UDP or TCP; made by :meth:`client` and :meth:`server`.

    In the client role it talks to one remote server; in the server role to any number of clients.

    Parameters
    ----------
    server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
        The address of the server: one's own in the server role, the remote one in the client role.
    role : {'client', 'server'}
        The role.
    name : str, optional
        A label, by default the URI.
    logger : logging.Logger, optional
        Where to log, by default the logger called `name`.
    tuning : Tuning, optional
        Limits and timings.

    Attributes
    ----------
    Server : asyncio.Server or None
        The listening server, in the server role over TCP.
    default_echo_timeout : float
        How long to wait for an echo, in seconds, unless told otherwise.
    response_timeout : float
        How long to wait for the answer to a request, in seconds.
    max_message_size : int
        The largest echo, in bytes, that peers are known to send: one of just this size may be cut short.
    on_connection_lost : asyncio.Future
        Done when the connection of a client is gone (the result is the exception, or None) and when the
        communicator is closed (the result says so).
    on_error_received : asyncio.Future
        Done when the system reports an error of the transport, which is the result.
    on_eof_received : asyncio.Future
        Done when a TCP peer has ended its side of the connection.

    Raises
    ------
    ValueError
        The role is neither client nor server, or the URI is not valid.
    """

    __slots__ = (
        '__dict__',
        '__weakref__',
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
    _last_sent: MutableMapping[Address, tuple[Any, asyncio.Future[Any]]]

    Server: asyncio.Server | None = None
    default_echo_timeout: float = 1.0
    max_message_size: int = 65535

    def __init__(
        self,
        server_uri: Any,
        role: Literal['client', 'server'],
        name: str | None = None,
        logger: logging.Logger | None = None,
        tuning: Tuning = DEFAULT_TUNING,
    ) -> None:
        self._role = ''
        self.role = role
        super().__init__(server_uri, name=name, logger=logger, tuning=tuning)
        self.tuning = tuning
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._socket: Any = None
        self._connections: dict[Address, Connection] = {}
        self._closed = False
        self._names: dict[str, str] = {}
        self._server_addr: Address = (self.hostname, self.port)
        self._is_udp = self.protocol == 'udp'
        self._exchange = Exchange(tuning, not self._is_udp, self.max_message_size)
        self._delivery = Delivery(self._loop, self._exchange, self._transmit, self._who, self.logger)
        self._last_sent = self._delivery.last_sent
        self.on_connection_lost = self._loop.create_future()
        self.on_error_received = self._loop.create_future()
        self.on_eof_received = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._keeps_messages = self.role == 'server'

    # --- opening ---

    @staticmethod
    async def server(
        server_uri: Any, name: str | None = None, log: logging.Logger | None = None, **kwargs: Any
    ) -> EchoProtocol:
        """Listen for clients.

        Parameters
        ----------
        server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
            The address to listen on: an IP address or host name of this computer, with or without a port
            (default 11001; 0 takes any that is free) and a scheme: ``udp://`` (the default), ``ws://`` or
            ``tcp://`` for TCP, ``wss://`` for TLS. ``':9998'`` means this computer.
        name : str, optional
            A label, by default the URI.
        log : logging.Logger, optional
            Where to log, by default the logger called `name`.
        kwargs
            ``tuning``, a :class:`Tuning`; ``ssl``, an ``ssl.SSLContext`` for ``wss://``; everything else is
            passed to the event loop's ``create_datagram_endpoint`` or ``create_server``.

        Returns
        -------
        EchoProtocol
            The communicator.

        Raises
        ------
        TypeError, ValueError
            The URI is not valid, the name does not resolve, or a wss server has no ``ssl``.
        OSError
            The address is in use, or is not one of this computer.
        """
        given, uri = await resolve(server_uri, any_port=True)
        if sock := kwargs.get('sock'):
            uri = Uri(uri.scheme, *as_address(sock.getsockname()))
        elif uri.port == 0:
            kwargs['sock'] = sock = _bound_socket(uri)
            uri = Uri(uri.scheme, *as_address(sock.getsockname()))
        com = EchoProtocol(str(uri), 'server', name, log, kwargs.pop('tuning', DEFAULT_TUNING))
        com._names[given.host] = uri.host
        try:
            if com._is_udp:
                await udp.listen(com, uri, **kwargs)
            else:
                com.Server = await tcp.listen(com, uri, **kwargs)
                com._socket = com.Server.sockets[0]
        except BaseException:
            com.close()
            raise
        com.logger.info('Listening on %s', com.server_uri)
        return com

    @staticmethod
    async def client(
        server_uri: Any, name: str | None = None, log: logging.Logger | None = None, **kwargs: Any
    ) -> EchoProtocol:
        """Connect to a server.

        Over UDP nothing is sent yet, so the server need not be there. Over TCP it must be.

        Parameters
        ----------
        server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
            The address of the server: an IP address or host name, with or without a port (default 11001) and
            a scheme: ``udp://`` (the default), ``ws://`` or ``tcp://`` for TCP, ``wss://`` for TLS.
        name : str, optional
            A label, by default the URI.
        log : logging.Logger, optional
            Where to log, by default the logger called `name`.
        kwargs
            ``tuning``, a :class:`Tuning`; ``ssl``, an ``ssl.SSLContext`` for ``wss://`` (default: the
            system's certificates); everything else is passed to the event loop's
            ``create_datagram_endpoint`` or ``create_connection``.

        Returns
        -------
        EchoProtocol
            The communicator.

        Raises
        ------
        TypeError, ValueError
            The URI is not valid or the name does not resolve.
        OSError
            Over TCP: nobody listens there.
        """
        given, uri = await resolve(server_uri)
        com = EchoProtocol(str(uri), 'client', name, log, kwargs.pop('tuning', DEFAULT_TUNING))
        com._names[given.host] = uri.host
        try:
            if com._is_udp:
                await udp.connect(com, uri, **kwargs)
            else:
                await tcp.connect(com, uri, given.host, **kwargs)
        except BaseException:
            com.close()
            raise
        return com

    # --- state ---

    @property
    def role(self) -> str:
        """str: 'client' or 'server'; it can be set once."""
        return self._role

    @role.setter
    def role(self, value: str) -> None:
        if self._role:
            raise AttributeError('The role of a communicator cannot be changed')
        role = value.strip().lower() if isinstance(value, str) else value
        if role not in ('client', 'server'):
            raise ValueError(f'The role must be "client" or "server", not {value!r}')
        self._role = role

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens, without any client yet."""
        if self._closed:
            return False
        if self.Server is not None:
            return self.Server.is_serving()
        return self._transport is not None and not self._transport.is_closing()

    def awaiting_response(self, addr: Any = None) -> bool:
        """Tell whether a message has been sent whose echo is still to come.

        Parameters
        ----------
        addr : tuple of (str, int), optional
            The remote host and port; by default any.

        Returns
        -------
        bool
            True while waiting.
        """
        pairs = self._last_sent.values() if addr is None else [self._last_sent.get(tuple(addr))]
        return any(pair is not None and not pair[1].done() for pair in pairs)

    # --- sending ---

    async def confirmed_send(self, data: Any, addr: Any = None, timeout: float | None = None) -> None:
        """Send a message and wait for its echo.

        `init`, `start`, `stop` and the like are made for the messages of an experiment.

        Parameters
        ----------
        data : Any
            The message: bytes and text are sent as they are, everything else as JSON.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.
        timeout : float, optional
            How long to wait, in seconds, from this call on; by default `default_echo_timeout`.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        PeerUnreachableError
            The system reported that nobody listens there (an `EchoTimeoutError`).
        EchoMismatchError
            Something else came back (a `RuntimeError`).
        ConnectionClosedError
            The communicator is or was closed, or the connection was lost.
        MessageTooLongError
            One datagram cannot carry the message (a `ValueError`).
        ValueError
            The timeout is not a positive number; or, in the client role, `addr` is not the server's; or
            bytes for a stream are not one whole message.
        TypeError
            In the server role, `addr` is missing; or the message cannot be written as JSON.
        """
        if addr is None and self._role == 'server':
            raise TypeError("confirmed_send() in the server role needs 'addr', the (host, port) of the client")
        target = self._server_addr if addr is None else await self._resolved(addr)
        timeout = self.default_echo_timeout if timeout is None else timeout
        if not timeout > 0:
            raise ValueError(f'Timeout must be non-zero number of seconds, not {timeout!r}')
        self._check_open()
        frame = self._frame(data)
        if not self._is_udp and self._role == 'server' and target not in self._connections:
            raise ConnectionClosedError(f'No client of {self.name} ({self.server_uri}) at {target[0]}:{target[1]}')
        await self._delivery.send(frame, target, timeout)

    def send(self, data: Any, addr: Any = None) -> None:
        """Send a message without waiting for its confirmation.

        Parameters
        ----------
        data : Any
            The message: bytes and text are sent as they are, everything else as JSON.
        addr : tuple of (str, int), optional
            The remote host and port. Required in the server role, except over TCP with a single client.

        Raises
        ------
        ConnectionClosedError
            The communicator is closed.
        MessageTooLongError, TypeError, ValueError
            As in `confirmed_send`; over TCP an address that is not connected is only logged.
        """
        self._check_open()
        frame = self._frame(data)
        try:
            target = self._target(addr)
        except ValueError:
            if self._is_udp:
                raise
            self.logger.warning('Message not sent: unexpected address %s', addr)
            return
        if not is_valid_ip(target[0]):
            task = self._loop.create_task(self._send_to_name(frame, target))
            self._callbacks.tasks.add(task)
            task.add_done_callback(self._callbacks.tasks.discard)
            return
        self.logger.debug('Send "%s" to %s://%s:%s', Shown(frame), self.protocol, *target)
        self._exchange.sent(frame, target, self._loop.time())
        self._transmit(frame, target)

    async def _send_to_name(self, frame: bytes, target: Address) -> None:
        try:
            self.send(frame, await self._resolved(target))
        except (EchoError, ValueError) as ex:
            self.logger.warning('Message not sent: %s', ex)

    def _frame(self, data: Any) -> bytes:
        """Turn a message into bytes that the transport can carry."""
        frame = self.encode(data)
        if not frame:
            raise ValueError('An empty message cannot be sent: nobody would see it')
        if self._is_udp:
            limit = udp.max_datagram(self._server_addr[0])
            if len(frame) > limit:
                raise MessageTooLongError(
                    f'The message has {len(frame)} bytes and a datagram carries at most {limit}: use a tcp:// URI'
                )
        elif isinstance(data, (str, bytes, bytearray, memoryview)):
            splitter = FrameSplitter(self.tuning.max_stream_message)
            if splitter.feed(frame) != [frame]:
                raise ValueError(
                    f'Over TCP, text that starts with [ must be one whole JSON array: {shown(frame)!r} would be'
                    ' joined with or cut from the messages around it'
                )
        return frame

    def _target(self, addr: Any) -> Address:
        """Return the address to send to, with names that are known replaced by numbers."""
        if addr is None:
            if self._role == 'client':
                return self._server_addr
            if len(self._connections) == 1:
                return next(iter(self._connections))
            raise TypeError("send() in the server role needs 'addr', the (host, port) of the client")
        host, port = as_address(addr)
        target = self._names.get(host, host), port
        if self._role == 'client' and target != self._server_addr and is_valid_ip(target[0]):
            raise ValueError(f'Unexpected remote address {addr}: {self.name} is connected to {self.server_uri}')
        if not self._is_udp and self._role == 'server' and is_valid_ip(target[0]) and target not in self._connections:
            raise ValueError(f'Unexpected remote address {addr}: no client is connected from there')
        return target

    async def _resolved(self, addr: Any) -> Address:
        """Return the address to send to, with a numeric host."""
        host, port = as_address(addr)
        if host not in self._names and not is_valid_ip(host):
            self._names[host] = await resolve_host(host)
        target = self._names.get(host, host), port
        if self._role == 'client' and target != self._server_addr:
            raise ValueError(f'Unexpected remote address {addr}: {self.name} is connected to {self.server_uri}')
        return target

    def _transmit(self, frame: bytes, addr: Address) -> None:
        """Hand bytes to the transport."""
        if self._role == 'client':
            if self._transport is None or self._transport.is_closing() is True:
                raise ConnectionClosedError(f'{self.name} ({self.server_uri}) is not connected')
            if self._is_udp:
                self._transport.sendto(frame)
            else:
                self._transport.write(frame)
        elif self._is_udp:
            self._transport.sendto(frame, addr)
        else:
            connection = self._connections.get(addr)
            if connection is None:
                raise ConnectionClosedError(f'No client of {self.name} ({self.server_uri}) at {addr[0]}:{addr[1]}')
            connection.write(frame)

    def _who(self, addr: Address) -> str:
        """Name a peer for people."""
        if self._role == 'client':
            return f'{self.name} ({self.server_uri})'
        return f'{self.protocol}://{addr[0]}:{addr[1]} (client of {self.name})'

    # --- receiving ---

    def _received(self, frame: bytes, addr: Address) -> None:
        """Take a frame from a shell; nothing gets out of here into the event loop."""
        try:
            self._receive(frame, addr)
        except RuntimeWarning as ex:  # warnings turned into errors by the program; it has been logged
            self.logger.debug('%s', ex)
        except Exception:
            self.logger.exception('A message from %s:%s could not be processed', *addr)

    def _receive(self, data: bytes, addr: Address) -> None:
        """Confirm what is new and tell its listeners, and recognize the echo of what was sent.

        Parameters
        ----------
        data : bytes
            What came.
        addr : tuple of (str, int)
            Where it came from.
        """
        if self._delivery.last_sent.by_hand and self._matches_by_hand(data, addr):
            return
        kind = self._exchange.receive(data, addr, self._loop.time())
        if kind == DELIVER or kind == NOTICE:
            if self.logger.isEnabledFor(logging.INFO):
                self.logger.info('Received %r from %s://%s:%s', Shown(data), self.protocol, *addr)
            if kind == DELIVER:
                try:
                    self._transmit(data, addr)
                except (OSError, EchoError) as ex:
                    self.logger.warning('No echo sent to %s:%s: %s', *addr, ex)
            Communicator._receive(self, data, addr)
        elif kind == STORM:
            self.logger.warning('Dropped %d bytes from %s:%s that keep coming back', len(data), *addr)
        else:
            self._delivery.flush()

    def _matches_by_hand(self, data: bytes, addr: Address) -> bool:
        """Tell whether a frame was dealt with as the echo of a pair put into `_last_sent` by hand."""
        outcome = self._delivery.last_sent.take(data, addr, self.tuning.min_truncated, self.max_message_size)
        if outcome is True:
            self.logger.info('Confirmation received')
        elif outcome is not None:
            self.logger.error('%s (%s)', outcome, self._who(addr))
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
        if self.Server is None:
            self._socket = sock
        self.logger.debug('Connected with socket %s', sock)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Called by the event loop with each datagram.

        Parameters
        ----------
        data : bytes
            What came.
        addr : tuple
            Where it came from.
        """
        if self._closed:
            return
        source = addr if len(addr) == 2 else as_address(addr)
        if self._role == 'client' and source[0] != self._server_addr[0]:
            self.logger.warning('Ignoring UDP packet from unexpected host (%s:%s): %s', *source, Shown(data))
            return
        self._received(data, source)

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
        self.logger.error('Error received: %s', exc)
        if not self.on_error_received.done():
            self.on_error_received.set_result(exc)
        if self._role == 'client' and isinstance(exc, ConnectionRefusedError):
            self._exchange.refused(self._server_addr, self._loop.time())
            self._delivery.flush()

    def eof_received(self) -> None:
        """Called when a TCP peer has ended its side of the connection; the connection closes."""
        self.logger.debug('EOF received')
        if not self.on_eof_received.done():
            self.on_eof_received.set_result(True)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop when the transport of a client is gone.

        Parameters
        ----------
        exc : BaseException or None
            The reason; None if this end or the other closed it in the ordinary way.
        """
        self.logger.info('Connection closed')
        if not self._closed:
            self._delivery.lost(self._server_addr, exc)
            self._fail_waiters('lost its connection' + (f': {exc}' if exc else ''))
        if not self.on_connection_lost.done():
            self.on_connection_lost.set_result(exc)
        self._settle()

    def _connected(self, connection: Connection) -> None:
        """Take up a new TCP connection."""
        if self._closed:
            connection.transport.abort()  # type: ignore[union-attr]
            return
        self.connection_made(connection.transport)
        self._connections[connection.addr] = connection

    def _disconnected(self, connection: Connection, exc: BaseException | None) -> None:
        """Drop a TCP connection that is gone."""
        if self._connections.get(connection.addr) is connection:
            del self._connections[connection.addr]
        if self._role == 'client':
            self.connection_lost(exc)
            return
        self.logger.info('Connection with %s:%s closed', *connection.addr)
        self._delivery.lost(connection.addr, exc)
        self._settle()

    # --- closing ---

    def close(self) -> None:
        """Close the communicator; its callbacks are removed and its futures cancelled.

        `on_connection_lost` is resolved. Coroutines that wait for a confirmation or an event raise
        `ConnectionClosedError`. Closing twice does nothing.
        """
        if self._closed:
            return
        self._closed = True
        if not self._loop.is_closed():
            if self.Server is not None:
                self.Server.close()
            for connection in list(self._connections.values()):
                if connection.transport is not None:
                    connection.transport.close()
            if self._transport is not None:
                self._transport.close()
            super().close()
            self._delivery.close()
            for future in (self.on_error_received, self.on_eof_received):
                future.cancel(_CLOSED_HERE)
            if not self.on_connection_lost.done():
                self.on_connection_lost.set_result(_CLOSED_HERE)
            if self._transport is None:
                self._settle()

    async def wait_closed(self) -> None:
        """Wait until the communicator is closed and its sockets are gone."""
        await asyncio.shield(self._gone)
        if self.Server is not None:
            await self.Server.wait_closed()

    def _settle(self) -> None:
        """Note that the sockets are gone, once they are."""
        if not self._gone.done() and not self._connections and (self._closed or self._role == 'client'):
            self._gone.set_result(None)

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionClosedError(f'{self.name} ({self.server_uri}) is closed')

    async def __aenter__(self) -> EchoProtocol:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()


def _bound_socket(uri: Uri) -> socket.socket:
    """Return a socket bound to any free port of a host."""
    family = socket.AF_INET6 if ':' in uri.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if uri.scheme == 'udp' else socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind((uri.host, 0))
    except BaseException:
        sock.close()
        raise
    return sock
