"""Which rigs are there: who is pinged, who is left alone, and what is reported."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

import internals
from echorig import EchoError, EchoProtocol, EchoTimeoutError, PeerUnreachableError, Services, ServicesError, Tuning
from echorig.tuning import InternalTuning
from eventually import eventually
from lab import REF, RawUdp, free_port
from systems import RefusedError, needs_refusals
from tagging import ACK, is_ping, read_tag, set_ack, tag

OFTEN = 0.005


class Plain(RawUdp):
    """A rig that echoes the messages it gets, as they are, while it may."""

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
        if self.alive and read_tag(data) >= 0:
            self.transport.sendto(data, addr)


async def reopened(lab, server):
    again = await EchoProtocol.server(server.server_uri, 'again')
    lab.opened.append(again)
    return again


async def test_rigs_come_and_go(lab, transport):
    servers = [await lab.server(transport, f'rig{i}') for i in range(2)]
    quick = InternalTuning(first_reconnect_delay=0.005, max_reconnect_delay=0.01)
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
        await eventually(
            lambda: [rig.state for rig in presence.values()] == ['online'] * 2,
            'both are online',
        )
        assert sorted(seen) == [('rig0', 'online'), ('rig1', 'online')]
        assert all(0 < rig.round_trip < 5 for rig in presence.values())
        since = presence['rig1'].since
        servers[0].close()
        await servers[0].wait_closed()
        await eventually(lambda: presence['rig0'].state == 'offline', 'presence[rig0].state == offline')
        assert isinstance(presence['rig0'].error, OSError)
        assert presence['rig0'].round_trip is None
        await reopened(lab, servers[0])
        await eventually(lambda: presence['rig0'].restarts, 'presence[rig0].restarts')
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
    assert not any(internals.connection_callbacks(rig) for rig in rigs.values())


async def test_a_rig_that_was_never_there(lab):
    client = await lab.client(f'udp://127.0.0.1:{free_port()}', 'ghost')
    async with Services([client]).watch(OFTEN) as presence:
        await eventually(lambda: presence['ghost'].state == 'offline', 'presence[ghost].state == offline')
        assert isinstance(presence['ghost'].error, RefusedError)
        assert presence['ghost'].restarts == 0


async def plain_rig():
    rig = (await asyncio.get_running_loop().create_datagram_endpoint(Plain, local_addr=('127.0.0.1', 0)))[1]
    RawUdp.opened.append(rig)
    return rig


async def intervals(n=5):
    """Wait for some intervals of a watch."""
    await asyncio.sleep(n * OFTEN)


async def test_a_plain_rig_is_sent_nothing(lab):
    """It is as it was last known, and when it was last heard can be asked."""
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner')
    rigs = Services([client], timeout=60.0)
    await client.init()
    assert client.peers[rig.addr].kind == 'legacy'
    n_frames = len(rig.frames)
    async with rigs.watch(OFTEN) as presence:
        assert presence['scanner'].state == 'unknown'
        await eventually(lambda: presence['scanner'].state == 'online', 'presence[scanner].state == online')
        heard_at = presence['scanner'].last_heard
        assert heard_at == client.peers[rig.addr].last_seen
        assert presence['scanner'].round_trip > 0
        await intervals()
        assert presence['scanner'].state == 'online'
        assert presence['scanner'].last_heard == heard_at
        rig.say(b'[64, 20]', rig.sender)
        await eventually(lambda: presence['scanner'].last_heard > heard_at, 'presence[scanner].last_heard > heard_at')
        starting = asyncio.ensure_future(rigs.start(REF))
        await eventually(lambda: b'[2,' in rig.frames[-1], 'b[2, in rig.frames[-1]')
        await intervals()
        rig.say(b'[2, "running"]', rig.sender)
        await starting
        assert not [frame for frame in rig.frames[n_frames:] if is_ping(frame)]


@pytest.mark.parametrize('how', ['a call', 'a message'])
async def test_a_plain_rig_is_offline_when_it_does_not_confirm(lab, how):
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner')
    rigs = Services([client], timeout=60.0)
    await client.init()
    client.default_echo_timeout = 0.1
    async with rigs.watch(OFTEN) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        rig.alive = False
        with pytest.raises(EchoError):
            await (rigs.start(REF) if how == 'a call' else client.start(REF))
        change = await asyncio.wait_for(changes.__anext__(), 10)
        assert change.state == 'offline'
        assert isinstance(change.presence.error, EchoTimeoutError)
        assert 'EXPSTART' in str(change.presence.error)
        assert change.presence.round_trip is None
        start = rig.frames[-1]
        await intervals()
        assert rig.frames[-1] is start  # nothing is sent, not even now
        assert presence['scanner'].state == 'offline'
        rig.say(start, rig.sender)  # late
        assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'online'
        await intervals()
        assert presence['scanner'].state == 'online'
        assert presence['scanner'].restarts == 0  # nobody can know


@needs_refusals
async def test_a_plain_rig_is_offline_when_it_refuses(lab):
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner')
    await client.init()
    async with Services([client]).watch(OFTEN) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        rig.close()
        await asyncio.sleep(0.01)  # the loop closes its socket
        with pytest.raises(PeerUnreachableError):
            await client.confirmed_send([2, REF], timeout=0.1)
        change = await asyncio.wait_for(changes.__anext__(), 10)
        assert change.state == 'offline'
        assert isinstance(change.presence.error, PeerUnreachableError)


async def test_a_plain_rig_is_there_that_has_been_heard_during_a_call(lab):
    """The network has lost one message, or the rig answers late."""
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner')
    rigs = Services([client], timeout=0.2)
    await client.init()
    async with rigs.watch(OFTEN, timeout=0.01) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        with pytest.raises(ServicesError, match='did not answer'):
            await rigs.start(REF)
        rig.alive = False
        starting = asyncio.ensure_future(client.confirmed_send([2, REF], timeout=0.2))
        await eventually(lambda: client.awaiting_response(), 'client.awaiting_response()')
        rig.say(b'[64, 20]', rig.sender)
        with pytest.raises(EchoTimeoutError):
            await starting
        await intervals()
        assert presence['scanner'].state == 'online'


@pytest.mark.parametrize(('patience', 'state'), [(3600.0, 'online'), (0.01, 'offline')])
async def test_a_wait_that_was_cancelled_says_something_if_it_was_long(lab, patience, state):
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner')
    await client.init()
    async with Services([client]).watch(OFTEN, timeout=patience) as presence:
        await eventually(lambda: presence['scanner'].state == 'online', 'presence[scanner].state == online')
        rig.alive = False
        starting = asyncio.ensure_future(client.confirmed_send([2, REF], timeout=60.0))
        await asyncio.sleep(0.05)
        starting.cancel()
        await asyncio.wait([starting])
        await intervals()
        assert presence['scanner'].state == state
        assert (state == 'online') == (presence['scanner'].error is None)


async def test_a_rig_not_yet_known_is_pinged(lab):
    """Until it turns out to be plain."""
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner')
    rig.alive = False
    async with Services([client]).watch(OFTEN, timeout=0.02) as presence, presence.events() as changes:
        change = await asyncio.wait_for(changes.__anext__(), 10)
        assert change.state == 'offline'
        assert change.presence.last_heard is None
        assert isinstance(change.presence.error, EchoTimeoutError)
        pings = rig.pings
        await eventually(lambda: rig.pings > pings + 2, 'rig.pings > pings + 2')
        rig.alive = True
        assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'online'
        await eventually(lambda: client.peers[rig.addr].kind == 'legacy', 'the peer is known as legacy')
        await intervals()  # those that were under way have come
        pings = rig.pings
        await intervals()
        assert rig.pings == pings


@pytest.mark.parametrize('told', ['before', 'under a watch'])
@pytest.mark.parametrize('cancelled', [False, True])
async def test_no_ping_follows_a_message_that_a_rig_may_not_have_read(lab, told, cancelled):
    """MATLAB would answer the message, then the ping, and take the echo of its answer for a message."""
    rig = await plain_rig()
    client = await lab.client(rig.uri, 'scanner')
    client.default_echo_timeout = 0.1
    rigs = Services([client], timeout=60.0)
    rig.alive = False

    async def call():
        calling = asyncio.ensure_future(rigs.start(REF))
        await eventually(lambda: rig.frames and b'[2,' in rig.frames[-1], 'rig.frames and b[2, in rig.frames[-1]')
        if cancelled:
            calling.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else ServicesError):
            await calling

    if told == 'before':
        await call()
    async with rigs.watch(OFTEN, timeout=0.01) as presence:
        if told != 'before':
            await eventually(lambda: rig.pings, 'rig.pings')
            await call()
        await intervals()
        start = rig.frames[-1]
        assert not is_ping(start)
        await eventually(lambda: presence['scanner'].state == 'offline', 'presence[scanner].state == offline')
        await intervals()
        assert rig.frames[-1] is start
        rig.say(start, rig.sender)  # late
        await eventually(lambda: presence['scanner'].state == 'online', 'presence[scanner].state == online')


@needs_refusals
async def test_a_rig_that_refuses_has_nothing_to_read(lab):
    client = await lab.client(f'udp://127.0.0.1:{free_port()}', 'ghost')
    rigs = Services([client], timeout=60.0)
    with pytest.raises(ServicesError, match='ghost'):
        await rigs.start(REF)
    async with rigs.watch(OFTEN) as presence, presence.events() as changes:
        assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'offline'
        again = await EchoProtocol.server(client.server_uri, 'ghost')
        lab.opened.append(again)
        assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'online'
        assert presence['ghost'].restarts == 0


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
        await eventually(lambda: presence['camera'].state == 'online', 'presence[camera].state == online')
        seen = client.peers[rig.hostname, rig.port].confirmed
        await eventually(
            lambda: client.peers[rig.hostname, rig.port].confirmed > seen + 3,
            'it is pinged',
        )
        assert not starting.done()
        rig.close()
        await eventually(lambda: presence['camera'].state == 'offline', 'presence[camera].state == offline')
        again = await reopened(lab, rig)
        await again.start(REF, addr=addr)
        await starting
        await eventually(lambda: presence['camera'].restarts, 'presence[camera].restarts')


async def test_another_run_tells_of_a_restart(lab):
    """Exactly: neither old numbers nor new ones do, nor the next run of a program that has come to the last number."""

    class Tagging(Plain):
        def datagram_received(self, data, addr):
            self.sender = addr
            if not read_tag(data) & ACK:
                self.transport.sendto(set_ack(data), addr)

    rig = (await asyncio.get_running_loop().create_datagram_endpoint(Tagging, local_addr=('127.0.0.1', 0)))[1]
    RawUdp.opened.append(rig)
    client = await lab.client(rig.uri, 'camera')
    async with Services([client]).watch(OFTEN) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        for number in (5, 10**9, 6, 2**32 - 1):
            rig.say(tag(b'[64, 20]', number, 77), rig.sender)
        rig.say(tag(b'[64, 20]', 1, 78), rig.sender)
        await intervals()
        assert presence['camera'].restarts == 0
        rig.say(tag(b'[64, 20]', 1, 80), rig.sender)
        assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'restarted'
        rig.say(tag(b'[64, 20]', 10**9, 7), rig.sender)
        assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'restarted'
        assert presence['camera'].state == 'online'
        assert presence['camera'].restarts == client.peers[rig.addr].restarts == 2


async def test_a_restart_between_two_pings_shows_in_the_reply(lab):
    rig = await lab.server()
    client = await lab.client(rig, 'camera')
    async with Services([client]).watch(0.2) as presence:
        await eventually(lambda: presence['camera'].state == 'online', 'presence[camera].state == online')
        for restarts in (1, 2):
            rig.close()
            await rig.wait_closed()
            rig = await reopened(lab, rig)
            await eventually(lambda n=restarts: presence['camera'].restarts == n, 'presence[camera].restarts == n')
            await asyncio.sleep(0.25)
            assert presence['camera'].restarts == restarts


async def test_no_message_waits_for_the_ping_of_a_watch(lab):
    """A rig that has just been plugged in again is told at once, though a ping to it is still out."""
    rig = (await asyncio.get_running_loop().create_datagram_endpoint(Plain, local_addr=('127.0.0.1', 0)))[1]
    RawUdp.opened.append(rig)
    client = await lab.client(rig.uri, 'camera')
    client.default_echo_timeout = 60.0
    rig.alive = False
    async with Services([client]).watch(OFTEN, timeout=60.0):
        await eventually(lambda: rig.pings, 'rig.pings')
        assert not client.awaiting_response()
        starting = asyncio.ensure_future(client.start(REF))
        await asyncio.sleep(0)
        assert client.awaiting_response()
        await eventually(lambda: len(rig.frames) > rig.pings, 'len(rig.frames) > rig.pings')
        rig.say(rig.frames[-1], rig.sender)
        await starting


async def test_a_watch_ends_with_its_set(lab):
    rigs = await lab.services(2)
    async with rigs.watch(OFTEN) as presence, presence.events() as changes:
        await eventually(
            lambda: all(rig.state == 'online' for rig in presence.values()),
            'all are online',
        )
        rigs.close()
        assert [change.state async for change in changes] == ['online', 'online']
    assert presence.is_closed
    for interval, timeout in ((0, 1), (1, 0), (-1, 1)):
        with pytest.raises(ValueError, match='positive'):
            rigs.watch(interval, timeout)
    async with rigs.watch(OFTEN) as presence:  # of a set that is closed
        await eventually(
            lambda: all(rig.state == 'offline' for rig in presence.values()),
            'all are offline',
        )
        with pytest.raises(ServicesError):
            await rigs.init()


async def test_mocks_may_be_watched():
    rig = mock.AsyncMock(spec=EchoProtocol)
    rig.name = 'mock'
    rig.ping.return_value = 0.001
    async with Services([rig]).watch(OFTEN) as presence:
        await eventually(lambda: presence['mock'].round_trip == 0.001, 'presence[mock].round_trip == 0.001')
        rig.ping.side_effect = ValueError('odd')
        await eventually(lambda: presence['mock'].state == 'offline', 'presence[mock].state == offline')
        assert str(presence['mock'].error) == 'odd'


async def test_over_tcp_a_rig_that_may_not_bear_it_is_not_pinged(lab):
    """Its connection tells whether it is there."""
    server = await lab.server('tcp', tuning=Tuning(tags=False))
    client = await lab.client(
        server, 'daq', tuning=InternalTuning(first_reconnect_delay=0.005, max_reconnect_delay=0.01)
    )
    async with Services([client]).watch(OFTEN) as presence, presence.events() as changes:
        assert (await changes.__anext__()).state == 'online'
        assert presence['daq'].round_trip is None
        await client.init()
        await eventually(lambda: presence['daq'].round_trip, 'presence[daq].round_trip')
        assert client.peers[server.hostname, server.port].sent == 1
        server.close()
        await server.wait_closed()
        assert (await changes.__anext__()).state == 'offline'
        await reopened(lab, server)
        assert [(await changes.__anext__()).state for _ in range(2)] == ['online', 'restarted']
