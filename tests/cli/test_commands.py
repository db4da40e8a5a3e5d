"""The commands for rigs, as processes on each loop, with their failures."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from command_program import REPLY, Program, ended, listens_on
from conftest import LOOPS
from echorig.cli.main import COMMANDS
from echorig.cli.options import chosen_rigs
from lab import REF, free_port
from systems import NOBODY

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals')


@pytest.fixture(params=list(LOOPS))
def program(request: pytest.FixtureRequest) -> Program:
    return Program(request.param)


@contextlib.contextmanager
def rig(program: Program, *args: str, transport: str = 'udp') -> Iterator[str]:
    """Run `echorig listen` and yield its URI."""
    with program.started('listen', f'{transport}://127.0.0.1:0', *args) as process:
        host, port = listens_on(process)
        yield f'{transport}://{host}:{port}'
        ended(process, signal.SIGINT)
        assert process.returncode == 0


def records(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.stderr == ''
    return [json.loads(line) for line in done.stdout.splitlines()]


def failed(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Check that a command has failed with one line on stderr."""
    assert done.returncode == code, done
    assert done.stderr.count('\n') == 1, done.stderr
    assert 'Traceback' not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture
def nobody(transport: str) -> str:
    return f'{transport}://127.0.0.1:{free_port()}'


# --- ping ---


def test_ping(program, transport):
    with rig(program, transport=transport) as uri:
        done = program.run('ping', f'camera={uri}', '-c', '3', '-i', '0')
        assert (done.returncode, done.stderr) == (0, '')
        lines = done.stdout.splitlines()
        assert len(lines) == 4
        assert all('echorig, clock ' in line and ' ± ' in line for line in lines[:3])
        assert lines[3].startswith('--- camera: 3 pings, 3 echoes, 0.0% lost; min ')
        *pings, summary = records(program.run('ping', f'camera={uri}', '-c', '2', '-i', '0', '--json'))
        assert [ping['number'] for ping in pings] == [1, 2]
        assert summary['echoed'] == 2
        assert abs(summary['clock_offset']) <= summary['clock_error']


def test_ping_without_a_rig(program, transport, nobody):
    done = program.run('ping', nobody, '-c', '2', '-i', '0')
    assert done.returncode == 1
    assert done.stderr == ''
    assert ('Nobody listens' if transport == 'tcp' else NOBODY) in done.stdout
    assert nobody in done.stdout


def test_ping_is_ended_by_ctrl_c(program):
    with rig(program) as uri, program.started('ping', uri, '-i', '0.1') as process:
        for _ in range(3):
            process.stdout.readline()
        out, err = ended(process, signal.SIGINT)
    assert process.returncode == 0
    assert err == ''
    assert ' echoes, 0.0% lost' in out.splitlines()[-1]


# --- status ---


def test_status_once(program, transport, nobody, tmp_path):
    with rig(program, transport=transport) as uri:
        rigs = tmp_path / 'rigs.yaml'
        rigs.write_text(f'camera: {uri}\nephys: {nobody}\n')
        done = program.run('status', '--once', '--rigs', str(rigs))
        assert (done.returncode, done.stderr) == (1, '')
        table = {line.split()[0]: line for line in done.stdout.splitlines()}
        assert ' echorig  online ' in table['camera']
        assert 'offline' in table['ephys']
        assert ('Nobody listens' if transport == 'tcp' else NOBODY) in done.stdout
        done = program.run('status', '--once', '--rigs', str(rigs), '--json', 'camera')
        [camera] = records(done)
        assert done.returncode == 0
        assert (camera['rig'], camera['state'], camera['uri']) == ('camera', 'online', uri)


def test_status_reports_changes_to_programs(program):
    with program.started('listen', 'udp://127.0.0.1:0') as server:
        host, port = listens_on(server)
        with program.started('status', f'udp://{host}:{port}', '--json', '-i', '0.2', '-t', '0.2') as process:
            states = []
            while 'online' not in states:
                states.append(json.loads(process.stdout.readline())['state'])
            ended(server, signal.SIGTERM)
            while 'offline' not in states:
                states.append(json.loads(process.stdout.readline())['state'])
            ended(process, signal.SIGINT)
            assert process.returncode == 0


