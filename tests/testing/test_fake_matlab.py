"""The fake rig with the MATLAB dialect behaves as the MATLAB programs of the field do."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from echorig import ConnectionClosedError, EchoError, EchoTimeoutError, sync
from echorig.testing import FakeRig
from eventually import eventually
from lab import REF, RawUdp

PING = b'[' + b' \t' * 48 + b']'
PATIENCE = 30.0  # only a failure waits that long


def matlab(**kwargs):
    return FakeRig(kind='matlab', name='matlab', **kwargs)


async def says(peer, *frames):
    """Assert that a rig sends these frames, and nothing else."""
    for frame in frames:
        said = (await asyncio.wait_for(peer.heard.get(), PATIENCE))[0]
        assert said == frame
    assert peer.heard.empty()


@pytest.mark.parametrize('buffer', [512, 1000])
async def test_messages_longer_than_the_buffer(lab, buffer):
    """The rig echoes the first bytes, and cannot decode them."""
    async with matlab(buffer=buffer) as rig:
        client = await lab.client(rig.uri, 'rig')
        notice = asyncio.ensure_future(client.on_event(0))
        await client.confirmed_send([2, REF, 'x' * 2000])
        heard = await rig.wait_for('EXPSTART')
        assert len(heard.frame) == buffer
        assert heard.data == []
        assert rig.received == [heard]
        assert (await asyncio.wait_for(notice, PATIENCE))[0] == ['JSON syntax error', heard.frame.decode()]


async def test_notices_quote_and_the_last_message_is_an_echo():
    async with matlab() as rig:
        peer = await RawUdp.open()
        rig.script('EXPINIT', notice='Undefined function')
        peer.say(b'[1, "a"]', rig.addr)
        await says(peer, b'[1, "a"]', b'[0,"Undefined function","[1, \\"a\\"]"]')
        rig.script('EXPEND', answer=['stopped'])
        peer.say(b'[4, null]', rig.addr)
        await says(peer, b'[4, null]', b'[4,"stopped"]')
        peer.say(b'[4,"stopped"]', rig.addr)  # its echo
        peer.say(b'[4,"stopped"]', rig.addr)  # and a message that looks like it
        peer.say(b'[8, 1]', rig.addr)
        await says(peer, b'[8, 1]', b'[8,1]')
        assert [message.frame for message in rig.received] == [b'[1, "a"]', b'[4, null]', b'[8, 1]']
        assert rig.confirmed == [[4, 'stopped']]
        peer.close()


async def test_a_notice_replaces_the_last_message():
    """After a ping the rig takes the echo of its answer for a command, from any address."""
    async with matlab() as rig:
        peer, other = await RawUdp.open(), await RawUdp.open()
        rig.script('EXPINIT', answer=['ready'])
        notice = b'[0,"Index exceeds the number of array elements","[' + b' \\t' * 48 + b']"]'
        peer.say(b'[1, null]', rig.addr)
        await says(peer, b'[1, null]', b'[1,"ready"]')
        other.say(PING, rig.addr)
        await says(other, PING, notice)
        assert [message for message, _ in rig.unconfirmed] == [[1, 'ready']]
        assert isinstance(rig.unconfirmed[0][1], EchoError)
        peer.say(b'[1,"ready"]', rig.addr)
        await says(peer, b'[1,"ready"]', b'[1,"ready"]')
        assert [message.data for message in rig.received] == [[None], ['ready']]
        other.say(b'[1,"ready"]', rig.addr)
        await eventually(lambda: rig.confirmed, 'the echo')
        assert other.heard.empty()
        peer.close()
        other.close()


@pytest.mark.parametrize(
    ('frame', 'why'),
    [
        (b'hello', 'JSON syntax error'),
        (b'[2, "cut', 'JSON syntax error'),
        (b'{"event": 2}', 'Index exceeds the number of array elements'),
        (b'[3, null]', 'Cannot find the enumeration member'),
        (b'["EXPINIT"]', 'Cannot find the enumeration member'),
        (b'[0, "ValueError: x", 2]', 'Cannot find the enumeration member'),
    ],
)
async def test_a_frame_that_cannot_be_executed_is_echoed_and_quoted(frame, why):
    async with matlab() as rig:
        peer = await RawUdp.open()
        peer.say(frame, rig.addr)
        await says(peer, frame, json.dumps([0, why, frame.decode()], separators=(',', ':')).encode())
        assert [message.frame for message in rig.received] == [frame]
        peer.close()


async def test_one_thing_at_a_time():
    """While the rig is busy, frames wait in its socket, the echo of its answer too."""
    async with matlab() as rig:
        peer = await RawUdp.open()
        rig.script('EXPSTART', echo_delay=0.05, answer_delay=0.05)
        for frame in (b'[2, 1]', b'[4, 2]', PING, b'[8, 3]'):
            peer.say(frame, rig.addr)
        notice = b'[0,"Index exceeds the number of array elements","[' + b' \\t' * 48 + b']"]'
        await says(peer, b'[2, 1]', b'[2,1]', b'[4, 2]', b'[4,2]', PING, notice, b'[8, 3]', b'[8,3]')
        assert [message for message, _ in rig.unconfirmed] == [[2, 1], [4, 2]]
        peer.close()


async def test_busy():
    async with matlab() as rig:
        peer = await RawUdp.open()
        with pytest.raises(ValueError, match='number of seconds'):
            rig.busy(-1)
        begun = time.monotonic()
        rig.busy(0.1)
        rig.busy(0.2)
        rig.busy(0.1)
        for frame in (b'[2, 1]', b'[4, 2]'):
            peer.say(frame, rig.addr)
        telling = asyncio.ensure_future(rig.send([64, 20], peer.addr, timeout=PATIENCE))
        said = [(await asyncio.wait_for(peer.heard.get(), PATIENCE))[0] for _ in range(5)]
        assert time.monotonic() - begun > 0.19
        assert sorted(said) == sorted([b'[2, 1]', b'[2,1]', b'[4, 2]', b'[4,2]', b'[64,20]'])
        assert [message.data for message in rig.received] == [[1], [2]]
        await rig.power_off()
        with pytest.raises(EchoError):  # forgotten, or switched off, as it came last
            await telling
        with pytest.raises(EchoError, match='off'):
            rig.busy(1)
        peer.close()
    async with FakeRig() as echorig:
        with pytest.raises(ValueError, match='process of its own'):
            echorig.busy(0.1)


def test_busy_without_an_event_loop():
    with FakeRig(kind='matlab') as rig, sync.EchoProtocol.client(rig.uri, 'rig') as com:
        com.default_echo_timeout = PATIENCE
        com.init()
        begun = time.monotonic()
        rig.busy(0.1)
        com.init()
        assert time.monotonic() - begun > 0.09


async def test_a_message_is_forgotten_when_the_next_one_is_sent():
    async with matlab() as rig:
        peer = await RawUdp.open()
        first = asyncio.ensure_future(rig.send([64, 20, 1], peer.addr, timeout=PATIENCE))
        await says(peer, b'[64,20,1]')
        second = asyncio.ensure_future(rig.send([64, 20, 2], peer.addr, timeout=PATIENCE))
        await says(peer, b'[64,20,2]')
        with pytest.raises(EchoError, match='forgot'):
            await first
        peer.say(b'[64,20,2]', rig.addr)
        await second
        with pytest.raises(EchoTimeoutError):
            await rig.send([64, 20, 3], peer.addr, timeout=0.01)
        assert rig.confirmed == [[64, 20, 2]]
        assert [message for message, _ in rig.unconfirmed] == [[64, 20, 1], [64, 20, 3]]
        last = asyncio.ensure_future(rig.send([64, 20, 4], peer.addr, timeout=PATIENCE))
        await says(peer, b'[64,20,3]', b'[64,20,4]')
        await rig.power_off()
        with pytest.raises(ConnectionClosedError, match='switched off'):
            await last
        peer.close()


async def test_one_byte_for_each_character(lab):
    """Sent text is not UTF-8; received text is decoded in the same way."""
    async with matlab() as rig:
        rig.script('EXPINIT', answer=['für 100 €'])
        peer = await RawUdp.open()
        peer.say('[1, "fürs"]'.encode('latin-1'), rig.addr)
        await says(peer, b'[1, "f\xfcrs"]', b'[1,"f\xfcr 100 \xff"]')
        assert rig.received[0].data == ['fürs']
        client = await lab.client(rig.uri, 'rig')
        hearing = asyncio.ensure_future(client.on_event('EXPINIT'))
        await client.init()
        assert (await asyncio.wait_for(hearing, PATIENCE))[0] == ['für 100 ÿ']
        for message in ('[64, "ü"]', b'[64, "\xfc"]'):
            await eventually(lambda: len(rig.confirmed) == 1, 'the echo of the answer')
            rig.confirmed.clear()
            await rig.send(message, client._transport.get_extra_info('sockname'), timeout=PATIENCE)
            rig.confirmed[:] = [1]
        peer.close()
