"""Cost of delivery tags, and latency on a network that loses packets.

`bench_cost`: CPU time of the same build, loop and message with tags and without, in interleaved rounds. `bench_loss`:
latency of confirmed round trips through a link that loses 20 % in each direction and delays 0.2 ms.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest

from benchmarks.support.competitors import REF, Competitor
from benchmarks.support.measure import EFFORT, interleave, medians, messages, percentiles, ratios, record, rounds
from echorig import EchoProtocol
from echorig.testing import LossyLink
from echorig.tuning import InternalTuning


async def pair(tags: bool) -> tuple[Any, Any]:
    # Without tags, thousands of equal messages in a second count as a storm, so there is no limit here.
    tuning = InternalTuning(tags=tags, message_burst=2**30)
    server = await EchoProtocol.server('127.0.0.1:0', 'server', tuning=tuning)
    server.assign_callback('EXPSTART', lambda data, addr: None)
    client = await EchoProtocol.client(server.server_uri, 'client', tuning=tuning)
    return [lambda: client.start(REF)], lambda: (client.close(), server.close())


@pytest.mark.benchmark(timer=time.process_time)
def bench_cost(benchmark: Any, stack: Any, loop: Any, loop_name: str) -> None:
    burst = messages(300)
    tagged, plain = (Competitor(loop, *loop.run_until_complete(pair(tags))) for tags in (True, False))
    stack.callback(tagged.close)
    stack.callback(plain.close)
    measures = {'echorig': lambda: tagged.burst(burst), 'without tags': lambda: plain.burst(burst)}
    times = interleave(benchmark, measures, rounds(40))
    differences = [a - b for a, b in zip(times['echorig'], times['without tags'], strict=True)]
    benchmark.group = f'tags {loop_name}'
    record(
        benchmark,
        tagged.latencies,
        burst,
        cpu_us=medians(times),
        ratio=ratios(times),
        cost_us=round(statistics.median(differences) * 1e6, 3),
    )


def bench_loss(benchmark: Any, loop: Any, loop_name: str) -> None:
    times: list[float] = []
    n = messages(500)

    async def through_loss() -> None:
        async with (
            await EchoProtocol.server('127.0.0.1:0', 'server') as server,
            LossyLink(server.server_uri, loss=0.2, delay=0.0002, seed=1) as link,
            await EchoProtocol.client(link.uri, 'client') as client,
        ):
            for _ in range(n):
                begun = time.perf_counter()
                await client.confirmed_send([2, REF, None], timeout=5.0)
                times.append(time.perf_counter() - begun)

    benchmark.group = f'loss {loop_name}'
    benchmark.pedantic(lambda: loop.run_until_complete(through_loss()), rounds=4 if EFFORT == 'full' else 1)
    record(benchmark, times, n, latency_us={'echorig': percentiles(times)})
