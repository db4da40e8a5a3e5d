"""`Stream`: a queue of what happens, read with ``for``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..errors import ConnectionClosedError
from ..events.stream import Stream as Asynchronous
from .background import Background
from .reading import reads_stream, within

__all__ = ['Stream']

_T = TypeVar('_T')
_Self = TypeVar('_Self', bound='Stream[Any]')


class _Ended(Exception):
    """There is no more; a coroutine cannot raise StopIteration."""


class Stream(Generic[_T]):
    """What happens from ``with`` on, in order, for as long as that block lasts; any thread may read it.

    Of more than `limit` things that wait the oldest is dropped, which is counted and logged.

    Parameters
    ----------
    make : callable
        Makes the asynchronous stream, on the background thread.
    owner : Background
        That thread.
    """

    def __init__(self, make: Callable[[], Asynchronous[_T]], owner: Background) -> None:
        self._stream = owner.run(make)
        self._owner = owner

    @property
    def limit(self) -> int:
        """int: How many things may wait."""
        return self._stream.limit

    @property
    def dropped(self) -> int:
        """int: How many have been dropped."""
        return self._stream.dropped

    def __len__(self) -> int:
        return len(self._stream)

    def get(self, timeout: float | None = None) -> _T:
        """Wait for the next.

        Parameters
        ----------
        timeout : float, optional
            How long to wait, in seconds, 0 for what is there already; by default without limit.

        Returns
        -------
        tuple
            What happened: of the messages of an event ``(data, addr, event)``.

        Raises
        ------
        EchoTimeoutError
            Nothing happened in time (a `TimeoutError`).
        ConnectionClosedError
            What it tells of is closed, or the stream has ended.
        TypeError, ValueError
            The time-out is no number, or negative.
        """
        try:
            return reads_stream(self._owner, self._stream, timeout).call(get, self._stream, timeout)
        except _Ended:
            raise ConnectionClosedError('The stream has ended') from None

    def __enter__(self: _Self) -> _Self:
        self._owner.calls.undoing(
            lambda stream, _: asyncio.ensure_future(stream.__aexit__(None, None, None))  # which waits for nothing
        ).call(self._stream.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._owner.is_over:
            self._owner.calls.finish(self._stream.__aexit__, kind, error, trace)

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> _T:
        try:
            return reads_stream(self._owner, self._stream, None).call(get, self._stream, None)
        except _Ended:
            raise StopIteration from None


async def get(stream: Asynchronous[_T], timeout: float | None) -> _T:
    """Return the next of a stream."""
    try:
        return await within(timeout, stream.__anext__(), lambda: 'Nothing')
    except StopAsyncIteration:
        raise _Ended from None
