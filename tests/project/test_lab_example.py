"""The complete lab of docs/examples/lab: a session, a killed rig, Ctrl-C, and an exception in a rig."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from programs import Program

pytest.importorskip('yaml')
pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')

LAB = Path(__file__).parents[2] / 'docs' / 'examples' / 'lab'
PROGRAMS = ['main_pc.py', 'task.py']


def text(name: str) -> str:
    return (LAB / name).read_text('utf-8')


@pytest.fixture
def rigs():
    with (
        Program(text('rig.py'), 'camera', 'udp://127.0.0.1:0') as camera,
        Program(text('rig.py'), 'ephys', 'tcp://127.0.0.1:0') as ephys,
    ):
        yield {'camera': camera, 'ephys': ephys}


@pytest.fixture
def file(rigs, tmp_path):
    path = tmp_path / 'remote_devices.yaml'
    lines = [f'{name}: {rig.wait_for("listens on").split()[-1]}' for name, rig in rigs.items()]
    path.write_text('\n'.join(lines), 'utf-8')
    return str(path)


@pytest.mark.parametrize('program', PROGRAMS)
def test_a_session(rigs, file, program):
    with Program(text(program), file, '2') as main:
        assert main.wait() == 0
        assert main.lines[-1] == 'done'
        assert "'camera': ['2026-01-31_" in main.wait_for('running')
        assert ('warming up' in main.output) == (program == 'main_pc.py')
    for rig in rigs.values():
        steps = [line.split()[0] for line in rig.lines if line.split()[0] in ('start', 'trial', 'stop', 'cleanup')]
        assert steps == ['start', *['trial'] * 2 * (program == 'task.py'), 'stop', 'cleanup']


@pytest.mark.parametrize(('killed', 'other'), [('ephys', 'camera'), ('camera', 'ephys')])
@pytest.mark.parametrize('program', PROGRAMS)
def test_a_rig_that_is_killed(rigs, file, program, killed, other):
    with Program(text(program), file, '3600') as main:
        main.wait_for('running')
        rigs[killed].send_signal(signal.SIGKILL)
        rigs[other].wait_for('stop')
        rigs[other].wait_for('cleanup')
        assert main.wait() == 1
        assert killed in main.wait_for('failed: ')


@pytest.mark.parametrize('program', PROGRAMS)
def test_ctrl_c_on_the_main_pc(rigs, file, program):
    with Program(text(program), file, '3600') as main:
        main.wait_for('running')
        main.send_signal(signal.SIGINT)
        for rig in rigs.values():
            rig.wait_for('stop')
            rig.wait_for('cleanup')
        assert main.wait() == 1
        assert main.lines[-1] == 'interrupted: every rig was sent EXPINTERRUPT and EXPCLEANUP'
        assert 'Traceback' not in main.output


@pytest.mark.parametrize('program', PROGRAMS)
def test_an_exception_in_a_rig(rigs, file, program):
    with Program(text(program), file, '3600', 'camera') as main:
        assert main.wait() == 1
        assert 'camera failed on EXPINIT: RuntimeError: the shutter does not open' in main.output
        assert 'ephys: ' not in main.wait_for('failed: ')
    for rig in rigs.values():
        rig.wait_for('cleanup')
        assert 'start' not in [line.split()[0] for line in rig.lines]
