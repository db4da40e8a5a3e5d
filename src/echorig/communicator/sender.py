"""The shell around `Exchange`: what `MessagePipeline` does for every message, and words for what goes wrong.

1. A coroutine that waits is woken by a result or an error; only the cancellation of its own task cancels it.
2. Every error names the rig, the event, and the time waited or the bytes involved.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from ..delivery._exchange import CONFIRMED, LOST, MISMATCH, TIMED_OUT, UNREACHABLE, WAITING, Exchange, Send
from ..errors import ConnectionClosedError, EchoError, EchoMismatchError, EchoTimeoutError, PeerUnreachableError
from ..messages import ExpMessage
from ..security._signing import Signer
from ..security.redaction import redact_frame
from ..security.safe_log import SafeLog
from ..uri import Address
from ..wire._codec import peek
from ._pipeline import MessagePipeline

__all__ = ['Delivery', 'describe_event']


_MAX_REASONS = 1024


def describe_event(frame: bytes) -> str:
    """Name the event of a message for people."""
    event = peek(frame)
    if event < 0:
        return f'{len(frame)} bytes'
    name = ExpMessage(event).name if event <= ExpMessage.any() else None
    return name or f'event {event}'


class Delivery(MessagePipeline):
    """Confirmed sends over one transport or a set of connections; the parameters are those of `MessagePipeline`."""

    def __init__(
        self,
        owner: Any,
        loop: asyncio.AbstractEventLoop,
        exchange: Exchange,
        logger: SafeLog,
        connected: bool,
        longest: int | None = None,
        signer: Signer | None = None,
    ) -> None:
        super().__init__(owner, loop, exchange, logger, connected, longest, signer)
        self._causes: dict[Address, BaseException] = {}
        self._reasons: dict[Address, OSError] = {}

    async def ping(self, addr: Address, timeout: float | None) -> float:
        """Send a ping and return its round-trip time in seconds; raises what a send that fails raises."""
        seconds = self.checked_timeout(addr, timeout)
        send = self.exchange.ping(addr, self.loop.create_future(), monotonic(), seconds)
        try:
            self.flush()
            if self.busy_poll > 0.0:
                self._stay_awake()
            await send.waiter
        except BaseException:
            self.give_up(send)
            raise
        return send.round_trip

    def ask(self, addr: Address, timeout: float) -> None:
        """Send a ping whose echo nobody waits for: that it comes says enough."""
        waiter = self.loop.create_future()
        waiter.add_done_callback(lambda waiter: waiter.cancelled() or waiter.exception())
        self.exchange.ping(addr, waiter, monotonic(), timeout)
        self.flush()

    def give_up(self, send: Send) -> None:
        """Stop waiting for a send, which leaves nothing behind; nothing happens where it has ended."""
        if self.signer is not None and send.outcome == WAITING:
            self.signer.failed(send.frame, send.addr)
        self.exchange.cancel(send, monotonic())
        if (exposed := self.exposed.pop(send, None)) is not None:
            exposed.cancel()
        self.flush()

    def tell(self, send: Send) -> None:
        """Wake who waits for a send, and say what became of it."""
        try:
            self._tell(send)
        finally:
            self._reasons.pop(send.addr, None)

    def _tell(self, send: Send) -> None:
        waiter: asyncio.Future[bool] = send.waiter
        exposed = self.exposed.pop(send, None)
        if send.outcome == CONFIRMED:
            for future in (waiter, exposed):
                if future is not None and not future.done():
                    future.set_result(True)
            if send.truncated:
                self.logger.warning(
                    'Received truncated echo from %s; the original message has %d bytes',
                    self.owner._who(send.addr),
                    len(send.frame),
                )
            self.logger.info('Confirmation received')
            return
        if self.signer is not None:
            self.signer.failed(send.frame, send.addr)
        error = self._error(send)
        if not waiter.done():
            waiter.set_exception(error)
        if exposed is not None and not exposed.done():
            if send.outcome == MISMATCH:
                exposed.set_exception(error)
                exposed.exception()  # the waiter has been told: nobody need ask this future
            else:
                exposed.cancel('Close called on communicator' if send.outcome == LOST else str(error))
        if send.outcome == MISMATCH:
            self.logger.error(
                'Expected %s from %s, got %s',
                redact_frame(send.frame),
                self.owner._who(send.addr),
                redact_frame(send.answer),
            )

    def _error(self, send: Send) -> EchoError:
        """Say what became of a send: who, which event, how long, and why."""
        who, event = self.owner._who(send.addr), describe_event(send.frame)
        waited = monotonic() - send.started
        cause: BaseException | None = self._reasons.get(send.addr)
        error: EchoError
        if send.outcome == TIMED_OUT:
            error = EchoTimeoutError(f'{who} did not echo {event} within {waited:.3f} s{_because(cause)}')
        elif send.outcome == UNREACHABLE:
            error = PeerUnreachableError(f'Nobody listens at {who}: {event} was refused, {waited:.3f} s waited')
        elif send.outcome == MISMATCH:
            expected, got = redact_frame(send.frame), redact_frame(send.answer)
            error = EchoMismatchError(f'Unexpected response from {who} to {event}: expected {expected}, got {got}')
        else:
            cause = self._causes.get(send.addr)
            error = ConnectionClosedError(f'{who} is closed; {event} was not confirmed{_because(cause)}')
        error.__cause__ = cause
        return error

    def system_error(self, addr: Address, error: OSError) -> None:
        """Take in what the system reports of a datagram to a peer; the sender is told if no echo comes."""
        if self.exchange.is_waiting(addr):
            if len(self._reasons) >= _MAX_REASONS:  # what was confirmed after all has left its own behind
                del self._reasons[next(iter(self._reasons))]
            self._reasons[addr] = error
            if isinstance(error, ConnectionRefusedError):
                self.exchange.refused(addr, monotonic(), self.in_hand)

    def not_signed(self, addr: Address) -> None:
        """Take in that what came from a peer was not signed with our key; the sender is told if no echo comes."""
        if self.exchange.is_waiting(addr):
            self._reasons[addr] = PermissionError('what it sent is not signed with the same key')

    def not_sent(self, addr: Address, error: Exception) -> None:
        """Take in that a frame could not be handed to the transport: the sends to its peer end, or go on trying."""
        if isinstance(error, EchoError):
            self.lost(addr, error)
        elif isinstance(error, OSError):
            self.system_error(addr, error)
        else:  # a transport that is not what it should be; whoever waits must know
            self.lost(addr, error)

    def lost(self, addr: Address, cause: BaseException | None) -> None:
        """End the sends to a peer whose connection is gone."""
        if cause is not None:
            self._causes[addr] = cause
        self.exchange.lost(addr, monotonic())
        if self.signer is not None:
            self.signer.forget(addr)
        self.flush()
        self._causes.pop(addr, None)

    # --- for LastSent ---

    def expose(self, send: Send) -> asyncio.Future[bool]:
        """Return a future that is done when a send is."""
        if send not in self.exposed:
            self.exposed[send] = self.loop.create_future()
        return self.exposed[send]


def _because(cause: BaseException | None) -> str:
    return f': {cause}' if cause is not None else ''
