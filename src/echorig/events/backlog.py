"""`Backlog`: the messages that arrive for a loop around `on_event` while its program is busy.

1. A confirmed message is not dropped while its event may be waited for again. When the backlog is full, new messages
   are not accepted: their senders send them again, or get an error.
2. A message is dropped, with a warning, in two cases only: it is old and calls for other events were made since it
   arrived; or the backlog is full and no call for its event was made for just as long.
3. A task that is still running may wait again for the event of its last call, however long it is busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary, ref

from ..security.safe_log import SafeLog
from ._message import ReceivedMessage

__all__ = ['Backlog']


class Backlog:
    """Messages in order, limited in number, in bytes on the wire and, if nobody will read them, in age.

    The last message may exceed `max_bytes`. `age` is in seconds, see `_drop_stale` and `make_room`.
    """

    def __init__(self, limit: int, max_bytes: int, age: float, logger: SafeLog) -> None:
        self.limit = limit
        self.max_bytes = max_bytes
        self.event_mask = 0  # the events whose messages are kept
        self.n_bytes = 0
        self.dropped = self.refused = 0
        self._age = age
        self._logger = logger
        self._entries: deque[tuple[float, ReceivedMessage]] = deque()
        self._calls: dict[int, float] = {}  # {mask: when the last call of `on_event` with it began or ended}
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()  # of its last call
        self._last_mask = 0  # the last entry of `_tasks`: a loop sets the same entry again and again
        self._last_task: Callable[[], asyncio.Task[Any] | None] = lambda: None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full_mask(self) -> int:
        """int: The bits of the events for whose messages there is no room."""
        return self.event_mask if self._is_full() else 0

    def _is_full(self) -> bool:
        return len(self._entries) >= self.limit or self.n_bytes >= self.max_bytes

    def reader_started(self, mask: int) -> None:
        """Note that the current task calls `on_event`."""
        self._calls[mask] = monotonic()
        task = asyncio.current_task()
        if task is not None and (self._last_mask != mask or self._last_task() is not task):
            self._tasks[task] = self._last_mask = mask
            self._last_task = ref(task)

    def reader_stopped(self, mask: int) -> None:
        """Note that a call of `on_event` has ended."""
        self._calls[mask] = monotonic()

    def put(self, message: ReceivedMessage, now: float) -> None:
        """Keep a message. If there is no room and none can be made, the oldest is dropped."""
        while self._is_full():
            if not self.make_room(now):
                self._remove(0)
                self._log_dropped(1, f'of more than {self.limit}, or {self.max_bytes} bytes,')
        self._entries.append((now, message))
        self.n_bytes += message.size

    def put_back(self, message: ReceivedMessage, now: float) -> None:
        """Keep a message that was taken and not used, before all others."""
        self._entries.appendleft((now, message))
        self.n_bytes += message.size

    def take(self, mask: int, now: float) -> ReceivedMessage | None:
        """Remove and return the oldest message of some events, or None."""
        if self._entries and now - self._entries[0][0] > self._age:
            self._drop_stale(now)
        for i, (_, message) in enumerate(self._entries):
            if message.bit & mask:
                self._remove(i)
                return message
        return None

    def make_room(self, now: float) -> bool:
        """Drop the messages that nobody will take; return False if there are none."""
        if self._drop_stale(now):
            return True
        for i, (_, message) in enumerate(self._entries):
            if not any(mask & message.bit and now - called <= self._age for mask, called in self._calls.items()):
                self._remove(i)
                self._log_dropped(1, 'that nobody waited for in time')
                return True
        return False

    def count_refused(self) -> None:
        """Count a message that is not accepted."""
        if not self.refused:
            self._logger.warning(
                '%d messages (%d bytes) wait for on_event; others are not confirmed until there is room '
                '(Tuning.max_backlog, and at most %d bytes)',
                *(len(self._entries), self.n_bytes, self.max_bytes),
            )
        self.refused += 1

    def clear(self) -> None:
        """Drop all messages."""
        self._entries.clear()
        self.n_bytes = 0

    def _remove(self, i: int) -> None:
        self.n_bytes -= self._entries[i][1].size
        del self._entries[i]

    def _drop_stale(self, now: float) -> int:
        """Drop old messages whose readers have turned to other events, and return how many."""
        stale = [
            i
            for i, (arrived, message) in enumerate(self._entries)
            if now - arrived > self._age and self._is_passed_over(arrived, message.bit)
        ]
        for i in reversed(stale):
            self._remove(i)
        self._log_dropped(len(stale), 'that nobody waited for in time')
        return len(stale)

    def _is_passed_over(self, arrived: float, bit: int) -> bool:
        """Return whether a call for other events was made since a time, and no running task may wait for it again."""
        if not any(not mask & bit and called >= arrived for mask, called in self._calls.items()):
            return False
        return not any(mask & bit and not task.done() for task, mask in self._tasks.items())

    def _log_dropped(self, n: int, why: str) -> None:
        before = self.dropped
        self.dropped += n
        if n and before.bit_length() != self.dropped.bit_length():  # a warning for 1, 2, 4, 8 ... messages
            self._logger.warning('%d messages %s are dropped (%d so far)', n, why, self.dropped)
