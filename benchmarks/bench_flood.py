"""Round trips of one client during a flood from very many addresses, at full speed and at 10,000 datagrams a second.

Three processes: the rig, the attacker, which sends each datagram from another socket, and this one, the client. The
attacker has the lowest priority, since an attacker on another computer would take no CPU time from the rig. The kernel
drops datagrams that the rig does not read in time; the client sends its message again. Held constant: the loop
(uvloop), the message, and a pause of 2 ms between two. Every message must be confirmed and delivered exactly once.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support.measure import EFFORT, percentiles, record
from echorig import EchoProtocol

SUPPORT = Path(__file__).parents[1] / 'tests' / 'support'
PATIENCE = 5.0  # seconds for one confirmation
SECONDS = {'smoke': 0.3, 'quick': 2.0}.get(EFFORT, 5.0)
KEY = 'the key of the laboratory'
# The kind of datagrams, their maximum rate per second, and the arguments of the rig.
ATTACKS: dict[str, tuple[str, int | None, tuple[str, ...]]] = {
    'none': ('mixed', 0, ()),
    'mixed, 10,000/s': ('mixed', 10_000, ()),
    'mixed': ('mixed', None, ()),
    'messages': ('message', None, ()),
    'messages, answered': ('message', None, ('--answer',)),
    'messages, with allow=': ('message', None, ('--allow', '127.0.0.1')),
    'messages, with key=': ('message', None, ('--key', KEY)),
}


class Rig:
    """The target of the flood, in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, SUPPORT / 'flood_target.py', *arguments]
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        self.uri: str = json.loads(self._process.stdout.readline())

    def state(self) -> dict[str, Any]:
        """Return the counts and the resource usage of the rig."""
        self._process.stdin.write('?\n')
        return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


async def become_known(client: EchoProtocol) -> None:
    """Send messages until the rig regards the client as a confirmed peer."""
    begun = time.monotonic()
    while time.monotonic() - begun < (0.1 if EFFORT == 'smoke' else 1.2):
        await client.confirmed_send([64, 20, ['before', 0]], timeout=PATIENCE)
        await asyncio.sleep(0.01)


async def attack(uri: str, what: str, rate: int | None) -> dict[str, Any]:
    """Run the attacker, unless the rate is 0; return its report."""
    if rate == 0:
        await asyncio.sleep(SECONDS)
        return {'rate': 0.0}
    host, port = uri.removeprefix('udp://').split(':')
    arguments = [host, port, '--sources', 10_000_000, '--seconds', SECONDS, '--what', what]
    arguments += [] if rate is None else ['--rate', rate]
    attacker = await asyncio.create_subprocess_exec(
        *('nice', '-n', '19', sys.executable, str(SUPPORT / 'flood_sender.py')),
        *map(str, arguments),
        stdout=subprocess.PIPE,
    )
    return dict(json.loads((await attacker.communicate())[0]))


async def talk(uri: str, what: str, rate: int | None, times: list[float], key: str | None) -> dict[str, Any]:
    """Make round trips during the attack; return figures about it."""
    async with await EchoProtocol.client(uri, 'client', key=key) as client:
        await become_known(client)
        over = asyncio.ensure_future(attack(uri, what, rate))
        while not over.done():
            begun = time.perf_counter()
            await client.confirmed_send([64, 20, ['good', len(times)]], timeout=PATIENCE)
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(0.002)
        (statistics,) = client.peers.values()
        return {'attack_per_s': round((await over)['rate']), 'repeated': statistics.retransmitted}


@pytest.mark.parametrize('how', ATTACKS)
def bench_flood(benchmark: Any, stack: Any, loops: Any, how: str) -> None:
    if sys.platform != 'linux':
        pytest.skip('127.0.0.0/8 is all of this computer only on Linux')
    what, rate, arguments = ATTACKS[how]
    key = KEY if '--key' in arguments else None
    rig = Rig(*arguments)
    stack.callback(rig.close)
    before, begun = rig.state(), time.monotonic()
    times: list[float] = []
    benchmark.group = 'flood'
    figures = benchmark.pedantic(lambda: loops['uvloop'].run_until_complete(talk(rig.uri, what, rate, times, key)))
    after, seconds = rig.state(), time.monotonic() - begun
    assert after['heard']['good'] == [len(times), len(times)], 'a message was lost, or delivered twice'
    record(
        benchmark,
        times,
        len(times),
        latency_us={how: percentiles(times)},
        processor=round((after['cpu'] - before['cpu']) / seconds, 2),
        resident_mib=[round(state['resident'] / 2**20, 1) for state in (before, after)],
        **{key: after[key] for key in ('peers', 'forgotten', 'turned_away')},
        **figures,
    )
