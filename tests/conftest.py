"""The guards of all tests, and fixtures for loops and communicators.

1. Every test coroutine runs on each event loop (``ECHORIG_TEST_LOOPS=uvloop`` selects one).
2. A test fails if an exception reaches the handler of the loop, if a call blocks the loop, or if a task or transport is
   left open. ``@pytest.mark.blocks`` allows blocking calls in the test itself.
3. Ports are chosen by the system (``udp://127.0.0.1:0``), so tests run in any order and in parallel.
4. All output is searched for the Alyx tokens of the tests, see `secrets_watch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

from eventually import eventually
from lab import Lab, RawUdp

try:
    import uvloop
except ImportError:  # Windows
    uvloop = None  # type: ignore[assignment]

pytest_plugins = ['secrets_watch', 'certificates', 'brokers']

settings.register_profile(
    'default', deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.register_profile('ci', parent=settings.get_profile('default'), max_examples=200, derandomize=True)
settings.load_profile('ci' if os.environ.get('CI') else 'default')

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {'asyncio': asyncio.SelectorEventLoop}
if uvloop is not None:
    LOOPS['uvloop'] = uvloop.new_event_loop
if _chosen := os.environ.get('ECHORIG_TEST_LOOPS'):
    LOOPS = {name: LOOPS[name] for name in _chosen.split(',')}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    return LOOPS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if 'transport' in metafunc.fixturenames:
        metafunc.parametrize('transport', ['udp', 'tcp'])


def pytest_configure(config: pytest.Config) -> None:
    if sys.version_info < (3, 11):
        # asyncio of 3.10 does not close its TLS transport after a failed handshake, and warns about that.
        unclosed = 'ignore:unclosed transport <asyncio.sslproto._SSLProtocolTransport:ResourceWarning'
        config.addinivalue_line('filterwarnings', unclosed)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if 'peers' in item.path.parts:
            item.add_marker('peers')
        if inspect.iscoroutinefunction(getattr(item, 'function', None)):
            item.fixturenames.insert(0, 'guards')  # type: ignore[attr-defined]


_escaped: list[dict[str, Any]] = []


@pytest.fixture(scope='module', autouse=True)
def nothing_escapes_late() -> Iterator[None]:
    """Fail at the end of a module if an exception reached the handler of a loop after its test.

    An exception of a task that is never retrieved is reported when the task is collected. A collection after each test
    would take longer than most tests.
    """
    yield
    gc.collect()
    found = [*_escaped]
    _escaped.clear()
    assert not found, f'reached the exception handler of a loop: {found}'


@pytest_asyncio.fixture
async def guards(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail the test if an exception reaches the loop, a call blocks it, or a task is left running."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _escaped.append(context))
    before = asyncio.all_tasks()
    blockbuster = BlockBuster()
    # The last milliseconds before callbacks that run at a certain time; timers are not that exact.
    blockbuster.functions['time.sleep'].can_block_in('echorig/wall_clock.py', 'block_for')
    watch = not request.node.get_closest_marker('blocks')
    if watch:
        blockbuster.activate()
    try:
        yield
    finally:
        if watch:
            blockbuster.deactivate()
    while RawUdp.opened:  # peers of a test that failed before it closed them
        RawUdp.opened.pop().close()

    def left() -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() - before if not task.done()} - {asyncio.current_task()}

    with contextlib.suppress(AssertionError):
        await eventually(lambda: not left(), 'no task is left running')
    await asyncio.sleep(0)
    assert not left(), f'tasks left running: {left()}'
    escaped = [*_escaped]
    _escaped.clear()
    assert not escaped, f'reached the exception handler of the loop: {escaped}'


@pytest_asyncio.fixture
async def lab() -> AsyncIterator[Lab]:
    """Servers and clients on ports that the system chooses, closed at the end of the test."""
    lab = Lab()
    try:
        yield lab
    finally:
        await lab.close()
