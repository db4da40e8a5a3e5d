"""The distribution of measured times: percentiles and a histogram."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Sequence

__all__ = ['histogram', 'percentile']

_STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile of sorted values, by nearest rank; `share` is from 0 to 1."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def histogram(values: Sequence[float]) -> list[tuple[float, float, int]]:
    """Count positive values in bins of logarithmic width: (from, to, count), from the least to the largest."""
    edges = [float(f'{step}e{power}') for power in range(-6, 7) for step in _STEPS]
    counts = Counter(bisect.bisect_right(edges, value, 1, len(edges) - 1) for value in values)
    return [(edges[i - 1], edges[i], counts[i]) for i in range(min(counts), max(counts) + 1)]
