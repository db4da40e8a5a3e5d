"""`Output`: prints lines for people or, with --json, one object a line for programs.

Colours need rich and a terminal; without either the text is the same.
"""

from __future__ import annotations

import codecs
import importlib.util
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from ..communicator.peer_clocks import PeerClock
from ..text_table import aligned

__all__ = ['Output', 'clock_text', 'duration', 'needs_rich', 'set_up_streams', 'visible']

_IN_ASCII = {'µ': 'u', '±': '+/-', '→': '->', '…': '...'}
# What a rig sends must not control the terminal.
_CONTROLS = {code: f'\\x{code:02x}' for code in (*range(9), *range(11, 32), *range(127, 160))}


def set_up_streams() -> None:
    """Let the output have characters that its encoding lacks, and replace standard streams that are closed."""
    for descriptor in range(3):  # else a socket gets the number, which the event loop refuses
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error('echorig', _replaced)
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), 'w', encoding='utf-8'))
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == 'strict':
            stream.reconfigure(errors='echorig')


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Return a text for characters that an encoding lacks, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return ''.join(_IN_ASCII.get(character, '?') for character in lacking), error.end


def visible(text: str) -> str:
    """Return a text with escapes in place of control characters, except the ends of lines and tabs."""
    return text.translate(_CONTROLS)


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
            return
        text = visible(text)
        if self._is_coloured and style:
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
        for line in aligned([columns, *rows], [columns.index(column) for column in right]):
            print(visible(line), flush=True)


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
