"""Fixtures for the tests of programs that use echorig: rigs without hardware, bad networks, sessions, latencies.

pytest loads this module in every run (entry point ``pytest11``). It imports echorig only when a fixture is used, since
that changes the event loop policy of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from echorig import sync
    from echorig.testing import BlockingFakeRig, LossyLink

__all__ = ['Session', 'echo_latency', 'echorig_session', 'fake_rig', 'fake_rigs', 'lossy_link']


class Session(NamedTuple):
    """Connected rigs without hardware."""

    services: sync.Services
    """echorig.sync.Services: The main PC's side."""
    rigs: dict[str, BlockingFakeRig]
    """dict of str to FakeRig: The rigs, by name."""


@pytest.fixture
def fake_rigs() -> Iterator[Callable[..., list[BlockingFakeRig]]]:
    """Make rigs without hardware: ``fake_rigs(n, kind='echorig', scheme='udp')``; they are called rig0, rig1 and so on.

    They run on a thread, so that tests with and without an event loop can use them.
    """
    from echorig.testing import FakeRig

    with ExitStack() as stack:

        def make(n: int = 1, kind: str = 'echorig', scheme: str = 'udp') -> list[BlockingFakeRig]:
            uri = f'{scheme}://127.0.0.1:0'
            return [stack.enter_context(FakeRig(uri, kind, name=f'rig{number}')) for number in range(n)]

        yield make


@pytest.fixture
def fake_rig(fake_rigs: Callable[..., list[BlockingFakeRig]]) -> BlockingFakeRig:
    """A rig without hardware, over UDP, that runs echorig; see `echorig.testing.FakeRig`."""
    return fake_rigs(1)[0]


@pytest.fixture
def lossy_link() -> Iterator[Callable[..., LossyLink]]:
    """Put a bad network before a rig: ``lossy_link(rig.uri, loss=0.2, seed=1).uri``, see `LossyLink`."""
    from echorig.sync.portal import current_portal
    from echorig.testing import LossyLink

    portal = current_portal()
    links: list[LossyLink] = []

    def make(uri: str, **faults: Any) -> LossyLink:
        async def opened() -> LossyLink:
            return await LossyLink(uri, **faults).__aenter__()

        links.append(portal.call('lossy_link', opened))
        return links[-1]

    yield make
    for link in links:
        portal.call('lossy_link', partial(link.__aexit__, None, None, None))


@pytest.fixture
def echorig_session(fake_rigs: Callable[..., list[BlockingFakeRig]]) -> Iterator[Callable[..., Session]]:
    """Make a set of rigs without hardware and connect to it: ``echorig_session(2).services.start(reference)``."""
    from echorig import sync

    with ExitStack() as stack:

        def make(n: int = 2, kind: str = 'echorig', scheme: str = 'udp', timeout: float = 10.0) -> Session:
            rigs = {rig.name: rig for rig in fake_rigs(n, kind, scheme)}
            services = sync.Services.connect({name: rig.uri for name, rig in rigs.items()}, timeout)
            return Session(stack.enter_context(services), rigs)

        yield make


@pytest.fixture
def echo_latency(request: pytest.FixtureRequest) -> Iterator[Callable[..., float]]:
    """Measure a rig with pytest-benchmark: ``echo_latency(uri)`` pings it, ``echo_latency(uri, 'EXPEND')`` calls it.

    The result is the median in seconds. ``--benchmark-save`` and ``--benchmark-compare`` compare with a stored run.
    """
    from echorig import sync

    try:
        benchmark = request.getfixturevalue('benchmark')
    except pytest.FixtureLookupError:
        pytest.fail('echo_latency measures with pytest-benchmark: pip install pytest-benchmark', pytrace=False)

    with ExitStack() as stack:

        def measure(uri: str, event: str | None = None, *args: Any, rounds: int = 100, **options: Any) -> float:
            client = stack.enter_context(sync.EchoProtocol.client(uri, **options))
            if event is None:
                benchmark.pedantic(client.ping, rounds=rounds, warmup_rounds=5)
            else:
                benchmark.pedantic(client.call, args=(event, *args), rounds=rounds, warmup_rounds=2)
            stats = benchmark.stats
            return float('nan') if stats is None else float(stats.stats.median)  # None with --benchmark-disable

        yield measure
