"""Wait for a condition with a deadline and an error text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

__all__ = ['eventually', 'eventually_blocking']

_INTERVAL = 0.002  # seconds between two checks


async def eventually(condition: Callable[[], Any], what: str, within: float = 10.0) -> Any:
    """Wait until a condition holds, and return its value.

    Parameters
    ----------
    condition : callable
        A function that is called repeatedly on the event loop.
    what : str
        The condition in words, for the error text.
    within : float
        Seconds to wait at most; the default is long enough for a busy machine.
    """
    end = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < end, f'not within {within} s: {what}'
        await asyncio.sleep(_INTERVAL)
    return value


def eventually_blocking(condition: Callable[[], Any], what: str, within: float = 10.0) -> Any:
    """Wait until a condition holds, and return its value, without an event loop."""
    end = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < end, f'not within {within} s: {what}'
        time.sleep(_INTERVAL)
    return value
