"""What the commands print: encodings, control characters, closed streams, and input that breaks parsers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_program import Program
from echorig import ExpMessage
from lab import Lab, free_port
from systems import NOBODY, REPORTS_REFUSALS

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='POSIX descriptors')
DEEP = '[' * 20_000


@pytest.fixture
def program() -> Program:
    return Program('asyncio')


def test_an_encoding_that_lacks_characters(program):
    program.environment['PYTHONIOENCODING'] = 'ascii'
    with program.started('listen', 'udp://127.0.0.1:0') as process:
        uri = process.stdout.readline().split()[3].rstrip(';')
        done = program.run('ping', '-c', '1', f'Ж={uri}')
    assert done.returncode == 0, done
    assert done.stdout.startswith('?: 1  ')
    assert '+/-' in done.stdout
    assert done.stderr == ''


async def test_a_rig_does_not_control_the_terminal(lab: Lab, program):
    server = await lab.server('udp')

    def fail(data: list, addr: tuple) -> None:
        raise RuntimeError('\x1b]0;title\x07')

    server.assign_callback(ExpMessage.EXPINIT, fail)
    done = await asyncio.to_thread(program.run, 'send', server.server_uri, 'init')
    assert done.returncode == 1
    assert r'RuntimeError: \x1b]0;title\x07' in done.stdout
    assert '\x1b' not in done.stdout


@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
@pytest.mark.parametrize('closed', ['<&-', '>&-', '2>&-'])
def test_closed_standard_streams(closed, loop):
    uri = f'udp://127.0.0.1:{free_port()}'
    command = f'"{sys.executable}" -m echorig ping -c 1 {uri} {closed}'
    environment = {**os.environ, 'ECHORIG_LOOP': loop}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert 'Traceback' not in done.stderr
    text = 'a ping was refused' if REPORTS_REFUSALS else NOBODY
    assert (text in done.stdout) is (closed != '>&-')


def test_a_name_that_does_not_resolve_is_one_rig_that_failed(program):
    refused = f'udp://127.0.0.1:{free_port()}'
    done = program.run('ping', '-c', '1', f'camera={refused}', 'off=udp://off.invalid:1')
    assert done.returncode == 1, done
    assert NOBODY in done.stdout
    assert "off: Failed to resolve the host name 'off.invalid'" in done.stdout


def test_data_that_is_too_deep(program):
    done = program.run('send', 'udp://127.0.0.1:9', 'stop', '--data', DEEP)
    assert (done.returncode, done.stderr.count('\n')) == (2, 1)
    assert '--data is no JSON' in done.stderr


@pytest.mark.parametrize(
    'content', [DEEP, *(f'{{"benchmarks": [{{"name": "a", "stats": {{"median": {x}}}}}]}}' for x in (0, 'NaN'))]
)
def test_a_file_to_compare_with_that_is_none(program, tmp_path: Path, content):
    file = tmp_path / 'run.json'
    file.write_text(content)
    done = program.run('bench', 'udp://127.0.0.1:9', '--compare', str(file))
    assert (done.returncode, done.stderr.count('\n')) == (2, 1)
    assert 'cannot compare with' in done.stderr


@pytest.mark.parametrize('option', ['--key-file', '--cafile', '--cert', '--key'])
def test_an_empty_name_of_a_file(program, option):
    done = program.run('ping', '-c', '1', 'udp://127.0.0.1:9', option, '')
    assert (done.returncode, done.stderr) == (2, f'echorig: {option} needs the name of a file\n')
