"""The live table of rigs, of ``echorig status`` and the demo; it needs rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ['WIDTH', 'live', 'new_console', 'rig_table', 'state_text']

WIDTH = 104
"""int: Columns of the table, without a terminal."""

_REFRESH = 0.1  # seconds
_STYLES = {
    'FAILED': 'bold red',
    'offline': 'bold red',
    'RUNNING': 'bold green',
    'online': 'bold green',
    'INITIALIZED': 'cyan',
    'STOPPED': 'yellow',
}


def new_console() -> Console:
    """Return a console that is wide enough, also without a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDTH))


@contextmanager
def live(
    render: Callable[[], RenderableType], console: Console, transient: bool = True
) -> Iterator[Callable[[], None]]:
    """Show a table in a terminal; yield a function that updates it, at most ten times a second."""
    if not console.is_terminal:
        yield lambda: None
        return
    # Without a refreshing thread, which would disturb measurements.
    with Live(render(), console=console, auto_refresh=False, transient=transient) as display:
        last = 0.0

        def update() -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _REFRESH:
                last = now
                display.update(render(), refresh=True)

        yield update


def rig_table(
    title: str, columns: Sequence[str], right: Sequence[str], rows: Sequence[Sequence[RenderableType]]
) -> Table:
    """Return a table with a row for each rig; the columns in `right` are figures."""
    table = Table(title=title, title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in columns:
        table.add_column(heading, no_wrap=True, justify='right' if heading in right else 'left')
    for row in rows:
        table.add_row(*row)
    return table


def state_text(state: str) -> Text:
    """Return the state of a rig in its colour."""
    return Text(state, style=_STYLES.get(state, ''))
