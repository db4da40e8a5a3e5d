"""`Backlog`: what is kept for a loop around `on_event`, what is refused, and what may be dropped."""

from __future__ import annotations

import asyncio
import logging

import pytest

import internals
from echorig import EchoTimeoutError, ExpMessage, Tuning
from echorig.events._message import received_message
from echorig.events.backlog import Backlog
from echorig.tuning import InternalTuning
from eventually import eventually
from lab import REF


@pytest.mark.parametrize('tags', [True, False])
async def test_no_message_is_confirmed_and_lost_however_slow_the_loop(lab, transport, tags):
    """What there is no room for is confirmed when there is, to senders of both kinds."""
    server = await lab.server(transport, tuning=Tuning(max_backlog=4))
    client = await lab.client(server, tuning=Tuning(tags=tags))
    client.default_echo_timeout = server.default_echo_timeout = 60.0
    got, room = [], asyncio.Semaphore(0)

    async def listen():
        while True:
            data, _ = await server.on_event('EXPINFO')
            got.append(data[0])
            await room.acquire()

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    sends = [asyncio.ensure_future(client.confirmed_send([64, i])) for i in range(8)]
    await asyncio.wait(sends[:5])
    assert got == [0]
    await eventually(lambda: internals.backlog(server).refused, 'internals.backlog(server).refused')
    assert [send.done() for send in sends] == [True] * 5 + [False] * 3
    await (await lab.client(server)).init()  # another event is not concerned
    for _ in range(8):
        room.release()
    await asyncio.gather(*sends)
    await eventually(lambda: len(got) >= 8, 'len(got) >= 8')
    assert got == list(range(8))
    listening.cancel()


async def test_a_message_that_is_never_accepted_fails_at_its_sender(lab, transport, caplog):
    server = await lab.server(transport, tuning=Tuning(max_backlog=2))
    client = await lab.client(server)
    first = asyncio.ensure_future(server.on_event('EXPINFO'))
    await asyncio.sleep(0)
    for i in range(3):
        await client.info(0, i)
    client.default_echo_timeout = server.default_echo_timeout = 0.1
    with pytest.raises(EchoTimeoutError):
        await client.info(0, 'lost')
    await client.init()  # other events are not concerned
    await asyncio.sleep(0.1)
    assert [(await first)[0][1], *[(await server.on_event('EXPINFO'))[0][1] for _ in range(2)]] == [0, 1, 2]
    client.default_echo_timeout = 10.0
    await client.info(0, 'heard')
    assert (await server.on_event('EXPINFO'))[0] == [0, 'heard']  # and not the one that failed
    texts = [r.getMessage() for r in caplog.records if 'not confirmed until there is room' in r.getMessage()]
    assert len(texts) == 1


async def test_whoever_waits_is_told_even_if_the_backlog_is_full(lab):
    server, client = await lab.pair(tuning=Tuning(max_backlog=2))
    for event in ('EXPINIT', 'EXPEND'):
        waiting = asyncio.ensure_future(server.on_event(event))
        await asyncio.sleep(0)
        await (client.init() if event == 'EXPINIT' else client.stop())
        await waiting
    for i in range(2):
        await client.init(i)
    waiting = asyncio.ensure_future(server.on_event('EXPEND'))
    await asyncio.sleep(0)
    await client.stop('now')
    assert (await waiting)[0] == ['now']
    assert internals.backlog(server).dropped == 0
    sending = asyncio.ensure_future(client.stop('kept'))
    await eventually(lambda: internals.backlog(server).refused, 'internals.backlog(server).refused')
    assert (await server.on_event('EXPINIT'))[0] == [0]
    await sending
    assert (await server.on_event('EXPEND'))[0] == ['kept']


async def test_a_program_that_has_gone_on_to_callbacks_confirms_everything(lab, caplog):
    """It waited for an event once, and nobody will fetch what comes of it now."""
    server, client = await lab.pair(tuning=InternalTuning(max_backlog=3, backlog_age=0.02))
    waiting = asyncio.ensure_future(server.on_event('EXPINFO'))
    await asyncio.sleep(0)
    await client.info(0)
    await waiting
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
    client.default_echo_timeout = 10.0
    for i in range(20):
        await client.info(0, i)
    assert heard == list(range(20))
    assert len(internals.backlog(server)) == 3
    assert 'that nobody waited for in time are dropped' in caplog.text


async def test_messages_are_kept_for_a_loop_that_is_busy_for_long(lab, caplog):
    """Also while another loop of the same program waits for other events."""
    server, client = await lab.pair(tuning=InternalTuning(backlog_age=0.01))
    busy, got = asyncio.Event(), []

    async def slow():
        while True:
            data, _, _ = await server.on_event(ExpMessage.EXPSTART | ExpMessage.EXPEND)
            got.append(data[0])
            await busy.wait()

    async def other():
        while True:
            await server.on_event('EXPINFO')

    loops = [asyncio.create_task(slow()), asyncio.create_task(other())]
    await asyncio.sleep(0)
    await client.start(REF)
    await client.stop('the end')
    for _ in range(5):
        await client.info(0)
        await asyncio.sleep(0.01)
    busy.set()
    await eventually(lambda: len(got) >= 2, 'len(got) >= 2')
    assert got == [REF, 'the end']
    assert 'dropped' not in caplog.text
    for task in loops:
        task.cancel()


async def test_messages_that_are_passed_over_are_dropped_after_a_while(lab, caplog):
    """A program that goes from event to event must not take that of an earlier session for new."""
    server, client = await lab.pair(tuning=InternalTuning(backlog_age=0.01))
    for event, tell in (('EXPSTART', lambda: client.start('old')), ('EXPEND', client.stop)):
        waiting = asyncio.ensure_future(server.on_event(event))
        await asyncio.sleep(0)
        if event == 'EXPEND':
            await client.start('again')
        await tell()
        await waiting
    await asyncio.sleep(0.02)
    waiting = asyncio.ensure_future(server.on_event('EXPSTART'))
    await asyncio.sleep(0)
    await client.start('new')
    assert (await waiting)[0] == ['new', None]
    assert '1 messages that nobody waited for in time are dropped' in caplog.text


def test_a_backlog_keeps_order_and_bounds(caplog):
    kept = Backlog(3, 10**6, 10.0, logging.getLogger('rig'))
    kept.event_mask = 3
    messages = [received_message(ExpMessage.EXPINIT, 2 if i == 4 else 1, [i], ('h', 1), None, 10) for i in range(5)]
    for i, message in enumerate(messages[:3]):
        kept.put(message, float(i))
    assert kept.full_mask == 3
    assert kept.take(4, 4.0) is None
    assert kept.take(255, 4.0) is messages[0]
    assert not kept.full_mask
    kept.put_back(messages[4], 4.0)
    assert kept.take(3, 4.0) is messages[4]
    assert kept.make_room(4.0)  # nobody waits for it
    assert kept.dropped == 1
    assert '1 messages that nobody waited for' in caplog.text
    for message in messages[:3]:  # with somebody who does, the oldest must go if it comes to the worst
        kept.put(message, 5.0)
        internals.never_expire(kept, 1)
    assert len(kept) == 3
    assert kept.take(1, 5.0) is messages[0]
