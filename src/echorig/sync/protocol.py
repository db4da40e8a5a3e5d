"""`EchoProtocol` for programs without an event loop: the same names, and each call waits for its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial, wraps
from typing import Any, ParamSpec
from weakref import WeakKeyDictionary

from ..communicator import PeerStatistics
from ..communicator.protocol import EchoProtocol as Asynchronous
from ..communicator.service import Service
from ..messages import ExpMessage
from ..security.rejections import Rejected
from ..tuning import Tuning
from ..uri import Address
from .blocking import Context, Mirrored, Twin, blocking, submitted, threadsafe
from .portal import Portal, copy_result, current_portal
from .stream import streamed, within

__all__ = ['EchoProtocol', 'SubmitEchoProtocol']

_P = ParamSpec('_P')
_ECHO = 'default_echo_timeout'


def _opening(method: Callable[_P, Coroutine[Any, Any, Asynchronous]]) -> Callable[_P, EchoProtocol]:
    """Return a function that opens a communicator on the portal."""

    @wraps(method)
    def open_(*args: _P.args, **kwargs: _P.kwargs) -> EchoProtocol:
        portal = current_portal()
        return EchoProtocol(portal.open(method.__name__, partial(method, *args, **kwargs)), portal)

    return open_


def _reading(
    com: Asynchronous, event: str | int | ExpMessage, timeout: float | None
) -> tuple[Callable[[], Coroutine[Any, Any, tuple[Any, ...]]], bool]:
    """Return `on_event` with a time limit, and whether there is one."""
    name = ExpMessage.validate(event).name
    return within(timeout, partial(com.on_event, event), f'{com.name} ({com.server_uri}): no {name} came')


class SubmitEchoProtocol(Twin):
    """The methods of a communicator that would wait, as ones that return a `concurrent.futures.Future`.

    Cancelling a future cancels the call.
    """

    wait_closed = submitted(Asynchronous.wait_closed, None)
    confirmed_send = submitted(Asynchronous.confirmed_send, _ECHO)
    ping = submitted(Asynchronous.ping, _ECHO)
    init = submitted(Asynchronous.init, _ECHO)
    start = submitted(Asynchronous.start, _ECHO)
    stop = submitted(Asynchronous.stop, _ECHO)
    status = submitted(Asynchronous.status, _ECHO)
    info = submitted(Asynchronous.info, _ECHO)
    cleanup = submitted(Asynchronous.cleanup, _ECHO)
    alyx = submitted(Asynchronous.alyx, _ECHO)

    def on_event(self, event: str | int | ExpMessage, timeout: float | None = None) -> Future[tuple[Any, ...]]:
        """Wait for an event, as :meth:`EchoProtocol.on_event`."""
        return self.portal.submit(*_reading(self.asynchronous, event, timeout))


class EchoProtocol(Context, Service):
    """A communicator whose methods wait; made by :meth:`client` and :meth:`server`, usable from any thread.

    Everything else is as with :class:`echorig.EchoProtocol`, with ``with`` and ``for`` in place of ``async with`` and
    ``async for``. Callbacks run on the background thread, and methods that wait raise `RuntimeError` in them. While a
    callback runs, nothing else is received or confirmed in the whole program, so it must be quick.

    Attributes
    ----------
    asynchronous : echorig.EchoProtocol
        The communicator itself, for callbacks that are coroutine functions; no other thread may use it.
    submit : SubmitEchoProtocol
        The same methods for those who do not want to wait: each returns a `concurrent.futures.Future`.
    """

    asynchronous: Asynchronous
    encode = staticmethod(Asynchronous.encode)
    decode = staticmethod(Asynchronous.decode)
    server = staticmethod(_opening(Asynchronous.server))
    client = staticmethod(_opening(Asynchronous.client))

    def __init__(self, asynchronous: Asynchronous, portal: Portal) -> None:
        super().__init__(asynchronous, portal)
        self.name = asynchronous.name
        self.server_uri: str = asynchronous.server_uri
        self.logger: logging.Logger = asynchronous.logger
        self.tuning: Tuning = asynchronous.tuning
        self.submit = SubmitEchoProtocol(asynchronous, portal)
        self._futures: WeakKeyDictionary[asyncio.Future[Any], Future[Any]] = WeakKeyDictionary()

    # --- state ---

    port = Mirrored[int]()
    """int: The port of the server."""
    hostname = Mirrored[str]()
    """str: The host name or IP address of the server."""
    protocol = Mirrored[str]()
    """str: The scheme of the URI, such as udp or ws."""
    role = Mirrored[str]()
    """str: 'client' or 'server'."""
    Server = Mirrored['asyncio.Server | None']()
    """asyncio.Server or None: The listening server, in the server role over TCP."""
    default_echo_timeout = Mirrored[float]()
    """float: How long to wait for an echo, in seconds, unless a timeout is given."""
    busy_poll = Mirrored[float]()
    """float: For how long to poll for messages instead of sleeping, in seconds.

    It keeps the loop that all communicators share awake, see :attr:`echorig.EchoProtocol.busy_poll`.
    """
    response_timeout = Mirrored[float]()
    """float: How long to wait for the answer to a request, in seconds."""
    max_message_size = Mirrored[int]()
    """int: The largest echo, in bytes, that peers are known to send: one of just this size may be cut short."""

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens, without any client yet."""
        return not self.portal.is_over and self.asynchronous.is_connected

    @property
    def peers(self) -> dict[Address, PeerStatistics]:
        """:obj:`dict`: What is known of each remote address, as a `PeerStatistics`, at the time of asking."""
        return self.portal.run(lambda: dict(self.asynchronous.peers))

    @property
    def rejected(self) -> dict[str, Rejected]:
        """:obj:`dict`: What was refused, by host, as a `Rejected`; ``'*'`` is all further hosts."""
        return self.portal.run(lambda: dict(self.asynchronous.rejected))

    @property
    def on_connection_lost(self) -> Future[Any]:
        """concurrent.futures.Future: Done when the connection of a client is gone, and when this is closed."""
        return self._future('on_connection_lost')

    @property
    def on_error_received(self) -> Future[Exception]:
        """concurrent.futures.Future: Done when the system reports an error of the transport, which is the result."""
        return self._future('on_error_received')

    @property
    def on_eof_received(self) -> Future[bool]:
        """concurrent.futures.Future: Done when a TCP peer has ended its side of the connection."""
        return self._future('on_eof_received')

    def _future(self, name: str) -> Future[Any]:
        """Return a future that any thread may wait for, in place of one that only the loop may."""

        def look() -> Future[Any]:
            source: asyncio.Future[Any] = getattr(self.asynchronous, name)
            if source not in self._futures:
                copy = self._futures[source] = Future()
                source.add_done_callback(lambda _: copy_result(source, copy))
            return self._futures[source]

        return self.portal.run(look)

    # --- listening ---

    assign_callback = threadsafe(Asynchronous.assign_callback)
    clear_callbacks = threadsafe(Asynchronous.clear_callbacks)
    events = streamed(Asynchronous.events)
    assign_connection_callback = threadsafe(Asynchronous.assign_connection_callback)
    clear_connection_callbacks = threadsafe(Asynchronous.clear_connection_callbacks)
    connection_events = streamed(Asynchronous.connection_events)

    def on_event(self, event: str | int | ExpMessage, timeout: float | None = None) -> tuple[Any, ...]:
        """Wait for an event, as :meth:`echorig.EchoProtocol.on_event`.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        timeout : float, optional
            How long to wait, in seconds, 0 for what has been kept; by default without limit. If the event does not come
            in time, `EchoTimeoutError` is raised.
        """
        return self.portal.call('on_event', *_reading(self.asynchronous, event, timeout))

    # --- sending ---

    awaiting_response = threadsafe(Asynchronous.awaiting_response)
    send = threadsafe(Asynchronous.send)
    confirmed_send = blocking(Asynchronous.confirmed_send, _ECHO)
    ping = blocking(Asynchronous.ping, _ECHO)
    init = blocking(Asynchronous.init, _ECHO)
    start = blocking(Asynchronous.start, _ECHO)
    stop = blocking(Asynchronous.stop, _ECHO)
    status = blocking(Asynchronous.status, _ECHO)
    info = blocking(Asynchronous.info, _ECHO)
    cleanup = blocking(Asynchronous.cleanup, _ECHO)
    alyx = blocking(Asynchronous.alyx, _ECHO)
    wait_closed = blocking(Asynchronous.wait_closed, None)

    def __repr__(self) -> str:
        return f'<{type(self).__module__}.{type(self).__name__} {self.name!r}, {self.role} of {self.server_uri}>'
