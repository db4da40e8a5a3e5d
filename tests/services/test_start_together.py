"""`Services.start(at=)`: the callbacks of all rigs run at one moment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import internals
from echorig import ExpMessage, Rig, Services, StartAnswers
from echorig.communicator.scheduled import ScheduledMessages
from echorig.testing import FakeRig
from echorig.wall_clock import wall_time
from eventually import eventually
from lab import REF

RIG = Path(__file__).parents[1] / 'support' / 'clock_rig.py'
AT = 0.2  # seconds


@contextlib.contextmanager
def rig_process(offset: int, transport: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, str(RIG), str(offset), f'{transport}://127.0.0.1:0']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def ran_at(process: subprocess.Popen[str], event: str) -> int:
    name, when = process.stdout.readline().split()
    assert name == event
    return int(when)


@pytest.mark.blocks
async def test_callbacks_run_at_the_moment_on_the_clock_of_each_rig(transport):
    """Two rig processes, of which one is an hour ahead."""
    with rig_process(0, transport) as (right, first), rig_process(3600 * 10**9, transport) as (ahead, second):
        async with await Services.connect({'right': first, 'ahead': second}, timeout=30.0, wait=True) as rigs:
            before = wall_time()
            answers = await rigs.start(REF, {'fps': 60}, at=AT)
            assert answers == {'right': [REF, {'fps': 60}], 'ahead': [REF, {'fps': 60}]}
            assert isinstance(answers, StartAnswers)
            for name, process in (('right', right), ('ahead', ahead)):
                ran, told = ran_at(process, 'EXPSTART'), answers.times[name]
                # Not before the moment, which is after `before` + AT: the times of both ends have an error.
                assert ran > before + (AT - 2 * told.error) * 1e9
                assert told.time <= ran / 1e9 + told.error + 1e-5
                assert told.late >= -2 * told.error
            assert abs(rigs.clock()['ahead'].offset - 3600) <= rigs.clock()['ahead'].error + 1e-6
            assert sorted(await rigs.stop()) == ['ahead', 'right']
            assert (await rigs.start(REF)).times == {}


async def test_a_rig_program(transport):
    started: list[tuple[str, float]] = []
    rig = Rig('camera')

    @rig.on('EXPSTART')
    def start(exp_ref: str) -> dict[str, int]:
        started.append((exp_ref, time.time()))
        return {'frames': 0}

    rig.on('EXPEND')(lambda: None)
    async with await rig.open(f'{transport}://127.0.0.1:0'):
        async with await Services.connect({'camera': rig.server_uri}, timeout=30.0, wait=True) as rigs:
            async with rigs.experiment(REF, at=AT) as session:
                [(reference, at)] = started
                told = session.answers.times['camera']
                assert reference == REF
                assert told.time <= at + 2 * told.error + 1e-5


async def test_legacy_rigs_are_sent_the_message_at_the_moment(lab):
    async with FakeRig(kind='iblutil', name='old') as old:
        server = await lab.answering(name='new')
        async with await Services.connect({'old': old.uri, 'new': server.server_uri}, timeout=30.0) as rigs:
            ran: list[int] = []
            server.assign_callback('EXPSTART', lambda data, addr: ran.append(wall_time()))
            await rigs['old'].confirmed_send([1, None])
            before = wall_time()
            answers = await rigs.start(REF, at=AT)
            assert list(answers) == ['old', 'new']
            assert list(answers.times) == ['new']
            assert wall_time() - before >= AT * 1e9
            assert len(ran) == 1


async def test_a_rig_that_is_gone_fails_alone(lab):
    server = await lab.answering(name='here')
    async with await Services.connect({'here': server.server_uri, 'gone': 'udp://127.0.0.1:9'}, timeout=30.0) as rigs:
        with pytest.raises(Exception, match='1 of 2 rigs failed: gone') as caught:
            await rigs.start(REF, at=0.01)
        assert caught.value.responses == {'here': [REF, None]}


async def test_a_stop_does_not_overtake_its_start(lab, transport):
    server, calls = await lab.server(transport), []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: calls.append(event.name))
    async with await Services.connect({'rig': server.server_uri}, timeout=None, wait=True) as rigs:
        starting = asyncio.ensure_future(rigs.start(REF, at=1.0))
        await eventually(lambda: internals.pipeline(server).scheduled.waiting, 'the start waits')
        await rigs['rig'].confirmed_send([4, None], timeout=30.0)
        assert calls == []  # else this machine has stood still for a second
        await eventually(lambda: calls == ['EXPSTART', 'EXPEND'], 'both are delivered')
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting


async def test_arguments(lab):
    server = await lab.answering()
    async with await Services.connect({'rig': server.server_uri}) as rigs:
        for at, error in (
            (0, ValueError),
            (-1, ValueError),
            (6, ValueError),
            ('1', TypeError),
            (float('inf'), ValueError),
        ):
            with pytest.raises(error, match='at must be'):
                await rigs.start(REF, at=at)
            with pytest.raises(error, match='at must be'):
                rigs.experiment(REF, at=at)


@pytest.mark.blocks
async def test_a_clock_that_differs_is_warned_of(caplog):
    with rig_process(-(10**9), 'udp') as (_, uri):
        async with await Services.connect({'camera': uri}, timeout=30.0, wait=True) as rigs:
            await rigs['camera'].measure_clock(timeout=30.0)
            async with rigs.experiment(REF):
                pass
    assert 'The clock of camera is 1.0 s behind that of this computer' in caplog.text


# --- the messages that wait ---


class Scheduled:
    """Messages that wait, and those delivered: (frame, time of the callbacks)."""

    def __init__(self) -> None:
        self.delivered: list[tuple[bytes, int]] = []
        self.on_delivery: Callable[[], object] = lambda: None
        self.messages = ScheduledMessages(asyncio.get_running_loop(), self._deliver, logging.getLogger('test'))

    def _deliver(self, frame: bytes, addr: Any, message_id: int, in_reply_to: int, ran: int) -> None:
        self.delivered.append((frame, ran))
        self.on_delivery()


ONE, OTHER = ('10.0.0.1', 1), ('10.0.0.2', 1)


async def test_order_of_one_peer_is_kept():
    scheduled = Scheduled()
    moment = wall_time() + 10**9
    scheduled.messages.add(b'start', ONE, 1, -1, moment)
    scheduled.messages.add(b'stop', ONE, 2, -1, 0)
    scheduled.messages.add(b'again', ONE, 3, -1, moment + 10**8)
    scheduled.messages.add(b'other', OTHER, 1, -1, 0)
    assert scheduled.delivered == [(b'other', 0)]
    await eventually(lambda: len(scheduled.delivered) == 4, 'all are delivered')
    assert [frame for frame, _ in scheduled.delivered] == [b'other', b'start', b'stop', b'again']
    assert scheduled.delivered[1][1] >= moment
    assert scheduled.delivered[2][1] == 0
    assert scheduled.delivered[3][1] >= moment + 10**8
    assert scheduled.messages.waiting == {}


@pytest.mark.parametrize(('ahead', 'words'), [(-(10**9), 'after the time'), (10**12, 'too long, before the time')])
async def test_a_time_that_cannot_be_kept(caplog, ahead, words):
    scheduled = Scheduled()
    before = wall_time()
    scheduled.messages.add(b'start', ONE, 1, -1, before + ahead)
    [(_, ran)] = scheduled.delivered
    assert ran >= before
    assert words in caplog.text


async def test_an_answer_is_not_delayed():
    scheduled = Scheduled()
    scheduled.messages.add(b'answer', ONE, 1, 7, 5)
    assert scheduled.delivered == [(b'answer', 5)]


async def test_closing_drops_what_waits(caplog):
    scheduled = Scheduled()
    scheduled.messages.add(b'start', ONE, 1, -1, wall_time() + 10**9)
    scheduled.messages.close()
    assert scheduled.messages.waiting == {}
    assert '1 messages that waited' in caplog.text


async def test_a_callback_may_close_the_communicator(caplog):
    scheduled = Scheduled()
    scheduled.on_delivery = scheduled.messages.close
    moment = wall_time() + 10**8
    scheduled.messages.add(b'start', ONE, 1, -1, moment)
    scheduled.messages.add(b'stop', ONE, 2, -1, 0)
    await eventually(lambda: scheduled.delivered, 'the first is delivered')
    await asyncio.sleep(0)
    assert [frame for frame, _ in scheduled.delivered] == [b'start']
    assert '1 messages that waited' in caplog.text
    assert 'Exception in callback' not in caplog.text


async def test_an_answer_does_not_wait_behind_a_message():
    scheduled = Scheduled()
    scheduled.messages.add(b'start', ONE, 1, -1, wall_time() + 10**9)
    scheduled.messages.add(b'answer', ONE, 2, 7, 5)
    assert scheduled.delivered == [(b'answer', 5)]
    scheduled.messages.close()


async def test_the_loop_goes_on_between_moments(monkeypatch):
    scheduled, now, in_between = Scheduled(), [0.0], []
    monkeypatch.setattr('echorig.communicator.scheduled.monotonic', lambda: now[0])
    monkeypatch.setattr('echorig.communicator.scheduled.seconds_until', lambda when: when / 1e9 - now[0])
    monkeypatch.setattr('echorig.communicator.scheduled.block_for', lambda left: now.__setitem__(0, now[0] + left))
    loop = asyncio.get_running_loop()

    def on_delivery() -> None:
        loop.call_soon(lambda: in_between.append(len(scheduled.delivered)))
        if len(scheduled.delivered) == 1:
            for number in range(5):
                scheduled.messages.add(b'%d' % number, ONE, number, -1, (number + 2) * 10**6)

    scheduled.on_delivery = on_delivery
    scheduled.messages.add(b'first', ONE, 0, -1, 10**6)
    assert len(scheduled.delivered) == 1
    await eventually(lambda: len(scheduled.delivered) == 6, 'all are delivered')
    assert in_between[:5] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize('step', [-3600 * 10**9, -3 * 10**9, 3600 * 10**9])
async def test_a_clock_that_is_set_does_not_move_the_moment(monkeypatch, step):
    scheduled, started = Scheduled(), monotonic()
    scheduled.messages.add(b'start', ONE, 1, -1, wall_time() + 3 * 10**8)
    monkeypatch.setattr('echorig.wall_clock.wall_time', lambda: time.time_ns() + step)
    await eventually(lambda: scheduled.delivered, 'it is delivered', within=2.5)
    assert monotonic() - started >= 0.3


async def test_what_waits_is_bounded(caplog):
    scheduled = Scheduled()
    scheduled.messages.add(b'start', OTHER, 1, -1, wall_time() + 9 * 10**9)
    scheduled.messages.add(b'start', ONE, 1, -1, wall_time() + 9 * 10**9)
    sent = 1
    while not scheduled.delivered and sent < 1000:
        sent += 1
        scheduled.messages.add(b'x' * 100_000, ONE, sent, -1, 0)
    assert 100 < sent < 200
    assert [len(frame) for frame, _ in scheduled.delivered] == [5] + [100_000] * (sent - 1)
    assert list(scheduled.messages.waiting) == [OTHER]
    assert 'Too many messages wait for their time: the callbacks for those of 10.0.0.1:1 run at once' in caplog.text
    scheduled.messages.close()


async def test_the_time_out_of_the_answers_starts_at_the_moment(lab):
    server = await lab.answering()
    async with await Services.connect({'rig': server.server_uri}, wait=True) as rigs:
        rigs.timeout = 0.9
        answers = await rigs.start(REF, at=1.0)
    assert answers == {'rig': [REF, None]}


async def test_an_interrupt_drops_the_start_that_waits(caplog):
    scheduled = Scheduled()
    scheduled.messages.add(b'[2, "ref", null]', ONE, 1, -1, wall_time() + 9 * 10**9)
    scheduled.messages.add(b'[4, null]', ONE, 2, -1, 0)
    scheduled.messages.add(b'[2, "other", null]', OTHER, 1, -1, wall_time() + 9 * 10**9)
    scheduled.messages.add(b'[32, 0]', ONE, 3, -1, 0)
    scheduled.messages.add(b'[16, null]', ONE, 4, -1, 0)
    assert [frame for frame, _ in scheduled.delivered] == [b'[32, 0]', b'[4, null]', b'[16, null]']
    assert list(scheduled.messages.waiting) == [OTHER]
    assert 'its callbacks do not run' in caplog.text
    scheduled.messages.close()
