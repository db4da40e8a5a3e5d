"""Peers that lie, over real sockets: no callback runs twice, nothing is confirmed that was not echoed, no storm.

The liar is a raw socket that says what the test wants. It ends each part with a message of its own: datagrams of one
sender arrive in order on loopback, so that whatever it said before has been dealt with when that one is echoed.
"""

from __future__ import annotations

import asyncio
import random

import pytest
import pytest_asyncio

from echorig import EchoMismatchError, EchoTimeoutError, Tuning
from echorig._codec import encode
from rigs import RawUdp
from tagging import acknowledged, read_tag, tag, untagged

PATIENCE = 20.0  # seconds; only a failure waits that long
FLAG = 2**31
SYNC = b'[64, 0, "synchronized"]'
pytestmark = pytest.mark.filterwarnings('ignore:Expected list:RuntimeWarning')


class Liar(RawUdp):
    """A raw peer that can wait until the other end has dealt with everything."""

    number = 0

    async def synced(self, addr):
        """Return what is heard until the other end has dealt with all that was said."""
        self.number += 1
        last = tag(SYNC, self.number)
        self.say(last, addr)
        heard = []
        while (data := (await self.hear(PATIENCE))[0]) != acknowledged(last):
            heard.append(data)
        return heard


@pytest_asyncio.fixture
async def liar():
    peer = await Liar.open()
    yield peer
    peer.close()


def address(com):
    """Where a communicator is to be reached."""
    return com._transport.get_extra_info('sockname')[:2]


def listening(com):
    heard = []
    for event in ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPSTATUS'):
        com.assign_callback(event, lambda data, addr: heard.append((data, addr)))
    return heard


async def begun(com, liar, message, timeout, addr=None):
    """Begin a send to the liar; return the task and the frame."""
    task = asyncio.create_task(com.confirmed_send(message, addr, timeout=timeout))
    frame, _ = await liar.hear(PATIENCE)
    return task, frame


@pytest_asyncio.fixture
async def server(lab):
    return await lab.server()


@pytest_asyncio.fixture
async def sending(lab, liar):
    return await lab.client(liar.uri)  # the liar is its server


async def test_acks_of_other_numbers(sending, liar):
    """Only the flag, the number and the bytes together confirm."""
    task, frame = await begun(sending, liar, [1, None], 0.5)
    number, heard = read_tag(frame), listening(sending)
    for other in ((number + 1) % FLAG, (number - 1) % FLAG, number ^ 1, number ^ 2**30, 0, FLAG - 1):
        if other != number:
            liar.say(acknowledged(tag(b'[1, null]', other)), address(sending))
    echoed = await liar.synced(address(sending))
    assert not task.done()
    assert all(untagged(data) in (b'[1, null]', b'[]') for data in echoed)  # repetitions; no echo of an echo
    assert not any(read_tag(data) & FLAG for data in echoed)
    with pytest.raises(EchoTimeoutError):
        await task
    assert heard == []


@pytest.mark.parametrize('other', [b'[1, 0]', b'[2, null]', b'[1, nulL]', b'[]', b'[1, null, null]', b'junk]'])
async def test_ack_with_other_bytes(sending, liar, other):
    task, frame = await begun(sending, liar, [1, None], PATIENCE)
    liar.say(tag(other, read_tag(frame) | FLAG), address(sending))
    with pytest.raises(EchoMismatchError):
        await task
    assert await liar.synced(address(sending)) == []


async def test_ack_from_another_address(server, liar):
    """What was sent to one peer is not confirmed by another, whatever it says."""
    other = await Liar.open()
    task, frame = await begun(server, liar, [1, None], PATIENCE, liar.addr)
    heard = listening(server)
    echo = acknowledged(frame)
    other.say(echo, address(server))
    assert await other.synced(address(server)) == []
    assert not task.done()
    assert heard == []
    # Verbatim it is not ours from there: it is a message of its own, and its echo.
    other.say(frame, address(server))
    assert await other.synced(address(server)) == [echo]
    assert not task.done()
    assert heard == [([None], other.addr)]
    liar.say(echo, address(server))
    await task
    assert heard == [([None], other.addr)]
    other.close()


