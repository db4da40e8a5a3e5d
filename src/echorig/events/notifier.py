"""`Changes`: telling callbacks and streams what has changed; and the changes of a communicator's connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from ..errors import EchoError
from ..security.safe_log import SafeLog
from ..uri import Address
from .callbacks import checked_listener
from .stream import Stream

__all__ = ['Changes', 'ConnectionChange']

_T = TypeVar('_T')


@dataclass(frozen=True)
class ConnectionChange:
    """A TCP connection that has been made or lost."""

    state: Literal['connected', 'lost']
    """str: ``connected`` or ``lost``."""
    addr: Address
    """tuple of (str, int): The remote host and port; on a client that of its server."""
    error: BaseException | None = None
    """BaseException or None: Why it was lost; None if the other end closed it in the ordinary way."""


class Changes(Generic[_T]):
    """Who is to be told of changes.

    Parameters
    ----------
    what : str
        What the changes are, for the log.
    limit : int
        How many may wait in a stream, unless it has a limit of its own.
    logger : SafeLog
        Where callbacks that fail are mentioned.
    """

    def __init__(self, what: str, limit: int, logger: SafeLog) -> None:
        self._what, self._limit, self._logger = what, limit, logger
        self._callbacks: list[Callable[[_T], Any]] = []
        self._streams: list[Stream[_T]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_over = False

    def add(self, callback: Callable[[_T], Any]) -> None:
        """Tell a function, or a coroutine function, which runs as a task; it is called as ``callback(change)``."""
        checked_listener(callback, futures=False)
        self._callbacks = [*self._callbacks, callback]

    def remove(self, callback: Callable[[_T], Any] | None = None) -> int:
        """Tell a callback no longer, or none of them, and count those removed."""
        if callback is not None:
            checked_listener(callback, futures=False)
        before = len(self._callbacks)
        self._callbacks = [] if callback is None else [own for own in self._callbacks if own != callback]
        return before - len(self._callbacks)

    def stream(self, limit: int | None, check_open: Callable[[], None] = lambda: None) -> Stream[_T]:
        """Return a stream of the changes, not yet open."""

        def enter(stream: Stream[_T]) -> None:
            check_open()
            if self._is_over:
                stream.end()
            else:
                self._streams.append(stream)

        def leave(stream: Stream[_T]) -> None:
            if stream in self._streams:
                self._streams.remove(stream)

        return Stream(self._limit if limit is None else limit, self._what, self._logger, enter, leave)

    def tell(self, change: _T) -> None:
        """Tell everybody; a callback that fails stops nobody."""
        for stream in self._streams:
            stream.put(change)
        for callback in self._callbacks:
            try:
                result = callback(change)
            except (Exception, asyncio.CancelledError) as ex:
                self._logger.error('Callback "%s" failed with error "%s: %s"', callback, type(ex).__name__, ex)
            else:
                if isinstance(result, Coroutine):
                    task = asyncio.ensure_future(result)
                    self._tasks.add(task)
                    task.add_done_callback(self._ended)

    def close(self, error: EchoError | None = None) -> None:
        """End the streams, those opened later too, and forget the callbacks."""
        self._is_over = True
        for stream in self._streams:
            stream.end(error)
        self._streams.clear()
        self._callbacks = []

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (ex := task.exception()) is not None:
            self._logger.error('Callback "%s" failed with error "%s: %s"', task.get_coro(), type(ex).__name__, ex)
