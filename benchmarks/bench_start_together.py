"""The spread of the callbacks of rigs in processes of their own: `Services.start` with `at`, without, and iblutil.

Held constant: the message, and rigs that answer at once with the time of their callback, by a clock that all processes
share. The spread is the last callback minus the first. With more rigs than processors, a rig also waits for its
turn; a lab has a computer for each rig.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.support import iblutil_rigs
from benchmarks.support.measure import interleave, medians, percentiles, record, rounds
from benchmarks.support.processes import Rigs, Unavailable
from echorig import Services

REF = '2022-01-01_1_subject'
AT = 0.05  # seconds


class Session:
    """A set of rigs; each start returns the spread of the callbacks, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: str, rigs: list[Rigs], options: dict[str, float]) -> None:
        self._loop, self._options = loop, options
        self._services = loop.run_until_complete(
            self._connect(kind, {f'rig{i}': r.uris[0] for i, r in enumerate(rigs)})
        )

    async def _connect(self, kind: str, uris: dict[str, str]) -> Any:
        if kind == 'echorig':
            return await Services.connect(uris)
        from iblutil.io.net.app import Services as IblutilServices

        return IblutilServices([await iblutil_rigs.connect(uri, name) for name, uri in uris.items()])

    def start(self) -> float:
        """Start all rigs; return the spread."""
        answers = self._loop.run_until_complete(self._services.start(REF, **self._options))
        received = [answer[1] for answer in answers.values()]
        return (max(received) - min(received)) * 1e-9

    def close(self) -> None:
        """Close the clients."""
        self._services.close()
        self._loop.run_until_complete(asyncio.sleep(0.01))


@pytest.mark.parametrize('n', [2, 8], ids=lambda n: f'{n}rigs')
def bench_start_together(benchmark: Any, stack: Any, loops: Any, n: int) -> None:
    sessions: dict[str, Session] = {}
    skipped: dict[str, str] = {}
    opening: list[tuple[str, str, str, dict[str, float]]] = [
        ('at', 'echorig', 'uvloop', {'at': AT}),
        ('without', 'echorig', 'uvloop', {}),
        ('iblutil on asyncio', 'iblutil', 'asyncio', {}),
    ]
    for name, kind, loop_name, options in opening:
        try:
            rigs: list[Rigs] = []
            for _ in range(n):
                rigs.append(Rigs(kind, 'udp', loop_name, '--rigs', 1, '--answer'))
                stack.callback(rigs[-1].close)
            sessions[name] = Session(loops[loop_name], kind, rigs, options)
            stack.callback(sessions[name].close)
        except (ImportError, Unavailable) as ex:
            skipped[name] = str(ex)
    for session in sessions.values():
        session.start()
    spreads = interleave(benchmark, {name: session.start for name, session in sessions.items()}, rounds(100))
    benchmark.group = 'Services.start at one moment'
    middle = medians(spreads, 1e3)
    record(
        benchmark,
        spreads['at'],
        n,
        1e3,
        'ms',
        spread_ms=middle,
        percentiles_ms={name: percentiles(values, 1e3) for name, values in spreads.items()},
        ratio={f'spread, {name}': middle['at'] / middle[name] for name in middle if name != 'at'},
        skipped=skipped,
    )
