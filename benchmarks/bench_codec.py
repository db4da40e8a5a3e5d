"""Encoding, decoding and comparison of messages, beside orjson, json and the comparison of bytes.

Held constant in each round: the message. Each function is called many times in a round. Percentiles are those of the
rounds.
"""

from __future__ import annotations

import json
import operator
import time
from typing import Any

import orjson
import pytest

from benchmarks.support.measure import Measure, interleave, medians, ratios, record, repeated, rounds
from echorig.wire import _codec, _tags

MESSAGES: dict[str, Any] = {
    '30B': [2, '2022-01-01_1_subject', None],
    '1kB': [64, 20, {f'field_{i}': [i, i * 1.5, 'text', None] for i in range(26)}],
    '60kB': [64, 20, {'samples': [i * 0.25 for i in range(7500)]}],
    'nested': [64, 20, eval('[' * 60 + ']' * 60)],
    'accents': [64, 20, {'név': 'Ünïcödé ' * 40}],
}
CALLS = {'30B': 2000, '1kB': 500, '60kB': 10, 'nested': 500, 'accents': 1000}
START = _codec.encode(MESSAGES['30B'])
TAGGED = _tags.add_tag(START, 123456, 7, 1000)
pytestmark = pytest.mark.benchmark(timer=time.process_time)


def compared(benchmark: Any, group: str, measures: dict[str, Measure]) -> None:
    """Time echorig and the others, and store the figures."""
    times = interleave(benchmark, measures, rounds(100))
    benchmark.group = group
    record(benchmark, times['echorig'], 1, cpu_us=medians(times), ratio=ratios(times))


@pytest.mark.parametrize('size', MESSAGES)
def bench_encode(benchmark: Any, size: str) -> None:
    writers = {'echorig': _codec.encode, 'orjson': orjson.dumps, 'json': json.dumps}
    message = MESSAGES[size]
    compared(benchmark, 'encode', {name: repeated(write, message, n=CALLS[size]) for name, write in writers.items()})


@pytest.mark.parametrize('size', MESSAGES)
def bench_decode(benchmark: Any, size: str) -> None:
    readers = {'echorig': _codec.decode, 'orjson': orjson.loads, 'json': json.loads}
    frame = _codec.encode(MESSAGES[size])
    compared(benchmark, 'decode', {name: repeated(read, frame, n=CALLS[size]) for name, read in readers.items()})


@pytest.mark.parametrize('size', MESSAGES)
def bench_compare(benchmark: Any, size: str) -> None:
    frame = _codec.encode(MESSAGES[size])
    echo = bytes(bytearray(frame))
    assert _codec.compare(frame, echo, 512, 65535) == _codec.EQUAL
    n = CALLS[size] * 5
    measures = {
        'echorig': repeated(_codec.compare, frame, echo, 512, 65535, n=n),
        '==': repeated(operator.eq, frame, echo, n=n),
    }
    compared(benchmark, 'compare', measures)


HEADER = {
    function.__name__: (function, args)
    for function, args in [
        (_codec.peek, (START,)),
        (_tags.add_tag, (START, 123456, 7, 1000)),
        (_tags.read_tag, (TAGGED,)),
        (_tags.is_damaged, (TAGGED,)),
        (_tags.set_ack, (TAGGED,)),
        (_tags.is_echo, (TAGGED, _tags.set_ack(TAGGED))),
    ]
}


@pytest.mark.parametrize('name', HEADER)
def bench_header(benchmark: Any, name: str) -> None:
    function, args = HEADER[name]
    compared(benchmark, 'header', {'echorig': repeated(function, *args, n=5000), 'len': repeated(len, START, n=5000)})
