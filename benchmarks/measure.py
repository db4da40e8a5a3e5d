"""How things are timed: in interleaved rounds, so that a machine that changes its pace does so for all alike.

``ECHORIG_BENCH`` says how long: ``smoke`` proves that each benchmark works, ``quick`` takes a minute, ``full``
(the default) about five.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

EFFORT = os.environ.get('ECHORIG_BENCH', 'full')
if EFFORT not in ('smoke', 'quick', 'full'):
    raise ValueError(f"ECHORIG_BENCH is {EFFORT!r}; it must be 'smoke', 'quick' or 'full'")
SHARES = (1, 5, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9)
# Once in a round: do some work, return the time that one message took, in seconds.
Measure = Callable[[], float]


def rounds(full: int) -> int:
    """Return how many rounds to make, where a full run makes `full`."""
    return {'smoke': 2, 'quick': max(5, full // 12), 'full': full}[EFFORT]


def messages(full: int) -> int:
    """Return how many messages to send in a round, where a full run sends `full`."""
    return max(1, full // 10) if EFFORT == 'smoke' else full


def interleave(benchmark: Any, measures: dict[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Measure each contender once in a round; the first is the one that pytest-benchmark times.

    The others come right before it, the second as the last of them: its pace is nearest to that of the first.

    Returns
    -------
    dict of str to list of float
        The time of one message in seconds in each round, by contender.
    """
    times: dict[str, list[float]] = {name: [] for name in measures}
    (first, measure), *others = measures.items()

    def before() -> None:
        for name, other in reversed(others):
            times[name].append(other())

    gc.collect()
    gc.freeze()  # what has been opened is not looked through again and again in the rounds
    try:
        benchmark.pedantic(lambda: times[first].append(measure()), setup=before, rounds=rounds, warmup_rounds=1)
    finally:
        gc.unfreeze()
    return {name: values[1:] for name, values in times.items()}


def repeated(function: Callable[..., Any], *args: Any, n: int) -> Measure:
    """Return a measure of one call, from n calls: a number that is the same in all runs, so that they compare."""

    def measure() -> float:
        begun = time.process_time()
        for _ in repeat(None, n):
            function(*args)
        return (time.process_time() - begun) / n

    return measure


def ratios(times: dict[str, list[float]], over: str | None = None) -> dict[str, float]:
    """Return the median over all rounds of the first contender's time divided by each other's."""
    first = over or next(iter(times))
    return {
        name: statistics.median(a / b for a, b in zip(times[first], values, strict=True))
        for name, values in times.items()
        if name != first
    }


def percentiles(values: Sequence[float], scale: float = 1e6) -> dict[str, float]:
    """Return the percentiles of times in seconds as microseconds, or by another scale, the greatest included."""
    ordered = sorted(values)
    last = len(ordered) - 1
    cuts = {f'p{share:g}': ordered[min(last, int(len(ordered) * share / 100))] for share in SHARES}
    return {name: round(value * scale, 4) for name, value in (cuts | {'max': ordered[-1]}).items()}


def record(benchmark: Any, values: Sequence[float], n: int, scale: float = 1e6, unit: str = 'us', **more: Any) -> None:
    """Note the distribution of the first contender, how many messages a round has, and whatever else there is."""
    cuts = percentiles(values, scale)
    chosen = {name: cuts[name] for name in ('p50', 'p90', 'p99', 'p99.9', 'max')}
    benchmark.extra_info.update(chosen | {'unit': unit, 'messages_per_round': n} | more)


def medians(times: dict[str, Iterable[float]] | dict[str, list[float]], scale: float = 1e6) -> dict[str, float]:
    """Return the median of each contender."""
    return {name: round(statistics.median(values) * scale, 4) for name, values in times.items()}
