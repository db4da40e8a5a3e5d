"""`EchoProtocol`: one end of a conversation with rigs: opening it, and sending messages that are confirmed.

1. A message that fails closes nothing: the communicator, its callbacks and its other peers stay usable.
2. Nothing that a peer sends raises into the event loop.
3. This class composes the parts and decides nothing itself: `Exchange` has the rules, `MessagePipeline` carries
   frames, `Endpoint` has the sockets, `Sender` waits, `AddressBook` and `AccessPolicy` know the peers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Literal, TypeVar

from ..checks import described, number_of, seconds, set_checked, short
from ..delivery._exchange import Exchange
from ..delivery.statistics import Peers
from ..errors import EchoError, EchoTimeoutError
from ..events._reply_context import Question, asking, current, names
from ..events.backlog import Message
from ..events.notifier import ConnectionChange
from ..events.stream import Stream
from ..messages import ExpMessage
from ..resolver import resolve
from ..security.access import AccessPolicy, signer_for
from ..security.allowlist import allowed, check_server
from ..security.redaction import LazyFrame
from ..security.rejections import Rejected
from ..stall import wait_for
from ..transports import sockets
from ..transports.udp import max_size as udp_limit
from ..tuning import DEFAULT_TUNING, Tuning
from ..uri import Address, Uri, as_address, checked_address, is_valid_ip
from ..wire._codec import is_raw
from ._pipeline import MessagePipeline
from .addressing import AddressBook
from .base import Communicator
from .documented import documented_like
from .endpoint import Endpoint
from .failure import Failure, failure_of
from .flow_control import FlowControl
from .labels import Labels
from .last_sent import LastSent
from .options import check_options, check_socket, polling, settings
from .sender import Sender
from .service import Service

__all__ = ['EchoProtocol']

_DELETED = object()
_Self = TypeVar('_Self', bound='EchoProtocol')
_Method = TypeVar('_Method', bound=Callable[..., Any])


def _check_text(data: str) -> None:
    """Refuse text that has no bytes."""
    if not data.isascii():
        try:
            data.encode()
        except UnicodeEncodeError as ex:
            raise ValueError(f'data must be text that can be written as UTF-8, not {short(data)}') from ex


def _sending(message: str) -> Callable[[_Method], _Method]:
    """Document a method that sends a message of `Service` and waits for its confirmation."""
    return documented_like(
        getattr(Service, message),
        'Send',
        ', and wait for its confirmation.',
        """
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.
        """,
        """
        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        TypeError, ValueError
            An argument is not valid.
        EchoError
            As in `confirmed_send`.
        """,
    )


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
        communicator is closed (the result says so). A client that finds its server again has a new one.
    on_error_received : asyncio.Future
        Done when the system reports an error of the transport, which is the result.
    on_eof_received : asyncio.Future
        Done when a TCP peer has ended its side of the connection.

    Raises
    ------
    ValueError
        The role is neither client nor server, the URI is not valid, or the key is too short.
    """

    __slots__ = ('__dict__', '__weakref__', '_role', 'tuning')

    default_echo_timeout: float = 1.0
    response_timeout: float = 3.0
    """float: How long to wait for the answer to a request, in seconds."""
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
        is_udp = self.protocol == 'udp'
        labels = self._labels = Labels(self.name, self.server_uri, self.protocol, self._is_client)
        self._access = AccessPolicy(self.name, self._log)
        self._addresses = AddressBook(
            *(labels, (self.hostname, self.port), self._access.admits, self._log, self._log_limit)
        )
        signer = signer_for(key, is_udp, tuning)
        longest = tuning.max_stream_message if signer is not None else sys.maxsize
        if is_udp:
            longest = udp_limit(self.hostname)
        self._exchange = Exchange(
            tuning,
            stream=not is_udp,
            max_size=self.max_message_size,
            run=secrets.randbits(31),
            max_frame=2**62 if signer is not None else longest if is_udp else tuning.max_stream_message,
            signed=signer is not None,
        )
        self._pipeline = MessagePipeline(
            *(loop, self._exchange, self._dispatcher, self, labels, self.logger, self._log, self._log_limit),
            connected=self._is_client,
            longest=longest,
            datagrams=is_udp,
            signer=signer,
        )
        self._sender = Sender(self._pipeline, labels, tuning.min_truncated, lambda: self.max_message_size)
        self._flow_control = FlowControl(
            *(self._exchange, self._waiting, loop, is_udp),
            lambda frame, addr: self._receive(frame, addr),
            self._pipeline.replay,
            lambda addr: is_udp or addr in self._connections,
            lambda: self.default_echo_timeout,
        )
        self._endpoint = Endpoint(
            *(labels, tuning, self._pipeline, self._sender, self._addresses, self._access),
            *(self._log, self._log_limit, self._waiting.fail),
        )
        self._access.on_unsigned = self._sender.not_signed
        self._waiting.on_room = self._flow_control.update
        self._pipeline.observer = self._sender
        self._pipeline.on_refused = self._flow_control.on_refused
        self._pipeline.on_unsigned = self._access.refuse_unsigned
        self._pipeline.source_of = self._addresses.source_of
        self._pipeline.max_message_size = lambda: self.max_message_size

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
        com._access.allowed = allow
        com._addresses.names[given.host] = uri.host
        com._flow_control.pause()
        try:
            com.busy_poll = kwargs.pop('busy_poll', 0.0)
            await com._endpoint.listen(com, uri, kwargs)
        except BaseException:
            com.close()
            if own is not None:
                own.close()
            raise
        com._log.info('Listening on %s', com.server_uri)
        com._flow_control.resume_soon()
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
        com._addresses.names[given.host] = uri.host
        own = sockets.connected(uri, kwargs)
        try:
            com.busy_poll = kwargs.pop('busy_poll', 0.0)
            await com._endpoint.connect(com, uri, given.host, kwargs)
        except BaseException:
            com.close()
            if own is not None:
                own.close()
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
        """asyncio.Future: Done when the connection of a client is gone, and when the communicator is closed."""
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
        """mapping: What was refused, by host: ``communicator.rejected['10.0.0.66']`` is a `Rejected`.

        It is made when it is asked for. Hosts beyond the first 256 are counted together, as ``'*'``.
        """
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

    def assign_connection_callback(self, callback: Callable[[ConnectionChange], Any]) -> None:
        """Register a function to be told when a TCP connection is made or lost.

        A client is told when it has lost its server and when it has found it again, a server of each client that
        comes and goes. The first connection of a client is there before anybody can ask.

        Parameters
        ----------
        callback : callable
            Called as ``callback(change)``, with a :class:`ConnectionChange`; a coroutine function runs as a task.

        Raises
        ------
        TypeError
            `callback` is not callable.
        ConnectionClosedError
            The communicator is closed.
        """
        self._check_usable()
        self._endpoint.changes.add(callback)

    def clear_connection_callbacks(self, callback: Callable[[ConnectionChange], Any] | None = None) -> int:
        """Remove a function that is told of connections, or all of them.

        Parameters
        ----------
        callback : callable, optional
            What to remove; by default everything.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        TypeError
            `callback` is not callable.
        """
        return self._endpoint.changes.remove(callback)

    def connection_events(self, limit: int | None = None) -> Stream[ConnectionChange]:
        """Read with ``async for`` which TCP connections are made and lost.

        Parameters
        ----------
        limit : int, optional
            How many changes may wait to be read, by default `Tuning.max_backlog`.

        Returns
        -------
        Stream
            An asynchronous context manager and iterator of :class:`ConnectionChange`. When the communicator is
            closed, the iteration raises `ConnectionClosedError` after what has come until then.

        Raises
        ------
        TypeError, ValueError
            The limit is no positive whole number.
        """
        return self._endpoint.changes.stream(limit, self._check_usable)

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
            _check_text(data)
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
            _check_text(data)
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

    # --- the messages of an experiment ---

    @_sending('init')
    async def init(self, data: Any = None, addr: Any = None) -> None:
        await self.confirmed_send(Service.init(self, data), addr=addr)

    @_sending('start')
    async def start(self, exp_ref: Any, data: Any = None, addr: Any = None) -> None:
        await self.confirmed_send(Service.start(self, exp_ref, data), addr=addr)

    @_sending('stop')
    async def stop(self, data: Any = None, immediately: bool = False, addr: Any = None) -> None:
        await self.confirmed_send(Service.stop(self, data, immediately), addr=addr)

    @_sending('status')
    async def status(self, status: Any, addr: Any = None) -> None:
        await self.confirmed_send(Service.status(self, status), addr=addr)

    @_sending('info')
    async def info(self, status: Any, data: Any = None, addr: Any = None) -> None:
        await self.confirmed_send(Service.info(self, status, data), addr=addr)

    @_sending('cleanup')
    async def cleanup(self, data: Any = None, addr: Any = None) -> None:
        await self.confirmed_send(Service.cleanup(self, data), addr=addr)

    async def alyx(self, alyx: Any = None, addr: Any = None) -> list[Any] | None:
        """Hand an Alyx token to the remote host, or ask the remote host for one.

        Parameters
        ----------
        alyx : one.webclient.AlyxClient, optional
            The client whose token to send. Without one, or where it is not logged in, the remote host is
            asked for its token.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Returns
        -------
        list of (str, dict) or None
            After a request, what the remote host answered: ``[base_url, {user: token}]``.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time, or, after a request, sent no token within
            `response_timeout` seconds.
        """
        message = Service.alyx(self, alyx)
        if all(message):
            await self.confirmed_send(message, addr=addr)
            return None
        question = Question()
        token = asking.set(question)
        # The answer may come together with the echo: listen before asking.
        answer = self._waiting.expect(ExpMessage.ALYX)
        try:
            await self.confirmed_send(message, addr=addr)
            timeout = seconds(self.response_timeout, 'response_timeout')
            return await wait_for(self._token(answer, question, addr), timeout)
        except EchoTimeoutError:
            raise
        except asyncio.TimeoutError:
            raise EchoTimeoutError(
                f'{self.name} ({self.server_uri}) sent no Alyx token within {self.response_timeout} s'
            ) from None
        finally:
            asking.reset(token)
            question.close()
            self._waiting.forget(answer)

    async def _token(self, answer: asyncio.Future[Message], question: Question, addr: Any) -> list[Any]:
        """Return the token that answers a question; it runs as a task, with a context of its own."""
        _, data, sender, origin, _ = await answer
        current.set(origin)
        while names(self, question) == 0 or (addr is not None and not self._addresses.is_from(sender, addr)):
            # Another client's, or of an earlier request; the right one may have come in the same turn.
            data, sender = await self._waiting.next(ExpMessage.ALYX)
        return list(data)

    # --- called by the event loop, and by the pipeline ---

    def _receive(self, data: bytes, addr: Address) -> None:
        self._pipeline.handle_frame(data, addr)

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

        `on_connection_lost` is resolved. Coroutines that wait for a confirmation or an event raise
        `ConnectionClosedError`. Closing twice does nothing.
        """
        pipeline, gone = self._pipeline, self._loop.is_closed()
        if pipeline.closed:
            return
        if not gone:
            pipeline.write_all()
        pipeline.closed = True
        if not gone:
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()
