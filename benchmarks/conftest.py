"""The loops that the benchmarks share, and what a stored run says of its machine."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    'uvloop': uvloop.new_event_loop,
    'asyncio': asyncio.SelectorEventLoop,
}
PACKAGES = ('echorig', 'uvloop', 'orjson', 'iblutil', 'Cython', 'pytest-benchmark')


@pytest.fixture(scope='session')
def loops() -> Iterator[dict[str, asyncio.AbstractEventLoop]]:
    """One loop of each kind."""
    made = {name: make() for name, make in LOOPS.items()}
    yield made
    for loop in made.values():
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a benchmark has opened, even if it fails: uvloop waits for ever for what is left open."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=list(LOOPS))
def loop_name(request: pytest.FixtureRequest) -> str:
    """The name of each loop in turn."""
    return str(request.param)


@pytest.fixture
def loop(loops: dict[str, asyncio.AbstractEventLoop], loop_name: str) -> asyncio.AbstractEventLoop:
    """Each loop in turn."""
    return loops[loop_name]


@pytest.fixture(params=['udp', 'tcp'])
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport in turn."""
    return str(request.param)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Say what matters for speed, and nothing that names the machine."""
    machine_info.pop('node', None)
    machine_info['cores'] = os.cpu_count()
    machine_info['kernel'] = f'{platform.system()} {platform.release()}'
    machine_info['packages'] = {name: found for name in PACKAGES if (found := _version(name))}


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    """Leave out the commit: pytest-benchmark would note who made it and on which branch."""
    return {}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
