"""One confirmed round trip, both ends on one loop in one process, beside the bare echo and the incumbent.

Held constant: the message, the loop, the machine and the process. `bench_ratio` measures CPU time in interleaved
rounds, so that a machine that changes its pace does so for all contenders alike; its figures are the ones to quote.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from typing import Any

import pytest

from contenders import CONTENDERS, Contender, RoundTrip

TRANSPORTS = ['udp', 'tcp']


async def _burst(round_trip: RoundTrip, n: int) -> list[float]:
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        await round_trip()
        times.append(time.perf_counter() - begun)
    return times


def _contender(name: str) -> Contender:
    if name == 'iblutil':
        pytest.importorskip('iblutil')
    return CONTENDERS[name]


@pytest.mark.parametrize('name', CONTENDERS)
@pytest.mark.parametrize('transport', TRANSPORTS)
def bench_round_trip(benchmark: Any, loop: Any, name: str, transport: str, rounds: int, burst: int) -> None:
    round_trip, close = loop.run_until_complete(_contender(name)(transport))
    times: list[float] = []
    benchmark.group = f'round trip {transport} {type(loop).__module__.partition(".")[0]}'
    benchmark.pedantic(
        lambda: times.extend(loop.run_until_complete(_burst(round_trip, burst))), rounds=rounds, warmup_rounds=1
    )
    close()
    cuts = statistics.quantiles(times, n=1000)
    benchmark.extra_info.update(
        messages_per_round=burst, p50=cuts[499], p90=cuts[899], p99=cuts[989], p999=cuts[998], max=max(times)
    )


@pytest.mark.parametrize('transport', TRANSPORTS)
def bench_ratio(benchmark: Any, loop: Any, transport: str, rounds: int, burst: int) -> None:
    pytest.importorskip('iblutil')
    opened = {name: loop.run_until_complete(open_(transport)) for name, open_ in CONTENDERS.items()}
    cpu: dict[str, list[float]] = {name: [] for name in opened}

    async def times(round_trip: RoundTrip) -> float:
        begun = time.process_time()
        for _ in range(burst):
            await round_trip()
        return (time.process_time() - begun) / burst

    def interleaved() -> None:
        gc.collect()
        for name, (round_trip, _) in opened.items():
            cpu[name].append(loop.run_until_complete(times(round_trip)))

    benchmark.group = 'ratio of CPU time'
    benchmark.pedantic(interleaved, rounds=rounds, warmup_rounds=1)
    for _, close in opened.values():
        close()
    loop.run_until_complete(asyncio.sleep(0.01))
    median = {name: statistics.median(values[1:]) for name, values in cpu.items()}
    for other in ('bare', 'iblutil'):
        ratios = [a / b for a, b in zip(cpu['echorig'][1:], cpu[other][1:], strict=True)]
        benchmark.extra_info[f'echorig/{other}'] = round(statistics.median(ratios), 3)
    benchmark.extra_info.update({f'{name}_us': round(value * 1e6, 2) for name, value in median.items()})
    print(f'\n{type(loop).__module__.partition(".")[0]} {transport}:', benchmark.extra_info)
