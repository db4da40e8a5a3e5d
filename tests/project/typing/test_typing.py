"""Type checkers detect typical mistakes in programs, and accept the programs of the documentation."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import echorig

ROOT = Path(__file__).parents[3]
MISTAKES = Path(__file__).with_name('mistakes.py')
EXAMPLES = sorted((ROOT / 'docs' / 'examples').glob('*.py'))
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
PYTHON_BLOCK = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PACKAGE = Path(echorig.__file__).parents[1]
LONGEST = 110.0  # seconds

pytestmark = pytest.mark.slow

Found = dict[tuple[Path, int], str]  # the error in each line
Checker = Callable[..., Found]


def run(command: list[str], **variables: str) -> str:
    """Run a checker, and return its output; it ends with 1 if it has found errors."""
    process = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=LONGEST
    )
    assert process.returncode in (0, 1), process.stdout + process.stderr
    return process.stdout


def mypy(*files: Path, options: tuple[str, ...] = ()) -> Found:
    pytest.importorskip('mypy', reason='mypy is not installed')
    variables = {} if PACKAGE.name == 'site-packages' else {'MYPYPATH': str(PACKAGE)}
    said = run([sys.executable, '-m', 'mypy', '--strict', *options, *map(str, files)], **variables)
    lines = re.findall(r'^(.+?):(\d+): error: (.+)$', said, re.MULTILINE)
    assert lines or 'Success' in said, said
    return {((ROOT / path).resolve(), int(number)): text for path, number, text in lines}


def pyright(*files: Path, options: tuple[str, ...] = ()) -> Found:
    command = [sys.executable, '-m', 'pyright'] if importlib.util.find_spec('pyright') else [shutil.which('pyright')]
    if command[0] is None:
        pytest.skip('pyright is not installed: python -m pip install "pyright[nodejs]"')
    try:  # it needs Node.js, which the extra brings
        run([*command, '--version'], PYRIGHT_PYTHON_IGNORE_WARNINGS='1')
    except (AssertionError, subprocess.TimeoutExpired) as ex:
        pytest.skip(f'pyright cannot run here: {ex}')
    arguments = ['--outputjson', '--pythonpath', sys.executable, *map(str, files)]
    said = run([*command, *arguments], PYRIGHT_PYTHON_IGNORE_WARNINGS='1')
    report = json.loads(said)
    assert report['summary']['filesAnalyzed'] == len(files), said
    return {
        (Path(found['file']).resolve(), found['range']['start']['line'] + 1): found['message']
        for found in report['generalDiagnostics']
        if found['severity'] == 'error'
    }


@pytest.fixture(params=[mypy, pyright], ids=['mypy', 'pyright'])
def checker(request: pytest.FixtureRequest) -> Checker:
    return request.param


def test_mistakes(checker: Checker) -> None:
    """Each line with a mistake has an error, in asynchronous and in blocking programs, and no other line has one."""
    lines = MISTAKES.read_text('utf-8').splitlines()
    marked = {number: int(mark[1]) for number, line in enumerate(lines, 1) if (mark := re.search(r'# (\d+)\b', line))}
    assert set(marked.values()) == set(range(1, 11))
    found = {number: text for (path, number), text in checker(MISTAKES).items() if path == MISTAKES}
    assert set(found) == set(marked), '\n'.join(f'{number}: {text}' for number, text in found.items())


def is_program(code: str) -> bool:
    """Return whether a block is a whole program: it imports echorig, and nothing is awaited outside of a function."""
    try:
        compile(code, 'block', 'exec')
    except SyntaxError:
        return False
    return re.search(r'^(from|import) echorig\b', code, re.MULTILINE) is not None


def programs(folder: Path) -> list[Path]:
    """Write the programs in the pages of the documentation to files, and return these and the example files."""
    found = []
    for page in PAGES:
        for number, code in enumerate(PYTHON_BLOCK.findall(page.read_text('utf-8')), 1):
            if is_program(code):
                found.append(folder / f'{page.stem}_{number}.py')
                found[-1].write_text(code, 'utf-8')
    return [*found, *EXAMPLES]


def test_documented_programs(checker: Checker, tmp_path: Path) -> None:
    """The programs have no errors; as they are short, their functions need no annotations."""
    files = programs(tmp_path)
    names = {file.name for file in files}
    assert {'README_1.py', 'rig.py', 'main_pc.py', 'task_code.py'} <= names
    untyped = ('--allow-untyped-defs', '--allow-incomplete-defs', '--allow-untyped-calls')
    found = checker(*files, options=untyped)
    assert not found, '\n'.join(f'{path.name}:{number}: {text}' for (path, number), text in found.items())


ACCEPTED = """\
import asyncio
import datetime
from typing import Any

