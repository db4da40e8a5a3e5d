"""`Terminal`: runs the commands of the documentation as they stand there, and compares their output with the page."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from programs import Program

__all__ = ['STAYS', 'Terminal', 'compare', 'without_figures']

STAYS = re.compile(r'rig\.py |echorig (listen|server|status(?!.* --once))')
"""re.Pattern: Commands that run until Ctrl-C."""

_FIGURE = re.compile(r'(?<=[\s(])[-+]?\d[\d,.]*%?(?: ?(?:µs|ms|s)\b)?(?=[\s,;)]|$)')
_TIME = re.compile(r'^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ')


def without_figures(line: str) -> str:
    """Replace measured figures by `#`, also the bars of a histogram, and runs of blanks by one blank."""
    return ' '.join(re.sub(r'#+', '#', _FIGURE.sub('#', line)).split())


def _pattern(line: str) -> str:
    return '.*'.join(map(re.escape, line.split('...')))


def compare(expected: Iterable[str], printed: Iterable[str], clean: Callable[[str], str] = str) -> str:
    """Return what differs, or an empty text. `...` stands for any text, and as a line of its own for any lines."""
    wanted = [clean(line) for line in expected]
    text = '\n'.join(clean(line) for line in printed)
    pattern = ''.join(r'(?:.*\n)*' if line.strip() == '...' else _pattern(line) + r'\n' for line in wanted)
    if re.fullmatch(pattern, text + '\n' if text else ''):
        return ''
    return '\n'.join(['the page shows', *wanted, 'and printed was', text])


class Terminal:
    """Runs commands in a folder; a context manager that ends the programs that still run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.addresses: list[tuple[str, str]] = []
        """list of tuple of str: What the page writes, and what is used in its place; first the longer ones."""
        self.commands: list[str] = []
        """list of str: The commands so far."""
        self.status = 0
        self.running: list[tuple[str, Program, list[str]]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.close()

    def real(self, text: str) -> str:
        """Put in the addresses of this test."""
        for written, used in self.addresses:
            text = text.replace(written, used)
        return text

    def written(self, text: str) -> str:
        """Put in the addresses of the page, and its date for that of a log line."""
        for written, used in self.addresses:
            text = text.replace(used, written)
        return _TIME.sub('2026-01-31 09:00:00,000 ', text)

    def words(self, command: str) -> list[str]:
        """Return the arguments of a command."""
        program, *rest = shlex.split(self.real(command))
        assert program in ('echorig', 'python'), f'{command!r} is neither run nor marked'
        return [sys.executable, *(['-m', 'echorig'] if program == 'echorig' else []), *rest]

    def start(self, command: str, expected: list[str] | None = None) -> Program:
        """Start a command that runs until Ctrl-C."""
        program = self.add(Program('', command=self.words(command), folder=self.folder))
        self.running.append((command, program, expected or []))
        return program

    def add(self, program: Program) -> Program:
        """End a program at the end of this terminal."""
        return self._stack.enter_context(program)

    def run(self, command: str) -> list[str]:
        """Run a command to its end; return the lines that it prints."""
        if command == 'echo $?':
            return [str(self.status)]
        done = subprocess.run(
            self.words(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            timeout=90,
            cwd=self.folder,
            env={**os.environ, 'PYTHONUTF8': '1'},
        )
        self.status = done.returncode
        return [self.written(line) for line in done.stdout.splitlines()]

    def interrupt(self) -> list[tuple[str, list[str], list[str]]]:
        """Press Ctrl-C in all running programs; return each command, its expected and its printed lines."""
        found = []
        for command, program, expected in self.running:
            program.send_signal(signal.SIGINT)
            program.wait()
            found.append((command, expected, [self.written(line) for line in program.lines]))
        self.running.clear()
        return found
