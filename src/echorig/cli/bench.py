"""`echorig bench`: the speed of this network: round trips, messages a second, and how far apart rigs are reached.

Only pings are sent, for which no callback runs. The spread of a start is that of pings to all rigs at once: the arrival
of each is taken to be in the middle of its round trip.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
from time import perf_counter

from ..communicator.protocol import EchoProtocol
from ..distribution import histogram, percentile
from ..errors import EchoError
from ..loop import loop_name
from .benchmark_file import load_medians, save_run
from .clients import clients_of
from .command import run_command, set_up_logging
from .options import add_connection, add_output, add_rigs, add_timeout, count_of
from .output import Output, duration

__all__ = ['add_options', 'run']

_COLUMNS = 'Rig', 'Min', 'Median', 'p99', 'Max', 'Lost', 'Messages/s'
_BAR = 40  # columns
_SPREAD = 'start skew'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_rigs(parser)
    parser.add_argument(
        *('-n', '--rounds'),
        type=count_of(2, 1_000_000),
        default=500,
        metavar='N',
        help='pings to each rig (default: %(default)s)',
    )
    add_timeout(parser)
    parser.add_argument('--save', metavar='FILE', help='save the run, in the JSON of pytest-benchmark')
    parser.add_argument('--compare', metavar='FILE', help='compare the medians with a saved run')
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose)
    out = Output(options.json)

    async def measure() -> int:
        before = load_medians(options.compare) if options.compare else {}
        failed = False
        times: dict[str, list[float]] = {}
        rows: list[list[str]] = []
        async with clients_of(options) as clients:
            opened: dict[str, EchoProtocol] = {}
            for name, client in clients.items():
                if isinstance(client, EchoProtocol):
                    times[name], lost = await _round_trips(client, options.rounds, options.timeout)
                    error = None if times[name] else f'{name} echoed none of {options.rounds} pings'
                else:
                    error, lost = str(client), 0
                if error is not None:
                    failed = True
                    times.pop(name, None)
                    out.line(error, 'red', kind='error', rig=name, error=error)
                    continue
                opened[name] = client  # type: ignore[assignment]
                rows.append(_row(name, times[name], lost))
                out.record(**_record(name, times[name], lost))
                failed = failed or lost > 0
            if len(opened) > 1:
                times[_SPREAD] = await _spreads(list(opened.values()), min(options.rounds, 200), options.timeout)
        out.table(_COLUMNS, rows, _COLUMNS[1:]) if rows else None
        if spreads := times.get(_SPREAD):
            middle, most = statistics.median(spreads), max(spreads)
            text = f'Pings to all {len(rows)} rigs at once arrive within {duration(middle)}, at most {duration(most)}'
            out.line(text, kind='start_skew', median=middle, max=most)
        if not options.json and rows:
            _print_histogram([value for name, values in times.items() if name != _SPREAD for value in values], out)
        for name, values in times.items():
            if name in before:
                ratio = statistics.median(values) / before[name]
                out.line(
                    f'{name}: median {ratio:.2f} of that in {options.compare}', kind='compared', name=name, ratio=ratio
                )
        if options.save and times:
            save_run(options.save, {name: values for name, values in times.items() if values}, {'loop': loop_name()})
        return 1 if failed else 0

    return run_command(measure)


async def _round_trips(client: EchoProtocol, rounds: int, timeout: float) -> tuple[list[float], int]:
    """Return the round trips of pings to a rig, and how many of them were lost."""
    times: list[float] = []
    for number in range(rounds):
        try:
            times.append(await client.ping(timeout=timeout))
        except (EchoError, OSError):
            if not times and number >= 2:  # nobody is there
                break
    return times, rounds - len(times)


async def _spreads(clients: list[EchoProtocol], rounds: int, timeout: float) -> list[float]:
    """Return how far apart pings to all rigs arrive."""

    async def arrival(client: EchoProtocol) -> float:
        return perf_counter() - await client.ping(timeout=timeout) / 2

    spreads = []
    for _ in range(rounds):
        found = await asyncio.gather(*(arrival(client) for client in clients), return_exceptions=True)
        arrivals = [at for at in found if isinstance(at, float)]
        if len(arrivals) == len(clients):
            spreads.append(max(arrivals) - min(arrivals))
    return spreads


def _figures(times: list[float]) -> tuple[float, float, float, float]:
    ordered = sorted(times)
    return ordered[0], percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1]


def _row(name: str, times: list[float], lost: int) -> list[str]:
    return [name, *map(duration, _figures(times)), str(lost), f'{len(times) / sum(times):,.0f}']


def _record(name: str, times: list[float], lost: int) -> dict[str, object]:
    least, median, p99, most = _figures(times)
    figures = {'min': least, 'median': median, 'p99': p99, 'max': most}
    return {'kind': 'rig', 'rig': name, **figures, 'lost': lost, 'messages_per_second': len(times) / sum(times)}


def _print_histogram(times: list[float], out: Output) -> None:
    """Print the distribution of the round trips."""
    bins = histogram([value * 1e3 for value in times])
    most = max(count for _, _, count in bins)
    out.line('Round trips in ms:')
    for low, high, count in bins:
        out.line(f'{low:8g} - {high:<6g} {"#" * math.ceil(count / most * _BAR):{_BAR}} {count:,}')
