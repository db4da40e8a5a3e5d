"""`Communicator`: the parts that do not depend on the transport: address, callbacks, encoding, experiment messages."""

from __future__ import annotations

import asyncio
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ..aliases import (
    AddressLike,
    AlyxClient,
    AnyCallback,
    AnyEvent,
    Callback,
    Data,
    ExpRef,
    Listener,
    MessageFuture,
    SingleEvent,
    Status,
    UriLike,
)
from ..checks import described, flag, seconds
from ..compatibility import in_force
from ..errors import ConnectionClosedError, EchoError, EchoTimeoutError
from ..events._dispatch import Dispatcher
from ..events._message import ReceivedMessage
from ..events._reply_context import OutgoingRequest, current_request, is_reply_to, outgoing_request
from ..events.callbacks import CallbackTable, checked_listener
from ..events.event_queue import EventQueue, EventStream, bits
from ..events.message_log import MessageLog
from ..events.notifier import ConnectionEvent, Notifier
from ..events.stream import Stream
from ..messages import ExpMessage
from ..resolver import validate_uri
from ..security.log_limit import RateLimitedLog
from ..security.safe_log import SafeLog
from ..stall import wait_for
from ..tuning import DEFAULT_TUNING, InternalTuning, Tuning
from ..uri import Address, checked_address, parse
from ..wire import _codec
from .documented import documented_like
from .options import check_identity
from .service import Service

__all__ = ['Communicator']

