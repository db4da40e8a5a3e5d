"""The examples in docstrings, which the API page shows, run: those that `doctest` has to skip, and literal blocks.

`tests/project/test_exports.py` runs the others with `doctest`. It skips those that need a rig, or never end.
"""

from __future__ import annotations

import doctest
import re
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import echorig
from doc_blocks import all_blocks, select
from doc_program import IMPORTS, run_steps, step
from echorig import sync
from echorig.testing import FakeRig
from lab import free_port
from programs import Program
from rooms import new_room

LISTENS, REMOTE, REFERENCE = "'udp://0.0.0.0:11001'", 'udp://192.168.0.12', '2026-01-31_1_mouse7'
BASE, SERVICES, SEARCH = 'echorig.communicator.base.', 'echorig.services.services.', 'echorig.discovery.search.'
RIG, CONNECT = 'echorig.rig.rig.Rig', f'{SERVICES}Services.connect'

SERVER = """
com = await EchoProtocol.server('udp://127.0.0.1:0', 'camera')
main_pc = await EchoProtocol.client(com.server_uri, 'camera')
"""
RIGS = """
camera = await FakeRig().__aenter__()
rigs = await Services.connect({'camera': camera.uri})
"""
ROOMS = """
import echorig
from echorig.discovery import browse
names = {'camera', 'ephys'}
servers = [await EchoProtocol.server('udp://127.0.0.1:0', name, announce={'group': 'room-2'}) for name in names]
async with browse('room-2') as changes:  # until both are announced
    async for change in changes:
        if names <= {rig.name for rig in changes.rigs}:
            break
"""
START = f"await main_pc.start('{REFERENCE}')\n"
# Before, during and after the example; `until` for one without an end.
EXAMPLES = {
    f'{BASE}Communicator.events': (SERVER, START, '', 'EXPSTART'),
    f'{BASE}Communicator.on_event': (SERVER, f'{START}await main_pc.stop()', 'assert event is ExpMessage.EXPEND', ''),
    f'{SERVICES}Services.experiment': (RIGS, '', "await camera.wait_for('EXPCLEANUP')", ''),
    f'{SERVICES}Services.watch': (RIGS, '', "await camera.wait_for('EXPSTART')", ''),
    f'{SEARCH}browse': (ROOMS, '', '', 'ephys udp://127.0.0.1'),
    f'{SEARCH}discover': (ROOMS, '', 'assert rig.name in names', ''),
    f'{SERVICES}Services.discover': (ROOMS, '', 'assert set(await rigs.ping()) == names', ''),
}


def skipped() -> dict[str, str]:
    """Return the code of each docstring of which `doctest` skips a part."""
    found = {}
    for info in walk_packages(echorig.__path__, 'echorig.'):
        if info.name.endswith('__main__') or '._' in info.name:
            continue
        module = import_module(info.name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, info.name):
            if any(example.options.get(doctest.SKIP) for example in test.examples):
                found[test.name] = ''.join(example.source for example in test.examples)
    return found


def literal_blocks(text: str) -> list[str]:
    """Return the blocks behind `::` in a docstring."""
    return [textwrap.dedent(block) for block in re.findall(r'::\n\n((?:    .*\n|\n)+)', text)]


def test_examples_that_doctest_skips() -> None:
    assert set(skipped()) == {RIG, CONNECT, *EXAMPLES}


def test_rig_of_the_docstring() -> None:
    uri = f'udp://127.0.0.1:{free_port()}'
    code = skipped()[RIG]
    assert LISTENS in code
    with Program('from echorig import Rig\n' + code.replace(LISTENS, repr(uri))) as rig:
        with sync.Services.connect({'camera': uri}, wait=True, timeout=60) as rigs:
            assert rigs.start(REFERENCE) == {'camera': [REFERENCE, None]}
            rigs.stop()
        assert [line for line in rig.lines if line.startswith(('recording', 'stopped'))] == [
            f'recording {REFERENCE}',
            'stopped',
        ]


def test_connect_of_the_docstring(tmp_path: Path) -> None:
    with FakeRig() as camera:
        (tmp_path / 'remote_devices.yaml').write_text(f'camera: {camera.uri}\n', 'utf-8')
        code = skipped()[CONNECT]
        assert REMOTE in code
        run_steps([step('imports', IMPORTS), step(CONNECT, code.replace(REMOTE, camera.uri))], tmp_path)
        assert camera.wait_for('EXPINIT').data == [None]


def mark(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.slow) if EXAMPLES[name][0] is ROOMS else name


@pytest.mark.parametrize('name', [*map(mark, EXAMPLES)])
def test_asynchronous_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, during, after, until = EXAMPLES[name]
    if before is ROOMS:
        pytest.importorskip('zeroconf')
        monkeypatch.setenv('ECHORIG_DISCOVERY_INTERFACES', '127.0.0.1')
    room = repr(new_room())
    example = skipped()[name].replace('3600', '0.1').replace("'room-2'", room)
    before = IMPORTS + before.replace("'room-2'", room)
    run_steps([step('before', before), step(name, example, 1, during, until), step('after', after)], tmp_path)


def test_literal_blocks_of_docstrings(tmp_path: Path) -> None:
    [block] = literal_blocks(sync.__doc__ or '')
    with FakeRig() as camera:
        (tmp_path / 'remote_devices.yaml').write_text(f'camera: {camera.uri}\n', 'utf-8')
        with Program('', command=[sys.executable, '-c', block], folder=tmp_path) as main:
            assert main.wait() == 0, main.output
        assert camera.wait_for('EXPSTART').event
    [tree] = literal_blocks(echorig.errors.__doc__ or '')
    [page] = select(all_blocks(), 'text', 'docs/errors.md')  # which another test compares with the classes
    drawn = [re.match(r'[│├└─ ]*[\w(). ,]+?(?=  |$)', line) for line in tree.splitlines() if line.strip()]
    assert [match[0] for match in drawn if match] == page.text.splitlines()
