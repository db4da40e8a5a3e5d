"""Answers that name the message they answer, so that each call gets its own, whatever comes when."""

from __future__ import annotations

import asyncio
import itertools
import json
from unittest import mock

import pytest
import pytest_asyncio

import internals
from echorig import EchoProtocol, ExpMessage, RemoteCallbackError, Services, ServicesError, ServicesTimeoutError, Tuning
from echorig.communicator.answers import AnswerMatcher
from echorig.events._reply_context import OutgoingRequest, current_request, is_reply_to, outgoing_request
from echorig.testing import FakeRig
from echorig.wire._tags import read_reply_number
from eventually import eventually
from exchanges import A, exchange
from lab import REF, RawUdp
from tagging import identity, is_ping, read_tag, strip_tag


def test_a_message_that_has_no_room_for_both_has_one():
    ex = exchange(max_frame=300)
    for length, expected in ((100, 7), (108, 7), (109, -1), (172, -1)):
        frame = b'[' + b'1' * (length - 2) + b']'
        sent = ex.send_unconfirmed(frame, A, 1.0, reply_to=7)
        assert read_reply_number(sent) == expected
        assert len(sent) <= 300
        assert read_tag(sent) >= 0


# --- which messages are answers ---


async def asked(send, *args):
    """Send a message as a call does that waits for its answer; return the request."""
    request = OutgoingRequest()
    token = outgoing_request.set(request)
    try:
        await send(*args)
    finally:
        outgoing_request.reset(token)
    return request


@pytest.mark.parametrize('how', ['function', 'coroutine', 'task', 'on_event', 'stream', 'send', 'failure'])
async def test_what_a_rig_sends_back_names_what_it_answers(lab, transport, how):
    server, client = await lab.pair(transport)
    contexts: asyncio.Queue = asyncio.Queue()
    for event in (ExpMessage(0), ExpMessage.EXPSTART):
        client.assign_callback(event, lambda data, addr: contexts.put_nowait(current_request.get()))

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
    request = await asked(client.start, REF)
    other = await asked(client.init)
    assert request.is_confirmed
    assert request.message_id == identity(request.send.frame)
    assert request.message_id != other.message_id
    context = await asyncio.wait_for(contexts.get(), 10)
    assert context.receiver_id is client.receiver_id
    assert context.in_reply_to == request.message_id
    assert context.event == (0 if how == 'failure' else 2)
    current_request.set(context)
    assert [is_reply_to(*pair) for pair in ((client, request), (client, other), (server, request))] == [
        True,
        False,
        None,
    ]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_no_answer(lab):
    """Another event, another address, an answer to an answer, and what is sent out of the blue."""
    server, client = await lab.pair()
    other = await lab.client(server, 'other')
    seen: asyncio.Queue = asyncio.Queue()
    for com in (client, other):
        com.assign_callback(
            ExpMessage.any(), lambda data, addr, event: seen.put_nowait((event, current_request.get().in_reply_to))
        )
    others: asyncio.Queue = asyncio.Queue()
    server.assign_callback('EXPINIT', lambda data, addr: others.put_nowait(addr))
    await other.init()
    other_addr = await others.get()

    async def reply(data, addr):
        await server.confirmed_send([4, 'another event'], addr)
        await server.confirmed_send([2, 'another address'], other_addr)

    server.assign_callback('EXPSTART', reply)
    await client.start(REF)
    assert [await asyncio.wait_for(seen.get(), 10) for _ in range(2)] == [(4, -1), (2, -1)]
    await server.confirmed_send([8, 'out of the blue'], other_addr)
    assert await asyncio.wait_for(seen.get(), 10) == (8, -1)


async def test_a_message_may_have_several_answers(lab):
    """A task that was started by a message goes on sending, long after it has answered."""
    server, client = await lab.pair()
    seen: asyncio.Queue = asyncio.Queue()
    client.assign_callback('EXPSTATUS', lambda data, addr: seen.put_nowait(current_request.get().in_reply_to))
    tasks = []

    async def push(addr):
        for _ in range(3):
            await server.status('RUNNING', addr=addr)

    server.assign_callback('EXPSTATUS', lambda data, addr: tasks.append(asyncio.ensure_future(push(addr))))
    request = await asked(client.status, 'CONNECTED')
    assert [await asyncio.wait_for(seen.get(), 10) for _ in range(3)] == [request.message_id] * 3
    await asyncio.gather(*tasks)


