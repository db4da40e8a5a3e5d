"""What the demo shows: a table of the rigs while it runs, and a summary at the end."""

from __future__ import annotations

import bisect
import io
import math
import platform
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .._version import __version__
from ..checks import path as checked_path
from ..loop import loop_name
from .session import EVENTS, RigRecord, Session

__all__ = ['View', 'histogram', 'percentile', 'report', 'save_svg']

WIDTH = 104
REFRESH = 0.1  # seconds
NEWEST = 5000  # messages of each rig, in the live table
BAR = 40  # columns
KINDS = {'legacy': 'iblutil/MATLAB'}  # what a rig runs, as a lab calls it
_STYLES = {'FAILED': 'bold red', 'RUNNING': 'bold green', 'INITIALIZED': 'cyan', 'STOPPED': 'yellow'}
_STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)


class View:
    """Shows a session while it runs, if there is a terminal, and what came of it.

    Parameters
    ----------
    session : Session
        What to show.
    console : rich.console.Console
        Where.
    """

    def __init__(self, session: Session, console: Console) -> None:
        self.session = session
        self.console = console
        self._live: Live | None = None
        self._shown = 0.0

    def __enter__(self) -> View:
        if self.console.is_terminal:
            # No refreshing from a thread: it would be measured as well.
            self._live = Live(table(self.session, NEWEST), console=self.console, auto_refresh=False, transient=True)
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self) -> None:
        """Show how things are, unless that was done a moment ago."""
        now = time.monotonic()
        if self._live is not None and now - self._shown >= REFRESH:
            self._shown = now
            self._live.update(table(self.session, NEWEST), refresh=True)


def report(session: Session, console: Console) -> Group:
    """Return the final table and the summary."""
    plain = not console.encoding.lower().startswith('utf')
    return Group(table(session), Text(), summary(session), Text(), *chart(session, '#' if plain else ''))


def save_svg(session: Session, path: str) -> None:
    """Save the final table and the summary as a picture.

    Parameters
    ----------
    session : Session
        What to show.
    path : str
        The file to write.

    Raises
    ------
    TypeError
        It is no path.
    OSError
        It cannot be written.
    """
    name = checked_path(path, 'path')
    console = Console(file=io.StringIO(), width=WIDTH, record=True, force_terminal=True, color_system='truecolor')
    console.print(report(session, console))
    # The font would be fetched from elsewhere by whoever looks at the picture.
    picture = re.sub(r'@font-face \{.*?\}', '', console.export_svg(title='echorig demo'), flags=re.DOTALL)
    with open(name, 'w', encoding='utf-8') as file:
        file.write(picture)


def table(session: Session, newest: int = 0) -> Table:
    """Return the table of the rigs; the times are of the newest messages only, or of all (0)."""
    found = Table(
        title=f'Round {session.done:,} of {session.rounds:,}', title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False
    )
    for heading in ('Rig', 'Address', 'Kind', 'State', 'Last event'):
        found.add_column(heading, no_wrap=True)
    for heading in ('Confirmed', 'Again', 'p50 ms', 'p99 ms'):
        found.add_column(heading, no_wrap=True, justify='right')
    for rig in session.rigs:
        found.add_row(*_row(rig, newest))
    return found


def _row(rig: RigRecord, newest: int) -> list[RenderableType]:
    times = sorted(rig.round_trips[-newest:])
    speed = [f'{percentile(times, q) * 1e3:.2f}' if times else '' for q in (0.5, 0.99)]
    state = Text(rig.state, style=_STYLES.get(rig.state, ''))
    facts = [Text(rig.name), Text(rig.uri), Text(KINDS.get(rig.kind, rig.kind)), state, Text(rig.event)]
    return [*facts, f'{rig.confirmed:,}', f'{rig.repeated:,}', *speed]


def summary(session: Session) -> Table:
    """Return what came of the session, as a list of facts."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style='bold', no_wrap=True)
    grid.add_column()
    good = 'bold green' if session.succeeded else 'bold red'
    heard = '; each rig heard each of them once' if session.succeeded else ''
    grid.add_row('Messages', Text(f'{session.confirmed:,} of {session.expected:,} confirmed{heard}', style=good))
    grid.add_row('Failures', f'{len(session.failures)} of {len(session.rigs)} rigs')
    for name, why in session.failures.items():
        grid.add_row('', Text(f'{name}: {why}', style='red'))
    if session.skews:
        median, most = statistics.median(session.skews), max(session.skews)
        grid.add_row(
            'Start skew', f'median {median * 1e3:.2f} ms, at most {most * 1e3:.2f} ms (last minus first receipt)'
        )
    grid.add_row('Rounds', f'{session.done:,} in {session.seconds:.1f} s, each {" ".join(EVENTS)}')
    grid.add_row('Token', 'made up for this demo and shown nowhere; no Alyx database was asked')
    grid.add_row('Made with', f'echorig {__version__}, {loop_name()}, Python {platform.python_version()}')
    if any(rig.process.incumbent for rig in session.rigs):
        grid.add_row(
            'iblutil',
            'one of the rigs, on asyncio and over UDP: as a TCP server it takes one client; it can wait for one'
            ' confirmation at a time, and closes itself if that does not come',
        )
    return grid


def chart(session: Session, mark: str = '') -> list[RenderableType]:
    """Return the distribution of the round-trip times, as lines."""
    times = [seconds * 1e3 for rig in session.rigs for seconds in rig.round_trips]
    if not times:
        return []
    counts = histogram(times)
    most = max(count for _, _, count in counts)
    lines: list[RenderableType] = [
        Text('Round trips in ms, from sending to confirmation, with all rigs told at once', style='bold')
    ]
    for low, high, count in counts:
        line = Text(f'{low:8g} - {high:<6g} ')
        line.append(_bar(count / most, mark).ljust(BAR), style='cyan')
        lines.append(line.append(f' {count:,}'))
    return lines


def _bar(share: float, mark: str) -> str:
    """Return a bar; what is not nothing shows."""
    eighths = round(share * BAR * 8) or (1 if share else 0)
    if mark:
        return mark * ((eighths + 7) // 8)
    return '█' * (eighths // 8) + ' ▏▎▍▌▋▊▉'[eighths % 8].strip()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least of the sorted values that at least this share of them do not exceed (nearest rank)."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def histogram(values: Sequence[float]) -> list[tuple[float, float, int]]:
    """Count positive values in classes that widen with them, from the least to the largest.

    Returns
    -------
    list of (float, float, int)
        From, to (not included), and how many.
    """
    edges = [float(f'{step}e{power}') for power in range(-6, 7) for step in _STEPS]
    counts = Counter(bisect.bisect_right(edges, value, 1, len(edges) - 1) for value in values)
    return [(edges[i - 1], edges[i], counts[i]) for i in range(min(counts), max(counts) + 1)]
