"""`Output`: prints lines for people or, with --json, one object a line for programs.

Colours need rich and a terminal; without either the text is the same.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import orjson

__all__ = ['Output', 'duration', 'needs_rich']


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

    def line(self, text: str | None, /, style: str = '', **record: Any) -> None:
        """Print a line, or the record of it; a text of None is for programs only."""
        if self.as_json:
            if record:
                print(orjson.dumps(record, default=str).decode(), flush=True)
        elif text is not None and self._is_coloured and style:
            from rich.console import Console
            from rich.text import Text

            Console(soft_wrap=True).print(Text(text, style=style))
        elif text is not None:
            print(text, flush=True)

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
