"""The tables of the demo with rich: of the rigs while it runs, and a report at the end."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .. import live_view
from ..checks import path as checked_path
from ..live_view import WIDTH, new_console, rig_table, state_text
from .results import BARS, COLUMNS, FIGURES, bars, cells, facts, title
from .rig_process import RigProcess
from .session import Session

__all__ = ['live', 'new_console', 'report', 'save_svg']

NEWEST = 5000  # messages of each rig, in the live table
STYLES = {'': '', 'good': 'bold green', 'busy': 'bold yellow', 'bad': 'red'}


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
    return rig_table(title(session), COLUMNS, FIGURES, [_row(rig, newest) for rig in session.rigs])


def _row(rig: RigProcess, newest: int) -> list[RenderableType]:
    return [
        state_text(cell) if name == 'State' else Text(cell)
        for name, cell in zip(COLUMNS, cells(rig, newest), strict=True)
    ]


def summary(session: Session) -> Table:
    """Return the results of the session."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style='bold', no_wrap=True)
    grid.add_column()
    for name, text, level in facts(session):
        grid.add_row(name, Text(text, style=STYLES[level]))
    return grid


def chart(session: Session, mark: str) -> list[RenderableType]:
    """Return the histogram of the round-trip times, with bars made of `mark`."""
    lines = bars(session, mark)
    if not lines:
        return []
    return [Text(BARS, style='bold'), *(Text.assemble(label, (bar, 'cyan'), count) for label, bar, count in lines)]
