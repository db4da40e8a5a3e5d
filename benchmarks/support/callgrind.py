"""The instructions of one round trip outside of the kernel: ``python -m benchmarks.support.callgrind``.

It needs valgrind. Each program runs twice under callgrind, with few and with many round trips; the difference is the
cost of the round trips alone. Instructions do not depend on the load of the machine, so two versions can be compared on
a busy one: ``--out before.json``, and later ``--against before.json``. The parts of the table are the shared objects:
the compiled modules of echorig and of the loop, Python, the C library.

The figures of the compiled modules are the same in each run. The total differs by about one percent, since timers of
the loop expire by the real time.

Held constant: the message, the loop, one process with both ends, the seed of hashes, and no collection of cycles.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.support.competitors import OPEN, Competitor, opened
from benchmarks.support.loops import LOOPS
from benchmarks.support.processes import ROOT

FEW, MANY = 300, 2300
# The line of a file of callgrind that names an object or a function, perhaps by its number only.
NAME = re.compile(r'(ob|fn|cob|cfn)=\((\d+)\)(?: (.*))?')
COST = tuple('0123456789+-*')  # how a line with a cost begins: with its place
Costs = Counter[tuple[str, str]]


def run(competitor: str, transport: str, loop_name: str, n: int) -> None:
    """Make n round trips; this is the program that callgrind watches."""
    loop = LOOPS[loop_name]()
    asyncio.set_event_loop(loop)
    gc.disable()
    opened_: Competitor = opened(loop, competitor, transport)
    opened_.burst(n)
    os._exit(0)


def counted(competitor: str, transport: str, loop_name: str, n: int) -> Costs:
    """Return the instructions of each function of a run with n round trips."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'out'
        command = ['valgrind', '--tool=callgrind', f'--callgrind-out-file={out}', sys.executable, '-m', __spec__.name]
        done = subprocess.run(
            [*command, '--run', competitor, transport, loop_name, str(n)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=300,
            env=os.environ | {'PYTHONHASHSEED': '0'},
        )
        if done.returncode or not out.exists():
            raise SystemExit(f'callgrind failed: {done.stderr.strip()[-2000:]}')
        return parsed(out.read_text('utf-8', 'replace'))


def parsed(text: str) -> Costs:
    """Return the instructions of each function itself, by (object, function), from a file of callgrind."""
    names: dict[tuple[str, str], str] = {}
    costs: Costs = Counter()
    current = {'ob': '', 'fn': ''}
    inclusive = False
    for line in text.splitlines():
        if found := NAME.match(line):
            kind, number, name = found.groups()
            key = (kind[-2:], number)
            if name is not None:
                names[key] = name
            if kind in current:
                current[kind] = names[key]
        elif line.startswith('calls='):
            inclusive = True  # the next line is the cost of the called function
        elif line.startswith(COST):
            _, *numbers = line.split()  # a cost of 0 is left out
            if numbers and not inclusive:
                costs[current['ob'], current['fn']] += int(numbers[0])
            inclusive = False
    return costs


def per_round_trip(competitor: str, transport: str, loop_name: str) -> dict[tuple[str, str], float]:
    """Return the instructions of each function in one round trip."""
    few, many = (counted(competitor, transport, loop_name, n) for n in (FEW, MANY))
    many.subtract(few)
    return {key: n / (MANY - FEW) for key, n in many.items() if abs(n) >= MANY - FEW}


def parts(costs: dict[tuple[str, str], float]) -> dict[str, float]:
    """Return the instructions of each shared object, the largest first."""
    found: Counter[str] = Counter()
    for (path, _), n in costs.items():
        found[part(path)] += n  # type: ignore[assignment]
    return dict(found.most_common())


def part(path: str) -> str:
    """Name a shared object."""
    name = Path(path).name.partition('.')[0]
    folders = Path(path).parts
    if 'echorig' in folders:
        return '.'.join([*folders[len(folders) - folders[::-1].index('echorig') :][:-1], name])
    if 'uvloop' in folders:
        return 'uvloop'
    return {'libpython3': 'Python', 'libc': 'C library'}.get(name, 'Python' if name.startswith('python') else name)


def main() -> None:
    """Count, and print the tables."""
    parser = argparse.ArgumentParser(description='Instructions of one round trip.')
    parser.add_argument('--loop', choices=list(LOOPS), default='uvloop')
    parser.add_argument('--only', nargs='+', choices=list(OPEN), default=['echorig', 'bare'])
    parser.add_argument('--transports', nargs='+', choices=['udp', 'tcp'], default=['udp', 'tcp'])
    parser.add_argument('--functions', type=int, default=0, help='also print this many of the largest functions')
    parser.add_argument('--out', type=Path, help='store the table')
    parser.add_argument('--against', type=Path, help='a stored table')
    parser.add_argument('--run', nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        competitor, transport, loop_name, n = options.run
        run(competitor, transport, loop_name, int(n))
    if shutil.which('valgrind') is None:
        raise SystemExit('valgrind is not installed')
    before = json.loads(options.against.read_text()) if options.against else {}
    table: dict[str, dict[str, float]] = {}
    for transport in options.transports:
        for competitor in options.only:
            costs = per_round_trip(competitor, transport, options.loop)
            what = f'{competitor}, {transport} on {options.loop}'
            table[what] = {'total': sum(costs.values()), **parts(costs)}
            show(what, table[what], before.get(what))
            for (path, function), n in sorted(costs.items(), key=lambda item: -item[1])[: options.functions]:
                print(f'    {n:10,.0f}  {part(path)}: {function}')
    if options.out:
        options.out.write_text(json.dumps(table, indent=1))


def show(what: str, costs: dict[str, float], before: dict[str, float] | None) -> None:
    """Print the parts of one round trip, and those of a stored table beside them."""
    print(f'\n{what}: {costs["total"]:,.0f} instructions')
    for name in {**costs, **(before or {})}:
        now = costs.get(name, 0.0)
        share = now / costs['total']
        if share >= 0.002 or (before and before.get(name, 0.0) / before['total'] >= 0.002):
            then = f'  before {before.get(name, 0.0):10,.0f}  {now - before.get(name, 0.0):+10,.0f}' if before else ''
            print(f'  {name:40} {now:10,.0f}  {share:6.1%}{then}')
    sys.stdout.flush()


if __name__ == '__main__':
    main()
