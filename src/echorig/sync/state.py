"""What a blocking communicator is and how it ends; what it does stands in :mod:`echorig.sync.communicator`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from ..communicator.protocol import EchoProtocol as Asynchronous
from ..communicator.service import Service
from ..delivery.statistics import PeerStatistics
from ..events.notifier import ConnectionChange
from ..security.rejections import Rejected
from ..tuning import Tuning
from ..uri import Address
from .background import Background
from .guarded import Guarded
from .mirror import mirrors
from .stream import Stream

__all__ = ['Handle']

_Self = TypeVar('_Self', bound='Handle')


@mirrors(Asynchronous)
class Handle(Service):
    """The state of an asynchronous communicator, for other threads than its own.

    Parameters
    ----------
    communicator : echorig.EchoProtocol
        The communicator, which was opened on the background thread.
    owner : Background
        That thread.
    """

    def __init__(self, communicator: Asynchronous, owner: Background) -> None:
        self.name = communicator.name
        self.server_uri: str = communicator.server_uri
        self.logger: logging.Logger = communicator.logger
        self.tuning: Tuning = communicator.tuning
        self.asynchronous = communicator
        self._owner = owner
        self._futures: dict[str, tuple[asyncio.Future[Any], Future[Any]]] = {}

    # --- state ---

    @property
    def port(self) -> int:
        """int: The port of the server."""
        return self.asynchronous.port

    @property
    def hostname(self) -> str:
        """str: The host name or IP address of the server."""
        return self.asynchronous.hostname

    @property
    def protocol(self) -> str:
        """str: The scheme of the URI, such as udp or ws."""
        return self.asynchronous.protocol

    @property
    def role(self) -> str:
        """str: 'client' or 'server'."""
        return self.asynchronous.role

    @property
    def Server(self) -> asyncio.Server | None:
        """asyncio.Server or None: The listening server, in the server role over TCP."""
        return self.asynchronous.Server

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens, without any client yet."""
        return not self._owner.is_over and self.asynchronous.is_connected

    @property
    def peers(self) -> dict[Address, PeerStatistics]:
        """:obj:`dict`: What is known of each remote address, as a `PeerStatistics`, at the time of asking."""
        return self._owner.run(dict, self.asynchronous.peers)

    @property
    def rejected(self) -> dict[str, Rejected]:
        """:obj:`dict`: What was refused, by host, as a `Rejected`; ``'*'`` is all further hosts."""
        return self._owner.run(lambda: dict(self.asynchronous.rejected))

    @property
    def default_echo_timeout(self) -> float:
        """float: How long to wait for an echo, in seconds, unless told otherwise."""
        return self.asynchronous.default_echo_timeout

    @default_echo_timeout.setter
    def default_echo_timeout(self, seconds: float) -> None:
        self.asynchronous.default_echo_timeout = seconds

    @property
    def busy_poll(self) -> float:
        """float: For how long to poll for messages instead of sleeping, in seconds.

        It keeps the loop that all communicators share awake, see :attr:`echorig.EchoProtocol.busy_poll`.
        """
        return self.asynchronous.busy_poll

    @busy_poll.setter
    def busy_poll(self, seconds: float) -> None:
        self.asynchronous.busy_poll = seconds

    @property
    def response_timeout(self) -> float:
        """float: How long to wait for the answer to a request, in seconds."""
        return self.asynchronous.response_timeout

    @response_timeout.setter
    def response_timeout(self, seconds: float) -> None:
        self.asynchronous.response_timeout = seconds

    @property
    def max_message_size(self) -> int:
        """int: The largest echo, in bytes, that peers are known to send: one of just this size may be cut short."""
        return self.asynchronous.max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self.asynchronous.max_message_size = size

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
            if self._futures.get(name, (None,))[0] is not source:
                copy: Future[Any] = Future()
                self._futures[name] = source, copy
                source.add_done_callback(lambda _: _copy(source, copy))
            return self._futures[name][1]

        return self._owner.run(look)

    # --- connections ---

    def assign_connection_callback(self, callback: Callable[[ConnectionChange], Any]) -> None:
        self._owner.run(self.asynchronous.assign_connection_callback, Guarded(callback))

    def clear_connection_callbacks(self, callback: Callable[[ConnectionChange], Any] | None = None) -> int:
        return self._owner.run(self.asynchronous.clear_connection_callbacks, callback)

    def connection_events(self, limit: int | None = None) -> Stream[ConnectionChange]:
        """Read with ``for`` which TCP connections are made and lost.

        Parameters
        ----------
        limit : int, optional
            How many changes may wait to be read, by default `Tuning.max_backlog`.

        Returns
        -------
        Stream
            A context manager and iterator of :class:`ConnectionChange`. When the communicator is closed, the
            iteration raises `ConnectionClosedError` after what has come until then.

        Raises
        ------
        TypeError, ValueError
            The limit is no positive whole number.
        """
        return Stream(lambda: self.asynchronous.connection_events(limit), self._owner)

    # --- closing ---

    def close(self) -> None:
        """Close the communicator; its callbacks are removed, and threads that wait raise `ConnectionClosedError`.

        When this returns the sockets are gone; called in a callback, soon after. Closing twice does nothing, nor
        does closing in a fork of the process what its parent goes on using.
        """
        self._owner.close([self.asynchronous])

    def wait_closed(self) -> None:
        self._owner.waits.call(self.asynchronous.wait_closed)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f'<{type(self).__module__}.{type(self).__name__} {self.name!r}, {self.role} of {self.server_uri}>'


def _copy(source: asyncio.Future[Any], copy: Future[Any]) -> None:
    if source.cancelled():
        copy.cancel()
    elif copy.set_running_or_notify_cancel():
        error = source.exception()
        if error is None:
            copy.set_result(source.result())
        else:
            copy.set_exception(error)