async def test_a_slow_answer_is_not_late_only_because_much_was_sent_meanwhile(lab):
    server = await lab.server()
    go = asyncio.Event()

    async def slow(data, addr):
        await go.wait()
        await server.confirmed_send([2, *data], addr)

    server.assign_callback('EXPSTART', slow)
    client = await lab.client(server, 'rig')
    starting = asyncio.ensure_future(Services([client], timeout=60).start(REF))
    for _ in range(1100):
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
    answered: asyncio.Queue = asyncio.Queue()

    async def answer(data, addr):
        answered.put_nowait(current_request.get().in_reply_to)
        await server.confirmed_send([2, *data], addr)

    server.assign_callback('EXPSTART', answer)
    for _ in range(3):
        listening = asyncio.ensure_future(client.on_event('EXPSTART'))
        await asyncio.sleep(0)
        await client.start(REF)
        current_request.set(None)
        await listening
        assert await answered.get() == -1

    async def main():
        for _ in range(3):
            await client.start(REF)
            await client.on_event('EXPSTART')

    task = asyncio.ensure_future(main())
    assert [await asyncio.wait_for(answered.get(), 10) for _ in range(3)] == [-1] * 3
    await asyncio.wait_for(task, 10)


# --- what calls make of it ---


class Asked:
    """A server that keeps what it is asked; the test answers."""

    def __init__(self, server, event='EXPSTART'):
        self.server = server
        self.questions: list = []
        server.assign_callback(event, lambda data, addr, *_: self.questions.append((data, addr, current_request.get())))

    async def have(self, n):
        until = asyncio.get_running_loop().time() + 30
        while len(self.questions) < n:
            assert asyncio.get_running_loop().time() < until, f'{len(self.questions)} of {n} questions have come'
            await asyncio.sleep(0.001)

    def answer(self, i, *data, event=2):
        """Answer a question, without waiting for the echo; the answer is on its way in the order of the calls."""
        heard, addr, context = self.questions[i]
        current_request.set(context)
        self.server.send([event, *(data or heard)], addr)
        current_request.set(None)


async def start_all(rigs, asked, names_):
    """Begin a call after the other, of sets or of one; each has reached the rig before the next begins."""
    calls = []
    for n, name in enumerate(names_):
        calls.append(asyncio.ensure_future(rigs[n % len(rigs)].start(name)))
        await asked.have(n + 1)
    return calls


async def times_out(rigs, asked):
    """Let a call fail that has reached the rig; once more if this machine was too slow for that."""
    rigs.timeout = 0.2
    while not asked.questions:
        with pytest.raises(ServicesTimeoutError):
            await rigs.start('one')
        await asyncio.sleep(0.1)
    rigs.timeout = 30


def results(outcomes):
    return [outcome if isinstance(outcome, Exception) else outcome['rig'][0] for outcome in outcomes]


@pytest.mark.parametrize('order', [*itertools.permutations(range(3))])
@pytest.mark.parametrize('sets', [1, 3])
async def test_calls_at_the_same_time_get_their_own_answers(lab, transport, order, sets):
    asked = Asked(await lab.server(transport))
    client = await lab.client(asked.server, 'rig')
    rigs = [Services([client], timeout=30) for _ in range(sets)]
    calls = await start_all(rigs, asked, 'abc')
    for i in order:  # in one turn of the loop
        asked.answer(i)
    assert results(await asyncio.gather(*calls)) == ['a', 'b', 'c']
    assert not internals.pending_calls(client)
    assert AnswerMatcher.of(client) is AnswerMatcher.of(client)


