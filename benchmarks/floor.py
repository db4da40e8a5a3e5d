"""The C floor, built on demand and kept running, so that it has its turn in each round."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent / 'build' / 'benchmarks'


class NoCompiler(Exception):
    """There is no C compiler, or it does not build the floor here."""


def built() -> Path:
    """Return the program, built if it is not there or older than its source."""
    source, program = HERE / 'floor.c', BUILD / 'floor'
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which(os.environ.get('CC', 'cc'))
    if compiler is None:
        raise NoCompiler('there is no C compiler')
    BUILD.mkdir(parents=True, exist_ok=True)
    made = subprocess.run([compiler, '-O2', '-o', program, source], capture_output=True, text=True)
    if made.returncode:
        raise NoCompiler(f'floor.c does not build here: {made.stderr.strip().splitlines()[0]}')
    return program


class Floor:
    """The running program."""

    def __init__(self, transport: str) -> None:
        self._process = subprocess.Popen(
            [built(), transport], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def burst(self, n: int) -> float:
        """Make n round trips; return the CPU time of each in seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{n}\n')
        return float(self._process.stdout.readline()) * 1e-9

    def close(self) -> None:
        """End the program."""
        self._process.communicate(timeout=10)
