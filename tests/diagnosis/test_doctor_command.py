"""`echorig doctor` as a process, on each loop: its output, exit codes and errors."""

from __future__ import annotations

import json
import sys

import pytest

import echorig
from command_program import Program
from conftest import LOOPS
from lab import free_port
from programs import Program as PythonProgram
from systems import REPORTS_REFUSALS

posix = pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals')

RIG = """
    import asyncio, sys
    import echorig

    async def main():
        key = sys.argv[2] if len(sys.argv) > 2 else None
        async with await echorig.EchoProtocol.server(sys.argv[1], 'rig', key=key) as rig:
            print(rig.server_uri)
            await asyncio.sleep(60)

    echorig.run(main())
"""


@pytest.fixture(params=list(LOOPS))
def program(request: pytest.FixtureRequest) -> Program:
    return Program(request.param)


def test_a_good_rig(program, transport):
    with PythonProgram(RIG, f'{transport}://127.0.0.1:0') as rig:
        uri = rig.wait_for('://')
        done = program.run('doctor', uri, '--timeout', '5')
    assert (done.returncode, done.stderr) == (0, '')
    lines = done.stdout.splitlines()
    assert all(line.startswith('✓ ') for line in lines)
    assert lines[0] == f'✓ {uri} is a valid URI'
    assert 'the rig runs echorig' in done.stdout


def test_json(program):
    with PythonProgram(RIG, 'udp://127.0.0.1:0') as rig:
        done = program.run('doctor', rig.wait_for('://'), '--json', '--timeout', '5')
    assert (done.returncode, done.stderr) == (0, '')
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(finding) for finding in found] == [['rig', 'step', 'ok', 'text', 'advice', 'facts']] * len(found)
    assert [finding['step'] for finding in found][-2:] == ['round trip', 'clock']


def test_a_closed_port_has_advice(program, transport):
    if transport == 'udp' and not REPORTS_REFUSALS:
        pytest.skip('UDP reports no refusals')
    done = program.run('doctor', f'{transport}://127.0.0.1:{free_port()}')
    assert (done.returncode, done.stderr) == (1, '')
    *_, fault, advice, hint = done.stdout.splitlines()
    assert fault.startswith('✗ ')
    assert advice.startswith('  → start the program of the rig')
    assert '127.0.0.1' in hint


def test_keys(program, tmp_path):
    key, other = 'the key of this lab', 'the key of another lab'
    for name, text in (('key', key), ('other', other)):
        (tmp_path / name).write_text(text)
    with PythonProgram(RIG, 'udp://127.0.0.1:0', key) as rig:
        uri = rig.wait_for('://')
        good = program.run('doctor', uri, '--key-file', str(tmp_path / 'key'), '--timeout', '5')
        bad = program.run('doctor', uri, '--key-file', str(tmp_path / 'other'))
        none = program.run('doctor', uri)
    assert (good.returncode, bad.returncode, none.returncode) == (0, 1, 1)
    assert '✓ the rig has the same key' in good.stdout
    assert 'the key of the rig is another one' in bad.stdout
    assert 'the rig needs a key (--key-file)' in none.stdout
    assert key not in good.stdout + bad.stdout + none.stdout
    assert good.stderr + bad.stderr + none.stderr == ''


@pytest.mark.parametrize('uri', ['udp://a b', 'http://127.0.0.1', 'udp://127.0.0.1:0'])
def test_a_bad_uri(program, uri):
    done = program.run('doctor', uri)
    assert (done.returncode, done.stderr) == (2, '')
    assert done.stdout.startswith('✗ the URI is not valid')


@pytest.mark.parametrize(
    'args',
    [
        [],
        ['udp://127.0.0.1', '--timeout', '0'],
        ['udp://127.0.0.1', '--key-file', '/does/not/exist'],
        ['udp://127.0.0.1', '--allow', 'a b'],
        ['tls://127.0.0.1', '--cafile', '/does/not/exist'],
        ['udp://127.0.0.1', '--colour'],
    ],
)
def test_bad_usage_is_one_line(program, args):
    done = program.run('doctor', *args)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.count('\n') == 1
    assert done.stderr.startswith('echorig')


def test_self(program):
    done = program.run('doctor', '--self')
    assert (done.returncode, done.stderr) == (0, '')
    lines = dict(line.split(': ', 1) for line in done.stdout.splitlines())
    assert lines['echorig'] == echorig.__version__
    assert lines['loop'].startswith(program.environment['ECHORIG_LOOP'])
    assert 'python' in lines
    assert 'echorig[cli]' in lines


def test_self_for_programs(program):
    done = program.run('doctor', '--self', '--json')
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record['name'] for record in records} >= {'echorig', 'python', 'platform', 'loop', 'transports'}


def test_output_without_utf8(program):
    program.environment['PYTHONIOENCODING'] = 'ascii:backslashreplace'
    done = program.run('doctor', f'tcp://127.0.0.1:{free_port()}')
    assert (done.returncode, done.stderr) == (1, '')
    assert 'FAILED TCP port' in done.stdout
    assert '  -> start the program' in done.stdout
    assert '\\u' not in done.stdout


def test_several_rigs(program, tmp_path):
    with PythonProgram(RIG, 'udp://127.0.0.1:0') as rig:
        uri = rig.wait_for('://')
        (tmp_path / 'rigs.yaml').write_text(f'camera: {uri}\nephys: tcp://127.0.0.1:{free_port()}\n')
        files = ('--rigs', str(tmp_path / 'rigs.yaml'))
        one = program.run('doctor', 'camera', *files, '--timeout', '5')
        both = program.run('doctor', *files, '--timeout', '5')
        records = program.run('doctor', *files, '--timeout', '5', '--json').stdout.splitlines()
    assert (one.returncode, both.returncode) == (0, 1)
    assert one.stdout.startswith('✓ ')
    assert [line for line in both.stdout.splitlines() if line.startswith('---')] == ['--- camera', '--- ephys']
    assert {json.loads(record)['rig'] for record in records} == {'camera', 'ephys'}


def test_a_rig_that_does_not_announce_itself(program):
    pytest.importorskip('zeroconf')
    name = f'no-rig-{free_port()}'
    done = program.run('doctor', f'mdns:{name}', '--json')
    assert (done.returncode, done.stderr) == (1, '')
    [record] = map(json.loads, done.stdout.splitlines())
    assert (record['step'], record['facts']) == ('name', {'fault': 'not announced'})
    assert 'announce=True' in record['advice']


@posix
def test_the_reader_of_the_output_goes_away(program):
    with program.started('doctor', f'udp://127.0.0.1:{free_port()}') as process:
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ''
