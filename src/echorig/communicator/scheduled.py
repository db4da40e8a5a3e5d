"""`ScheduledMessages`: messages that were confirmed at once, and whose callbacks run at a certain time.

1. Later messages of the same peer wait behind: a stop must not overtake its start.
2. The timers of event loops count milliseconds. The last part of the wait therefore blocks the loop, for at most
   `TIMER_ERROR` seconds.
3. A time that is over, or too far ahead to be meant, is no reason to lose the message: its callbacks run at once. The
   answer carries the time at which they ran, so that the sender knows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..security.safe_log import SafeLog
from ..uri import Address
from ..wall_clock import TIMER_ERROR, block_until, seconds_until, wall_time

__all__ = ['LONGEST_WAIT', 'ScheduledMessages']

LONGEST_WAIT = 10.0
"""float: How far ahead the time of a message may be, in seconds."""

_LATE = 0.001  # seconds
_MOST = 1024  # messages that wait; a hostile peer could send any number


class _Message(NamedTuple):
    frame: bytes
    addr: Address
    message_id: int
    in_reply_to: int
    time: int  # nanoseconds since 1970; 0 is at once


class ScheduledMessages:
    """The messages of one communicator that wait for their time; `deliver` is that of the dispatcher."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[bytes, Address, int, int, int], object], log: SafeLog
    ) -> None:
        self._loop, self._deliver, self._log = loop, deliver, log
        self.waiting: dict[Address, deque[_Message]] = {}
        self._timers: dict[Address, asyncio.TimerHandle] = {}
        self._n_waiting = 0

    def add(self, frame: bytes, addr: Address, message_id: int, in_reply_to: int, when: int) -> None:
        """Deliver a message at a time in nanoseconds, or behind the messages of this peer that wait."""
        message = _Message(frame, addr, message_id, in_reply_to, when if in_reply_to < 0 else 0)
        queue = self.waiting.get(addr)
        if self._n_waiting >= _MOST or (queue is None and not message.time):
            self._deliver(frame, addr, message_id, in_reply_to, when if in_reply_to >= 0 else 0)
            return
        self._n_waiting += 1
        if queue is not None:
            queue.append(message)
        else:
            self.waiting[addr] = deque([message])
            self._run(addr)

    def _run(self, addr: Address) -> None:
        """Deliver the messages of a peer whose time has come, and wait for that of the next one."""
        queue = self.waiting[addr]
        while queue and self.waiting.get(addr) is queue:  # a callback may close the communicator
            message = queue[0]
            left = seconds_until(message.time)
            if message.time and TIMER_ERROR < left <= LONGEST_WAIT:
                self._timers[addr] = self._loop.call_later(left - TIMER_ERROR, self._run, addr)
                return
            if 0.0 < left <= TIMER_ERROR:
                block_until(message.time)
            elif message.time and not -_LATE < left <= LONGEST_WAIT:
                self._report(addr, left)
            queue.popleft()
            self._n_waiting -= 1
            self._deliver(*message[:4], wall_time() if message.time else 0)
        self._timers.pop(addr, None)
        self.waiting.pop(addr, None)

    def _report(self, addr: Address, left: float) -> None:
        what = f'{-left:.3f} s after' if left < 0 else f'{left:.0f} s, which is too long, before'
        self._log.warning(
            'A message of %s:%s arrived %s the time for its callbacks, which run at once', addr[0], addr[1], what
        )

    def close(self) -> None:
        """Drop the messages that wait."""
        for timer in self._timers.values():
            timer.cancel()
        for queue in self.waiting.values():
            self._log.warning('%d messages that waited for their time were not delivered: closed', len(queue))
        self._timers.clear()
        self.waiting.clear()
        self._n_waiting = 0
