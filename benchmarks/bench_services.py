"""`Services.start` with 4, 32 and 100 rigs in another process: how long it takes, and how far apart the rigs start.

Held constant: the message, and rigs that answer as soon as they have heard it. Rigs say when that was, by a clock
that all processes share: the skew is the last receipt minus the first. The incumbent takes part over UDP on the loop
of asyncio, where it works: on uvloop and over TCP it misses an answer that comes with the echo.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import incumbent
from echorig import EchoProtocol, Services
from measure import interleave, medians, percentiles, record, rounds
from processes import Rigs, Unavailable

REF = '2022-01-01_1_subject'


class Session:
    """A set of rigs, and how long each of its starts took."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: str, transport: str, loop_name: str, rigs: int) -> None:
        self.skews: list[float] = []
        self._loop = loop
        self._rigs = Rigs(kind, transport, loop_name, '--rigs', rigs, '--answer')
        self._services = loop.run_until_complete(self._connect(kind))

    async def _connect(self, kind: str) -> Any:
        uris = self._rigs.uris
        if kind == 'echorig':
            return Services([await EchoProtocol.client(uri, uri) for uri in uris])
        from iblutil.io.net.app import Services as Incumbents

        return Incumbents([await incumbent.connect(uri, uri) for uri in uris])

    def start(self) -> float:
        """Start all rigs; return the time that it took in seconds."""
        begun = time.perf_counter()
        answers = self._loop.run_until_complete(self._services.start(REF))
        took = time.perf_counter() - begun
        heard = [answer[1] for answer in answers.values()]
        assert len(heard) == len(self._rigs.uris)
        self.skews.append((max(heard) - min(heard)) * 1e-9)
        return took

    def close(self) -> None:
        """Close the clients, and end the process of the rigs."""
        self._services.close()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._rigs.close()


@pytest.mark.parametrize('rigs', [4, 32, 100], ids=lambda n: f'{n}rigs')
def bench_services(benchmark: Any, stack: Any, loops: Any, transport: str, rigs: int) -> None:
    sessions, skipped = {}, {}
    opening = {'echorig': ('echorig', 'uvloop'), 'echorig on asyncio': ('echorig', 'asyncio')}
    if transport == 'udp':
        opening['iblutil on asyncio'] = ('iblutil', 'asyncio')
    else:
        skipped['iblutil on asyncio'] = 'an answer that comes with the echo breaks its comparison'
    for name, (kind, loop_name) in opening.items():
        try:
            sessions[name] = Session(loops[loop_name], kind, transport, loop_name, rigs)
            stack.callback(sessions[name].close)
        except (ImportError, Unavailable) as ex:
            skipped[name] = str(ex)
    for session in sessions.values():
        session.start()
        session.skews.clear()
    times = interleave(benchmark, {name: session.start for name, session in sessions.items()}, rounds(60))
    total, skew = medians(times, 1e3), medians({name: session.skews for name, session in sessions.items()}, 1e3)
    benchmark.group = f'Services.start {transport}'
    record(
        benchmark,
        times['echorig'],
        rigs,
        1e3,
        'ms',
        total_ms=total,
        skew_ms=skew,
        skew_percentiles_ms={name: percentiles(session.skews, 1e3) for name, session in sessions.items()},
        ratio={f'total, {name}': total['echorig'] / total[name] for name in total if name != 'echorig'}
        | {f'skew, {name}': skew['echorig'] / skew[name] for name in skew if name != 'echorig'},
        skipped=skipped,
    )