async def test_echo_before_it_was_sent(sending, liar):
    """Guessing the next number confirms nothing ahead of time."""
    task, frame = await begun(sending, liar, [1, None], PATIENCE)
    following = acknowledged(tag(b'[4, null]', (read_tag(frame) + 1) % FLAG))
    liar.say(following, address(sending))
    liar.say(acknowledged(frame), address(sending))
    await task
    task, frame = await begun(sending, liar, [4, None], PATIENCE)
    assert acknowledged(frame) == following
    await liar.synced(address(sending))
    assert not task.done()
    liar.say(following, address(sending))
    await task


async def test_replay(server, liar):
    """Frames said again, in any order, are echoed again and not heard again."""
    heard = listening(server)
    frames = [tag(encode([32, 20]), number) for number in range(10_000, 10_063)]
    chances = random.Random(1)
    for frame in frames:
        liar.say(frame, address(server))
    first = await liar.synced(address(server))
    assert first == [acknowledged(frame) for frame in frames]
    assert len(heard) == 63
    for _ in range(10):
        again = chances.choices(frames[10:], k=50)  # the numbers that synchronize are in the window too
        for frame in again:
            liar.say(frame, address(server))
        liar.number -= 1
        assert await liar.synced(address(server)) == [acknowledged(frame) for frame in again]
    assert len(heard) == 63
    assert server.peers[liar.addr].duplicates == 500 + 10


async def test_same_number_other_bytes(server, liar):
    """A number tells duplicates together with the bytes: one frame may have been damaged on its way."""
    heard = listening(server)
    for message in ([1, 'a'], [1, 'b'], [4, 'c']) * 3:
        liar.say(tag(encode(message), 77), address(server))
    assert len(await liar.synced(address(server))) == 9
    assert [data for data, _ in heard] == [['a'], ['b'], ['c']]


async def test_same_number_from_two_peers(server, liar):
    other = await Liar.open()
    heard = listening(server)
    for peer in (liar, other, liar, other):
        peer.say(tag(b'[1, null]', 5), address(server))
        await peer.synced(address(server))
    assert sorted(addr for _, addr in heard) == sorted([liar.addr, other.addr])
    other.close()


@pytest.mark.parametrize('blanks', [b'', b' ', b' ' * 31, b'\t' * 31, b'\n' + b' ' * 31, b' ' * 16 + b'\r' + b' ' * 15])
async def test_tags_of_a_wrong_length(server, liar, blanks):
    """They are no tags: echoed byte for byte, and each is a message of its own."""
    heard = listening(server)
    frame = b'[1, null' + blanks + b']'
    for _ in range(3):
        liar.say(frame, address(server))
    assert await liar.synced(address(server)) == [frame] * 3
    assert [data for data, _ in heard] == [[None]] * 3


@pytest.mark.parametrize('blanks', [b' ' * 33, b'\t' * 40, b'\n \t' + b'\t' * 32, b' ' * 1000])
async def test_long_tags(server, liar, blanks):
    """The last 32 blanks are the tag."""
    heard = listening(server)
    frame = b'[1, null' + blanks[:-32] + b' ' + blanks[-31:] + b']'
    for _ in range(3):
        liar.say(frame, address(server))
    assert await liar.synced(address(server)) == [acknowledged(frame)] * 3
    assert [data for data, _ in heard] == [[None]]


def answers(frame, chances):
    """A hundred things to say to a frame, one of them the truth."""
    number = read_tag(frame)
    bare = untagged(frame)
    lies = [tag(bare, (number + 1) % FLAG | FLAG), tag(b'[2, "lie", null]', number | FLAG), tag(b'[]', number ^ 1)]
    lies += [b'', b'junk', b'[0, "Error: lie", 1]']
    return [chances.choice(lies) if chances.random() < 0.5 else acknowledged(frame) for _ in range(100)]


