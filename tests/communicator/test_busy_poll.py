"""Busy polling: when it starts and stops, and that the rest of the program continues meanwhile."""

from __future__ import annotations

import asyncio
import math

import pytest

import internals
from echorig import ConnectionClosedError, EchoTimeoutError
from eventually import eventually
from lab import REF, RawUdp

LONG = 60.0  # seconds; longer than any test


async def test_it_is_off_unless_asked_for(lab, transport):
    server, client = await lab.pair(transport)
    await client.start(REF)
    for com in (server, client):
        assert com.busy_poll == 0.0
        assert not internals.is_awake(com)


@pytest.mark.parametrize('seconds', [-0.1, math.inf, math.nan])
async def test_bad_values(lab, seconds):
    with pytest.raises(ValueError, match='busy_poll must be'):
        await lab.server(busy_poll=seconds)
    client = await lab.client('udp://127.0.0.1:9')
    with pytest.raises(ValueError, match='busy_poll must be'):
        client.busy_poll = seconds


async def test_a_client_polls_until_it_is_answered(lab, transport):
    server, client = await lab.pair(transport)
    client.busy_poll = LONG
    sending = asyncio.ensure_future(client.start(REF))
    await asyncio.sleep(0)
    assert internals.is_awake(client)
    await sending
    for _ in range(3):  # of the loop's turns
        await asyncio.sleep(0)
    assert not internals.is_awake(client)
    assert not internals.is_awake(server)


async def test_a_client_stops_in_the_end(lab):
    """Nobody answers; after its time it sleeps again, although something is still waited for."""
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, busy_poll=0.01)
    sending = asyncio.ensure_future(client.confirmed_send([1], timeout=0.5))
    await asyncio.sleep(0)
    assert internals.is_awake(client)
    await eventually(lambda: not internals.is_awake(client), 'not internals.is_awake(client)')
    assert not sending.done()
    with pytest.raises(EchoTimeoutError):
        await sending
    peer.close()


async def test_a_server_polls_after_each_message_and_serves_all(lab, transport):
    server = await lab.server(transport, busy_poll=LONG)
    clients = [await lab.client(server, f'client{i}') for i in range(5)]
    received = []
    server.assign_callback('EXPSTART', lambda data, addr: received.append(addr))
    await asyncio.gather(*(client.start(REF) for client in clients for _ in range(20)))
    assert len(received) == 100
    assert internals.is_awake(server)
    await asyncio.sleep(0.01)  # the rest of the program has its turns
    assert internals.is_awake(server)
    server.busy_poll = 1e-9
    await clients[0].start(REF)
    await eventually(lambda: not internals.is_awake(server), 'not internals.is_awake(server)')


async def test_closing_ends_it(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, busy_poll=LONG)
    sending = asyncio.ensure_future(client.start(REF))
    await asyncio.sleep(0)
    client.close()
    with pytest.raises(ConnectionClosedError):
        await sending
    await asyncio.sleep(0)
    assert not internals.is_awake(client)
    peer.close()
