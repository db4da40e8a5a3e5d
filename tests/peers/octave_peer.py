"""The controller of `octave_rig.m`: a rig in Octave, in a process of its own, on a local UDP socket."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('octave_rig.m')
OCTAVE = ['octave-cli', '--quiet', '--no-history', '--norc']
ANSWERS = {1: 'ready', 2: 'running', 4: 'stopped', 8: 'tidy', 16: 'halted', 32: 'ok', 64: 'für'}


@functools.cache
def missing() -> str:
    """Return the reason why Octave cannot be run, or an empty string."""
    if shutil.which(OCTAVE[0]) is None:
        return 'octave-cli is not installed'
    program = 'pkg load sockets; jsondecode ("[1]"); jsonencode (1); exit (0)'
    result = subprocess.run([*OCTAVE, '--eval', program], capture_output=True, text=True, check=False, timeout=60)
    return f'Octave 7 and its package sockets are needed: {result.stderr}' if result.returncode else ''


class OctaveRig:
    """A rig in Octave; an asynchronous context manager.

    Parameters
    ----------
    busy : tuple of (int, float)
        The event after whose first echo it is busy, 0 for the beginning, and for how many seconds.
    buffer : int
        How many bytes it reads of a datagram.

    Attributes
    ----------
    executed : list of (int, str)
        The event and the text of each message that it has executed.
    """

    def __init__(self, busy: tuple[int, float] = (-1, 0.0), buffer: int = 512) -> None:
        self.executed: list[tuple[int, str]] = []
        self._busy, self._buffer = busy, buffer

    async def __aenter__(self) -> OctaveRig:
        if why := await asyncio.to_thread(missing):
            pytest.skip(why)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(('127.0.0.1', 0))
            self.uri = f'udp://127.0.0.1:{sock.getsockname()[1]}'
            numbers = [sock.fileno(), self._buffer, *self._busy]
            self._process = await asyncio.create_subprocess_exec(
                *OCTAVE, str(SCRIPT), *map(str, numbers), pass_fds=[sock.fileno()], stdout=asyncio.subprocess.PIPE
            )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            code, _, text = line.decode('latin-1').rstrip('\n').partition(' ')
            self.executed.append((int(code), text))

    @property
    def received(self) -> list[tuple[int, list[object]]]:
        """The decoded messages that it has executed."""
        return [(code, json.loads(text)[1:]) for code, text in self.executed]
