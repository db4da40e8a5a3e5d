"""`Sender`: waits for the echoes of confirmed sends, and turns failed sends into exceptions.

1. A coroutine that waits is woken by a result or an error; only the cancellation of its own task cancels it.
2. Every error names the rig, the event, and the time waited or the bytes involved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from ..delivery._peer import Send
from ..delivery.statistics import Peers
from ..delivery.verdicts import Outcome
from ..errors import ConnectionClosedError, EchoError, EchoMismatchError, EchoTimeoutError, PeerUnreachableError
from ..messages import ExpMessage
from ..security.redaction import redact_frame
from ..uri import Address
from ..wire._codec import TRUNCATED, peek
from ..wire._tags import is_ping
from ._pipeline import MessagePipeline
from .labels import Labels
from .last_heard import describe_silence
from .last_sent import LastSent
from .peer_clocks import PeerClock, PeerClocks

__all__ = ['WAIT_FOR', 'Failure', 'Sender']

WAIT_FOR = asyncio.tasks.wait_for
"""callable: The function of asyncio, also after a test has replaced `asyncio.wait_for`."""
_MAX_SYSTEM_ERRORS = 1024


class Failure(NamedTuple):
    """A confirmed send that failed, with its start and its wait in seconds; no error if it was cancelled."""

    started: float
    waited: float
    error: EchoError | None

    @classmethod
    def of(cls, send: Send, error: BaseException) -> Failure:
        """Return the failure of a send; the error is copied without its traceback, which holds frames."""
        copied = type(error)(str(error)) if isinstance(error, EchoError) else None
        return cls(send.started, monotonic() - send.started, copied)


def _describe_event(frame: bytes) -> str:
    if is_ping(frame):
        return 'a ping'
    event = peek(frame)
    if event < 0:
        return f'{len(frame)} bytes'
    name = ExpMessage(event).name if event <= ExpMessage.any() else None
    return name or f'event {event}'


class Sender:
    """Waits for confirmations; `min_truncated` is the shortest prefix that counts as a truncated echo, in bytes."""

    def __init__(self, pipeline: MessagePipeline, labels: Labels, min_truncated: int) -> None:
        self._pipeline, self._labels, self._min_truncated = pipeline, labels, min_truncated
        self._exchange, self._signer, self._log = pipeline.exchange, pipeline.signer, pipeline.log
        self._loss_causes: dict[Address, BaseException] = {}
        self._system_errors: dict[Address, OSError] = {}
        self.on_timeout: Callable[[Address], object] = lambda addr: None
        self.defers_refusal: Callable[[Address], bool] = lambda addr: False  # other addresses are tried first
        self.addresses_tried: Callable[[], list[str]] = list
        self.last_sent = LastSent(pipeline)
        self.clocks = PeerClocks()
        self.on_clock: Callable[[Address, PeerClock], object] = lambda addr, clock: None  # if there is a journal

    async def ping(self, addr: Address, timeout: float) -> float:
        """Send a ping and return its round-trip time in seconds."""
        pipeline = self._pipeline
        pipeline.check_can_send(addr)
        send = self._exchange.ping(addr, pipeline.loop.create_future(), monotonic(), timeout)
        try:
            pipeline.flush()
            if pipeline.on_activity is not None:
                pipeline.on_activity()
            await send.future
        except BaseException:
            self.cancel(send)
            raise
        if send.peer_time:
            self.clocks.add(addr, send.peer_time, send.echoed_at, send.round_trip)
            if pipeline.journal is not None and (clock := self.clocks.get(addr)) is not None:
                self.on_clock(addr, clock)
        return send.round_trip

    async def wait_patched(self, send: Send, timeout: float) -> None:
        """Wait for a confirmation by the `asyncio.wait_for` that a test has put in, as iblutil does."""
        peer, event = self._labels.peer(send.addr), _describe_event(send.frame)
        try:
            await asyncio.wait_for(send.future, timeout=timeout)
        except EchoError:
            raise
        except asyncio.TimeoutError as ex:
            raise EchoTimeoutError(f'{peer} did not echo {event} within {timeout} s') from ex
        except RuntimeError as ex:
            raise EchoMismatchError(f'Unexpected response from {peer} to {event}') from ex
        if not send.future.done():  # the replacement has not waited for it
            self.cancel(send)

    def ping_nowait(self, addr: Address, timeout: float) -> None:
        """Send a ping without waiting for its echo."""
        waiter = self._pipeline.loop.create_future()
        waiter.add_done_callback(lambda waiter: waiter.cancelled() or waiter.exception())
        self._exchange.ping(addr, waiter, monotonic(), timeout)
        self._pipeline.flush()

    def _note_failure(self, send: Send, reason: str) -> None:
        """Note in the journal that a message was not confirmed; a ping is not in it."""
        if (journal := self._pipeline.journal) is not None and not is_ping(send.frame) and send.frame != b'[]':
            tries = 1 + send.n_retransmissions if send.number else 0
            journal.note('failed', send.frame, send.addr, tries, reason=reason)

    def cancel(self, send: Send) -> None:
        """Stop waiting for a send and forget it, unless it has ended."""
        if send.outcome == Outcome.WAITING:
            self._note_failure(send, 'cancelled')
        if self._signer is not None and send.outcome == Outcome.WAITING:
            self._signer.send_failed(send.frame, send.addr)
        self._exchange.cancel(send, monotonic())
        if (exposed := self._pipeline.exposed_futures.pop(send, None)) is not None:
            exposed.cancel()
        self._pipeline.flush()

    def complete(self, send: Send) -> None:
        """Set the result or the error of a send that ended."""
        try:
            self._complete(send)
        finally:
            self._system_errors.pop(send.addr, None)

    def _complete(self, send: Send) -> None:
        waiter: asyncio.Future[bool] = send.future
        exposed = self._pipeline.exposed_futures.pop(send, None)
        if send.outcome == Outcome.CONFIRMED:
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
            self._signer.send_failed(send.frame, send.addr)
        error = self._error(send)
        self._note_failure(send, str(error))
        if send.outcome == Outcome.TIMED_OUT:
            self.on_timeout(send.addr)
        if not waiter.done():
            waiter.set_exception(error)
        if exposed is not None and not exposed.done():
            if send.outcome == Outcome.MISMATCH:
                exposed.set_exception(error)
                exposed.exception()  # the waiter has the error, and asyncio shall not log it
            else:
                exposed.cancel('Close called on communicator' if send.outcome == Outcome.LOST else str(error))
        if send.outcome == Outcome.MISMATCH:
            self._log.error(
                'Expected %s from %s, got %s',
                redact_frame(send.frame),
                self._labels.peer(send.addr),
                redact_frame(send.answer),
            )

    def _error(self, send: Send) -> EchoError:
        """Return the error of a send: which peer and event, how long it waited, and why it failed."""
        peer, event = self._labels.peer(send.addr), _describe_event(send.frame)
        tried = self.addresses_tried()
        where = f' (tried {", ".join(tried)})' if len(tried) > 1 else ''
        waited = monotonic() - send.started
        cause: BaseException | None = self._system_errors.get(send.addr)
        error: EchoError
        if send.outcome == Outcome.TIMED_OUT:
            why = _because(cause) or f': {self._silence(send, event)}'
            error = EchoTimeoutError(f'{peer} did not echo {event} within {waited:.3f} s{where}{why}')
        elif send.outcome == Outcome.UNREACHABLE:
            error = PeerUnreachableError(f'Nobody listens at {peer}{where}: {event} was refused, {waited:.3f} s waited')
        elif send.outcome == Outcome.MISMATCH:
            expected, got = redact_frame(send.frame), redact_frame(send.answer)
            error = EchoMismatchError(f'Unexpected response from {peer} to {event}: expected {expected}, got {got}')
        else:
            cause = self._loss_causes.get(send.addr)
            error = ConnectionClosedError(f'{peer} is closed; {event} was not confirmed{_because(cause)}')
        error.__cause__ = cause
        return error

    def _silence(self, send: Send, event: str) -> str:
        """Say what is known of a peer that did not echo."""
        known = Peers(self._exchange).get(send.addr)
        return describe_silence(known, event, send.started, not self._labels.has_datagrams)

    def system_error(self, addr: Address, error: OSError) -> None:
        """Note an error of the system about a datagram; it is the cause of the error if no echo arrives."""
        if self._exchange.is_waiting(addr):
            if len(self._system_errors) >= _MAX_SYSTEM_ERRORS:  # of messages that were confirmed after all
                del self._system_errors[next(iter(self._system_errors))]
            self._system_errors[addr] = error
            if not isinstance(error, ConnectionRefusedError):
                if (frame := self._pipeline.current_frame) is not None:
                    self._exchange.on_unsent(frame, addr, monotonic())
            elif not self.defers_refusal(addr):
                self._exchange.on_refused(addr, monotonic(), self._pipeline.current_send)

    def not_connected(self, addr: Address) -> ConnectionClosedError:
        """Return the error for a message to a peer that is not connected."""
        error = self._labels.not_connected(addr)
        if self._labels.is_client:
            for connection in self._pipeline.connections.values():  # closing, and the reason is not reported yet
                if (why := connection.refusal()) is not None:
                    error = ConnectionClosedError(f'{error}: {why}')
                    error.__cause__ = why
        return error

    def not_signed(self, addr: Address) -> None:
        """Note that a peer has another key; it is the cause of the error if no echo arrives."""
        if self._exchange.is_waiting(addr):
            self._system_errors[addr] = PermissionError('what it sent is not signed with the same key')

    def not_sent(self, addr: Address, error: Exception) -> None:
        """Handle a frame that the transport refused; after an error of the system it is sent again."""
        if isinstance(error, OSError) and not isinstance(error, EchoError):
            self.system_error(addr, error)
        else:
            self.lost(addr, error)

    def lost(self, addr: Address, cause: BaseException | None) -> None:
        """Fail the sends to a peer whose connection is lost."""
        if cause is not None:
            self._loss_causes[addr] = cause
        self._exchange.disconnect(addr, monotonic())
        if self._signer is not None:
            self._signer.forget(addr)
        self._pipeline.flush()
        self._loss_causes.pop(addr, None)

    def match_legacy_echo(self, frame: bytes, addr: Address) -> bool:
        """Return whether a frame was the echo of a pair that a program has put into `last_sent`."""
        outcome = self.last_sent.match(frame, addr, self._min_truncated, self._pipeline.max_message_size())
        if isinstance(outcome, Exception):
            self._log.error('%s (%s)', outcome, self._labels.peer(addr))
        elif outcome is not None:
            if outcome == TRUNCATED:
                self._log.warning('Received truncated echo from %s: %d bytes', self._labels.peer(addr), len(frame))
            self._log.info('Confirmation received')
        return outcome is not None


def _because(cause: BaseException | None) -> str:
    return f': {cause}' if cause is not None else ''
