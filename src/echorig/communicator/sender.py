"""`Sender`: confirmed sends: waits for their echoes, and turns those that failed into exceptions.

1. A coroutine that waits is woken by a result or an error; only the cancellation of its own task cancels it.
2. Every error names the rig, the event, and the time waited or the bytes involved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from ..delivery._exchange import CONFIRMED, LOST, MISMATCH, TIMED_OUT, UNREACHABLE, WAITING
from ..delivery._send import Send
from ..errors import ConnectionClosedError, EchoError, EchoMismatchError, EchoTimeoutError, PeerUnreachableError
from ..messages import ExpMessage
from ..security.redaction import redact_frame
from ..uri import Address
from ..wire._codec import peek
from ._pipeline import MessagePipeline
from .labels import Labels
from .last_sent import LastSent

__all__ = ['Sender', 'describe_event']


_MAX_REASONS = 1024


def describe_event(frame: bytes) -> str:
    """Name the event of a message for people."""
    event = peek(frame)
    if event < 0:
        return f'{len(frame)} bytes'
    name = ExpMessage(event).name if event <= ExpMessage.any() else None
    return name or f'event {event}'


class Sender:
    """Waits for confirmations, and turns sends that failed into exceptions.

    Parameters
    ----------
    pipeline : MessagePipeline
        Carries the frames.
    labels : Labels
        The names in errors.
    min_truncated : int
        The shortest prefix of a message that counts as its truncated echo, in bytes.
    max_message_size : callable
        Returns the buffer size of peers, in bytes.
    """

    def __init__(
        self, pipeline: MessagePipeline, labels: Labels, min_truncated: int, max_message_size: Callable[[], int]
    ) -> None:
        self._pipeline, self._labels = pipeline, labels
        self._min_truncated, self._max_message_size = min_truncated, max_message_size
        self._exchange, self._signer, self._log = pipeline.exchange, pipeline.signer, pipeline.log
        self._causes: dict[Address, BaseException] = {}
        self._reasons: dict[Address, OSError] = {}
        self.last_sent = LastSent(pipeline)

    async def ping(self, addr: Address, timeout: float) -> float:
        """Send a ping and return its round-trip time in seconds; raises what a send that fails raises."""
        pipeline = self._pipeline
        seconds = pipeline.checked_timeout(addr, timeout)
        send = self._exchange.ping(addr, pipeline.loop.create_future(), monotonic(), seconds)
        try:
            pipeline.flush()
            pipeline.stay_awake()
            await send.waiter
        except BaseException:
            self.cancel(send)
            raise
        return send.round_trip

    def ping_nowait(self, addr: Address, timeout: float) -> None:
        """Send a ping whose echo nobody waits for: that it comes says enough."""
        waiter = self._pipeline.loop.create_future()
        waiter.add_done_callback(lambda waiter: waiter.cancelled() or waiter.exception())
        self._exchange.ping(addr, waiter, monotonic(), timeout)
        self._pipeline.flush()

    def cancel(self, send: Send) -> None:
        """Stop waiting for a send, which leaves nothing behind; nothing happens where it has ended."""
        if self._signer is not None and send.outcome == WAITING:
            self._signer.failed(send.frame, send.addr)
        self._exchange.cancel(send, monotonic())
        if (exposed := self._pipeline.exposed_futures.pop(send, None)) is not None:
            exposed.cancel()
        self._pipeline.flush()

    def complete(self, send: Send) -> None:
        """Wake who waits for a send, and say what became of it."""
        try:
            self._complete(send)
        finally:
            self._reasons.pop(send.addr, None)

    def _complete(self, send: Send) -> None:
        waiter: asyncio.Future[bool] = send.waiter
        exposed = self._pipeline.exposed_futures.pop(send, None)
        if send.outcome == CONFIRMED:
            for future in (waiter, exposed):
                if future is not None and not future.done():
                    future.set_result(True)
            if send.truncated:
                self._log.warning(
                    'Received truncated echo from %s; the original message has %d bytes',
                    self._labels.peer(send.addr),
                    len(send.frame),
                )
            self._log.info('Confirmation received')
            return
        if self._signer is not None:
            self._signer.failed(send.frame, send.addr)
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
            self._log.error(
                'Expected %s from %s, got %s',
                redact_frame(send.frame),
                self._labels.peer(send.addr),
                redact_frame(send.answer),
            )

    def _error(self, send: Send) -> EchoError:
        """Say what became of a send: who, which event, how long, and why."""
        who, event = self._labels.peer(send.addr), describe_event(send.frame)
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
        if self._exchange.is_waiting(addr):
            if len(self._reasons) >= _MAX_REASONS:  # what was confirmed after all has left its own behind
                del self._reasons[next(iter(self._reasons))]
            self._reasons[addr] = error
            if isinstance(error, ConnectionRefusedError):
                self._exchange.refused(addr, monotonic(), self._pipeline.current_send)

    def not_connected(self, addr: Address) -> ConnectionClosedError:
        """Return the error for a message to a peer that is not connected."""
        error = self._labels.not_connected(addr)
        if self._labels.is_client:
            for connection in self._pipeline.connections.values():  # closing, and why is not reported yet
                if (why := connection.refusal()) is not None:
                    error = ConnectionClosedError(f'{error}: {why}')
                    error.__cause__ = why
        return error

    def not_signed(self, addr: Address) -> None:
        """Take in that what came from a peer was not signed with our key; the sender is told if no echo comes."""
        if self._exchange.is_waiting(addr):
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
        self._exchange.lost(addr, monotonic())
        if self._signer is not None:
            self._signer.forget(addr)
        self._pipeline.flush()
        self._causes.pop(addr, None)

    def match_legacy_echo(self, frame: bytes, addr: Address) -> bool:
        """Return whether a frame was the echo of a pair that a program has put into `last_sent`."""
        outcome = self.last_sent.take(frame, addr, self._min_truncated, self._max_message_size())
        if outcome is True:
            self._log.info('Confirmation received')
        elif outcome is not None:
            self._log.error('%s (%s)', outcome, self._labels.peer(addr))
        return outcome is not None


def _because(cause: BaseException | None) -> str:
    return f': {cause}' if cause is not None else ''
