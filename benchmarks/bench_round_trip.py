"""One confirmed round trip with 1, 10, 100 and 1,000 rigs on one server, beside the bare echo and iblutil.

Held constant in each round: the message, the process, which has both ends on one loop, and one message in flight, the
rigs in turn. The figure is CPU time, in interleaved rounds. With one rig the C baseline and, on uvloop, iblutil on the
loop of asyncio take part; with more rigs, echorig and the bare echo with one rig take part.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from benchmarks.support.c_baseline import CBaseline, NoCompiler
from benchmarks.support.competitors import Competitor, opened
from benchmarks.support.measure import interleave, medians, messages, percentiles, ratios, record, rounds

RIGS = {1: (240, 200), 10: (40, 300), 100: (40, 300), 1000: (25, 1000)}  # rounds, messages in each


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize('rigs', RIGS, ids=lambda n: f'{n}rig{"s" * (n > 1)}')
def bench_round_trip(benchmark: Any, stack: Any, loops: Any, loop_name: str, transport: str, rigs: int) -> None:
    n_rounds, burst = rounds(RIGS[rigs][0]), messages(RIGS[rigs][1])
    loop = loops[loop_name]
    skipped: dict[str, str] = {}
    opening: dict[str, Any] = {
        'echorig': lambda: opened(loop, 'echorig', transport, rigs),
        'bare': lambda: opened(loop, 'bare', transport, rigs),
        'iblutil': lambda: opened(loop, 'iblutil', transport, rigs),
    }
    if rigs > 1:
        opening['echorig, 1 rig'] = lambda: opened(loop, 'echorig', transport)
        opening['bare, 1 rig'] = lambda: opened(loop, 'bare', transport)
    else:
        opening['floor'] = lambda: CBaseline(transport)
        if loop_name != 'asyncio':
            opening['iblutil on asyncio'] = lambda: opened(loops['asyncio'], 'iblutil', transport)
    competitors: dict[str, Competitor | CBaseline] = {}
    for name, open_ in opening.items():
        try:
            competitors[name] = open_()
            stack.callback(competitors[name].close)
        except (ImportError, NotImplementedError, NoCompiler) as ex:
            skipped[name] = str(ex)
    for competitor in competitors.values():
        competitor.burst(rigs)  # all peers know each other
        if isinstance(competitor, Competitor):
            competitor.latencies.clear()
    times = interleave(
        benchmark, {name: lambda who=who: who.burst(burst) for name, who in competitors.items()}, n_rounds
    )
    latencies = {name: who.latencies for name, who in competitors.items() if isinstance(who, Competitor)}
    benchmark.group = f'round trip {loop_name} {transport}'
    record(
        benchmark,
        latencies['echorig'],
        burst,
        cpu_us=medians(times),
        ratio=ratios(times),
        ratio_bare={name: value for name, value in ratios(times, 'bare').items() if name == 'bare, 1 rig'},
        latency_us={name: percentiles(values) for name, values in latencies.items()},
        skipped=skipped,
    )
