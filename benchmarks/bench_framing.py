"""Splitting of a TCP stream into messages: in bulk, and byte by byte.

Held constant: the messages, of 1 kB each. Only the splitter is timed; there is no socket.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from benchmarks.support.measure import interleave, medians, messages, ratios, record, repeated, rounds
from echorig.wire._codec import encode
from echorig.wire._framing import FrameSplitter

MESSAGE = encode([64, 20, {f'field_{i:02}': [i, i * 1.5, 'text', None] for i in range(29)}])
CHUNK = 65536  # bytes that one read of a stream returns at most
LIMIT = 2**26
CALLS = 160
pytestmark = pytest.mark.benchmark(timer=time.process_time)


def fed(chunks: list[bytes]) -> int:
    """Feed a new splitter, and return the number of messages."""
    splitter = FrameSplitter(LIMIT)
    return sum(len(splitter.feed(chunk)) for chunk in chunks)


def bench_bulk(benchmark: Any) -> None:
    n = messages(2000)
    stream = MESSAGE * n
    chunks = [stream[i : i + CHUNK] for i in range(0, len(stream), CHUNK)]
    assert fed(chunks) == n
    times = interleave(benchmark, {'echorig': repeated(fed, chunks, n=1)}, rounds(60))
    benchmark.group = 'framing'
    record(benchmark, times['echorig'], n, mb_per_s=round(len(stream) / medians(times)['echorig']))


def bench_byte_by_byte(benchmark: Any) -> None:
    """One message of 4 kB and one of 64 kB, byte by byte; the ratio is that of the cost of one byte."""

    def cost(size: int) -> Any:
        body = encode([64, 'x' * (size - 7)])
        measure = repeated(fed, [body[i : i + 1] for i in range(len(body))], n=CALLS * 4096 // size)
        return lambda: measure() / len(body)

    times = interleave(benchmark, {'echorig': cost(65536), '4 kB': cost(4096)}, rounds(12))
    benchmark.group = 'framing'
    record(benchmark, times['echorig'], 1, cpu_us=medians(times), ratio=ratios(times))
