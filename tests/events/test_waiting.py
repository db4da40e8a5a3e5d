"""`on_event` in loops: what is kept, what is refused, and what may be dropped; and streams."""

from __future__ import annotations

import asyncio
import logging

import pytest

from echorig import ConnectionClosedError, EchoProtocol, EchoTimeoutError, ExpMessage, Tuning
from echorig.events._message import ReceivedMessage
from echorig.events.backlog import Backlog
from echorig.tuning import InternalTuning
from eventually import eventually
from rigs import REF

LOOSE = ('127.0.0.1', 9)


async def test_a_loop_over_on_event_misses_nothing_in_the_server_role(lab, transport):
    server, client = await lab.pair(transport)
    got = []

    async def listen():
        while len(got) < 200:
            data, _, event = await server.on_event(ExpMessage.any())
            got.append((event.name, data[0]))
            await asyncio.sleep(0.0001 * (len(got) % 3))

    listening = asyncio.create_task(listen())
    for i in range(100):
        await client.init(i)
        await client.stop(i)
    await asyncio.wait_for(listening, 10)
    assert got == [(name, i) for i in range(100) for name in ('EXPINIT', 'EXPEND')]


async def test_a_task_made_before_the_message_hears_it(lab, transport):
    server, client = await lab.pair(transport)
    for event, tell in (('EXPINIT', client.init), ('EXPCLEANUP', client.cleanup)):
        task = asyncio.create_task(server.on_event(event))
        await tell('x')
        assert (await asyncio.wait_for(task, 2))[0] == ['x']
    # What came before anybody waited for it is gone.
    await client.stop('old')
    await asyncio.sleep(0)
    task = asyncio.create_task(server.on_event('EXPEND'))
    await asyncio.sleep(0)
    await client.stop('new')
    assert (await asyncio.wait_for(task, 2))[0] == ['new']


async def test_of_a_turn_that_nobody_has_asked_for_only_so_much_is_kept(lab):
    server = await lab.server(tuning=Tuning(max_backlog=3))
    for i in range(100):
        server._receive(b'[4, %d]' % i, ('127.0.0.1', 9))
    got = [(await server.on_event('EXPEND'))[0] for _ in range(3)]
    assert got == [[0], [1], [2]]
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(server.on_event('EXPINIT'))
    for event in (4, 1):
        server._receive(b'[%d, "old"]' % event, ('127.0.0.1', 9))
    await asyncio.sleep(0)
    assert waiting.done()  # the task was there before the message
    assert (await server.on_event('EXPEND'))[0] == ['old']  # an event that is waited for in a loop


async def test_a_message_whose_reader_is_cancelled_in_its_turn_is_kept(lab):
    server = await lab.server()
    first = asyncio.ensure_future(server.on_event('EXPINIT'))
    await asyncio.sleep(0)
    server._receive(b'[1, "precious"]', ('127.0.0.1', 9))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await asyncio.wait_for(server.on_event('EXPINIT'), 2))[0] == ['precious']


async def test_10000_messages_as_fast_as_confirmations_allow(lab, transport):
    """The loop of the camera programs, with work to do for each message."""
    server, client = await lab.pair(transport)
    client.default_echo_timeout = 60.0
    got, n = [], 10_000

    async def listen():
        while len(got) < n:
            data, _, event = await server.on_event(ExpMessage.any())
            got.append((event.value, data[0]))
            await asyncio.sleep(0)

    listening = asyncio.create_task(listen())
    for i in range(0, n, 50):
        await asyncio.gather(*(client.confirmed_send([1 << i // 50 % 7, k]) for k in range(i, i + 50)))
    await asyncio.wait_for(listening, 60)
    assert got == [(1 << i // 50 % 7, i) for i in range(n)]


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
    await eventually(lambda: server._waiting.backlog.refused, 'server._waiting.backlog.refused')
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
    assert server._waiting.backlog.dropped == 0
    sending = asyncio.ensure_future(client.stop('kept'))
    await eventually(lambda: server._waiting.backlog.refused, 'server._waiting.backlog.refused')
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
    assert len(server._waiting.backlog) == 3
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
    kept.wanted = 3
    messages = [ReceivedMessage(ExpMessage.EXPINIT, [i], ('h', 1), None, 10) for i in range(5)]
    for i, message in enumerate(messages[:3]):
        kept.put(1, message, float(i))
    assert kept.full == 3
    assert kept.take(4, 4.0) is None
    assert kept.take(255, 4.0) is messages[0]
    assert not kept.full
    kept.put_back(2, messages[4], 4.0)
    assert kept.take(3, 4.0) is messages[4]
    assert kept.make_room(4.0)  # nobody waits for it
    assert kept.dropped == 1
    assert '1 messages that nobody waited for' in caplog.text
    for message in messages[:3]:  # with somebody who does, the oldest must go if it comes to the worst
        kept.put(1, message, 5.0, [1])
        kept._calls[1] = float('inf')
    assert len(kept) == 3
    assert kept.take(1, 5.0, [1]) is messages[0]


@pytest.mark.parametrize('tags', [True, False])
async def test_a_server_hears_nothing_before_its_program_can_listen(lab, transport, tags):
    """A rig is started while it is being told something: what it confirms, it has heard."""
    first = await lab.server(transport)
    first.close()
    await first.wait_closed()
    client = None
    if transport == 'udp':
        client = await lab.client(first, tuning=Tuning(tags=tags))
        client.send([1, 'early'])  # refused, and nothing more
        with pytest.raises(OSError):
            raise await client.on_error_received
    opening = asyncio.ensure_future(
        asyncio.wait_for(EchoProtocol.server(first.server_uri, 'again', reuse_address=True), 5)
        if transport == 'tcp'
        else asyncio.wait_for(EchoProtocol.server(first.server_uri, 'again'), 5)
    )
    while client is None:
        try:
            client = await lab.client(first, tuning=Tuning(tags=tags))
        except ConnectionRefusedError:
            await asyncio.sleep(0)
    client.default_echo_timeout = 30.0
    sends = []
    while not opening.done():
        if len(sends) < 40:
            sends.append(asyncio.ensure_future(client.info(0, len(sends))))
        await asyncio.sleep(0)
    server = await opening
    lab.opened.append(server)
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert [i for i, outcome in enumerate(outcomes) if outcome is None] == heard


# --- streams ---


async def test_streams_get_every_message_in_both_roles(lab, transport):
    server, client = await lab.pair(transport)
    addrs = []
    server.assign_callback('EXPINIT', lambda data, addr: addrs.append(addr))
    async with server.events() as every, server.events('EXPSTART') as starts, client.events() as answers:
        await client.init(1)
        await client.start(REF)
        await server.stop('x', addr=addrs[0])
        assert (len(every), len(starts), len(answers)) == (2, 1, 1)
        got = [await every.__anext__() for _ in range(2)]
        assert got == [([1], addrs[0], ExpMessage.EXPINIT), ([REF, None], addrs[0], ExpMessage.EXPSTART)]
        async for data, addr, event in starts:
            assert (data, addr, event) == got[1]
            break
        data, addr, event = await answers.__anext__()
        assert (data, addr, event) == (['x'], (server.hostname, server.port), ExpMessage.EXPEND)
        reading = asyncio.ensure_future(every.__anext__())
        await asyncio.sleep(0)
        await client.cleanup()
        assert (await reading)[2] is ExpMessage.EXPCLEANUP
    assert not server._waiting.streams
    assert not server._waiting.asked
    await client.init()
    with pytest.raises(StopAsyncIteration):
        await every.__anext__()


async def test_notices_in_a_stream(lab):
    server, client = await lab.pair()

    def fail(data, addr):
        raise ValueError('no disk')

    server.assign_callback('EXPINIT', fail)
    async with client.events(0) as notices:
        await client.init()
        data, _, event = await asyncio.wait_for(notices.__anext__(), 5)
        assert (data, event) == (['ValueError: no disk', 1], ExpMessage(0))


async def test_a_stream_is_bounded_and_counts_what_it_drops(lab, caplog):
    server, client = await lab.pair()
    async with server.events('EXPINFO', limit=3) as stream, server.events(limit=1000) as wide:
        for i in range(10):
            await client.info(0, i)
        assert (stream.dropped, len(stream), len(wide), wide.dropped) == (7, 3, 10, 0)
        assert [(await stream.__anext__())[0][1] for _ in range(3)] == [7, 8, 9]
    assert 'More than 3 messages wait to be read; the oldest is dropped (1 so far)' in caplog.text
    for limit in (0, -1):
        with pytest.raises(ValueError, match='limit'):
            server.events(limit=limit)
    with pytest.raises(ValueError):
        server.events('EXPSTOP')
    assert server.events().limit == Tuning().max_backlog


async def test_a_stream_ends_when_the_communicator_is_closed(lab, transport):
    server, client = await lab.pair(transport)
    async with server.events() as stream, server.events() as other:
        await client.init()
        got = []
        waiting = [asyncio.ensure_future(other.__anext__()) for _ in range(3)]
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(ConnectionClosedError, match='server'):  # noqa: PT012
            async for _, _, event in stream:
                got.append(event)
        assert got == [ExpMessage.EXPINIT]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [tuple, ConnectionClosedError, ConnectionClosedError]
    with pytest.raises(ConnectionClosedError):
        async with server.events():
            pass


async def test_a_reader_of_a_stream_that_is_cancelled_takes_nothing_with_it(lab):
    server, client = await lab.pair()
    async with server.events() as stream:
        one, two = (asyncio.ensure_future(stream.__anext__()) for _ in range(2))
        await asyncio.sleep(0)
        server._receive(b'[1, "precious"]', LOOSE)
        one.cancel()
        assert (await asyncio.wait_for(two, 2))[0] == ['precious']
        with pytest.raises(asyncio.CancelledError):
            await one
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.__anext__(), 0.01)
        await client.init()
        assert (await stream.__anext__())[2] is ExpMessage.EXPINIT
        with pytest.raises(RuntimeError, match='once'):
            await stream.__aenter__()
