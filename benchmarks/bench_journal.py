"""What a journal costs: one confirmed round trip with a journal beside one without; one record beside one write.

`bench_journal` has both ends on one loop in one process. The client notes each message twice, when it is sent and when
it is confirmed. The figure is the CPU time of the thread of the loop, in interleaved rounds; with that of the thread of
the journal, which decodes and writes, it is in `process_us`.

`bench_record` compares the two ways to write a record: to put it into the queue of the thread, and to decode it and to
call `os.write` at once.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support.competitors import REF, Competitor
from benchmarks.support.measure import interleave, medians, messages, ratios, record, rounds
from echorig import EchoProtocol
from echorig.journal import Journal
from echorig.journal._records import Recorder, RecordQueue
from echorig.journal.lines import as_line, fields_of
from echorig.wire._codec import encode
from echorig.wire._tags import add_tag

ADDR = ('192.168.0.12', 11001)
FRAME = add_tag(encode([2, REF, None]), 123456, 7, 1000)


class InThread(Competitor):
    """Measures the CPU time of the thread of the loop."""

    async def _burst(self, n: int) -> float:
        begun = time.thread_time()
        await super()._burst(n)
        return (time.thread_time() - begun) / n


async def pair(**kwargs: Any) -> tuple[Any, Any]:
    server = await EchoProtocol.server('udp://127.0.0.1:0', 'server')
    server.assign_callback('EXPSTART', lambda data, addr: None)
    client = await EchoProtocol.client(server.server_uri, 'client', **kwargs)
    return [lambda: client.start(REF)], lambda: (client.close(), server.close())


@pytest.mark.benchmark(timer=time.process_time)
def bench_journal(benchmark: Any, stack: Any, loop: Any, loop_name: str, tmp_path: Path) -> None:
    burst = messages(500)
    journal = stack.enter_context(Journal(tmp_path / 'journal.jsonl'))
    with_one, without = (
        InThread(loop, *loop.run_until_complete(pair(**kwargs))) for kwargs in ({'journal': journal}, {})
    )
    for competitor in (with_one, without):
        stack.callback(competitor.close)
        competitor.burst(10)
    process: list[float] = []

    def journalled() -> float:
        begun = time.process_time()
        spent = with_one.burst(burst)
        assert journal.flush()  # nothing is left for the next measurement
        process.append((time.process_time() - begun) / burst)
        return spent

    measures = {'journal': journalled, 'none': lambda: without.burst(burst)}
    times = interleave(benchmark, measures, rounds(40))
    assert journal.lost == 0
    differences = [a - b for a, b in zip(times['journal'], times['none'], strict=True)]
    benchmark.group = f'journal {loop_name}'
    record(
        benchmark,
        with_one.latencies,
        burst,
        cpu_us=medians(times),
        process_us=medians({'journal': process}),
        ratio=ratios(times),
        cost_us=round(statistics.median(differences) * 1e6, 3),
    )


@pytest.mark.benchmark(timer=time.process_time)
def bench_record(benchmark: Any, stack: Any, tmp_path: Path) -> None:
    n = messages(2000)
    queue = RecordQueue(1_000_000)
    recorder = Recorder(queue, 'camera', 'client')
    fd = os.open(tmp_path / 'journal.jsonl', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stack.callback(os.close, fd)

    def queued() -> float:
        begun = time.process_time()
        for _ in range(n):
            recorder.message('sent', FRAME, len(FRAME), ADDR)
        spent = time.process_time() - begun
        queue.records.clear()
        return spent / n

    def decoded() -> float:
        for _ in range(n):
            recorder.message('sent', FRAME, len(FRAME), ADDR)
        begun = time.process_time()
        for _ in range(n):
            as_line(fields_of(queue.records.popleft()))
        return (time.process_time() - begun) / n

    def written() -> float:
        begun = time.process_time()
        for _ in range(n):
            recorder.message('sent', FRAME, len(FRAME), ADDR)
            os.write(fd, as_line(fields_of(queue.records.popleft())))
        return (time.process_time() - begun) / n

    times = interleave(benchmark, {'queue': queued, 'thread': decoded, 'write at once': written}, rounds(60))
    benchmark.group = 'journal record'
    record(benchmark, times['queue'], n, cpu_us=medians(times), ratio=ratios(times))
