"""`Program`: a Python program in a process of its own, whose output a test reads line by line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType


class Program:
    """Starts a program from its text, or a command; a context manager that kills it."""

    def __init__(
        self, text: str, *args: str, loop: str = '', command: Sequence[str] = (), folder: Path | None = None
    ) -> None:
        environment = {**os.environ, 'PYTHONUNBUFFERED': '1', 'PYTHONUTF8': '1', 'ECHORIG_LOOP': loop}
        self.process = subprocess.Popen(
            command or [sys.executable, '-c', textwrap.dedent(text), *args],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding='utf-8',
            env=environment,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip('\n'))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """str: All lines so far."""
        return '\n'.join(self.lines)

    def wait_for(self, text: str, within: float = 60.0) -> str:
        """Return the first line that has a text; fail if there is none in time."""
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    raise AssertionError(f'the program does not print {text!r}:\n{self.output}')
                self._changed.wait(left)

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, within: float = 60.0) -> int:
        """Wait for the end, and return the exit status."""
        status = self.process.wait(within)
        self._reader.join(within)
        return status

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(getattr(signal, 'SIGKILL', signal.SIGTERM))
        self.process.wait(60)
        self._reader.join(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
