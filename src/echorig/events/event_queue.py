"""Waiting for events: the coroutines behind `on_event`, and the messages that come while they are busy.

1. Events are bits here, the notice one too; `asked` has those for which anything is to be done when one comes.
2. A coroutine that waits gets the next message. If none waits for an event that is *wanted*, its messages are kept.
   Each stream gets all.
3. A message for which nobody has asked is kept for the rest of the event loop's turn, see `Turn`.
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
from ._reply_context import current
from ._turn import Turn
from .backlog import Backlog
from .callbacks import is_success
from .stream import Stream

__all__ = ['NOTICE_BIT', 'EventStream', 'Waiting', 'bits']

NOTICE_BIT = 256
"""int: Stands for the notice, whose code, 0, has no bit of its own."""


class EventStream(Stream[tuple[list[Any], Address, ExpMessage]]):
    """A stream of ``(data, addr, event)``; who reads one deals with that message from then on."""

    def _handed_out(self, item: Any) -> tuple[list[Any], Address, ExpMessage]:
        current.set(item.request)
        return item.data, item.addr, item.event

    def _size(self, item: Any) -> int:
        return item.size  # type: ignore[no-any-return]


def bits(event: ExpMessage) -> int:
    """Return the bits of an event or combination."""
    return int(event) or NOTICE_BIT


class Waiting:
    """Who waits for which event, and what is kept for those who will.

    Parameters
    ----------
    limit : int
        How many messages are kept.
    max_bytes : int
        How many bytes they may have had on their way; one more message may exceed it.
    age : float
        How long each is kept, in seconds.
    logger : SafeLog
        Where messages that are dropped are mentioned.

    Attributes
    ----------
    asked : int
        The bits of the events for which `deliver` must be called; it need not be for others.
    waiters : dict of asyncio.Future to int
        The coroutines that wait, and for which bits.
    streams : dict of Stream to int
        The streams that are open, and for which bits.
    turn : Turn
        The messages for which nobody has asked in this turn of the loop.
    on_room : callable
        Told when the backlog has become full, or is no longer.
    """

    def __init__(self, limit: int, max_bytes: int, age: float, logger: SafeLog) -> None:
        self.backlog = Backlog(limit, max_bytes, age, logger)
        self.asked = 0
        self.waiters: dict[asyncio.Future[ReceivedMessage], int] = {}
        self.streams: dict[EventStream, int] = {}
        self.on_room: Callable[[], None] = lambda: None
        self._limit = limit
        self._logger = logger
        self._awaited = 0  # the bits of `waiters`
        self.turn = Turn(limit)

    # --- messages ---

    def deliver(self, bit: int, message: ReceivedMessage) -> bool:
        """Give a message to those who wait for it, or keep it if it is wanted; tell whether either was so.

        That a stream has got it changes nothing for anybody else.
        """
        for stream, mask in self.streams.items():
            if mask & bit:
                stream.put(message)
        if self._awaited & bit and self._hand(bit, message):
            return True
        if self.backlog.wanted & bit:
            self._keep(bit, message)
            return True
        return False

    def _hand(self, bit: int, message: ReceivedMessage) -> bool:
        awaited = False
        for waiter, mask in list(self.waiters.items()):
            if mask & bit and not waiter.done():
                waiter.set_result(message)
                awaited = True
                del self.waiters[waiter]
        self._sum_up()
        return awaited

    def put_back(self, message: ReceivedMessage) -> None:
        """Give a message that was taken and not used to those who wait for it now, or keep it before all others."""
        bit = bits(message.event)
        if self._awaited & bit and self._hand(bit, message):
            return
        if self.backlog.wanted & bit:
            self.backlog.put_back(bit, message, monotonic())
            if self.backlog.full:
                self.on_room()

    def _keep(self, bit: int, message: ReceivedMessage) -> None:
        self.backlog.put(bit, message, monotonic(), self.waiters.values())
        if self.backlog.full:
            self.on_room()

    def want(self, mask: int) -> None:
        """Keep the messages of these events from now on."""
        if mask & ~self.backlog.wanted:
            self.backlog.wanted |= mask
            self._sum_up()
            for entry in self.turn.take_all(mask):
                self._keep(*entry)

    def has_room(self, bit: int) -> bool:
        """Tell whether a message can be taken: somebody waits for it, or what nobody will fetch can be dropped."""
        return bool(self._awaited & bit) or self.backlog.make_room(monotonic(), self.waiters.values())

    def _take(self, mask: int) -> ReceivedMessage | None:
        if self.backlog:
            full = self.backlog.full
            message = self.backlog.take(mask, monotonic(), self.waiters.values())
            if full and not self.backlog.full:
                self.on_room()
            if message:
                return message
        return self.turn.take(mask)  # type: ignore[no-any-return]

    # --- those who wait ---

    async def next(self, event: ExpMessage) -> tuple[Any, ...]:
        """Return the next message of an event or combination, be it one that has been kept."""
        mask = bits(event)
        message = self._take(mask)
        if self.backlog.wanted:
            self.backlog.begin(mask)
        if not message:
            message = await self._wait(event)
        current.set(message.request)
        data, addr = message.data, message.addr
        return (data, addr, message.event) if mask & (mask - 1) else (data, addr)

    async def _wait(self, event: ExpMessage) -> ReceivedMessage:
        waiter = self.expect(event)
        try:
            return await waiter
        except asyncio.CancelledError:
            if is_success(waiter):  # the message came in the turn in which its reader was cancelled
                self.put_back(waiter.result())
            raise
        finally:
            self.forget(waiter)
            if self.backlog.wanted:
                self.backlog.end(bits(event))

    def expect(self, event: ExpMessage) -> asyncio.Future[ReceivedMessage]:
        """Return a future for the next message of an event or combination; it must be forgotten in the end."""
        waiter: asyncio.Future[ReceivedMessage] = asyncio.get_running_loop().create_future()
        self.waiters[waiter] = mask = bits(event)
        self._awaited |= mask
        self.asked |= mask
        return waiter

    def forget(self, waiter: asyncio.Future[ReceivedMessage]) -> None:
        """Stop expecting, whatever became of the future."""
        if self.waiters.pop(waiter, None) is not None:
            self._sum_up()
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # it may have failed with nobody looking

    def fail(self, error: EchoError, event: ExpMessage | None = None) -> int:
        """End the coroutines that wait, all of them or those for an event, and count them."""
        mask = -1 if event is None else bits(event)
        failed = [waiter for waiter, own in self.waiters.items() if own & mask]
        for waiter in failed:
            del self.waiters[waiter]
            if not waiter.done():
                waiter.set_exception(type(error)(str(error)))  # each its own, for its own traceback
        self._sum_up()
        return len(failed)

    # --- streams ---

    def stream(self, event: ExpMessage, limit: int | None, check_open: Callable[[], None]) -> EventStream:
        """Return a stream of the messages of an event or combination, not yet open."""

        def enter(stream: EventStream) -> None:
            check_open()
            self.streams[stream] = bits(event)
            self._sum_up()

        def leave(stream: EventStream) -> None:
            if self.streams.pop(stream, None) is not None:
                self._sum_up()

        limit = self._limit if limit is None else limit
        return EventStream(limit, 'messages', self._logger, enter, leave, self.backlog.max_bytes)

    def close(self, error: EchoError) -> None:
        """Fail all who wait, end the streams and forget the messages."""
        self.fail(error)
        for stream in self.streams:
            stream.end(error)
        self.streams.clear()
        self.backlog.clear()
        self.turn.clear()
        self._sum_up()

    def _sum_up(self) -> None:
        self._awaited = 0
        for mask in self.waiters.values():
            self._awaited |= mask
        self.asked = self._awaited | self.backlog.wanted
        for mask in self.streams.values():
            self.asked |= mask
