"""One confirmed round trip with 1, 10, 100 and 1,000 rigs on one server, beside the bare echo and the incumbent.

Held constant in each round: the message, the process, which has both ends on one loop, and that one message is under
way at a time, the rigs in turn. What counts is CPU time, in interleaved rounds. With one rig the floor in C and, on
uvloop, the incumbent on the loop of asyncio take part; with more, echorig itself with one rig, in the same rounds.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from contenders import Contender, opened
from floor import Floor, NoCompiler
from measure import interleave, medians, messages, percentiles, ratios, record, rounds

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
    else:
        opening['floor'] = lambda: Floor(transport)
        if loop_name != 'asyncio':
            opening['iblutil on asyncio'] = lambda: opened(loops['asyncio'], 'iblutil', transport)
    contenders: dict[str, Contender | Floor] = {}
    for name, open_ in opening.items():
        try:
            contenders[name] = open_()
            stack.callback(contenders[name].close)
        except (ImportError, NotImplementedError, NoCompiler) as ex:
            skipped[name] = str(ex)
    for contender in contenders.values():
        contender.burst(rigs)  # everyone is known to everyone
        if isinstance(contender, Contender):
            contender.latencies.clear()
    times = interleave(
        benchmark, {name: lambda who=who: who.burst(burst) for name, who in contenders.items()}, n_rounds
    )
    latencies = {name: who.latencies for name, who in contenders.items() if isinstance(who, Contender)}
    benchmark.group = f'round trip {loop_name} {transport}'
    record(
        benchmark,
        latencies['echorig'],
        burst,
        cpu_us=medians(times),
        ratio=ratios(times),
        latency_us={name: percentiles(values) for name, values in latencies.items()},
        skipped=skipped,
    )
