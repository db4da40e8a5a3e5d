"""Latency of one confirmed round trip between two processes, with and without polling.

Held constant in each round: the message, one message in flight, and a separate core for each end, as on two computers.
The system would run two processes that take turns on one core, where a wake-up costs little; this is measured as "not
pinned". All servers run all the time, and the competitors run their bursts in turn. A polling one stops soon after its
burst.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from benchmarks.support import asyncio_echo, iblutil_rigs
from benchmarks.support.competitors import REF, Competitor
from benchmarks.support.measure import interleave, medians, messages, percentiles, record, rounds
from benchmarks.support.processes import Rigs, Unavailable
from echorig import EchoProtocol

POLL = 0.002  # seconds: longer than a round trip, so that a burst never sleeps, and over soon after it
PINNED = hasattr(os, 'sched_setaffinity') and len(os.sched_getaffinity(0)) > 1


class Peer:
    """A server in another process, and a client of it here."""

    def __init__(self, loop: asyncio.AbstractEventLoop, loop_name: str, transport: str, kind: str, how: str) -> None:
        cores = sorted(os.sched_getaffinity(0)) if PINNED and 'free' not in how else []
        arguments = (['--busy-poll', POLL] if 'poll' in how else []) + (['--core', cores[1]] if cores else [])
        self._rigs = Rigs(kind, transport, loop_name, *arguments)
        self._cores = set(cores[:1])
        more = {'busy_poll': POLL} if 'poll' in how else {}
        try:
            client, trip = loop.run_until_complete(self._connect(kind, self._rigs.uris[0], more))
        except TypeError as ex:
            self._rigs.close()
            raise Unavailable('this echorig has no busy_poll') from ex
        self.competitor = Competitor(loop, [trip], client.close)

    @staticmethod
    async def _connect(kind: str, uri: str, more: dict[str, Any]) -> tuple[Any, Any]:
        if kind == 'bare':
            client = await asyncio_echo.connect(uri)
            return client.transport, client.round_trip
        com = await (iblutil_rigs.connect(uri) if kind == 'iblutil' else EchoProtocol.client(uri, 'client', **more))
        return com, lambda: com.start(REF)

    def burst(self, n: int) -> float:
        """Make n round trips, after a pause in which the others stop polling; return the time of one in seconds."""
        time.sleep(2 * POLL)
        allowed = os.sched_getaffinity(0) if self._cores else None
        if self._cores:
            os.sched_setaffinity(0, self._cores)
        try:
            begun = time.perf_counter()
            self.competitor.burst(n)
            return (time.perf_counter() - begun) / n
        finally:
            if allowed:
                os.sched_setaffinity(0, allowed)

    def close(self) -> None:
        """Close both ends."""
        self.competitor.close()
        self._rigs.close()


def bench_latency(benchmark: Any, stack: Any, loop: Any, loop_name: str, transport: str) -> None:
    burst = messages(100)
    opening = {'echorig': ('echorig', ''), 'bare': ('bare', '')}
    opening |= {'echorig, busy_poll': ('echorig', 'poll'), 'iblutil': ('iblutil', '')}
    if PINNED:
        opening |= {
            'echorig, not pinned': ('echorig', 'free'),
            'echorig, busy_poll, not pinned': ('echorig', 'poll free'),
            'bare, not pinned': ('bare', 'free'),
        }
    peers: dict[str, Peer] = {}
    skipped = {} if PINNED else {'echorig, not pinned': 'one core, or no way to choose one: nothing is pinned'}
    for name, (kind, how) in opening.items():
        try:
            peers[name] = Peer(loop, loop_name, transport, kind, how)
            stack.callback(peers[name].close)
        except (ImportError, Unavailable) as ex:
            skipped[name] = str(ex)
    for peer in peers.values():
        peer.burst(burst)
        peer.competitor.latencies.clear()
    interleave(benchmark, {name: lambda who=who: who.burst(burst) for name, who in peers.items()}, rounds(60))
    latencies = {name: who.competitor.latencies for name, who in peers.items()}
    p50 = medians(latencies)
    benchmark.group = f'latency {loop_name} {transport}'
    record(
        benchmark,
        latencies['echorig'],
        burst,
        latency_us={name: percentiles(values) for name, values in latencies.items()},
        ratio={'bare': p50['echorig'] / p50['bare']}
        | {f'{name} / bare': value / p50['bare'] for name, value in p50.items() if name not in ('echorig', 'bare')},
        skipped=skipped,
    )
