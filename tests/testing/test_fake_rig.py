"""`FakeRig`: scripted reactions, power and outcomes, for each kind of rig and both ways to use it."""

from __future__ import annotations

import asyncio
import inspect
import json
import time

import pytest

import echorig.testing
from echorig import (
    ConnectionClosedError,
    EchoMismatchError,
    EchoTimeoutError,
    ExpMessage,
    PeerUnreachableError,
    RemoteCallbackError,
    Services,
    ServicesError,
    ServicesTimeoutError,
    sync,
)
from echorig.testing import BlockingFakeRig, FakeRig
from echorig.testing.dialects import Dialect
from eventually import eventually
from lab import REF, RawUdp
from systems import RefusedError

KINDS = [('echorig', 'udp'), ('echorig', 'tcp'), ('iblutil', 'udp'), ('iblutil', 'tcp'), ('matlab', 'udp')]
each_kind = pytest.mark.parametrize(('kind', 'transport_'), KINDS)


def fake(kind: str = 'echorig', transport: str = 'udp') -> FakeRig:
    return FakeRig(f'{transport}://127.0.0.1:0', kind=kind)


async def test_a_delayed_echo_counts_once(lab):
    """Copies of a message that arrive while its echo is delayed are not recorded as messages."""
    async with fake() as rig:
        rig.script('EXPSTART', echo_delay=0.1, times=1)
        client = await lab.client(rig.uri)
        client.default_echo_timeout = 10.0
        begun = time.monotonic()
        await client.start(REF)
        assert time.monotonic() - begun > 0.09
        await client.start(REF)
        await rig.wait_for('EXPSTART')
        await rig.wait_for('EXPSTART')
        assert len(rig.received) == 2


@each_kind
async def test_a_session(lab, kind, transport_):
    async with fake(kind, transport_) as rig:
        async with Services([await lab.client(rig.uri, 'rig')], timeout=10) as rigs:
            assert await rigs.init({'a': 1}) == {'rig': [{'a': 1}]}
            assert await rigs.start(REF) == {'rig': [REF, None]}
            assert await rigs.status(20) == {'rig': [20]}
            assert await rigs.stop('x', immediately=True) == {'rig': ['x']}
            assert await rigs.cleanup() == {'rig': [None]}
            kinds = {'echorig': 'echorig', 'iblutil': 'legacy', 'matlab': 'legacy'}
            assert [peer.kind for peer in rigs['rig'].peers.values()] == [kinds[kind]]
            assert await rigs['rig'].ping() > 0
        heard = [message.event.name for message in rig.received]
        assert heard == ['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINTERRUPT', 'EXPCLEANUP']
        assert (await rig.wait_for(ExpMessage.EXPSTART | ExpMessage.EXPEND)).data == [REF, None]
        assert json.loads(rig.received[1].frame) == [2, REF, None]
        with pytest.raises(EchoTimeoutError, match=r'no EXPSTART within 0\.01 s; so far: EXPINIT, EXPSTART'):
            await rig.wait_for('EXPSTART', timeout=0.01)
        assert (await rig.wait_for()).event == ExpMessage.EXPINIT
        assert rig.unconfirmed == []


