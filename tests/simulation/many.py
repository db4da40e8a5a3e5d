"""Many schedules, on several processes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .schedule import make
from .shrink import report
from .simulate import violation

_PORTION = 1000


def first_failure(first: int, number: int) -> int | None:
    """Run schedules one after the other; return the seed of the first that fails."""
    for seed in range(first, first + number):
        if violation(make(seed)) is not None:
            return seed
    return None


def run(first: int, number: int, processes: int) -> str | None:
    """Run schedules on several processes; return a report of the failing one with the lowest seed."""
    portions = [(start, min(_PORTION, first + number - start)) for start in range(first, first + number, _PORTION)]
    if processes == 1 or len(portions) == 1:
        failing = first_failure(first, number)
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context('spawn')) as pool:
            failing = None
            for found in pool.map(first_failure, *zip(*portions, strict=True)):
                if found is not None:
                    failing = found
                    pool.shutdown(cancel_futures=True)
                    break
    return None if failing is None else report(make(failing))