async def test_a_second_answer_is_for_callbacks_and_streams(lab, transport):
    asked = Asked(await lab.server(transport))
    client = await lab.client(asked.server, 'rig')
    rigs = Services([client], timeout=30)
    heard = []
    client.assign_callback('EXPSTART', lambda data, addr: heard.append(data[0]))
    async with client.events('EXPSTART') as stream:
        first = asyncio.ensure_future(rigs.start('one'))
        await asked.have(1)
        asked.answer(0, 'first')
        assert await first == {'rig': ['first']}
        second, third = await start_all([rigs], Asked(asked.server), ['two', 'three'])
        await asked.have(3)
        for n in range(3):
            asked.answer(0, f'again {n}')
            asked.answer(1, 'second' if n == 0 else f'second again {n}')
        asked.answer(0, 'last')
        asked.answer(2, 'third')
        assert results(await asyncio.gather(second, third)) == ['second', 'third']
        expected = [
            'first',
            'again 0',
            'second',
            'again 1',
            'second again 1',
            'again 2',
            'second again 2',
            'last',
            'third',
        ]
        assert heard == expected
        assert [(await anext(stream))[0][0] for _ in expected] == expected


@pytest.mark.parametrize('tags', [True, False])
async def test_a_late_answer_is_not_taken_for_that_of_the_next_call(lab, transport, tags):
    """A rig that answers the first start only after the second has been confirmed; of a plain peer nobody can know."""
    asked = Asked(await lab.server(transport))
    client = await lab.client(asked.server, 'rig', tuning=Tuning(tags=tags))
    rigs = Services([client])
    await times_out(rigs, asked)
    second = asyncio.ensure_future(rigs.start('two'))
    await asked.have(2)
    await eventually(lambda: not client.awaiting_response(), 'not client.awaiting_response()')
    asked.answer(0)
    asked.answer(1)
    assert results([await second]) == ['two' if tags else 'one']


@pytest.mark.parametrize('kind', ['notice', 'interrupt', 'exception'])
async def test_a_late_failure_does_not_fail_the_next_call(lab, transport, kind):
    asked = Asked(await lab.server(transport))
    client = await lab.client(asked.server, 'rig')
    rigs = Services([client])
    await times_out(rigs, asked)
    second = asyncio.ensure_future(rigs.start('two'))
    await asked.have(2)
    if kind == 'interrupt':
        asked.answer(0, 'of the first', event=16)
    else:
        asked.answer(0, 'of the first', *([2] if kind == 'notice' else []), event=0)
    asked.answer(1)
    assert results([await second]) == ['two']


@pytest.mark.parametrize('event', [0, 16])
async def test_a_failure_is_that_of_one_call(lab, transport, event):
    asked = Asked(await lab.server(transport))
    client = await lab.client(asked.server, 'rig')
    rigs = Services([client], timeout=30)
    calls = await start_all([rigs], asked, 'abc')
    asked.answer(1, 'no disk', event=event)
    asked.answer(1)  # too late
    asked.answer(2)
    asked.answer(0)
    first, second, third = results(await asyncio.gather(*calls, return_exceptions=True))
    assert (first, third) == ('a', 'c')
    assert isinstance(second, ServicesError)
    assert isinstance(second.failures['rig'], RemoteCallbackError)
    assert 'no disk' in str(second)


async def test_an_interruption_and_a_call_at_the_same_time(lab, transport):
    """What answers the interruption does not fail the other."""
    asked = Asked(await lab.server(transport), ExpMessage.EXPSTART | ExpMessage.EXPINTERRUPT)
    client = await lab.client(asked.server, 'rig')
    rigs = Services([client], timeout=30)
    starting = asyncio.ensure_future(rigs.start('one'))
    await asked.have(1)
    stopping = asyncio.ensure_future(rigs.stop(immediately=True))
    await asked.have(2)
    asked.answer(1, 'stopped', event=16)
    assert await stopping == {'rig': ['stopped']}
    asked.answer(0)
    assert results([await starting]) == ['one']


async def test_await_all_hears_whatever_comes(lab, transport):
    """It asks nothing, and takes no answer away from the call that has asked."""
    asked = Asked(await lab.server(transport))
    client = await lab.client(asked.server, 'rig')
    rigs = Services([client], timeout=30)
    waiting = asyncio.ensure_future(rigs.await_all('EXPSTART'))
    starting = asyncio.ensure_future(rigs.start('one'))
    await asked.have(1)
    asked.answer(0)
    assert results(await asyncio.gather(waiting, starting)) == ['one', 'one']


async def test_tokens_are_those_that_were_asked_for(lab, transport):
    asked = Asked(await lab.server(transport), 'ALYX')
    client = await lab.client(asked.server, 'rig')
    client.response_timeout = 30.0
    calls = []
    for n in (1, 2):
        calls.append(asyncio.ensure_future(client.alyx()))
        await asked.have(n)
    for i in (1, 0, 1, 0):
        asked.answer(i, f'https://{i}.example', {}, event=128)
    assert [url for url, _ in await asyncio.gather(*calls)] == ['https://0.example', 'https://1.example']