def test_status_in_a_terminal(program):
    import pty

    with rig(program) as uri:
        near, far = pty.openpty()
        environment = {**program.environment, 'TERM': 'xterm', 'COLUMNS': '120', 'LINES': '30'}
        command = [sys.executable, '-m', 'echorig', 'status', f'camera={uri}', '-i', '0.2']
        with subprocess.Popen(command, env=environment, stdin=far, stdout=far, stderr=far) as process:
            os.close(far)
            shown, end = '', time.monotonic() + REPLY
            while '1 of 1 rigs online' not in shown:
                assert time.monotonic() < end, shown
                shown += os.read(near, 65536).decode(errors='replace')
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # the terminal is closed
                while os.read(near, 65536):
                    pass
            assert process.wait(REPLY) == 0
        os.close(near)


# --- send and listen ---


def test_send_and_answers(program, transport):
    with rig(program, '--name', 'camera', '--answer', transport=transport) as uri:
        for event, args in (('init', ['--data', '{"a": 1}']), ('start', [REF]), ('stop', [])):
            done = program.run('send', event, f'camera={uri}', *args)
            assert (done.returncode, done.stderr) == (0, ''), done
            assert done.stdout.startswith('camera: answered after ')
        done = program.run('send', 'cleanup', uri, '--json', '--no-answer')
        assert [record['kind'] for record in records(done)] == ['confirmed']
        done = program.run('send', 'info', uri, '--status', 'running', '--json')
        assert [record['kind'] for record in records(done)] == ['answered']


def test_send_names_each_failure(program, transport, nobody):
    with rig(program, '--fail', 'start') as uri:
        for event, args in (('init', []), ('start', [REF])):
            done = program.run('send', event, f'camera={uri}', f'ephys={nobody}', *args, '--timeout', '5')
            assert (done.returncode, done.stderr) == (1, '')
            assert ('Nobody listens' if transport == 'tcp' else NOBODY) in done.stdout
            assert f'ephys ({nobody})' in done.stdout
        assert 'camera: failed: ' in done.stdout
        assert 'EXPSTART fails: rig was started with --fail' in done.stdout


def test_listen_prints_messages(program, transport):
    with program.started('listen', f'{transport}://127.0.0.1:0', '--name', 'camera', '--json') as process:
        uri = json.loads(process.stdout.readline())['uri']
        assert program.run('send', uri, 'start', REF, '--no-answer').returncode == 0
        record = json.loads(process.stdout.readline())
        assert (record['event'], record['message']) == ('EXPSTART', f'[2, "{REF}", null]')
        assert ended(process, signal.SIGTERM) == ('', '')
    assert process.returncode == 0


def test_listen_ends_when_its_output_is_closed(program):
    for args in ((), ('--answer',)):
        with program.started('listen', 'udp://127.0.0.1:0', *args) as process:
            host, port = listens_on(process)
            process.stdout.close()
            program.run('send', 'init', f'udp://{host}:{port}', '--no-answer')
            assert process.wait(REPLY) == 0
            assert 'Traceback' not in process.stderr.read()


# --- bench ---


def test_bench(program, transport, nobody, tmp_path):
    run = str(tmp_path / 'run.json')
    with rig(program, transport=transport) as one, rig(program, transport=transport) as other:
        done = program.run('bench', f'a={one}', f'b={other}', '-n', '20', '--save', run)
        assert (done.returncode, done.stderr) == (0, '')
        assert 'Pings to all 2 rigs at once arrive within ' in done.stdout
        assert '####' in done.stdout
        assert [one['name'] for one in json.loads(Path(run).read_text())['benchmarks']] == ['a', 'b', 'start skew']
        done = program.run('bench', f'a={one}', f'gone={nobody}', '-n', '5', '--compare', run, '--json')
        assert done.returncode == 1
        found = {record['kind']: record for record in records(done)}
        assert found['compared']['ratio'] > 0
        assert 'Nobody listens' in found['error']['error'] or 'echoed none' in found['error']['error']


