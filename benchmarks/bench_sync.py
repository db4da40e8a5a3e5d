"""Cost of a blocking call over the asynchronous one, beside the usual alternatives.

Held constant: the rig, a separate process on loopback, the message, the loop (uvloop if it is installed). The variants
take turns, so that a change of the CPU speed affects all alike. The figure is the time until the message is confirmed.
In `polled` task code puts messages into a queue, which a coroutine in a thread empties every 200 ms. `future` is a
blocking call made of `asyncio.run_coroutine_threadsafe`.
"""

from __future__ import annotations

import asyncio
import queue
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.support.competitors import REF
from benchmarks.support.measure import messages, rounds
from echorig import EchoProtocol, sync
from echorig.loop import new_event_loop

RIG = """
import asyncio, sys
from echorig import EchoProtocol
async def main():
    async with await EchoProtocol.server(sys.argv[1] + '://127.0.0.1:0') as rig:
        rig.assign_callback('EXPSTART', lambda data, addr: None)
        print(rig.server_uri, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""
INTERVAL = 0.2  # seconds between two polls of the queue


@pytest.fixture(params=['udp', 'tcp'])
def rig(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start a rig; yield its URI."""
    with subprocess.Popen(
        [sys.executable, '-c', RIG, request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


class Polled:
    """A thread that polls a queue."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._queue: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()))
        self._thread.start()

    async def _work(self) -> None:
        async with await EchoProtocol.client(self._uri, 'polled') as com:
            while True:
                while not self._queue.empty():
                    message, confirmed = self._queue.get()
                    if message is None:
                        return
                    await com.confirmed_send(message)
                    confirmed.set()
                await asyncio.sleep(INTERVAL)

    def start(self, ref: str) -> None:
        """Send a message and wait for its confirmation."""
        time.sleep(random.uniform(0, INTERVAL))  # task code does not know when the thread looks
        confirmed = threading.Event()
        self.begun = time.perf_counter()
        self._queue.put(([2, ref, None], confirmed))
        confirmed.wait()

    def close(self) -> None:
        """End the thread."""
        self._queue.put((None, None))
        self._thread.join()


def times(function: Callable[[str], Any], n: int) -> list[float]:
    """Return the durations of n calls."""
    found = []
    for _ in range(n):
        begun = time.perf_counter()
        function(REF)
        found.append(time.perf_counter() - begun)
    return found


def bench_sync(benchmark: Any, rig: str) -> None:
    burst = messages(200)
    loop = new_event_loop()
    com = loop.run_until_complete(EchoProtocol.client(rig, 'async'))
    polled = Polled(rig)
    found: dict[str, list[float]] = {'async': [], 'sync': [], 'future': [], 'polled': []}

    async def asynchronous() -> None:
        for _ in range(burst):
            begun = time.perf_counter()
            await com.start(REF)
            found['async'].append(time.perf_counter() - begun)

    with sync.EchoProtocol.client(rig, 'sync') as blocking:
        background = blocking.portal.loop

        def by_future(ref: str) -> None:
            asyncio.run_coroutine_threadsafe(blocking.asynchronous.start(ref), background).result()

        def interleaved() -> None:
            loop.run_until_complete(asynchronous())
            found['sync'] += times(blocking.start, burst)
            found['future'] += times(by_future, burst)
            polled.start(REF)
            found['polled'].append(time.perf_counter() - polled.begun)

        benchmark.group = 'blocking call'
        benchmark.pedantic(interleaved, rounds=rounds(24), warmup_rounds=1)
    polled.close()
    com.close()
    loop.run_until_complete(com.wait_closed())
    loop.close()
    for name, values in found.items():
        values.sort()
        benchmark.extra_info[f'{name}_p50_us'] = round(statistics.median(values) * 1e6, 1)
        benchmark.extra_info[f'{name}_p99_us'] = round(values[int(len(values) * 0.99)] * 1e6, 1)
    overhead = benchmark.extra_info['sync_p50_us'] - benchmark.extra_info['async_p50_us']
    benchmark.extra_info['overhead_p50_us'] = round(overhead, 1)
    print(f'\n{type(background).__module__.partition(".")[0]} {rig.partition(":")[0]}:', benchmark.extra_info)
