"""Memory of 1,000 remembered peers of a server, and of 1,000 client communicators.

Held constant: the loop (uvloop), and ten confirmed messages with each peer, so that all its state is allocated. The
figure is the resident memory of a separate process; the first 200 peers are not counted.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.support.competitors import REF
from benchmarks.support.measure import messages, record
from benchmarks.support.processes import Rigs, python
from echorig import EchoProtocol

FIRST, TURNS = 200, 10
CLIENTS = """
import gc, json, sys, uvloop
from benchmarks.support import asyncio_echo, iblutil_rigs
from benchmarks.support.rig_process import resident
from echorig import EchoProtocol
kind, uri, first, n, turns = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
kept = []

async def opened(i):
    if kind == 'bare':
        client = await asyncio_echo.connect(uri)
        send = client.round_trip
    else:
        client = await (EchoProtocol.client(uri, f'{i}') if kind == 'echorig' else iblutil_rigs.connect(uri, f'{i}'))
        send = lambda: client.start('2022-01-01_1_subject')
    for _ in range(turns):
        await send()
    kept.append(client)

async def main():
    for i in range(first):
        await opened(i)
    gc.collect()
    before = resident()
    for i in range(n):
        await opened(i)
    gc.collect()
    print(json.dumps((resident() - before) / n))

uvloop.new_event_loop().run_until_complete(main())
sys.stdout.flush()
import os
os._exit(0)
"""


async def visit(uri: str, n: int) -> None:
    """Connect to a server as n peers, one after another."""
    for i in range(n):
        client = await EchoProtocol.client(uri, f'client {i}')
        for _ in range(TURNS):
            await client.start(REF)
        client.close()
        await client.wait_closed()


def bench_server_memory(benchmark: Any, stack: Any, loops: Any) -> None:
    """Over UDP, where a server remembers peers that have closed."""
    n = messages(1000)
    rigs = Rigs('echorig', 'udp', 'uvloop', plain=True)
    stack.callback(rigs.close)
    loops['uvloop'].run_until_complete(visit(rigs.uris[0], FIRST))
    before = rigs.resident()
    benchmark.group = 'memory'
    benchmark.pedantic(lambda: loops['uvloop'].run_until_complete(visit(rigs.uris[0], n)))
    each = (rigs.resident() - before) / n
    record(benchmark, [each], n, 1, 'bytes', bytes_each=round(each))


@pytest.mark.parametrize('kind', ['echorig', 'bare', 'iblutil'])
def bench_client_memory(benchmark: Any, stack: Any, transport: str, kind: str) -> None:
    if kind == 'iblutil':
        pytest.importorskip('iblutil')
        if transport == 'tcp':
            pytest.skip('a TCP server of iblutil has one client')
    n = messages(1000)
    rigs = Rigs(kind, transport, 'uvloop')
    stack.callback(rigs.close)
    benchmark.group = 'memory'
    each = benchmark.pedantic(lambda: python(CLIENTS, kind, rigs.uris[0], FIRST, n, TURNS))
    record(benchmark, [each], n, 1, 'bytes', bytes_each=round(each))
