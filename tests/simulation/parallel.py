"""Many schedules, on several processes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from .schedule import make
from .shrink import report
from .signed import make_signed
from .simulate import violation

_PORTION = 1000


def first_failure(first: int, number: int, signed: bool = False) -> int | None:
    """Run schedules one after the other; return the seed of the first that fails."""
    maker = make_signed if signed else make
    for seed in range(first, first + number):
        if violation(maker(seed)) is not None:
            return seed
    return None


def run(first: int, number: int, processes: int, signed: bool = False) -> str | None:
    """Run schedules on several processes; return a report of the failing one with the lowest seed.

    `signed` is for programs that sign, and an attacker.
    """
    portions = [(start, min(_PORTION, first + number - start)) for start in range(first, first + number, _PORTION)]
    if processes == 1 or len(portions) == 1:
        failing = first_failure(first, number, signed)
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context('spawn')) as pool:
            failing = None
            for found in pool.map(partial(first_failure, signed=signed), *zip(*portions, strict=True)):
                if found is not None:
                    failing = found
                    pool.shutdown(cancel_futures=True)
                    break
    return None if failing is None else report((make_signed if signed else make)(failing))
