"""`Notifier`: gives changes of state to callbacks and streams; `ConnectionEvent`: a change of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, Literal, TypeVar

from ..errors import EchoError
from ..security.safe_log import SafeLog
from ..uri import Address
from .callbacks import CallbackTasks, checked_listener, unusable_result
from .stream import Stream

__all__ = ['ConnectionEvent', 'Notifier']

_T = TypeVar('_T')


@dataclass(frozen=True)
class ConnectionEvent:
    """A TCP connection that has been made or lost."""

    state: Literal['connected', 'lost']
    """str: ``connected`` or ``lost``."""
    addr: Address
    """tuple of (str, int): The remote host and port; on a client that of its server."""
    error: BaseException | None = None
    """BaseException or None: Why it was lost; None if the other end closed it in the ordinary way."""


class Notifier(Generic[_T]):
    """The callbacks and streams that changes are given to; `limit` is how many may wait in a stream by default."""

    def __init__(self, limit: int, logger: SafeLog) -> None:
        self._limit, self._logger = limit, logger
        self._callbacks: list[Callable[[_T], object]] = []
        self._streams: list[Stream[_T]] = []
        self._tasks = CallbackTasks()
        self._closed = False
        self.observer: Callable[[_T], object] | None = None  # called first, whatever callbacks a program removes

    def add(self, callback: Callable[[_T], object]) -> None:
        """Register a function, called as ``callback(change)``; a coroutine function runs as a task."""
        self._callbacks = [*self._callbacks, checked_listener(callback, futures=False)]

    def remove(self, callback: Callable[[_T], object] | None = None) -> int:
        """Remove a callback, or all of them, and count those removed."""
        if callback is not None:
            checked_listener(callback, futures=False)
        before = len(self._callbacks)
        self._callbacks = [] if callback is None else [own for own in self._callbacks if own != callback]
        return before - len(self._callbacks)

    def stream(self, limit: int | None, check_open: Callable[[], None] = lambda: None) -> Stream[_T]:
        """Return a stream of the changes, not yet open."""

        def on_open(stream: Stream[_T]) -> None:
            check_open()
            if self._closed:
                stream.close()
            else:
                self._streams.append(stream)

        def on_close(stream: Stream[_T]) -> None:
            if stream in self._streams:
                self._streams.remove(stream)

        return Stream(self._limit if limit is None else limit, 'changes', self._logger, on_open, on_close)

    def notify(self, change: _T) -> None:
        """Give a change to all streams and callbacks; a callback that fails stops no other."""
        if self.observer is not None:
            self.observer(change)
        for stream in self._streams:
            stream.put(change)
        for callback in self._callbacks:
            try:
                result = callback(change)
            except (Exception, asyncio.CancelledError) as ex:
                self._log_failed(callback, ex)
            else:
                if isinstance(result, Awaitable):
                    self._tasks.run(result, partial(self._log_failed, callback))
                elif (error := unusable_result(result)) is not None:
                    self._log_failed(callback, error)

    def _log_failed(self, callback: Callable[[_T], object], error: BaseException) -> None:
        self._logger.error(
            'Callback "%s" failed with error "%s: %s"', callback, type(error).__name__, error, error=error
        )

    def close(self, error: EchoError | None = None) -> None:
        """Close the streams, those opened later too, and remove the callbacks."""
        self._closed = True
        for stream in self._streams:
            stream.close(error)
        self._streams.clear()
        self._callbacks = []
