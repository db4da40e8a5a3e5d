"""Waiting for events: the coroutines behind `on_event`, and the messages that come while they are busy.

1. Events are bits here, the notice one too; `asked` has those for which anything is to be done when one comes.
2. A coroutine that waits gets the next message. If none waits for an event that is *wanted*, its messages are kept.
3. A message that nobody has heard, not even a callback, is kept for the rest of the event loop's turn: a loop may
   deliver it before a task made earlier has begun to wait for it (uvloop looks at its sockets before new tasks run).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import Any

from .callbacks import is_success
from .errors import EchoError
from .messages import ExpMessage
from .uri import Address

__all__ = ['NOTICE_BIT', 'Backlog', 'Waiting', 'bits']

NOTICE_BIT = 256
"""int: Stands for the notice, whose code, 0, has no bit of its own."""

Message = tuple[ExpMessage, list[Any], Address]


def bits(event: ExpMessage) -> int:
    """Return the bits of an event or combination."""
    return int(event) or NOTICE_BIT


class Backlog:
    """Messages that came while nobody waited for them, in order.

    Parameters
    ----------
    limit : int
        How many are kept; the oldest is dropped for the next.
    age : float
        How long one is kept, in seconds.
    logger : logging.Logger
        Where those that are dropped are mentioned.
    """

    def __init__(self, limit: int, age: float, logger: logging.Logger) -> None:
        self.limit = limit
        self.dropped = 0
        self._age = age
        self._logger = logger
        self._kept: deque[tuple[float, int, Message]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, bit: int, message: Message, now: float) -> None:
        """Keep a message; the oldest may have to make room."""
        self._prune(now)
        self._kept.append((now, bit, message))
        if len(self._kept) > self.limit:
            self._kept.popleft()
            self.dropped += 1
            self._logger.warning(
                'More than %d messages wait for on_event; the oldest is dropped (%d so far)', self.limit, self.dropped
            )

    def put_back(self, bit: int, message: Message, now: float) -> None:
        """Keep a message that was taken and not used, before all others."""
        self._kept.appendleft((now, bit, message))

    def take(self, mask: int, now: float) -> Message | None:
        """Return the oldest message of some events, or None."""
        self._prune(now)
        for i, (_, bit, message) in enumerate(self._kept):
            if bit & mask:
                del self._kept[i]
                return message
        return None

    def clear(self) -> None:
        """Forget all messages."""
        self._kept.clear()

    def _prune(self, now: float) -> None:
        expired = 0
        while self._kept and now - self._kept[0][0] > self._age:
            self._kept.popleft()
            expired += 1
        if expired:
            self._logger.warning('%d messages that nobody waited for in time are dropped (Tuning.backlog_age)', expired)


class Waiting:
    """Who waits for which event, and what is kept for those who will.

    Parameters
    ----------
    limit : int
        How many messages are kept.
    age : float
        How long each is kept, in seconds.
    logger : logging.Logger
        Where messages that are dropped are mentioned.

    Attributes
    ----------
    asked : int
        The bits of the events for which `deliver` must be called; it need not be for others.
    waiters : dict of asyncio.Future to int
        The coroutines that wait, and for which bits.
    """

    def __init__(self, limit: int, age: float, logger: logging.Logger) -> None:
        self.backlog = Backlog(limit, age, logger)
        self.asked = 0
        self.waiters: dict[asyncio.Future[tuple[Any, ...]], int] = {}
        self._awaited = 0  # the bits of `waiters`
        self._wanted = 0  # the bits of events whose messages are kept
        self._turn: list[tuple[int, Message]] = []

    # --- messages ---

    def deliver(self, bit: int, message: Message) -> bool:
        """Give a message to those who wait for it, or keep it if it is wanted; tell whether somebody has asked."""
        if self._awaited & bit:
            event, data, addr = message
            awaited = False
            for waiter, mask in list(self.waiters.items()):
                if mask & bit and not waiter.done():
                    waiter.set_result((data, addr, event) if mask & (mask - 1) else (data, addr))
                    awaited = True
                    del self.waiters[waiter]
            self._sum_up()
            if awaited:
                return True
        if self._wanted & bit:
            self.backlog.put(bit, message, monotonic())
            return True
        return False

    def keep_for_this_turn(self, bit: int, message: Message) -> None:
        """Keep a message that nobody has heard until the tasks that exist now have had their turn."""
        turn = self._turn
        if not turn:
            asyncio.get_running_loop().call_soon(turn.clear)
        if len(turn) < self.backlog.limit:
            turn.append((bit, message))

    def want(self, mask: int) -> None:
        """Keep the messages of these events from now on."""
        if mask & ~self._wanted:
            self._wanted |= mask
            self._sum_up()
            now = monotonic()
            for entry in [entry for entry in self._turn if entry[0] & mask]:
                self._turn.remove(entry)
                self.backlog.put(*entry, now)

    def _take(self, mask: int) -> Message | None:
        if self.backlog and (message := self.backlog.take(mask, monotonic())):
            return message
        for i, (bit, message) in enumerate(self._turn):
            if bit & mask:
                del self._turn[i]
                return message
        return None

    # --- those who wait ---

    async def next(self, event: ExpMessage) -> tuple[Any, ...]:
        """Return the next message of an event or combination, be it one that has been kept."""
        mask = bits(event)
        if message := self._take(mask):
            came, data, addr = message
            return (data, addr, came) if mask & (mask - 1) else (data, addr)
        waiter = self.expect(event)
        try:
            return await waiter
        except asyncio.CancelledError:
            if is_success(waiter):  # the message came in the turn in which its reader was cancelled
                data, addr, *came_ = waiter.result()
                came = came_[0] if came_ else event
                if self._wanted & bits(came):
                    self.backlog.put_back(bits(came), (came, data, addr), monotonic())
            raise
        finally:
            self.forget(waiter)

    def expect(self, event: ExpMessage) -> asyncio.Future[tuple[Any, ...]]:
        """Return a future for the next message of an event or combination; it must be forgotten in the end."""
        waiter: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        self.waiters[waiter] = mask = bits(event)
        self._awaited |= mask
        self.asked |= mask
        return waiter

    def forget(self, waiter: asyncio.Future[tuple[Any, ...]]) -> None:
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

    def clear(self) -> None:
        """Forget the messages."""
        self.backlog.clear()
        self._turn.clear()

    def _sum_up(self) -> None:
        self._awaited = 0
        for mask in self.waiters.values():
            self._awaited |= mask
        self.asked = self._awaited | self._wanted
