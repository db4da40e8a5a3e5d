"""Real NATS brokers for tests: `nats-server` processes on ports that the system chooses."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eventually import eventually_blocking

__all__ = ['Broker', 'broker', 'needs_broker', 'running_broker', 'running_cluster', 'stop', 'subject']

PROGRAM = shutil.which('nats-server') or shutil.which('nats-server', path='/usr/sbin:/usr/local/sbin')
# Where the server must be there, such as in CI, a test without it fails instead of being skipped.
needs_broker = pytest.mark.skipif(
    PROGRAM is None and os.environ.get('ECHORIG_NATS') != 'required',
    reason='nats-server is not installed (the package nats-server of Debian and Ubuntu)',
)


def subject() -> str:
    """Return a subject that no other test uses."""
    return f'lab.t{uuid4().hex}'


def stop(process: subprocess.Popen[Any]) -> None:
    """Send SIGSTOP, and wait until the process stands still; on a busy machine that takes a moment."""
    process.send_signal(signal.SIGSTOP)

    def is_stopped() -> bool:
        threads = list(Path(f'/proc/{process.pid}/task').glob('*/stat'))
        if not threads:  # not Linux
            time.sleep(0.5)
            return True
        # The state is behind the name, which is in brackets.
        return all(thread.read_text('utf-8').rpartition(')')[2].split()[0] == 'T' for thread in threads)

    eventually_blocking(is_stopped, 'all threads stand still', 30)


class Broker:
    """A `nats-server`, which can be killed and started again on the same ports."""

    def __init__(
        self, folder: Path, options: Sequence[str] = (), config: str = '', *, is_clustered: bool = False
    ) -> None:
        self._folder, self._options, self._is_clustered = folder, list(options), is_clustered
        self._config = folder / 'server.conf'
        self._config.write_text(config, 'utf-8')
        self.port = self.cluster_port = -1
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        """The URI of the broker, without a subject."""
        return f'nats://127.0.0.1:{self.port}'

    def start(self) -> None:
        assert PROGRAM is not None, 'nats-server is not installed, but ECHORIG_NATS=required is set'
        ports = tempfile.mkdtemp(dir=self._folder)
        command = [PROGRAM, '-c', str(self._config), '-a', '127.0.0.1', '-p', str(self.port), '--ports_file_dir', ports]
        if self._is_clustered:
            command += ['--cluster_name', 'lab', '--cluster', f'nats://127.0.0.1:{self.cluster_port}']
        with (self._folder / 'log').open('ab') as log:
            self._process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log)
        known: dict[str, list[str]] = {}

        def is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f'nats-server has ended: {self.log()[-2000:]}'
            for file in Path(ports).glob('*.ports'):
                with contextlib.suppress(ValueError):  # it is being written
                    known.update(json.loads(file.read_text('utf-8')))
            return bool(known)

        eventually_blocking(is_ready, 'nats-server listens', 30)
        self.port = int(known['nats'][0].rpartition(':')[2])
        if self._is_clustered:
            self.cluster_port = int(known['cluster'][0].rpartition(':')[2])

    def log(self) -> str:
        """Return what the broker has written."""
        return (self._folder / 'log').read_text('utf-8', 'replace')

    def resident(self) -> int:
        """Return the resident memory of the process in bytes; Linux only."""
        assert self._process is not None
        statm = Path(f'/proc/{self._process.pid}/statm').read_text()
        return int(statm.split()[1]) * os.sysconf('SC_PAGE_SIZE')

    def signal(self, number: int) -> None:
        """Send a signal to the process, such as SIGSTOP."""
        assert self._process is not None
        if number == getattr(signal, 'SIGSTOP', None):
            stop(self._process)
        else:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End the process at once; nothing that it holds is delivered."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def restart(self) -> None:
        """Kill the process, and start it again on the same ports."""
        self.kill()
        self.start()


@contextlib.contextmanager
def running_broker(folder: Path, options: Sequence[str] = (), config: str = '', **more: Any) -> Iterator[Broker]:
    """Run a broker."""
    found = Broker(folder, options, config, **more)
    try:
        yield found
    finally:
        found.kill()


@contextlib.contextmanager
def running_cluster(folder: Path, n: int = 3) -> Iterator[list[Broker]]:
    """Run a cluster of brokers, each of which knows the others."""
    with contextlib.ExitStack() as stack:
        brokers: list[Broker] = []
        for i in range(n):
            one = folder / f'node{i}'
            one.mkdir()
            routes = ['--routes', f'nats://127.0.0.1:{brokers[0].cluster_port}'] if brokers else []
            brokers.append(stack.enter_context(running_broker(one, routes, is_clustered=True)))
        yield brokers


@pytest.fixture(scope='session')
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that all tests of a worker share; none may end it."""
    with running_broker(tmp_path_factory.mktemp('broker')) as found:
        yield found
