"""`EventQueue`: the coroutines that wait in `on_event`, the streams, and the messages kept for them.

1. Events are bit masks; the notice has a bit of its own. `interest` is the union of all masks that messages are
   delivered for.
2. Every coroutine that waits for an event gets its next message. If none waits, the message is kept in the backlog,
   if that keeps the event. Every stream gets every message.
3. Any other message is kept until the next iteration of the event loop, see `TurnBuffer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from ..errors import EchoError
from ..messages import ExpMessage
from ..security.safe_log import SafeLog
from ..uri import Address
from ._message import ReceivedMessage
from ._reply_context import current_request
from ._turn_buffer import TurnBuffer
from .backlog import Backlog
from .callbacks import is_success
from .stream import Stream

__all__ = ['NOTICE_BIT', 'EventQueue', 'EventStream', 'bits']

NOTICE_BIT = 1 << 30  # above all events
"""int: Stands for the notice, whose code, 0, has no bit of its own."""


class EventStream(Stream[tuple[list[Any], Address, ExpMessage]]):
    """A stream of ``(data, addr, event)``; the task that reads a message handles it until it reads the next one."""

    def _decode_item(self, item: Any) -> tuple[list[Any], Address, ExpMessage]:
        current_request.set(item.request)
        return item.data, item.addr, item.event

    def _size_of(self, item: Any) -> int:
        return item.size  # type: ignore[no-any-return]


def bits(event: ExpMessage) -> int:
    """Return the bits of an event or combination."""
    return int(event) or NOTICE_BIT


class EventQueue:
    """The waiters and streams of a communicator, and the messages that are kept for them."""

    def __init__(self, limit: int, max_bytes: int, age: float, logger: SafeLog) -> None:
        self.backlog = Backlog(limit, max_bytes, age, logger)
        self.turn_buffer = TurnBuffer(limit)
        self.interest = 0  # the bits of the events for which `deliver` must be called
        self.on_capacity_change: Callable[[], None] = lambda: None  # when the backlog becomes full, or has room again
        self.waiters: dict[asyncio.Future[ReceivedMessage], int] = {}
        self._waiter_mask = 0  # the union of their masks
        self.is_closed = False
        self.streams: dict[EventStream, int] = {}
        self._limit = limit
        self._logger = logger

    # --- messages ---

    def deliver(self, message: ReceivedMessage) -> bool:
        """Give a message to waiters and streams, or keep it; return whether a waiter or the backlog has it."""
        for stream, mask in self.streams.items():
            if mask & message.bit:
                stream.put(message)
        return self._resolve_waiters(message) or self._keep(message)

    def put_back(self, message: ReceivedMessage) -> None:
        """Give a message that was taken and not used to the waiters of now, or keep it before all others."""
        if not self._resolve_waiters(message) and self.backlog.event_mask & message.bit:
            self.backlog.put_back(message, monotonic())
            if self.backlog.full_mask:
                self.on_capacity_change()

    def _resolve_waiters(self, message: ReceivedMessage) -> bool:
        if not self._waiter_mask & message.bit:
            return False
        waiters = [waiter for waiter, mask in self.waiters.items() if mask & message.bit and not waiter.done()]
        for waiter in waiters:
            waiter.set_result(message)
            del self.waiters[waiter]
        self._update_masks()
        return bool(waiters)

    def _keep(self, message: ReceivedMessage) -> bool:
        if not self.backlog.event_mask & message.bit:
            return False
        self.backlog.put(message, monotonic())
        if self.backlog.full_mask:
            self.on_capacity_change()
        return True

    def enable_backlog(self, mask: int) -> None:
        """Keep the messages of these events from now on."""
        if mask & ~self.backlog.event_mask:
            self.backlog.event_mask |= mask
            self._update_masks()
            for message in self.turn_buffer.pop_all(mask):
                self._keep(message)

    def has_room(self, bit: int) -> bool:
        """Return whether a message can be accepted: it is waited for, or the backlog can make room."""
        return bool(self._waiter_mask & bit) or self.backlog.make_room(monotonic())

    def _take(self, mask: int) -> ReceivedMessage | None:
        if self.backlog:
            was_full = self.backlog.full_mask
            message = self.backlog.take(mask, monotonic())
            if was_full and not self.backlog.full_mask:
                self.on_capacity_change()
            if message:
                return message
        return self.turn_buffer.pop(mask)

    # --- waiters ---

    async def next(self, event: ExpMessage) -> tuple[Any, ...]:
        """Return the next message of an event or combination, kept or new."""
        mask = bits(event)
        message = self._take(mask)
        if self.backlog.event_mask:
            self.backlog.reader_started(mask)
        if not message:
            message = await self._wait(mask)
        current_request.set(message.request)
        data, addr = message.data, message.addr
        return (data, addr, message.event) if mask & (mask - 1) else (data, addr)

    async def _wait(self, mask: int) -> ReceivedMessage:
        waiter = self.add_waiter(mask)
        try:
            return await waiter
        except asyncio.CancelledError:
            if is_success(waiter):  # the message arrived in the iteration in which its reader was cancelled
                self.put_back(waiter.result())
            raise
        finally:
            self.remove_waiter(waiter)
            if self.backlog.event_mask:
                self.backlog.reader_stopped(mask)

    def add_waiter(self, mask: int) -> asyncio.Future[ReceivedMessage]:
        """Return a future for the next message of some events; the caller must remove it in the end."""
        waiter: asyncio.Future[ReceivedMessage] = asyncio.get_running_loop().create_future()
        self.waiters[waiter] = mask
        self._waiter_mask |= mask
        self.interest |= mask
        return waiter

    def remove_waiter(self, waiter: asyncio.Future[ReceivedMessage]) -> None:
        """Remove a waiter, whether it is done or not."""
        if self.waiters.pop(waiter, None) is not None:
            self._update_masks()
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # nobody else may retrieve it

    def fail(self, error: EchoError, event: ExpMessage | None = None) -> int:
        """Fail the waiters, all or those for an event, and count them."""
        mask = -1 if event is None else bits(event)
        failed = [waiter for waiter, own in self.waiters.items() if own & mask]
        for waiter in failed:
            del self.waiters[waiter]
            if not waiter.done():
                waiter.set_exception(type(error)(str(error)))  # each gets its own, for its own traceback
        self._update_masks()
        return len(failed)

    # --- streams ---

    def stream(self, event: ExpMessage, limit: int | None, check_open: Callable[[], None]) -> EventStream:
        """Return a stream of the messages of an event or combination, not yet open."""

        def on_open(stream: EventStream) -> None:
            check_open()
            self.streams[stream] = bits(event)
            self._update_masks()

        def on_close(stream: EventStream) -> None:
            self.streams.pop(stream, None)
            self._update_masks()

        limit = self._limit if limit is None else limit
        return EventStream(limit, 'messages', self._logger, on_open, on_close, self.backlog.max_bytes)

    def close(self, error: EchoError) -> None:
        """Fail all waiters, close the streams and drop the messages."""
        self.is_closed = True
        self.fail(error)
        for stream in self.streams:
            stream.close(error)
        self.streams.clear()
        self.backlog.clear()
        self.turn_buffer.clear()
        self._update_masks()

    def _update_masks(self) -> None:
        self._waiter_mask = 0
        for mask in self.waiters.values():
            self._waiter_mask |= mask
        self.interest = self._waiter_mask | self.backlog.event_mask
        for mask in self.streams.values():
            self.interest |= mask
