"""Timers for what is about to be declared lost: that this program stood still is not the silence of a peer.

A callback that blocks, a stopped process or a machine under load keeps the event loop from reading what has come. When
it goes on, its timers may run before it reads: libuv runs them right after the poll in which a callback blocked, and a
stopped process wakes from its poll empty-handed.

1. Whatever expires does so after the loop has read its sockets once more, and after what it has read has reached its
   reader. No clock decides whether that is needed: it costs some microseconds, and seldom is anything declared lost.
2. What came over a stream may have lain in its socket for as long as the loop stood still; `StallMonitor` says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, ClassVar, TypeVar
from weakref import WeakValueDictionary

__all__ = ['TO_READER', 'Later', 'StallMonitor', 'after_poll', 'call_later', 'wait', 'wait_for']

_T = TypeVar('_T')
Progress = Callable[[], object]

TO_READER = 8
"""int: In how many turns of the loop what was read reaches its reader: it wakes a task, which wakes one that waits for
it, and so on; and a connection of which much has been read rests for some turns."""

_TO_POLL = (
    2  # turns; what a timer calls soon may run before the loop looks at its sockets, what that calls runs after it
)
_MOST_TURNS = 1000
_LONGEST_SLEEP = 3600.0  # seconds; a timeout may be infinite, a timer may not
_TICK = 0.25  # seconds; a loop that comes so much too late has stood still

# Where the machine itself was asleep, the clock of the loop stood still too. These go on: the first one on Linux, the
# second one on macOS; the monotonic clock of Windows does so by itself.
_CLOCK_ID = getattr(time, 'CLOCK_BOOTTIME', getattr(time, 'CLOCK_MONOTONIC', None))


def _now() -> float:
    return time.monotonic() if _CLOCK_ID is None else time.clock_gettime(_CLOCK_ID)


class Later:
    """A callback that is yet to be called, once; see `after_poll` and `call_later`."""

    __slots__ = ('_callback', '_handle', '_left', '_loop', '_progress', '_seen', '_turns', '_turns_to_reader')

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
        self._turns_to_reader = turns
        self._handle: asyncio.Handle
        self._sleep(delay)

    def cancel(self) -> None:
        """See that it is not called, unless it has been."""
        self._callback = self._progress = None
        self._handle.cancel()

    def _sleep(self, delay: float) -> None:
        if delay > _LONGEST_SLEEP:
            self._handle = self._loop.call_later(_LONGEST_SLEEP, self._sleep, delay - _LONGEST_SLEEP)
        elif delay > 0.0:
            self._handle = self._loop.call_later(delay, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._turns, self._left = 0, _TO_POLL + self._turns_to_reader
        self._seen = None if self._progress is None else self._progress()
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turns += 1
        self._left -= 1
        if self._progress is not None and self._turns < _MOST_TURNS:
            seen, self._seen = self._seen, self._progress()
            if seen != self._seen:
                self._left = 1 + self._turns_to_reader  # from here to the next turn there is one look at the sockets
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
) -> Later:
    """Call something when the loop has read what lies in its sockets by now.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop, in whose thread this is called.
    callback : callable
        What to call.
    progress : callable, optional
        Returns something that changes as long as there is more to be read: a loop reads but a part in each turn, of
        datagrams asyncio only one from each socket. After 1,000 turns it is not asked any more.
    turns : int
        How many turns of the loop what was read is given to reach its reader, such as `TO_READER`.

    Returns
    -------
    Later
        It can be cancelled.
    """
    return Later(loop, 0.0, callback, progress, turns)


def call_later(
    loop: asyncio.AbstractEventLoop, delay: float, callback: Callable[[], object], progress: Progress | None = None
) -> Later:
    """Call something after a time, and after what lies in the sockets of the loop by then has reached its reader.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop, in whose thread this is called.
    delay : float
        The time, in seconds; it may be infinite.
    callback : callable
        What to call.
    progress : callable, optional
        See `after_poll`.

    Returns
    -------
    Later
        It can be cancelled.
    """
    return Later(loop, delay, callback, progress, TO_READER)


async def wait(
    futures: Collection[asyncio.Future[Any]], timeout: float | None, progress: Progress | None = None
) -> None:
    """Wait until all futures are done, or the time is over and the sockets have been read; nothing is cancelled.

    Parameters
    ----------
    futures : collection of asyncio.Future
        The futures, each of them once.
    timeout : float or None
        The time, in seconds; None waits without limit.
    progress : callable, optional
        See `after_poll`.
    """
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


async def wait_for(awaitable: Awaitable[_T], timeout: float | None, progress: Progress | None = None) -> _T:
    """Return what comes of an awaitable, which is cancelled when the time is over and the sockets have been read.

    Unlike the function of asyncio before Python 3.12 it never loses a cancellation.

    Parameters
    ----------
    awaitable : awaitable
        What to wait for.
    timeout : float or None
        The time, in seconds; None waits without limit.
    progress : callable, optional
        See `after_poll`.

    Returns
    -------
    Any
        The result.

    Raises
    ------
    asyncio.TimeoutError
        The time is over.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await wait([task], timeout, progress)
        is_late = not task.done()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody may be left to see it
    if is_late and task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


class StallMonitor:
    """Tells for how long a loop has stood still, when it reads what came meanwhile.

    It looks at the clock four times a second while anybody has subscribed. There is one for each loop, see `of`.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop.
    """

    _of_loops: ClassVar[WeakValueDictionary[int, StallMonitor]] = WeakValueDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._subscribers: list[Progress | None] = []
        self._looked = 0.0
        self._still_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reading: Later | None = None

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> StallMonitor:
        """Return the monitor of a loop, which lasts as long as anybody has it."""
        # It holds its loop, so that no other loop can have the same id meanwhile.
        monitor = cls._of_loops.get(id(loop))
        if monitor is None:
            cls._of_loops[id(loop)] = monitor = cls(loop)
        return monitor

    def subscribe(self, progress: Progress | None = None) -> None:
        """Begin to look at the clock, unless it is being looked at.

        Parameters
        ----------
        progress : callable, optional
            Returns something that changes as long as there is more to be read, see `after_poll`.
        """
        self._subscribers.append(progress)
        if self._timer is None:
            self._looked = _now()
            self._timer = self._loop.call_later(_TICK, self._tick)

    def unsubscribe(self, progress: Progress | None = None) -> None:
        """Take a subscription back; with the last one it ends."""
        self._subscribers.remove(progress)
        if not self._subscribers and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._all_read()

    def stood_still(self) -> float:
        """Return for how long what is being read may have lain in its socket, in seconds.

        Returns
        -------
        float
            0.0 while the loop runs; after a stall the time since it was last seen to run, until it has read what had
            come by then.
        """
        if self._timer is None:
            return 0.0
        now = _now()
        since = self._looked if self._still_since is None else self._still_since
        return now - since if self._still_since is not None or self._is_overdue(now) else 0.0

    def _is_overdue(self, now: float) -> bool:
        return now - self._looked > 2 * _TICK

    def _tick(self) -> None:
        now = _now()
        if self._is_overdue(now):  # what came meanwhile may not have been read yet
            if self._still_since is None:
                self._still_since = self._looked
            if self._reading is not None:
                self._reading.cancel()
            self._reading = after_poll(self._loop, self._all_read, self._progress, TO_READER)
        self._looked = now
        self._timer = self._loop.call_later(_TICK, self._tick)

    def _progress(self) -> object:
        return [progress() for progress in self._subscribers if progress is not None]

    def _all_read(self) -> None:
        self._still_since = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
