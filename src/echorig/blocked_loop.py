"""`BlockedLoopWatch`: warns about a program that blocks its event loop, with the place in the program.

A timer of the loop notes four times a second that the loop runs. A thread looks whether it does, and takes the stack of
the loop's thread if it does not. The warning follows when the loop runs again, because only then its length is known.
Without a stack there is no warning: then the whole process stood still.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from typing import ClassVar
from weakref import WeakValueDictionary

__all__ = ['BLOCKED', 'BlockedLoopWatch', 'Report']

BLOCKED = 0.5
"""float: Seconds without a turn of the loop after which it counts as blocked."""

_TICK = 0.25  # seconds
_MAX_FRAMES = 20
_WAITING = ('selectors.py', 'windows_events.py', 'proactor_events.py')  # where a loop of asyncio waits for events

Report = Callable[[float, str], object]
"""Called with the seconds for which the loop was blocked, and the stack as text."""


class BlockedLoopWatch:
    """Watches one loop while it has subscribers that are in use; see `of`. The first of them gets the reports."""

    _of_loops: ClassVar[WeakValueDictionary[int, BlockedLoopWatch]] = WeakValueDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._subscribers: dict[object, tuple[Callable[[], bool], Report]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stop: threading.Event | None = None  # of the thread, if it runs
        self._last_tick = 0.0
        self._stack = ''
        self._loop_frame = 0  # the id of the frame of the function that runs a loop that is not written in Python

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> BlockedLoopWatch:
        """Return the watch of a loop, which exists as long as it is referenced."""
        # It references its loop, so that no other loop can have the same id meanwhile.
        watch = cls._of_loops.get(id(loop))
        if watch is None:
            cls._of_loops[id(loop)] = watch = cls(loop)
        return watch

    def subscribe(self, owner: object, is_used: Callable[[], bool], report: Report) -> None:
        """Watch from the first tick on at which `is_used` returns true."""
        self._subscribers[owner] = is_used, report
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK, self._tick)

    def unsubscribe(self, owner: object) -> None:
        """Remove a subscription; the timer and the thread end with the last one."""
        self._subscribers.pop(owner, None)
        if not self._subscribers:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._end_thread()

    def _end_thread(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None
        self._loop_frame = 0

    def _tick(self) -> None:
        now, stack = monotonic(), self._stack
        blocked, self._last_tick, self._stack = now - self._last_tick, now, ''
        frame = inspect.currentframe()
        self._loop_frame = 0 if frame is None else id(frame.f_back)
        self._timer = self._loop.call_later(_TICK, self._tick)
        reports = [report for is_used, report in self._subscribers.values() if is_used()]
        if not reports:
            self._end_thread()
        elif self._stop is None:
            self._stop = threading.Event()
            work = (self._stop, threading.get_ident())
            threading.Thread(target=self._watch, args=work, name='echorig blocked loop', daemon=True).start()
        elif stack and blocked > BLOCKED:
            reports[0](blocked, stack)

    def _watch(self, stop: threading.Event, ident: int) -> None:
        """Take the stack of the loop's thread once for each time that it is blocked."""
        woken = monotonic()
        while not stop.wait(_TICK):
            slept, woken = monotonic() - woken, monotonic()
            tick = self._last_tick
            if self._stack or woken - tick <= BLOCKED or slept > BLOCKED:
                continue  # also if this thread stood still, as when the process was stopped
            frame = sys._current_frames().get(ident)
            if frame is None or id(frame) == self._loop_frame or frame.f_code.co_filename.endswith(_WAITING):
                continue  # the loop waits: it is late because the computer is busy or was suspended
            stack = ''.join(traceback.format_stack(frame, _MAX_FRAMES))
            del frame  # it would keep the variables of the program
            if self._last_tick == tick:
                self._stack = stack
