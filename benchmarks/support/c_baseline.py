"""The C baseline: a program that is built when it is needed and runs until it is closed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / 'build' / 'benchmarks'


class NoCompiler(Exception):
    """There is no C compiler, or it cannot build the baseline."""


def built() -> Path:
    """Return the program; build it if it is missing or older than its source."""
    source, program = HERE / 'c_baseline.c', BUILD / 'c_baseline'
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which(os.environ.get('CC', 'cc'))
    if compiler is None:
        raise NoCompiler('there is no C compiler')
    BUILD.mkdir(parents=True, exist_ok=True)
    made = subprocess.run([compiler, '-O2', '-o', program, source], capture_output=True, text=True)
    if made.returncode:
        raise NoCompiler(f'c_baseline.c does not build here: {made.stderr.strip().splitlines()[0]}')
    return program


class Program:
    """The program, which prints a number for each line that it reads."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [built(), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def asked(self, n: int) -> float:
        """Write a number; return the number that it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{n}\n')
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the program."""
        self._process.communicate(timeout=10)


class CBaseline:
    """Round trips in C."""

    def __init__(self, transport: str) -> None:
        self._program = Program(transport)
        self.close = self._program.close

    def burst(self, n: int) -> float:
        """Make n round trips; return the CPU time of each in seconds."""
        return self._program.asked(n) * 1e-9


class CFan:
    """One message to each of many rigs (see `wire_rigs`) in one loop of `send` calls."""

    def __init__(self, uris: list[str]) -> None:
        self._program = Program('fan', *(uri.rpartition(':')[2] for uri in uris))
        self.close = self._program.close

    def start(self) -> float:
        """Send to all rigs; return the time between the first receipt and the last in seconds."""
        return self._program.asked(1) * 1e-9
