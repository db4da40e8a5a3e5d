"""Every command of the documentation runs as it stands there, and prints what the page shows.

Only addresses are replaced, in the commands and back again in their output. Measured figures differ each time; so do
parts that a page leaves out with `...`. A command runs to its end, or, if it has none, until the end of its page.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from doc_blocks import DOCS, all_blocks, select, unprompted
from doc_terminal import STAYS, Terminal, compare, without_figures
from echorig import __version__, sync
from lab import free_port
from programs import Program

pytest.importorskip('yaml')
pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')

ELSEWHERE = {'docs/journal.md', 'docs/doctor.md', 'docs/nats.md'}  # see test_all_blocks.py
PROGRAMS = {'docs/main_pc.md', 'docs/task_code.md'}  # fast tests run the same programs, see test_docs_examples.py
MEASURES = re.compile(r'echorig (ping|status|bench|doctor)')
BLOCKS = all_blocks()
PAGES = sorted({block.page for block in select(BLOCKS, 'console')} - ELSEWHERE)
RIGS_FILE = 'remote_devices.yaml'
REFERENCE = '2026-01-31_1_mouse7'
NOTHING: Callable[..., None] = lambda *_: None  # noqa: E731


@dataclass
class Scene:
    """What the commands of a page take for granted."""

    before: Callable[[Terminal], object] = NOTHING
    """callable: Starts the rigs, and sets the addresses that are replaced."""
    between: Callable[[Terminal, str], object] = NOTHING
    """callable: Called with each command before it runs."""
    during: Callable[[Terminal, str], object] = NOTHING
    """callable: Called after the start of a command that runs until Ctrl-C."""
    has_figures: bool = False
    """bool: Whether figures are measured, and lines of several rigs arrive in any order."""


def port_of(terminal: Terminal, *written: str) -> str:
    """Choose the real address for those of the page, the longest first; return it."""
    scheme = written[0].partition('://')[0]
    uri = f'{scheme}://127.0.0.1:{free_port()}'
    terminal.addresses += [(one, uri) for one in written]
    return uri


def tutorial(terminal: Terminal) -> None:
    port_of(terminal, 'udp://127.0.0.1:11001')
    port = terminal.addresses[0][1].rpartition(':')[2]
    terminal.addresses += [('port 11001', f'port {port}')]


def end_rig(terminal: Terminal, command: str) -> None:
    """The tutorial asks for Ctrl-C in the first terminal before the doctor is called."""
    if 'doctor' in command:
        check(terminal.interrupt())


def two_rigs(terminal: Terminal) -> None:
    """Start the rigs that `main_pc.py` and `task_code.py` use."""
    for name, written in (('camera', 'udp://192.168.0.12'), ('ephys', 'tcp://192.168.0.13')):
        start_rig(terminal, name, port_of(terminal, f'{written}:11001', written))


def start_rig(terminal: Terminal, name: str, uri: str) -> None:
    command = [sys.executable, str(DOCS / 'examples' / 'rig.py'), name, uri]
    terminal.add(Program('', command=command)).wait_for('listens on')


def without_camera(terminal: Terminal, command: str) -> None:
    """Both rigs end after a session; before the second command only ephys is switched on again."""
    if terminal.commands.count(command) == 1:
        start_rig(terminal, 'ephys', terminal.real('tcp://192.168.0.13'))


def listening_rig(terminal: Terminal) -> None:
    terminal.addresses += [('udp://0.0.0.0:11001', f'udp://127.0.0.1:{free_port()}')]


def lab_of_the_command_line(terminal: Terminal) -> None:
    """Two rigs, of which one fails at the start, and a third that is switched off."""
    listening_rig(terminal)
    uris = {
        'camera': port_of(terminal, 'udp://127.0.0.1:21001'),
        'ephys': port_of(terminal, 'tcp://127.0.0.1:21002'),
        'imaging': port_of(terminal, 'udp://127.0.0.1:21003'),
    }
    listen = [sys.executable, '-m', 'echorig', 'listen']
    for name, more in (('camera', ['--answer']), ('ephys', ['--fail', 'EXPSTART'])):
        rig = Program('', command=[*listen, uris[name], '--name', name, *more])
        terminal.add(rig).wait_for('listens on')
    text = ''.join(f'{name}: {uri}\n' for name, uri in uris.items())
    (terminal.folder / RIGS_FILE).write_text(text, 'utf-8')


def send_a_session(terminal: Terminal, command: str) -> None:
    if ' listen ' in command:
        uri = terminal.real('udp://0.0.0.0:11001')
        with sync.Services.connect({'camera': uri}, wait=True, timeout=60) as rigs:
            for call in (rigs.init, lambda: rigs.start(REFERENCE), rigs.stop):
                assert list(call()) == ['camera']


def readme(terminal: Terminal) -> None:
    uri = port_of(terminal, 'udp://192.168.0.12:11001')
    rig = Program('', command=[sys.executable, '-m', 'echorig', 'listen', uri, '--name', 'camera'])
    terminal.add(rig).wait_for('listens on')
    (terminal.folder / RIGS_FILE).write_text(f'camera: {uri}\n', 'utf-8')


IBLUTIL_PROGRAM = """
import argparse
from iblutil.io import net

