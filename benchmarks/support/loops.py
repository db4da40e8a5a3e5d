"""The event loops that the benchmarks run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    'uvloop': uvloop.new_event_loop,
    'asyncio': asyncio.SelectorEventLoop,
}
