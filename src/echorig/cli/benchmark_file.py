"""Runs of `echorig bench` in the JSON of pytest-benchmark, which `pytest-benchmark compare` reads."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .._version import __version__
from ..checks import path as checked_path
from .command import UsageError

__all__ = ['load_medians', 'save_run']

_VERSION = '5.1.0'  # of the format


def save_run(path: str, times: Mapping[str, Sequence[float]], facts: Mapping[str, Any]) -> None:
    """Write the times of each measurement, in seconds, to a file."""
    content = {
        'machine_info': {
            'node': platform.node(),
            'processor': platform.processor(),
            'machine': platform.machine(),
            'python_implementation': platform.python_implementation(),
            'python_version': platform.python_version(),
            'release': platform.release(),
            'system': platform.system(),
            'cpu': {},
        },
        'commit_info': {'id': 'unknown', 'time': None, 'project': 'echorig', 'branch': '(unknown)', 'dirty': False},
        'benchmarks': [_benchmark(name, values, facts) for name, values in times.items()],
        'datetime': datetime.now(timezone.utc).isoformat(),
        'version': _VERSION,
    }
    try:
        with open(checked_path(path, '--save'), 'w', encoding='utf-8') as file:
            json.dump(content, file, indent=2)
    except (OSError, ValueError) as ex:
        raise UsageError(f'cannot save the run: {ex}') from None


def load_medians(path: str) -> dict[str, float]:
    """Return the median of each measurement in a file, in seconds."""
    try:
        with open(checked_path(path, '--compare'), encoding='utf-8') as file:
            found = {one['name']: float(one['stats']['median']) for one in json.load(file)['benchmarks']}
            if not all(median > 0.0 for median in found.values()):  # also not-a-number
                raise ValueError('a median is not positive')
            return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as ex:
        raise UsageError(f'cannot compare with {path}: {type(ex).__name__}: {ex}') from None


def _benchmark(name: str, values: Sequence[float], facts: Mapping[str, Any]) -> dict[str, Any]:
    ordered = sorted(values)
    n = len(ordered)
    q1, median, q3 = statistics.quantiles(ordered, n=4) if n > 1 else ordered * 3
    mean, total = statistics.fmean(ordered), sum(ordered)
    spread = statistics.stdev(ordered) if n > 1 else 0.0
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    outliers = sum(value < low or value > high for value in ordered)
    far = sum(abs(value - mean) > spread for value in ordered)
    stats = {
        'min': ordered[0],
        'max': ordered[-1],
        'mean': mean,
        'stddev': spread,
        'rounds': n,
        'median': median,
        'iqr': q3 - q1,
        'q1': q1,
        'q3': q3,
        'iqr_outliers': outliers,
        'stddev_outliers': far,
        'outliers': f'{far};{outliers}',
        'ld15iqr': next((value for value in ordered if value >= low), ordered[0]),
        'hd15iqr': next((value for value in reversed(ordered) if value <= high), ordered[-1]),
        'ops': 1.0 / mean,
        'total': total,
        'data': list(values),
        'iterations': 1,
    }
    options = {'disable_gc': False, 'timer': 'perf_counter', 'min_rounds': n, 'max_time': 0.0, 'min_time': 0.0}
    return {
        'group': None,
        'name': name,
        'fullname': f'echorig bench::{name}',
        'params': None,
        'param': None,
        'extra_info': {'echorig': __version__, **facts},
        'options': {**options, 'warmup': False},
        'stats': stats,
    }
