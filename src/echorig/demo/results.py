"""The results of the demo as text: the cells of its table, the summary, the histogram, and a report without rich."""

from __future__ import annotations

import math
import platform
import statistics
from typing import NamedTuple

from .._version import __version__
from ..distribution import histogram, percentile
from ..loop import loop_name
from ..text_table import aligned
from .rig_process import RigProcess
from .session import EVENTS, Session

__all__ = ['BARS', 'COLUMNS', 'FIGURES', 'Fact', 'bars', 'cells', 'facts', 'report', 'title']

FIGURES = 'Confirmed', 'Again', 'p50 ms', 'p99 ms'
COLUMNS = 'Rig', 'Address', 'Kind', 'State', 'Last event', *FIGURES
BARS = 'Round trips in ms, from the call to the confirmation, with messages to all rigs at once'
"""str: The title of the histogram."""
WIDTH = 40  # columns of the longest bar
KINDS = {'legacy': 'iblutil/MATLAB'}


class Fact(NamedTuple):
    """A line of the summary; `level` is ``'good'``, ``'busy'``, ``'bad'`` or empty."""

    name: str
    text: str
    level: str = ''


def title(session: Session) -> str:
    """Return the title of the table."""
    return f'Round {session.done:,} of {session.rounds:,}'


def cells(rig: RigProcess, newest: int = 0) -> list[str]:
    """Return the row of a rig; the times are of the newest messages only, or of all (0)."""
    times = sorted(rig.round_trips[-newest:])
    speed = [f'{percentile(times, share) * 1e3:.2f}' if times else '' for share in (0.5, 0.99)]
    kind = KINDS.get(rig.kind, rig.kind)
    return [rig.name, rig.uri, kind, rig.state, rig.event, f'{rig.confirmed:,}', f'{rig.retransmitted:,}', *speed]


def facts(session: Session) -> list[Fact]:
    """Return the lines of the summary."""
    level, once = ('good', '; each rig received each of them once') if session.succeeded else ('bad', '')
    lines = [
        Fact('Messages', f'{session.confirmed:,} of {session.expected:,} confirmed{once}', level),
        Fact('Failures', f'{len(session.failures)} of {len(session.rigs)} rigs'),
        *(Fact('', f'{name}: {reason}', 'bad') for name, reason in session.failures.items()),
    ]
    if session.skews:
        median, most = (f'{skew * 1e3:.2f} ms' for skew in (statistics.median(session.skews), max(session.skews)))
        lines.append(Fact('Start skew', f'median {median}, at most {most} (last minus first receipt)'))
    if session.busy:
        lines.append(Fact('Busy', f'{session.busy}: this computer is too busy for the times above', 'busy'))
    lines += [
        Fact('Rounds', f'{session.done:,} in {session.seconds:.1f} s, each {" ".join(EVENTS)}'),
        Fact('Token', 'made up for this demo and shown nowhere; no Alyx database was asked'),
        Fact('Made with', f'echorig {__version__}, {loop_name()}, Python {platform.python_version()}'),
    ]
    if any(rig.is_iblutil for rig in session.rigs):
        lines.append(Fact('iblutil', 'one of the rigs runs iblutil, on asyncio and over UDP'))
    return lines


def bars(session: Session, mark: str) -> list[tuple[str, str, str]]:
    """Return the range, the bar made of `mark` and the count of each part of the histogram of the round-trip times."""
    times = [seconds * 1e3 for rig in session.rigs for seconds in rig.round_trips]
    if not times:
        return []
    parts = histogram(times)
    most = max(count for _, _, count in parts)
    return [
        (f'{low:8g} - {high:<6g} ', (mark * math.ceil(count / most * WIDTH)).ljust(WIDTH), f' {count:,}')
        for low, high, count in parts
    ]


def report(session: Session, mark: str) -> str:
    """Return the table, the summary and the histogram as plain text."""
    rows = [COLUMNS, *(cells(rig) for rig in session.rigs)]
    right = [COLUMNS.index(name) for name in FIGURES]
    lines = [title(session), '', *aligned(rows, right), '', *aligned([fact[:2] for fact in facts(session)])]
    if histogram_lines := bars(session, mark):
        lines += ['', BARS, *(''.join(parts) for parts in histogram_lines)]
    return '\n'.join(lines)
