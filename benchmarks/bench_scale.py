"""10,000 UDP rigs on one server: a round trip of 64 at once, the memory of the server, opening and closing.

Held constant: the loop (uvloop) and the message. The round trips are CPU time of one process with both ends, in rounds
interleaved with those of one rig. The memory is that of a server in another process. The sets of 1,000 and of 10,000
clients are opened and closed by turns, in one `Services`; the figure is the CPU time of this process for each rig, so
that a step whose cost grows with the number of rigs shows as a ratio above 1. Python collects no cycles meanwhile: a
full collection visits every object of the program, of which 10,000 clients are the most.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from typing import Any

import pytest

from benchmarks.support.competitors import MANY, REF, opened
from benchmarks.support.measure import EFFORT, interleave, medians, messages, percentiles, ratios, record, rounds
from benchmarks.support.processes import Rigs, allow_sockets
from echorig import EchoProtocol, Services

RIGS = 10_000 if EFFORT != 'smoke' else 1000
IN_FLIGHT = 64
FIRST = 200  # peers whose memory is not counted: they fill what the allocator has already taken
TURNS = 10  # messages of each client, so that all state of a peer is allocated


@pytest.fixture
def sockets() -> None:
    """Allow enough sockets for both ends."""
    if allow_sockets() < RIGS + 1000:
        pytest.skip(f'the system allows too few sockets for {RIGS:,} rigs')


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.usefixtures('sockets')
def bench_ten_thousand(benchmark: Any, stack: Any, loops: Any) -> None:
    loop, burst = loops['uvloop'], max(messages(RIGS), IN_FLIGHT)
    many, one = (opened(loop, 'echorig', 'udp', n) for n in (RIGS, 1))
    for competitor in (many, one):
        stack.callback(competitor.close)
        competitor.burst(RIGS)
        competitor.latencies.clear()
    times = interleave(
        benchmark,
        {'echorig': lambda: many.flood(burst, IN_FLIGHT), 'echorig, 1 rig': lambda: one.burst(burst // 4)},
        rounds(20),
    )
    benchmark.group = '10,000 rigs'
    latencies = {'echorig': percentiles(many.latencies)}
    record(benchmark, many.latencies, burst, cpu_us=medians(times), ratio=ratios(times), latency_us=latencies)


class Sets:
    """Sets of clients of one server in another process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.rigs = Rigs('echorig', 'udp', 'uvloop', plain=True)
        self._loop = loop

    def time(self, n: int) -> tuple[float, float]:
        """Open and close n clients; return the CPU time of each step for each rig in seconds."""
        return self._loop.run_until_complete(self._time(n))

    async def _time(self, n: int) -> tuple[float, float]:
        gc.collect()
        gc.disable()
        try:
            return await self._open_and_close(n)
        finally:
            gc.enable()

    async def _open_and_close(self, n: int) -> tuple[float, float]:
        uris = {f'rig {i}': self.rigs.uris[0] for i in range(n)}
        begun = time.process_time()
        services = await Services.connect(uris, tuning=MANY)
        opened = time.process_time()
        services.close()
        await asyncio.gather(*(com.wait_closed() for com in services.values()))
        return (opened - begun) / n, (time.process_time() - opened) / n

    def visit(self, n: int) -> int:
        """Open n clients and exchange messages; return the memory of the server while they are open, in bytes."""
        return self._loop.run_until_complete(self._visit(n))

    async def _visit(self, n: int) -> int:
        clients = [await EchoProtocol.client(self.rigs.uris[0], f'rig {i}') for i in range(n)]
        for client in clients:
            for _ in range(TURNS):
                await client.start(REF)
        resident = self.rigs.resident()
        for client in clients:
            client.close()
        await asyncio.gather(*(client.wait_closed() for client in clients))
        return resident


@pytest.mark.usefixtures('sockets')
def bench_open_close(benchmark: Any, stack: Any, loops: Any) -> None:
    sets = Sets(loops['uvloop'])
    stack.callback(sets.rigs.close)
    sets.time(FIRST)
    found: dict[str, list[tuple[float, float]]] = {'many': [], 'few': []}

    def both() -> None:
        found['few'].append(sets.time(RIGS // 10))
        found['many'].append(sets.time(RIGS))

    benchmark.group = '10,000 rigs'
    benchmark.pedantic(both, rounds=3 if EFFORT == 'full' else 1, warmup_rounds=0)
    pairs = list(zip(found['many'], found['few'], strict=True))
    step = {'open': 0, 'close': 1}
    record(
        benchmark,
        [opening for opening, _ in found['many']],
        RIGS,
        cpu_us={
            f'{what}, {n:,} rigs': round(statistics.median(times[i] for times in found[key]) * 1e6, 2)
            for what, i in step.items()
            for key, n in (('many', RIGS), ('few', RIGS // 10))
        },
        ratio={what: statistics.median(many[i] / few[i] for many, few in pairs) for what, i in step.items()},
    )


@pytest.mark.usefixtures('sockets')
def bench_peer_memory(benchmark: Any, stack: Any, loops: Any) -> None:
    sets = Sets(loops['uvloop'])
    stack.callback(sets.rigs.close)
    before = sets.visit(FIRST)
    benchmark.group = '10,000 rigs'
    each = (benchmark.pedantic(lambda: sets.visit(RIGS)) - before) / RIGS
    record(benchmark, [each], RIGS, 1, 'bytes', bytes_each=round(each))
