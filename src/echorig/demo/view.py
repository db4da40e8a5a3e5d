"""The tables of the demo: of the rigs while it runs, and a report at the end."""

from __future__ import annotations

import io
import math
import platform
import re
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .. import live_view
from .._version import __version__
from ..checks import path as checked_path
from ..distribution import histogram, percentile
from ..live_view import WIDTH, new_console, rig_table, state_text
from ..loop import loop_name
from .rig_process import RigProcess
from .session import EVENTS, Session

__all__ = ['live', 'new_console', 'report', 'save_svg']

NEWEST = 5000  # messages of each rig, in the live table
BAR = 40  # columns
KINDS = {'legacy': 'iblutil/MATLAB'}


@contextmanager
def live(session: Session, console: Console) -> Iterator[Callable[[], None]]:
    """Show the table of the rigs in a terminal; yield a function that updates it."""
    with live_view.live(lambda: table(session, NEWEST), console) as update:
        yield update


def report(session: Session, console: Console) -> Group:
    """Return the final table, the summary and the histogram."""
    mark = '█' if console.encoding.lower().startswith('utf') else '#'
    return Group(table(session), Text(), summary(session), Text(), *chart(session, mark))


def save_svg(session: Session, path: str) -> None:
    """Save the report as a picture."""
    name = checked_path(path, 'path')
    console = Console(file=io.StringIO(), width=WIDTH, record=True, force_terminal=True, color_system='truecolor')
    console.print(report(session, console))
    # Without the fonts, which each viewer of the picture would download.
    picture = re.sub(r'@font-face \{.*?\}', '', console.export_svg(title='echorig demo'), flags=re.DOTALL)
    with open(name, 'w', encoding='utf-8') as file:
        file.write(picture)


def table(session: Session, newest: int = 0) -> Table:
    """Return the table of the rigs; the times are of the newest messages only, or of all (0)."""
    title = f'Round {session.done:,} of {session.rounds:,}'
    figures = 'Confirmed', 'Again', 'p50 ms', 'p99 ms'
    columns = 'Rig', 'Address', 'Kind', 'State', 'Last event', *figures
    return rig_table(title, columns, figures, [_row(rig, newest) for rig in session.rigs])


def _row(rig: RigProcess, newest: int) -> list[RenderableType]:
    times = sorted(rig.round_trips[-newest:])
    speed = [f'{percentile(times, share) * 1e3:.2f}' if times else '' for share in (0.5, 0.99)]
    kind = Text(KINDS.get(rig.kind, rig.kind))
    facts = [Text(rig.name), Text(rig.uri), kind, state_text(rig.state), Text(rig.event)]
    return [*facts, f'{rig.confirmed:,}', f'{rig.retransmitted:,}', *speed]


def summary(session: Session) -> Table:
    """Return the results of the session."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style='bold', no_wrap=True)
    grid.add_column()
    style, once = ('bold green', '; each rig received each of them once') if session.succeeded else ('bold red', '')
    grid.add_row('Messages', Text(f'{session.confirmed:,} of {session.expected:,} confirmed{once}', style=style))
    grid.add_row('Failures', f'{len(session.failures)} of {len(session.rigs)} rigs')
    for name, reason in session.failures.items():
        grid.add_row('', Text(f'{name}: {reason}', style='red'))
    if session.skews:
        median, most = (f'{skew * 1e3:.2f} ms' for skew in (statistics.median(session.skews), max(session.skews)))
        grid.add_row('Start skew', f'median {median}, at most {most} (last minus first receipt)')
    if session.busy:
        text = f'{session.busy}: this computer is too busy for the times above'
        grid.add_row('Busy', Text(text, style='bold yellow'))
    grid.add_row('Rounds', f'{session.done:,} in {session.seconds:.1f} s, each {" ".join(EVENTS)}')
    grid.add_row('Token', 'made up for this demo and shown nowhere; no Alyx database was asked')
    grid.add_row('Made with', f'echorig {__version__}, {loop_name()}, Python {platform.python_version()}')
    if any(rig.is_iblutil for rig in session.rigs):
        grid.add_row('iblutil', 'one of the rigs runs iblutil, on asyncio and over UDP')
    return grid


def chart(session: Session, mark: str) -> list[RenderableType]:
    """Return the histogram of the round-trip times, with bars made of `mark`."""
    times = [seconds * 1e3 for rig in session.rigs for seconds in rig.round_trips]
    if not times:
        return []
    bins = histogram(times)
    most = max(count for _, _, count in bins)
    lines: list[RenderableType] = [
        Text('Round trips in ms, from the call to the confirmation, with messages to all rigs at once', style='bold')
    ]
    for low, high, count in bins:
        bar = mark * math.ceil(count / most * BAR)
        lines.append(Text.assemble(f'{low:8g} - {high:<6g} ', (bar.ljust(BAR), 'cyan'), f' {count:,}'))
    return lines
