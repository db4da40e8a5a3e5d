"""Encoding and decoding beside orjson and json; the message is held constant in each group."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from echorig._codec import compare, decode, encode, peek

MESSAGES: dict[str, Any] = {
    '30B': [2, '2022-01-01_1_subject', None],
    '1kB': [64, 20, {f'field_{i}': [i, i * 1.5, 'text', None] for i in range(26)}],
    '60kB': [64, 20, {'samples': [i * 0.25 for i in range(9000)]}],
    'accents': [64, 20, {'név': 'Ünïcödé ' * 40}],
}


@pytest.mark.parametrize('writer', [encode, orjson.dumps, json.dumps], ids=['echorig', 'orjson', 'json'])
@pytest.mark.parametrize('size', MESSAGES)
def bench_encode(benchmark: Any, size: str, writer: Callable[[Any], Any]) -> None:
    benchmark.group = f'encode {size}'
    benchmark(writer, MESSAGES[size])


@pytest.mark.parametrize('reader', [decode, orjson.loads, json.loads], ids=['echorig', 'orjson', 'json'])
@pytest.mark.parametrize('size', MESSAGES)
def bench_decode(benchmark: Any, size: str, reader: Callable[[bytes], Any]) -> None:
    benchmark.group = f'decode {size}'
    benchmark(reader, encode(MESSAGES[size]))


@pytest.mark.parametrize('size', MESSAGES)
def bench_compare(benchmark: Any, size: str) -> None:
    benchmark.group = f'compare {size}'
    frame = encode(MESSAGES[size])
    echo = bytes(bytearray(frame))
    benchmark(compare, frame, echo, 512, 65535)


def bench_peek(benchmark: Any) -> None:
    benchmark.group = 'peek'
    benchmark(peek, encode(MESSAGES['1kB']))
