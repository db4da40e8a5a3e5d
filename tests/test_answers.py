"""Answers that say which message they answer, so that a late one is not taken for the answer to a later call."""

from __future__ import annotations

import asyncio
import json
import math
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echorig import ExpMessage, Services, ServicesTimeoutError, Tuning
from echorig._codec import encode
from echorig._exchange import DELIVER, Exchange
from echorig._origin import current
from echorig._tags import read_answered
from echorig.tuning import DEFAULT_TUNING
from rigs import REF
from tagging import acknowledged, read_tag, tag, tag_answer, untagged

NUMBERS = st.integers(0, 2**31 - 1)
A = ('127.0.0.1', 1)


# --- the second tag ---


@given(st.lists(st.none() | st.integers() | st.text(), min_size=1), NUMBERS, NUMBERS)
def test_the_tag_of_an_answer(message, number, answered):
    frame = tag_answer(encode(message), number, answered)
    assert (read_tag(frame), read_answered(frame)) == (number, answered)
    assert read_answered(acknowledged(frame)) == answered
    assert json.loads(frame) == json.loads(encode(message))
    assert untagged(frame) == encode(message)
    assert read_answered(tag(encode(message), number)) == -1


@given(st.binary(max_size=120))
def test_reading_never_fails(frame):
    assert -1 <= read_answered(frame) < 2**31


def test_the_exchange_knows_when_the_question_was_sent():
    asker, asked = (Exchange(DEFAULT_TUNING, False, 65535, number) for number in (10, 2**31 - 1))
    question = asker.send(b'[2]', A, None, 5.0, 1.0).frame
    assert asked.receive(question, A, 5.1) == DELIVER
    answer = asked.send(b'[2]', A, None, 6.0, 1.0, answered=read_tag(question)).frame
    assert read_answered(answer) == 10
    assert asker.receive(answer, A, 6.1) == DELIVER
    assert asker.asked_at(A, answer) == 5.0
    assert asker.asked_at(A, tag(b'[2]', 5)) is None
    assert math.isnan(asker.asked_at(A, tag_answer(b'[2]', 5, 99)))
    assert asker.asked_at(('127.0.0.1', 2), answer) is None
    assert read_answered(asked.sent(b'[0, "x", 2]', A, 7.0, answered=10)) == 10


def test_a_message_that_has_no_room_for_both_has_one():
    exchange = Exchange(DEFAULT_TUNING, False, 65535, 1, max_frame=100)
    for length, expected in ((30, 7), (36, 7), (37, -1), (68, -1)):
        frame = b'[' + b'1' * (length - 2) + b']'
        sent = exchange.sent(frame, A, 1.0, answered=7)
        assert read_answered(sent) == expected
        assert len(sent) <= 100
        assert read_tag(sent) >= 0


# --- which messages are answers ---


