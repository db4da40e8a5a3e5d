"""A session of three processes over a broker that is restarted twice: nothing is lost, doubled or late.

The programs are those of `tests/system`, whose event logs its oracle checks.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import Broker, needs_broker, running_broker, subject
from echorig import EchoProtocol, Services
from eventually import eventually, eventually_blocking
from lab import REF
from system.driver import started
from system.event_log import read
from system.history import History
from system.oracle import RULES, report, summary, timeouts

pytestmark = [needs_broker, pytest.mark.slow, pytest.mark.timeout(240)]

RIGS = {'nats0': 'asyncio', 'nats1': 'uvloop'}  # and the event loop of each


class Programs:
    """The main program and the rigs; a context manager that ends all of them."""

    def __init__(self, folder: Path, broker: Broker, seed: str) -> None:
        self._folder, self._processes = folder, dict[str, 'subprocess.Popen[bytes]']()
        uris = {name: f'{broker.uri}/{subject()}' for name in RIGS}
        for name, loop in RIGS.items():
            self._start('rig', f'{name}.1', loop, f'{name}.1', uris[name], f'{seed} {name}')
        for name in RIGS:
            self._wait_for(f'{name}.1')
        self._start('main', 'main', 'uvloop', seed, *(f'{name}={uri}' for name, uri in uris.items()))
        eventually_blocking(lambda: (folder / 'main.log').exists(), 'the main program sends', 60)

    def _start(self, module: str, run: str, loop: str, *args: str) -> None:
        self._processes[run] = started(self._folder, run, module, loop, *args)

    def _wait_for(self, run: str) -> None:
        def is_ready() -> bool:
            assert self._processes[run].poll() is None, (self._folder / f'{run}.err').read_text()
            file = self._folder / f'{run}.log'
            return file.exists() and file.stat().st_size > 0

        eventually_blocking(is_ready, f'{run} is ready', 60)

    def finish(self) -> None:
        """End the main program, then the rigs, and wait for each."""
        for run in reversed(self._processes):
            process = self._processes[run]
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(120) == 0, (self._folder / f'{run}.err').read_text()

    def close(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait(30)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / 'broker').mkdir()
    with running_broker(tmp_path / 'broker') as found:
        yield found


@pytest.mark.parametrize('seed', ['1', '2'])
def test_a_session_over_a_broker_that_is_restarted_twice(own: Broker, tmp_path: Path, seed: str) -> None:
    folder = tmp_path / 'logs'
    folder.mkdir()
    programs = Programs(folder, own, seed)
    try:
        for away in (0.1, 1.5):
            time.sleep(3.0)
            own.kill()
            time.sleep(away)
            own.start()
        time.sleep(3.0)
        programs.finish()
    finally:
        programs.close()
    records = read(folder)
    history = History(records)
    # Whether an echo was lost with the broker is not known here, so neither is whether a send had to fail.
    violations = [violation for rule in RULES if rule is not timeouts for violation in rule(history)]
    counts = summary(records)
    print(counts)
    assert not violations, report(violations)
    assert counts['confirmed: ok'] > 50
    assert counts['last: ok'] == len(RIGS)
    assert counts['call: ok'] > 5


async def test_a_hundred_rigs(lab, broker) -> None:
    """One session with all of them: the start is confirmed and answered by each, once."""
    uris = {f'rig{i}': f'{broker.uri}/{subject()}' for i in range(100)}
    heard: dict[str, int] = {}

    async def serve(name: str, uri: str) -> None:
        rig = await EchoProtocol.server(uri, name)
        lab.opened.append(rig)

        async def answer(data, addr, event):
            heard[name] = heard.get(name, 0) + 1
            await rig.confirmed_send([event, *data], addr)

        rig.assign_callback(127, answer)

    await asyncio.gather(*(serve(name, uri) for name, uri in uris.items()))
    async with await Services.connect(uris, timeout=60.0) as rigs:
        for _ in range(3):
            assert len(await rigs.start(REF)) == 100
    await eventually(lambda: set(heard.values()) == {3}, 'each has got three')
