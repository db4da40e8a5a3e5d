"""The shell around `Exchange`: the clock, one timer, and the futures of those who wait.

1. Every call into the exchange is followed by `flush`, which sends what it wants sent and wakes who is done.
2. There is one timer for each communicator, armed only while something is waited for.
   The clock is the system's monotonic one: that of uvloop stands still during a turn and counts milliseconds.
3. A coroutine that waits is woken by a result or an error; only the cancellation of its own task cancels it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, MutableMapping
from time import monotonic
from typing import Any

from ._codec import DIFFERENT, compare, peek
from ._exchange import CONFIRMED, LOST, MISMATCH, TIMED_OUT, UNREACHABLE, Exchange, Send
from .callbacks import is_success
from .errors import (
    ConnectionClosedError,
    EchoError,
    EchoMismatchError,
    EchoTimeoutError,
    PeerUnreachableError,
)
from .messages import ExpMessage
from .redact import shown
from .uri import Address

__all__ = ['Delivery', 'LastSent', 'describe_event']

NEVER = float('inf')
_LONGEST_SLEEP = 3600.0  # seconds; a timeout may be infinite, a timer may not


def describe_event(frame: bytes) -> str:
    """Name the event of a message for people."""
    event = peek(frame)
    if event < 0:
        return f'{len(frame)} bytes'
    name = ExpMessage(event).name if event <= ExpMessage.any() else None
    return name or f'event {event}'


class Delivery:
    """Confirmed sends over one transport or a set of connections.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop that it all runs on.
    exchange : Exchange
        The rules.
    transmit : callable
        ``transmit(frame, addr)`` hands bytes to the transport. It may raise `OSError`, if the system would
        not take them, or `EchoError`, if the connection is gone.
    who : callable
        ``who(addr)`` names a peer for people.
    logger : logging.Logger
        Where confirmations and their failures are logged.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        exchange: Exchange,
        transmit: Callable[[bytes, Address], None],
        who: Callable[[Address], str],
        logger: logging.Logger,
    ) -> None:
        self.loop = loop
        self.exchange = exchange
        self.last_sent = LastSent(self)
        self._transmit = transmit
        self._who = who
        self._logger = logger
        self._timer: asyncio.TimerHandle | None = None
        self._armed = NEVER
        self._causes: dict[Address, BaseException] = {}
        self._exposed: dict[Send, asyncio.Future[bool]] = {}

    async def send(self, frame: bytes, addr: Address, timeout: float, taggable: bool) -> None:
        """Send a message and wait for its echo.

        Parameters
        ----------
        frame : bytes
            The message.
        addr : tuple of (str, int)
            The peer.
        timeout : float
            How long to wait, in seconds.
        taggable : bool
            Whether it is an array that was encoded here.

        Raises
        ------
        EchoTimeoutError, PeerUnreachableError, EchoMismatchError, ConnectionClosedError
            It was not confirmed, see :mod:`echorig.errors`.
        """
        waiter = self.loop.create_future()
        await self._end_of(self.exchange.send(frame, addr, waiter, monotonic(), timeout, taggable), waiter)

    async def ping(self, addr: Address, timeout: float) -> float:
        """Send a ping and return its round-trip time in seconds; raises what `send` raises."""
        waiter = self.loop.create_future()
        send = self.exchange.ping(addr, waiter, monotonic(), timeout)
        await self._end_of(send, waiter)
        return send.round_trip

    async def _end_of(self, send: Send, waiter: asyncio.Future[bool]) -> None:
        self.flush()
        try:
            await waiter
        except asyncio.CancelledError:
            self.exchange.cancel(send, monotonic())
            if (exposed := self._exposed.pop(send, None)) is not None:
                exposed.cancel()
            self.flush()
            raise

    def flush(self) -> None:
        """Send what is to be sent and wake those whose send has ended."""
        exchange = self.exchange
        while exchange.outbox or exchange.finished:
            for frame, addr in _taken(exchange.outbox):
                try:
                    self._transmit(frame, addr)
                except EchoError as ex:
                    self._causes[addr] = ex
                    exchange.lost(addr, monotonic())
                except OSError:
                    exchange.refused(addr, monotonic())
            for send in _taken(exchange.finished):
                self._wake(send)
        self._causes.clear()
        if exchange.alarm < self._armed:
            self._arm(exchange.alarm)

    def _wake(self, send: Send) -> None:
        waiter: asyncio.Future[bool] = send.waiter
        exposed = self._exposed.pop(send, None)
        if send.outcome == CONFIRMED:
            if send.truncated:
                self._logger.warning(
                    'Received truncated echo from %s; the original message has %d bytes',
                    self._who(send.addr),
                    len(send.frame),
                )
            self._logger.info('Confirmation received')
            for future in (waiter, exposed):
                if future is not None and not future.done():
                    future.set_result(True)
            return
        error = self._error(send)
        if send.outcome == MISMATCH:
            self._logger.error(
                'Expected %s from %s, got %s', shown(send.frame), self._who(send.addr), shown(send.answer)
            )
        if not waiter.done():
            waiter.set_exception(error)
        if exposed is not None and not exposed.done():
            if send.outcome == MISMATCH:
                exposed.set_exception(error)
                exposed.exception()  # the waiter has been told: nobody need ask this future
            else:
                exposed.cancel('Close called on communicator' if send.outcome == LOST else str(error))

    def _error(self, send: Send) -> EchoError:
        """Say what became of a send: who, which event, how long, and why."""
        who, event = self._who(send.addr), describe_event(send.frame)
        waited = monotonic() - send.started
        error: EchoError
        if send.outcome == TIMED_OUT:
            error = EchoTimeoutError(f'{who} did not echo {event} within {waited:.3f} s')
        elif send.outcome == UNREACHABLE:
            error = PeerUnreachableError(f'Nobody listens at {who}: {event} was refused, {waited:.3f} s waited')
        elif send.outcome == MISMATCH:
            error = EchoMismatchError(
                f'Unexpected response from {who} to {event}: expected {shown(send.frame)}, got {shown(send.answer)}'
            )
        else:
            cause = self._causes.get(send.addr)
            why = f': {cause}' if cause is not None else ''
            error = ConnectionClosedError(f'{who} is closed; {event} was not confirmed{why}')
            error.__cause__ = cause
        return error

    def lost(self, addr: Address, cause: BaseException | None) -> None:
        """End the sends to a peer whose connection is gone."""
        if cause is not None:
            self._causes[addr] = cause
        self.exchange.lost(addr, monotonic())
        self.flush()

    def close(self) -> None:
        """End every send."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._armed = NEVER
        self.exchange.lose_all(monotonic())
        self.flush()
        self.last_sent.cancel_all()

    # --- the timer ---

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = when
        # Not less than a millisecond, which uvloop would round down to nothing and call again and again.
        delay = min(max(when - monotonic(), 0.001), _LONGEST_SLEEP)
        self._timer = self.loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._armed = NEVER
        self.exchange.expire(monotonic())
        self.flush()

    # --- for LastSent ---

    def expose(self, send: Send) -> asyncio.Future[bool]:
        """Return a future that is done when a send is."""
        if send not in self._exposed:
            self._exposed[send] = self.loop.create_future()
        return self._exposed[send]


def _taken(items: list[Any]) -> list[Any]:
    """Empty a list that others hold, and return what was in it."""
    taken = items.copy()
    items.clear()
    return taken


class LastSent(MutableMapping[Address, tuple[Any, 'asyncio.Future[Any]']]):
    """The newest unconfirmed message to each address, and a future for its echo.

    A pair put in by hand counts as a message sent: for as long as its future has no result, what comes from
    that address is compared with it.

    Parameters
    ----------
    delivery : Delivery
        Where the other sends are.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.by_hand: dict[Address, tuple[Any, asyncio.Future[Any]]] = {}

    def __getitem__(self, addr: Address) -> tuple[Any, asyncio.Future[Any]]:
        if addr in self.by_hand:
            return self.by_hand[addr]
        send = self._delivery.exchange.newest(addr)
        if send is None:
            raise KeyError(addr)
        return send.frame, self._delivery.expose(send)

    def __setitem__(self, addr: Address, pair: tuple[Any, asyncio.Future[Any]]) -> None:
        self.by_hand[addr] = pair

    def __delitem__(self, addr: Address) -> None:
        del self.by_hand[addr]

    def __iter__(self) -> Iterator[Address]:
        return iter({**self.by_hand, **dict.fromkeys(self._delivery.exchange.waiting_for())})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def take(self, frame: bytes, addr: Address, min_truncated: int, max_size: int) -> Exception | bool | None:
        """Compare a frame with the pair put in by hand for its address.

        Returns
        -------
        Exception, bool or None
            None if there is no such pair or the frame is a message of another event; True if the frame is
            the echo; the error if it is not.
        """
        pair = self.by_hand.get(addr)
        if pair is None or is_success(pair[1]):
            return None
        expected, future = pair
        if compare(expected, frame, min_truncated, max_size) != DIFFERENT:
            if not future.done():
                future.set_result(True)
            return True
        event = peek(frame)
        if event == 0 or (event > 0 and isinstance(expected, bytes) and event != peek(expected)):
            return None
        error = EchoMismatchError(f'Unexpected response: expected {shown(expected)}, got {shown(frame)}')
        if not future.done():
            future.set_exception(error)
            future.exception()  # it is logged: a future that nobody asks is no second error
        return error

    def cancel_all(self) -> None:
        """Cancel the futures put in by hand and forget the pairs."""
        for _, future in self.by_hand.values():
            future.cancel('Close called on communicator')
        self.by_hand.clear()