@pytest.mark.parametrize('how', ['function', 'coroutine', 'task', 'on_event', 'stream', 'send', 'failure'])
async def test_what_a_rig_sends_back_is_known_as_the_answer(lab, transport, how):
    server, client = await lab.pair(transport)
    origins: asyncio.Queue = asyncio.Queue()
    for event in (ExpMessage(0), ExpMessage.EXPSTART):
        client.assign_callback(event, lambda data, addr: origins.put_nowait(current.get()))

    async def answer(data, addr):
        await asyncio.sleep(0.01)
        await server.confirmed_send([2, *data], addr)

    def at_once(data, addr):
        if how == 'task':
            tasks.append(asyncio.ensure_future(answer(data, addr)))
        elif how == 'failure':
            raise ValueError('no disk')
        else:
            server.send([2, *data], addr)

    async def program():
        if how == 'on_event':
            await answer(*await server.on_event('EXPSTART'))
        async with server.events('EXPSTART') as stream:
            entered.set()
            async for data, addr, _ in stream:
                await answer(data, addr)

    tasks, entered = [], asyncio.Event()
    if how in ('on_event', 'stream'):
        tasks.append(asyncio.ensure_future(program()))
        if how == 'stream':
            await entered.wait()
        else:
            await asyncio.sleep(0)
    else:
        server.assign_callback('EXPSTART', answer if how == 'coroutine' else at_once)
    before = monotonic()
    await client.start(REF)
    after = monotonic()
    origin = await asyncio.wait_for(origins.get(), 10)
    assert origin.receiver is client._identity
    assert origin.asked is not None
    assert before <= origin.asked <= after
    assert origin.event == (0 if how == 'failure' else 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_no_answer(lab):
    """Another event, another address, an answer to an answer, and what is sent out of the blue."""
    server, client = await lab.pair()
    other = await lab.client(server, 'other')
    seen: asyncio.Queue = asyncio.Queue()
    for com in (client, other):
        com.assign_callback(ExpMessage.any(), lambda data, addr, event: seen.put_nowait((event, current.get().asked)))
    others: asyncio.Queue = asyncio.Queue()
    server.assign_callback('EXPINIT', lambda data, addr: others.put_nowait(addr))
    await other.init()
    other_addr = await others.get()

    async def reply(data, addr):
        await server.confirmed_send([4, 'another event'], addr)
        await server.confirmed_send([2, 'another address'], other_addr)

    server.assign_callback('EXPSTART', reply)
    await client.start(REF)
    assert [await asyncio.wait_for(seen.get(), 10) for _ in range(2)] == [(4, None), (2, None)]
    await server.confirmed_send([8, 'out of the blue'], other_addr)
    assert await asyncio.wait_for(seen.get(), 10) == (8, None)


async def test_there_is_one_answer_to_a_message(lab):
    """A task that was started by a message goes on sending, long after it has answered."""
    server, client = await lab.pair()
    seen: asyncio.Queue = asyncio.Queue()
    client.assign_callback('EXPSTATUS', lambda data, addr: seen.put_nowait(current.get().asked))
    tasks = []

    async def push(addr):
        for _ in range(3):
            await server.status('RUNNING', addr=addr)

    server.assign_callback('EXPSTATUS', lambda data, addr: tasks.append(asyncio.ensure_future(push(addr))))
    await client.status('CONNECTED')
    asked = [await asyncio.wait_for(seen.get(), 10) for _ in range(3)]
    assert asked[0] is not None
    assert asked[1:] == [None, None]
    await asyncio.gather(*tasks)


async def test_a_slow_answer_is_not_late_only_because_much_was_sent_meanwhile(lab):
    server = await lab.server()
    go = asyncio.Event()

    async def slow(data, addr):
        await go.wait()
        await server.confirmed_send([2, *data], addr)

    server.assign_callback('EXPSTART', slow)
    client = await lab.client(server, 'rig')
    starting = asyncio.ensure_future(Services([client], timeout=20).start(REF))
    for _ in range(70):
        await client.info('RUNNING')
    go.set()
    assert await starting == {'rig': [REF, None]}


async def test_an_open_stream_changes_nothing_for_others(lab, transport):
    server, client = await lab.pair(transport)

    async def answer(data, addr):
        await server.confirmed_send([2, *data], addr)

    server.assign_callback('EXPSTART', answer)
    async with client.events() as stream:
        for n in range(50):
            rigs = Services([client], timeout=10)
            assert await rigs.start(str(n)) == {'client': [str(n), None]}
        assert len(stream) == 50


async def test_an_answer_is_not_answered(lab):
    """A main PC that starts a rig again, on hearing its answer, asks anew."""
    server, client = await lab.pair()
    asked: asyncio.Queue = asyncio.Queue()

    async def answer(data, addr):
        asked.put_nowait(current.get().asked)
        await server.confirmed_send([2, *data], addr)

    server.assign_callback('EXPSTART', answer)
    for _ in range(3):
        listening = asyncio.ensure_future(client.on_event('EXPSTART'))
        await asyncio.sleep(0)
        await client.start(REF)
        current.set(None)
        await listening
        assert await asked.get() is None

    async def main():
        for _ in range(3):
            await client.start(REF)
            await client.on_event('EXPSTART')

    task = asyncio.ensure_future(main())
    assert [await asyncio.wait_for(asked.get(), 10) for _ in range(3)] == [None] * 3
    await asyncio.wait_for(task, 10)


# --- what Services make of it ---


@pytest.mark.parametrize('tags', [True, False])
async def test_a_late_answer_is_not_taken_for_that_of_the_next_call(lab, transport, tags):
    """A rig that answers the first start only after the second; of a plain peer nobody can know."""
    server = await lab.server(transport)
    questions: list = []
    server.assign_callback('EXPSTART', lambda data, addr: questions.append((data, addr, current.get())))
    client = await lab.client(server, 'rig', tuning=Tuning(tags=tags))
    rigs = Services([client], timeout=0.2)
    with pytest.raises(ServicesTimeoutError):
        await rigs.start('2024-01-01_1_mouse')
    rigs.timeout = 10
    second = asyncio.ensure_future(rigs.start('2024-01-01_2_mouse'))
    while len(questions) < 2:
        await asyncio.sleep(0.001)
    for data, addr, origin in questions:  # the late one comes first
        current.set(origin)
        await server.confirmed_send([2, *data], addr)
    assert (await second)['rig'][0] == ('2024-01-01_2_mouse' if tags else '2024-01-01_1_mouse')


async def test_a_late_failure_does_not_fail_the_next_call(lab, transport):
    server = await lab.server(transport)
    first, late = asyncio.Event(), asyncio.Event()

    async def start(data, addr):
        if not first.is_set():
            first.set()
            await late.wait()
            raise ValueError('of the first call')
        late.set()
        await failed.wait()
        await server.confirmed_send([2, *data], addr)

    server.assign_callback('EXPSTART', start)
    client = await lab.client(server, 'rig')
    failed = asyncio.Event()
    client.assign_callback(0, lambda data, addr: failed.set())
    rigs = Services([client], timeout=0.2)
    with pytest.raises(ServicesTimeoutError):
        await rigs.start('2024-01-01_1_mouse')
    rigs.timeout = 10
    assert await rigs.start('2024-01-01_2_mouse') == {'rig': ['2024-01-01_2_mouse', None]}


async def test_concurrent_calls_get_their_own_answers_where_that_can_be_told(lab):
    """The answer to the first call comes when both wait: it is late for the second."""
    server = await lab.server()
    questions: list = []
    server.assign_callback('EXPSTART', lambda data, addr: questions.append((data, addr, current.get())))
    rigs = Services([await lab.client(server, 'rig')], timeout=10)
    calls = []
    for n in (1, 2):
        calls.append(asyncio.ensure_future(rigs.start(f'2024-01-01_{n}_mouse')))
        while len(questions) < n:
            await asyncio.sleep(0.001)
    for data, addr, origin in questions:
        current.set(origin)
        await server.confirmed_send([2, *data], addr)
    assert [(await call)['rig'][0] for call in calls] == ['2024-01-01_1_mouse', '2024-01-01_2_mouse']
