"""Polling instead of sleeping: when it begins, when it ends, and that all else goes on meanwhile."""

from __future__ import annotations

import asyncio
import math

import pytest

from echorig import ConnectionClosedError, EchoTimeoutError
from eventually import eventually
from rigs import REF, RawUdp

LONG = 60.0  # seconds; longer than any test


async def test_it_is_off_unless_asked_for(lab, transport):
    server, client = await lab.pair(transport)
    await client.start(REF)
    for com in (server, client):
        assert com.busy_poll == 0.0
        assert not com._pipeline.awake


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
    assert client._pipeline.awake
    await sending
    for _ in range(3):  # of the loop's turns
        await asyncio.sleep(0)
    assert not client._pipeline.awake
    assert not server._pipeline.awake


async def test_a_client_stops_in_the_end(lab):
    """Nobody answers; after its time it sleeps again, although something is still waited for."""
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, busy_poll=0.01)
    sending = asyncio.ensure_future(client.confirmed_send([1], timeout=0.5))
    await asyncio.sleep(0)
    assert client._pipeline.awake
    await eventually(lambda: not client._pipeline.awake, 'not client._pipeline.awake')
    assert not sending.done()
    with pytest.raises(EchoTimeoutError):
        await sending
    peer.close()


async def test_a_server_polls_after_each_message_and_serves_all(lab, transport):
    server = await lab.server(transport, busy_poll=LONG)
    clients = [await lab.client(server, f'client{i}') for i in range(5)]
    heard = []
    server.assign_callback('EXPSTART', lambda data, addr: heard.append(addr))
    await asyncio.gather(*(client.start(REF) for client in clients for _ in range(20)))
    assert len(heard) == 100
    assert server._pipeline.awake
    await asyncio.sleep(0.01)  # the rest of the program has its turns
    assert server._pipeline.awake
    server.busy_poll = 1e-9
    await clients[0].start(REF)
    await eventually(lambda: not server._pipeline.awake, 'not server._pipeline.awake')


async def test_closing_ends_it(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, busy_poll=LONG)
    sending = asyncio.ensure_future(client.start(REF))
    await asyncio.sleep(0)
    client.close()
    with pytest.raises(ConnectionClosedError):
        await sending
    await asyncio.sleep(0)
    assert not client._pipeline.awake
    peer.close()
