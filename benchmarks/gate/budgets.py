"""Print each budget beside the figure of a stored run.

``python -m benchmarks.gate.budgets .benchmarks/run.json``

All but the last few are ratios from interleaved rounds of one run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Run = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Budget:
    """One line: the label, the place of the figure in a run, and its upper (or lower) limit."""

    what: str
    bench: str
    keys: tuple[str, ...]
    limit: float
    unit: str = '×'
    at_least: bool = False

    def measured(self, run: Run) -> float | str:
        """Return the figure, or the reason why it is missing."""
        info: Any = run.get(self.bench)
        if info is None:
            return 'not run'
        skipped = info.get('skipped', {})
        for key in self.keys:
            if not isinstance(info, dict) or key not in info:
                return next((f'skipped: {why}' for name, why in skipped.items() if name in key), 'not measured')
            info = info[key]
        return float(info)

    def met(self, value: float) -> bool:
        """Return whether a figure is within the budget."""
        return value >= self.limit if self.at_least else value <= self.limit


def _budgets() -> Iterator[Budget]:
    for transport, limit in (('udp', 0.90), ('tcp', 1.00)):
        name = f'bench_round_trip[uvloop-{transport}-1rig]'
        yield Budget(f'{transport.upper()}, 1 rig ÷ bare uvloop echo', name, ('ratio', 'bare'), limit)
    udp = 'bench_round_trip[uvloop-udp-1rig]'
    yield Budget('UDP, 1 rig ÷ iblutil on uvloop', udp, ('ratio', 'iblutil'), 0.20)
    yield Budget('UDP, 1 rig ÷ iblutil on asyncio', udp, ('ratio', 'iblutil on asyncio'), 0.13)
    for transport in ('udp', 'tcp'):
        for rigs, limit in ((100, 1.10), (1000, 1.25)):
            what = f'{transport.upper()}, {rigs:,} rigs'
            name = f'bench_round_trip[uvloop-{transport}-{rigs}rigs]'
            yield Budget(f'{what} in turn ÷ 1 rig', name, ('ratio', 'echorig, 1 rig'), limit)
            name = f'bench_throughput[uvloop-{transport}-{rigs}rigs]'
            yield Budget(f'{what}, 64 at once ÷ 1 rig', name, ('ratio', 'echorig, 1 rig'), 1.15)
    many = 'UDP, 10,000 rigs on one server'
    yield Budget(f'{many}, 64 at once ÷ 1 rig', 'bench_ten_thousand', ('ratio', 'echorig, 1 rig'), 1.6)
    yield Budget(f'{many}, memory of a peer', 'bench_peer_memory', ('bytes_each',), 4096, 'bytes')
    for what in ('open', 'close'):
        label = f'10,000 rigs in one Services, {what}: cost a rig ÷ 1,000 rigs'
        yield Budget(label, 'bench_open_close', ('ratio', what), 1.25)
    latency = 'bench_latency[uvloop-udp]'
    yield Budget('Two processes, p50 ÷ bare uvloop echo', latency, ('ratio', 'bare'), 1.00)
    polling = ('ratio', 'echorig, busy_poll / bare')
    yield Budget('Two processes, busy_poll, p50 ÷ bare uvloop echo', latency, polling, 0.15)
    for what, limit in (('skew', 0.05), ('total', 0.15)):
        keys = ('ratio', f'{what}, iblutil on asyncio')
        called = 'skew at the callbacks' if what == 'skew' else 'until all answers'
        yield Budget(
            f'Services.start, 100 rigs, {called} ÷ iblutil on asyncio', 'bench_services[udp-100rigs]', keys, limit
        )
    for rigs in (100, 1000):
        what = f'Services.start, {rigs:,} rigs, skew on the wire ÷ loop of send calls in C'
        yield Budget(what, f'bench_wire[{rigs}rigs]', ('ratio', 'floor'), 3.0)
    for what, limit in (('encode', 2.0), ('decode', 0.8)):
        yield Budget(f'{what} ÷ orjson', f'bench_{what}[30B]', ('ratio', 'orjson'), limit)
    for what in ('peek', 'add_tag', 'read_tag', 'is_damaged', 'set_ack', 'is_echo'):
        yield Budget(what, f'bench_header[{what}]', ('cpu_us', 'echorig'), 0.04, 'µs')
    yield Budget('compare', 'bench_compare[30B]', ('cpu_us', 'echorig'), 0.04, 'µs')
    yield Budget('compare 60 kB ÷ comparison of bytes', 'bench_compare[60kB]', ('ratio', '=='), 1.15)
    yield Budget('FrameSplitter, messages of 1 kB', 'bench_bulk', ('mb_per_s',), 900, 'MB/s', at_least=True)
    yield Budget('FrameSplitter, byte by byte: 64 kB ÷ 4 kB', 'bench_byte_by_byte', ('ratio', '4 kB'), 1.15)
    for loop in ('uvloop', 'asyncio'):
        what = f'a journal, cost of a confirmed message in the thread of the loop, {loop}'
        yield Budget(what, f'bench_journal[{loop}]', ('cost_us',), 1.5, 'µs')
    yield Budget('a journal, one record', 'bench_record', ('cpu_us', 'queue'), 0.75, 'µs')
    yield Budget('import, more than uvloop and orjson', 'bench_import', ('more_ms',), 20, 'ms')
    yield Budget('memory of a remembered peer', 'bench_server_memory', ('bytes_each',), 3500, 'bytes')
    for transport in ('udp', 'tcp'):
        name = f'bench_client_memory[{transport}-echorig]'
        yield Budget(f'memory of a {transport.upper()} client', name, ('bytes_each',), 16_000, 'bytes')
    yield Budget(
        'signed message of 33 bytes: sign and check', 'bench_sign_and_check[33]', ('cpu_us', '33 bytes'), 1.5, 'µs'
    )
    for transport in ('udp', 'tcp'):
        name = f'bench_sync[{transport}]'
        yield Budget(
            f'blocking call over the async one, {transport.upper()}, p50', name, ('overhead_p50_us',), 150, 'µs'
        )


BUDGETS = tuple(_budgets())


def loaded(path: Path) -> tuple[Run, dict[str, Any]]:
    """Read a stored run: the figures of each benchmark, and the description of the machine."""
    stored = json.loads(path.read_text())
    return {bench['name']: bench['extra_info'] for bench in stored['benchmarks']}, stored['machine_info']


def lines(run: Run) -> Iterator[tuple[str, str, str, str]]:
    """Return the lines of the table: label, measured, budget, met or missed."""
    for budget in BUDGETS:
        sign = '≥' if budget.at_least else '≤'
        limit = f'{sign} {number(budget.limit)} {budget.unit}'
        value = budget.measured(run)
        if isinstance(value, str):
            yield budget.what, '', limit, value
        else:
            yield budget.what, f'{number(value)} {budget.unit}', limit, 'met' if budget.met(value) else 'MISSED'


def number(value: float) -> str:
    """Format a figure with three significant digits."""
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def entry() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description='The budgets, met or missed.')
    parser.add_argument('run', type=Path)
    run, machine = loaded(parser.parse_args().run)
    table = list(lines(run))
    width = max(len(what) for what, *_ in table)
    print(f'{machine["cpu"].get("brand_raw", "")}, {machine["cores"]} cores, Python {machine["python_version"]}\n')
    for what, value, limit, verdict in table:
        print(f'{what:{width}}  {value:>12}  {limit:>14}  {verdict}')
    verdicts = [verdict for *_, verdict in table]
    met, missed = verdicts.count('met'), verdicts.count('MISSED')
    print(f'\n{met} met, {missed} missed, {len(table) - met - missed} not measured')


if __name__ == '__main__':
    entry()
