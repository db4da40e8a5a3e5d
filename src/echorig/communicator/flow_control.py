"""`Admission`: what is done with messages for which there is no room.

1. A message that is not accepted is not confirmed, so nobody believes that it was heard.
2. A sender with tags over UDP sends it again by itself. One from anybody else is held back, and taken as if it had just
   come once there is room, unless its sender must have given up by then.
3. What is held back keeps its order: no new message is accepted before it; notices, which nobody confirms, are.
4. A server accepts nothing before its program has had the chance to listen: a rig that has just been started would
   confirm messages, and nobody would have heard them.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from ..messages import ExpMessage
from ..uri import Address
from ..wire._codec import peek
from ..wire._tags import read_tag

if TYPE_CHECKING:
    from .link import Link

__all__ = ['Admission']

_EVERYTHING = int(ExpMessage.any())
_TURNS = 4  # of the event loop, in which a program that waits in `wait_for` for its server gets to run


class Admission:
    """The door between the exchange of a communicator and those who wait for its messages.

    Parameters
    ----------
    owner : Link
        The communicator.
    """

    def __init__(self, owner: Link) -> None:
        self._owner = owner
        self._held: deque[tuple[float, bytes, Address]] = deque()
        self._bytes = 0
        self._opening = False
        self._shut = False

    def shut(self) -> None:
        """Accept nothing until `open_soon`."""
        self._shut = True
        self._owner._exchange.refuse(_EVERYTHING)

    def open_soon(self, turns: int = _TURNS) -> None:
        """Accept messages after some turns of the event loop."""
        if turns:
            self._owner._loop.call_soon(self.open_soon, turns - 1)
        else:
            self._shut = False
            self._admit()

    def refused(self, frame: bytes, addr: Address) -> None:
        """Take in a message that the exchange has refused."""
        owner = self._owner
        waiting = owner._waiting
        if not self._held and waiting.has_room(peek(frame)):
            owner._exchange.refuse(0)
            owner._receive(frame, addr)
            self.changed()
            return
        if not self._shut:
            waiting.backlog.refuse()
        has_room = len(self._held) < waiting.backlog.limit and self._bytes < waiting.backlog.max_bytes
        tag = read_tag(frame)
        if has_room and (self._shut or not owner._is_udp or tag is None):
            wanted = tag[3] / 1000 if tag is not None and tag[3] else owner.default_echo_timeout
            self._held.append((monotonic() + wanted, frame, addr))
            self._bytes += len(frame)

    def changed(self) -> None:
        """Take in that the backlog has become full, or is no longer."""
        full = self._owner._waiting.backlog.full
        if self._shut:
            self._owner._exchange.refuse(_EVERYTHING)
        elif full or not self._held:
            self._owner._exchange.refuse(full)
        elif not self._opening:
            self._opening = True
            self._owner._loop.call_soon(self._admit)

    def _admit(self) -> None:
        """Let in what is held back, as far as there is room."""
        self._opening = False
        if self._shut:
            return
        owner = self._owner
        owner._exchange.refuse(0)
        while self._held and not owner._waiting.backlog.full:
            deadline, frame, addr = self._held.popleft()
            self._bytes -= len(frame)
            if monotonic() < deadline and (owner._is_udp or addr in owner._connections):
                owner._received(frame, addr)
        backlog = owner._waiting.backlog
        owner._exchange.refuse(backlog.wanted if backlog.full or self._held else 0)

    def close(self) -> None:
        """Forget what is held back."""
        self._held.clear()
        self._bytes = 0
