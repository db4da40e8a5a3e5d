"""The driver: starts the programs, stops and kills them at random, and ends them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from types import TracebackType
from typing import IO

from lab import free_port

from .event_log import EventLog

RIGS = ('udp0', 'udp1', 'udp2', 'udp3', 'tcp0', 'tcp1')
LONGEST_STOP = 5.0  # seconds
_PATIENCE = 90.0  # seconds; only a failure waits that long
_TESTS = Path(__file__).parents[1]


def started(folder: Path, run: str, module: str, loop: str, *args: str, **options: int) -> subprocess.Popen[bytes]:
    """Start a module of this folder as a program, with an event loop; its errors go to the file ``run.err``."""
    path = os.pathsep.join(filter(None, [str(_TESTS), os.environ.get('PYTHONPATH')]))
    with open(folder / f'{run}.err', 'wb') as errors:
        return subprocess.Popen(
            [sys.executable, '-X', 'faulthandler', '-m', f'system.{module}', str(folder), *args],
            env={**os.environ, 'PYTHONPATH': path, 'ECHORIG_LOOP': loop},
            stdin=subprocess.PIPE,
            stderr=errors,
            **options,
        )


class Driver:
    """All programs of one test; a context manager that ends all of them.

    Parameters
    ----------
    folder : Path
        The folder of the event logs.
    seed : str
        The seed of all random choices.
    """

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder, self.seed = folder, seed
        self.log = EventLog(folder, 'driver')
        self._random = Random(seed)
        self._ports = {name: free_port() for name in RIGS}
        self._runs = dict.fromkeys(RIGS, 0)
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._drops: dict[int, int] = {}
        self._last_check = time.monotonic()

    def __enter__(self) -> Driver:
        try:
            fronts = json.loads(self._pipe_of_link().readline())
            for name in RIGS:
                self._start_rig(name)
            self._wait_for(*self._current())
            uris = [f'{name}={name[:3]}://127.0.0.1:{fronts.get(name, port)}' for name, port in self._ports.items()]
            self._start('main', 'main', self.seed, *uris)
            self._wait_for('main')
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._programs.values():
            if process.poll() is None:
                process.kill()
        for process in self._programs.values():
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    # --- starting ---

    def _start(self, run: str, module: str, *args: str, **options: int) -> None:
        loop = os.environ.get('ECHORIG_LOOP') or ('asyncio' if run[:4] in ('udp1', 'udp3', 'tcp1') else 'uvloop')
        self._programs[run] = started(self.folder, run, module, loop, *args, **options)

    def _pipe_of_link(self) -> IO[bytes]:
        pairs = [f'{name}={port}' for name, port in self._ports.items() if name.startswith('udp')]
        self._start('link', 'faulty_link', self.seed, *pairs, stdout=subprocess.PIPE)
        pipe = self._programs['link'].stdout
        assert pipe is not None
        return pipe

    def _start_rig(self, name: str) -> None:
        self._runs[name] += 1
        run = f'{name}.{self._runs[name]}'
        uri = f'{name[:3]}://127.0.0.1:{self._ports[name]}'
        self._start(run, 'rig', run, uri, f'{self.seed} {run}')
        self.log('start', run=run, port=self._ports[name])

    def _current(self) -> list[str]:
        """Return the current runs of the rigs."""
        return [f'{name}.{run}' for name, run in self._runs.items()]

    def _wait_for(self, *runs: str) -> None:
        """Wait until each of these runs has logged its first event, which means that it is ready."""
        deadline = time.monotonic() + _PATIENCE
        for run in runs:
            path = self.folder / f'{run}.log'
            while not (path.exists() and path.stat().st_size):
                if time.monotonic() > deadline or self._programs[run].poll() is not None:
                    raise AssertionError(f'{run} does not start: {self._errors(run)}')
                time.sleep(0.01)

    def _errors(self, run: str) -> str:
        return (self.folder / f'{run}.err').read_text()

    # --- disturbing ---

    def disturb(self, seconds: float) -> None:
        """Stop programs and kill and restart rigs for some seconds; then let all continue."""
        over = time.monotonic() + seconds
        due: list[tuple[float, str, str]] = []  # time, action, name
        while due or time.monotonic() < over:
            until = time.monotonic() + LONGEST_STOP
            if time.monotonic() < over:
                until = time.monotonic() + self._random.expovariate(1.5)
                free = {'main', *RIGS}.difference(name for _, _, name in due)
                if free:
                    due = sorted(due + self._disturb(self._random.choice(sorted(free))))
            while due and due[0][0] <= until:
                time.sleep(max(0.0, due[0][0] - time.monotonic()))
                self._do(*due.pop(0)[1:])
            if time.monotonic() < over:
                time.sleep(max(0.0, until - time.monotonic()))

    def _disturb(self, name: str) -> list[tuple[float, str, str]]:
        """Start to disturb a program; return the actions that follow."""
        end = time.monotonic()
        dies = name != 'main' and self._random.random() < 0.25
        if not dies or self._random.random() < 0.3:  # some die while they are stopped
            self._do('stop', name)
            end += 0.1 * (LONGEST_STOP / 0.1) ** self._random.random()
        if not dies:
            return [(end, 'go on', name)]
        return [(end, 'kill', name), (end + self._random.expovariate(3), 'start', name)]

    def _do(self, what: str, name: str) -> None:
        """Perform an action and log it: a beginning is logged before it, an end after it."""
        run = name if name == 'main' else f'{name}.{self._runs[name]}'
        process = self._programs[run]
        if what != 'start' and process.poll() is not None:
            raise AssertionError(f'{run} has ended: {self._errors(run)}')
        self._log_drops()
        if what == 'stop':
            begun = time.monotonic()
            process.send_signal(signal.SIGSTOP)
            while Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()[0] != 'T':
                time.sleep(0.0005)
            self.log('stopped', run=run, since=begun)
        elif what == 'go on':
            self.log('goes on', run=run)
            process.send_signal(signal.SIGCONT)
        elif what == 'kill':
            self.log('killed', run=run)
            process.kill()
            process.wait()
        else:
            self._start_rig(name)

    def _log_drops(self) -> None:
        """Log the ports for which the kernel dropped datagrams because the receive buffer was full."""
        since, self._last_check = self._last_check, time.monotonic()
        for line in Path('/proc/net/udp').read_text().splitlines()[1:]:
            parts = line.split()
            port, drops = int(parts[1].rpartition(':')[2], 16), int(parts[-1])
            if drops and drops != self._drops.get(port):  # the counter of a restarted program starts at 0
                self.log('dropped', port=port, since=since, until=time.monotonic())
            self._drops[port] = drops

    # --- ending ---

    def finish(self) -> None:
        """End the main program, then all others, and wait for each."""
        self._log_drops()
        rigs = self._current()
        self._wait_for(*rigs)
        for run in ['main', *rigs, 'link']:
            self._end(run)

    def _end(self, run: str) -> None:
        process = self._programs[run]
        assert process.stdin is not None
        process.stdin.close()
        try:
            status = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'{run} does not end') from None
        assert status == 0, f'{run} ended with {status}: {self._errors(run)}'
