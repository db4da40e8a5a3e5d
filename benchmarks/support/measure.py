"""Timing in interleaved rounds, so that a change of the CPU speed affects all competitors alike.

``ECHORIG_BENCH`` sets the effort: ``smoke`` only checks that each benchmark works, ``quick`` takes a minute, ``full``
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
# Called once in a round; returns the time of one message in seconds.
Measure = Callable[[], float]


def rounds(full: int) -> int:
    """Scale the number of rounds of a full run to the effort."""
    return {'smoke': 2, 'quick': max(5, full // 12), 'full': full}[EFFORT]


def messages(full: int) -> int:
    """Scale the number of messages in a round of a full run to the effort."""
    return max(1, full // 10) if EFFORT == 'smoke' else full


def interleave(benchmark: Any, measures: dict[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Measure each competitor once in a round; the first is the one that pytest-benchmark times.

    The others run directly before it, the second one last, so that it is closest in time to the first.

    Returns
    -------
    dict of str to list of float
        The time of one message in seconds in each round, by competitor.
    """
    times: dict[str, list[float]] = {name: [] for name in measures}
    (first, measure), *others = measures.items()

    def before() -> None:
        for name, other in reversed(others):
            times[name].append(other())

    gc.collect()
    gc.freeze()  # so that no collection in the rounds visits the open communicators
    try:
        benchmark.pedantic(lambda: times[first].append(measure()), setup=before, rounds=rounds, warmup_rounds=1)
    finally:
        gc.unfreeze()
    return {name: values[1:] for name, values in times.items()}


def repeated(function: Callable[..., Any], *args: Any, n: int) -> Measure:
    """Return a measure of one call, from n calls. The same n in all runs makes the runs comparable."""

    def measure() -> float:
        begun = time.process_time()
        for _ in repeat(None, n):
            function(*args)
        return (time.process_time() - begun) / n

    return measure


def ratios(times: dict[str, list[float]], over: str | None = None) -> dict[str, float]:
    """Return the median over all rounds of the first competitor's time divided by each other's."""
    first = over or next(iter(times))
    return {
        name: statistics.median(a / b for a, b in zip(times[first], values, strict=True))
        for name, values in times.items()
        if name != first
    }


def percentiles(values: Sequence[float], scale: float = 1e6) -> dict[str, float]:
    """Return the percentiles and the maximum of times in seconds, by default in microseconds."""
    ordered = sorted(values)
    last = len(ordered) - 1
    cuts = {f'p{share:g}': ordered[min(last, int(len(ordered) * share / 100))] for share in SHARES}
    return {name: round(value * scale, 4) for name, value in (cuts | {'max': ordered[-1]}).items()}


def record(benchmark: Any, values: Sequence[float], n: int, scale: float = 1e6, unit: str = 'us', **more: Any) -> None:
    """Store the distribution of the first competitor, the number of messages in a round, and further figures."""
    cuts = percentiles(values, scale)
    chosen = {name: cuts[name] for name in ('p50', 'p90', 'p99', 'p99.9', 'max')}
    benchmark.extra_info.update(chosen | {'unit': unit, 'messages_per_round': n} | more)


def medians(times: dict[str, Iterable[float]] | dict[str, list[float]], scale: float = 1e6) -> dict[str, float]:
    """Return the median of each competitor."""
    return {name: round(statistics.median(values) * scale, 4) for name, values in times.items()}
