"""The programs in the documentation run, as they stand there, as processes of their own.

Only addresses are put in: a rig is asked for a port that is free, and the main PC is told where the rig listens.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import echorig
from echorig.testing import FakeRig
from lab import free_port
from programs import Program

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / 'docs' / 'examples'
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
PYTHON_BLOCK = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LONGEST = 60.0  # seconds

on_each_loop = pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])


def start(loop: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start Python so that sockets that are left open are reported on stderr."""
    return subprocess.Popen(
        [sys.executable, '-u', '-W', 'always::ResourceWarning', *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'ECHORIG_LOOP': loop, 'PYTHONUTF8': '1'},
    )


@contextmanager
def rig(loop: str, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a rig and wait until it prints its address."""
    with start(loop, *arguments) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert 'listen' in line, process.communicate()
            yield process, line.split()[-1]
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    out, err = process.communicate(timeout=LONGEST)
    return process.returncode, out.splitlines(), err


def run(loop: str, *arguments: str | Path) -> tuple[int, list[str], str]:
    with start(loop, *arguments) as process:
        try:
            return finish(process)
        finally:
            process.kill()


@on_each_loop
def test_both_files(loop: str) -> None:
    """The files of the quickstart, with a rig on UDP and one on TCP."""
    with (
        rig(loop, EXAMPLES / 'rig.py', 'camera', 'udp://127.0.0.1:0') as (camera, camera_uri),
        rig(loop, EXAMPLES / 'rig.py', 'ephys', 'ws://127.0.0.1:0') as (ephys, ephys_uri),
    ):
        code, said, errors = run(loop, EXAMPLES / 'main_pc.py', f'camera={camera_uri}', f'ephys={ephys_uri}')
        heard = [finish(camera), finish(ephys)]
    assert (code, errors) == (0, '')
    answers = {line.split(' ', 1)[0]: ast.literal_eval(line.split(' ', 1)[1]) for line in said}
    ref = '2026-01-31_1_mouse7'
    expected = {
        'init': [{'ready': True, 'settings': {'protocol': 'passive'}}],
        'start': [ref, {'folder': f'/data/camera/{ref}'}],
        'info': [20, {'free_space_gb': 812}],
        'stop': [{'frames': 5400}],
        'cleanup': [None],
    }
    assert {step: answer['camera'] for step, answer in answers.items()} == expected
    expected['start'] = [ref, {'folder': f'/data/ephys/{ref}'}]
    assert {step: answer['ephys'] for step, answer in answers.items()} == expected
    steps = ['EXPINIT: INITIALIZED', 'EXPSTART: RUNNING', 'EXPINFO: RUNNING', 'EXPEND: STOPPED', 'EXPCLEANUP: STOPPED']
    assert heard == [(0, steps, '')] * 2


@pytest.mark.slow
@on_each_loop
def test_task_code(loop: str) -> None:
    """The same from task code, which sends each trial to the rigs."""
    with (
        rig(loop, EXAMPLES / 'rig.py', 'camera', 'udp://127.0.0.1:0') as (camera, camera_uri),
        rig(loop, EXAMPLES / 'rig.py', 'ephys', 'ws://127.0.0.1:0') as (ephys, ephys_uri),
    ):
        code, said, errors = run(loop, EXAMPLES / 'task_code.py', f'camera={camera_uri}', f'ephys={ephys_uri}')
        heard = [finish(camera), finish(ephys)]
    assert (code, errors) == (0, '')
    assert [line.split(' ', 1)[0] for line in said] == ['init', 'start', 'info', 'stop']
    assert all(set(ast.literal_eval(line.split(' ', 1)[1])) == {'camera', 'ephys'} for line in said)
    steps = ['EXPINIT: INITIALIZED', 'EXPSTART: RUNNING', *['EXPINFO: RUNNING'] * 5, 'EXPEND: STOPPED']
    assert heard == [(0, [*steps, 'EXPCLEANUP: STOPPED'], '')] * 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')
@on_each_loop
def test_task_code_that_is_interrupted(loop: str) -> None:
    """Ctrl-C interrupts the program: the rigs are stopped, and no traceback is printed."""
    with rig(loop, EXAMPLES / 'rig.py', 'camera', 'udp://127.0.0.1:0') as (camera, uri):
        with start(loop, EXAMPLES / 'task_code.py', f'camera={uri}') as process:
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                while not process.stdout.readline().startswith('start'):
                    assert process.poll() is None
                process.send_signal(signal.SIGINT)
                assert (process.stdout.read(), process.stderr.read()) == ('', 'interrupted\n')
                assert process.wait(LONGEST) == 1
            finally:
                process.kill()
        code, heard, errors = finish(camera)
    assert (code, errors) == (0, '')
    assert heard[:2] == ['EXPINIT: INITIALIZED', 'EXPSTART: RUNNING']
    assert heard[-2:] == ['EXPINTERRUPT: STOPPED', 'EXPCLEANUP: STOPPED']


@on_each_loop
def test_task_code_that_a_rig_interrupts(loop: str) -> None:
    with FakeRig() as camera, start(loop, EXAMPLES / 'task_code.py', f'camera={camera.uri}') as process:
        try:
            camera.wait_for('EXPINFO', LONGEST)
            camera.wait_for('EXPINFO', LONGEST)  # the first is answered, so the interruption is no answer to it
            camera.send([16, 'the door is open'], timeout=LONGEST)
            code, said, errors = finish(process)
        finally:
            process.kill()
        heard = [message.event.name for message in camera.received if message.event]
    if code == 0:  # it came between two trials
        assert 'camera interrupts: the door is open' in said
        assert heard[-2:] == ['EXPEND', 'EXPCLEANUP']
    else:
        assert errors == 'camera failed: camera answered EXPINFO with EXPINTERRUPT: the door is open\n'
        assert heard[-2:] == ['EXPINTERRUPT', 'EXPCLEANUP']


@pytest.mark.slow
@on_each_loop
@pytest.mark.parametrize('program', ['main_pc.py', 'task_code.py'])
def test_programs_that_fail_say_why(loop: str, program: str, transport: str) -> None:
    """One line for each failed rig and no traceback; the other rigs are stopped."""
    absent = f'{transport}://127.0.0.1:{free_port()}'
    with FakeRig() as good, FakeRig() as bad:
        bad.script('EXPSTART', notice='OSError: no disk left')
        uris = [f'good={good.uri}', f'bad={bad.uri}']
        code, _, errors = run(loop, EXAMPLES / program, *uris)
        assert (code, errors.count('\n'), errors[:12]) == (1, 1, 'bad failed: ')
        assert 'OSError: no disk left' in errors
        heard = [message.event.name for message in good.received if message.event]
        assert heard == ['EXPINIT', 'EXPSTART', 'EXPINTERRUPT', 'EXPCLEANUP']
        code, said, errors = run(loop, EXAMPLES / program, *uris, f'ghost={absent}')
    assert (code, said, errors.count('\n')) == (1, [], 1)
    assert f'Nobody listens at ghost ({absent})' in errors


@on_each_loop
def test_rig_that_is_not_there(loop: str) -> None:
    """The main PC names the rig, ends the experiment for the others, and exits with an error."""
    ghost = f'udp://127.0.0.1:{free_port()}'
    with rig(loop, EXAMPLES / 'rig.py', 'camera', 'udp://127.0.0.1:0') as (camera, uri):
        code, said, errors = run(loop, EXAMPLES / 'main_pc.py', f'camera={uri}', f'ghost={ghost}')
        heard = finish(camera)
    assert code != 0
    assert said == []
    assert 'ghost failed: ' in errors
    assert 'camera failed: ' not in errors
    assert ghost in errors
    assert heard == (0, ['EXPINIT: INITIALIZED', 'EXPINTERRUPT: STOPPED', 'EXPCLEANUP: STOPPED'], '')


def readme_programs(rig_uri: str = 'udp://127.0.0.1:0') -> tuple[str, str]:
    """Return the rig and the main PC of the README, which has one address in each."""
    blocks = PYTHON_BLOCK.findall((ROOT / 'README.md').read_text('utf-8'))
    for_rig, for_main = (next(block for block in blocks if text in block) for text in ('rig.run(', 'asyncio.run('))
    listening, remote = 'udp://0.0.0.0:11001', 'udp://192.168.0.12:11001'
    assert for_rig.count(listening) == for_main.count(remote) == 1
    return for_rig.replace(listening, 'udp://127.0.0.1:0'), for_main.replace(remote, rig_uri)


@on_each_loop
def test_readme(loop: str) -> None:
    """The two programs of the README: the main PC prints the output in the comments, twice."""
    with Program(readme_programs()[0], loop=loop) as camera:
        for_main = readme_programs(camera.wait_for('listens on').split()[-1])[1]
        for _ in range(2):
            with Program(for_main, loop=loop) as main:
                assert main.wait() == 0
                assert main.lines == re.findall(r'print\(.*\)  # (.+)', for_main)
        assert [line for line in camera.lines if line.startswith(('recording', 'stopped'))] == [
            "recording 2026-01-31_1_mouse7 {'fps': 60}",
            'stopped',
        ] * 2


@pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')
@on_each_loop
def test_readme_main_pc_that_is_interrupted(loop: str) -> None:
    """Ctrl-C stops the rig."""
    with Program(readme_programs()[0], loop=loop) as camera:
        with Program(readme_programs(camera.wait_for('listens on').split()[-1])[1], loop=loop) as main:
            camera.wait_for('recording')
            main.send_signal(signal.SIGINT)
            camera.wait_for('stopped')
            assert main.wait() != 0
        camera.send_signal(signal.SIGINT)
        assert camera.wait() == 0


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_snippets(page: Path) -> None:
    """Every Python block compiles and uses only existing names of the package."""
    for block in PYTHON_BLOCK.findall(page.read_text('utf-8')):
        compile(block, page.name, 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == 'echorig':
                assert all(hasattr(echorig, alias.name) for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in dir(echorig):
                assert hasattr(getattr(echorig, node.value.id), node.attr)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_links(page: Path) -> None:
    """Every link to a file of the repository works."""
    text = re.sub(r'^```.*?^```$', '', page.read_text('utf-8'), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r'\]\(([^)#\s]+)[^)]*\)', text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    local = [target for target in targets if '://' not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_pages_are_read_on_the_code_host(page: Path) -> None:
    """A page has no roles of Sphinx, which the code host shows as they are, and no link without text."""
    text = re.sub(r'^```.*?^```$', '', page.read_text('utf-8'), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r'\{(?:doc|meth|class|ref|mod|func|attr|exc|sup)\}`', text) == []
    assert re.findall(r'\[\]\([^)]*\)', text) == []
