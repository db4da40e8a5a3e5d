"""The shell around `Exchange`: the clock, one timer, and the futures of those who wait.

1. Every call into the exchange is followed by `flush`, which sends what it wants sent and wakes who is done.
2. There is one timer for each communicator, armed only while something is waited for.
   The clock is the system's monotonic one: that of uvloop stands still during a turn and counts milliseconds.
3. A coroutine that waits is woken by a result or an error; only the cancellation of its own task cancels it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from ._codec import peek
from ._exchange import CONFIRMED, LOST, MISMATCH, TIMED_OUT, UNREACHABLE, Exchange, Send
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

__all__ = ['Delivery', 'describe_event']

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
        self._transmit = transmit
        self._who = who
        self._logger = logger
        self._timer: asyncio.TimerHandle | None = None
        self._armed = NEVER
        self._causes: dict[Address, BaseException] = {}
        self._reasons: dict[Address, OSError] = {}
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
        try:
            self.flush()
            await waiter
        except BaseException:
            self.exchange.cancel(send, monotonic())  # nothing, where the send has ended
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
                except OSError as ex:
                    self.system_error(addr, ex)
            for send in _taken(exchange.finished):
                self._wake(send)
        self._causes.clear()
        if exchange.alarm < self._armed:
            self._arm(exchange.alarm)

    def _wake(self, send: Send) -> None:
        try:
            self._tell(send)
        finally:
            self._reasons.pop(send.addr, None)

    def _tell(self, send: Send) -> None:
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
        cause: BaseException | None = self._reasons.get(send.addr)
        error: EchoError
        if send.outcome == TIMED_OUT:
            error = EchoTimeoutError(f'{who} did not echo {event} within {waited:.3f} s{_because(cause)}')
        elif send.outcome == UNREACHABLE:
            error = PeerUnreachableError(f'Nobody listens at {who}: {event} was refused, {waited:.3f} s waited')
        elif send.outcome == MISMATCH:
            error = EchoMismatchError(
                f'Unexpected response from {who} to {event}: expected {shown(send.frame)}, got {shown(send.answer)}'
            )
        else:
            cause = self._causes.get(send.addr)
            error = ConnectionClosedError(f'{who} is closed; {event} was not confirmed{_because(cause)}')
        error.__cause__ = cause
        return error

    def system_error(self, addr: Address, error: OSError) -> None:
        """Take in what the system reports of a datagram to a peer; the sender is told if no echo comes."""
        if self.exchange.newest(addr) is not None:
            self._reasons[addr] = error
            if isinstance(error, ConnectionRefusedError):
                self.exchange.refused(addr, monotonic())

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


def _because(cause: BaseException | None) -> str:
    return f': {cause}' if cause is not None else ''


def _taken(items: list[Any]) -> list[Any]:
    """Empty a list that others hold, and return what was in it."""
    taken = items.copy()
    items.clear()
    return taken