@pytest.mark.parametrize('truth', [True, False])
async def test_a_hundred_answers_to_each_frame(sending, liar, truth):
    """Whoever answers each frame with a hundred, is sent no more than it would be otherwise."""
    chances = random.Random(2)
    heard = listening(sending)
    n_frames = n_confirmed = 0
    for i in range(10):
        task, frame = await begun(sending, liar, [64, 20, i], 0.3)
        n_frames += 1
        for answer in [acknowledged(frame)] * 100 if truth else answers(frame, chances):
            liar.say(answer, address(sending))
        try:
            await task
            n_confirmed += 1
        except (EchoTimeoutError, EchoMismatchError):
            pass
        n_frames += len(await liar.synced(address(sending)))
    assert n_confirmed == 10 if truth else n_confirmed <= 10
    assert heard == []
    known = sending.peers[liar.addr]
    assert known.strays >= 99 * n_confirmed if truth else known.strays > 0
    assert known.confirmed == n_confirmed
    if truth:
        assert n_frames <= 10 * (1 + known.retransmitted)


async def test_ping_pong(lab, liar):
    """A peer that sends everything back, echoes of echoes too, a hundred times over: it soon ends."""
    com = await lab.client(liar.uri)
    heard = listening(com)
    task = asyncio.create_task(com.init())
    n_said = 0
    while n_said < 5000 and not await liar.silence(0.3):
        while not liar.heard.empty():
            liar.heard.get_nowait()
        liar.say(b'[1, null]', address(com))  # untagged, and so without a sign of being an echo
        n_said += 1
    with pytest.raises(EchoMismatchError):  # the bytes came, but not with the number: no echo
        await task
    # A burst was echoed and heard, and then one was dropped, with which it ended.
    assert n_said <= Tuning().message_burst + 2
    assert len(heard) == n_said - 1


async def test_every_byte_a_frame(server, liar):
    """Random bytes, and tagged messages with random damage: nothing is raised, and the server goes on."""
    chances = random.Random(3)
    heard = listening(server)
    for _ in range(30):
        for _ in range(20):
            frame = bytearray(tag(encode([2, 'ref', {'a': [1, 2]}]), chances.getrandbits(31)))
            for _ in range(chances.randrange(1, 8)):
                frame[chances.randrange(len(frame))] = chances.randrange(256)
            liar.say(bytes(frame[: chances.randrange(1, len(frame) + 1)]), address(server))
        await liar.synced(address(server))
    assert len(heard) <= 600


async def test_peers_are_bounded(lab):
    """However many addresses speak, no more are remembered than `Tuning.max_peers`; those waited for are kept."""
    server = await lab.server(tuning=Tuning(max_peers=16))
    heard = listening(server)
    waited = await Liar.open()
    task, frame = await begun(server, waited, [1, None], PATIENCE, waited.addr)
    for i in range(100):
        peer = await Liar.open()
        peer.say(tag(b'[1, null]', i), address(server))
        await peer.synced(address(server))
        peer.say(tag(b'[1, null]', i), address(server))  # of those that are remembered, duplicates still are
        await peer.synced(address(server))
        assert len(server.peers) <= 16
        peer.close()
    assert len(heard) == 100
    assert waited.addr in server.peers
    waited.say(acknowledged(frame), address(server))
    await task
    waited.close()


async def test_numbers_are_bounded(server, liar):
    """A flood of numbers takes no more room than 64 of them do; the newest are still known."""
    heard = listening(server)
    for start in range(0, 5000, 50):
        for number in range(start, start + 50):
            liar.say(tag(b'[32, 20]', 100_000 + number), address(server))
        await liar.synced(address(server))
    assert len(heard) == 5000
    for number in range(4960, 5000):
        liar.say(tag(b'[32, 20]', 100_000 + number), address(server))
    assert len(await liar.synced(address(server))) == 40
    assert len(heard) == 5000
    assert len(server.peers) == 1