parser = argparse.ArgumentParser()
parser.add_argument('--subject')
print('session of', parser.parse_args().subject, 'with', net.app.EchoProtocol.__module__)
"""


def program_for_iblutil(terminal: Terminal) -> None:
    (terminal.folder / 'main_pc.py').write_text(IBLUTIL_PROGRAM, 'utf-8')
    terminal.addresses += [('echorig 0.1.0', f'echorig {__version__}')]


SCENES = {
    'README.md': Scene(readme),
    'docs/command_line.md': Scene(lab_of_the_command_line, during=send_a_session, has_figures=True),
    'docs/main_pc.md': Scene(two_rigs, without_camera),
    'docs/moving.md': Scene(program_for_iblutil, has_figures=True),
    'docs/quickstart.md': Scene(tutorial, end_rig),
    'docs/rig.md': Scene(listening_rig),
    'docs/task_code.md': Scene(two_rigs),
}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in a folder with the files of the documentation."""
    shutil.copytree(DOCS / 'examples', tmp_path / 'docs' / 'examples')
    for name in ('main_pc.py', 'task_code.py', 'lab/rig.py'):  # rig.md shows the rig of the lab
        shutil.copy(DOCS / 'examples' / name, tmp_path)
    with Terminal(tmp_path) as terminal:
        yield terminal


def check(ended: list[tuple[str, list[str], list[str]]]) -> None:
    """Check the programs that were ended by Ctrl-C."""
    for command, expected, printed in ended:
        assert printed, f'{command} prints nothing'
        if expected:
            end = [line for line in printed if line != '']
            assert compare([*expected, *(['...'] if expected[-1] != '...' else [])], end) == '', command


def differences(command: str, expected: list[str], printed: list[str], has_figures: bool) -> str:
    """Return what differs between the output of a command and the page, or an empty text."""
    if ('Traceback' in ''.join(printed)) != ('Traceback' in ''.join(expected)):
        return '\n'.join(['a traceback was printed, or is missing:', *printed])
    if has_figures and '...' not in expected:
        expected, printed = (sorted(map(without_figures, lines)) for lines in (expected, printed))
    elif has_figures or 'ping' in command or 'Nobody listens' in ''.join(expected):
        return compare(expected, printed, without_figures)
    return compare(expected, printed)


def run_and_check(terminal: Terminal, command: str, expected: list[str], has_figures: bool) -> None:
    """Run a command that ends. One that measures may run again: on a stalled computer a ping can take too long."""
    for _ in range(3 if MEASURES.search(command) else 1):
        printed = terminal.run(command)
        if terminal.status not in ((0, 1) if expected else (0,)):
            found = '\n'.join([f'its exit status is {terminal.status}', *printed])
        else:
            found = differences(command, expected, printed, has_figures) if expected else ''
        if not found:
            return
    assert not found, f'{command}: {found}'


@pytest.mark.parametrize('page', [pytest.param(p, marks=pytest.mark.slow) if p in PROGRAMS else p for p in PAGES])
def test_console_blocks_of_a_page(page: str, terminal: Terminal) -> None:
    scene = SCENES[page]
    scene.before(terminal)
    for block in BLOCKS:
        if block.page != page or block.why_not:
            continue
        if block.language == 'yaml':
            (terminal.folder / RIGS_FILE).write_text(terminal.real(block.text), 'utf-8')
        for command, expected in unprompted(block) if block.language == 'console' else []:
            scene.between(terminal, command)
            terminal.commands.append(command)
            if STAYS.search(command):
                terminal.start(command, expected).wait_for('camera')
                scene.during(terminal, command)
                continue
            run_and_check(terminal, command, expected, scene.has_figures)
    check(terminal.interrupt())


def test_comparison_with_a_page() -> None:
    assert compare(['a ... c', '...', 'd'], ['a b c', 'x', 'y', 'd']) == ''
    assert compare(['a ... c', '...', 'd'], ['a c', 'd']) != ''
    assert compare(['a'], ['a', 'b']) != ''
    assert compare(['...', 'a'], ['a']) == ''
    assert compare([], []) == ''
    assert without_figures('camera: 1  2.35 ms  echorig, clock -1 ms ± 1.17 ms') == 'camera: # # echorig, clock # ± #'
    assert without_figures('  0.02 - 0.03  #### 800') == '# - # # #'
    assert without_figures('EXPSTART [2, "2026-01-31_1_mouse7", null]') == 'EXPSTART [2, "2026-01-31_1_mouse7", null]'
