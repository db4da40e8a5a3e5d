"""The links of `echorig.testing` apply their faults, and count them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from echorig import ConnectionClosedError, EchoTimeoutError
from echorig.testing import CuttingLink, LossyLink, TcpFaultLink
from echorig.tuning import InternalTuning
from eventually import eventually
from lab import RawUdp

PATIENCE = 20.0  # seconds; only a failure waits that long
N = 200


@asynccontextmanager
async def ends(**faults):
    """Open a raw server, a link to it, and a raw client; yield them and the address of the link."""
    server, client = await RawUdp.open(), await RawUdp.open()
    try:
        async with LossyLink(server.uri, **faults) as link:
            host, _, port = link.uri.removeprefix('udp://').rpartition(':')
            yield server, link, client, (host, int(port))
    finally:
        server.close()
        client.close()


async def carried(n=N, **faults):
    """Send numbered datagrams over a link; return the datagrams at the other end, and the counters."""
    async with ends(**faults) as (server, link, client, front):
        counters = link.counters.to_server
        heard = []
        for i in range(n):
            client.say(i.to_bytes(8, 'big'), front)
            await eventually(lambda: counters.received > i, 'the system may drop what nobody reads in time')
        while len(heard) < n - counters.lost + counters.duplicated:
            heard.append((await server.hear(PATIENCE))[0])
        assert await server.silence(0.03)
        assert counters.forwarded == len(heard)
        return heard, counters


def numbers(heard):
    return [int.from_bytes(data, 'big') for data in heard]


async def test_without_faults():
    heard, counters = await carried()
    assert numbers(heard) == list(range(N))
    assert (counters.received, counters.forwarded) == (N, N)


async def test_loss():
    heard, counters = await carried(loss=0.2, seed=1)
    assert numbers(heard) == sorted(set(numbers(heard)))
    assert 0 < counters.lost < N / 2
    assert len(heard) == N - counters.lost


async def test_the_same_seed_gives_the_same_faults():
    faults = {'loss': 0.1, 'duplicate': 0.1, 'reorder': 0.1, 'corrupt': 0.1, 'truncate': 0.1, 'hold': 60.0}

    # The last datagrams may stay held back: then nothing is to be waited for, and 60 s show that no time decides.
    async def picked(seed):
        async with ends(**faults, seed=seed) as (server, link, client, front):
            for i in range(N):
                client.say(i.to_bytes(8, 'big'), front)
                await eventually(lambda: link.counters.to_server.received > i, 'link.counters.to_server.received > i')
            heard = [await server.hear(PATIENCE) for _ in range(link.counters.to_server.forwarded)]
            return [data for data, _ in heard], link.counters.to_server

    assert await picked(7) == await picked(7)
    assert (await picked(7))[0] != (await picked(8))[0]


async def test_duplicate():
    heard, counters = await carried(duplicate=0.2, seed=1)
    times = Counter(numbers(heard))
    assert set(times) == set(range(N))
    assert max(times.values()) == 2
    assert sum(n == 2 for n in times.values()) == counters.duplicated > 0


async def test_reorder():
    heard, counters = await carried(reorder=0.1, seed=1)
    assert sorted(numbers(heard)) == list(range(N))
    assert numbers(heard) != list(range(N))
    assert counters.reordered > 0


async def test_a_datagram_is_not_held_for_ever():
    heard, counters = await carried(n=3, reorder=1.0)
    assert (numbers(heard), counters.reordered) == ([0, 1, 2], 3)


async def test_jitter_keeps_the_order():
    heard, _ = await carried(delay=0.001, jitter=0.02, seed=1)
    assert numbers(heard) == list(range(N))


async def test_delay():
    loop = asyncio.get_running_loop()
    async with ends(delay=(0.1, 0.0)) as (server, link, client, front):
        before = loop.time()
        client.say(b'x', front)
        _, addr = await server.hear(PATIENCE)
        assert loop.time() - before > 0.095  # the clocks of the loops are coarse
        server.say(b'y', addr)
        assert (await client.hear(PATIENCE))[0] == b'y'


async def test_truncate_and_corrupt():
    heard, counters = await carried(truncate=0.5, seed=1)
    assert sum(len(data) < 8 for data in heard) == counters.truncated > 0
    assert all(data == i.to_bytes(8, 'big')[: len(data)] != b'' for i, data in enumerate(heard))
    heard, counters = await carried(corrupt=0.5, seed=1)
    wrong = [i ^ number for i, number in enumerate(numbers(heard)) if i != number]
    assert len(wrong) == counters.corrupted > 0
    assert all(bits.bit_count() == 1 for bits in wrong)


async def test_one_direction():
    async with ends(loss=(0.0, 1.0)) as (server, link, client, front):
        client.say(b'there', front)
        data, addr = await server.hear(PATIENCE)
        server.say(b'back', addr)
        assert data == b'there'
        assert await client.silence()
        assert (link.counters.to_server.lost, link.counters.to_client.lost) == (0, 1)


async def test_each_client_has_an_address():
    other = await RawUdp.open()
    async with ends() as (server, _, client, front):
        for raw, text in ((client, b'one'), (other, b'two')):
            raw.say(text, front)
        addrs = dict([await server.hear(PATIENCE), await server.hear(PATIENCE)])
        assert addrs[b'one'] != addrs[b'two']
        for raw, text in ((client, b'one'), (other, b'two')):
            server.say(b'to ' + text, addrs[text])
            assert await raw.hear(PATIENCE) == (b'to ' + text, front)
    other.close()


async def test_cut_and_mend():
    async with ends(delay=(0.0, 0.05)) as (server, link, client, front):
        client.say(b'before', front)
        _, addr = await server.hear(PATIENCE)
        server.say(b'under way', addr)
        await eventually(lambda: link.counters.to_client.received != 0, 'link.counters.to_client.received != 0')
        link.cut()
        client.say(b'cut', front)
        await eventually(lambda: link.counters.to_server.received != 1, 'link.counters.to_server.received != 1')
        link.mend()
        client.say(b'after', front)
        server.say(b'mended', addr)
        assert (await server.hear(PATIENCE))[0] == b'after'
        assert (await client.hear(PATIENCE))[0] == b'mended'
        assert (link.counters.to_server.cut, link.counters.to_client.cut) == (1, 1)
        link.cut(to_client=False)
        server.say(b'one way', addr)
        assert (await client.hear(PATIENCE))[0] == b'one way'


@pytest.mark.parametrize(
    ('link', 'faults', 'error'),
    [
        (LossyLink, {'loss': 1.5}, ValueError),
        (LossyLink, {'loss': (0.1, 0.2, 0.3)}, ValueError),
        (LossyLink, {'delay': -1}, ValueError),
        (LossyLink, {'jitter': float('nan')}, ValueError),
        (LossyLink, {'hold': float('inf')}, ValueError),
        (LossyLink, {'duplicate': 'often'}, TypeError),
        (LossyLink, {'reorder': True}, TypeError),
        (TcpFaultLink, {'corrupt': (0, 2)}, ValueError),
        (TcpFaultLink, {'segment': -1}, ValueError),
    ],
)
def test_settings_are_checked(link, faults, error):
    with pytest.raises(error, match=next(iter(faults))):
        link('udp://127.0.0.1:9', **faults)


async def test_links_refuse_other_transports():
    assert CuttingLink is TcpFaultLink
    for link, name in (
        (LossyLink('ws://127.0.0.1:9'), 'TcpFaultLink'),
        (TcpFaultLink('udp://127.0.0.1:9'), 'LossyLink'),
    ):
        with pytest.raises(RuntimeError, match='async with'):
            _ = link.uri
        with pytest.raises(ValueError, match=name):
            async with link:
                pass


@pytest.mark.parametrize('scheme', ['tcp', 'ws'])
async def test_stream_in_pieces(lab, scheme):
    server = await lab.server(scheme)
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
    async with TcpFaultLink(server.server_uri, segment=7, jitter=0.001, seed=1) as link:
        assert link.uri.startswith(f'{scheme}://')
        clients = [await lab.client(link.uri) for _ in range(3)]
        for client in clients:
            client.default_echo_timeout = PATIENCE
        await asyncio.gather(*(c.info('RUNNING', data=[i, 'ä' * 20]) for c in clients for i in range(10)))
        assert sorted(heard) == sorted([i, 'ä' * 20] for i in range(10) for _ in clients)
        assert link.counters.to_server.received > 300
        assert link.counters.to_server.received == link.counters.to_server.forwarded
        assert link.n_connections == 3
        for client in clients:
            client.close()
            await asyncio.wait_for(client.wait_closed(), PATIENCE)


@pytest.mark.parametrize('abort', [True, False])
async def test_stream_breaks(lab, abort):
    """Only a part of a message arrives, and then the connection ends, with a reset or in order."""
    server = await lab.server('tcp', tuning=InternalTuning(close_grace=0.1))
    heard = []
    server.assign_callback('EXPINIT', lambda data, addr: heard.append(data))
    async with TcpFaultLink(server.server_uri, cut_after=(250, 0), abort=abort) as link:
        client = await lab.client(link.uri)
        await client.init(data='short')
        with pytest.raises(ConnectionClosedError):
            await client.confirmed_send([1, 'x' * 200], timeout=PATIENCE)
        reason = await asyncio.wait_for(client.on_connection_lost, PATIENCE)
        assert isinstance(reason, ConnectionResetError) is abort
        assert heard == [['short']]
        assert (link.counters.to_server.truncated, link.counters.to_client.truncated) == (1, 0)


async def test_stream_cut_and_mended(lab):
    server = await lab.server('tcp')
    async with TcpFaultLink(server.server_uri) as link:
        client = await lab.client(link.uri)
        await client.init()
        link.cut()
        await asyncio.wait_for(client.on_connection_lost, PATIENCE)
        refused = await lab.client(link.uri)
        with pytest.raises((ConnectionClosedError, EchoTimeoutError)):
            await refused.init()
        link.mend()
        await (await lab.client(link.uri)).init()


async def test_stream_without_a_server(lab):
    server = await lab.server('tcp')
    uri = server.server_uri
    server.close()
    await server.wait_closed()
    async with TcpFaultLink(uri) as link:
        client = await lab.client(link.uri)
        await asyncio.wait_for(client.on_connection_lost, PATIENCE)