@pytest.mark.peers
def test_pytest_benchmark_reads_a_saved_run(program, tmp_path):
    pytest.importorskip('pytest_benchmark')
    run = str(tmp_path / 'run.json')
    with rig(program) as uri:
        program.run('bench', f'camera={uri}', '-n', '20', '--save', run)
    done = subprocess.run(
        [sys.executable, '-m', 'pytest_benchmark', 'compare', run],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert 'camera' in done.stdout


def test_an_announced_rig_is_no_name_with_a_uri():
    for given, rigs in (
        ('mdns:camera?group=room-2', {'mdns:camera?group=room-2': 'mdns:camera?group=room-2'}),
        ('camera=mdns:camera?group=room-2', {'camera': 'mdns:camera?group=room-2'}),
        ('udp://10.0.0.5', {'udp://10.0.0.5': 'udp://10.0.0.5'}),
    ):
        assert chosen_rigs(argparse.Namespace(rigs_file=None, uris=[given])) == rigs


# --- wrong use ---


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['ping'], 'no rigs: give the URI of at least one, or --rigs FILE'),
        (['ping', 'a=udp://127.0.0.1', 'a=udp://127.0.0.2'], 'the rig a is given twice'),
        (['status', '--once', '--rigs', 'missing.yaml'], 'cannot read the rigs'),
        (['ping', 'bad://127.0.0.1'], 'bad'),
        (['ping', 'udp://127.0.0.1', '--key-file', 'missing'], 'cannot read the key'),
        (['send', 'start', 'udp://127.0.0.1'], 'start needs a reference, yyyy-mm-dd_n_subject'),
        (['send', 'init', 'udp://127.0.0.1', '--data', '{'], '--data is no JSON'),
        (['send', 'alyx', 'udp://127.0.0.1'], 'Services.alyx()'),
        (['send', 'jump', 'udp://127.0.0.1'], 'send needs one event'),
        (['send', 'stop', 'start', 'udp://127.0.0.1'], 'send needs one event'),
        (['ping', '--fast', 'udp://127.0.0.1'], 'unrecognized arguments: --fast'),
        (['discover', 'camera'], 'unrecognized arguments: camera'),
        (['listen', '--fail', 'jump'], 'jump is no event'),
        (['listen', 'udp://192.0.2.1:0'], 'cannot listen on udp://192.0.2.1:0'),
        (['bench', 'udp://127.0.0.1', '--compare', 'missing.json'], 'cannot compare with missing.json'),
        (['ping', 'udp://127.0.0.1', '-c', '0'], '0 is not in 1 to'),
        (['journal', 'x', '--export', 'x.csv', '--rig', 'a'], '--export and --plot take everything'),
        (['fly'], "invalid choice: 'fly'"),
    ],
)
def test_wrong_use(args, words):
    failed(Program('asyncio').run(*args), 2, words)


def test_a_table_without_rich():
    code = (
        'import sys; sys.modules["rich"] = None; from echorig.cli.main import main; '
        'sys.exit(main(["status", "udp://127.0.0.1:9"]))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False)
    failed(done, 2, "pip install 'echorig[cli]'")


def test_every_command_and_option_is_documented():
    text = '\n'.join(path.read_text() for path in (ROOT / 'docs').glob('*.md'))
    for name, (module, _) in COMMANDS.items():
        parser = argparse.ArgumentParser()
        import_module(module, 'echorig.cli').add_options(parser)
        assert f'`{name}`' in text or f'[`{name}`]' in text
        for option in set(re.findall(r'--[a-z][a-z-]+', parser.format_help())) - {'--help'}:
            assert f'`{option}' in text or f' {option}' in text, (name, option)
