"""`FlowControl`: holds back or refuses new messages while the backlog is full.

1. A message that is not accepted is not confirmed, so its sender does not believe that it was received.
2. A sender with tags over UDP sends it again by itself. A message of any other sender is held back. It is accepted once
   there is room, unless its sender must have given up by then.
3. Messages that are held back keep their order: no new message is accepted before them, except notices, which are never
   confirmed.
4. A server accepts nothing before its program had the chance to register callbacks: a rig that was just started would
   confirm messages that nobody receives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from ..delivery._exchange import Exchange
from ..events.event_queue import EventQueue
from ..messages import ExpMessage
from ..uri import Address
from ..wire._codec import peek
from ..wire._tags import read_tag

__all__ = ['FlowControl']

_EVERYTHING = int(ExpMessage.any())
_TURNS = 4  # loop iterations before messages are accepted, so that the caller of `server()` can register callbacks


class FlowControl:
    """Decides whether the exchange of a communicator accepts new messages.

    `receive` receives a message after all, `is_connected` returns whether a message from an address can still be
    confirmed, and `default_patience` how many seconds a sender waits that does not say so.
    """

    def __init__(
        self,
        exchange: Exchange,
        queue: EventQueue,
        loop: asyncio.AbstractEventLoop,
        has_datagrams: bool,
        receive: Callable[[bytes, Address], None],
        is_connected: Callable[[Address], bool],
        default_patience: Callable[[], float],
    ) -> None:
        self._exchange, self._queue, self._loop, self._has_datagrams = exchange, queue, loop, has_datagrams
        self._receive, self._is_connected, self._default_patience = receive, is_connected, default_patience
        self._held: deque[tuple[float, bytes, Address]] = deque()
        self.n_bytes = 0  # that are held back
        self._resuming = False
        self._paused = False

    def pause(self) -> None:
        """Accept nothing until `resume_soon`."""
        self._paused = True
        self._exchange.refuse_events(_EVERYTHING)

    def resume_soon(self, turns: int = _TURNS) -> None:
        """Accept messages after some iterations of the event loop."""
        if turns:
            self._loop.call_soon(self.resume_soon, turns - 1)
        else:
            self._paused = False
            self._drain()

    def on_refused(self, frame: bytes, addr: Address) -> None:
        """Receive a message that the exchange has refused after all, hold it back, or drop it."""
        backlog = self._queue.backlog
        if not self._held and self._queue.has_room(peek(frame)):
            self._exchange.refuse_events(0)
            self._receive(frame, addr)
            self.update()
            return
        if not self._paused:
            backlog.count_refused()
        has_room = len(self._held) < backlog.limit and self.n_bytes < backlog.max_bytes
        tag = read_tag(frame)
        if has_room and (self._paused or not self._has_datagrams or tag is None):
            wanted = tag[3] / 1000 if tag is not None and tag[3] else self._default_patience()
            self._held.append((monotonic() + wanted, frame, addr))
            self.n_bytes += len(frame)

    def update(self) -> None:
        """React to a backlog that became full, or has room again."""
        full = self._queue.backlog.full_mask
        if self._paused:
            self._exchange.refuse_events(_EVERYTHING)
        elif full or not self._held:
            self._exchange.refuse_events(full)
        elif not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        """Accept the messages that are held back while there is room."""
        self._resuming = False
        if self._paused:
            return
        self._exchange.refuse_events(0)
        backlog = self._queue.backlog
        while self._held and not backlog.full_mask:
            deadline, frame, addr = self._held.popleft()
            self.n_bytes -= len(frame)
            if monotonic() < deadline and self._is_connected(addr):
                self._receive(frame, addr)
        self._exchange.refuse_events(backlog.event_mask if backlog.full_mask or self._held else 0)

    def close(self) -> None:
        """Forget the messages that are held back."""
        self._held.clear()
        self.n_bytes = 0
