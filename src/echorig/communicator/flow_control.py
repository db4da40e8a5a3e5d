"""`FlowControl`: what is done with messages while the backlog is full.

1. A message that is not accepted is not confirmed, so its sender does not believe that it was received.
2. A sender with tags over UDP sends it again by itself. A message of any other sender is held back, and accepted once
   there is room, unless its sender must have given up by then.
3. Messages that are held back keep their order: no new message is accepted before them. Notices, which nobody confirms,
   are.
4. A server accepts nothing before its program has had the chance to listen: a rig that has just been started would
   confirm messages that nobody receives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from ..delivery._exchange import Exchange
from ..events.event_queue import Waiting
from ..messages import ExpMessage
from ..uri import Address
from ..wire._codec import peek
from ..wire._tags import read_tag

__all__ = ['FlowControl']

_EVERYTHING = int(ExpMessage.any())
_TURNS = 4  # loop iterations before messages are accepted, so that the caller of `server()` can register callbacks


class FlowControl:
    """Decides whether the exchange of a communicator accepts new messages.

    Parameters
    ----------
    exchange : Exchange
        What accepts or refuses messages.
    queue : Waiting
        Where they go; its backlog may be full.
    loop : asyncio.AbstractEventLoop
        The event loop.
    is_udp : bool
        Whether senders with tags send a message again by themselves.
    receive, replay : callable
        Take a message that was refused a moment ago, and one that was held back.
    is_connected : callable
        Tells whether there still is somebody at an address to confirm a message to.
    patience : callable
        Returns how long a sender waits that does not say so, in seconds.
    """

    def __init__(
        self,
        exchange: Exchange,
        queue: Waiting,
        loop: asyncio.AbstractEventLoop,
        is_udp: bool,
        receive: Callable[[bytes, Address], None],
        replay: Callable[[bytes, Address], None],
        is_connected: Callable[[Address], bool],
        patience: Callable[[], float],
    ) -> None:
        self._exchange, self._queue, self._loop, self._is_udp = exchange, queue, loop, is_udp
        self._receive, self._replay, self._is_connected, self._patience = receive, replay, is_connected, patience
        self._held: deque[tuple[float, bytes, Address]] = deque()
        self._bytes = 0
        self._resuming = False
        self._paused = False

    @property
    def n_bytes(self) -> int:
        """int: How many bytes are held back."""
        return self._bytes

    @property
    def n_held(self) -> int:
        """int: How many messages are held back."""
        return len(self._held)

    def pause(self) -> None:
        """Accept nothing until `resume_soon`."""
        self._paused = True
        self._exchange.refuse(_EVERYTHING)

    def resume_soon(self, turns: int = _TURNS) -> None:
        """Accept messages after some iterations of the event loop."""
        if turns:
            self._loop.call_soon(self.resume_soon, turns - 1)
        else:
            self._paused = False
            self._drain()

    def on_refused(self, frame: bytes, addr: Address) -> None:
        """Take a message that the exchange has refused."""
        backlog = self._queue.backlog
        if not self._held and self._queue.has_room(peek(frame)):
            self._exchange.refuse(0)
            self._receive(frame, addr)
            self.update()
            return
        if not self._paused:
            backlog.refuse()
        has_room = len(self._held) < backlog.limit and self._bytes < backlog.max_bytes
        tag = read_tag(frame)
        if has_room and (self._paused or not self._is_udp or tag is None):
            wanted = tag[3] / 1000 if tag is not None and tag[3] else self._patience()
            self._held.append((monotonic() + wanted, frame, addr))
            self._bytes += len(frame)

    def update(self) -> None:
        """Take in that the backlog has become full, or is no longer."""
        full = self._queue.backlog.full
        if self._paused:
            self._exchange.refuse(_EVERYTHING)
        elif full or not self._held:
            self._exchange.refuse(full)
        elif not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        """Accept what is held back, as far as there is room."""
        self._resuming = False
        if self._paused:
            return
        self._exchange.refuse(0)
        backlog = self._queue.backlog
        while self._held and not backlog.full:
            deadline, frame, addr = self._held.popleft()
            self._bytes -= len(frame)
            if monotonic() < deadline and self._is_connected(addr):
                self._replay(frame, addr)
        self._exchange.refuse(backlog.wanted if backlog.full or self._held else 0)

    def close(self) -> None:
        """Forget what is held back."""
        self._held.clear()
        self._bytes = 0
