"""`EchoProtocol`: one end of a conversation with rigs: opening it, and sending messages that are confirmed.

1. A message that fails closes nothing: the communicator, its callbacks and its other peers stay usable.
2. Nothing that a peer sends raises into the event loop.
3. This class composes the parts and decides nothing itself: `Exchange` has the rules, `MessagePipeline` carries
   frames, `Endpoint` has the sockets, `Sender` waits, `AddressBook` and `AccessPolicy` know the peers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any, Literal, TypeVar

from ..checks import described, number_of, seconds, set_checked
from ..delivery.statistics import Peers
from ..errors import EchoError
from ..resolver import resolve
from ..security.allowlist import Allowed, allowed, check_server
from ..security.redaction import LazyFrame
from ..security.rejections import Rejected
from ..transports import sockets
from ..tuning import DEFAULT_TUNING, Tuning
from ..uri import Address, Uri, as_address, checked_address, is_valid_ip
from ..wire._codec import is_raw
from .base import Communicator
from .failure import Failure, failure_of
from .labels import Labels
from .last_sent import LastSent
from .options import check_options, check_socket, check_text, polling, settings
from .parts import assembled

__all__ = ['EchoProtocol']

_DELETED = object()
_Self = TypeVar('_Self', bound='EchoProtocol')


class EchoProtocol(Communicator, asyncio.DatagramProtocol):
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
    key : bytes or str, optional
        What those have who may talk to this communicator, 16 bytes or more: every message is signed with it, and what
        is not is neither echoed nor delivered. Keep it in a file or an environment variable, not in code.

    Attributes
    ----------
    default_echo_timeout : float
        How long to wait for an echo, in seconds, unless told otherwise.
    max_message_size : int
        The buffer size of peers in bytes; an echo of exactly this size may be truncated.

    Raises
    ------
    ValueError
        The role is neither client nor server, the URI is not valid, or the key is too short.
    """

    __slots__ = ('__dict__', '__weakref__', '_role', 'tuning')

    default_echo_timeout: float = 1.0
    max_message_size: int = 65535
    __setattr__ = set_checked(default_echo_timeout=seconds, max_message_size=number_of, response_timeout=seconds)

    last_failure: Failure | None = None  # of a confirmed send

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
        loop = self._loop = asyncio.get_running_loop()
        super().__init__(server_uri, name=name, logger=logger, tuning=tuning, call_later=loop.call_later)
        self.tuning = tuning
        self._keeps_messages = self.role == 'server'
        self._is_client = self.role == 'client'
        labels = Labels(self.name, self.server_uri, self.protocol, self._is_client)
        server = self.hostname, self.port
        log = self.logger, self._log, self._log_limit
        parts = assembled(self, labels, server, key, self._tuning, self._waiting, self._dispatcher, self._changes, *log)
        self._exchange, self._pipeline, self._sender = parts.exchange, parts.pipeline, parts.sender
        self._access, self._addresses = parts.access, parts.addresses
        self._flow_control, self._endpoint = parts.flow_control, parts.endpoint

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
            ``allow``, who may talk to this server: an IP address, a network such as ``'10.0.0.0/8'`` or a host name
            (resolved now, with all its addresses), or several of them; others are ignored, see :attr:`rejected`.
            ``tuning``, a :class:`Tuning`; ``key``, with which every message is signed; ``busy_poll``, see
            :attr:`busy_poll`; ``ssl``, an ``ssl.SSLContext`` for ``wss://``; everything else is passed to the event
            loop's ``create_datagram_endpoint`` or ``create_server`` (options of the socket need a port other than 0).

        Returns
        -------
        EchoProtocol
            The communicator.

        Raises
        ------
        TypeError, ValueError
            The URI or ``allow`` is not valid, a name does not resolve, or a wss server has no ``ssl``.
        OSError
            The address is in use, or is not one of this computer.
        """
        check_options(name, log, kwargs)
        allow = await allowed(kwargs.pop('allow', None))
        given, uri = await resolve(server_uri, any_port=True)
        check_socket(kwargs.get('sock'), uri, 'server')
        own = sockets.bound(uri, kwargs)
        if sock := kwargs.get('sock'):
            uri = Uri(uri.scheme, *as_address(sock.getsockname()))
        try:
            com = EchoProtocol(str(uri), 'server', name, log, *settings(kwargs))
        except BaseException:
            if own is not None:
                own.close()
            raise
        await com._open(given.host, uri, allow, own, kwargs)
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
            ``allow``, which addresses the server may have, as for :meth:`server`: a name must not lead elsewhere.
            ``tuning``, a :class:`Tuning`; ``key``, with which every message is signed; ``busy_poll``, see
            :attr:`busy_poll`; ``ssl``, an ``ssl.SSLContext`` for ``wss://`` (default: the system's certificates);
            ``reconnect``, whether to look for the server again when a TCP connection is lost (default True; never
            with a ``sock`` of your own); everything else is passed to the event loop's ``create_datagram_endpoint``
            or ``create_connection``.

        Returns
        -------
        EchoProtocol
            The communicator.

        Raises
        ------
        TypeError, ValueError
            The URI or ``allow`` is not valid or a name does not resolve.
        PermissionError
            The address of the server is not in ``allow``; nothing has been sent.
        PeerUnreachableError
            Over TCP: nobody listens there (a `ConnectionRefusedError`).
        TLSError
            The TLS handshake failed (a `ConnectionError`).
        OSError
            There is no way to the address.
        """
        check_options(name, log, kwargs)
        allow = await allowed(kwargs.pop('allow', None))
        given, uri = await resolve(server_uri)
        check_socket(kwargs.get('sock'), uri, 'client')
        check_server(allow, uri, kwargs.get('sock'), name or str(given))
        com = EchoProtocol(str(uri), 'client', name, log, *settings(kwargs))
        await com._open(given.host, uri, None, sockets.connected(uri, kwargs), kwargs)
        return com

    async def _open(self, given_host: str, uri: Uri, allow: Allowed | None, own: Any, kwargs: dict[str, Any]) -> None:
        """Open the socket; on failure close it, and the one that was made for it."""
        self._access.allowed = allow
        self._addresses.names[given_host] = uri.host
        try:
            self.busy_poll = kwargs.pop('busy_poll', 0.0)
            if self._is_client:
                await self._endpoint.connect(self, uri, given_host, kwargs)
                return
            self._flow_control.pause()
            await self._endpoint.listen(self, uri, kwargs)
        except BaseException:
            self.close()
            if own is not None:
                own.close()
            raise
        self._log.info('Listening on %s', self.server_uri)
        self._flow_control.resume_soon()

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
        """float: For how long to poll for messages instead of sleeping, in seconds; by default 0, which is not at all.

        A client polls after each send until its echo has arrived, a server after each message. Polling takes a whole
        processor core, and saves the time to wake the program, which is several times that of a round trip.
        """
        return self._pipeline.busy_poll

    @busy_poll.setter
    def busy_poll(self, value: float) -> None:
        self._pipeline.busy_poll = polling(value)

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens, without any client yet."""
        return self._endpoint.is_connected

    @property
    def Server(self) -> asyncio.Server | None:
        """asyncio.Server or None: The listening server, in the server role over TCP."""
        return self._endpoint.server

    @property
    def on_connection_lost(self) -> asyncio.Future[Any]:
        """asyncio.Future: Done when the connection of a client is gone, and when the communicator is closed.

        The result is the exception or None, or says that it was closed. A client that connects again has a new one.
        """
        return self._endpoint.on_connection_lost

    @property
    def on_error_received(self) -> asyncio.Future[Exception]:
        """asyncio.Future: Done when the system reports an error of the transport, which is the result."""
        return self._endpoint.on_error_received

    @property
    def on_eof_received(self) -> asyncio.Future[bool]:
        """asyncio.Future: Done when a TCP peer has ended its side of the connection."""
        return self._endpoint.on_eof_received

    @property
    def peers(self) -> Peers:
        """mapping: What is known of each remote address: ``communicator.peers[addr]`` is a `PeerStatistics`."""
        return Peers(self._exchange)

    @property
    def rejected(self) -> Mapping[str, Rejected]:
        """mapping: What was refused, by host, as a `Rejected`; hosts beyond the first 256 are counted as ``'*'``."""
        return self._access.rejected()

    @property
    def _transport(self) -> Any:
        if self._pipeline.transport is _DELETED:
            raise AttributeError('_transport')
        return self._pipeline.transport

    @_transport.setter
    def _transport(self, transport: Any) -> None:
        self._pipeline.transport = transport

    @_transport.deleter
    def _transport(self) -> None:  # `mock.patch` deletes what it has set, and sets the former one if nothing is left
        self._pipeline.transport = _DELETED

    @property
    def _socket(self) -> Any:
        return self._endpoint.socket

    @property
    def _connections(self) -> dict[Address, Any]:
        return self._pipeline.connections

    @property
    def _last_sent(self) -> LastSent:
        return self._sender.last_sent

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
        if addr is None:
            return any(not echo.done() for _, echo in self._last_sent.values())
        pair = self._last_sent.get(self._addresses.number_of(checked_address(addr)))
        return pair is not None and not pair[1].done()

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
        if timeout is not None:
            timeout = seconds(timeout, 'timeout')
        target = self._addresses.server if addr is None and self._is_client else await self._addresses.resolved(addr)
        if isinstance(data, str):
            check_text(data)
        wait = self.default_echo_timeout if timeout is None else timeout
        send = self._pipeline.start_send(data, self.encode(data), target, wait)
        try:
            await send.waiter
        except BaseException as ex:
            self._sender.cancel(send)
            self.last_failure = failure_of(send.started, ex)
            raise

    async def ping(self, addr: Any = None, timeout: float | None = None) -> float:
        """Measure the round-trip time to a peer of any kind; no callback runs there.

        Parameters
        ----------
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.
        timeout : float, optional
            How long to wait, in seconds; by default `default_echo_timeout`.

        Returns
        -------
        float
            The round-trip time in seconds.

        Raises
        ------
        EchoTimeoutError, PeerUnreachableError, ConnectionClosedError, ValueError, TypeError
            As in `confirmed_send`.
        """
        if timeout is not None:
            timeout = seconds(timeout, 'timeout')
        target = await self._addresses.resolved(addr)
        return await self._sender.ping(target, self.default_echo_timeout if timeout is None else timeout)

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
        OSError
            1,024 messages to this peer wait already (``ENOBUFS``): it has not confirmed an earlier one, or over TCP it
            may take two that arrive together for one.
        """
        if addr is not None:
            addr = checked_address(addr)
        self._check_open()
        if isinstance(data, str):
            check_text(data)
        frame = self._pipeline.checked_frame(data, self.encode(data))
        try:
            target = self._addresses.target(addr, None if self._endpoint.is_udp else self._connections)
        except ValueError:
            if self._endpoint.is_udp:
                raise
            self._log.warning('Message not sent: unexpected address %s', addr)
            return
        if not is_valid_ip(target[0]):
            task = self._loop.create_task(self._send_to_name(data, target))
            self._callbacks.tasks.add(task)
            task.add_done_callback(self._callbacks.tasks.discard)
            return
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug('Send "%s" to %s://%s:%s', LazyFrame(frame), self.protocol, *target)
        self._pipeline.send_unconfirmed(frame, target, not is_raw(data), self._pipeline.reply_number(data, target))

    async def _send_to_name(self, data: Any, target: Address) -> None:
        try:
            self.send(data, await self._addresses.resolved(target))
        except (EchoError, OSError, ValueError) as ex:
            self._log.warning('Message not sent: %s', ex)

    # --- called by the event loop, and by the pipeline ---

    def _receive(self, data: bytes, addr: Address) -> None:
        self._pipeline.handle_frame(data, addr)

    def _is_from(self, sender: Address, addr: Any) -> bool:
        return self._addresses.is_from(sender, addr)

    def _count_malformed(self, addr: Address) -> None:
        self._exchange.malformed(addr, monotonic())

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
        self._endpoint.connection_made(transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Called by the event loop with each datagram.

        Parameters
        ----------
        data : bytes
            The datagram.
        addr : tuple
            Where it came from.
        """
        self._pipeline.datagram_received(data, addr)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the newest TCP connection, as its transport delivers them.

        Parameters
        ----------
        data : bytes
            Any piece of the stream.
        """
        self._endpoint.data_received(data)

    def error_received(self, exc: Exception) -> None:
        """Called by the event loop with an error that the system reports for an earlier datagram.

        Parameters
        ----------
        exc : Exception
            The error.
        """
        self._endpoint.error_received(exc)

    def eof_received(self) -> None:
        """Called when a TCP peer has ended its side of the connection; the connection closes."""
        self._endpoint.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop when the transport is gone.

        Parameters
        ----------
        exc : BaseException or None
            The reason; None if this end or the other closed it in the ordinary way.
        """
        self._endpoint.connection_lost(exc)

    # --- closing ---

    def _check_open(self) -> None:
        self._pipeline.check_open()

    def _check_usable(self) -> None:
        if self._pipeline.closed or not self._pipeline.reconnects:
            self._check_open()

    def close(self) -> None:
        """Close the communicator; its callbacks are removed and its futures cancelled.

        Coroutines that wait for a confirmation or an event raise `ConnectionClosedError`. Closing twice does nothing.
        """
        pipeline = self._pipeline
        if pipeline.closed:
            return
        if self._loop.is_closed():
            pipeline.closed = True
        else:
            pipeline.write_all()
            pipeline.closed = True
            self._endpoint.close_sockets()
            super().close()
            self._flow_control.close()
            pipeline.close()
            self._last_sent.cancel_all()
            self._endpoint.end()

    async def wait_closed(self) -> None:
        """Wait until the communicator is closed and its sockets are gone."""
        await self._endpoint.wait_closed()

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
        await self.wait_closed()
