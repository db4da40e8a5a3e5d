"""`RigProcess`: a rig of the demo in a process of its own, the connection with it, and measurements."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..messages import ExpMessage, ExpStatus

__all__ = ['RigProcess', 'has_iblutil']

ECHO_TIMEOUT = 10.0  # seconds; a computer that runs all the processes may be busy
START_TIMEOUT = 60.0  # an interpreter may start slowly on a busy computer
STOP_TIMEOUT = 60.0
_LOG = logging.getLogger('echorig.demo')


def has_iblutil() -> bool:
    """Return whether the network package of iblutil is installed."""
    try:
        return importlib.util.find_spec('iblutil.io.net') is not None
    except ModuleNotFoundError:
        return False


class RigProcess:
    """A process that runs `echorig.demo.rig`, with the transport ``udp`` or ``tcp``."""

    def __init__(self, name: str, transport: str, is_iblutil: bool = False) -> None:
        self.name = name
        self.transport = transport
        self.is_iblutil = is_iblutil
        self.uri = ''
        self.com: EchoProtocol | None = None
        self.state = 'starting'
        self.event = ''
        self.confirmed = 0
        self.kind = ''
        self.retransmitted = 0
        self.round_trips: list[float] = []  # seconds, from each call to the confirmation
        self.failure = ''
        self.late = 0  # messages that were confirmed, and not answered in time
        self._process: Process | None = None

    async def open(self) -> None:
        """Start the process and connect with the rig."""
        command = [sys.executable, '-m', 'echorig.demo.rig', '--name', self.name, '--transport', self.transport]
        environment = dict(os.environ)
        if self.is_iblutil:
            command.append('--iblutil')
            environment['ECHORIG_LOOP'] = 'asyncio'  # as in a lab, without the event loop of echorig
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
        started = await self._read_line(START_TIMEOUT)
        if started is None:
            raise RuntimeError(f'The process of {self.name} did not start')
        await self.connect(started['uri'])

    async def connect(self, uri: str) -> None:
        """Connect with the rig, and time each message."""
        self.uri = uri
        self.com = com = await EchoProtocol.client(self.uri, self.name, log=_LOG)
        com.default_echo_timeout = ECHO_TIMEOUT
        confirmed_send = com.confirmed_send

        async def timed_send(data: Any, addr: Any = None, timeout: float | None = None) -> None:
            start = time.perf_counter()
            await confirmed_send(data, addr, timeout)
            self.round_trips.append(time.perf_counter() - start)
            self.confirmed += 1
            self.event = ExpMessage(data[0]).name or ''

        com.confirmed_send = timed_send  # type: ignore[method-assign]
        self.state = 'started'

    def update(self, state: ExpStatus | None) -> None:
        """Set the state, unless it stays, and copy the statistics of the communicator."""
        self.state = self.state if state is None else state.name
        for peer in () if self.com is None else self.com.peers.values():
            self.kind, self.retransmitted = peer.kind, peer.retransmitted

    def fail(self, reason: object) -> None:
        """Exclude the rig from the session; the first reason is kept."""
        self.state = 'FAILED'
        text = f'{type(reason).__name__}: {reason}' if isinstance(reason, Exception) else str(reason)
        self.failure = self.failure or text

    async def close(self) -> dict[str, Any] | None:
        """Stop the process and close the connection; return the report of the rig, or None if it failed."""
        process, report = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            report = await self._read_line(STOP_TIMEOUT)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()
        if self.com is not None:
            self.com.close()
            await self.com.wait_closed()
        return report if process is not None and process.returncode == 0 else None

    async def _read_line(self, timeout: float) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout)
        except asyncio.TimeoutError:
            return None
        return dict(json.loads(line)) if line else None
