"""`Stream`: a queue of what happens, read with ``for``; and reading with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from math import inf
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from ..checks import seconds
from ..errors import ConnectionClosedError, EchoTimeoutError
from ..events.stream import Stream as Asynchronous
from ..stall import call_later
from .blocking import Entered, Mirrored, threadsafe
from .portal import Portal

__all__ = ['Stream', 'streamed', 'within']

_P = ParamSpec('_P')
_T = TypeVar('_T')
_Read = Callable[[], Coroutine[Any, Any, _T]]


class Stream(Entered, Generic[_T]):
    """What happens from ``with`` on, in order, for as long as that block lasts; any thread may read it.

    Of more than `limit` things that wait the oldest is dropped, which is counted and logged.
    """

    limit = Mirrored[int]()
    """int: How many things may wait."""
    dropped = Mirrored[int]()
    """int: How many have been dropped."""

    def __init__(self, asynchronous: Asynchronous[_T], portal: Portal) -> None:
        super().__init__(asynchronous, portal)

    def __len__(self) -> int:
        return len(self.asynchronous)

    def get(self, timeout: float | None = None) -> _T:
        """Wait for the next, such as ``(data, addr, event)``.

        Parameters
        ----------
        timeout : float, optional
            How long to wait, in seconds, 0 for what is there already; by default without limit.

        Raises
        ------
        EchoTimeoutError
            Nothing happened in time (a `TimeoutError`).
        ConnectionClosedError
            The communicator is closed, or the stream has ended.
        """
        read: _Read[_T] = self.asynchronous.__anext__
        try:
            return self.portal.call('get', *within(timeout, read, 'Nothing'))
        except StopAsyncIteration:
            raise ConnectionClosedError('The stream has ended') from None

    def __iter__(self) -> Stream[_T]:
        return self

    def __next__(self) -> _T:
        read: _Read[_T] = self.asynchronous.__anext__
        try:
            return self.portal.call('next', read, has_limit=False)
        except StopAsyncIteration:
            raise StopIteration from None


def streamed(method: Callable[Concatenate[Any, _P], Asynchronous[_T]]) -> Callable[Concatenate[Any, _P], Stream[_T]]:
    """Return a method that makes a stream."""
    make = threadsafe(method)

    @wraps(method)
    def call(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> Stream[_T]:
        return Stream(make(self, *args, **kwargs), self.portal)

    return call


def within(timeout: float | None, read: _Read[_T], what: str) -> tuple[_Read[_T], bool]:
    """Return a coroutine function that reads within a checked time limit, and whether there is a limit."""
    delay = inf if timeout is None else seconds(timeout, 'timeout', zero=True)

    async def work() -> _T:
        task: Any = asyncio.current_task()  # which reads itself: it must have the origin of the message in its context
        is_late = False

        def expire() -> None:
            nonlocal is_late
            is_late = task.cancel()

        timer = call_later(asyncio.get_running_loop(), delay, expire)
        try:
            return await read()
        except asyncio.CancelledError:
            if is_late:
                raise EchoTimeoutError(f'{what} came within {timeout} s') from None
            raise
        finally:
            timer.cancel()

    return (read, False) if delay == inf else (work, True)