from echorig import ConnectionEvent, EchoProtocol, ExpMessage, ExpStatus, Services, Tuning, sync


def plain(data: list[Any], addr: tuple[str, int]) -> None: ...
async def with_event(data: list[Any], addr: tuple[str, int], event: ExpMessage) -> None: ...
def with_rig(data: list[Any], addr: tuple[str, int], rig: EchoProtocol) -> bool: return True
def with_blocking_rig(data: list[Any], addr: tuple[str, int], rig: sync.EchoProtocol) -> None: ...
def changed(event: ConnectionEvent) -> None: ...


async def use(com: EchoProtocol, rigs: Services, event: ExpMessage, client: Any) -> None:
    com.assign_callback('expstart', plain)
    com.assign_callback(ExpMessage.EXPEND, plain)
    com.assign_callback(ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT, with_event)
    com.assign_callback(0, lambda data, addr: print(data))
    com.assign_callback(event, asyncio.get_running_loop().create_future())
    com.assign_connection_callback(changed)
    rigs.assign_callback('EXPINFO', with_rig, return_service=True)
    data, addr = await com.on_event('EXPSTART')
    data, addr, event = await com.on_event(ExpMessage.any())
    await com.start(data[0], {'folder': '/data'}, addr=addr)
    await com.start({'date': datetime.date.today(), 'sequence': 1, 'subject': 'mouse7'})
    await com.status('running')
    await com.info(ExpStatus.RUNNING, [1, 2])
    await com.alyx(client)
    await com.confirmed_send([event, 1], addr=('::1', 11001, 0, 3), timeout=2)
    answers: dict[str, list[Any]] = await rigs.stop(immediately=True, concurrent=False)
    times: dict[str, float | Exception] = await rigs.ping()
    names: list[str] = [rig.name for rig in rigs.values()]
    print(answers, times, names, rigs['camera'].is_connected)
    server = await EchoProtocol.server(
        '10.0.0.1', 'rig', allow=['10.0.0.0/8', 'pc'], tuning=Tuning(max_peers=8), key=b'0' * 16, backlog=8
    )
    async with server.events() as stream:
        async for data, addr, event in stream:
            print(event.name)
    await Services.connect({'camera': '10.0.0.1'}, key={'camera': 'secret' * 5}, reconnect=False)


def use_blocking(com: sync.EchoProtocol, rigs: sync.Services) -> None:
    com.assign_callback('EXPSTART', plain)
    com.assign_callback(ExpMessage.any(), with_event)
    rigs.assign_callback('EXPINFO', with_blocking_rig, return_service=True)
    data, addr = com.on_event('EXPSTART', timeout=2)
    first: list[Any] = rigs.init()['camera']
    future = com.submit.on_event('EXPEND')
    print(data, addr, first, future.result()[0], rigs.submit.start('2026-01-31_1_mouse7').result()['camera'])
"""


def test_correct_programs(checker: Checker, tmp_path: Path) -> None:
    """What the documentation allows is accepted."""
    file = tmp_path / 'accepted.py'
    file.write_text(ACCEPTED, 'utf-8')
    assert checker(file) == {}