@each_kind
async def test_script(lab, kind, transport_):
    async with fake(kind, transport_) as rig:
        async with Services([await lab.client(rig.uri, 'rig')], timeout=0.3) as rigs:
            rigs['rig'].default_echo_timeout = 0.3
            rig.script('EXPINIT', answer=['ready', 7])
            assert await rigs.init() == {'rig': ['ready', 7]}
            rig.script('EXPINIT', answer=lambda data: [data[0] * 2], times=2)
            assert [await rigs.init(n) for n in (1, 2, 3)] == [{'rig': [2]}, {'rig': [4]}, {'rig': ['ready', 7]}]
            rig.script('EXPSTART', notice='OSError: no disk left', times=1)
            with pytest.raises(ServicesError) as caught:
                await rigs.start(REF)
            failure = caught.value.failures['rig']
            assert isinstance(failure, RemoteCallbackError)
            assert failure.message == 'OSError: no disk left'
            rig.script('EXPSTART', answer=['no laser'], answer_event='EXPINTERRUPT', times=1)
            with pytest.raises(ServicesError, match='EXPINTERRUPT: no laser'):
                await rigs.start(REF)
            rig.script('EXPEND', answer=None)
            with pytest.raises(ServicesTimeoutError, match='rig confirmed, but did not answer EXPEND'):
                await rigs.stop()
            rig.script('EXPCLEANUP', echo=False)
            with pytest.raises(ServicesTimeoutError, match='did not echo EXPCLEANUP'):
                await rigs.cleanup()
            assert rig.received[-1].event == ExpMessage.EXPCLEANUP
            assert len([message for message in rig.received if message.event == ExpMessage.EXPCLEANUP]) == 1
            rigs.timeout = rigs['rig'].default_echo_timeout = 10.0
            rig.script(echo_delay=0.05, answer_delay=0.05)
            begun = time.monotonic()
            assert await rigs.cleanup(1) == {'rig': [1]}
            assert time.monotonic() - begun > 0.09


@each_kind
async def test_a_late_answer(lab, kind, transport_):
    async with fake(kind, transport_) as rig:
        client = await lab.client(rig.uri, 'rig')
        rig.script('EXPSTART', answer=['late'], answer_delay=0.3)
        with pytest.raises(ServicesTimeoutError):
            await Services([client], timeout=0.1).start(REF)
        assert (await asyncio.wait_for(client.on_event('EXPSTART'), 10))[0] == ['late']


@each_kind
async def test_power(lab, kind, transport_):
    """A rig that is off refuses messages. Switched on again, it has the same address and no state of delivery."""
    async with fake(kind, transport_) as rig:
        assert rig.is_on
        uri = rig.uri
        client = await lab.client(uri, 'rig')
        client.default_echo_timeout = 0.3
        await client.start(REF)
        await rig.power_off()
        assert not rig.is_on
        with pytest.raises((RefusedError, PeerUnreachableError, ConnectionClosedError)):
            await client.stop()
        with pytest.raises((RefusedError, PeerUnreachableError)):
            await (await lab.client(uri)).init()
        await rig.power_on()
        assert rig.uri == uri
        client = await lab.client(uri, 'rig')
        client.default_echo_timeout = 10
        await client.stop()
        await rig.restart()
        client = await lab.client(uri, 'rig')
        client.default_echo_timeout = 10
        await client.cleanup()
        assert [message.event.name for message in rig.received] == ['EXPSTART', 'EXPEND', 'EXPCLEANUP']


@each_kind
async def test_power_off_during_an_exchange(lab, kind, transport_):
    """A delayed echo or answer is never sent after power off."""
    async with fake(kind, transport_) as rig:
        client = await lab.client(rig.uri, 'rig')
        rig.script(echo_delay=30)
        sending = asyncio.ensure_future(client.confirmed_send([2, REF], timeout=0.5))
        await rig.wait_for('EXPSTART')
        await rig.restart()
        with pytest.raises((EchoTimeoutError, ConnectionClosedError)):
            await sending


@each_kind
async def test_silent(lab, kind, transport_):
    async with fake(kind, transport_) as rig:
        client = await lab.client(rig.uri, 'rig')
        rig.silent = True
        with pytest.raises(EchoTimeoutError, match='did not echo') as caught:
            await client.confirmed_send([2, REF], timeout=0.2)
        assert not isinstance(caught.value, PeerUnreachableError)
        with pytest.raises(EchoTimeoutError):
            await client.ping(timeout=0.1)
        assert rig.received == []
        rig.silent = False
        client.default_echo_timeout = 10
        await client.init()


