"""A flood from very many addresses, against a rig in a process of its own: what it costs, and who loses by it.

``ECHORIG_FLOOD_SOURCES=100000`` tries it with as many. No time decides; `benchmarks/bench_flood.py` measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from echorig import EchoProtocol, Tuning

HERE = Path(__file__).parents[1] / 'support'
SOURCES = int(os.environ.get('ECHORIG_FLOOD_SOURCES', 20_000))
PATIENCE = 60.0  # seconds; only a failure waits that long
MAX_PEERS = 1024
# What a remembered peer takes at most, and what a flood adds whatever their number: traces, addresses, log, allocator.
EACH, ADDED = 5 * 1024, 16 * 2**20
ANSWER = 20 * 1024  # what the program's own answer to it takes: a task, a future, an error

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != 'linux', reason='127.0.0.0/8 is all of this computer only on Linux'),
]


class Flooded:
    """The rig under attack."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments

    async def __aenter__(self) -> Flooded:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / 'flooded.py'), *self._arguments), stdin=pipe, stdout=pipe, stderr=pipe
        )
        self._errors = asyncio.ensure_future(self._process.stderr.read())
        self.uri: str = json.loads(await self._process.stdout.readline())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        except asyncio.TimeoutError:
            self._process.kill()
            raise
        self.log = (await self._errors).decode().splitlines()
        self._process._transport.close()

    async def state(self) -> dict[str, Any]:
        self._process.stdin.write(b'?\n')
        return json.loads(await asyncio.wait_for(self._process.stdout.readline(), PATIENCE))


async def flood(uri: str, what: str, sources: int) -> dict[str, Any]:
    """Let a process send one datagram from each of many addresses."""
    host, port = uri.removeprefix('udp://').split(':')
    attacker = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / 'flooder.py'), host, port, '--what', what),
        *('--sources', str(sources), '--seconds', str(PATIENCE)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(attacker.communicate(), 2 * PATIENCE)
    return json.loads(out)


async def talk(com: EchoProtocol, name: str, ended: asyncio.Future[Any]) -> int:
    """Say one thing after the other until something else has ended, all of which must be confirmed; count them."""
    n = 0
    while not ended.done():
        await com.confirmed_send([64, 20, [name, n]], timeout=PATIENCE)
        n += 1
        await asyncio.sleep(0.001)
    return n


@pytest.mark.blocks
@pytest.mark.parametrize('what', ['mixed', 'message', 'answered'])
async def test_others_lose_nothing_and_memory_is_bounded(lab, what):
    answered = ('--answer',) if what == 'answered' else ()
    async with Flooded('--max-peers', str(MAX_PEERS), *answered) as rig:
        known = await lab.client(rig.uri, 'known')
        for i in range(MAX_PEERS // 4):  # so that what every process needs is there
            await known.confirmed_send([64, 20, ['before', i]], timeout=PATIENCE)
        await known.confirmed_send([32, 20], timeout=PATIENCE)
        if answered:  # the rig has sent it something, too
            end = asyncio.get_running_loop().time() + PATIENCE
            while not (await rig.state())['others']:
                assert asyncio.get_running_loop().time() < end, 'nobody else was sent anything'
                await asyncio.sleep(0.01)
        before = await rig.state()
        attack = asyncio.ensure_future(flood(rig.uri, 'message' if answered else what, SOURCES))
        new = await lab.client(rig.uri, 'new')  # it comes when the flood is there already
        said = dict(zip(['known', 'new'], await asyncio.gather(
            talk(known, 'known', attack), talk(new, 'new', attack)), strict=True))  # fmt: skip
        sent = (await attack)['sent']
        after = await rig.state()
    assert sent == SOURCES
    assert min(said.values()) > 0
    assert {name: after['heard'][name] for name in said} == {name: [n, n] for name, n in said.items()}
    assert after['forgotten'] + after['turned_away'] > 0
    # Its own answers on their way are counted besides, of which there are no more than peers that were let in.
    assert after['peers'] <= MAX_PEERS * (2 if answered else 1)
    more = after['resident'] - before['resident']
    assert more < after['peers'] * (EACH + (ANSWER if answered else 0)) + ADDED
    # What is no message and what is reported is logged a few times, then summed up.
    assert len(rig.log) < 50 * Tuning().log_burst
