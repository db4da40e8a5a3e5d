"""Compare the cost of a round trip, as a ratio to the bare echo, with the recorded baseline.

1. The same build is measured in several fresh processes, since each process has another memory layout.
2. A round counts if the bare echo took the same time before and after it, and about its best time. Other programs on
   the machine slow Python down more than system calls, which would change the ratio.
3. The ratio of a process is the median of its rounds. The result is the median of the processes.

``python -m benchmarks.gate.gate`` compares, ``--record`` writes the baseline, ``--advisory`` never fails.
``--run FILE`` takes the ratios from a stored run of pytest-benchmark, and ``--against FILE`` compares with one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.support.processes import ALLOCATOR

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / 'benchmarks' / 'baseline.json'
TOLERANCE = 0.07
LEAST, MOST = 8, 24  # processes
ENOUGH = 4  # processes that have enough rounds
ENOUGH_ROUNDS = 40
SAME, BEST = 0.04, 1.15  # tolerance for the same time, and factor for the best time
# (bare before, echorig, bare after), in seconds for a round trip
Round = tuple[float, float, float]


def undisturbed(processes: list[list[Round]]) -> list[float]:
    """Return the median ratio of each process that had enough quiet rounds."""
    steady = [
        [(own / (before + after) * 2, (before + after) / 2) for before, own, after in rounds if _same(before, after)]
        for rounds in processes
    ]
    paces = sorted(bare for rounds in steady for _, bare in rounds)
    if not paces:
        return []
    limit = BEST * paces[len(paces) // 50]  # not the minimum, which may be an outlier
    quiet = [[ratio for ratio, bare in rounds if bare <= limit] for rounds in steady]
    return [statistics.median(ratios) for ratios in quiet if len(ratios) >= ENOUGH_ROUNDS]


def _same(before: float, after: float) -> bool:
    return abs(before - after) <= SAME * min(before, after)


def compared(found: dict[str, float], expected: dict[str, float], tolerance: float) -> list[tuple[str, str, bool]]:
    """Compare ratios with those of the baseline.

    Returns
    -------
    list of tuple of (str, str, bool)
        The name of each row, a text, and whether it passes. A row that was not measured fails.
    """
    lines = []
    for name, before in expected.items():
        now = found.get(name)
        if now is None:
            lines.append((name, f'{before:.3f} before, not measured', False))
            continue
        change = now / before - 1
        verdict = 'slower' if change > tolerance else 'faster: record it' if change < -tolerance else 'as before'
        lines.append((name, f'{before:.3f} before, {now:.3f} now, {change:+.1%}: {verdict}', change <= tolerance))
    return lines


def measured() -> dict[str, float]:
    """Start processes until enough of them had a quiet machine, or `MOST` of them have run."""
    rounds: dict[str, list[list[Round]]] = {}
    for n in range(1, MOST + 1):
        done = subprocess.run(
            [sys.executable, '-m', 'benchmarks.gate.gate_process'],
            stdout=subprocess.PIPE,
            check=True,
            cwd=ROOT,
            env=os.environ | ALLOCATOR,
        )
        for name, found in json.loads(done.stdout).items():
            rounds.setdefault(name, []).append(found)
        print('.', end='', flush=True)
        if n >= LEAST and all(len(undisturbed(found)) >= ENOUGH for found in rounds.values()):
            break
    print()
    return {
        name: round(statistics.median(ratios), 4) for name, found in rounds.items() if (ratios := undisturbed(found))
    }


def stored(path: Path) -> tuple[dict[str, float], float]:
    """Read the ratios and the tolerance of a baseline or of a stored run."""
    what: dict[str, Any] = json.loads(path.read_text())
    if 'ratios' in what:
        return what['ratios'], what['tolerance']
    rows = {bench['name']: bench['extra_info'] for bench in what['benchmarks']}
    found = {
        name.removeprefix('bench_round_trip[').removesuffix('-1rig]'): info['ratio']['bare']
        for name, info in rows.items()
        if name.startswith('bench_round_trip') and name.endswith('-1rig]')
    }
    return found, TOLERANCE


def entry() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--record', action='store_true', help='write the baseline')
    parser.add_argument('--advisory', action='store_true', help='never fail')
    parser.add_argument('--run', type=Path, help='do not measure: take the ratios from this stored run')
    parser.add_argument('--against', type=Path, default=BASELINE, help='the baseline, or a stored run')
    options = parser.parse_args()
    found = stored(options.run)[0] if options.run else measured()
    if options.record:
        about = {'python': platform.python_version(), 'uvloop': version('uvloop')}
        what = {'measure': 'CPU time, echorig / bare echo', 'tolerance': TOLERANCE, 'ratios': found, 'made with': about}
        options.against.write_text(json.dumps(what, indent=2) + '\n')
        print(options.against.read_text(), end='')
        return 0
    lines = compared(found, *stored(options.against))
    for name, text, _ in lines:
        print(f'{name:12} {text}')
    passed = all(ok for _, _, ok in lines)
    print('The gate passes.' if passed else 'The gate fails: a round trip costs more than the baseline.')
    return 0 if passed or options.advisory else 1


if __name__ == '__main__':
    sys.exit(entry())
