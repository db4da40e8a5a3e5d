"""Waiting for what other tasks, threads and programs do: with a deadline, and a message if it does not come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

__all__ = ['eventually', 'eventually_blocking']

_INTERVAL = 0.002  # seconds between two looks


async def eventually(condition: Callable[[], Any], what: str, within: float = 10.0) -> Any:
    """Wait until a condition holds, and return its value.

    Parameters
    ----------
    condition : callable
        What is asked again and again, on the event loop.
    what : str
        What is waited for, for the error.
    within : float
        How long to wait, in seconds: long enough for a machine that is busy with other things.
    """
    end = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < end, f'not within {within} s: {what}'
        await asyncio.sleep(_INTERVAL)
    return value


def eventually_blocking(condition: Callable[[], Any], what: str, within: float = 10.0) -> Any:
    """Wait until a condition holds, and return its value, where there is no event loop."""
    end = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < end, f'not within {within} s: {what}'
        time.sleep(_INTERVAL)
    return value
