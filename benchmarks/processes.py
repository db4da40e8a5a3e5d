"""Handles on the processes that the benchmarks start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Unavailable(Exception):
    """A process could not do what it was started for."""


class Rigs:
    """Rigs in another process, see `rig_process`.

    Parameters
    ----------
    kind, transport, loop
        What they are made of.
    arguments
        Further arguments of the program.

    Attributes
    ----------
    uris : list of str
        Where they listen.
    """

    def __init__(self, kind: str, transport: str, loop: str, *arguments: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / 'rig_process.py', kind, transport, loop, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate(timeout=10)
            raise Unavailable(errors.strip().splitlines()[-1])
        self.uris: list[str] = json.loads(line)

    def resident(self) -> int:
        """Return the resident memory of the process in bytes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write('rss\n')
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=10)


def python(code: str, *arguments: Any) -> Any:
    """Run a short program in a fresh Python; return what it printed, as JSON."""
    done = subprocess.run(
        [sys.executable, '-c', code, *map(str, arguments)], capture_output=True, text=True, cwd=HERE, timeout=120
    )
    if done.returncode:
        raise Unavailable(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)
