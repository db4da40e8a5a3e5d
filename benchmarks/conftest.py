"""Fixtures of the benchmarks, and the description of the machine in a stored run."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from benchmarks.support.loops import LOOPS

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
    """Close the resources of a benchmark even if it fails, since uvloop waits for open ones forever."""
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
    """Describe the machine without naming it."""
    machine_info.pop('node', None)
    machine_info['cores'] = os.cpu_count()
    machine_info['kernel'] = f'{platform.system()} {platform.release()}'
    machine_info['packages'] = {name: found for name in PACKAGES if (found := _version(name))}


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    """Store no commit, since pytest-benchmark would add the author and the branch."""
    return {}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
