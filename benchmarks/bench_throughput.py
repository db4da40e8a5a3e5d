"""Confirmed messages per second when 64 of 100 (or 1,000) rigs send to one server at the same time.

Held constant in each round: the message, the process, which has both ends on one loop, and the number in flight.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from benchmarks.support.competitors import opened
from benchmarks.support.measure import interleave, medians, messages, percentiles, ratios, record, rounds

IN_FLIGHT = 64


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize('rigs', [100, 1000], ids=lambda n: f'{n}rigs')
def bench_throughput(benchmark: Any, stack: Any, loop: Any, loop_name: str, transport: str, rigs: int) -> None:
    n_rounds, burst = rounds(25), max(messages(2048), IN_FLIGHT)
    competitors = {name: opened(loop, name, transport, rigs) for name in ('echorig', 'bare')}
    one = opened(loop, 'echorig', transport)
    for competitor in (*competitors.values(), one):
        stack.callback(competitor.close)
    for competitor in competitors.values():
        competitor.burst(rigs)
        competitor.latencies.clear()
    measures: dict[str, Any] = {name: lambda who=who: who.flood(burst, IN_FLIGHT) for name, who in competitors.items()}
    measures['echorig, 1 rig'] = lambda: one.burst(burst // 4)
    times = interleave(benchmark, measures, n_rounds)
    cpu = medians(times)
    benchmark.group = f'throughput {loop_name} {transport}'
    record(
        benchmark,
        competitors['echorig'].latencies,
        burst,
        cpu_us=cpu,
        ratio=ratios(times),
        per_second={name: round(1e6 / us) for name, us in cpu.items()},
        latency_us={name: percentiles(who.latencies) for name, who in competitors.items()},
    )
