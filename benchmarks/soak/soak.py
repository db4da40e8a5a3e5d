"""A thousand calls on a hundred rigs, a quarter of which misbehave: a check for leaks and for late time-outs.

Five rigs each are silent, refuse, raise in their callback, answer late, and restart during the call. Both ends are in
one process on one loop, so that leaks of either end are counted. Each outcome is checked.

    python -m benchmarks.soak.soak --transport udp --calls 1000 --timeout 0.2
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / 'tests' / 'support'))

import echorig
from rig_fleet import Fleet

_WIDTHS = (6, 7, 10, 8, 9, 11)


def descriptors() -> int:
    """Count the open files and sockets of this process; -1 if the system does not support it."""
    folder = Path('/proc/self/fd')
    return len(os.listdir(folder)) if folder.exists() else -1


def memory() -> int:
    """Return the memory of this process in KiB; -1 if the system does not support it."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 1024
    except OSError:
        return -1


async def run(transport: str, calls: int, timeout: float) -> bool:
    """Make the calls, print the counts after each tenth of them, and return whether nothing has leaked."""
    fleet = await Fleet.open(transport, timeout)
    begun, late, rows = time.monotonic(), [], []
    print(f'{echorig.loop_name()} {transport}: {calls} calls on {len(fleet.rigs)} rigs, time-out {timeout} s')
    print(' calls   tasks  callbacks  sockets   objects  memory/KiB  late p50/max ms')
    try:
        for i in range(1, calls + 1):
            fleet.slowest = 0.0
            error = await fleet.start(f'2026-01-31_{i}_mouse7')
            fleet.check(error, f'2026-01-31_{i}_mouse7')
            late.append(fleet.slowest * 1e3)
            del error
            if i % max(1, calls // 10) == 0:
                for _ in range(20):  # connections that have just been closed
                    await asyncio.sleep(0.01)
                gc.collect()
                callbacks = sum(len(entries) for com in fleet.rigs.values() for entries in com._callbacks.values())
                row = len(asyncio.all_tasks()), callbacks, descriptors(), len(gc.get_objects()), memory()
                rows.append(row)
                counts = ' '.join(f'{count:{width}}' for count, width in zip((i, *row), _WIDTHS, strict=True))
                print(f'{counts}  {statistics.median(late):.1f} / {max(late):.1f}')
    finally:
        await fleet.close()
    print(f'{time.monotonic() - begun:.0f} s, {calls * len(fleet.kinds)} rigs asked')
    first, last = rows[len(rows) // 5], rows[-1]
    # Up to five tasks belong to connections of restarting rigs that are being closed.
    flat = last[0] <= first[0] + 5 and last[1:3] == first[1:3]
    flat = flat and last[3] < 1.01 * first[3] and last[4] < 1.05 * first[4]
    print('no leak' if flat else 'LEAK', f'; at most {max(late):.1f} ms late')
    return flat and max(late) < 100


def main() -> int:
    """Run the program; the messages that echorig logs about the faults are not shown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--transport', choices=['udp', 'tcp'], default='udp')
    parser.add_argument('--calls', type=int, default=1000)
    parser.add_argument('--timeout', type=float, default=0.2, help='time-out of each call in seconds')
    arguments = parser.parse_args()
    logging.disable()
    return 0 if asyncio.run(run(arguments.transport, arguments.calls, arguments.timeout)) else 1


if __name__ == '__main__':
    sys.exit(main())
