"""`Services.start` with 4, 32 and 100 rigs in another process: its duration, and the skew of the starts.

Held constant: the message, and rigs that answer at once. Rigs answer with the time of receipt, by a clock that all
processes share. The skew is the last receipt minus the first. iblutil takes part over UDP on the loop of asyncio, where
it works: on uvloop and over TCP it misses an answer that arrives together with the echo.

`bench_wire` measures the skew on the wire: the rigs are plain sockets, and the times are those at which the kernel
received the first copy of the message at each rig. Its floor is one loop of `send` calls in C to the same rigs.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from benchmarks.support import iblutil_rigs
from benchmarks.support.c_baseline import CFan, NoCompiler
from benchmarks.support.measure import interleave, medians, percentiles, ratios, record, rounds
from benchmarks.support.processes import Rigs, Unavailable, allow_sockets
from echorig import EchoProtocol, Services

REF = '2022-01-01_1_subject'


class Session:
    """A set of rigs, and the skew of each of its starts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: str, rigs: Rigs) -> None:
        self.skews: list[float] = []
        self._loop = loop
        self._rigs = rigs
        self._services = loop.run_until_complete(self._connect(kind))

    async def _connect(self, kind: str) -> Any:
        uris = self._rigs.uris
        if kind == 'echorig':
            return Services([await EchoProtocol.client(uri, uri) for uri in uris])
        from iblutil.io.net.app import Services as IblutilServices

        return IblutilServices([await iblutil_rigs.connect(uri, uri) for uri in uris])

    def start(self) -> float:
        """Start all rigs; return the duration in seconds."""
        begun = time.perf_counter()
        answers = self._loop.run_until_complete(self._services.start(REF))
        took = time.perf_counter() - begun
        received = [answer[1] for answer in answers.values()]
        assert len(received) == len(self._rigs.uris)
        self.skews.append((max(received) - min(received)) * 1e-9)
        return took

    def close(self) -> None:
        """Close the clients."""
        self._services.close()
        self._loop.run_until_complete(asyncio.sleep(0.01))


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
            process = Rigs(kind, transport, loop_name, '--rigs', rigs, '--answer')
            stack.callback(process.close)
            sessions[name] = Session(loops[loop_name], kind, process)
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


@pytest.mark.parametrize('rigs', [100, 1000], ids=lambda n: f'{n}rigs')
def bench_wire(benchmark: Any, stack: Any, loops: Any, rigs: int) -> None:
    """Over UDP, by the time stamps of the kernel."""
    allow_sockets()
    skipped: dict[str, str] = {}
    sessions: dict[str, Session] = {}
    opening = {'echorig': 'uvloop', 'echorig on asyncio': 'asyncio'}
    if rigs <= 100:
        opening['iblutil on asyncio'] = 'asyncio'
    else:
        skipped['iblutil on asyncio'] = 'only measured with 100 rigs'
    for name, loop_name in opening.items():
        process = Rigs('wire', 'udp', loop_name, '--rigs', rigs)
        stack.callback(process.close)
        try:
            sessions[name] = Session(loops[loop_name], name.partition(' ')[0], process)
            stack.callback(sessions[name].close)
            sessions[name].start()
        except (ImportError, TimeoutError) as ex:
            skipped[name] = repr(ex)
            sessions.pop(name, None)
    for session in sessions.values():
        session.skews.clear()
    measures: dict[str, Any] = {name: session.start for name, session in sessions.items()}
    try:
        process = Rigs('wire', 'udp', 'uvloop', '--rigs', rigs)
        stack.callback(process.close)
        floor = CFan(process.uris)
        stack.callback(floor.close)
        # The floor is measured directly before echorig.
        measures = {'echorig': measures.pop('echorig'), 'floor': floor.start, **measures}
    except NoCompiler as ex:
        skipped['floor'] = str(ex)
    times = interleave(benchmark, measures, rounds(60 if rigs <= 100 else 24))
    skews = {name: session.skews[1:] for name, session in sessions.items()}  # without the round that warms up
    total = medians({name: times[name] for name in sessions}, 1e3)
    if 'floor' in times:
        skews['floor'] = times['floor']
    benchmark.group = 'Services.start on the wire'
    record(
        benchmark,
        times['echorig'],
        rigs,
        1e3,
        'ms',
        total_ms=total,
        skew_ms=medians(skews, 1e3),
        skew_percentiles_ms={name: percentiles(values, 1e3) for name, values in skews.items()},
        ratio=ratios(skews),
        ratio_total={name: total['echorig'] / total[name] for name in total if name != 'echorig'},
        skipped=skipped,
    )
