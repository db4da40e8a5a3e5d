"""``python -m simulation 1000000 --seed 5``: run schedules on every processor; show the first that fails."""

from __future__ import annotations

import argparse
import os
import sys
from time import perf_counter

from .parallel import run


def main() -> int:
    """Run the schedules asked for; 1 if one fails."""
    parser = argparse.ArgumentParser(prog='python -m simulation', description=__doc__)
    parser.add_argument('number', type=int, nargs='?', default=100_000, help='how many schedules')
    parser.add_argument('--seed', type=int, default=0, help='of the first; the others follow')
    parser.add_argument('--processes', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--signed', action='store_true', help='programs that sign their messages, and an attacker')
    args = parser.parse_args()
    begun = perf_counter()
    failure = run(args.seed, args.number, args.processes, args.signed)
    if failure is not None:
        print(failure)
        return 1
    print(f'{args.number} schedules from seed {args.seed} in {perf_counter() - begun:.1f} s: all invariants hold')
    return 0


if __name__ == '__main__':
    sys.exit(main())
