"""Waiting for the answer of one rig, and for everything that means that there will be none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..errors import ConnectionClosedError, EchoError, EchoTimeoutError, PeerUnreachableError, RemoteCallbackError
from ..events._reply_context import Question, asking
from ..events.callbacks import each
from ..messages import ExpMessage
from ..security.redaction import redact_error
from ..uri import Address
from ..wire.notices import event_of_notice
from .answers import Answers

__all__ = ['PendingAnswer']

NOTICE = ExpMessage(0)
_INTERRUPT = int(ExpMessage.EXPINTERRUPT)  # numbers are combined ten times as fast as the members of an enum
_UNKNOWN = object()


class PendingAnswer:
    """Waits for one rig's answer, and for whatever means that there will be none.

    Parameters
    ----------
    rig : Service
        The rig.
    event : ExpMessage
        The event of the answer.
    tells : bool
        Whether the rig is to be told something first.
    ended : callable
        Called once, when the outcome is known.

    Attributes
    ----------
    question : Question
        The message that is to be answered.
    outcome : Any
        In the end, the data of the answer or the exception that took its place.
    sending : asyncio.Future or None
        The message on its way to the rig, once there is one.
    """

    def __init__(self, rig: Any, event: ExpMessage, tells: bool, ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.rig = rig
        self.event = event
        self.question = Question()
        self.outcome: Any = _UNKNOWN
        self.sending: asyncio.Future[Any] | None = None
        self._tells = tells
        self._ended = ended
        self._begun = self._loop.time()
        self._answer: Any = _UNKNOWN
        self._failure: Exception | None = None
        self._out_of_time = False
        self._answers = Answers.of(rig)
        self._callbacks = [(NOTICE, self._on_notice)]
        if tells:
            self._answers.wait(self)
            self._callbacks.append((event, self._on_answer))
        if not int(event) & _INTERRUPT:
            self._callbacks.append((ExpMessage.EXPINTERRUPT, self._on_interrupt))
        try:
            for what, callback in self._callbacks:
                rig.assign_callback(what, callback)
        except ConnectionClosedError as ex:  # this rig fails; the others are told all the same
            self._fail(ex)
        self._lost = getattr(rig, 'on_connection_lost', None)
        if asyncio.isfuture(self._lost):
            self._lost.add_done_callback(self._on_lost)
        else:
            self._lost = None
        self._hearing = self._loop.create_task(self._hear())
        self._hearing.add_done_callback(self._look)

    async def _hear(self) -> Any:
        """Return what comes with the event."""
        return (await self.rig.on_event(self.event))[0]

    def tell(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Send the message with a method of the rig, whose first step is taken in the loop's next turn."""
        token = asking.set(self.question)
        try:
            self.sending = asyncio.ensure_future(getattr(self.rig, method)(*args, **kwargs))
        except Exception as ex:
            self.sending = self._loop.create_future()
            self.sending.set_exception(ex)
        finally:
            asking.reset(token)
        self.sending.add_done_callback(self._look)

    def expire(self) -> None:
        """Wait no longer."""
        self._out_of_time = True
        if self.sending is not None:
            self.sending.cancel()  # the answers are due before the echo is
        self._look()

    def _look(self, _: object = None) -> None:
        """See whether the outcome is known by now; it is not before the message has been sent and confirmed."""
        if self.outcome is not _UNKNOWN or (self._tells and (self.sending is None or not self.sending.done())):
            return
        if self.sending is not None and (error := self._error_of(self.sending, 'did not echo')):
            self.outcome = error
        elif self._answer is not _UNKNOWN:
            self.outcome = self._answer
        elif self._hearing.done() and (error := self._error_of(self._hearing, 'did not answer')):
            self.outcome = error
        elif self._hearing.done() and self.question.send is None:  # a rig of another kind, which calls nobody back
            self.outcome = self._hearing.result()
        elif self._failure is not None:
            self.outcome = self._failure
        elif self._out_of_time:
            self.outcome = self._timed_out('confirmed, but did not answer' if self._tells else 'did not answer')
        else:
            return
        self._ended()

    def _error_of(self, future: asyncio.Future[Any], what: str) -> BaseException | None:
        if not future.cancelled():
            return future.exception()
        if self._out_of_time:
            return self._timed_out(what)
        return EchoError(f'{self.rig.name} {what} {_names(self.event)} before the wait for it was cancelled')

    def _timed_out(self, what: str) -> EchoTimeoutError:
        waited = self._loop.time() - self._begun
        return EchoTimeoutError(f'{self.rig.name} {what} {_names(self.event)} within {waited:.3f} s')

    def leave(self) -> None:
        """Leave nothing behind: no callback, no task, no exception that nobody has seen."""
        for what, callback in self._callbacks:
            self.rig.clear_callbacks(what, callback)
        if self._lost is not None:
            self._lost.remove_done_callback(self._on_lost)
        for future in (self._hearing, self.sending):
            if future is not None:
                if future.done():
                    _see(future)
                else:
                    future.cancel()
                    future.add_done_callback(_see)
        self._answers.leave(self)
        self.question.close()
        if self.question.send is None:  # it was told nothing
            return
        if isinstance(self.outcome, PeerUnreachableError | ConnectionClosedError):
            self._answers.forget()
        elif self._answer is not _UNKNOWN or isinstance(self.outcome, RemoteCallbackError):
            self._answers.settle(self.event)
        else:
            self._answers.owe(self.event)

    def _fail(self, error: Exception) -> None:
        self._loop.call_soon(self._failed, error)  # an answer that came before is on its way through a task

    def _failed(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._look()

    def _is_mine(self, data: list[Any], code: int, about: int | None = None) -> bool:
        """Tell whether a message is for this call and no other."""
        return not self._tells or self._answers.whose(self.rig, data, code, about) is self

    def _on_answer(self, data: list[Any], addr: Address) -> None:
        if self._is_mine(data, int(self.event)):
            self._answers.leave(self)
            self._answer = data
            self._look()

    def _on_notice(self, data: list[Any], addr: Address) -> None:
        event = event_of_notice(data)
        if (event is None or event & self.event) and self._is_mine(data, 0, event):
            about = self.event if self.event == ExpMessage.ALYX else event
            text = redact_error(str(data[0]), about) if data else 'no details'
            self._refuse(f'{self.rig.name} failed on {self.event.name}: {text}', text, addr)

    def _on_interrupt(self, data: list[Any], addr: Address) -> None:
        if self._is_mine(data, _INTERRUPT):
            text = '' if not data or data[0] is None else redact_error(str(data[0]), self.event)
            what = f'{self.rig.name} answered {self.event.name} with EXPINTERRUPT'
            self._refuse(f'{what}: {text}' if text else what, text, addr)

    def _refuse(self, what: str, text: str, addr: Address) -> None:
        self._answers.leave(self)
        self._fail(RemoteCallbackError(what, self.event, text, addr))

    def _on_lost(self, future: asyncio.Future[Any]) -> None:
        reason = '' if future.cancelled() or future.result() is None else f': {future.result()}'
        self._fail(ConnectionClosedError(f'{self.rig.name} is closed or lost{reason}'))


def _names(event: ExpMessage) -> str:
    return ' or '.join(str(single.name) for single in each(event))


def _see(future: asyncio.Future[Any]) -> None:
    """Retrieve an exception that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
