"""`Limits`: how long a step, and how long all steps together may take."""

from __future__ import annotations

from time import monotonic

__all__ = ['Limits']


class Limits:
    """The time-out of a step and the end of the diagnosis; all times are in seconds."""

    def __init__(self, timeout: float, total: float) -> None:
        self.timeout, self._end = timeout, monotonic() + total

    @property
    def left(self) -> float:
        """float: How long the diagnosis may still take."""
        return max(self._end - monotonic(), 0.0)

    def wait(self, steps: float = 1.0) -> float:
        """Return the time for a number of steps, which is shorter near the end of the diagnosis."""
        return max(min(self.timeout * steps, self.left), 0.01)
