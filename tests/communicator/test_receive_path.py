"""Arbitrary bytes over real sockets: the server stays usable and serves the other peers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import LOOPS
from echorig import EchoError, EchoProtocol, ExpMessage, Tuning
from echorig.wire._codec import encode
from lab import RawUdp
from tagging import RUN, ping, set_ack, tag, tag_answer

pytestmark = pytest.mark.filterwarnings('ignore:Expected list:RuntimeWarning')
PATIENCE = 20.0  # seconds; only a failure waits that long
LAST = [64, 0, 'is anybody there?']

GOOD = [
    b'[2, "ref", null]',
    b'[1, null]',
    b'[32, 20]',
    b'[0, "text", 2]',
    b'[]',
    b'foo',
    b'{"a": [1]}',
    b'[128, null, null]',
]
LIMIT = 5000  # bytes of one message over TCP; small, so that it is gone over

numbers = st.integers(0, 2**32 - 1)
identities = st.integers(0, 2**63 - 1)
messages = st.one_of(
    st.sampled_from(GOOD[:5]), st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4).map(encode)
)
tagged = st.one_of(
    st.builds(tag, messages, numbers, st.sampled_from([RUN, 5]), st.sampled_from([0, 1, 1000])),
    st.builds(tag_answer, messages, numbers, identities),
    st.builds(ping, numbers),
    st.builds(tag, messages, numbers).map(set_ack),
)
frames = st.one_of(messages, tagged, st.sampled_from(GOOD))


@st.composite
def damaged(draw: Any) -> bytes:
    """A good frame of which something is changed, cut off or doubled."""
    frame = bytearray(draw(frames))
    place = draw(st.integers(0, len(frame) - 1))
    how = draw(st.sampled_from(['flip', 'cut', 'double', 'insert']))
    if how == 'flip':
        frame[place] ^= draw(st.integers(1, 255))
    elif how == 'cut':
        del frame[place:]
    elif how == 'double':
        frame += frame[place:]
    else:
        frame[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(frame)


pieces = st.one_of(
    frames,
    damaged(),
    st.binary(max_size=40),
    st.sampled_from([b'[' * 3000, b'"', b'\\', b'[' + b'9' * (LIMIT + 1), b'\x00', b'\xff\xfe', b'']),
)
FEW = settings(max_examples=100)


class World:
    """A loop, a server on it whose callbacks answer and fail, and a client with manners."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: str) -> None:
        self.loop = loop
        self.transport = transport
        self.escaped: list[Any] = []
        self.received: list[Any] = []
        self.rounds = 0
        loop.set_exception_handler(lambda _, context: self.escaped.append(context))

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(asyncio.wait_for(coroutine, 2 * PATIENCE))

    async def open(self) -> None:
        tuning = Tuning(max_stream_message=LIMIT)
        self.server = await EchoProtocol.server(f'{self.transport}://127.0.0.1:0', 'server', tuning=tuning)
        self.client = await EchoProtocol.client(self.server.server_uri, 'client')
        self.server.assign_callback('EXPSTART', self.fail)
        self.server.assign_callback(ExpMessage.EXPINIT | ExpMessage.EXPSTATUS, self.answer)
        self.server.assign_callback('EXPCLEANUP', lambda data, addr: self.received.append((data, addr)))

    async def close(self) -> None:
        for com in (self.client, self.server):
            com.close()
            await com.wait_closed()
        while RawUdp.opened:
            RawUdp.opened.pop().close()
        await asyncio.sleep(0)

    def fail(self, data: Any, addr: Any) -> None:
        raise ValueError('as callbacks do')

    async def answer(self, data: Any, addr: Any, event: int) -> None:
        with contextlib.suppress(EchoError, ValueError):
            await self.server.confirmed_send([event, *data], addr, timeout=0.01)

    @property
    def addr(self) -> tuple[str, int]:
        return self.server.hostname, self.server.port

    async def serves_the_client(self) -> None:
        """Check that a message of the client is confirmed, and received once."""
        self.rounds += 1
        self.received.clear()
        await self.client.confirmed_send([8, self.rounds], timeout=PATIENCE)
        own = self.client._transport.get_extra_info('sockname')
        assert [data for data, addr in self.received if addr == own] == [[self.rounds]]


