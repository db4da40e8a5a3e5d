"""Timers that read the sockets once more before they expire, and a monitor of stalls of the event loop.

A callback that blocks, a stopped process or a loaded machine keeps the event loop from reading its sockets. Afterwards
its timers may run before it reads: libuv runs them right after the poll in which a callback blocked, and the poll of a
stopped process returns without events.

1. A timer expires only after the loop has read its sockets once more, and the reader has got the data. This is done
   always, without looking at the clock: it costs some microseconds, and time-outs are rare.
2. Data of a stream may have waited in its socket as long as the loop was stalled; `StallMonitor` measures that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, ClassVar, TypeVar
from weakref import WeakValueDictionary

__all__ = [
    'READER_TURNS',
    'DelayedCall',
    'StallMonitor',
    'after_poll',
    'call_later',
    'now_with_suspension',
    'sleep',
    'wait',
    'wait_for',
]

_T = TypeVar('_T')
Progress = Callable[[], object]
"""Returns a value that changes as long as there is more to read.

In one turn a loop reads only a part; of datagrams, asyncio reads one from each socket.
"""

READER_TURNS = 8
"""int: Loop iterations until received data has reached its reader: the data wakes a task, which wakes another one that
waits for it, and so on; and a connection that has read much pauses for some iterations."""

# A timer's call_soon() may run before the loop polls its sockets; a call_soon() of that callback runs after it.
_POLL_TURNS = 2
_MAX_TURNS = 1000
_LONGEST_SLEEP = 3600.0  # seconds; a time-out may be infinite, a timer of a loop may not
_TICK = 0.25  # seconds; a tick that is late by as much shows a stall

# While the machine is suspended, the clock of the loop stops. These clocks go on: the first one on Linux, the second
# one on macOS. On Windows the monotonic clock goes on by itself.
_CLOCK_ID = getattr(time, 'CLOCK_BOOTTIME', getattr(time, 'CLOCK_MONOTONIC', None))


def now_with_suspension() -> float:
    """Return the time of a monotonic clock that also counts the time for which the machine is suspended, in seconds."""
    return time.monotonic() if _CLOCK_ID is None else time.clock_gettime(_CLOCK_ID)  # type: ignore[attr-defined,unused-ignore]


class DelayedCall:
    """A callback that is called once, unless it is cancelled; see `after_poll` and `call_later`."""

    __slots__ = ('_callback', '_handle', '_left', '_loop', '_progress', '_reader_turns', '_seen', '_turns')

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay: float,
        callback: Callable[[], object],
        progress: Progress | None,
        turns: int,
    ) -> None:
        self._loop = loop
        self._callback: Callable[[], object] | None = callback
        self._progress = progress
        self._reader_turns = turns
        self._handle: asyncio.Handle
        self._sleep(delay)

    def cancel(self) -> None:
        """Prevent the call, if it has not happened."""
        self._callback = self._progress = None
        self._handle.cancel()

    def _sleep(self, delay: float) -> None:
        if delay > _LONGEST_SLEEP:
            self._handle = self._loop.call_later(_LONGEST_SLEEP, self._sleep, delay - _LONGEST_SLEEP)
        elif delay > 0.0:
            self._handle = self._loop.call_later(delay, self._poll)
        else:
            self._poll()

    def _poll(self) -> None:
        self._turns, self._left = 0, _POLL_TURNS + self._reader_turns
        self._seen = None if self._progress is None else self._progress()
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turns += 1
        self._left -= 1
        if self._progress is not None and self._turns < _MAX_TURNS:
            seen, self._seen = self._seen, self._progress()
            if seen != self._seen:
                self._left = 1 + self._reader_turns  # between here and the next turn the loop polls once
        if self._left > 0:
            self._handle = self._loop.call_soon(self._turn)
        elif (callback := self._callback) is not None:
            self._callback = self._progress = None
            callback()


def after_poll(
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[], object],
    progress: Progress | None = None,
    turns: int = 0,
) -> DelayedCall:
    """Call a function when the loop has read its sockets; `turns` later, such as `READER_TURNS`."""
    return DelayedCall(loop, 0.0, callback, progress, turns)


def call_later(
    loop: asyncio.AbstractEventLoop, delay: float, callback: Callable[[], object], progress: Progress | None = None
) -> DelayedCall:
    """Call a function after a delay (which may be infinite), when all data received by then has reached its reader."""
    return DelayedCall(loop, delay, callback, progress, READER_TURNS)


async def wait(
    futures: Collection[asyncio.Future[Any]], timeout: float | None, progress: Progress | None = None
) -> None:
    """Wait until all (distinct) futures are done or the timeout is over; cancel none of them. See `after_poll`."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    left = len(futures)

    def end() -> None:
        if not over.done():
            over.set_result(None)

    def done(_: asyncio.Future[Any]) -> None:
        nonlocal left
        left -= 1
        if not left:
            end()

    if not futures:
        return
    for future in futures:
        future.add_done_callback(done)
    timer = None if timeout is None else call_later(loop, timeout, end, progress)
    try:
        await over
    finally:
        if timer is not None:
            timer.cancel()
        for future in futures:
            future.remove_done_callback(done)


