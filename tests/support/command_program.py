"""``python -m echorig`` as a process."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

REPLY = 30.0  # seconds, for what must come


class Program:
    """``python -m echorig`` on one of the event loops."""

    def __init__(self, loop: str) -> None:
        self.environment = {**os.environ, 'ECHORIG_LOOP': loop}

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, '-m', 'echorig', *args]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    @contextlib.contextmanager
    def started(self, *args: str, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
        command = [*prefix, sys.executable, '-m', 'echorig', *args]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


def listens_on(server: subprocess.Popen[str]) -> tuple[str, int]:
    """Return the address that a server prints."""
    found = re.search(
        r'(?:udp|tcp)://(127\.0\.0\.1):(\d+)(?: and answers)?; Ctrl-C ends it$', server.stdout.readline().rstrip()
    )
    assert found
    return found[1], int(found[2])


def ended(process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    process.send_signal(number)
    return process.communicate(timeout=REPLY)