@pytest.fixture(params=LOOPS)
def world(request: pytest.FixtureRequest, transport: str, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    loop = LOOPS[request.param]()
    world = World(loop, transport)
    try:
        world.run(world.open())
        try:
            yield world
        finally:
            world.run(world.close())
    finally:
        loop.close()
    assert not world.escaped, f'reached the exception handler of the loop: {world.escaped}'
    assert not [record for record in caplog.get_records('call') if 'could not be processed' in record.getMessage()]


@contextlib.asynccontextmanager
async def raw_peer() -> AsyncIterator[RawUdp]:
    peer = await RawUdp.open()
    try:
        yield peer
    finally:
        RawUdp.opened.remove(peer)
        peer.close()


async def confirmed(peer: RawUdp, addr: tuple[str, int]) -> None:
    """Wait until a message from this peer is confirmed, and so all that it said before has been dealt with."""
    last = tag(encode(LAST), 1, run=RUN + 1)
    peer.say(last, addr)
    while (await peer.hear(PATIENCE))[0] != set_ack(last):
        pass


async def babble_datagrams(world: World, said: list[bytes]) -> None:
    async with raw_peer() as peer:
        for frame in said:
            peer.say(frame, world.addr)
        await confirmed(peer, world.addr)
    await world.serves_the_client()


async def babble_stream(world: World, said: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection(*world.addr)
    with contextlib.suppress(OSError):  # the server closes the connection of a peer that sends too much
        for chunk in said:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write_eof()
        while await reader.read(65536):
            pass
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await world.serves_the_client()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def test_a_server_that_is_told_anything_serves_those_with_manners(world: World) -> None:
    @FEW
    @given(st.lists(pieces, max_size=8), st.lists(st.integers(0, 10_000), max_size=4))
    @example([GOOD[1], tag(GOOD[1], 5), b'[' * 3000, GOOD[1]], [3])
    @example([b'[' + b'9' * (LIMIT + 1)], [])
    @example([GOOD[0]] * 3 + [b'"', b'\\'], [20, 21])
    def attempt(said: list[bytes], places: list[int]) -> None:
        if world.transport == 'udp':
            world.run(babble_datagrams(world, said))
        else:
            world.run(babble_stream(world, cut(b''.join(said), places)))

    attempt()
    assert world.rounds >= FEW.max_examples, 'too little was tried'


@pytest.mark.parametrize('loop_name', LOOPS)
def test_a_client_whose_server_says_anything_still_hears_and_confirms(
    loop_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = LOOPS[loop_name]()
    escaped: list[Any] = []
    received: list[Any] = []
    loop.set_exception_handler(lambda _, context: escaped.append(context))

    async def scene(said: list[bytes], sends: bool) -> None:
        received.clear()
        async with raw_peer() as peer:
            client = await EchoProtocol.client(peer.uri, 'client')
            client.assign_callback('EXPINFO', lambda data, addr: received.append(data))
            try:
                sending = asyncio.ensure_future(client.confirmed_send([2, 'ref'], timeout=0.5))
                own, (asking, _) = client._transport.get_extra_info('sockname'), await peer.heard.get()
                peer.say(set_ack(asking), own)
                frame, _ = await peer.hear(PATIENCE)
                for one in said:
                    peer.say(one, own)
                if sends:
                    peer.say(set_ack(frame), own)
                await confirmed(peer, own)
                sending.cancel()
                outcome = (await asyncio.gather(sending, return_exceptions=True))[0]
                assert outcome is None or isinstance(outcome, (asyncio.CancelledError, EchoError))
            finally:
                client.close()
                await client.wait_closed()
        assert LAST[1:] in received

    @FEW
    @given(st.lists(pieces, max_size=8), st.booleans())
    def attempt(said: list[bytes], sends: bool) -> None:
        loop.run_until_complete(asyncio.wait_for(scene(said, sends), 2 * PATIENCE))

    try:
        attempt()
    finally:
        loop.close()
    assert not escaped
    assert not [record for record in caplog.records if 'could not be processed' in record.getMessage()]