async def sleep(delay: float, progress: Progress | None = None) -> None:
    """Wait for a delay in seconds, and until all data received by then has reached its reader."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not over.done():  # a task that is cancelled has cancelled it, and cancels the timer only in its next turn
            over.set_result(None)

    timer = call_later(loop, delay, end, progress)
    try:
        await over
    finally:
        timer.cancel()


async def wait_for(awaitable: Awaitable[_T], timeout: float | None) -> _T:
    """Return the result of an awaitable; after the timeout cancel it and raise `asyncio.TimeoutError`.

    Unlike `asyncio.wait_for` before Python 3.12 it never loses a cancellation.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await wait([task], timeout)
        is_late = not task.done()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # so that it counts as retrieved
    if is_late and task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


class StallMonitor:
    """Measures stalls of a loop, by a timer that ticks four times a second while there are subscribers; see `of`."""

    _of_loops: ClassVar[WeakValueDictionary[int, StallMonitor]] = WeakValueDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._subscribers: list[Progress | None] = []
        self._last_tick = 0.0
        self._stalled_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reading: DelayedCall | None = None

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> StallMonitor:
        """Return the monitor of a loop, which exists as long as it is referenced."""
        # It references its loop, so that no other loop can have the same id meanwhile.
        monitor = cls._of_loops.get(id(loop))
        if monitor is None:
            cls._of_loops[id(loop)] = monitor = cls(loop)
        return monitor

    def subscribe(self, progress: Progress | None = None) -> None:
        """Start the timer, unless it is running."""
        self._subscribers.append(progress)
        if self._timer is None:
            self._last_tick = now_with_suspension()
            self._timer = self._loop.call_later(_TICK, self._tick)

    def unsubscribe(self, progress: Progress | None = None) -> None:
        """Remove a subscription; the timer stops with the last one."""
        self._subscribers.remove(progress)
        if not self._subscribers and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._all_read()

    def stall_time(self) -> float:
        """Return how long data that is read now may have waited in its socket, in seconds; 0.0 without a stall."""
        if self._timer is None:
            return 0.0
        now = now_with_suspension()
        since = self._last_tick if self._stalled_since is None else self._stalled_since
        return now - since if self._stalled_since is not None or self._is_overdue(now) else 0.0

    def _is_overdue(self, now: float) -> bool:
        return now - self._last_tick > 2 * _TICK

    def _tick(self) -> None:
        now = now_with_suspension()
        if self._is_overdue(now):  # data received during the stall may still be unread
            if self._stalled_since is None:
                self._stalled_since = self._last_tick
            if self._reading is not None:
                self._reading.cancel()
            self._reading = after_poll(self._loop, self._all_read, self._progress, READER_TURNS)
        self._last_tick = now
        self._timer = self._loop.call_later(_TICK, self._tick)

    def _progress(self) -> object:
        return [progress() for progress in self._subscribers if progress is not None]

    def _all_read(self) -> None:
        self._stalled_since = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
