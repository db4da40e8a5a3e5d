"""`PendingAnswer`: waits for one rig's answer, or for evidence that none will arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from ..errors import ConnectionClosedError, EchoError, EchoTimeoutError, PeerUnreachableError, RemoteCallbackError
from ..events._reply_context import OutgoingRequest, current_request, outgoing_request
from ..events.callbacks import single_events
from ..messages import ExpMessage
from ..progress import is_progress
from ..security.redaction import redact_error
from ..uri import Address
from ..wire._tags import add_time
from ..wire.notices import event_of_notice
from ._pipeline import PreparedSend
from .answers import AnswerMatcher
from .direct_send import DirectSend, DirectSender
from .interfaces import Answering
from .last_heard import describe_silence, statistics_of

__all__ = ['PendingAnswer']

NOTICE = ExpMessage(0)
_INTERRUPT = int(ExpMessage.EXPINTERRUPT)  # `int` combines ten times as fast as an enum
_UNKNOWN = object()


class PendingAnswer:
    """Waits for one rig's answer to `request`; the result of `outcome` is its data, or the exception of the rig.

    If `sends_first` is true, `prepare` must be called with a `sender`, and `send` without; `sending` is done when the
    message is confirmed or has failed.
    """

    def __init__(
        self, rig: Answering, event: ExpMessage, sends_first: bool, sender: DirectSender | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.rig = rig
        self.event = event
        self.request = OutgoingRequest()
        self.outcome: asyncio.Future[Any] = self._loop.create_future()
        self.sender = sender
        self.sending: asyncio.Future[Any] | None = None
        self._direct: DirectSend | None = None
        self._sends_first = sends_first
        self._started = self._loop.time()
        self._answer: Any = _UNKNOWN
        self.ran_at = 0  # when the callbacks of the rig ran, in ns since 1970 on its clock; 0 if it did not tell
        self._failure: Exception | None = None
        self._expired = False
        self._matcher = AnswerMatcher.of(rig)
        self._callbacks = [(NOTICE, self._on_notice)]
        if sends_first:
            self._matcher.add(self)
            self._callbacks.append((event, self._on_answer))
        if not int(event) & _INTERRUPT:
            self._callbacks.append((ExpMessage.EXPINTERRUPT, self._on_interrupt))
        try:
            for what, callback in self._callbacks:
                rig.assign_callback(what, callback)
        except ConnectionClosedError as ex:  # only this rig fails; the others are sent to
            self._fail(ex)
        self._lost = getattr(rig, 'on_connection_lost', None)
        if asyncio.isfuture(self._lost):
            self._lost.add_done_callback(self._on_lost)
        else:
            self._lost = None
        self._reading: asyncio.Future[Any] = (
            self._loop.create_task(self._read()) if sender is None else sender.add_waiter(event)
        )
        self._reading.add_done_callback(self._update)

    async def _read(self) -> Any:
        return (await self.rig.on_event(self.event))[0]

    def prepare(self, parts: Any, frame: bytes, time: int = 0) -> PreparedSend | None:
        """Prepare the send of a message, for a time in ns if not 0; return None if it has failed already."""
        assert self.sender is not None
        try:
            self._direct = self.sender.prepare(parts, add_time(frame, time) if time else frame, self.request)
        except Exception as ex:
            self.sending = self._loop.create_future()
            self.sending.set_exception(ex)
            self.sending.add_done_callback(self._update)
            return None
        self.sending = self._direct.future
        self.sending.add_done_callback(self._on_sent)
        return self._direct.prepared

    def _on_sent(self, sending: asyncio.Future[Any]) -> None:
        if self._direct is not None and not sending.cancelled() and (error := sending.exception()) is not None:
            self._direct.note_failure(error)
        self._update()

    def send(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Call a method of the rig; its first step runs in the next iteration of the loop."""
        token = outgoing_request.set(self.request)
        try:
            self.sending = asyncio.ensure_future(getattr(self.rig, method)(*args, **kwargs))
        except Exception as ex:
            self.sending = self._loop.create_future()
            self.sending.set_exception(ex)
        finally:
            outgoing_request.reset(token)
        self.sending.add_done_callback(self._update)

    def expire(self) -> None:
        """End the wait with a time-out, unless the outcome is known."""
        self._expired = True
        self._cancel_sending()  # the time-out of the answer is shorter than that of the echo
        self._update()

    def _cancel_sending(self) -> None:
        if self._direct is not None:
            self._direct.cancel()
        elif self.sending is not None:
            self.sending.cancel()

    def _update(self, _: object = None) -> None:
        """Set the outcome if it is known; it is not before the message has been sent and confirmed."""
        if self.outcome.done() or (self._sends_first and (self.sending is None or not self.sending.done())):
            return
        if self.sending is not None and (error := self._error_of(self.sending, 'did not echo')):
            outcome: Any = error
        elif self._answer is not _UNKNOWN:
            outcome = self._answer
        elif self._reading.done() and (error := self._error_of(self._reading, 'did not answer')):
            outcome = error
        elif self._reading.done() and self.request.send is None:  # nothing was sent, or a mock that has no callbacks
            outcome = self._reading.result()
        elif self._failure is not None:
            outcome = self._failure
        elif self._expired:
            what = 'confirmed, but did not answer' if self._sends_first else 'did not answer'
            outcome = self._timeout_error(what)
        else:
            return
        self.outcome.set_result(outcome)

    def _error_of(self, future: asyncio.Future[Any], what: str) -> BaseException | None:
        if not future.cancelled():
            return future.exception()
        if self._lost is not None and self._lost.done():  # a method of a program may be cancelled by the close
            return self._lost_error(self._lost)
        if self._expired:
            return self._timeout_error(what)
        return EchoError(f'{self.rig.name} {what} {_names(self.event)} before the wait for it was cancelled')

    def _timeout_error(self, what: str) -> EchoTimeoutError:
        waited = self._loop.time() - self._started
        names = _names(self.event)
        why = ''
        if isinstance(getattr(self.rig, 'peers', None), Mapping):  # not of a mock
            started = monotonic() - waited if what == 'did not echo' else 0.0  # its echo shows that it was there
            why = f': {describe_silence(statistics_of(self.rig), names, started, self.rig.protocol != "udp")}'
        return EchoTimeoutError(f'{self.rig.name} {what} {names} within {waited:.3f} s{why}')

    def close(self) -> None:
        """Remove all callbacks, cancel the tasks and retrieve their exceptions."""
        for what, callback in self._callbacks:
            self.rig.clear_callbacks(what, callback)
        if self._lost is not None:
            self._lost.remove_done_callback(self._on_lost)
        self._cancel_sending()
        if self.sender is not None:
            self.sender.remove_waiter(self._reading)
        self._reading.cancel()
        for future in (self._reading, self.sending):
            if future is not None:
                future.add_done_callback(_retrieve_exception)
        self._matcher.remove(self)
        self.request.close()
        if self.request.send is None:  # nothing was sent
            return
        outcome = self.outcome.result() if self.outcome.done() else None
        if isinstance(outcome, PeerUnreachableError | ConnectionClosedError):
            self._matcher.clear_unanswered()
        elif self._answer is not _UNKNOWN or isinstance(outcome, RemoteCallbackError):
            self._matcher.clear_unanswered(self.event)
        else:
            self._matcher.note_unanswered(self.event)

    def _fail(self, error: Exception) -> None:
        self._loop.call_soon(self._set_failure, error)  # an answer that arrived before may be on its way through a task

    def _set_failure(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._update()

    def _is_mine(self, data: list[Any], code: int, about: int | None = None) -> bool:
        return not self._sends_first or self._matcher.match(self.rig, data, code, about) is self

    def _on_answer(self, data: list[Any], addr: Address) -> None:
        if not is_progress(data) and self._is_mine(data, int(self.event)):
            self._matcher.remove(self)
            self._answer = data
            context = current_request.get()
            self.ran_at = 0 if context is None else context.time
            self._update()

    def _on_notice(self, data: list[Any], addr: Address) -> None:
        event = event_of_notice(data)
        if (event is None or event & self.event) and self._is_mine(data, 0, event):
            about = self.event if self.event == ExpMessage.ALYX else event
            text = redact_error(str(data[0]), about) if data else 'no details'
            self._fail_remotely(f'{self.rig.name} failed on {self.event.name}: {text}', text, addr)

    def _on_interrupt(self, data: list[Any], addr: Address) -> None:
        if self._is_mine(data, _INTERRUPT):
            text = '' if not data or data[0] is None else redact_error(str(data[0]), self.event)
            what = f'{self.rig.name} answered {self.event.name} with EXPINTERRUPT'
            self._fail_remotely(f'{what}: {text}' if text else what, text, addr)

    def _fail_remotely(self, what: str, text: str, addr: Address) -> None:
        self._matcher.remove(self)
        self._fail(RemoteCallbackError(what, self.event, text, addr))

    def _on_lost(self, future: asyncio.Future[Any]) -> None:
        self._fail(self._lost_error(future))

    def _lost_error(self, lost: asyncio.Future[Any]) -> ConnectionClosedError:
        reason = '' if lost.cancelled() or lost.result() is None else f': {lost.result()}'
        return ConnectionClosedError(f'{self.rig.name} is closed or lost{reason}')


def _names(event: ExpMessage) -> str:
    return ' or '.join(str(single.name) for single in single_events(event))


def _retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a future that nobody awaits any more, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()
