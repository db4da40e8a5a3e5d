"""Messages that lay in a socket for longer than their sender waits: on a stream, a rig asks the sender.

The loop of the rig stands still in a blocking call, while a program with tags, made of a socket, sends to it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from echorig import EchoProtocol, Services
from echorig.wire import _tags
from echorig.wire._framing import FrameSplitter
from tagging import RUN, is_ping, tag

LONG = 0.8  # seconds; less would not be noticed
LIFE = 300  # milliseconds
PATIENCE = 5.0  # seconds; only a failure waits that long

pytestmark = pytest.mark.blocks


class Main:
    """A program with tags, and all that a rig has sent to it."""

    def __init__(self, server: EchoProtocol) -> None:
        self.sock = socket.create_connection((server.hostname, server.port))
        self.sock.setblocking(False)
        self._splitter = FrameSplitter(1 << 20)
        self._frames: list[bytes] = []

    def say(self, number: int, lifetime: int = LIFE) -> None:
        self.sock.sendall(tag(b'[2, %d]' % number, number, lifetime=lifetime))

    def answer(self, question: bytes, wanted: bool = True) -> None:
        """Answer a question of the rig: say which message is wanted, or none."""
        _, run, number, _ = _tags.read_tag(question) or pytest.fail('no tag')
        asked = _tags.read_reply_number(question) & 0xFFFFFFFF
        self.sock.sendall(_tags.set_ack(_tags.make_ping(run, number, RUN << 32 | asked if wanted else RUN << 32)))

    async def hear(self) -> bytes:
        """Return the next frame."""
        loop = asyncio.get_running_loop()
        while not self._frames:
            data = await asyncio.wait_for(loop.sock_recv(self.sock, 65536), PATIENCE)
            assert data, 'the rig has closed the connection'
            self._frames += self._splitter.feed(data)
        return self._frames.pop(0)

    async def question(self) -> bytes:
        """Return the next question; anything else is none."""
        frame = await self.hear()
        assert is_ping(frame), frame
        assert _tags.read_reply_number(frame) >> 32 == RUN, frame
        return frame


@pytest_asyncio.fixture
async def rig(lab) -> EchoProtocol:
    return await lab.server('tcp')


@pytest_asyncio.fixture
async def main(rig) -> AsyncIterator[Main]:
    main = Main(rig)
    with main.sock:
        main.say(1)
        await main.hear()
        yield main


@pytest_asyncio.fixture
async def received(rig) -> list[int]:
    received: list[int] = []
    rig.assign_callback('EXPSTART', lambda data, addr: received.append(data[0]))
    return received


async def test_what_is_wanted_is_delivered_in_its_order(main, received):
    main.say(2)
    main.say(3)
    main.say(4, lifetime=0)  # nobody waits for it, but it must not overtake
    time.sleep(LONG)
    questions = [await main.question(), await main.question()]
    assert received == []
    for question in questions:
        main.answer(question)
        await asyncio.sleep(0.02)  # each in a segment of its own
    for _ in range(3):
        await main.hear()
    assert received == [2, 3, 4]


async def test_the_other_answer_first(main, received):
    main.say(2)
    main.say(3)
    time.sleep(LONG)
    first, second = await main.question(), await main.question()
    main.answer(second)
    await asyncio.sleep(0.02)
    assert received == []
    main.answer(first, wanted=False)
    await main.hear()
    assert received == [3]


async def test_many_at_once(main, received):
    count = 1500
    for number in range(2, 2 + count):
        main.say(number, lifetime=LIFE if number == 2 else 0)
    time.sleep(LONG)
    main.answer(await main.question())
    for _ in range(count):
        await main.hear()
    assert received == list(range(2, 2 + count))


async def test_an_answer_that_is_old_itself_does_not_count(main, received):
    main.say(2)
    time.sleep(LONG)
    main.answer(await main.question())
    time.sleep(LONG)  # by now its sender may have given up
    question = await main.question()
    assert received == []
    main.answer(question, wanted=False)
    main.say(3, lifetime=0)
    await main.hear()
    assert received == [3]


@pytest.mark.slow
async def test_a_callback_that_blocks_while_the_next_is_wanted(rig, main):
    received = []

    def block(data: list[Any], addr: Any) -> None:
        received.append(data[0])
        time.sleep(LONG)

    rig.assign_callback('EXPSTART', block)
    main.say(2)
    main.say(3)
    time.sleep(LONG)
    for question in [await main.question(), await main.question()]:
        main.answer(question)
    assert _tags.read_tag(await main.hear())[2] == 2
    main.answer(await main.question(), wanted=False)
    main.say(4, lifetime=0)
    assert _tags.read_tag(await main.hear())[2] == 4
    assert received == [2, 4]


@pytest.mark.slow
async def test_what_waits_behind_others_grows_old(main, received):
    main.say(2)
    main.say(3, lifetime=int(LONG * 3000))  # still wanted when it is read, and not when it has waited
    time.sleep(LONG)
    first = await main.question()
    await asyncio.sleep(LONG * 3)
    main.answer(first, wanted=False)
    main.answer(await main.question(), wanted=False)
    main.say(4, lifetime=0)
    await main.hear()
    assert received == [4]


async def test_the_first_connection_of_a_rig_that_stood_still(rig, received):
    main = Main(rig)  # the system accepts it; the rig does not know yet
    with main.sock:
        main.say(1)
        time.sleep(LONG)
        main.answer(await main.question(), wanted=False)
        main.say(2, lifetime=0)
        await main.hear()
    assert received == [2]


async def test_an_answer_to_a_call_that_waits_is_wanted(lab, transport):
    """Its sender has given up by then, but the one who asked has not."""
    rig = await lab.server(transport)
    answered = asyncio.Event()

    async def answer(data: list[Any], addr: Any) -> None:
        await rig.ping(addr)  # else a rig that has just begun finds out first whom it answers
        sending = asyncio.ensure_future(rig.confirmed_send([2, *data], addr, timeout=0.1))
        await asyncio.sleep(0)
        answered.set()
        await asyncio.wait({sending})
        sending.exception()

    rig.assign_callback('EXPSTART', answer)
    rigs = Services([await lab.client(rig, 'rig')], timeout=PATIENCE)
    call = asyncio.ensure_future(rigs.start('ref'))
    await answered.wait()
    time.sleep(LONG)
    assert await call == {'rig': ['ref', None]}
