"""What the demo shows of rigs that are late: a message that was confirmed has not failed."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

pytest.importorskip('rich')
from rich.console import Console

from echorig import EchoProtocol, ExpMessage
from echorig.demo import results
from echorig.demo.rig_process import RigProcess
from echorig.demo.session import EVENTS, Session
from echorig.demo.view import report
from lab import RawUdp


class LateRig(RigProcess):
    """A rig in this process, which confirms everything and answers all but `mute`."""

    def __init__(self, mute: ExpMessage, unconfirmed: int = 0) -> None:
        super().__init__('rig', 'udp')
        self.mute, self.unconfirmed = mute, unconfirmed
        self.server: EchoProtocol

    async def open(self) -> None:
        self.server = await EchoProtocol.server('udp://127.0.0.1:0', 'rig')

        async def answer(data: list[Any], addr: tuple[str, int], event: ExpMessage) -> None:
            if event not in (self.mute, ExpMessage.ALYX):
                extra = {'received_ns': 0}
                await self.server.confirmed_send([event, *([data[0], extra] if event == 2 else data)], addr)

        self.server.assign_callback(ExpMessage.any(), answer)
        await self.connect(self.server.server_uri)

    async def close(self) -> dict[str, Any]:
        for com in (self.com, self.server):
            com.close()
            await com.wait_closed()
        return {'received': dict.fromkeys(EVENTS, 1), 'unconfirmed': self.unconfirmed}


def shown(session: Session) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(report(session, console))
    text = console.file.getvalue()
    plain = results.report(session, '#')
    for fact in results.facts(session):  # both show the same
        assert fact.text in text
        assert fact.text in plain
    return text


@pytest.mark.parametrize('mute', [ExpMessage.EXPINIT, ExpMessage.EXPSTART, ExpMessage.EXPCLEANUP])
async def test_an_answer_that_is_late_is_no_failure(mute):
    session = Session([LateRig(mute)], 1)
    session.answer_timeout = 0.5
    await asyncio.wait_for(session.run(), 60)
    assert (session.failures, session.succeeded) == ({}, True)
    assert 'FAILED' not in shown(session)
    assert '7 of 7 confirmed; each rig received each of them once' in shown(session)
    assert '1 messages were confirmed, but not answered within 0.5 s' in shown(session)
    assert 'too busy' in shown(session)


async def test_an_unconfirmed_answer_is_no_failure():
    session = Session([LateRig(ExpMessage.ALYX, unconfirmed=2)], 1)
    await asyncio.wait_for(session.run(), 60)
    assert session.succeeded
    assert 'FAILED' not in shown(session)
    assert 'too busy' in shown(session)


async def test_a_quick_demo_is_not_called_busy():
    session = Session([LateRig(ExpMessage.ALYX)], 1)
    await asyncio.wait_for(session.run(), 60)
    for rig in session.rigs:  # the times of this computer are unknown
        rig.round_trips, rig.retransmitted = [0.001] * 7, 0
    assert session.busy == ''
    assert 'too busy' not in shown(session)
    session.rigs[0].retransmitted = 1
    assert 'sent again' in session.busy


async def test_a_message_that_is_not_confirmed_has_failed():
    peer = await RawUdp.open()
    rig = LateRig(ExpMessage.ALYX)
    session = Session([rig], 1)
    session.answer_timeout = 0.5

    async def open_silent() -> None:
        await LateRig.open(rig)
        rig.com.close()
        await rig.com.wait_closed()
        await rig.connect(peer.uri)
        rig.com.default_echo_timeout = 0.3

    rig.open = open_silent
    await asyncio.wait_for(session.run(), 60)
    assert not session.succeeded
    assert 'FAILED' in shown(session)
    assert 'did not echo' in session.failures['rig']
    peer.close()
