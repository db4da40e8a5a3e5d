"""The commands with rigs at a NATS broker, as processes."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from brokers import needs_broker, running_broker, subject
from command_program import Program, ended
from lab import REF, free_port
from programs import Program as PythonProgram

pytestmark = [needs_broker, pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals')]

ANNOUNCED = """
    import asyncio, sys
    import echorig

    async def main():
        async with await echorig.EchoProtocol.server(sys.argv[1], 'camera', announce={'group': 'room-2'}) as rig:
            print(rig.server_uri)
            await asyncio.sleep(60)

    echorig.run(main())
"""


@pytest.fixture
def program() -> Program:
    return Program('uvloop' if sys.platform != 'win32' else 'asyncio')


@contextlib.contextmanager
def listening(program: Program, uri: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run `echorig listen`, and yield it when it listens."""
    with program.started('listen', uri, *args) as process:
        assert 'Ctrl-C ends it' in process.stdout.readline()
        yield process


def test_a_rig_is_pinged_told_and_examined(program, broker):
    uri = f'{broker.uri}/{subject()}'
    with listening(program, uri, '--answer') as rig:
        done = program.run('ping', '-c', '3', '--json', '--timeout', '10', uri)
        assert (done.returncode, done.stderr) == (0, '')
        assert all(json.loads(line)['rig'] == uri for line in done.stdout.splitlines())
        done = program.run('send', '--json', uri, 'start', REF)
        assert (done.returncode, done.stderr) == (0, '')
        done = program.run('doctor', '--timeout', '10', uri)
        assert (done.returncode, done.stderr) == (0, ''), done
        assert all(line.startswith('✓ ') for line in done.stdout.splitlines()), done.stdout
        assert 'accepts the login' in done.stdout
        out, err = ended(rig, signal.SIGINT)
    assert rig.returncode == 0
    assert 'Traceback' not in err
    assert out.startswith('EXPSTART')


def test_nobody_is_there(program, broker):
    uri = f'{broker.uri}/{subject()}'
    done = program.run('send', uri, 'start', REF)
    assert done.returncode == 1
    assert 'Nobody listens' in done.stdout + done.stderr
    done = program.run('doctor', uri)
    assert (done.returncode, done.stderr) == (1, '')
    assert '✗ nobody subscribes to' in done.stdout


def test_there_is_no_broker(program):
    uri = f'nats://127.0.0.1:{free_port()}/lab.camera'
    done = program.run('doctor', uri)
    assert (done.returncode, done.stderr) == (1, '')
    assert 'No broker listens at' in done.stdout
    assert 'nats-server' in done.stdout.splitlines()[-1]
    done = program.run('listen', uri)
    assert done.returncode == 2
    assert 'cannot listen on' in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_login_is_used_and_never_shown(program, tmp_path):
    with running_broker(tmp_path, config='authorization { user: lab, password: "geheim99" }') as broker:
        where = f'127.0.0.1:{broker.port}/{subject()}'
        with listening(program, f'nats://lab:geheim99@{where}') as rig:
            given, limit = f'nats://lab:geheim99@{where}', ('--timeout', '10')
            shown = [program.run('ping', '-c', '1', *limit, given), program.run('doctor', *limit, given)]
            assert [done.returncode for done in shown] == [0, 0], shown
            ended(rig, signal.SIGINT)
        shown.append(program.run('listen', '-vv', f'nats://lab:geheim00@{where}'))
        shown.append(program.run('doctor', f'nats://lab:geheim00@{where}'))
        assert [done.returncode for done in shown[2:]] == [2, 1]
        assert 'refuses the login' in shown[2].stderr
        assert 'refuses the login' in shown[3].stdout
        for done in shown:
            assert 'geheim' not in done.stdout + done.stderr


def test_announced_rigs_are_found(program, broker):
    uri = f'{broker.uri}/{subject()}'
    with PythonProgram(ANNOUNCED, uri) as rig:
        rig.wait_for('://')
        found: list[dict] = []
        for _ in range(10):  # it is announced in the background
            done = program.run('discover', '--broker', broker.uri, '--group', 'room-2', '--json', '--timeout', '2')
            found = [json.loads(line) for line in done.stdout.splitlines()]
            if found:
                break
    assert found == [{'kind': 'rig', 'name': 'camera', 'uri': uri, 'group': 'room-2', 'tls': False, 'key': False}]
    done = program.run('discover', '--broker', broker.uri, '--group', 'room-9', '--timeout', '1')
    assert done.returncode == 1
    assert 'announce=True' in done.stdout


def test_a_broker_that_is_none(program):
    done = program.run('discover', '--broker', 'udp://127.0.0.1')
    assert done.returncode == 2
    assert 'broker must be the URI of a NATS broker' in done.stderr


@pytest.mark.parametrize('uri', ['nats://127.0.0.1', 'nats:///lab.camera', 'nats://127.0.0.1/lab.*', 'nats://h/a b'])
def test_uris_that_are_not_valid(program, uri):
    done = program.run('ping', '-c', '1', uri)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
