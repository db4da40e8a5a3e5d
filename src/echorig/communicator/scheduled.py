"""`ScheduledMessages`: messages that were confirmed at once, and whose callbacks run at a certain time.

1. Later messages of the same peer wait behind: a stop must not overtake its start. An answer to one of our messages
   does not wait, nor do EXPSTATUS and EXPINFO. EXPINTERRUPT drops the messages that wait for their time.
2. The timers of event loops count milliseconds. The last part of the wait therefore blocks the loop, for at most
   `TIMER_ERROR` seconds. The loop runs other work before it is blocked again.
3. A time that is over, or too far ahead to be meant, is no reason to lose the message: its callbacks run at once. The
   answer carries the time at which they ran, so that the sender knows.
4. The time is converted to the monotonic clock when the message arrives: a clock that is set later changes nothing.
5. What waits is bounded: if it is too much, the peer with the longest messages gets them delivered at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from ..messages import ExpMessage
from ..security.safe_log import SafeLog
from ..uri import Address
from ..wall_clock import TIMER_ERROR, block_for, seconds_until, wall_time
from ..wire._codec import peek

__all__ = ['LONGEST_WAIT', 'ScheduledMessages']

LONGEST_WAIT = 10.0
"""float: How far ahead the time of a message may be, in seconds."""

_AT_ONCE = (ExpMessage.EXPSTATUS, ExpMessage.EXPINFO)
_LATE = 0.001  # seconds
_MOST_BYTES = 16 * 2**20
_OVERHEAD = 256  # bytes that a waiting message takes besides its frame


class _Message(NamedTuple):
    frame: bytes
    addr: Address
    message_id: int
    in_reply_to: int
    due: float | None  # seconds, monotonic; None is at once

    @property
    def size(self) -> int:
        """The bytes of memory that it takes."""
        return len(self.frame) + _OVERHEAD


class ScheduledMessages:
    """The messages of one communicator that wait for their time; `deliver` is that of the dispatcher."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[bytes, Address, int, int, int], object], log: SafeLog
    ) -> None:
        self._loop, self._deliver, self._log = loop, deliver, log
        self.waiting: dict[Address, deque[_Message]] = {}
        self._timers: dict[Address, asyncio.Handle] = {}
        self._n_bytes = 0  # of the messages that wait

    def add(self, frame: bytes, addr: Address, message_id: int, in_reply_to: int, when: int) -> None:
        """Deliver a message at a time in nanoseconds, or behind the messages of this peer that wait."""
        queue = self.waiting.get(addr)
        event = peek(frame)
        if event == ExpMessage.EXPINTERRUPT and queue is not None:
            self._drop(addr)
            queue = None
        if in_reply_to >= 0 or event in _AT_ONCE or (queue is None and not when):
            self._deliver(frame, addr, message_id, in_reply_to, when)
            return
        message = _Message(frame, addr, message_id, in_reply_to, self._due(addr, when) if when else None)
        self._n_bytes += message.size
        if queue is not None:
            queue.append(message)
        else:
            self.waiting[addr] = deque([message])
            self._run(addr)
        if self._n_bytes > _MOST_BYTES:
            self._release_most()

    def _drop(self, addr: Address) -> None:
        """Drop the messages of a peer that wait for their time, and deliver those behind them."""
        if (timer := self._timers.pop(addr, None)) is not None:
            timer.cancel()
        queue = self.waiting.pop(addr)
        while queue:
            if queue[0].due is None:
                self._deliver_first(queue)
            else:
                self._n_bytes -= queue.popleft().size
                self._log.warning(
                    'EXPINTERRUPT of %s:%s arrived before the time of a message: its callbacks do not run', *addr[:2]
                )

    def _due(self, addr: Address, when: int) -> float:
        """Return when to run the callbacks of a message, on the monotonic clock."""
        left = seconds_until(when)
        if -_LATE < left <= LONGEST_WAIT:
            return monotonic() + left
        what = f'{-left:.3f} s after' if left < 0 else f'{left:.0f} s, which is too long, before'
        self._log.warning(
            'A message of %s:%s arrived %s the time for its callbacks, which run at once', addr[0], addr[1], what
        )
        return 0.0

    def _run(self, addr: Address) -> None:
        """Deliver the messages of a peer whose time has come, and wait for that of the next one."""
        queue, was_blocked = self.waiting[addr], False
        while queue:
            due = queue[0].due
            left = 0.0 if due is None else due - monotonic()
            if left > TIMER_ERROR:
                self._timers[addr] = self._loop.call_later(left - TIMER_ERROR, self._run, addr)
                return
            if left > 0.0:
                if was_blocked:
                    self._timers[addr] = self._loop.call_soon(self._run, addr)
                    return
                block_for(left)
                was_blocked = True
            self._deliver_first(queue)
        if self.waiting.get(addr) is queue:  # no callback has closed the communicator
            self._timers.pop(addr, None)
            del self.waiting[addr]

    def _deliver_first(self, queue: deque[_Message]) -> None:
        message = queue.popleft()
        self._n_bytes -= message.size
        self._deliver(*message[:4], 0 if message.due is None else wall_time())

    def _release_most(self) -> None:
        """Deliver at once what waits of the peer with the most bytes."""
        addr = max(self.waiting, key=lambda one: sum(message.size for message in self.waiting[one]))
        self._log.warning(
            'Too many messages wait for their time: the callbacks for those of %s:%s run at once', addr[0], addr[1]
        )
        if (timer := self._timers.pop(addr, None)) is not None:
            timer.cancel()
        queue = self.waiting[addr]
        while queue:
            self._deliver_first(queue)
        if self.waiting.get(addr) is queue:
            del self.waiting[addr]

    def close(self) -> None:
        """Drop the messages that wait."""
        for timer in self._timers.values():
            timer.cancel()
        for queue in self.waiting.values():
            if queue:
                self._log.warning('%d messages that waited for their time were not delivered: closed', len(queue))
            queue.clear()  # a callback for one of them may have closed the communicator
        self._timers.clear()
        self.waiting.clear()
        self._n_bytes = 0
