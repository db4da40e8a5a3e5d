"""`echorig ping`: one line for each echo, and a summary: loss, round trips and the offset of the clock."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from ..communicator.peer_clocks import PeerClock
from ..communicator.protocol import EchoProtocol
from ..distribution import percentile
from ..errors import EchoError
from .clients import clients_of, kind_of
from .command import run_command, set_up_logging
from .options import add_connection, add_interval, add_output, add_rigs, add_timeout, count_of
from .output import Output, clock_text, duration

__all__ = ['add_options', 'run']


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_rigs(parser)
    parser.add_argument(
        '-c', '--count', type=count_of(1, 2**31), metavar='N', help='stop after N pings (default: Ctrl-C stops)'
    )
    add_interval(parser, zero=True)
    add_timeout(parser)
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose)
    out = Output(options.json)
    pinged: list[_Rig] = []

    async def ping_all() -> int:
        async with clients_of(options) as clients:
            pinged.extend(_Rig(name, client, out) for name, client in clients.items())
            try:
                await asyncio.gather(*(rig.ping(options.count, options.interval, options.timeout) for rig in pinged))
            finally:
                for rig in pinged:
                    rig.summarize()
        return _code(pinged)

    return run_command(ping_all, lambda: _code(pinged))


def _code(rigs: Sequence[_Rig]) -> int:
    return 0 if rigs and all(rig.round_trips for rig in rigs) else 1


class _Rig:
    """The pings to one rig."""

    def __init__(self, name: str, client: EchoProtocol | Exception, out: Output) -> None:
        self._name, self._client, self._out = name, client, out
        self._n_sent = 0
        self.round_trips: list[float] = []

    async def ping(self, count: int | None, interval: float, timeout: float) -> None:
        """Ping the rig again and again."""
        if isinstance(self._client, Exception):
            self._out.line(
                f'{self._name}: {self._client}', 'red', kind='error', rig=self._name, error=str(self._client)
            )
            return
        while count is None or self._n_sent < count:
            if self._n_sent:
                await asyncio.sleep(interval)
            await self._ping_once(self._client, timeout)

    async def _ping_once(self, client: EchoProtocol, timeout: float) -> None:
        self._n_sent += 1
        record = {'kind': 'ping', 'rig': self._name, 'uri': client.server_uri, 'number': self._n_sent}
        try:
            round_trip = await client.ping(timeout=timeout)
        except (EchoError, OSError) as ex:
            self._out.line(f'{self._name}: {ex}', 'red', **record, error=str(ex))
            return
        self.round_trips.append(round_trip)
        clock, peer = client.clock(), kind_of(client)
        text = f'{self._name}: {self._n_sent}  {duration(round_trip)}  {peer}{clock_text(clock)}'
        self._out.line(text, **record, round_trip=round_trip, peer=peer, **_clock_record(clock))

    def summarize(self) -> None:
        """Print the summary."""
        if not self._n_sent or isinstance(self._client, Exception):
            return
        times, n = sorted(self.round_trips), self._n_sent
        clock = self._client.clock()
        lost = 1.0 - len(times) / n
        text = f'--- {self._name}: {n} pings, {len(times)} echoes, {lost:.1%} lost'
        figures = {}
        if times:
            figures = {what: percentile(times, share) for what, share in (('min', 0), ('median', 0.5), ('p99', 0.99))}
            figures['max'] = times[-1]
            text += '; ' + ', '.join(f'{what} {duration(value)}' for what, value in figures.items())
        self._out.line(
            text + clock_text(clock),
            'bold' if times else 'bold red',
            kind='summary',
            rig=self._name,
            sent=n,
            echoed=len(times),
            lost=lost,
            **figures,
            **_clock_record(clock),
        )


def _clock_record(clock: PeerClock | None) -> dict[str, float]:
    return {} if clock is None else {'clock_offset': clock.offset, 'clock_error': clock.error}
