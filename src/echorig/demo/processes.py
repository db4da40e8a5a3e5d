"""The rigs of the demo as processes: started, and ended without leaving one behind."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

__all__ = ['RigProcess', 'has_incumbent']

START_TIMEOUT = 60.0  # seconds; an interpreter may start slowly on a busy computer
END_TIMEOUT = 10.0


def has_incumbent() -> bool:
    """Tell whether iblutil's messages are installed."""
    try:
        return importlib.util.find_spec('iblutil.io.net') is not None
    except ModuleNotFoundError:
        return False


class RigProcess:
    """A rig in a process of its own.

    Parameters
    ----------
    name : str
        Its label.
    transport : {'udp', 'tcp'}
        How it is reached.
    incumbent : bool
        Whether it is made of iblutil.
    """

    def __init__(self, name: str, transport: str, incumbent: bool = False) -> None:
        self.name = name
        self.transport = transport
        self.incumbent = incumbent
        self._process: Process | None = None

    async def start(self) -> str:
        """Start the process and wait until it listens.

        Returns
        -------
        str
            Its URI.

        Raises
        ------
        RuntimeError
            It ended, or did not say where it listens in time.
        """
        command = [sys.executable, '-m', 'echorig.demo.rig', '--name', self.name, '--transport', self.transport]
        environment = dict(os.environ)
        if self.incumbent:
            command.append('--incumbent')
            environment['ECHORIG_LOOP'] = 'asyncio'  # iblutil as it is found in a lab, without our loop
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
        said = await self._said(START_TIMEOUT)
        if said is None:
            raise RuntimeError(f'The process of {self.name} did not start')
        return str(said['uri'])

    async def end(self) -> dict[str, Any] | None:
        """End the process and wait for its end.

        Returns
        -------
        dict or None
            What the rig ``heard``, by event, and how many of its answers stayed ``unconfirmed``; None if it
            did not end as it should.
        """
        process = self._process
        if process is None or process.stdin is None:
            return None
        process.stdin.close()
        said = await self._said(END_TIMEOUT)
        try:
            await asyncio.wait_for(process.wait(), END_TIMEOUT)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()
        return said if process.returncode == 0 else None

    async def _said(self, timeout: float) -> dict[str, Any] | None:
        """Return what the rig says next, or None if it does not."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout)
        except asyncio.TimeoutError:
            return None
        return dict(json.loads(line)) if line else None