# --- rigs without tags ---


class PlainRig:
    """A rig that echoes everything as it came, and says what the test tells it to."""

    def __init__(self, peer):
        self.peer = peer
        self.addr = None
        self.said = []

    async def hear(self):
        """Return the next message that is no echo of its own and no ping, before it is echoed."""
        while True:
            data, self.addr = await asyncio.wait_for(self.peer.heard.get(), 30)
            if is_ping(data):
                self.echo(data)
            elif strip_tag(data) not in self.said:
                return data
            else:
                self.said.remove(strip_tag(data))

    def echo(self, data):
        self.peer.say(data, self.addr)

    def say(self, *message):
        self.said.append(json.dumps(message).encode())
        self.peer.say(self.said[-1], self.addr)


@pytest_asyncio.fixture
async def plain(lab):
    peer = await RawUdp.open()
    yield PlainRig(peer)
    peer.close()


async def fails(rigs, plain, *, echoes=True):
    """Let a call that the rig has heard be given up."""
    for rig in rigs.values():
        rig.default_echo_timeout = 30.0
    call = asyncio.ensure_future(rigs.start('one'))
    question = await plain.hear()
    if echoes:
        plain.echo(question)
        await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize('echoes', [True, False])
async def test_before_the_echo_it_is_the_answer_to_an_earlier_call(lab, plain, echoes):
    """A rig that was busy confirms the second start only after it has answered the first."""
    client = await lab.client(plain.peer.uri, 'rig')
    rigs, others = Services([client]), Services([client], timeout=30)
    await fails(rigs, plain, echoes=echoes)
    heard = []
    client.assign_callback('EXPSTART', lambda data, addr: heard.append(data[0]))
    second = asyncio.ensure_future(others.start('two'))
    question = await plain.hear()
    plain.say(2, 'one')
    plain.echo(question)  # in the same turn of the loop
    plain.say(2, 'two')
    assert results([await second]) == ['two']
    assert heard == ['one', 'two']


@pytest.mark.parametrize('notice', [(0, 'failed', 2), (0, 'failed'), (16, 'failed')])
async def test_before_the_echo_it_is_the_failure_of_an_earlier_call(lab, plain, notice):
    client = await lab.client(plain.peer.uri, 'rig')
    rigs = Services([client], timeout=30)
    await fails(rigs, plain)
    second = asyncio.ensure_future(rigs.start('two'))
    question = await plain.hear()
    plain.say(*notice)
    plain.echo(question)
    plain.say(2, 'two')
    assert results([await second]) == ['two']
    third = asyncio.ensure_future(rigs.start('three'))
    question = await plain.hear()
    plain.echo(question)
    plain.say(*notice)
    with pytest.raises(ServicesError, match='failed'):
        await third


async def test_where_no_answer_is_owed_nothing_is_late(lab, plain):
    """Of another event, or paid meanwhile, or the call after it has been answered."""
    client = await lab.client(plain.peer.uri, 'rig')
    rigs = Services([client], timeout=30)
    for paid in ('by another event', 'meanwhile', 'by the next'):
        await fails(rigs, plain)
        if paid == 'meanwhile':  # nobody waits, so nobody knows; the next does
            second = asyncio.ensure_future(rigs.start('two'))
            question = await plain.hear()
            plain.say(2, 'one')
            plain.say(2, 'two')
        elif paid == 'by the next':
            first = asyncio.ensure_future(rigs.start('two'))
            plain.echo(await plain.hear())
            plain.say(2, 'two')
            assert results([await first]) == ['two']
            second = asyncio.ensure_future(rigs.start('three'))
            question = await plain.hear()
            plain.say(2, 'two')
        else:
            second = asyncio.ensure_future(rigs.init())
            question = await plain.hear()
            plain.say(1, 'two')
        await asyncio.sleep(0.05)
        plain.echo(question)
        assert results([await second]) == ['two']
        AnswerMatcher.of(client).clear_unanswered()


