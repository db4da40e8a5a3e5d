"""Rigs and main PCs as programs: signals end a session well on both sides."""

from __future__ import annotations

import signal
import sys

import pytest

from programs import Program

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='needs the signals of POSIX')

RIG = """
import sys
from echorig import Rig
rig = Rig(sys.argv[1])

@rig.on('EXPINIT')
def init():
    print('init')

@rig.on('EXPSTART')
def start(exp_ref, data):
    print('start', exp_ref)
    if data == f'fail {rig.name}':
        raise RuntimeError('no light')

@rig.on('EXPEND')
def stop():
    print('stopped')

@rig.on('EXPCLEANUP')
def cleanup():
    print('clean')

@rig.on_lost
def lost():
    print('main PC lost')

rig.run(sys.argv[2])
print('ended', rig.status.name)
"""
MAIN = {
    'async': """
import asyncio, sys
from echorig import Services

async def main():
    uris = dict(pair.split('=') for pair in sys.argv[2:])
    async with await Services.connect(uris, wait=True, timeout=60) as rigs:
        async with rigs.experiment('2026-01-31_1_mouse7', data=sys.argv[1]) as session:
            print('running')
            await session.sleep(3600)

asyncio.run(main())
""",
    'blocking': """
import sys
from echorig import sync

uris = dict(pair.split('=') for pair in sys.argv[2:])
with sync.Services.connect(uris, wait=True, timeout=60) as rigs:
    with rigs.experiment('2026-01-31_1_mouse7', data=sys.argv[1]) as session:
        print('running')
        session.sleep(3600)
""",
}


@pytest.fixture(params=['udp', 'tcp'])
def rigs(request):
    with (
        Program(RIG, 'camera', f'{request.param}://127.0.0.1:0') as camera,
        Program(RIG, 'ephys', f'{request.param}://127.0.0.1:0', loop='asyncio') as ephys,
    ):
        yield {'camera': camera, 'ephys': ephys}


def uris(rigs: dict[str, Program]) -> list[str]:
    return [f'{name}={rig.wait_for("listens on").rpartition(" ")[2]}' for name, rig in rigs.items()]


@pytest.fixture(params=MAIN)
def main(request, rigs):
    with Program(MAIN[request.param], '-', *uris(rigs)) as main:
        main.wait_for('running')
        yield main


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_main_pc_interrupts_all_rigs(rigs, main, number):
    main.send_signal(number)
    for rig in rigs.values():
        rig.wait_for('stopped')
        rig.wait_for('clean')
    status = main.wait()
    assert status in {signal.SIGINT: (-2, 130, 1), signal.SIGTERM: (143,)}[number]
    for rig in rigs.values():
        rig.send_signal(signal.SIGINT)
        assert rig.wait() == 0
        assert rig.lines[-1] == 'ended CONNECTED'
        assert 'Traceback' not in rig.output


def test_a_main_pc_that_is_killed_is_noticed(rigs, main):
    main.send_signal(signal.SIGKILL)
    for rig in rigs.values():
        rig.wait_for('main PC lost')
        assert 'stopped' not in rig.output  # it goes on


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_rig_stops_its_work_and_ends_the_experiment(rigs, main, number):
    rigs['camera'].send_signal(number)
    rigs['camera'].wait_for('stopped')
    assert rigs['camera'].wait() == 0
    main.wait_for('camera interrupted the experiment: camera has ended its program')
    rigs['ephys'].wait_for('clean')
    assert main.wait() == 1
    assert 'RigLostError: Rigs lost in 2026-01-31_1_mouse7: camera' in main.output
    assert rigs['ephys'].lines.count('stopped') == 1


def test_a_rig_that_is_killed_ends_the_experiment(rigs, main):
    rigs['camera'].send_signal(signal.SIGKILL)
    main.wait_for('camera went offline')
    rigs['ephys'].wait_for('clean')
    assert main.wait() == 1
    assert 'RigLostError' in main.output


@pytest.mark.parametrize('kind', MAIN)
def test_an_exception_in_a_rig(rigs, kind):
    with Program(MAIN[kind], 'fail camera', *uris(rigs)) as main:
        assert main.wait() == 1
        assert 'camera failed on EXPSTART: RuntimeError: no light' in main.output
        assert "raise RuntimeError('no light')" in main.output or 'in start' in main.output
        assert 'running' not in main.output
    for rig in rigs.values():
        rig.wait_for('clean')
    assert 'RuntimeError: no light' in rigs['camera'].output


def test_a_rig_that_is_killed_and_restarted_is_noticed(rigs, main):
    camera = rigs['camera']
    uri = camera.wait_for('listens on').rpartition(' ')[2]
    camera.send_signal(signal.SIGKILL)
    camera.wait()
    with Program(RIG, 'camera', uri):
        main.wait_for('RigLostError')
    assert main.wait() == 1


BLOCKING_RIG = """
import sys, time
from echorig import Rig
rig = Rig('camera')

@rig.on('EXPSTART')
async def start(exp_ref):
    time.sleep(4)  # blocks the loop: no ping is echoed meanwhile

@rig.on('EXPEND')
def stop():
    print('stopped')

rig.run(sys.argv[1])
"""


@pytest.mark.parametrize('kind', MAIN)
def test_a_rig_that_was_only_blocked_while_it_started_is_not_lost(kind):
    with Program(BLOCKING_RIG, 'udp://127.0.0.1:0') as camera:
        uri = camera.wait_for('listens on').rpartition(' ')[2]
        with Program(MAIN[kind].replace('3600', '1'), '-', f'camera={uri}') as main:
            main.wait_for('running')
            assert main.wait() == 0
            assert 'offline' not in main.output
        camera.wait_for('stopped')
