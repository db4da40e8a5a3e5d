"""The competitors: echorig, the bare echo of the event loop, and iblutil, each with n rigs on one server.

Both ends run on one loop in one process, so that the CPU time of a round trip is exact. A competitor is opened once
and then makes bursts of round trips with the same message.

``ECHORIG_BENCH_SLOWDOWN=0.15`` makes each round trip of echorig 15 % longer, to test the gate. Only this file reads it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import cycle, islice
from typing import Any

from benchmarks.support import asyncio_echo, iblutil_rigs
from echorig import EchoProtocol, Tuning

REF = '2022-01-01_1_subject'
MANY = Tuning(max_connections=20_000, max_peers=20_000)  # the clients are all at one address
SLOWDOWN = float(os.environ.get('ECHORIG_BENCH_SLOWDOWN', '0'))
RoundTrip = Callable[[], Awaitable[Any]]
Opened = tuple[list[RoundTrip], Callable[[], Any]]


class Competitor:
    """The open clients of one server, and their loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, trips: list[RoundTrip], close: Callable[[], Any]) -> None:
        self.loop = loop
        self.latencies: list[float] = []
        self._trips = trips
        self._close = close
        self._turn = cycle(trips)

    def burst(self, n: int) -> float:
        """Make n round trips, one at a time, the rigs in turn; return the CPU time of one in seconds."""
        return self.loop.run_until_complete(self._burst(n))

    async def _burst(self, n: int) -> float:
        note, clock = self.latencies.append, time.perf_counter
        begun = time.process_time()
        last = clock()
        for trip in islice(self._turn, n):
            await trip()
            now = clock()
            note(now - last)
            last = now
        return (time.process_time() - begun) / n

    def flood(self, n: int, in_flight: int) -> float:
        """Make n round trips, several rigs at once; return the CPU time of one in seconds."""
        return self.loop.run_until_complete(self._flood(n, min(in_flight, len(self._trips))))

    async def _flood(self, n: int, in_flight: int) -> float:
        async def work(share: list[RoundTrip]) -> None:
            note, clock = self.latencies.append, time.perf_counter
            for trip in islice(cycle(share), n // in_flight):
                begun = clock()
                await trip()
                note(clock() - begun)

        begun = time.process_time()
        await asyncio.gather(*(work(self._trips[i::in_flight]) for i in range(in_flight)))
        return (time.process_time() - begun) / (n // in_flight * in_flight)

    def close(self) -> None:
        """Close both ends."""
        self._close()
        self.loop.run_until_complete(asyncio.sleep(0.01))


async def open_echorig(transport: str, n: int) -> Opened:
    """Open an echorig server with a callback, and its clients."""
    server = await EchoProtocol.server(f'{transport}://127.0.0.1:0', 'server', tuning=MANY)
    server.assign_callback('EXPSTART', lambda data, addr: None)
    clients = [await EchoProtocol.client(server.server_uri, f'client {i}') for i in range(n)]
    trips: list[RoundTrip] = [partial(client.start, REF) for client in clients]
    if SLOWDOWN:
        trips = [await slowed(trip) for trip in trips]
    return trips, lambda: [com.close() for com in (*clients, server)]


async def open_iblutil(transport: str, n: int) -> Opened:
    """Open an iblutil server with a callback, and its clients."""
    if transport != 'udp' and n > 1:
        raise NotImplementedError('a TCP server of iblutil has one client')
    server, uri = await iblutil_rigs.listen(transport)
    server.assign_callback('EXPSTART', lambda data, addr: None)
    clients = [await iblutil_rigs.connect(uri, f'client {i}') for i in range(n)]
    trips: list[RoundTrip] = [partial(client.start, REF) for client in clients]
    return trips, lambda: iblutil_rigs.close(server, clients)


async def open_bare(transport: str, n: int) -> Opened:
    """Open a bare echo and its clients."""
    server, uri = await asyncio_echo.listen(transport)
    clients = [await asyncio_echo.connect(uri) for _ in range(n)]
    return [client.round_trip for client in clients], lambda: [
        end.close() for end in (*(client.transport for client in clients), server)
    ]


async def slowed(trip: RoundTrip) -> RoundTrip:
    """Return a round trip that is longer by the fraction `SLOWDOWN`."""
    more = 0.0

    async def slow() -> None:
        await trip()
        end = time.perf_counter() + more
        while time.perf_counter() < end:
            pass

    own = await best(trip)
    more = max(0.0, SLOWDOWN * own - (await best(slow) - own))
    return slow


async def best(trip: RoundTrip) -> float:
    """Return the CPU time of a round trip in the fastest of many short bursts, in seconds."""
    times = []
    for _ in range(100):
        begun = time.process_time()
        for _ in range(20):
            await trip()
        times.append((time.process_time() - begun) / 20)
    return min(times)


OPEN: dict[str, Callable[[str, int], Awaitable[Opened]]] = {
    'echorig': open_echorig,
    'bare': open_bare,
    'iblutil': open_iblutil,
}


def opened(loop: asyncio.AbstractEventLoop, name: str, transport: str, n: int = 1) -> Competitor:
    """Open a competitor with n rigs on a loop."""
    return Competitor(loop, *loop.run_until_complete(_open(name, transport, n)))


async def _open(name: str, transport: str, n: int) -> Opened:
    return await OPEN[name](transport, n)
