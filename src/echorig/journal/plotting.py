"""`plot`: a journal as a figure: what happened when, the round trips, and the skew of the starts."""

from __future__ import annotations

import os
from typing import Any

from ..checks import path as checked_path
from .extras import needed
from .files import Fields, Paths
from .start_times import starts
from .tables import rows

__all__ = ['plot']

_INSTALL = "'echorig[plot]'"
_COLORS = {
    'EXPINIT': '#4c72b0',
    'EXPSTART': '#55a868',
    'EXPEND': '#c44e52',
    'EXPCLEANUP': '#8172b3',
    'EXPINTERRUPT': '#dd8452',
    'EXPSTATUS': '#937860',
    'EXPINFO': '#8c8c8c',
    'ALYX': '#ccb974',
    'NOTICE': '#000000',
}
_SHIFTS = {'sent': -0.12, 'received': 0.12, 'notice': 0.12, 'answered': -0.12}
_MARKERS = {'sent': '>', 'received': '<', 'answered': 's', 'notice': 'x', 'failed': 'X'}


def plot(paths: Paths, target: str | os.PathLike[str]) -> None:
    """Draw the events of each rig, the round trips, and the start skew over the session, into one figure.

    Parameters
    ----------
    paths : str, path or iterable
        As for `read`.
    target : str or path
        The file, whose suffix is one of matplotlib, such as ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    ImportError
        matplotlib is not installed: ``pip install 'echorig[plot]'``.
    ValueError
        matplotlib does not know the suffix.
    OSError, TypeError
        A file cannot be read or written, or an argument is no path.
    """
    name = checked_path(target, 'target')
    if not isinstance(paths, (str, os.PathLike)):
        paths = list(paths)
    needed('matplotlib', _INSTALL, 'plot')
    figure_module = needed('matplotlib.figure', _INSTALL, 'plot')
    agg = needed('matplotlib.backends.backend_agg', _INSTALL, 'plot')
    records = list(rows(paths))
    figure = figure_module.Figure(figsize=(9, 8), layout='constrained')
    agg.FigureCanvasAgg(figure)
    above, middle, below = figure.subplots(3, 1, height_ratios=(3, 2, 2))
    _draw_events(above, records)
    _draw_round_trips(middle, records)
    middle.sharex(above)
    _draw_skew(below, paths)
    figure.savefig(name, dpi=120)


def _name(fields: Fields) -> str:
    """Return the name of a rig, with a note if the journal is its own and not that of the main PC."""
    return f'{fields["rig"]} (its own)' if fields.get('role') == 'server' else str(fields['rig'])


def _names(records: list[Fields]) -> list[str]:
    return sorted({_name(fields) for fields in records if 'rig' in fields})


def _draw_events(axes: Any, records: list[Fields]) -> None:
    shown = [fields for fields in records if fields['kind'] in _MARKERS and 'rig' in fields]
    rigs = _names(shown)
    groups: dict[tuple[str, str], list[Fields]] = {}
    for fields in shown:
        groups.setdefault((fields['kind'], fields.get('event', '')), []).append(fields)
    for (kind, event), members in groups.items():
        axes.scatter(
            [fields['session_time'] for fields in members],
            [rigs.index(_name(fields)) + _SHIFTS.get(kind, 0.0) for fields in members],
            color=_COLORS.get(event, '#8c8c8c'),
            marker=_MARKERS[kind],
            s=30,
            label=f'{event or "other"} {kind}',
        )
    axes.set_yticks(range(len(rigs)), rigs)
    axes.set_ylim(-0.5, max(len(rigs), 1) - 0.5)
    axes.invert_yaxis()
    axes.set_title('Messages of each rig')
    axes.set_xlabel('time since the first EXPSTART [s]')
    axes.grid(axis='x', alpha=0.3)
    if groups:
        axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), fontsize='x-small', frameon=False)


def _draw_round_trips(axes: Any, records: list[Fields]) -> None:
    by_rig: dict[str, list[Fields]] = {name: [] for name in _names(records)}
    for fields in records:
        if fields['kind'] == 'confirmed' and fields.get('rtt', 0) > 0:
            by_rig[_name(fields)].append(fields)
    by_rig = {name: members for name, members in by_rig.items() if members}
    for rig, members in by_rig.items():
        times = [fields['session_time'] for fields in members]
        axes.plot(times, [fields['rtt'] * 1e3 for fields in members], '.', label=rig)
    axes.set_title('Round trip of each confirmed message')
    axes.set_xlabel('time since the first EXPSTART [s]')
    axes.set_ylabel('round trip [ms]')
    if by_rig:
        axes.set_yscale('log')
        axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), fontsize='x-small', frameon=False)
    axes.grid(alpha=0.3)


def _draw_skew(axes: Any, paths: Paths) -> None:
    found = [start for start in starts(paths) if start.receipts]
    rigs = sorted({rig for start in found for rig in start.receipts})
    for rig in rigs:
        points = [
            (i, (start.receipts[rig] - min(start.receipts.values())) * 1e3)
            for i, start in enumerate(found)
            if rig in start.receipts
        ]
        axes.plot([i for i, _ in points], [late for _, late in points], 'o', ms=4, label=rig)
    is_estimate = any(start.estimated for start in found)
    how = ' (from the round trips)' if is_estimate else ''
    axes.set_title(f'Start skew: receipt of each EXPSTART after that of the first rig{how}')
    axes.set_ylabel('later by [ms]')
    axes.set_xticks(range(len(found)), [start.exp_ref for start in found], rotation=15, ha='right', fontsize='x-small')
    axes.set_xlim(-0.5, max(len(found), 1) - 0.5)
    axes.grid(alpha=0.3)
    if rigs:
        axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), fontsize='x-small', frameon=False)
