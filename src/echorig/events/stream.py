"""`Stream`: a bounded queue, read with ``async for``."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..checks import number_of
from ..security.safe_log import SafeLog

__all__ = ['Stream']

_T = TypeVar('_T')
_Self = TypeVar('_Self', bound='Stream[Any]')
_END = object()  # the last item of a stream that is closed


class Stream(Generic[_T]):
    """The items that arrive while the ``async with`` block is open, in order.

    If more than `limit` items wait, the oldest is dropped, counted and logged. Streams are made by methods of
    communicators and of sets of rigs.

    Parameters
    ----------
    limit : int
        How many items may wait.
    what : str
        What the items are, for the log.
    logger : SafeLog
        Logs items that are dropped.
    on_open, on_close : callable
        Called with the stream at the beginning and at the end of the block.
    max_bytes : int, optional
        How many bytes on the wire the items that wait may have; the newest item is always kept.

    Attributes
    ----------
    limit : int
        How many items may wait.
    dropped : int
        How many items have been dropped.
    """

    def __init__(
        self,
        limit: int,
        what: str,
        logger: SafeLog,
        on_open: Callable[[Any], None],
        on_close: Callable[[Any], None],
        max_bytes: float = math.inf,
    ) -> None:
        self.limit = number_of(limit, 'limit', sys.maxsize)
        self.dropped = 0
        self._what = what
        self._logger = logger
        self._on_open, self._on_close = on_open, on_close
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._entered = self._closed = False
        self._error: Exception | None = None

    def __len__(self) -> int:
        return self._queue.qsize() - self._closed

    def put(self, item: Any) -> None:
        """Add an item; drop the oldest if there are too many.

        Parameters
        ----------
        item : Any
            The item.
        """
        size = self._size_of(item)
        while (n := self._queue.qsize()) and (n >= self.limit or self._n_bytes + size > self._max_bytes):
            full = f'{self.limit} {self._what}' if n >= self.limit else f'{self._max_bytes} bytes'
            self._n_bytes -= self._size_of(self._queue.get_nowait())
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # a warning for 1, 2, 4, 8 ... items
                self._logger.warning(
                    'More than %s wait to be read; the oldest is dropped (%d so far)', full, self.dropped
                )
        self._queue.put_nowait(item)
        self._n_bytes += size

    def close(self, error: Exception | None = None) -> None:
        """End the iteration after the items that wait have been read.

        Parameters
        ----------
        error : Exception, optional
            What the iteration then raises; by default `StopAsyncIteration`.
        """
        if self._entered and not self._closed:
            self._closed = True
            self._error = error
            self._queue.put_nowait(_END)

    async def __aenter__(self: _Self) -> _Self:
        if self._entered:
            raise RuntimeError('A stream can be entered once')
        self._entered = True
        try:
            self._on_open(self)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_close(self)
        while len(self):
            self._queue.get_nowait()
        self.close()

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> _T:
        if not self._entered:
            raise StopAsyncIteration
        item = await self._queue.get()
        if item is _END:
            self._queue.put_nowait(_END)  # for the other readers
            if self._error is not None:
                raise type(self._error)(str(self._error))  # each reader gets its own, for its own traceback
            raise StopAsyncIteration
        self._n_bytes -= self._size_of(item)
        return self._decode_item(item)

    def _decode_item(self, item: Any) -> _T:
        return item  # type: ignore[no-any-return]

    def _size_of(self, item: Any) -> int:
        return 0
