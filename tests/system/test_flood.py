"""A flood from very many addresses against a rig: memory stays bounded and other peers lose no message.

``ECHORIG_FLOOD_SOURCES=100000`` sets the number of addresses. `benchmarks/bench_flood.py` measures the speed.
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
# Maximum memory of a remembered peer, and the constant part of a flood: addresses, log, allocator.
EACH, ADDED = 5 * 1024, 8 * 2**20
RUNS, RUN = 16 * MAX_PEERS, 1024  # programs whose windows are kept after their peers were forgotten, and their size
ANSWER = 20 * 1024  # memory of an answer of the program: a task, a future, an error

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != 'linux', reason='127.0.0.0/8 is all of this computer only on Linux'),
]


class FloodTarget:
    """The rig that is flooded."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments

    async def __aenter__(self) -> FloodTarget:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / 'flood_target.py'), *self._arguments), stdin=pipe, stdout=pipe, stderr=pipe
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
    """Run a process that sends one datagram from each of many addresses."""
    host, port = uri.removeprefix('udp://').split(':')
    attacker = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / 'flood_sender.py'), host, port, '--what', what),
        *('--sources', str(sources), '--seconds', str(PATIENCE)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(attacker.communicate(), 2 * PATIENCE)
    return json.loads(out)


async def talk(com: EchoProtocol, name: str, ended: asyncio.Future[Any]) -> int:
    """Send one message after another until a future is done; return their number."""
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
    async with FloodTarget('--max-peers', str(MAX_PEERS), *answered) as rig:
        known = await lab.client(rig.uri, 'known')
        for i in range(MAX_PEERS // 4):  # so that everything common to all peers is allocated
            await known.confirmed_send([64, 20, ['before', i]], timeout=PATIENCE)
        await known.confirmed_send([32, 20], timeout=PATIENCE)
        if answered:  # the rig has sent it a message, too
            end = asyncio.get_running_loop().time() + PATIENCE
            while not (await rig.state())['others']:
                assert asyncio.get_running_loop().time() < end, 'the rig has sent no answer'
                await asyncio.sleep(0.01)
        before = await rig.state()
        attack = asyncio.ensure_future(flood(rig.uri, 'message' if answered else what, SOURCES))
        new = await lab.client(rig.uri, 'new')  # connects during the flood
        said = dict(zip(['known', 'new'], await asyncio.gather(
            talk(known, 'known', attack), talk(new, 'new', attack)), strict=True))  # fmt: skip
        sent = (await attack)['sent']
        after = await rig.state()
    assert sent == SOURCES
    assert min(said.values()) > 0
    assert {name: after['heard'][name] for name in said} == {name: [n, n] for name, n in said.items()}
    assert after['forgotten'] + after['turned_away'] > 0
    # Pending answers of the rig are counted too; there are at most as many as accepted peers.
    assert after['peers'] <= MAX_PEERS * (2 if answered else 1)
    more = after['resident'] - before['resident']
    assert more < after['peers'] * (EACH + (ANSWER if answered else 0)) + RUNS * RUN + ADDED
    # Invalid messages and notices are logged a few times, then summarized.
    assert len(rig.log) < 50 * Tuning().log_burst
