"""Forged frames over real sockets: no callback runs twice, no false confirmation, no storm.

The liar is a raw socket that sends any frames. It ends each part with a ping: datagrams of one sender arrive in order
on loopback, so all earlier frames have been processed when the ping is echoed.
"""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
import pytest_asyncio

from echorig import EchoMismatchError, EchoTimeoutError, Tuning
from echorig.wire._codec import encode
from echorig.wire._tags import is_same
from lab import RawUdp
from tagging import ACK, is_ping, ping, read_tag, run_of, set_ack, strip_tag, tag

PATIENCE = 20.0  # seconds; only a failure waits that long
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore:Expected list:RuntimeWarning')]


class Liar(RawUdp):
    """A raw peer that can wait until the other end has processed all its frames."""

    runs = itertools.count(1)

    def __init__(self):
        super().__init__()
        self.run = next(self.runs)
        self.number = 0
        self.to_pings = set_ack  # its reply to probing pings

    def datagram_received(self, data, addr):
        if read_tag(data) < 0 or not is_ping(data) or run_of(data) == self.run:
            super().datagram_received(data, addr)
        elif not read_tag(data) & ACK:
            self.say(self.to_pings(data), addr)

    def tag(self, frame, number):
        """Put a tag of this peer into a message."""
        return tag(frame, number, run=self.run)

    async def synced(self, addr):
        """Return the received frames until the other end has processed all sent frames."""
        self.number += 1
        self.say(ping(self.number, run=self.run), addr)
        heard = []
        while True:
            data, _ = await asyncio.wait_for(self.heard.get(), PATIENCE)
            if read_tag(data) == self.number | ACK and is_ping(data):
                return heard
            heard.append(data)


@pytest_asyncio.fixture
async def liar():
    peer = await Liar.open()
    yield peer
    peer.close()


def address(com):
    """Return the address of a communicator."""
    return com._transport.get_extra_info('sockname')[:2]


def listening(com):
    heard = []
    for event in ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPSTATUS'):
        com.assign_callback(event, lambda data, addr: heard.append((data, addr)))
    return heard


async def start_send(com, liar, message, timeout, addr=None):
    """Start a send to the liar; return the task and the frame."""
    task = asyncio.create_task(com.confirmed_send(message, addr, timeout=timeout))
    frame, _ = await liar.hear(PATIENCE)
    return task, frame


@pytest_asyncio.fixture
async def server(lab):
    return await lab.server()


@pytest_asyncio.fixture
async def sending(lab, liar):
    return await lab.client(liar.uri)  # the liar is its server


def forged(frame, message, number=None, run=None):
    """Make an echo of a frame with other bytes, number or run."""
    number = read_tag(frame) if number is None else number
    return tag(message, number % ACK | ACK, run=run_of(frame) if run is None else run)


async def test_acks_of_other_numbers(sending, liar):
    """Only the flag, the run, the number and the bytes together confirm."""
    task, frame = await start_send(sending, liar, [1, None], 0.5)
    number, heard = read_tag(frame), listening(sending)
    for other in (number + 1, number - 1, number ^ 1024, number ^ 2**31, 0, ACK - 1):
        liar.say(forged(frame, b'[1, null]', other), address(sending))
    for run in (run_of(frame) ^ 1, run_of(frame) ^ 2**30, liar.run):
        liar.say(forged(frame, b'[1, null]', run=run), address(sending))
    echoed = await liar.synced(address(sending))
    assert not task.done()
    assert all(is_same(data, frame) for data in echoed)  # repetitions; no echo of an echo
    assert not any(read_tag(data) & ACK for data in echoed)
    with pytest.raises(EchoTimeoutError):
        await task
    assert heard == []


@pytest.mark.parametrize('other', [b'[1, 0]', b'[2, null]', b'[1, nulL]', b'[]', b'[1, null, null]', b'junk]'])
async def test_ack_with_other_bytes(sending, liar, other):
    task, frame = await start_send(sending, liar, [1, None], PATIENCE)
    liar.say(forged(frame, other), address(sending))
    with pytest.raises(EchoMismatchError):
        await task
    assert all(is_same(data, frame) for data in await liar.synced(address(sending)))


async def test_ack_that_was_damaged(sending, liar):
    """A damaged echo counts as lost; the next one confirms."""
    task, frame = await start_send(sending, liar, [1, 'x'], PATIENCE)
    heard = listening(sending)
    for place in range(len(frame)):
        damaged = bytearray(set_ack(frame))
        damaged[place] ^= 0x29 if damaged[place] in b' \t' else 1
        liar.say(bytes(damaged), address(sending))
    await liar.synced(address(sending))
    assert not task.done()
    assert sending.peers[liar.addr].damaged == len(frame) - 31  # with another run it is of another program
    liar.say(set_ack(frame), address(sending))
    await task
    assert heard == []


