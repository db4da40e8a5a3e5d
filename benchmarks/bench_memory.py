"""How much memory 1,000 remembered peers take on a server, and 1,000 client communicators in a program.

Held constant: the loop (uvloop), and ten confirmed messages with each, so that what a conversation needs is there.
What counts is the resident memory of a process of its own; the first 200 are not counted.
"""

from __future__ import annotations

from typing import Any

import pytest

from contenders import REF
from echorig import EchoProtocol
from measure import messages, record
from processes import Rigs, python

FIRST, TURNS = 200, 10
CLIENTS = """
import gc, json, sys, uvloop
import bare, incumbent
from echorig import EchoProtocol
from rig_process import resident
kind, uri, first, n, turns = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
kept = []

async def opened(i):
    if kind == 'bare':
        client = await bare.connect(uri)
        say = client.round_trip
    else:
        client = await (EchoProtocol.client(uri, f'{i}') if kind == 'echorig' else incumbent.connect(uri, f'{i}'))
        say = lambda: client.start('2022-01-01_1_subject')
    for _ in range(turns):
        await say()
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
    """Be n peers of a server, one after another."""
    for i in range(n):
        client = await EchoProtocol.client(uri, f'client {i}')
        for _ in range(TURNS):
            await client.start(REF)
        client.close()
        await client.wait_closed()


def bench_server_memory(benchmark: Any, stack: Any, loops: Any) -> None:
    """Over UDP: peers are remembered when they have gone."""
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
