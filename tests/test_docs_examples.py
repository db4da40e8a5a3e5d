"""The programs in the documentation run, as they stand there, as processes of their own.

Only addresses are put in: a rig is asked for a port that is free, and the main PC is told where the rig listens.
"""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import echorig
from rigs import free_port

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / 'docs' / 'examples'
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
PYTHON_BLOCK = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LONGEST = 60.0  # seconds

on_each_loop = pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])


def start(loop: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start Python; sockets that are left open show on stderr."""
    return subprocess.Popen(
        [sys.executable, '-u', '-W', 'always::ResourceWarning', *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'ECHORIG_LOOP': loop, 'PYTHONUTF8': '1'},
    )


@contextmanager
def rig(loop: str, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a rig and wait until it says where it listens."""
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


@on_each_loop
def test_rig_that_is_not_there(loop: str) -> None:
    """The main PC names it, ends the experiment for the others, and exits with an error."""
    ghost = f'udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}'
    with rig(loop, EXAMPLES / 'rig.py', 'camera', 'udp://127.0.0.1:0') as (camera, uri):
        code, said, errors = run(loop, EXAMPLES / 'main_pc.py', f'camera={uri}', f'ghost={ghost}')
        heard = finish(camera)
    assert code != 0
    assert said == []
    assert 'ghost failed: ' in errors
    assert 'camera failed: ' not in errors
    assert ghost in errors
    assert heard == (0, ['EXPINIT: INITIALIZED', 'EXPINTERRUPT: STOPPED', 'EXPCLEANUP: STOPPED'], '')


@on_each_loop
def test_readme(loop: str, tmp_path: Path) -> None:
    """The two programs of the README; what the main PC prints is what the comments there say."""
    blocks = PYTHON_BLOCK.findall((ROOT / 'README.md').read_text('utf-8'))
    for_rig, for_main = (block for block in blocks if 'asyncio.run(' in block)
    listening, remote = 'udp://0.0.0.0:11001', 'udp://192.168.0.12:11001'
    assert for_rig.count(listening) == for_main.count(remote) == 1
    (tmp_path / 'rig.py').write_text(for_rig.replace(listening, 'udp://127.0.0.1:0'), 'utf-8')
    with rig(loop, tmp_path / 'rig.py') as (camera, uri):
        (tmp_path / 'main_pc.py').write_text(for_main.replace(remote, uri), 'utf-8')
        code, said, errors = run(loop, tmp_path / 'main_pc.py')
        rig_code, heard, rig_errors = finish(camera)
    assert (code, errors) == (0, '')
    assert said == re.findall(r'print\(.*\)  # (.+)', for_main)
    assert (rig_code, rig_errors) == (0, '')
    assert [line.split()[0] for line in heard] == ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP']


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_snippets(page: Path) -> None:
    """Every piece of Python is Python, and names only what the package has."""
    for block in PYTHON_BLOCK.findall(page.read_text('utf-8')):
        compile(block, page.name, 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == 'echorig':
                assert all(hasattr(echorig, alias.name) for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in dir(echorig):
                assert hasattr(getattr(echorig, node.value.id), node.attr)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_links(page: Path) -> None:
    """What a page links to in the repository is there."""
    text = re.sub(r'^```.*?^```$', '', page.read_text('utf-8'), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r'\]\(([^)#\s]+)[^)]*\)', text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    local = [target for target in targets if '://' not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []
