"""`on_event`: messages that arrive before, while and after a task waits for them."""

from __future__ import annotations

import asyncio

import pytest

from echorig import EchoProtocol, ExpMessage, Tuning
from systems import REPORTS_REFUSALS


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
async def test_a_server_hears_nothing_before_its_program_can_listen(lab, transport, tags):
    """A rig is started while it is being told something: what it confirms, it has heard."""
    first = await lab.server(transport)
    first.close()
    await first.wait_closed()
    client = None
    if transport == 'udp':
        client = await lab.client(first, tuning=Tuning(tags=tags))
        client.send([1, 'early'])  # refused, and nothing more
        if REPORTS_REFUSALS:
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