async def test_ack_from_another_address(server, liar):
    """Another peer cannot confirm a message, and the echo is no message of that peer."""
    other = await Liar.open()
    task, frame = await start_send(server, liar, [1, None], PATIENCE, liar.addr)
    heard = listening(server)
    for said in (set_ack(frame), frame):
        other.say(said, address(server))
        assert await other.synced(address(server)) == []
    assert not task.done()
    liar.say(set_ack(frame), address(server))
    await task
    assert heard == []
    other.close()


async def test_echo_before_it_was_sent(sending, liar):
    """An echo with a guessed number confirms nothing in advance."""
    task, frame = await start_send(sending, liar, [1, None], PATIENCE)
    following = forged(frame, b'[4, null]', read_tag(frame) + 1)
    liar.say(following, address(sending))
    liar.say(set_ack(frame), address(sending))
    await task
    task, frame = await start_send(sending, liar, [4, None], PATIENCE)
    assert is_same(frame, following)
    await liar.synced(address(sending))
    assert not task.done()
    liar.say(following, address(sending))
    await task


async def test_everything_comes_back_a_hundred_times(sending, liar):
    """A network loop returns our own frames: they are not delivered, confirmed or answered."""
    heard = listening(sending)
    liar.to_pings = bytes
    for i in range(10):
        task, frame = await start_send(sending, liar, [1, i], PATIENCE)
        for _ in range(100):
            liar.say(frame, address(sending))
        await task
        assert await liar.synced(address(sending)) == []
    assert heard == []
    assert sending.peers[liar.addr].confirmed == 10


async def test_replay(server, liar):
    """Repeated frames, in any order, are echoed again and not delivered again."""
    heard = listening(server)
    frames = [liar.tag(encode([32, 20]), number) for number in range(10_000, 10_063)]
    chances = random.Random(1)
    for frame in frames:
        liar.say(frame, address(server))
    first = await liar.synced(address(server))
    assert first == [set_ack(frame) for frame in frames]
    assert len(heard) == 63
    for _ in range(10):
        again = chances.choices(frames, k=50)
        for frame in again:
            liar.say(frame, address(server))
        assert await liar.synced(address(server)) == [set_ack(frame) for frame in again]
    assert len(heard) == 63
    assert server.peers[liar.addr].duplicates == 500


async def test_same_number_other_bytes(server, liar):
    """A second message with the same number counts as a copy."""
    heard = listening(server)
    for message in ([1, 'a'], [1, 'b'], [4, 'c']) * 3:
        liar.say(liar.tag(encode(message), 77), address(server))
    assert len(await liar.synced(address(server))) == 9
    assert [data for data, _ in heard] == [['a']]


async def test_same_number_from_two_programs(server, liar):
    other = await Liar.open()
    heard = listening(server)
    for peer in (liar, other, liar, other):
        peer.say(peer.tag(b'[1, null]', 5), address(server))
        await peer.synced(address(server))
    assert sorted(addr for _, addr in heard) == sorted([liar.addr, other.addr])
    other.close()


async def test_a_message_recorded_elsewhere(server, liar):
    """A repetition from another address is still the same message."""
    other = await Liar.open()
    heard = listening(server)
    frames = [liar.tag(b'[1, null]', number) for number in (5, 6)]
    for frame in frames:
        liar.say(frame, address(server))
    await liar.synced(address(server))
    for frame in frames:
        other.say(frame, address(server))
    assert await other.synced(address(server)) == [set_ack(frame) for frame in frames]
    assert [addr for _, addr in heard] == [liar.addr] * 2
    other.close()


@pytest.mark.parametrize(
    'blanks', [b'', b' ', b' ' * 110, b'\t' * 111, b'\n' + b' ' * 63, b' ' * 16 + b'\r' + b' ' * 15]
)
async def test_tags_of_a_wrong_length(server, liar, blanks):
    """Invalid tags are no tags: the frames are echoed byte for byte, and each is a message of its own."""
    heard = listening(server)
    frame = b'[1' + blanks + b']'
    for _ in range(3):
        liar.say(frame, address(server))
    assert await liar.synced(address(server)) == [frame] * 3
    assert [data for data, _ in heard] == [[]] * 3


@pytest.mark.parametrize('blanks', [b' ' * 127, b'\t' * 120, b'\n' + b' ' * 127, b' ' * 64 + b'\r' + b' ' * 63])
async def test_what_was_a_tag(server, liar, blanks):
    """A message with this many blanks and no valid tag was damaged, and counts as lost."""
    heard = listening(server)
    frame = b'[1, "a text"' + blanks + b']'
    for _ in range(3):
        liar.say(frame, address(server))
    assert await liar.synced(address(server)) == []
    assert heard == []
    assert server.peers.damaged >= 3


