"""Processes that the benchmarks start."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


# asyncio reads each datagram into a new buffer of 256 KiB. Depending on the layout of the memory, glibc takes this
# buffer from the kernel each time, which makes a round trip two or three times as long. These settings of glibc prevent
# that. All benchmarks run with them (see the Makefile), except those of memory.
ALLOCATOR = {'MALLOC_TRIM_THRESHOLD_': str(2**30), 'MALLOC_MMAP_THRESHOLD_': str(2**30)}


def allow_sockets() -> int:
    """Raise the limit of open files of this process as far as it may go; return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most if most != resource.RLIM_INFINITY else 2**20


class Unavailable(Exception):
    """A process failed, for example because a package is missing."""


class Rigs:
    """Rigs in another process, see `rig_process`.

    Parameters
    ----------
    kind, transport, loop
        Arguments of the program.
    arguments
        Further arguments of the program.
    plain
        Whether the allocator has its default settings.

    Attributes
    ----------
    uris : list of str
        The addresses of the rigs.
    """

    def __init__(self, kind: str, transport: str, loop: str, *arguments: Any, plain: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'benchmarks.support.rig_process', kind, transport, loop, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
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
        Folder for compiled modules, which the next program uses again; it overrides the environment.

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
        cwd=ROOT,
        timeout=120,
        env=env,
    )
    if done.returncode:
        raise Unavailable(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)
