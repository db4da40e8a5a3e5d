"""What every communicator has, whatever its transport: an address, listeners, messages to bytes and back."""

from __future__ import annotations

import asyncio
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from ..checks import described, flag, seconds
from ..errors import ConnectionClosedError, EchoError, EchoTimeoutError
from ..events._dispatch import Dispatcher
from ..events._message import ReceivedMessage
from ..events._reply_context import Question, asking, current, names
from ..events.callbacks import CallbackTable, Listener, checked_listener
from ..events.event_queue import EventStream, Waiting, bits
from ..events.message_log import MessageLog
from ..events.notifier import Changes, ConnectionChange
from ..events.stream import Stream
from ..messages import ExpMessage
from ..resolver import validate_uri
from ..security.log_limit import LogLimit
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
        TypeError, ValueError
            An argument is not valid.
        EchoError
            As in `confirmed_send`.
        """,
    )


class Communicator(Service):
    """The base of everything that talks to rigs.

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
        That of the event loop; with it, warnings that were left out are summed up in time.

    Attributes
    ----------
    server_uri : str
        The complete URI.
    name : str
        The label.
    logger : logging.Logger
        Where this communicator logs.
    receiver_id : object
        Stands for this communicator where a reference would keep it alive.

    Raises
    ------
    TypeError, ValueError
        The URI is not valid, see :func:`echorig.validate_uri`.
    """

    __slots__ = (
        '_callbacks',
        '_changes',
        '_dispatcher',
        '_keeps_messages',
        '_log',
        '_log_limit',
        '_tuning',
        '_waiting',
        'logger',
        'name',
        'receiver_id',
        'server_uri',
    )
    server_uri: str
    logger: logging.Logger
    response_timeout: float = 3.0
    """float: How long to wait for the answer to a request, in seconds."""
    _callbacks: CallbackTable

    def __init__(
        self,
        server_uri: Any,
        name: str | None = None,
        logger: logging.Logger | None = None,
        tuning: Tuning = DEFAULT_TUNING,
        call_later: Callable[..., Any] | None = None,
    ) -> None:
        check_identity(name, logger, tuning, 'logger')
        self.server_uri = validate_uri(server_uri)
        self.name = name or self.server_uri
        self.logger = logger or logging.getLogger(self.name)
        self._log = SafeLog(self.logger)
        self._tuning = InternalTuning.of(tuning)
        self._log_limit = LogLimit(self._log, tuning.log_burst, tuning.log_interval, call_later)
        self._callbacks = CallbackTable()
        self._changes: Changes[ConnectionChange] = Changes('changes', tuning.max_backlog, self._log)
        self.receiver_id = object()
        self._waiting = Waiting(tuning.max_backlog, self._tuning.max_backlog_bytes, self._tuning.backlog_age, self._log)
        faults = MessageLog(self._log, self._log_limit, self.protocol, self._notify, self._count_malformed)
        self._dispatcher = Dispatcher(self._waiting, self._callbacks, faults, self.receiver_id)
        self._keeps_messages = False  # whether an event that is waited for in a loop is kept meanwhile

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

    # --- listening ---

    def assign_callback(self, event: str | int | ExpMessage, callback: Listener) -> None:
        """Register a function or future to be told when an event comes.

        A function is told every time, a future once. It is called as ``callback(data, addr)``, or as
        ``callback(data, addr, event)`` if it was registered for a combination of events. A coroutine
        function runs as a task. If a callback raises, the sender is sent a notice.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events; 0 for the notices of remote failures.
        callback : callable or asyncio.Future
            What to tell.

        Raises
        ------
        TypeError
            `callback` is neither, or `event` no event.
        ValueError
            There is no such event.
        ConnectionClosedError
            The communicator is closed.
        """
        self._check_usable()
        self._callbacks.add(ExpMessage.validate(event), callback)

    def clear_callbacks(
        self, event: str | int | ExpMessage, callback: Listener | None = None, cancel_futures: bool = True
    ) -> int:
        """Remove a callback, or all of them, from an event.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable or asyncio.Future, optional
            What to remove; by default everything.
        cancel_futures : bool
            Whether the futures removed are cancelled.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        TypeError, ValueError
            There is no such event, or `callback` is neither callable nor a future.
        """
        event = ExpMessage.validate(event)
        flag(cancel_futures, 'cancel_futures')
        if callback is not None:
            checked_listener(callback)
        if callback is None:  # nobody has cancelled the tasks that wait in on_event, so they are told what happened
            told = self._waiting.fail(EchoError(f'clear_callbacks({event!r}) was called on {self.name}'), event)
        else:
            told = 0
        removed = told + self._callbacks.remove(event, callback, cancel_futures)
        self._log.debug('[%s] %i callbacks cleared', self.name, removed)
        return removed

    async def on_event(self, event: str | int | ExpMessage) -> tuple[Any, ...]:
        """Wait for an event.

        In the server role nothing is missed by a loop around this: once an event has been waited for, its
        messages are kept while nobody waits, and returned in order. While `Tuning.max_backlog` of them are kept, or
        64 MiB, others are not confirmed. A message that is passed over, because the program waits for other events, is
        dropped with a warning after 10 s.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.

        Returns
        -------
        tuple
            ``(data, addr)``, or ``(data, addr, event)`` for a combination: what came with the event (a
            list), the (host, port) that it came from, and which event it was.

        Raises
        ------
        TypeError, ValueError
            There is no such event.
        ConnectionClosedError
            The communicator is closed, or is closed meanwhile, or the connection is lost.

        Examples
        --------
        >>> data, addr = await com.on_event('EXPSTART')  # doctest: +SKIP
        >>> data, addr, event = await com.on_event(ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT)  # doctest: +SKIP
        """
        self._check_open()
        event = ExpMessage.validate(event)
        if self._keeps_messages:
            self._waiting.want(bits(event))
        return await self._waiting.next(event)

    def events(self, event: str | int | ExpMessage = _ANY, limit: int | None = None) -> EventStream:
        """Read messages with ``async for``: all that come while an ``async with`` block lasts, in both roles.

        Any number of streams may be open; each gets every message, and so does everybody else who listens.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events, by default any; 0 for the notices of remote failures.
        limit : int, optional
            How many messages may wait to be read, by default `Tuning.max_backlog`. Of more the oldest is
            dropped, which is logged, and counted in ``stream.dropped``.

        Returns
        -------
        Stream
            An asynchronous context manager and iterator of ``(data, addr, event)``. When the communicator is
            closed, the iteration raises `ConnectionClosedError` after what has come until then.

        Raises
        ------
        TypeError, ValueError
            There is no such event, or the limit is no positive number.

        Examples
        --------
        >>> async with com.events() as stream:  # doctest: +SKIP
        ...     async for data, addr, event in stream:
        ...         print(event.name, data)
        """
        return self._waiting.stream(ExpMessage.validate(event), limit, self._check_usable)

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
        self._changes.add(callback)

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
        return self._changes.remove(callback)

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
        return self._changes.stream(limit, self._check_usable)

    def _fail_waiters(self, error: EchoError) -> None:
        """End the coroutines that wait in `on_event`."""
        self._waiting.fail(error)

    # --- receiving ---

    def _receive(self, data: bytes, addr: Address) -> None:
        """Decode a message and tell its listeners; what is no message is logged.

        Parameters
        ----------
        data : bytes
            The message.
        addr : tuple of (str, int)
            Where it came from.
        """
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
            What travelled.

        Returns
        -------
        Any
            The message; where `data` is no JSON, its text (with a warning). Bytes that are no UTF-8 appear in
            it as ``\\xNN``.

        Raises
        ------
        TypeError
            `data` is not bytes.
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

    async def _token(self, answer: asyncio.Future[ReceivedMessage], question: Question, addr: Any) -> list[Any]:
        """Return the token that answers a question; it runs as a task, with a context of its own."""
        message = await answer
        data, sender = message.data, message.addr
        current.set(message.request)
        while names(self, question) == 0 or (addr is not None and not self._is_from(sender, addr)):
            # Another client's, or of an earlier request; the right one may have come in the same turn.
            data, sender = await self._waiting.next(ExpMessage.ALYX)
        return list(data)

    def _is_from(self, sender: Address, addr: Any) -> bool:
        """Return whether a message came from an address that a user gave."""
        return sender == checked_address(addr)

    # --- sending and closing ---

    @abstractmethod
    async def confirmed_send(self, data: Any, addr: Any = None, timeout: float | None = None) -> None:
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
    def send(self, data: Any, addr: Address | None = None) -> None:
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
        """Remove the callbacks and cancel the futures among them; coroutines that wait raise an error."""
        self._waiting.close(ConnectionClosedError(f'{self.name} ({self.server_uri}) was closed'))
        self._callbacks.close()
        self._log_limit.close()
