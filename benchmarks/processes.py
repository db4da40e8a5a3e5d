"""Handles on the processes that the benchmarks start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


# asyncio reads each datagram into 256 KiB that it asks the allocator for. Whether these come from the system and go
# back to it each time, which makes a round trip two or three times as long, depends on what else lies in memory; with
# these settings of glibc they never do. The whole suite runs with them (see the Makefile), memory excepted.
ALLOCATOR = {'MALLOC_TRIM_THRESHOLD_': str(2**30), 'MALLOC_MMAP_THRESHOLD_': str(2**30)}


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
    plain
        Whether it has the allocator that programs have.

    Attributes
    ----------
    uris : list of str
        Where they listen.
    """

    def __init__(self, kind: str, transport: str, loop: str, *arguments: Any, plain: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / 'rig_process.py', kind, transport, loop, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=_plain() if plain else None,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate(timeout=10)
            last = errors.strip().splitlines()[-1]
            raise Unavailable('this echorig has no busy_poll' if "'busy_poll'" in last else last)
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


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ALLOCATOR}


def python(code: str, *arguments: Any, compiled: Path | None = None) -> Any:
    """Run a short program in a fresh Python; return what it printed, as JSON.

    Parameters
    ----------
    code, arguments
        The program.
    compiled
        Where compiled modules are kept from one program to the next, whatever the environment says about that.

    Returns
    -------
    Any
        What it printed.
    """
    env = _plain()
    if compiled is not None:
        env.pop('PYTHONDONTWRITEBYTECODE', None)
        env['PYTHONPYCACHEPREFIX'] = str(compiled)
    done = subprocess.run(
        [sys.executable, '-c', code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=120,
        env=env,
    )
    if done.returncode:
        raise Unavailable(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)
