"""Real sockets on a bad network: every message is confirmed and delivered once and in order.

Time-outs are a hundred times the duration of a message, on a link that loses every fifth datagram in each direction.
The links are seeded, but the order of datagrams, and so the lost ones, depend on the machine. With 36 % of the attempts
failing and 20 attempts in 2 seconds, one message in a billion fails.
"""

from __future__ import annotations

import asyncio

import pytest

from echorig import ConnectionClosedError, EchoProtocol, EchoTimeoutError
from echorig.testing import LossyLink, TcpFaultLink
from eventually import eventually

pytestmark = pytest.mark.slow

BAD = {'loss': 0.2, 'duplicate': 0.05, 'reorder': 0.05}
PATIENCE = 60.0  # seconds; only a failure waits that long
N_RIGS = 20
N_MESSAGES = 200


def listening(com):
    """Return a list to which each received EXPINFO adds (number, address)."""
    heard = []
    com.assign_callback('EXPINFO', lambda data, addr: heard.append((data[1], addr)))
    return heard


async def send_all(com, numbers, addr=None, timeout=2.0):
    """Send numbered messages one after another; return those that were not confirmed."""
    failed = []
    for number in numbers:
        try:
            await com.confirmed_send([64, 20, number], addr, timeout=timeout)
        except (EchoTimeoutError, RuntimeError) as ex:
            failed.append((number, ex))
    return failed


async def test_twenty_rigs(lab):
    links, clients, heard = [], [], []
    for i in range(N_RIGS):
        rig = await lab.server(name=f'rig{i}')
        heard.append(listening(rig))
        links.append(await LossyLink(rig.server_uri, **BAD, seed=i).__aenter__())
        clients.append(await lab.client(links[i].uri, f'rig{i}'))
    try:
        failed = await asyncio.gather(*(send_all(client, range(N_MESSAGES)) for client in clients))
        assert failed == [[]] * N_RIGS
        for what in heard:
            assert [number for number, _ in what] == list(range(N_MESSAGES))
        # The link had its faults, and the statistics show them.
        assert all(counters.lost > N_MESSAGES / 20 for link in links for counters in link.counters)
        assert all(counters.duplicated and counters.reordered for link in links for counters in link.counters)
        for client in clients:
            (known,) = client.peers.values()
            assert (known.kind, known.failed) == ('echorig', 0)
            # On such a link a client may also look for a better way: its pings are counted too.
            assert N_MESSAGES <= known.sent == known.confirmed < N_MESSAGES + 10
            assert known.retransmitted > N_MESSAGES / 10
    finally:
        for link in links:
            await link.__aexit__(None, None, None)


async def test_crossing(lab):
    """A rig sends to its clients while they send to it."""
    server = await lab.server()
    from_clients = listening(server)
    async with LossyLink(server.server_uri, **BAD, seed=1) as link:
        clients = [await lab.client(link.uri, f'client{i}') for i in range(8)]
        heard = [listening(client) for client in clients]
        failed = [await send_all(client, [('hello', i)]) for i, client in enumerate(clients)]
        addrs = {number[1]: addr for number, addr in from_clients}
        from_clients.clear()
        # The bytes of both directions differ only in the tag, which separates an echo from a crossing message.
        failed += await asyncio.gather(
            *(send_all(client, range(50)) for client in clients),
            *(send_all(server, range(50), addrs[i]) for i in addrs),
        )
    assert not any(failed)
    for what in heard:
        assert [number for number, _ in what] == list(range(50))
    for addr in addrs.values():
        assert [number for number, source in from_clients if source == addr] == list(range(50))


async def test_many_messages_at_once(lab):
    """Concurrent sends are delivered in the order of the calls."""
    server = await lab.server()
    heard = listening(server)
    async with LossyLink(server.server_uri, **BAD, seed=2) as link:
        client = await lab.client(link.uri)
        await asyncio.gather(*(client.confirmed_send([64, 20, i], timeout=PATIENCE) for i in range(100)))
    assert [number for number, _ in heard] == list(range(100))


async def test_rig_starts_again(lab):
    """A rig closes and opens again at the same port: no send fails, and the order is kept."""
    first = await lab.server()
    before = listening(first)
    async with LossyLink(first.server_uri, **BAD, seed=3) as link:
        client = await lab.client(link.uri)
        sending = asyncio.create_task(send_all(client, range(100), timeout=PATIENCE))
        await eventually(lambda: len(before) >= 40, 'len(before) >= 40')
        first.close()
        await first.wait_closed()
        second = await EchoProtocol.server(first.server_uri, 'again')
        lab.opened.append(second)
        after = listening(second)
        assert await sending == []
    before, after = [number for number, _ in before], [number for number, _ in after]
    # The last echo of the first program may have been lost; the second program cannot know that message.
    if after[0] == before[-1]:
        after.pop(0)
    assert before + after == list(range(100))


async def test_client_starts_again(lab):
    """A restarted client at the same address is a new one: its messages are no duplicates."""
    server = await lab.server()
    heard = listening(server)
    async with LossyLink(server.server_uri, **BAD, seed=4) as link:
        client = await lab.client(link.uri)
        addr = client._transport.get_extra_info('sockname')
        assert await send_all(client, range(50)) == []
        client.close()
        await client.wait_closed()
        again = await lab.client(link.uri, local_addr=addr)
        assert again._transport.get_extra_info('sockname') == addr
        assert await send_all(again, range(50, 100)) == []
    assert [number for number, _ in heard] == list(range(100))
    assert len({addr for _, addr in heard}) == 1


async def test_cable_unplugged(lab):
    """The link is cut in each direction while messages are in flight, and restored."""
    server = await lab.server()
    heard = listening(server)
    async with LossyLink(server.server_uri, loss=0.1, delay=0.002, seed=5) as link:
        client = await lab.client(link.uri)
        sending = asyncio.create_task(send_all(client, range(60), timeout=PATIENCE))
        for count, ways in ((10, {}), (20, {'to_server': False}), (30, {'to_client': False})):
            await eventually(lambda: len(heard) >= count, 'len(heard) >= count')
            link.cut(**ways)
            dropped = sum(counters.cut for counters in link.counters)
            await eventually(
                lambda: sum(counters.cut for counters in link.counters) >= dropped + 3,
                'the link has dropped three more',
            )
            link.mend()
        assert await sending == []
    assert [number for number, _ in heard] == list(range(60))


async def test_stream_cut(lab):
    """A TCP link breaks: confirmed messages were delivered once, the others at most once."""
    server = await lab.server('tcp')
    heard = listening(server)
    async with TcpFaultLink(server.server_uri, segment=50, jitter=0.002, seed=6) as link:
        client, other = await lab.client(link.uri), await lab.client(server)
        sends = [asyncio.create_task(client.confirmed_send([64, 20, i], timeout=PATIENCE)) for i in range(200)]
        await eventually(lambda: len(heard) >= 50, 'len(heard) >= 50')
        link.cut()
        results = await asyncio.gather(*sends, return_exceptions=True)
        confirmed = [i for i, result in enumerate(results) if result is None]
        assert len(confirmed) < 200
        assert all(isinstance(result, ConnectionClosedError) for result in results if result is not None)
        numbers = [number for number, _ in heard]
        assert numbers == list(range(len(numbers)))
        assert confirmed == list(range(len(confirmed)))
        assert len(confirmed) <= len(numbers)
        # Other clients are not affected, and a new connection works.
        link.mend()
        again = await lab.client(link.uri)
        for com in (other, again):
            assert await send_all(com, ['after'], timeout=PATIENCE) == []
        assert [number for number, _ in heard[len(numbers) :]] == ['after'] * 2
