"""What delivery tags cost, and what they buy on a bad network.

`bench_cost`: the same build, loop and message with tags and without, in interleaved rounds of CPU time. `bench_loss`:
confirmed round trips through a link that loses 20 % each way and delays 0.2 ms; latency is what counts.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from typing import Any

import echorig
from contenders import REF
from echorig.testing import LossyLink


def bench_cost(benchmark: Any, loop: Any, rounds: int, burst: int) -> None:
    async def opened(tags: bool) -> tuple[Any, Any]:
        # Without tags, thousands of equal messages in a second are a storm; here they are meant.
        tuning = echorig.Tuning(tags=tags, message_burst=2**30)
        server = await echorig.EchoProtocol.server('127.0.0.1:0', 'server', tuning=tuning)
        server.assign_callback('EXPSTART', lambda data, addr: None)
        return server, await echorig.EchoProtocol.client(server.server_uri, 'client', tuning=tuning)

    async def cpu_time(client: Any) -> float:
        begun = time.process_time()
        for _ in range(burst):
            await client.start(REF)
        return (time.process_time() - begun) / burst

    pairs = {tags: loop.run_until_complete(opened(tags)) for tags in (True, False)}
    cpu: dict[bool, list[float]] = {True: [], False: []}

    def interleaved() -> None:
        gc.collect()
        for tags, (_, client) in pairs.items():
            cpu[tags].append(loop.run_until_complete(cpu_time(client)))

    benchmark.group = 'tags'
    benchmark.pedantic(interleaved, rounds=rounds, warmup_rounds=1)
    for server, client in pairs.values():
        client.close()
        server.close()
    loop.run_until_complete(asyncio.sleep(0.01))
    differences = [with_ - without for with_, without in zip(cpu[True][1:], cpu[False][1:], strict=True)]
    benchmark.extra_info['cost_us'] = round(statistics.median(differences) * 1e6, 3)
    benchmark.extra_info['with_us'] = round(statistics.median(cpu[True]) * 1e6, 2)
    print(f'\n{type(loop).__module__.partition(".")[0]}:', benchmark.extra_info)


def bench_loss(benchmark: Any, loop: Any, rounds: int, burst: int) -> None:
    times: list[float] = []

    async def through_loss() -> None:
        async with (
            await echorig.EchoProtocol.server('127.0.0.1:0', 'server') as server,
            LossyLink(server.server_uri, loss=0.2, delay=0.0002, seed=1) as link,
            await echorig.EchoProtocol.client(link.uri, 'client') as client,
        ):
            for _ in range(burst):
                begun = time.perf_counter()
                await client.confirmed_send([2, REF, None], timeout=5.0)
                times.append(time.perf_counter() - begun)

    benchmark.group = 'loss'
    benchmark.pedantic(lambda: loop.run_until_complete(through_loss()), rounds=max(1, rounds // 10))
    cuts = statistics.quantiles(times, n=1000)
    benchmark.extra_info.update(messages=len(times), p50=cuts[499], p90=cuts[899], p99=cuts[989], p999=cuts[998])
    print(f'\n{type(loop).__module__.partition(".")[0]}:', benchmark.extra_info)
