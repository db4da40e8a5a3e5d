"""NATS: a round trip beside nats-py's request and reply and echorig over UDP, and 1,000 rigs over one broker.

Held constant in the first: the message, one message in flight, a process for each end, and in each round all
competitors in turn, of which those over NATS share one broker. nats-py does less: it neither repeats nor recognizes
duplicates, and what it publishes has no callback of an event. In the second each rig has a connection of its own, all
rigs are in one process, and the main program has one connection.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support.asyncio_echo import FRAME
from benchmarks.support.competitors import REF, Competitor
from benchmarks.support.measure import EFFORT, interleave, medians, messages, percentiles, ratios, record, rounds
from benchmarks.support.processes import Rigs, allow_sockets
from brokers import Broker, needs_broker, running_broker
from echorig import EchoProtocol, Services

pytestmark = needs_broker
RIGS = 1000 if EFFORT != 'smoke' else 50


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker."""
    with running_broker(tmp_path) as found:
        yield found


class Peer:
    """A server in another process, and a client of it here."""

    def __init__(self, loop: asyncio.AbstractEventLoop, loop_name: str, kind: str, transport: str, broker: str) -> None:
        self._rigs = Rigs(kind, transport, loop_name, '--broker', broker)
        self._loop = loop
        connect = self._plain if kind == 'nats-py' else self._echorig
        trip, self._close = loop.run_until_complete(connect(self._rigs.uris[0]))
        self.competitor = Competitor(loop, [trip], lambda: None)

    @staticmethod
    async def _echorig(uri: str) -> tuple[Any, Any]:
        client = await EchoProtocol.client(uri, 'main')

        async def close() -> None:
            client.close()
            await client.wait_closed()

        return partial(client.start, REF), close

    @staticmethod
    async def _plain(uri: str) -> tuple[Any, Any]:
        import nats

        broker, _, subject = uri.rpartition('/')
        client = await nats.connect(broker)
        return partial(client.request, subject, FRAME, timeout=10), client.close

    def burst(self, n: int) -> float:
        """Make n round trips; return the time of one in seconds."""
        begun = time.perf_counter()
        self.competitor.burst(n)
        return (time.perf_counter() - begun) / n

    def close(self) -> None:
        """Close both ends."""
        self._loop.run_until_complete(self._close())
        self._rigs.close()


def bench_nats(benchmark: Any, broker: Broker, stack: Any, loops: Any, loop_name: str) -> None:
    """Measure a round trip."""
    burst = messages(100)
    peers: dict[str, Peer] = {}
    for name, (kind, transport) in {
        'echorig': ('echorig', 'nats'),
        'nats-py': ('nats-py', 'nats'),
        'echorig, UDP': ('echorig', 'udp'),
    }.items():
        peers[name] = Peer(loops[loop_name], loop_name, kind, transport, broker.uri)
        stack.callback(peers[name].close)
        peers[name].burst(burst)
        peers[name].competitor.latencies.clear()
    times = interleave(benchmark, {name: lambda who=who: who.burst(burst) for name, who in peers.items()}, rounds(60))
    latencies = {name: peer.competitor.latencies for name, peer in peers.items()}
    benchmark.group = f'NATS {loop_name}'
    record(
        benchmark,
        latencies['echorig'],
        burst,
        round_trip_us=medians(times),
        ratio=ratios(times),
        latency_us={name: percentiles(values) for name, values in latencies.items()},
    )


class Session:
    """A thousand rigs in a process, each with a connection of its own, and a set of clients here."""

    def __init__(self, loop: asyncio.AbstractEventLoop, broker: str) -> None:
        self._loop = loop
        self.rigs = Rigs('echorig', 'nats', 'uvloop', '--broker', broker, '--rigs', RIGS, '--answer', plain=True)
        uris = {f'rig{i}': uri for i, uri in enumerate(self.rigs.uris)}
        begun = time.perf_counter()
        self._services = loop.run_until_complete(self._connect(uris))
        self.connected = time.perf_counter() - begun

    async def _connect(self, uris: dict[str, str]) -> Services:
        rigs = await Services.connect(uris, timeout=60.0)
        for rig in rigs.values():
            rig.default_echo_timeout = 30.0
        return rigs

    def start(self) -> tuple[float, float]:
        """Start all rigs; return the time until all have answered, and that between the first and last receipt."""
        begun = time.perf_counter()
        answers = self._loop.run_until_complete(self._services.start(REF))
        received = [answer[1] for answer in answers.values()]
        return time.perf_counter() - begun, (max(received) - min(received)) * 1e-9

    def close(self) -> None:
        """End the session."""
        self._loop.run_until_complete(self._end())
        self.rigs.close()

    async def _end(self) -> None:
        self._services.close()
        await asyncio.gather(*(com.wait_closed() for com in self._services.values()))


def bench_nats_thousand(benchmark: Any, broker: Broker, stack: Any, loops: Any) -> None:
    """Measure the start of 1,000 rigs over one broker."""
    if allow_sockets() < RIGS + 100:
        pytest.skip(f'the system allows too few sockets for {RIGS:,} rigs')
    before = broker.resident()
    session = Session(loops['uvloop'], broker.uri)
    stack.callback(session.close)
    session.start()
    found: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: found.append(session.start()), rounds=rounds(20), warmup_rounds=1)
    benchmark.group = f'{RIGS:,} rigs over NATS'
    all_answers = [total for total, _ in found]
    record(
        benchmark,
        all_answers,
        RIGS,
        1e3,
        'ms',
        skew_ms=percentiles([skew for _, skew in found], 1e3),
        connect_s=round(session.connected, 3),
        memory={
            'broker, bytes a rig': (broker.resident() - before) // RIGS,
            'rig process, bytes a rig': session.rigs.resident() // RIGS,
            'page': os.sysconf('SC_PAGE_SIZE'),
        },
    )
