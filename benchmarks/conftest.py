"""One persistent loop of each kind for the benchmarks, and how long they run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    'uvloop': uvloop.new_event_loop,
    'asyncio': asyncio.SelectorEventLoop,
}
SMOKE = os.environ.get('ECHORIG_BENCH') == 'smoke'


@pytest.fixture(scope='session')
def rounds() -> int:
    """How many rounds each benchmark has; in a smoke run as few as prove that it works."""
    return 3 if SMOKE else 50


@pytest.fixture(scope='session')
def burst() -> int:
    """How many messages there are in a round."""
    return 20 if SMOKE else 500


@pytest.fixture(scope='module', params=list(LOOPS))
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Keep one loop for all benchmarks of a module."""
    loop = LOOPS[request.param]()
    asyncio.set_event_loop(loop)
    yield loop
    loop.run_until_complete(asyncio.sleep(0.01))
    asyncio.set_event_loop(None)
    loop.close()
