"""The whole way of what a peer sends: from the event loop's call to callbacks, coroutines that wait, and answers.

A communicator of either role, over UDP or TCP, on a real event loop; what a peer sends is handed to it as by the
loop, and what it sends is kept. Nothing may reach the handler of the loop or be logged as something that could not be
processed, what is awaited ends with a documented error at most, and then a good message is still confirmed and heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import warnings
from typing import Any

import internals
from echorig import EchoError, EchoProtocol, ExpMessage
from echorig.transports.tcp import Connection
from echorig.tuning import InternalTuning
from echorig.wire._codec import encode, peek
from echorig.wire._tags import add_tag, make_ping, set_ack, strip_tag
from fuzz import plain_tags
from fuzz.plain_tags import RUNS, WORDS
from fuzz.reader import ByteReader
from fuzz.wire import HERE, PORT, THERE, Records, Wire

STEPS = 60
LIMIT = 4000  # bytes of a message over TCP; a small one, so that it can be gone over
CONTENT = (
    [2, 'ref', None], [1, None], [32, 20], [64, 10, {'status': 10}], [4, None], [8, None], [16, 'why'], [0, 'text', 2],
    [0], [0, 'text', '[2, "ref", null]'], ['expstart', 1], [3, 1], [256], [True], [2.0], [None], [], ['EXPINIT'], [-1],
    [2, 'é', [[], {}]], [128, 'https://alyx', {'user': 'token'}], [128, None, None],
)  # fmt: skip
BAD = (
    b'',
    b'foo',
    b'[',
    b'[' * 3000,
    b'{"a": 1}',
    b'[2, "\xff"]',
    b'[1]]',
    b'\xef\xbb\xbf[1]',
    b'[' + b'9' * 30 + b']',
)
LAST = [128, 'after all of this', None]
LAST_RUN = RUNS - 2
SENDER_RUNS = (77, 78, 0, RUNS - 1)
LIVES = (0, 0, 1, 1000)
PATIENCE = 30  # seconds


def one_input(data: bytes) -> None:
    if b'after all' in data:  # a fuzzer that sends the last message itself has it confirmed once, as it should
        return
    loop = asyncio.SelectorEventLoop()  # the same everywhere, and the quickest to make
    try:
        loop.run_until_complete(Scene(ByteReader(data)).play())
    finally:
        loop.close()


class Scene:
    """One communicator and those who send it things."""

    def __init__(self, reader: ByteReader) -> None:
        self.reader = reader
        setup = reader.byte()
        self.udp = bool(setup & 1)
        self.role = 'server' if setup & 2 else 'client'
        self.raises = bool(setup & 4)
        self.tags = not setup & 8
        self.late = bool(setup & 16)
        self.answers = bool(setup & 32)
        self.level = logging.DEBUG if setup & 64 else logging.WARNING
        self.heard: list[Any] = []
        self.quotes: set[Any] = set()  # who sends such notices as those who wait for no echo
        self.escaped: list[Any] = []
        self.jobs: list[asyncio.Task[Any]] = []
        self.records = Records()
        self.wires: list[Wire] = []
        self.connections: list[Connection] = []

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.escaped.append(context))
        logger = logging.Logger('scene', self.level)
        logger.addHandler(self.records)
        tuning = InternalTuning(
            tags=self.tags, max_stream_message=LIMIT, max_backlog=4 if self.late else 1024, close_grace=0.01
        )
        scheme = 'udp' if self.udp else 'tcp'
        self.com = EchoProtocol(f'{scheme}://{HERE}:{PORT}', self.role, 'scene', logger, tuning)
        self.com.default_echo_timeout = 0.02
        self.com.assign_callback(ExpMessage.any(), self.listen)
        self.com.assign_callback(0, lambda data, addr: self.heard.append(data))
        try:
            self.connect()
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', RuntimeWarning)
                await self.go_through()
                await self.last_message()
        finally:
            self.com.close()
            outcomes = await asyncio.wait_for(asyncio.gather(*self.jobs, return_exceptions=True), PATIENCE)
            await asyncio.wait_for(self.com.wait_closed(), PATIENCE)
            for wire in self.wires:
                wire.close()
            for _ in range(4):
                await asyncio.sleep(0)
        # An answer to somebody who is no longer connected is refused with a ValueError.
        odd = [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, (EchoError, OSError))]
        # So is a message of the communicator's own that does not begin with an event code, with a TypeError.
        odd = [one for one in odd if 'must begin with an event code' not in str(one)]
        assert not [one for one in odd if not isinstance(one, (asyncio.CancelledError, ValueError))], odd
        assert not self.escaped, self.escaped
        assert not self.records.failed, self.records.failed

    async def go_through(self) -> None:
        for _ in range(STEPS):
            if not self.reader.left:
                break
            await self.step()

    # --- the communicator's own side ---

    def listen(self, data: Any, addr: Any, event: int) -> Any:
        self.heard.append((event, data, addr))
        if self.raises:
            raise ValueError('\ud800 as it is said here')
        return self.answer(event, data, addr) if self.answers else None

    async def answer(self, event: int, data: Any, addr: Any) -> None:
        with contextlib.suppress(EchoError, ValueError, OSError):
            await self.com.confirmed_send([event, *data], addr)

    def job(self, coroutine: Any) -> None:
        self.jobs.append(asyncio.ensure_future(coroutine))

    def target(self) -> Any:
        if self.role == 'client':
            return None
        if self.udp:
            return self.addr()
        return next(iter(internals.connections(self.com)), (THERE, 9))

    async def step(self) -> None:
        reader = self.reader
        kind = reader.byte() % 16
        if kind < 6:
            self.arrive(self.frame())
        elif kind == 6:
            self.arrive(b''.join(self.frame() for _ in range(1 + reader.byte() % 4)))
        elif kind == 7:
            frame = self.frame()
            place = reader.byte()
            self.arrive(frame[:place])
            self.arrive(frame[place:])
        elif kind == 8:
            await asyncio.sleep(0)
        elif kind == 9:
            message = reader.pick(CONTENT)
            self.job(self.com.confirmed_send(message, self.target(), reader.pick((0.02, 0.001, 10.0))))
            await asyncio.sleep(0)
        elif kind == 10:
            with contextlib.suppress(EchoError, ValueError, TypeError, OSError):
                self.com.send(reader.pick((*CONTENT, *BAD)), self.target())
        elif kind == 11:
            self.job(self.com.ping(self.target(), 0.02))
            await asyncio.sleep(0)
        elif kind == 12:
            self.job(self.com.on_event(reader.pick((*ExpMessage, ExpMessage.any()))))
            await asyncio.sleep(0)
        elif kind == 13 and self.jobs:
            self.jobs[reader.byte() % len(self.jobs)].cancel()
        elif kind == 14:
            self.trouble()
        else:
            await asyncio.sleep(reader.pick((0, 0, 0.001)))

    # --- the network's ---

    def connect(self) -> None:
        """Make a transport, or on TCP another connection."""
        if self.udp:
            peername = (HERE, PORT) if self.role == 'client' else None
            self.wires.append(Wire(socket.SOCK_DGRAM, peername))
            self.wires[-1].owner = self.com
            self.com.connection_made(self.wires[-1])
            return
        peername = (HERE, PORT) if self.role == 'client' else (THERE, 20000 + len(self.wires))
        self.wires.append(Wire(socket.SOCK_STREAM, peername))
        self.connections.append(Connection(internals.connection_user(self.com)))
        self.wires[-1].owner = self.connections[-1]
        self.connections[-1].connection_made(self.wires[-1])

    def addr(self) -> tuple[str, int]:
        if self.role == 'client':
            return self.reader.pick(((HERE, PORT), (HERE, PORT), (HERE, PORT + 5), (THERE, PORT)))
        return THERE, 1 + self.reader.byte() % 5

    def frame(self) -> bytes:
        reader = self.reader
        kind = reader.byte() % 12
        sent = self.wires[-1].sent
        known = sent[-1 - reader.byte() % len(sent)][0] if sent else b'[1, null]'
        if kind == 0:
            return reader.piece()
        if kind == 1:
            return reader.pick(BAD)
        if kind == 2:
            return encode(reader.pick(CONTENT))
        if kind < 5:
            return self.tagged(reader.pick(CONTENT), -1)
        if kind == 5:
            return self.tagged(reader.pick(CONTENT), max(plain_tags.identity(known), 0))
        if kind == 6:
            return known
        if kind == 7:
            return set_ack(known) if plain_tags.read(known) else known
        if kind == 8:
            return known[: reader.byte()]
        if kind == 9:
            return strip_tag(known)
        if kind == 10:
            damaged = bytearray(known)
            damaged[-1 - reader.number(2) % len(damaged)] ^= reader.byte()
            return bytes(damaged)
        if reader.flag():
            return b'[' + reader.piece() + b']'
        return make_ping(
            reader.pick(SENDER_RUNS), reader.byte(), reader.pick((-1, 0, max(plain_tags.identity(known), 0)))
        )

    def tagged(self, content: Any, answered: int) -> bytes:
        """Put a tag into a message of one of those who send things."""
        number = self.reader.byte() + self.reader.pick((0, 0, 1000, WORDS - 300))
        return add_tag(encode(content), self.reader.pick(SENDER_RUNS), number, self.reader.pick(LIVES), answered)

    def arrive(self, data: bytes) -> None:
        if self.udp:
            addr = self.addr()
            if peek(data) == 0 and data.endswith(b'"]'):
                self.quotes.add(addr)
            self.com.datagram_received(data, addr)
        elif self.connections and not self.wires[-1].closing:
            choice = -1 - self.reader.byte() % len(self.connections)
            if not self.wires[choice].closing:
                self.connections[choice].data_received(data)

    def trouble(self) -> None:
        kind = self.reader.byte() % 6
        error = self.reader.pick(
            (ConnectionRefusedError(111, 'refused'), OSError(101, 'no way'), BlockingIOError(11, 'later'))
        )
        if kind == 0:
            self.wires[-1].error = error
        elif kind == 1 and self.udp:
            self.com.error_received(error)
        elif not self.udp and kind == 2:
            self.connections[-1].eof_received()
            self.wires[-1].close()
        elif not self.udp and kind == 3:
            self.wires[-1].close()
        elif not self.udp and kind == 4 and (self.role == 'server' or internals.pipeline(self.com).lost_transport):
            self.connect()

    # --- the end ---

    async def last_message(self) -> None:
        """Check that somebody who behaves is still heard and confirmed."""
        # What waits for an echo may have every right to take the last message for a wrong one.
        for job in (*self.jobs, *self.com._callbacks.tasks):
            job.cancel()
        await asyncio.gather(*self.jobs, *self.com._callbacks.tasks, return_exceptions=True)
        if not self.udp:
            if self.role == 'client' and not self.wires[-1].closing:
                self.wires[-1].close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.connect()
        for _ in range(100):  # a backlog that is full has every right to refuse
            if not len(internals.backlog(self.com)) and not internals.flow_control(self.com).n_bytes:
                break
            await asyncio.wait_for(self.com.on_event(ExpMessage.any()), PATIENCE)
            await asyncio.sleep(0)
        frame = add_tag(encode(LAST), LAST_RUN, 1) if self.tags else encode(LAST)
        self.wires[-1].error = None
        self.heard.clear()
        addr = (HERE, PORT) if self.role == 'client' else (THERE, 7777)
        if self.udp:
            self.com.datagram_received(frame, addr)
        else:
            self.connections[-1].data_received(frame)
        assert [data for _, data, _ in self.heard] == [LAST[1:]], 'the last message was not heard'
        if addr in self.quotes and not self.tags:  # it may have a message to read, and take an echo for another
            return
        reply = set_ack(frame) if self.tags else frame
        for _ in range(300):  # to one without tags echoes on a stream are apart
            if reply in [sent for sent, _ in self.wires[-1].sent]:
                break
            await asyncio.sleep(0.01)
        assert reply in [sent for sent, _ in self.wires[-1].sent], 'the last message was not confirmed'
