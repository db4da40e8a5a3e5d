"""`EchoProtocol` for programs without an event loop: each call waits for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, overload

from ..aliases import AnyCallback, AnyEvent, Callback, Data, SingleEvent
from ..communicator import PeerStatistics
from ..communicator.protocol import EchoProtocol as Asynchronous
from ..messages import ExpMessage
from ..security.rejections import Rejected
from ..uri import Address
from .blocking import Stream, blocking, proxied, submitted, threadsafe, with_timeout
from .portal import Portal, copy_of, current_portal
from .proxy import Attribute, ClosableProxy, Property, Proxy, ServiceBase

__all__ = ['EchoProtocol', 'SubmitEchoProtocol']

_P = ParamSpec('_P')
_ANSWER = 10.0  # seconds; the default time-out of a call
_ECHO = 'default_echo_timeout'


def _opening(method: Callable[_P, Coroutine[Any, Any, Asynchronous]]) -> Callable[_P, EchoProtocol]:
    """Return a function that opens a communicator on the portal."""

    @wraps(method)
    def open_(*args: _P.args, **kwargs: _P.kwargs) -> EchoProtocol:
        portal = current_portal()
        return EchoProtocol(portal.open(method.__name__, partial(method, *args, **kwargs)), portal)

    return open_


async def on_event(self: Asynchronous, event: AnyEvent, timeout: float | None = None) -> tuple[Any, ...]:
    """Wait for an event, as :meth:`echorig.EchoProtocol.on_event`, or raise `EchoTimeoutError`.

    `timeout` is in seconds, 0 returns only a message that was kept; by default there is no limit.
    """
    what = f'{self.name} ({self.server_uri}): no {ExpMessage.validate(event).name}'
    return await with_timeout(timeout, partial(self.on_event, event), what)


class SubmitEchoProtocol(Proxy):
    """The methods of a communicator that wait, here returning a future; cancelling the future cancels the call."""

    if TYPE_CHECKING:  # a ParamSpec does not carry overloads

        @overload
        def on_event(self, event: SingleEvent, timeout: float | None = None) -> Future[tuple[Data, Address]]: ...
        @overload
        def on_event(self, event: AnyEvent, timeout: float | None = None) -> Future[tuple[Any, ...]]: ...
        def on_event(self, event: AnyEvent, timeout: float | None = None) -> Future[Any]: ...
    else:
        on_event = submitted(on_event, None)
    wait_closed = submitted(Asynchronous.wait_closed, None)
    confirmed_send = submitted(Asynchronous.confirmed_send, _ECHO)
    call = submitted(Asynchronous.call, _ANSWER)
    ping = submitted(Asynchronous.ping, _ECHO)
    measure_clock = submitted(Asynchronous.measure_clock, None)
    init = submitted(Asynchronous.init, _ECHO)
    start = submitted(Asynchronous.start, _ECHO)
    stop = submitted(Asynchronous.stop, _ECHO)
    status = submitted(Asynchronous.status, _ECHO)
    info = submitted(Asynchronous.info, _ECHO)
    cleanup = submitted(Asynchronous.cleanup, _ECHO)
    alyx = submitted(Asynchronous.alyx, _ECHO)


class _Messages(ClosableProxy):
    """The messages of an experiment."""

    init = blocking(Asynchronous.init, _ECHO)
    start = blocking(Asynchronous.start, _ECHO)
    stop = blocking(Asynchronous.stop, _ECHO)
    status = blocking(Asynchronous.status, _ECHO)
    info = blocking(Asynchronous.info, _ECHO)
    cleanup = blocking(Asynchronous.cleanup, _ECHO)
    alyx = blocking(Asynchronous.alyx, _ECHO)


class EchoProtocol(_Messages, ServiceBase):
    """A communicator whose methods wait; made by :meth:`client` and :meth:`server`, usable from any thread.

    Everything else is as with :class:`echorig.EchoProtocol`, with ``with`` and ``for`` in place of ``async with`` and
    ``async for``. Callbacks run on the background thread, and methods that wait raise `RuntimeError` in them. While a
    callback runs, nothing else is received or confirmed in the whole program, so it must be quick.
    `submit` has the methods that wait, here returning a `concurrent.futures.Future`. `asynchronous` is the
    asynchronous communicator, for callbacks that are coroutine functions; no other thread may use it.
    """

    asynchronous: Asynchronous
    encode = staticmethod(Asynchronous.encode)
    decode = staticmethod(Asynchronous.decode)
    server = staticmethod(_opening(Asynchronous.server))
    client = staticmethod(_opening(Asynchronous.client))

    def __init__(self, asynchronous: Asynchronous, portal: Portal) -> None:
        super().__init__(asynchronous, portal)
        self.name = asynchronous.name
        self.server_uri = asynchronous.server_uri
        self.logger = asynchronous.logger
        self.tuning = asynchronous.tuning
        self.submit = SubmitEchoProtocol(asynchronous, portal)

    port = Attribute[int]()  #: The port of the server.
    hostname = Attribute[str]()  #: The host name or IP address of the server.
    protocol = Attribute[str]()  #: The scheme of the URI, such as udp or ws.
    role = Attribute[str]()  #: 'client' or 'server'.
    Server = Attribute[asyncio.AbstractServer | None]()  #: The listening server, in the server role over TCP.
    default_echo_timeout = Attribute[float]()  #: How long to wait for an echo, in seconds, unless a timeout is given.
    #: For how long to poll for messages instead of sleeping, in seconds; it keeps the shared loop awake.
    busy_poll = Attribute[float]()
    response_timeout = Attribute[float]()  #: How long to wait for the answer to a request, in seconds.
    #: The buffer size of peers in bytes; an echo of exactly this size may be truncated.
    max_message_size = Attribute[int]()

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens, without any client yet."""
        return not self.portal.is_closed and self.asynchronous.is_connected

    peers = Property[dict[Address, PeerStatistics]](lambda com: dict(com.peers))
    """:obj:`dict`: What is known of each remote address, as a `PeerStatistics`; a snapshot."""
    rejected = Property[dict[str, Rejected]](lambda com: dict(com.rejected))
    """:obj:`dict`: What was refused, by host, as a `Rejected`; ``'*'`` is all further hosts."""
    #: Done when a client loses its connection, and when this is closed.
    on_connection_lost = Property[Future[BaseException | str | None]](lambda com: copy_of(com.on_connection_lost))
    #: Done when the system reports an error of the transport, which is the result.
    on_error_received = Property[Future[Exception]](lambda com: copy_of(com.on_error_received))
    #: Done when a TCP peer has ended its side of the connection.
    on_eof_received = Property[Future[bool]](lambda com: copy_of(com.on_eof_received))

    if TYPE_CHECKING:  # a ParamSpec does not carry overloads

        @overload
        def assign_callback(self, event: SingleEvent, callback: Callback) -> None: ...
        @overload
        def assign_callback(self, event: int | ExpMessage, callback: AnyCallback) -> None: ...
        def assign_callback(self, event: AnyEvent, callback: AnyCallback) -> None: ...

        @overload
        def on_event(self, event: SingleEvent, timeout: float | None = None) -> tuple[Data, Address]: ...
        @overload
        def on_event(self, event: AnyEvent, timeout: float | None = None) -> tuple[Any, ...]: ...
        def on_event(self, event: AnyEvent, timeout: float | None = None) -> Any: ...
    else:
        assign_callback = threadsafe(Asynchronous.assign_callback)
        on_event = blocking(on_event, None)
    clear_callbacks = threadsafe(Asynchronous.clear_callbacks)
    events = proxied(Asynchronous.events, Stream)
    assign_connection_callback = threadsafe(Asynchronous.assign_connection_callback)
    clear_connection_callbacks = threadsafe(Asynchronous.clear_connection_callbacks)
    connection_events = proxied(Asynchronous.connection_events, Stream)
    awaiting_response = threadsafe(Asynchronous.awaiting_response)
    send = threadsafe(Asynchronous.send)
    confirmed_send = blocking(Asynchronous.confirmed_send, _ECHO)
    call = blocking(Asynchronous.call, _ANSWER)
    ping = blocking(Asynchronous.ping, _ECHO)
    clock = threadsafe(Asynchronous.clock)
    measure_clock = blocking(Asynchronous.measure_clock, None)
    wait_closed = blocking(Asynchronous.wait_closed, None)

    def __repr__(self) -> str:
        return repr(self.asynchronous).replace('<echorig.', '<echorig.sync.', 1)
