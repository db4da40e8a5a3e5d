"""The clock of this computer, which people and other computers read: UTC in nanoseconds since 1970."""

from __future__ import annotations

import sys
import time

__all__ = ['RESOLUTION', 'TIMER_ERROR', 'block_for', 'seconds_until', 'wall_time']

RESOLUTION = time.get_clock_info('monotonic').resolution
"""float: The step of the monotonic clock in seconds; 15.6 ms on Windows before Python 3.13, else less than 1 µs."""

TIMER_ERROR = 0.002
"""float: More than the error of the timers of event loops, which count milliseconds, in seconds."""


if sys.platform == 'win32' and sys.version_info < (3, 13):  # there time.time_ns() has steps of 15.6 ms
    import ctypes

    _read_clock = ctypes.windll.kernel32.GetSystemTimePreciseAsFileTime
    _1970 = 116_444_736_000_000_000  # in units of 100 ns since 1601

    def wall_time() -> int:
        """Return the time in nanoseconds."""
        ticks = ctypes.c_uint64()
        _read_clock(ctypes.byref(ticks))
        return (ticks.value - _1970) * 100
else:

    def wall_time() -> int:
        """Return the time in nanoseconds."""
        return time.time_ns()


def seconds_until(moment: int) -> float:
    """Return how many seconds are left until a time in nanoseconds; less than 0 after it."""
    return (moment - wall_time()) / 1e9


def block_for(left: float) -> None:
    """Block the thread for a time in seconds, but for at most `TIMER_ERROR`."""
    if left > 0.0:
        time.sleep(min(left, TIMER_ERROR))