async def test_the_first_that_was_confirmed_gets_the_answer(lab, plain):
    client = await lab.client(plain.peer.uri, 'rig')
    rigs = Services([client], timeout=30)
    calls = [asyncio.ensure_future(rigs.start(name)) for name in 'ab']
    first = await plain.hear()
    plain.echo(first)
    second = await plain.hear()  # only now is it sent
    plain.say(2, 'for a')
    plain.echo(second)
    plain.say(2, 'for b')
    plain.say(2, 'for nobody')
    assert results(await asyncio.gather(*calls)) == ['for a', 'for b']


async def test_an_interruption_is_answered_by_an_interruption(lab, plain):
    client = await lab.client(plain.peer.uri, 'rig')
    rigs = Services([client], timeout=30)
    starting = asyncio.ensure_future(rigs.start('one'))
    plain.echo(await plain.hear())
    stopping = asyncio.ensure_future(rigs.stop(immediately=True))
    plain.echo(await plain.hear())
    plain.say(16, 'stopped')
    assert results([await stopping]) == ['stopped']
    plain.say(2, 'one')
    assert results([await starting]) == ['one']


async def test_a_rig_that_has_ended_owes_nothing(lab, plain):
    client = await lab.client(plain.peer.uri, 'rig')
    rigs = Services([client], timeout=30)
    await fails(rigs, plain)
    assert internals.owed_answers(client)
    starting = asyncio.ensure_future(rigs.start('two'))
    await plain.hear()
    client.close()
    with pytest.raises(ServicesError):
        await starting
    assert not internals.owed_answers(client)


async def test_two_calls_at_once_on_a_matlab_rig(lab):
    """An iblutil one closes itself when another message comes instead of its echo."""
    async with FakeRig(kind='matlab') as rig:
        client = await lab.client(rig.uri, 'rig')
        client.default_echo_timeout = 30.0
        calls = [Services([client], timeout=30).info('RUNNING', name) for name in 'ab']
        assert await asyncio.gather(*calls) == [{'rig': [20, 'a']}, {'rig': [20, 'b']}]


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['iblutil', 'matlab'])
async def test_a_rig_without_tags_that_is_busy_with_a_call_that_has_failed(lab, kind):
    async with FakeRig(kind=kind) as rig:
        client = await lab.client(rig.uri, 'rig')
        client.default_echo_timeout = 30.0
        heard = []
        client.assign_callback('EXPSTART', lambda data, addr: heard.append(data[0]))
        rigs = Services([client], timeout=30)
        await rigs.init()
        rig.script('EXPSTART', answer_delay=1.2, times=1)
        rigs.timeout = 0.6
        with pytest.raises(ServicesTimeoutError):
            await rigs.start('one')
        rigs.timeout = 30
        rig.script('EXPSTART', echo_delay=1.2)
        assert results([await rigs.start('two')]) == ['two']
        assert heard == ['one', 'two']


# --- rigs of other kinds ---


@pytest.mark.parametrize('concurrent', [True, False])
async def test_mocks_are_matched_by_their_event(concurrent):
    client = mock.AsyncMock(spec=EchoProtocol)
    client.name = 'rig'
    client.on_event.return_value = (['answer'], ('127.0.0.1', 1))
    rigs = Services([client], timeout=30)
    assert results(await asyncio.gather(*(rigs.start('x', concurrent=concurrent) for _ in range(3)))) == ['answer'] * 3

    async def nothing(event):
        await asyncio.sleep(60)

    client.on_event.side_effect = nothing
    rigs.timeout = 0.05
    with pytest.raises(ServicesTimeoutError):
        await rigs.start('x')
    client.on_event.side_effect = None
    assert results([await rigs.start('x')]) == ['answer']
    assert not internals.owed_answers(client)
    assert not internals.pending_calls(client)


def test_what_is_kept_of_a_rig_goes_with_it():
    class Slotted:
        __slots__ = ()

    class Ordinary:
        pass

    slotted, ordinary = Slotted(), Ordinary()
    assert isinstance(AnswerMatcher.of(slotted), AnswerMatcher)
    before = internals.n_rigs_with_answers()
    assert AnswerMatcher.of(ordinary) is AnswerMatcher.of(ordinary)
    assert internals.n_rigs_with_answers() == before + 1
    del ordinary
    assert internals.n_rigs_with_answers() == before