@pytest.mark.parametrize('blanks', [b' ', b'\t' * 8, b'\n \t' + b'\t' * 32, b' ' * 1000])
async def test_long_tags(server, liar, blanks):
    """The last 128 blanks are the tag."""
    heard = listening(server)
    frame = liar.tag(b'[1, null' + blanks + b']', 7)
    for _ in range(3):
        liar.say(frame, address(server))
    assert await liar.synced(address(server)) == [set_ack(frame)] * 3
    assert [data for data, _ in heard] == [[None]]


def answers(frame, chances):
    """A hundred replies to a frame, one of them valid."""
    number = read_tag(frame)
    lies = [forged(frame, strip_tag(frame), number + 1), forged(frame, b'[2, "lie", null]')]
    lies += [tag(b'[]', number ^ 1024, run=run_of(frame)), b'', b'junk', b'[0, "Error: lie", 1]']
    return [chances.choice(lies) if chances.random() < 0.5 else set_ack(frame) for _ in range(100)]


@pytest.mark.parametrize('truth', [True, False])
async def test_a_hundred_answers_to_each_frame(sending, liar, truth):
    """A peer that answers each frame with a hundred is sent no more frames than others."""
    chances = random.Random(2)
    heard = listening(sending)
    n_frames = n_confirmed = 0
    for i in range(10):
        task, frame = await start_send(sending, liar, [64, 20, i], 0.3)
        n_frames += 1
        for answer in [set_ack(frame)] * 100 if truth else answers(frame, chances):
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
    """A peer that returns every frame a hundred times, echoes included: the exchange soon ends."""
    liar.to_pings = bytes  # as plain ones do
    com = await lab.client(liar.uri)
    heard = listening(com)
    task = asyncio.create_task(com.init())
    n_said = 0
    while n_said < 5000 and not await liar.silence(0.3):
        while not liar.heard.empty():
            liar.heard.get_nowait()
        liar.say(b'[1, null]', address(com))  # strip_tag, and so without a sign of being an echo
        n_said += 1
    with pytest.raises(EchoMismatchError):  # the bytes came, but not with the number: no echo
        await task
    assert n_said == 3  # the message was answered, two answers were echoed, and the third was dropped
    assert len(heard) == 2


async def test_every_byte_a_frame(server, liar):
    """Random bytes and damaged tagged messages: no exception, no callback, and the server continues."""
    chances = random.Random(3)
    heard = listening(server)
    for _ in range(30):
        for _ in range(20):
            frame = bytearray(liar.tag(encode([2, 'ref', {'a': [1, 2]}]), chances.getrandbits(32)))
            for _ in range(chances.randrange(1, 8)):
                frame[chances.randrange(len(frame))] ^= chances.randrange(1, 256)
            liar.say(bytes(frame[: chances.randrange(1, len(frame) + 1)]), address(server))
        await liar.synced(address(server))
    assert heard == []


async def test_peers_are_bounded(lab):
    """At most `Tuning.max_peers` addresses are remembered; peers with pending sends are kept."""
    server = await lab.server(tuning=Tuning(max_peers=16))
    heard = listening(server)
    waited = await Liar.open()
    task, frame = await start_send(server, waited, [1, None], PATIENCE, waited.addr)
    said = []
    for _ in range(100):
        peer = await Liar.open()
        said.append((peer, peer.tag(b'[1, null]', 1)))
        for _ in range(2):
            peer.say(said[-1][1], address(server))
            await peer.synced(address(server))
        assert len(server.peers) <= 16
    for peer, frame_ in said:  # of those whose address is forgotten, duplicates are known all the same
        peer.say(frame_, address(server))
        await peer.synced(address(server))
        peer.close()
    assert len(heard) == 100
    assert waited.addr in server.peers
    waited.say(set_ack(frame), address(server))
    await task
    waited.close()


async def test_numbers_are_bounded(server, liar):
    """A flood of numbers takes no more memory than one; the newest 1,024 are known as received."""
    heard = listening(server)
    for start in range(100_001, 105_001, 50):
        for number in range(start, start + 50):
            liar.say(liar.tag(b'[32, 20]', number), address(server))
        await liar.synced(address(server))
    assert len(heard) == 5000
    for number in (100_001, 103_976, 103_977, 105_000):
        liar.say(liar.tag(b'[32, 20]', number), address(server))
    echoed = await liar.synced(address(server))
    assert [read_tag(data) - ACK for data in echoed] == [103_977, 105_000]
    assert len(heard) == 5000
    assert len(server.peers) == 1
