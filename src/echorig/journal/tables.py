"""Journals as tables: the columns, times of the session and UTC, and `to_frame`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .extras import needed
from .files import Fields, Paths
from .reader import read

if TYPE_CHECKING:
    import pandas as pd

__all__ = ['COLUMNS', 'begin_of', 'rows', 'to_frame', 'utc_text']

COLUMNS: dict[str, str] = {
    'session_time': 'float',
    'utc': 'text',
    **dict.fromkeys(('kind', 'rig', 'role', 'addr', 'event', 'about', 'id', 'reply_to'), 'text'),
    'data': 'json',
    'rtt': 'float',
    'tries': 'int',
    'at': 'int',
    'reason': 'text',
    'offset': 'float',
    'error': 'float',
    'state': 'text',
    'uri': 'text',
    'size': 'int',
    'sha256': 'text',
    'n': 'int',
    'time': 'int',
    'mono': 'int',
    'writer': 'text',
    'seq': 'int',
}
"""dict: The columns of a table, and what each holds."""
_EPOCH_DIGITS = 1_000_000_000


def begin_of(paths: Paths) -> int:
    """Return when the session began, in nanoseconds since 1970: with the first EXPSTART, else with the first record."""
    first = 0
    for fields in read(paths):
        first = first or fields['time']
        if fields.get('event') == 'EXPSTART' and fields['kind'] in ('sent', 'received'):
            return int(fields['time'])
    return first


def utc_text(moment: int) -> str:
    """Return a time in nanoseconds since 1970 as text of ISO 8601 in UTC, with all its digits."""
    from datetime import datetime, timezone

    whole, rest = divmod(moment, _EPOCH_DIGITS)
    return f'{datetime.fromtimestamp(whole, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z'


def rows(paths: Paths) -> Iterator[Fields]:
    """Yield the records with `session_time` in seconds."""
    begin = begin_of(paths)
    for fields in read(paths):
        yield {'session_time': (fields['time'] - begin) / 1e9, **fields}


def to_frame(paths: Paths) -> pd.DataFrame:
    """Return journals as a table of pandas.

    Parameters
    ----------
    paths : str, path or iterable
        As for `read`.

    Returns
    -------
    pandas.DataFrame
        One row for each record, in order of time. The columns are the fields of the lines, and ``session_time``
        (seconds since the first EXPSTART) and ``utc`` (times with nanoseconds).

    Raises
    ------
    ImportError
        pandas is not installed.
    OSError, TypeError, ValueError
        As for `read`.
    """
    pandas = needed('pandas', 'pandas', 'to_frame')
    frame = pandas.DataFrame(list(rows(paths)))
    for name, kind in COLUMNS.items():
        if name not in frame:
            frame[name] = float('nan') if kind in ('int', 'float') else None
    frame['utc'] = pandas.to_datetime(frame['time'], unit='ns', utc=True)
    order: list[Any] = [*COLUMNS, *(name for name in frame if name not in COLUMNS)]
    result: pd.DataFrame = frame[order]
    return result
