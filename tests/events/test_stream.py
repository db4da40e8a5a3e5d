"""Streams of messages: order, limit, several readers, and their end."""

from __future__ import annotations

import asyncio

import pytest

import internals
from echorig import ConnectionClosedError, ExpMessage, Tuning
from lab import REF


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
    assert not internals.event_queue(server).streams
    assert not internals.event_queue(server).interest
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
        server._receive(b'[1, "precious"]', ('127.0.0.1', 9))
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
