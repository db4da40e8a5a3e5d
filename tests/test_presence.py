"""Which rigs are there: who is pinged, who is left alone, and what is reported."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from echorig import EchoProtocol, EchoTimeoutError, PeerUnreachableError, Services, ServicesError, Tuning
from rigs import REF, RawUdp, free_port
from tagging import acknowledged, is_ping, read_tag, tag, untagged

OFTEN = 0.005


class Plain(RawUdp):
    """A rig that echoes what it gets, as it is, once it may."""

    def __init__(self):
        super().__init__()
        self.frames = []
        self.alive = True

    @property
    def pings(self):
        return sum(read_tag(frame) >= 0 and is_ping(frame) for frame in self.frames)

    def datagram_received(self, data, addr):
        self.frames.append(data)
        self.sender = addr
        if self.alive:
            self.transport.sendto(data, addr)


async def until(condition):
    async def look():
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(look(), 10)


async def reopened(lab, server):
    again = await EchoProtocol.server(server.server_uri, 'again')
    lab.opened.append(again)
    return again


async def test_rigs_come_and_go(lab, transport):
    servers = [await lab.server(transport, f'rig{i}') for i in range(2)]
    quick = Tuning(first_reconnect=0.005, max_reconnect=0.01)
    rigs = Services([await lab.client(server, server.name, tuning=quick) for server in servers])
    for rig in rigs.values():
        await rig.init()  # over TCP only what is known to be tagging is pinged
    seen, told = [], []

    async def later(change):
        told.append(change)

    watch = rigs.watch(OFTEN)
    watch.assign_callback(lambda change: seen.append((change.name, change.state)))
    watch.assign_callback(later)
    assert [watch[name].state for name in watch] == ['unknown', 'unknown']
    async with watch as presence, presence.events() as changes:
        await until(lambda: [rig.state for rig in presence.values()] == ['online'] * 2)
        assert sorted(seen) == [('rig0', 'online'), ('rig1', 'online')]
        assert all(0 < rig.round_trip < 5 for rig in presence.values())
        since = presence['rig1'].since
        servers[0].close()
        await servers[0].wait_closed()
        await until(lambda: presence['rig0'].state == 'offline')
        assert isinstance(presence['rig0'].error, OSError)
        assert presence['rig0'].round_trip is None
        await reopened(lab, servers[0])
        await until(lambda: presence['rig0'].restarts)
        assert presence['rig0'].state == 'online'
        assert presence['rig0'].error is None
        assert presence['rig1'].since == since
        assert presence['rig1'].restarts == 0
        assert seen[2:] == [('rig0', 'offline'), ('rig0', 'online'), ('rig0', 'restarted')]
        assert [(change.name, change.state) for change in [await changes.__anext__() for _ in range(5)]] == seen
        await asyncio.sleep(0)
        assert [(change.name, change.state) for change in told] == seen
        assert told[3].presence.state == 'online'
        assert 'online' in repr(presence)
        assert len(presence) == 2
        assert presence.clear_callbacks() == 2
    with pytest.raises(StopAsyncIteration):
        await changes.__anext__()
    with pytest.raises(RuntimeError, match='once'):
        await watch.__aenter__()
    assert not any(rig._connection_changes._callbacks for rig in rigs.values())


async def test_a_rig_that_was_never_there(lab):
    client = await lab.client(f'udp://127.0.0.1:{free_port()}', 'ghost')
    async with Services([client]).watch(OFTEN) as presence:
        await until(lambda: presence['ghost'].state == 'offline')
        assert isinstance(presence['ghost'].error, PeerUnreachableError)
        assert presence['ghost'].restarts == 0


async def test_a_plain_rig_is_left_alone_while_something_is_expected_of_it(lab):
    peer = await asyncio.get_running_loop().create_datagram_endpoint(Plain, local_addr=('127.0.0.1', 0))
    rig = peer[1]
    RawUdp.opened.append(rig)
    client = await lab.client(rig.uri, 'scanner', tuning=Tuning(first_probe=3600.0))
    client.default_echo_timeout = 60.0
    rigs = Services([client], timeout=60.0)
    rig.alive = False
    starting = asyncio.ensure_future(rigs.start(REF))
    await until(lambda: rig.frames)
    async with rigs.watch(OFTEN) as presence:
        await asyncio.sleep(0.05)
        assert len(rig.frames) == 1  # unknown, and a message is on its way to it
        rig.alive = True
        rig.say(rig.frames[0], rig.sender)
        await until(lambda: client.peers[rig.addr].kind == 'plain')
        await asyncio.sleep(0.05)
        assert len(rig.frames) == 1  # confirmed; its answer is awaited
        rig.say(untagged(rig.frames[0]), rig.sender)
        await starting
        await until(lambda: presence['scanner'].state == 'online' and rig.pings)
        waiting = asyncio.ensure_future(client.on_event('EXPEND'))
        await asyncio.sleep(0)
        await until(lambda: not client.peers[rig.addr].confirmed < rig.pings)
        pings = rig.pings
        await asyncio.sleep(0.05)
        assert rig.pings - pings <= 1  # one may have been on its way
        pings = rig.pings
        await asyncio.sleep(0.05)
        assert rig.pings == pings
        rig.say(b'[4, null]', rig.sender)
        await waiting
        await until(lambda: rig.pings > pings)


async def plain_rig():
    rig = (await asyncio.get_running_loop().create_datagram_endpoint(Plain, local_addr=('127.0.0.1', 0)))[1]
    RawUdp.opened.append(rig)
    return rig


async def test_a_plain_rig_that_is_busy_is_sent_one_ping(lab):
    """What it has not read lies in its socket, where it takes it for the echo of the next message that it sends."""
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner', tuning=Tuning(first_probe=0.01))
    async with Services([client]).watch(OFTEN, timeout=0.1) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        rig.alive = False
        change = await changes.__anext__()
        assert change.state == 'offline'  # only now, and not at the first echo that does not come
        assert isinstance(change.presence.error, EchoTimeoutError)
        pings = rig.pings
        await asyncio.sleep(0.1)
        assert rig.pings == pings
        assert client.peers[rig.addr].sent - client.peers[rig.addr].confirmed == 1
        rig.alive = True
        rig.say(rig.frames[-1], rig.sender)  # late
        assert (await changes.__anext__()).state == 'online'  # and nobody says that it was restarted
        await until(lambda: rig.pings > pings)
        assert presence['scanner'].restarts == 0


@pytest.mark.parametrize('told', ['before', 'under a watch'])
@pytest.mark.parametrize('known', [True, False])
async def test_a_plain_rig_is_left_alone_when_a_call_has_failed_on_it(lab, told, known):
    """It may still be at work on its answer, which it waits to have confirmed."""
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner', tuning=Tuning(first_probe=3600.0))
    rigs = Services([client], timeout=0.05)
    if known:
        await client.init()
    rig.alive = known  # or it does not even echo

    async def call():
        with pytest.raises(ServicesError, match='scanner'):
            await rigs.start(REF)

    if told == 'before':
        await call()
    async with rigs.watch(OFTEN) as presence:
        if told != 'before':
            if known:
                await until(lambda: rig.pings)
            await call()
        rig.alive = True
        pings, start = rig.pings, next(frame for frame in reversed(rig.frames) if not is_ping(frame))
        await asyncio.sleep(0.05)
        assert rig.pings <= pings + 1  # one may have been on its way
        pings = rig.pings
        if not known:
            rig.say(start, rig.sender)  # the late echo is no answer
            await until(lambda: presence['scanner'].state == 'online')
        await asyncio.sleep(0.05)
        assert rig.pings == pings
        rig.say(untagged(start), rig.sender)
        await until(lambda: rig.pings > pings)
        assert presence['scanner'].state == 'online'


async def test_a_call_that_succeeds_ends_what_one_before_has_left(lab):
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner')
    rigs = Services([client], timeout=0.05)
    with pytest.raises(ServicesError):
        await rigs.start(REF)
    async with rigs.watch(OFTEN):
        calling = asyncio.ensure_future(rigs.start(REF))
        calling.cancel()
        await asyncio.wait([calling])
        assert not rig.pings
        rigs.timeout = 60.0
        calling = asyncio.ensure_future(rigs.init())
        await until(lambda: rig.frames[-1].startswith(b'[1,'))
        rig.say(untagged(rig.frames[-1]), rig.sender)
        await calling
        assert not rigs._owing
        await until(lambda: rig.pings)


async def test_what_a_rig_says_during_a_call_counts_for_the_ping_before(lab):
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner', tuning=Tuning(first_probe=0.01))
    client.default_echo_timeout = 60.0
    rigs = Services([client], timeout=60.0)
    async with rigs.watch(OFTEN, timeout=0.02) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        rig.alive = False
        assert (await changes.__anext__()).state == 'offline'
        pings = rig.pings
        calling = asyncio.ensure_future(rigs.init())
        await until(lambda: not is_ping(rig.frames[-1]))
        rig.alive = True
        init = rig.frames[-1]
        rig.say(init, rig.sender)
        assert (await changes.__anext__()).state == 'online'
        rig.say(untagged(init), rig.sender)
        await calling
        await until(lambda: rig.pings > pings + 2)
        assert presence['scanner'].state == 'online'


async def test_one_that_refuses_owes_nothing(lab):
    client = await lab.client(f'udp://127.0.0.1:{free_port()}', 'ghost')
    rigs = Services([client], timeout=60.0)
    with pytest.raises(ServicesError, match='ghost'):
        await rigs.start(REF)
    async with rigs.watch(OFTEN) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'offline'
        again = await EchoProtocol.server(client.server_uri, 'ghost')
        lab.opened.append(again)
        assert (await changes.__anext__()).state == 'online'


async def test_a_tagging_rig_is_watched_during_a_session(lab):
    rig = await lab.server()
    client = await lab.client(rig, 'camera')
    rigs = Services([client], timeout=60.0)
    await client.init()
    started = asyncio.get_running_loop().create_future()
    rig.assign_callback('EXPSTART', started)
    starting = asyncio.ensure_future(rigs.start(REF))
    _, addr = await started
    async with rigs.watch(OFTEN) as presence:
        await until(lambda: presence['camera'].state == 'online')
        seen = client.peers[rig.hostname, rig.port].confirmed
        await until(lambda: client.peers[rig.hostname, rig.port].confirmed > seen + 3)
        assert not starting.done()
        rig.close()
        await until(lambda: presence['camera'].state == 'offline')
        again = await reopened(lab, rig)
        await again.start(REF, addr=addr)
        await starting
        await until(lambda: presence['camera'].restarts)


async def test_numbers_that_begin_anew_tell_of_a_restart(lab):
    class Tagging(Plain):
        def datagram_received(self, data, addr):
            self.sender = addr
            if not read_tag(data) & 0x80000000:
                self.transport.sendto(acknowledged(data), addr)

    rig = (await asyncio.get_running_loop().create_datagram_endpoint(Tagging, local_addr=('127.0.0.1', 0)))[1]
    RawUdp.opened.append(rig)
    client = await lab.client(rig.uri, 'camera')
    async with Services([client]).watch(OFTEN) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        for number in (5, 6, 10**9):
            rig.say(tag(b'[64, 20]', number), rig.sender)
        assert (await changes.__anext__()).state == 'restarted'
        assert presence['camera'].state == 'online'
        assert client.peers[rig.addr].restarts == 1


async def test_no_message_waits_for_the_ping_of_a_watch(lab):
    """A rig that has just been plugged in again is told at once, though a ping to it is still out."""
    rig = (await asyncio.get_running_loop().create_datagram_endpoint(Plain, local_addr=('127.0.0.1', 0)))[1]
    RawUdp.opened.append(rig)
    client = await lab.client(rig.uri, 'camera', tuning=Tuning(first_probe=3600.0))
    client.default_echo_timeout = 60.0
    rig.alive = False
    async with Services([client]).watch(OFTEN, timeout=60.0):
        await until(lambda: rig.pings)
        assert not client.awaiting_response()
        starting = asyncio.ensure_future(client.start(REF))
        await asyncio.sleep(0)
        assert client.awaiting_response()
        await until(lambda: len(rig.frames) > rig.pings)
        rig.say(rig.frames[-1], rig.sender)
        await starting


async def test_a_watch_ends_with_its_set(lab):
    rigs = await lab.services(2)
    async with rigs.watch(OFTEN) as presence, presence.events() as changes:
        await until(lambda: all(rig.state == 'online' for rig in presence.values()))
        rigs.close()
        assert [change.state async for change in changes] == ['online', 'online']
    assert not rigs._watches
    for interval, timeout in ((0, 1), (1, 0), (-1, 1)):
        with pytest.raises(ValueError, match='positive'):
            rigs.watch(interval, timeout)
    async with rigs.watch(OFTEN) as presence:  # of a set that is closed
        await until(lambda: all(rig.state == 'offline' for rig in presence.values()))
        with pytest.raises(ServicesError):
            await rigs.init()


async def test_mocks_may_be_watched():
    rig = mock.AsyncMock(spec=EchoProtocol)
    rig.name = 'mock'
    rig.ping.return_value = 0.001
    async with Services([rig]).watch(OFTEN) as presence:
        await until(lambda: presence['mock'].round_trip == 0.001)
        rig.ping.side_effect = ValueError('odd')
        await until(lambda: presence['mock'].state == 'offline')
        assert str(presence['mock'].error) == 'odd'


async def test_over_tcp_a_rig_that_may_not_bear_it_is_not_pinged(lab):
    """Its connection tells whether it is there."""
    server = await lab.server('tcp', tuning=Tuning(tags=False))
    client = await lab.client(server, 'daq', tuning=Tuning(first_reconnect=0.005, max_reconnect=0.01))
    async with Services([client]).watch(OFTEN) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        assert presence['daq'].round_trip is None
        await client.init()
        await until(lambda: presence['daq'].round_trip)
        assert client.peers[server.hostname, server.port].sent == 1
        server.close()
        await server.wait_closed()
        assert (await changes.__anext__()).state == 'offline'
        await reopened(lab, server)
        assert [(await changes.__anext__()).state for _ in range(2)] == ['online', 'restarted']
