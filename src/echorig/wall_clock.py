"""The clock of this computer, which people and other computers read: UTC."""

from __future__ import annotations

import time

__all__ = ['wall_time']


def wall_time() -> int:
    """Return the time in nanoseconds since 1970 in UTC."""
    return time.time_ns()
