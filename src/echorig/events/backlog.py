"""`Backlog`: the messages that came for a loop around `on_event` while its program was busy.

1. What has been confirmed is not dropped while somebody may come back for it. When as many are kept as may be, new
   messages are not accepted: their senders send them again, or learn that they were not heard.
2. A message is dropped, with a warning, only if it is old and the program has passed it over, waiting for other events
   since; or if there is no room and nobody has waited for its event for just as long.
3. A task that has waited for an event last, and has not ended, comes back for it: it is busy, however long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary, ref

from ..security.safe_log import SafeLog
from ._message import ReceivedMessage

__all__ = ['Backlog']


class Backlog:
    """Messages in order, bounded in number, in bytes and in how long they may be passed over.

    Parameters
    ----------
    limit : int
        How many are kept.
    max_bytes : int
        How many bytes they may have had on their way; one more message may exceed it.
    age : float
        How long one is kept that is passed over, and how long somebody may be away who waits for it, in seconds.
    logger : SafeLog
        Where messages that are dropped or refused are mentioned.

    Attributes
    ----------
    wanted : int
        The bits of the events whose messages are kept.
    held : int
        The bytes that the messages kept have had on their way.
    dropped, refused : int
        How many messages were dropped and how often one was not accepted.
    """

    def __init__(self, limit: int, max_bytes: int, age: float, logger: SafeLog) -> None:
        self.limit = limit
        self.max_bytes = max_bytes
        self.held = 0
        self.wanted = 0
        self.dropped = 0
        self.refused = 0
        self._age = age
        self._logger = logger
        self._kept: deque[tuple[float, int, ReceivedMessage]] = deque()
        self._calls: dict[int, float] = {}  # when each combination was last waited for
        self._newest = 0  # the last entry of `_readers`, which is looked at each time
        self._newest_task: Callable[[], asyncio.Task[Any] | None] = lambda: None
        self._readers: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()  # and by whom

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def full(self) -> int:
        """int: The bits of the events for whose messages there is no room."""
        return self.wanted if self._is_full else 0

    @property
    def _is_full(self) -> bool:
        return len(self._kept) >= self.limit or self.held >= self.max_bytes

    def begin(self, mask: int) -> None:
        """Note that somebody begins to wait for some events."""
        self._calls[mask] = monotonic()
        task = asyncio.current_task()
        if task is not None and (self._newest != mask or self._newest_task() is not task):
            self._readers[task] = self._newest = mask
            self._newest_task = ref(task)

    def end(self, mask: int) -> None:
        """Note that somebody has ended to wait for some events."""
        self._calls[mask] = monotonic()

    def put(self, bit: int, message: ReceivedMessage, now: float, waiting: Collection[int] = ()) -> None:
        """Keep a message; where there is no room and none can be made, the oldest is dropped."""
        while self._is_full:
            if not self.make_room(now, waiting):
                self._remove(0)
                self._tell_of_dropped(1, f'of more than {self.limit}, or {self.max_bytes} bytes,')
        self._kept.append((now, bit, message))
        self.held += message.size

    def put_back(self, bit: int, message: ReceivedMessage, now: float) -> None:
        """Keep a message that was taken and not used, before all others."""
        self._kept.appendleft((now, bit, message))
        self.held += message.size

    def take(self, mask: int, now: float, waiting: Collection[int] = ()) -> ReceivedMessage | None:
        """Return the oldest message of some events, or None.

        Parameters
        ----------
        mask : int
            The bits of the events.
        now : float
            The time, on the clock of `time.monotonic`.
        waiting : collection of int
            For which combinations somebody waits.
        """
        kept = self._kept
        stale = [
            i for i, (at, bit, _) in enumerate(kept)
            if bit & mask and now - at > self._age and self._is_stale(at, bit, waiting)
        ] if kept and now - kept[0][0] > self._age else []  # fmt: skip
        for i in reversed(stale):
            self._remove(i)
        self._tell_of_dropped(len(stale), 'that nobody waited for in time')
        for i, (_, bit, message) in enumerate(kept):
            if bit & mask:
                self._remove(i)
                return message
        return None

    def make_room(self, now: float, waiting: Collection[int] = ()) -> bool:
        """Drop what nobody will fetch; return False if that is nothing."""
        before = len(self._kept)
        self._kept = deque(
            entry
            for entry in self._kept
            if now - entry[0] <= self._age or not self._is_stale(entry[0], entry[1], waiting)
        )
        self.held = sum(entry[2].size for entry in self._kept)
        if len(self._kept) == before:
            for i, (_, bit, _) in enumerate(self._kept):
                if not self._is_read(bit, now, waiting):
                    self._remove(i)
                    break
        gone = before - len(self._kept)
        self._tell_of_dropped(gone, 'that nobody waited for in time')
        return gone > 0

    def refuse(self) -> None:
        """Count a message that is not accepted."""
        if not self.refused:
            self._logger.warning(
                '%d messages (%d bytes) wait for on_event; others are not confirmed until there is room '
                '(Tuning.max_backlog, and at most %d bytes)',
                len(self._kept),
                self.held,
                self.max_bytes,
            )
        self.refused += 1

    def clear(self) -> None:
        """Forget all messages."""
        self._kept.clear()
        self.held = 0

    def _remove(self, i: int) -> None:
        self.held -= self._kept[i][2].size
        del self._kept[i]

    def _is_stale(self, at: float, bit: int, waiting: Collection[int]) -> bool:
        """Tell whether a message was passed over since it came, and nobody will come back for it."""
        if not any(not mask & bit and (since >= at or mask in waiting) for mask, since in self._calls.items()):
            return False
        return not any(mask & bit and not task.done() for task, mask in self._readers.items())

    def _is_read(self, bit: int, now: float, waiting: Collection[int]) -> bool:
        """Tell whether somebody waits for an event, or has done so lately."""
        return any(mask & bit and (now - at <= self._age or mask in waiting) for mask, at in self._calls.items())

    def _tell_of_dropped(self, n: int, why: str) -> None:
        before = self.dropped
        self.dropped += n
        if n and before.bit_length() != self.dropped.bit_length():  # not each of what may be very many
            self._logger.warning('%d messages %s are dropped (%d so far)', n, why, self.dropped)