@each_kind
async def test_unrequested_message(lab, kind, transport_):
    async with fake(kind, transport_) as rig:
        with pytest.raises(ValueError, match='received nothing'):
            await rig.send([64, 20, 'x'])
        client = await lab.client(rig.uri, 'rig')
        await client.init()
        await eventually(lambda: rig.confirmed, 'rig.confirmed')  # MATLAB forgets its answer when it speaks again
        hearing = asyncio.ensure_future(client.on_event('EXPINFO'))
        await asyncio.sleep(0)
        await rig.send([64, 20, 'x'], timeout=10)
        assert (await hearing)[0] == [20, 'x']


async def test_iblutil_closes_itself_on_a_wrong_echo(lab):
    async with fake('iblutil') as rig:
        peer = await RawUdp.open()
        peer.say(b'[1, 5]', rig.addr)
        assert (await peer.hear())[0] == b'[1, 5]'
        assert (await peer.hear())[0] == b'[1, 5]'  # the answer, whose echo it waits for
        peer.say(b'[2, "crossed"]', rig.addr)
        await eventually(lambda: not rig.is_on, 'not rig.is_on')
        assert isinstance(rig.gave_up, EchoMismatchError)
        assert rig.unconfirmed == [([1, 5], rig.gave_up)]
        with pytest.raises(RefusedError):
            await (await lab.client(rig.uri)).init()
        await rig.restart()
        assert rig.is_on
        peer.say(b'[4, 1]', rig.addr)
        assert (await peer.hear())[0] == b'[4, 1]'
        assert (await peer.hear())[0] == b'[4, 1]'
        await eventually(lambda: not rig.is_on, 'not rig.is_on')  # no echo
        assert isinstance(rig.gave_up, EchoTimeoutError)


async def test_busy_iblutil_reads_waiting_frames_in_order(monkeypatch):
    """Only a ping behind the message is read while iblutil waits for the echo of its answer."""
    monkeypatch.setattr(Dialect, 'echo_timeout', 4.0)  # longer than a machine under load may stall
    peer = await RawUdp.open()
    ping = b'[' + b' ' * 96 + b']'
    async with fake('iblutil') as rig:
        rig.busy(0.1)
        for frame in (ping, b'[1, 5]'):
            peer.say(frame, rig.addr)
        said = [(await asyncio.wait_for(peer.heard.get(), 10))[0] for _ in range(3)]
        assert said == [ping, b'[1, 5]', b'[1, 5]']
        rig.busy(4.2)  # longer than it waits for an echo: what has arrived by then is read before it gives up
        peer.say(b'[1, 5]', rig.addr)
        await eventually(lambda: rig.confirmed, 'rig.confirmed')
        rig.busy(0.1)
        for frame in (b'[4, 6]', ping):
            peer.say(frame, rig.addr)
        await eventually(lambda: not rig.is_on, 'not rig.is_on')
        assert isinstance(rig.gave_up, EchoMismatchError)
        assert [message.data for message in rig.received] == [[5], [6]]
        await rig.restart()
        assert (await asyncio.wait_for(peer.heard.get(), 10))[0] == b'[4, 6]'
        peer.say(b'[64, "\xe4"]', rig.addr)  # it fails before it echoes
        peer.say(b'[8, 7]', rig.addr)
        said = [(await asyncio.wait_for(peer.heard.get(), 10))[0] for _ in range(2)]
        assert said == [b'[4, 6]', b'[8, 7]']  # the answer of before, and the echo
    peer.close()


async def test_notices_and_other_frames_are_recorded(lab, caplog):
    async with fake('matlab') as rig:
        client = await lab.client(rig.uri, 'rig')
        await client.confirmed_send('hello')
        client.send([0, 'ValueError: x', 2])
        assert (await rig.wait_for(0)).data == ['ValueError: x', 2]
        assert rig.received[0][:2] == (None, [])
    async with fake() as rig:
        client = await lab.client(rig.uri, 'rig')
        client.send([0, 'ValueError: x', 2])
        assert (await rig.wait_for(0)).data == ['ValueError: x', 2]


