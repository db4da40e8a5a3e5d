"""`export`: journals as files of other programs, by the suffix of the target."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import orjson

from ..checks import path as checked_path
from .extras import needed
from .files import Fields, Paths, open_to_write
from .tables import COLUMNS, begin_of, rows, utc_text

__all__ = ['export']

_EVENTS = ('sent', 'answered', 'received', 'notice', 'failed')
"""tuple: The kinds in tables of events; a confirmation is no event of a session."""
_BATCH = 10_000  # rows


def export(paths: Paths, target: str | os.PathLike[str]) -> int:
    """Write journals to a file of another format: ``.csv``, ``.parquet``, ``.nwb`` or ``.htsv``.

    Times are given in seconds since the session began, which is the first EXPSTART, and in UTC, on the clock of the
    computer that has written the journal.

    Parameters
    ----------
    paths : str, path or iterable
        As for `read`.
    target : str or path
        The file, which is replaced if it exists. ``.csv`` and ``.parquet`` have all fields; data is JSON. ``.nwb`` has
        a table of events for each rig. ``.htsv`` is a table of software events, whose column ``daq_time`` is empty
        and left to the lab.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    ValueError
        The suffix is none of these, or the journal is empty and the format cannot be.
    ImportError
        Parquet needs pyarrow: ``pip install 'echorig[parquet]'``; NWB needs pynwb: ``pip install 'echorig[nwb]'``.
    OSError, TypeError
        A file cannot be read or written, or an argument is no path.
    """
    name = checked_path(target, 'target')
    suffix = os.path.splitext(name)[1].lower()
    writers: dict[str, Callable[[Paths, str], int]] = {
        '.csv': _write_csv,
        '.parquet': _write_parquet,
        '.nwb': _write_nwb,
        '.htsv': _write_htsv,
    }
    if suffix not in writers:
        raise ValueError(f'target must end with {", ".join(writers)}, not {name!r}')
    if not isinstance(paths, (str, os.PathLike)):
        paths = list(paths)
    return writers[suffix](paths, name)


def _cells(fields: Fields) -> list[Any]:
    """Return the columns of a record, data as JSON."""
    fields = {**fields, 'utc': utc_text(fields['time'])}
    if 'data' in fields:
        fields['data'] = orjson.dumps(fields['data']).decode()
    return [fields.get(name) for name in COLUMNS]


def _write_csv(paths: Paths, target: str) -> int:
    import csv

    n = 0
    with open_to_write(target) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for fields in rows(paths):
            writer.writerow(_cells(fields))
            n += 1
    return n


def _write_parquet(paths: Paths, target: str) -> int:
    pyarrow = needed('pyarrow', "'echorig[parquet]'", 'Parquet')
    parquet = needed('pyarrow.parquet', "'echorig[parquet]'", 'Parquet')
    types = {'float': pyarrow.float64(), 'int': pyarrow.int64(), 'text': pyarrow.string(), 'json': pyarrow.string()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    utc = list(COLUMNS).index('utc')
    schema = schema.set(utc, pyarrow.field('utc', pyarrow.timestamp('ns', 'UTC')))
    n = 0
    batch: list[list[Any]] = []
    with parquet.ParquetWriter(target, schema) as writer:

        def flush() -> None:
            columns = [list(column) for column in zip(*batch, strict=True)] if batch else [[] for _ in COLUMNS]
            arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            batch.clear()

        for fields in rows(paths):
            cells = _cells(fields)
            cells[utc] = fields['time']
            batch.append(cells)
            n += 1
            if len(batch) == _BATCH:
                flush()
        flush()
    return n


def _write_htsv(paths: Paths, target: str) -> int:
    """Write tab-separated text with a header: what happened, and an empty column for the time of the DAQ."""
    import csv

    n = 0
    with open_to_write(target) as file:
        writer = csv.writer(file, delimiter='\t', lineterminator='\n')
        writer.writerow(('time', 'daq_time', 'name', 'value', 'kind', 'rig', 'utc'))
        for fields in rows(paths):
            if fields['kind'] in _EVENTS:
                value = orjson.dumps(fields['data']).decode() if 'data' in fields else fields.get('reason', '')
                cells = (
                    fields.get('event', ''),
                    value,
                    fields['kind'],
                    fields.get('rig', ''),
                    utc_text(fields['time']),
                )
                writer.writerow((f'{fields["session_time"]:.9f}', '', *(cell.replace('\t', ' ') for cell in cells)))
                n += 1
    return n


def _write_nwb(paths: Paths, target: str) -> int:
    from .nwb import write_nwb

    return write_nwb(rows(paths), begin_of(paths), target, _EVENTS)
