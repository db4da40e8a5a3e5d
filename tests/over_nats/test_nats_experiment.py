"""Experiments with `Rig` and `Services` over NATS: one moment of the start, and a broker that restarts meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from brokers import needs_broker, running_broker, subject
from echorig import Rig, Services
from lab import REF

pytestmark = needs_broker

EVENTS = ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP')


def noting(event: str, noted: list[tuple[str, float]]) -> Callable[[], None]:
    def handler() -> None:
        noted.append((event, time.monotonic()))

    return handler


async def opened(broker: str, n: int) -> tuple[dict[str, Rig], dict[str, list[tuple[str, float]]]]:
    """Open rigs that note their calls and the moments of these."""
    rigs: dict[str, Rig] = {}
    calls: dict[str, list[tuple[str, float]]] = {}
    for name in (f'rig{i}' for i in range(n)):
        rig, noted = Rig(name), calls.setdefault(name, [])
        for event in EVENTS:
            rig.on(event)(noting(event, noted))
        rigs[name] = await rig.open(f'{broker}/{subject()}')
    return rigs, calls


async def test_an_experiment_starts_at_one_moment(broker):
    """The callbacks run no earlier than asked for."""
    rigs, calls = await opened(broker.uri, 3)
    try:
        async with await Services.connect(
            {name: rig.server_uri for name, rig in rigs.items()}, wait=True, timeout=30.0
        ) as services:
            begun = time.monotonic()
            async with services.experiment(REF, at=0.3):
                pass
        assert all([event for event, _ in noted] == list(EVENTS) for noted in calls.values()), calls
        assert all(noted[1][1] - begun >= 0.29 for noted in calls.values())
    finally:
        for rig in rigs.values():
            await rig.__aexit__(None, None, None)


@pytest.mark.blocks
async def test_the_broker_restarts_during_an_experiment(tmp_path):
    """Between the start and the end, and while the end is sent: each rig gets each call once."""
    with running_broker(tmp_path) as own:
        rigs, calls = await opened(own.uri, 3)
        try:
            async with await Services.connect(
                {name: rig.server_uri for name, rig in rigs.items()}, wait=True, timeout=60.0
            ) as services:
                for com in services.values():
                    com.default_echo_timeout = 30.0
                for rig in rigs.values():
                    assert rig.server_uri.startswith(own.uri)
                await services.init(REF)
                await services.start(REF)
                own.restart()
                ending = asyncio.ensure_future(services.stop())
                await asyncio.sleep(0.05)
                own.restart()
                assert len(await ending) == 3
                assert len(await services.cleanup()) == 3
            assert all([event for event, _ in noted] == list(EVENTS) for noted in calls.values()), calls
        finally:
            for rig in rigs.values():
                await rig.__aexit__(None, None, None)