async def test_a_legacy_main_pc(lab):
    """Its echoes of the answers have no ack flag, and are not recorded as messages."""
    async with fake() as rig:
        plain = await lab.client(rig.uri, 'rig', tuning=echorig.Tuning(tags=False))
        async with Services([plain], timeout=10) as rigs:
            for n in range(20):
                assert await rigs.init(n) == {'rig': [n]}
        assert [message.data for message in rig.received] == [[n] for n in range(20)]
        assert rig.unconfirmed == []


async def test_100_rigs_of_all_kinds_on_one_loop(lab):
    rigs = [await fake(kind, transport).__aenter__() for kind, transport in KINDS * 4]
    try:
        coms = [await lab.client(rig.uri, f'rig{i}') for i, rig in enumerate(rigs)]
        assert len(await Services(coms, timeout=30).start(REF)) == 20
    finally:
        for rig in rigs:
            await rig.power_off()


@pytest.mark.parametrize('values', [{'times': 0}, {'echo_delay': -1}, {'answer_delay': float('nan')}])
def test_invalid_scripts(values):
    with pytest.raises(ValueError):
        FakeRig().script('EXPINIT', **values)
    with pytest.raises(ValueError, match='kind'):
        FakeRig(kind='labview')
    with pytest.raises(ValueError, match='Unknown event'):
        FakeRig().script('EXPBEGIN')
    with pytest.raises(ValueError, match='UDP only'), FakeRig('tcp://127.0.0.1:0', kind='matlab'):
        pass


@each_kind
def test_blocking(kind, transport_):
    with fake(kind, transport_) as rig, sync.EchoProtocol.client(rig.uri, 'rig') as com:
        com.default_echo_timeout = 10
        rigs = sync.Services([com])
        assert rigs.start(REF) == {'rig': [REF, None]}
        rig.script('EXPEND', answer=['stopped'])
        assert rigs.stop() == {'rig': ['stopped']}
        assert rig.wait_for('EXPEND').data == [None]
        rig.send([64, 20, 'x'], timeout=10)
        assert [message.event.name for message in rig.received] == ['EXPSTART', 'EXPEND']
        assert (rig.kind, rig.name, rig.buffer, rig.unconfirmed, rig.gave_up) == (kind, 'rig', 512, [], None)
        rig.silent = True
        with pytest.raises(EchoTimeoutError):
            com.ping(timeout=0.1)
        assert rig.silent
        rig.power_off()
        assert not rig.is_on
        with pytest.raises((RefusedError, PeerUnreachableError, ConnectionClosedError)):
            com.confirmed_send([1, None], timeout=0.2)
        rig.power_on()
        rig.restart()
        assert rig.is_on
    assert not rig.is_on


def test_names_of_the_blocking_rig():
    """`BlockingFakeRig` has the names of `FakeRig`, with the same parameters."""
    for_the_portal = {'wait_closed'}
    with FakeRig() as blocking:
        ours = {name for name in dir(blocking.asynchronous) if name[0] != '_'} - for_the_portal
        assert ours | {'asynchronous', 'portal'} == {name for name in dir(blocking) if name[0] != '_'}
    for name in ours:
        if inspect.isroutine(getattr(FakeRig, name, None)):
            signatures = [inspect.signature(getattr(cls, name)) for cls in (FakeRig, BlockingFakeRig)]
            assert signatures[0].parameters == signatures[1].parameters


async def test_on_a_lossy_network(lab):
    """Lost messages are sent again in both directions, and are recorded once."""
    async with fake() as rig:
        async with echorig.testing.LossyLink(rig.uri, loss=0.2, seed=3) as link:
            client = await lab.client(link.uri, 'rig')
            client.default_echo_timeout = 30
            heard = []
            client.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
            for n in range(30):
                await client.info(20, n)
            await eventually(lambda: len(heard) == 30, 'len(heard) == 30')
            assert heard == list(range(30))
            assert [message.data[1] for message in rig.received] == list(range(30))
