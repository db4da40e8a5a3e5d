"""How a rig without hardware speaks; here, as echorig does, and by echorig itself."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from time import monotonic
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..events._reply_context import Origin, current
from ..messages import ExpMessage
from ..security.redaction import hide_values
from ..uri import Address, Uri, parse
from ..wire._codec import decode, encode, peek
from ..wire._tags import is_ping, read_tag
from .script import Reaction, Received

__all__ = ['Echorig', 'Habits']

_REMEMBERED = 1024  # messages whose copies are treated like the first


class Habits(ABC):
    """One end of the conversation, from `open` to `close`.

    Parameters
    ----------
    rig : FakeRig
        The rig: it notes what is heard, says what to do with it, and answers.

    Attributes
    ----------
    turn : asyncio.Lock
        Held by whoever sends a message of the rig's own: a program sends one after the other.
    """

    def __init__(self, rig: Any) -> None:
        self.rig = rig
        self.turn = asyncio.Lock()

    @abstractmethod
    async def open(self, uri: Uri) -> Uri:
        """Listen; return where."""

    @abstractmethod
    async def tell(self, message: Any, addr: Address, timeout: float) -> None:
        """Send a message of its own and wait for the echo."""

    def be_busy(self, seconds: float) -> None:
        """Read and send nothing for a time."""
        raise ValueError(
            'An echorig takes note of how long its program has stood still, which a rig on the loop of the test has '
            'not: to test that, block a process of its own'
        )

    @abstractmethod
    def close(self) -> None:
        """Stop listening."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until the sockets are gone."""

    @abstractmethod
    def transmit(self, frame: bytes, addr: Address) -> None:
        """Send bytes."""

    def notice(self, text: str, heard: Received) -> bytes:
        """Return the message that says that a callback has failed."""
        return encode([0, text, heard.event])

    def read(self, frame: bytes, addr: Address) -> Received:
        """Read a message."""
        try:
            code, *data = decode(frame)
            event = ExpMessage(0) if type(code) is int and code == 0 else ExpMessage.validate(code, False)
        except (TypeError, ValueError):
            return Received(None, [], addr, frame, monotonic())
        return Received(event, hide_values(data) if event == ExpMessage.ALYX else data, addr, frame, monotonic())


class Echorig(Habits):
    """Speaks like echorig, with tags."""

    async def open(self, uri: Uri) -> Uri:
        self._com = await EchoProtocol.server(str(uri), self.rig.name)
        self._take = self._com._receive
        self._com._receive = self._receive  # type: ignore[method-assign, assignment]
        self._known: OrderedDict[tuple[Address, int], Reaction] = OrderedDict()
        self._com._flow_control.resume_soon(0)  # a message that waited at the door would be heard twice
        return parse(self._com.server_uri)

    def _receive(self, frame: bytes, addr: Address) -> None:
        if self.rig.silent:
            return
        tag = read_tag(frame)
        number = -1 if tag is None else tag[1] << 32 | tag[2]
        own = self._com._last_sent.get(addr)
        # Of another echorig, or a legacy peer's.
        is_echo = (tag is not None and tag[0]) or (own is not None and own[0] == frame)
        if is_echo or is_ping(frame) or peek(frame) == 0:
            if peek(frame) == 0:
                self.rig.heard(self.read(frame, addr))
            self._take(frame, addr)
            return
        if number >= 0 and (addr, number) in self._known:  # sent again: what was done with it is done again
            self._confirm(self._known[addr, number], frame, addr)
            return
        heard = self.read(frame, addr)
        reaction = self.rig.heard(heard)
        # What follows deals with this message, as a callback would: its answer says which message it answers.
        known = number >= 0 and heard.event is not None
        current.set(Origin(self._com.receiver_id, int(heard.event or 0), addr, number) if known else None)
        if number >= 0:
            self._known[addr, number] = reaction
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._confirm(reaction, frame, addr, heard)

    def _confirm(self, reaction: Reaction, frame: bytes, addr: Address, heard: Received | None = None) -> None:
        if reaction.echo:
            self.rig.react(reaction, heard, lambda: self._take(frame, addr))

    async def tell(self, message: Any, addr: Address, timeout: float) -> None:
        async with self.turn:
            await self._com.confirmed_send(message, addr, timeout)

    def transmit(self, frame: bytes, addr: Address) -> None:
        self._com.send(decode(frame), addr)

    def close(self) -> None:
        self._com.close()

    async def wait_closed(self) -> None:
        await self._com.wait_closed()
