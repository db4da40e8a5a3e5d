"""Duration of the import in fresh processes, beside that of its dependencies; and packages that it must not import.

Held constant: the Python, the files in the cache of the system, and the environment. All modules are compiled, as in an
installed package, because each statement ran once before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.support.measure import interleave, medians, ratios, record, rounds
from benchmarks.support.processes import Unavailable, python

CODE = """
import json, sys, time
begun = time.perf_counter()
{statement}
took = time.perf_counter() - begun
print(json.dumps([took, [name for name in ('numpy', 'pandas', 'requests') if name in sys.modules]]))
"""
STATEMENTS = {
    'echorig': 'import echorig',
    'uvloop, orjson': 'import uvloop, orjson',
    'iblutil': 'import iblutil.io.net.app',
}


def imported(name: str, compiled: Path) -> float:
    """Return the duration of an import in a fresh process, in seconds."""
    took, heavy = python(CODE.format(statement=STATEMENTS[name]), compiled=compiled)
    assert not heavy or name == 'iblutil', f'{name} imports {heavy}'
    return float(took)


def bench_import(benchmark: Any, tmp_path: Path) -> None:
    measures, skipped = {}, {}
    for name in STATEMENTS:
        try:
            imported(name, tmp_path)
        except Unavailable as ex:
            skipped[name] = str(ex)
            continue
        measures[name] = lambda name=name: imported(name, tmp_path)
    times = interleave(benchmark, measures, rounds(20))
    ms = medians(times, 1e3)
    more = [a - b for a, b in zip(times['echorig'], times['uvloop, orjson'], strict=True)]
    benchmark.group = 'import'
    record(
        benchmark,
        times['echorig'],
        1,
        1e3,
        'ms',
        import_ms=ms,
        more_ms=medians({'more': more}, 1e3)['more'],
        ratio=ratios(times),
        skipped=skipped,
    )
