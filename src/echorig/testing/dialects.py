"""`Dialect`: how a fake rig talks on the network; and `EchorigDialect`, which is echorig itself."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..errors import EchoError
from ..events._reply_context import current_request, request_context
from ..messages import ExpMessage
from ..security.redaction import hide_values
from ..uri import Address, Uri, parse
from ..wire._codec import decode, peek
from ..wire._tags import is_ping, read_tag
from .received import Inbox, Received
from .script import Reaction, Script

__all__ = ['Dialect', 'EchorigDialect', 'RigState']

_REMEMBERED = 1024  # messages whose repetitions get the same reaction


@dataclass
class RigState:
    """The state of a fake rig that outlives a restart; `FakeRig` shows it to tests."""

    name: str
    buffer: int
    inbox: Inbox
    script: Script = field(default_factory=Script)
    confirmed: list[Any] = field(default_factory=list)
    unconfirmed: list[tuple[Any, EchoError]] = field(default_factory=list)
    silent: bool = False
    gave_up: EchoError | None = None


class Dialect(ABC):
    """One run of a fake rig, from `open` to `close`."""

    echo_timeout = 1.0  # seconds to wait for the echo of an answer

    def __init__(self, state: RigState) -> None:
        self.state = state
        self.turn = asyncio.Lock()  # a program sends its own messages one after the other
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def open(self, uri: Uri) -> Uri:
        """Listen at a URI; return it with the port."""

    @abstractmethod
    async def confirmed_send(self, message: Any, addr: Address, timeout: float) -> None:
        """Send a message and wait for its echo."""

    @abstractmethod
    def send_unconfirmed(self, message: Any, addr: Address) -> None:
        """Send a message without waiting for its echo."""

    def set_busy(self, seconds: float) -> None:
        """Read and send nothing for a time."""
        raise ValueError(
            'An echorig program measures how long it was blocked, and this rig shares the event loop of the test: '
            'to test a busy echorig program, block a process of its own'
        )

    def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the sockets are closed."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def send(self, message: Any, addr: Address, timeout: float | None = None) -> None:
        """Send a message, wait for its echo, and record the outcome."""
        try:
            await self.confirmed_send(message, addr, timeout or self.echo_timeout)
        except EchoError as ex:
            self.state.unconfirmed.append((message, ex))
            raise
        self.state.confirmed.append(message)

    def record(self, message: Received) -> Reaction:
        """Record a received message; return the reaction to it."""
        self.state.inbox.add(message)
        return self.state.script.next(message.event)

    def react(self, reaction: Reaction, confirm: Callable[[], None], message: Received | None) -> None:
        """Confirm a message and answer it; a repetition (None) is not answered again."""

        async def finish() -> None:
            if reaction.echo_delay:
                await asyncio.sleep(reaction.echo_delay)
                confirm()
            if message is not None:
                await self._answer(reaction, message)

        if reaction.echo:
            if not reaction.echo_delay:
                confirm()
            task = asyncio.get_running_loop().create_task(finish())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, reaction: Reaction, message: Received) -> None:
        if reaction.answer_delay:
            await asyncio.sleep(reaction.answer_delay)
        if reaction.notice is not None:
            self.send_unconfirmed([0, reaction.notice, message.event], message.addr)
        elif (answer := reaction.answer_to(message)) is not None:
            with suppress(EchoError):  # it is recorded
                await self.send(answer, message.addr)

    def parse_frame(self, frame: bytes, addr: Address) -> Received:
        """Decode a message; the event of anything else is None."""
        try:
            code, *data = decode(frame)
            event = ExpMessage(0) if type(code) is int and code == 0 else ExpMessage.validate(code, False)
        except (TypeError, ValueError):
            return Received(None, [], addr, frame, monotonic())
        return Received(event, hide_values(data) if event == ExpMessage.ALYX else data, addr, frame, monotonic())


class EchorigDialect(Dialect):
    """Talks like echorig, with tags: received frames are intercepted before `EchoProtocol` confirms them."""

    async def open(self, uri: Uri) -> Uri:
        self._com = await EchoProtocol.server(str(uri), self.state.name)
        self._pass_on = self._com._receive
        self._com._receive = self._receive  # type: ignore[method-assign, assignment]
        self._reactions: OrderedDict[tuple[Address, int], Reaction] = OrderedDict()
        self._com._flow_control.resume_soon(0)  # a message that was held back would be recorded twice
        return parse(self._com.server_uri)

    def _receive(self, frame: bytes, addr: Address) -> None:
        if self.state.silent:
            return
        is_notice = peek(frame) == 0
        if is_notice:
            self.record(self.parse_frame(frame, addr))
        tag = read_tag(frame)
        if is_notice or is_ping(frame) or self._is_echo(frame, addr, tag is not None and tag[0]):
            self._pass_on(frame, addr)
            return
        number = -1 if tag is None else tag[1] << 32 | tag[2]
        reaction, message = self._reactions.get((addr, number)), None
        if reaction is None:  # it is no repetition
            message = self.parse_frame(frame, addr)
            reaction = self.record(message)
            # The answer must name this message as its request, as the answer of a callback does.
            has_number = number >= 0 and message.event is not None
            request = request_context(self._com.receiver_id, int(message.event or 0), addr, number)
            current_request.set(request if has_number else None)
            if number >= 0:
                self._reactions[addr, number] = reaction
                if len(self._reactions) > _REMEMBERED:
                    self._reactions.popitem(last=False)
        self.react(reaction, lambda: self._pass_on(frame, addr), message)

    def _is_echo(self, frame: bytes, addr: Address, has_ack_flag: bool) -> bool:
        sent = self._com._last_sent.get(addr)
        return has_ack_flag or (sent is not None and sent[0] == frame)  # a legacy peer sends back the same bytes

    async def confirmed_send(self, message: Any, addr: Address, timeout: float) -> None:
        async with self.turn:
            await self._com.confirmed_send(message, addr, timeout)

    def send_unconfirmed(self, message: Any, addr: Address) -> None:
        self._com.send(message, addr)

    def close(self) -> None:
        super().close()
        self._com.close()

    async def wait_closed(self) -> None:
        await super().wait_closed()
        await self._com.wait_closed()
