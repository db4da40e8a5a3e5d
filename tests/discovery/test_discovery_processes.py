"""Rigs in processes of their own: an experiment with them, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import pytest

from echorig import Services, discover
from echorig.discovery import browse
from eventually import eventually
from programs import Program
from rooms import LONG, LOOPBACK, new_room

pytest.importorskip('zeroconf')

RIG = """
import sys
from echorig import Rig

name, room = sys.argv[1:]
rig = Rig(name, announce={'group': room})

@rig.on('EXPSTART')
def start(exp_ref):
    return name

@rig.on('EXPEND')
def stop():
    pass

print('runs')
rig.run('udp://127.0.0.1:0')
"""

# It closes nothing: the end of `asyncio.run` cancels what is left.
CARELESS = """
import asyncio, sys, warnings
from echorig import EchoProtocol
from echorig.discovery import browse

async def main():
    com = await EchoProtocol.server('udp://127.0.0.1:0', 'camera', announce={'group': sys.argv[1]})
    async with browse(sys.argv[1], ['127.0.0.1']) as changes:
        await changes.__anext__()
    await asyncio.sleep(3)

warnings.simplefilter('error')
asyncio.run(main())
print('ended')
"""


@pytest.mark.blocks
@pytest.mark.slow
async def test_two_rigs():
    room = new_room()
    with Program(RIG, 'camera', room) as camera, Program(RIG, 'ephys', room) as ephys:
        async with await Services.discover(['ephys', 'camera'], room, LONG, interfaces=LOOPBACK) as rigs:
            async with rigs.experiment('2026-01-31_1_mouse') as session:
                assert {name: answer[-1] for name, answer in session.answers.items()} == {
                    'ephys': 'ephys',
                    'camera': 'camera',
                }
        async with browse(room, LOOPBACK) as changes:
            await eventually(lambda: len(changes.rigs) == 2, 'both are found', LONG)
            camera.send_signal(signal.SIGTERM)
            if sys.platform != 'win32':
                await eventually(lambda: [rig.name for rig in changes.rigs] == ['ephys'], 'one has ended', LONG)
            ephys.process.kill()
            await asyncio.to_thread(ephys.wait)
            await asyncio.sleep(2.0)
            assert 'ephys' in [rig.name for rig in changes.rigs]  # nobody has said that it is gone
        assert await discover(room, 2.0, LOOPBACK) == []  # nobody answers for it


@pytest.mark.blocks
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_program_that_closes_nothing():
    """It is withdrawn. Seldom python-zeroconf sends a delayed answer after that: then another program is tried."""
    is_withdrawn = False
    for _ in range(3):
        room = new_room()
        async with browse(room, LOOPBACK) as changes:
            with Program(CARELESS, room) as program:
                await eventually(lambda: changes.rigs, 'it is announced', LONG)
                await asyncio.to_thread(program.wait_for, 'ended')
                with contextlib.suppress(AssertionError):
                    await eventually(lambda: not changes.rigs, 'it is withdrawn', LONG / 2)
                    is_withdrawn = True
                assert await asyncio.to_thread(program.wait) == 0
            assert '5353' not in program.output, 'sockets of multicast DNS are left open'
        if is_withdrawn:
            return
    pytest.fail('none of three programs was withdrawn')
