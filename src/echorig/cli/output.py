"""`Output`: prints lines for people or, with --json, one object a line for programs.

Colours need rich and a terminal; without either the text is the same.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from ..communicator.peer_clocks import PeerClock

__all__ = ['Output', 'clock_text', 'duration', 'needs_rich', 'percentile']


class Output:
    """Prints what a command has found; with `as_json`, only records."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._is_coloured = not as_json and sys.stdout.isatty() and importlib.util.find_spec('rich') is not None
        encoding = (sys.stdout.encoding or '').lower()
        self._marks = ('✓', '✗') if encoding.startswith('utf') else ('ok', 'FAILED')

    def mark(self, is_good: bool) -> str:
        """Return the mark of a step that passed or failed."""
        return self._marks[0 if is_good else 1]

    def line(self, text: str, style: str = '', /, **record: Any) -> None:
        """Print a line, or the record of it for programs."""
        if self.as_json:
            if record:
                print(orjson.dumps(record, default=str).decode(), flush=True)
        elif self._is_coloured and style:
            from rich.console import Console
            from rich.text import Text

            Console(soft_wrap=True).print(Text(text, style=style))
        else:
            print(text, flush=True)

    def record(self, **record: Any) -> None:
        """Print a record for programs, and nothing for people."""
        if self.as_json:
            self.line('', **record)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
        """Print a table; the columns named in `right` are aligned to the right."""
        if self.as_json:
            return
        widths = [max(len(cell) for cell in cells) for cells in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            cells = [
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, cell, width in zip(columns, row, widths, strict=True)
            ]
            print('  '.join(cells).rstrip(), flush=True)


def needs_rich(command: str) -> None:
    """Raise ImportError if rich is not installed."""
    if importlib.util.find_spec('rich') is None:
        raise ImportError(f"{command} shows its tables with rich, which is not installed: pip install 'echorig[cli]'")


def duration(value: float | None) -> str:
    """Return a time in seconds as text with a unit."""
    if value is None:
        return ''
    size = abs(value)
    if size < 1e-3:
        return f'{value * 1e6:.0f} µs'
    return f'{value * 1e3:.3g} ms' if size < 1.0 else f'{value:.3g} s'


def clock_text(clock: PeerClock | None) -> str:
    """Return the offset of a clock and its error as text; nothing if it is not known."""
    if clock is None:
        return ''
    return f', clock {"+" if clock.offset >= 0 else ""}{duration(clock.offset)} ± {duration(clock.error)}'


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile of sorted values, by nearest rank; `share` is from 0 to 1."""
    return values[max(0, math.ceil(share * len(values)) - 1)]
