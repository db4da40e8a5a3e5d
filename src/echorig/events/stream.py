"""`Stream`: a bounded queue of what happens, read with ``async for``."""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..checks import number_of
from ..security.safe_log import SafeLog

__all__ = ['Stream']

_T = TypeVar('_T')
_Self = TypeVar('_Self', bound='Stream[Any]')


class Stream(Generic[_T]):
    """What happens from ``async with`` on, in order, for as long as that block lasts.

    Of more than `limit` things that wait the oldest is dropped, which is counted and logged. The methods of
    communicators and sets of rigs make streams.

    Parameters
    ----------
    limit : int
        How many things may wait.
    what : str
        What they are, for the log.
    logger : SafeLog
        Where those that are dropped are mentioned.
    enter, leave : callable
        Called with the stream at the beginning and at the end of the block.
    max_bytes : int, optional
        How many bytes the things that wait may have had on their way; the newest is kept in any case.

    Attributes
    ----------
    limit : int
        How many things may wait.
    dropped : int
        How many have been dropped.
    """

    def __init__(
        self,
        limit: int,
        what: str,
        logger: SafeLog,
        enter: Callable[[Any], None],
        leave: Callable[[Any], None],
        max_bytes: float = math.inf,
    ) -> None:
        self.limit = number_of(limit, 'limit', sys.maxsize)
        self.dropped = 0
        self._what = what
        self._logger = logger
        self._enter, self._leave = enter, leave
        self._max_bytes = max_bytes
        self._held = 0
        self._items: deque[Any] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self._open = self._entered = False
        self._error: Exception | None = None

    def __len__(self) -> int:
        return len(self._items)

    # --- for whoever fills it ---

    def put(self, item: Any) -> None:
        """Add something; the oldest may have to make room.

        Parameters
        ----------
        item : Any
            What has happened.
        """
        size = self._size(item)
        while self._items and (len(self._items) >= self.limit or self._held + size > self._max_bytes):
            full = f'{self.limit} {self._what}' if len(self._items) >= self.limit else f'{self._max_bytes} bytes'
            self._pop()
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # not each of what may be very many
                self._logger.warning(
                    'More than %s wait to be read; the oldest is dropped (%d so far)', full, self.dropped
                )
        self._items.append(item)
        self._held += size
        self._wake()

    def _pop(self) -> Any:
        item = self._items.popleft()
        self._held -= self._size(item)
        return item

    def _size(self, item: Any) -> int:
        return 0

    def end(self, error: Exception | None = None) -> None:
        """Let the iteration end once what waits has been read.

        Parameters
        ----------
        error : Exception, optional
            What it then raises; by default it ends in the ordinary way.
        """
        if self._open:
            self._open = False
            self._error = error
            self._wake_all()

    # --- for whoever reads it ---

    async def __aenter__(self: _Self) -> _Self:
        if self._entered:
            raise RuntimeError('A stream can be entered once')
        self._entered = self._open = True
        try:
            self._enter(self)
        except BaseException:
            self._open = False
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(self)
        self._items.clear()
        self._held = 0
        self.end()

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> _T:
        while not self._items:
            if self._error is not None:
                raise type(self._error)(str(self._error))  # each reader its own, for its own traceback
            if not self._open:
                raise StopAsyncIteration
            reader = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            try:
                await reader
            except asyncio.CancelledError:
                if reader in self._readers:
                    self._readers.remove(reader)
                if self._items:
                    self._wake()  # another reader may have what this one was woken for
                raise
        return self._handed_out(self._pop())

    def _handed_out(self, item: Any) -> _T:
        return item  # type: ignore[no-any-return]

    def _wake(self) -> None:
        while self._readers:
            reader = self._readers.popleft()
            if not reader.done():
                reader.set_result(None)
                return

    def _wake_all(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
        self._readers.clear()
