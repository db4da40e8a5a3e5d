"""The clock of this computer, which people and other computers read: UTC in nanoseconds since 1970."""

from __future__ import annotations

import time

__all__ = ['TIMER_ERROR', 'block_for', 'seconds_until', 'wall_time']

TIMER_ERROR = 0.002
"""float: More than the error of the timers of event loops, which count milliseconds, in seconds."""


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
