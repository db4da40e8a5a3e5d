"""Sessions of unmodified iblutil programs, some of them switched to echorig, over UDP in real processes.

Three rigs are switched, each in one of the ways that there are; three run iblutil; two talk like MATLAB. The main PC
is switched in each of these ways, or runs iblutil.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echorig.testing import FakeRig

pytest.importorskip('iblutil')

SCRIPT = Path(__file__).with_name('dropin_program.py')
PATIENCE = 120.0  # seconds; only a failure waits that long
ONE_LINE = 'import echorig.compat; echorig.compat.install()\n'
REF = '2022-01-01_1_subject'
TOKEN = ['https://alyx.example.org', {'olivia': {'token': 'a' * 8 + 'f' * 32}}]
SWITCHED = ('command', 'module', 'one line')
CALLS = [
    ('status', 'EXPSTATUS', [0]),
    ('init', 'EXPINIT', [{'exp_ref': REF}]),
    ('start', 'EXPSTART', [REF, None]),
    ('status', 'EXPSTATUS', [20]),
    ('stop', 'EXPEND', [None]),
    ('cleanup', 'EXPCLEANUP', [{'reason': 'done'}]),
]


class Process:
    """An unmodified program, and the lines that it reports."""

    def __init__(self, how: str, folder: Path, *args: str) -> None:
        script = SCRIPT
        if how == 'one line':
            script = folder / 'one_line.py'
            script.write_text(ONE_LINE + SCRIPT.read_text())
        before = {'command': ['-m', 'echorig', 'as-iblutil'], 'module': ['-m', 'echorig.compat']}.get(how, [])
        self.is_switched = how in SWITCHED
        self.process = subprocess.Popen(
            [sys.executable, *before, str(script), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, 'PYTHONUNBUFFERED': '1'},
        )
        self._timer = threading.Timer(PATIENCE, self.process.kill)
        self._timer.start()
        self.reports: list[dict[str, Any]] = []
        self.log: list[str] = []

    def read(self, until: Callable[[dict[str, Any]], bool] = lambda report: False) -> dict[str, Any]:
        """Read up to a report, or to the end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.startswith('@@ '):
                self.log.append(line)
                continue
            self.reports.append(json.loads(line[3:]))
            if until(self.reports[-1]):
                return self.reports[-1]
        return {}

    def values(self, key: str) -> list[Any]:
        return [report[key] for report in self.reports if key in report]

    def end(self) -> str:
        """Read the rest, check the end, and return what stands on stderr."""
        self.read()
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        assert self.process.wait() == 0, (errors, self.log)
        return errors

    def close(self) -> None:
        self._timer.cancel()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def free_uri() -> str:
    """Return the URI of a port that is free; iblutil does not accept port 0."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(('127.0.0.1', 0))
        return f'udp://127.0.0.1:{sock.getsockname()[1]}'


def start_rig(stack: contextlib.ExitStack, how: str, name: str, folder: Path) -> tuple[Process, str]:
    """Start a rig; another program may have taken its port meanwhile."""
    for _ in range(10):
        rig = Process(how, folder, 'rig', name, free_uri())
        stack.callback(rig.close)
        if found := rig.read(lambda report: 'uri' in report):
            return rig, found['uri']
    raise AssertionError(f'{name} does not start: {rig.log}')


@pytest.fixture(scope='module', params=[*SWITCHED, 'iblutil'])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A session that has ended, by the way in which the main PC is switched."""
    folder = tmp_path_factory.mktemp('dropin')
    with contextlib.ExitStack() as stack:
        rigs, uris = {}, {}
        for how in (*SWITCHED, 'iblutil', 'iblutil', 'iblutil'):
            name = f'rig{len(rigs)}'
            rigs[name], uris[name] = start_rig(stack, how, name, folder)
        matlab = [stack.enter_context(FakeRig(kind='matlab', name=f'matlab{i}')) for i in range(2)]
        uris |= {f'matlab{i}': rig.uri for i, rig in enumerate(matlab)}
        main = Process(request.param, folder, 'main', *(f'{name}={uri}' for name, uri in uris.items()))
        stack.callback(main.close)
        errors = {'main': main.end(), **{name: rig.end() for name, rig in rigs.items()}}
        yield {'main': main, 'rigs': rigs, 'matlab': matlab, 'names': list(uris), 'errors': errors}


def test_who_is_switched(ended):
    for process in (ended['main'], *ended['rigs'].values()):
        assert process.values('classes') == ['echorig' if process.is_switched else 'iblutil']


def test_one_line_says_so(ended):
    for name, process in {'main': ended['main'], **ended['rigs']}.items():
        said = [line for line in ended['errors'][name].splitlines() if 'iblutil.io.net is echorig' in line]
        assert len(said) == process.is_switched, ended['errors'][name]
        assert 'Traceback' not in ended['errors'][name]


def test_the_main_pc_gets_every_answer(ended):
    main = ended['main']
    assert main.values('call') == [call for call, _, _ in CALLS]
    for (_, event, data), answers in zip(CALLS, main.values('answers'), strict=True):
        assert set(answers) == set(ended['names']), event
        assert list(answers.values()) == [data] * len(answers), event
    assert main.values('connected') == [False]


def test_every_rig_executes_every_message_once(ended):
    for name, rig in ended['rigs'].items():
        executed = [(report['executed'], report['data']) for report in rig.reports if 'executed' in report]
        assert executed == [(event, data) for _, event, data in CALLS], name
    for rig in ended['matlab']:
        executed = [(message.event.name, message.data) for message in rig.received if message.event.name != 'ALYX']
        assert executed == [(event, data) for _, event, data in CALLS], rig


def test_what_rigs_send_on_their_own(ended):
    assert ended['main'].values('infos') == [sorted(ended['rigs'])]


def test_tokens_in_both_directions(ended):
    assert ended['main'].values('tokens') == [dict.fromkeys(ended['rigs'], TOKEN)]
    for name, rig in ended['rigs'].items():
        assert rig.values('token') == [TOKEN], name
        assert rig.values('asked') == [[None, {}]], name


def test_a_local_close_cancels(ended):
    for name, rig in ended['rigs'].items():
        assert rig.values('cancelled') == [True], name


def test_the_log_of_iblutil_is_on_the_console(ended):
    for process in (ended['main'], *ended['rigs'].values()):
        assert any('INFO' in line and 'Confirmation received' in line for line in process.log)