_ANY = ExpMessage.any()
_Method = TypeVar('_Method', bound=Callable[..., Any])


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
        TypeError, ValueError, EchoError
            As in `confirmed_send`.
        """,
    )


class Communicator(Service):
    """The base of all communicators.

    The methods raise `TypeError` or `ValueError` for arguments that are not valid, and `ConnectionClosedError` after
    `close`.

    Parameters
    ----------
    server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
        The address of the server: one's own in the server role, the remote one in the client role.
    name : str, optional
        A label, by default the URI.
    logger : logging.Logger, optional
        Where to log, by default the logger called `name`.
    tuning : Tuning, optional
        Limits and timings.
    call_later : callable, optional
        That of the event loop; with it, suppressed warnings are summed up in time.

    Attributes
    ----------
    server_uri : str
        The complete URI.
    name : str
        The label.
    logger : logging.Logger
        Where this communicator logs.
    receiver_id : object
        An opaque id of this communicator; a reference would keep it alive.
    """

    # Names of the class too, so that a mock with its specification has them.
    __slots__ = ('__dict__', '_callbacks', 'logger', 'receiver_id', 'server_uri')
    server_uri: str
    logger: logging.Logger
    response_timeout: float = 3.0
    """float: How long to wait for the answer to a request, in seconds."""
    _callbacks: CallbackTable

    def __init__(
        self,
        server_uri: UriLike,
        name: str | None = None,
        logger: logging.Logger | None = None,
        tuning: Tuning = DEFAULT_TUNING,
        call_later: Callable[..., object] | None = None,
    ) -> None:
        check_identity(name, logger, tuning, 'logger')
        self.server_uri = validate_uri(server_uri)
        self.name = name or self.server_uri
        self.logger = logger or logging.getLogger(self.name)
        self._log = SafeLog(self.logger)
        self._tuning = InternalTuning.of(tuning)
        self._log_limit = RateLimitedLog(self._log, tuning.log_burst, tuning.log_interval, call_later)
        self._callbacks = CallbackTable()
        self._connection_notifier: Notifier[ConnectionEvent] = Notifier(tuning.max_backlog, self._log)
        self.receiver_id = object()
        self._event_queue = EventQueue(
            tuning.max_backlog, self._tuning.max_backlog_bytes, self._tuning.backlog_age, self._log
        )
        faults = MessageLog(self._log, self._log_limit, self.protocol, self._notify, self._count_malformed)
        self._dispatcher = Dispatcher(self._event_queue, self._callbacks, faults, self.receiver_id)
        self._has_backlog = False  # whether messages of an event are kept between two calls of on_event

    # --- the address ---

    @property
    def port(self) -> int:
        """int: The port of the server."""
        return parse(self.server_uri).port

    @property
    def hostname(self) -> str:
        """str: The host name or IP address of the server."""
        return parse(self.server_uri).host

    @property
    def protocol(self) -> str:
        """str: The scheme of the URI, such as udp or ws."""
        return parse(self.server_uri).scheme

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged."""

    # --- callbacks, waiters and streams ---

    @overload
    def assign_callback(
        self, event: SingleEvent, callback: Callback | asyncio.Future[tuple[Data, Address]]
    ) -> None: ...
    @overload
    def assign_callback(self, event: int | ExpMessage, callback: AnyCallback | MessageFuture) -> None: ...
    def assign_callback(self, event: AnyEvent, callback: AnyCallback | MessageFuture) -> None:
        """Register a function or a future for an event.

        A function is called for each message, as ``callback(data, addr)``, or as ``callback(data, addr, event)`` if it
        was registered for a combination of events. A coroutine function runs as a task. A future is resolved once. If a
        callback raises, the sender receives a notice.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events; 0 for the notices of remote failures.
        callback : callable or asyncio.Future
            The function or the future.
        """
        self._check_usable()
        self._callbacks.add(ExpMessage.validate(event), callback)

    def clear_callbacks(self, event: AnyEvent, callback: Listener | None = None, cancel_futures: bool = True) -> int:
        """Remove a callback, or all of them, from an event; return how many were removed.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable or asyncio.Future, optional
            What to remove; by default everything.
        cancel_futures : bool
            Whether the futures removed are cancelled.
        """
        event = ExpMessage.validate(event)
        flag(cancel_futures, 'cancel_futures')
        if callback is not None:
            checked_listener(callback)
        removed = self._callbacks.remove(event, callback, cancel_futures)
        if callback is None:
            removed += self._event_queue.fail(EchoError(f'clear_callbacks({event!r}) was called on {self.name}'), event)
        self._log.debug('[%s] %i callbacks cleared', self.name, removed)
        return removed

    # Of a combination a checker knows no length, because a variable of the type ExpMessage may be a single event.
    @overload
    async def on_event(self, event: SingleEvent) -> tuple[Data, Address]: ...
    @overload
    async def on_event(self, event: AnyEvent) -> tuple[Any, ...]: ...
    async def on_event(self, event: AnyEvent) -> tuple[Any, ...]:
        """Wait for an event.

        In the server role a loop around this misses no message. After the first call for an event, its messages are
        kept until the next call, and returned in order. While `Tuning.max_backlog` messages or 64 MiB are kept, further
        messages are not confirmed. If the program waits for other events instead, a kept message is dropped with a
        warning after 10 s.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.

        Returns
        -------
        tuple
            ``(data, addr)``, or ``(data, addr, event)`` for a combination: the data (a list), the (host, port) of the
            sender, and the event.

        Raises
        ------
        TypeError, ValueError
            There is no such event.
        ConnectionClosedError
            The communicator is or gets closed, or the connection is lost.

        Examples
        --------
        >>> data, addr = await com.on_event('EXPSTART')  # doctest: +SKIP
        >>> data, addr, event = await com.on_event(ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT)  # doctest: +SKIP
        """
        self._check_open()
        event = ExpMessage.validate(event)
        if self._has_backlog:
            self._event_queue.enable_backlog(bits(event))
        try:
            return await self._event_queue.next(event)
        except EchoError as ex:
            self._cancel_instead(ex)
            raise

    def events(self, event: AnyEvent = _ANY, limit: int | None = None) -> EventStream:
        """Read all messages that arrive during an ``async with`` block with ``async for``, in both roles.

        Any number of streams may be open. Each of them gets every message, and so do callbacks and `on_event`.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events, by default any; 0 for the notices of remote failures.
        limit : int, optional
            How many messages may wait to be read, by default `Tuning.max_backlog`. If there are more, the oldest is
            dropped, logged, and counted in ``stream.dropped``.

        Returns
        -------
        Stream
            An asynchronous context manager and iterator of ``(data, addr, event)``. When the communicator is
            closed, the iteration raises `ConnectionClosedError` after the last message.

        Examples
        --------
        >>> async with com.events() as stream:  # doctest: +SKIP
        ...     async for data, addr, event in stream:
        ...         print(event.name, data)
        """
        return self._event_queue.stream(ExpMessage.validate(event), limit, self._check_usable)

    def assign_connection_callback(self, callback: Callable[[ConnectionEvent], object]) -> None:
        """Register a function that is called when a TCP connection is made or lost.

        A client reports the loss of its server and the next connection, but not the first one. A server reports each
        client that connects or disconnects.

        Parameters
        ----------
        callback : callable
            Called as ``callback(event)``, with a :class:`ConnectionEvent`; a coroutine function runs as a task.
        """
        self._check_usable()
        self._connection_notifier.add(callback)

    def clear_connection_callbacks(self, callback: Callable[[ConnectionEvent], object] | None = None) -> int:
        """Remove a connection callback, or all of them; return how many were removed.

        Parameters
        ----------
        callback : callable, optional
            What to remove; by default everything.
        """
        return self._connection_notifier.remove(callback)

    def connection_events(self, limit: int | None = None) -> Stream[ConnectionEvent]:
        """Read the TCP connections that are made and lost, a stream of :class:`ConnectionEvent`, like `events`.

        Parameters
        ----------
        limit : int, optional
            How many events may wait to be read, by default `Tuning.max_backlog`.
        """
        return self._connection_notifier.stream(limit, self._check_usable)

    # --- receiving ---

    def _receive(self, data: bytes, addr: Address) -> None:
        """Decode a frame and call the listeners of its event; log a frame that is no message."""
        self._dispatcher.deliver(data, addr)

    def _notify(self, notice: list[Any], addr: Address) -> None:
        self.send(notice, addr)

    def _count_malformed(self, addr: Address) -> None:
        """Count a frame that is no message."""

    # --- bytes ---

    encode = staticmethod(_codec.as_bytes)

    @staticmethod
    def decode(data: bytes) -> Any:
        r"""Read JSON, or failing that, text.

        Parameters
        ----------
        data : bytes
            The bytes.

        Returns
        -------
        Any
            The message, or the text of `data` with a warning. Bytes that are not UTF-8 appear in it as ``\\xNN``.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f'data must be bytes, not {described(data)}')
        data = bytes(data)
        try:
            return _codec.decode(data)
        except ValueError:
            warnings.warn('Failed to decode as JSON', stacklevel=2)
            return data.decode('utf-8', 'backslashreplace')

    # --- the messages of an experiment ---

    @_sending('init')
    async def init(self, data: object = None, addr: AddressLike | None = None) -> None:
        await self.confirmed_send(Service.init(self, data), addr=addr)

    @_sending('start')
    async def start(self, exp_ref: ExpRef, data: object = None, addr: AddressLike | None = None) -> None:
        await self.confirmed_send(Service.start(self, exp_ref, data), addr=addr)

    @_sending('stop')
    async def stop(self, data: object = None, immediately: bool = False, addr: AddressLike | None = None) -> None:
        await self.confirmed_send(Service.stop(self, data, immediately), addr=addr)

    @_sending('status')
    async def status(self, status: Status, addr: AddressLike | None = None) -> None:
        await self.confirmed_send(Service.status(self, status), addr=addr)

    @_sending('info')
    async def info(self, status: Status, data: object = None, addr: AddressLike | None = None) -> None:
        await self.confirmed_send(Service.info(self, status, data), addr=addr)

    @_sending('cleanup')
    async def cleanup(self, data: object = None, addr: AddressLike | None = None) -> None:
        await self.confirmed_send(Service.cleanup(self, data), addr=addr)

    async def alyx(self, alyx: AlyxClient | None = None, addr: AddressLike | None = None) -> list[Any] | None:
        """Send an Alyx token to the remote host, or request the token of the remote host.

        Parameters
        ----------
        alyx : one.webclient.AlyxClient, optional
            The client whose token to send. Without one, or if it is not logged in, the message is a request.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Returns
        -------
        list of (str, dict) or None
            The answer to a request: ``[base_url, {user: token}]``.

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
        request = OutgoingRequest()
        token = outgoing_request.set(request)
        # The answer may arrive together with the echo, so the waiter is registered before the request is sent.
        answer = self._event_queue.add_waiter(bits(ExpMessage.ALYX))
        try:
            await self.confirmed_send(message, addr=addr)
            timeout = seconds(self.response_timeout, 'response_timeout')  # on a class it is not checked
            try:
                return await wait_for(self._token(answer, request, addr), timeout)
            except EchoError as ex:
                self._cancel_instead(ex)
                raise
        except EchoTimeoutError:
            raise
        except asyncio.TimeoutError:
            raise EchoTimeoutError(
                f'{self.name} ({self.server_uri}) sent no Alyx token within {self.response_timeout} s'
            ) from None
        finally:
            outgoing_request.reset(token)
            request.close()
            self._event_queue.remove_waiter(answer)

    def _cancel_instead(self, error: EchoError) -> None:
        """Raise `CancelledError` if iblutil would cancel the coroutine that fails with `error`.

        iblutil cancels on a local ``close`` and on ``clear_callbacks``, never because of the peer.
        """
        is_local = self._event_queue.is_closed if isinstance(error, ConnectionClosedError) else type(error) is EchoError
        if is_local and in_force().cancel_waiters:
            raise asyncio.CancelledError('Close called on communicator') from error

    async def _token(
        self, answer: asyncio.Future[ReceivedMessage], request: OutgoingRequest, addr: AddressLike | None
    ) -> list[Any]:
        """Return the token that answers a request; this runs as a task, with a context of its own."""
        message = await answer
        data, sender = message.data, message.addr
        current_request.set(message.request)
        while is_reply_to(self, request) is False or (addr is not None and not self._is_from(sender, addr)):
            # This token is of another client or an earlier request; the right one may follow in the same iteration.
            data, sender = await self._event_queue.next(ExpMessage.ALYX)
        return list(data)

    def _is_from(self, sender: Address, addr: AddressLike) -> bool:
        """Return whether a message came from an address given by a user."""
        return sender == checked_address(addr)

    # --- sending and closing ---

    @abstractmethod
    async def confirmed_send(self, data: object, addr: AddressLike | None = None, timeout: float | None = None) -> None:
        """Send a message and wait for its echo.

        Parameters
        ----------
        data : Any
            The message.
        addr : tuple of (str, int), optional
            The remote host and port.
        timeout : float, optional
            How long to wait, in seconds.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time.
        """

    @abstractmethod
    def send(self, data: object, addr: AddressLike | None = None) -> None:
        """Send a message without waiting for its confirmation.

        Parameters
        ----------
        data : Any
            The message.
        addr : tuple of (str, int), optional
            The remote host and port.
        """

    def _check_open(self) -> None:
        """Raise `ConnectionClosedError` if the communicator is closed, or has lost its connection."""

    def _check_usable(self) -> None:
        """Raise `ConnectionClosedError` if the communicator is closed, or has lost its connection for good."""
        self._check_open()

    def close(self) -> None:
        """Remove the callbacks, cancel the futures among them, and fail the coroutines that wait for events."""
        self._event_queue.close(ConnectionClosedError(f'{self.name} ({self.server_uri}) was closed'))
        self._callbacks.close()
        self._log_limit.close()
