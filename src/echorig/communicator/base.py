"""What every communicator has, whatever its transport: an address, listeners, messages to bytes and back."""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from typing import Any

from ..checks import described, flag
from ..errors import ConnectionClosedError, EchoError
from ..events._dispatch import deliver
from ..events.callbacks import CallbackTable, Listener, checked_listener
from ..events.event_queue import EventStream, Waiting, bits
from ..messages import ExpMessage
from ..resolver import validate_uri
from ..security.log_limit import LogLimit, OncePerPeer
from ..security.redaction import printable, redact_error, redact_frame
from ..security.safe_log import SafeLog
from ..tuning import DEFAULT_TUNING, InternalTuning, Tuning
from ..uri import Address, address_text, parse
from ..wire import _codec
from ..wire.notices import event_of_notice, is_about_no_message
from .options import check_identity
from .service import Service

__all__ = ['Communicator']

# Which warnings have been shown: each text once, as Python does, but a peer must not make the list grow for ever.
_warned: dict[Any, Any] = {}
_MAX_WARNED = 100
_ANY = ExpMessage.any()
_FAILURES = 10  # times as many as of other warnings are logged: all rigs of a session may fail at once
_LONGEST_NOTICE = 1000  # characters; an error text is for people, and MATLAB reads 512 bytes or 1,000


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

    Attributes
    ----------
    server_uri : str
        The complete URI.
    name : str
        The label.
    logger : logging.Logger
        Where this communicator logs.

    Raises
    ------
    TypeError, ValueError
        The URI is not valid, see :func:`echorig.validate_uri`.
    """

    __slots__ = (
        '_callbacks',
        '_identity',
        '_keeps_messages',
        '_log',
        '_log_limit',
        '_once',
        '_tuning',
        '_waiting',
        'logger',
        'name',
        'server_uri',
    )
    server_uri: str
    logger: logging.Logger
    _callbacks: CallbackTable

    def __init__(
        self,
        server_uri: Any,
        name: str | None = None,
        logger: logging.Logger | None = None,
        tuning: Tuning = DEFAULT_TUNING,
    ) -> None:
        check_identity(name, logger, tuning, 'logger')
        self.server_uri = validate_uri(server_uri)
        self.name = name or self.server_uri
        self.logger = logger or logging.getLogger(self.name)
        self._log = SafeLog(self.logger)
        self._tuning = InternalTuning.of(tuning)
        self._log_limit = LogLimit(self._log, tuning.log_burst, tuning.log_interval)
        self._once = OncePerPeer()
        self._callbacks = CallbackTable()
        self._identity = object()
        self._waiting = Waiting(tuning.max_backlog, self._tuning.max_backlog_bytes, self._tuning.backlog_age, self._log)
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
        deliver(self, self._waiting, self._callbacks, data, addr)

    def _malformed(self, data: bytes, addr: Address, why: str, expected_list: bool = True) -> None:
        """Log what is no message, unless there is too much of it."""
        if not self._log_limit.allows('that were no message', addr):
            return
        self._log.warning('Ignored %d bytes from %s:%s, no message (%s): %s', len(data), *addr, why, redact_frame(data))
        if expected_list:
            if len(_warned) > _MAX_WARNED:
                _warned.clear()
            warnings.warn_explicit(
                f'Expected list, got {redact_frame(data)}',
                RuntimeWarning,
                __file__,
                0,
                module=__name__,
                registry=_warned,
            )

    def _log_latin1(self, addr: Address) -> None:
        """Say of a peer that it writes Latin-1."""
        if self._once.allows('Latin-1', addr) and self._log_limit.allows('messages in Latin-1', addr):
            self._log.warning(
                'Messages from %s are no UTF-8, as those of MATLAB are: read as Latin-1 from now on',
                address_text(self.protocol, addr),
            )

    def _log_notice(self, content: list[Any], addr: Address) -> bool:
        """Log a notice; tell whether it is about something that a program has sent."""
        if is_about_no_message(content):
            if self._once.allows('pings', addr) and self._log_limit.allows('notices about pings', addr):
                self._log.info(
                    '%s sends notices about pings and about notices: ignored', address_text(self.protocol, addr)
                )
            return False
        if not self._log_limit.allows('failures of callbacks there', addr, _FAILURES):
            return True
        name = event_of_notice(content)
        details = str(content[0])[: 4 * _LONGEST_NOTICE] if content else 'no details'
        self._log.error(
            'Callback for %s on %s failed with %s',
            'an unnamed event' if name is None else ExpMessage(name).name or name,
            address_text(self.protocol, addr),
            printable(redact_error(details, name)),
        )
        return True

    def _report(self, callback: Any, event: ExpMessage, error: BaseException, addr: Address) -> None:
        """Log that a callback failed, and tell the sender of the message.

        A failure in a callback for notices is only logged, or two such callbacks would keep each other busy.
        """
        text = redact_error(f'{type(error).__name__}: {_text(error)}', event)
        if self._log_limit.allows('failures of callbacks here', addr, _FAILURES):
            self._log.error('Callback "%s" failed with error "%s"', callback, text)
        if event:
            try:
                self.send([0, text[:_LONGEST_NOTICE], int(event)], addr)
            except (OSError, ValueError, EchoError) as ex:
                self._log.warning('No notice sent to %s:%s: %s', *addr, ex)

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

    # --- sending and closing ---

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


def _text(error: BaseException) -> str:
    """Return the text of an exception, even of one that has none to give."""
    try:
        return str(error)
    except Exception as ex:
        return f'(no text: {type(ex).__name__})'
