"""`Job`: the work of a handler for one message, from the message to the answer."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from ..events.callbacks import unusable_result
from ..messages import ExpMessage
from ..uri import Address
from .handlers import Handler
from .lifecycle import NotAccepted
from .worker import Worker

__all__ = ['CANCEL_TIME', 'Cancelled', 'Job', 'current_job', 'described_failure']

CANCEL_TIME = 1.0
"""float: How long a cancelled plain function may take to end before its thread is abandoned, in seconds."""
_MAX_TRACEBACK = 4000  # characters, so that the answer fits into one datagram

current_job: ContextVar[Job | None] = ContextVar('current_job', default=None)


class Cancelled(NotAccepted):
    """The work was cancelled."""


class Job:
    """The work of a handler for one message; `done` has the return value of the handler, or its error."""

    def __init__(self, event: ExpMessage, data: list[Any], addr: Address) -> None:
        self.event, self.data, self.addr = event, data, addr
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.on_abandoned: Callable[[], object] = lambda: None  # a plain function did not end when it was cancelled
        self.on_late_end: Callable[[], object] = lambda: None  # it has ended now
        self._cancelled_by: str | None = None
        self._work: asyncio.Future[Any] | None = None

    @property
    def is_cancelled(self) -> bool:
        """bool: Whether the handler should end now."""
        return self._cancelled_by is not None

    async def run(self, handler: Handler, worker: Worker) -> Any:
        """Call the handler and return its result; raise `Cancelled` if the work was cancelled."""
        self.check_cancelled()
        arguments = handler.arguments(self.data)
        token = current_job.set(self)
        try:
            if handler.is_async:
                self._work = asyncio.ensure_future(_guarded(handler.function(*arguments)))
            else:
                self._work = worker.run(handler.function, *arguments, on_late_end=self.on_late_end)
            try:
                result = await self._finished()
            finally:
                if self._work.cancelled() and not handler.is_async:
                    worker.abandon()
            if asyncio.iscoroutine(result):  # of a function that is not declared as a coroutine function
                self._work = asyncio.ensure_future(_guarded(result))
                result = await self._finished()
        finally:
            current_job.reset(token)
        if (error := unusable_result(result)) is not None:
            raise error
        return result

    async def _finished(self) -> Any:
        """Wait for the work, and return its result."""
        work = self._work
        assert work is not None
        try:
            await asyncio.wait({work})
            result = work.result()
        except asyncio.CancelledError:
            if not work.done():  # this coroutine is cancelled, not the handler
                work.cancel()
                raise
            self.check_cancelled()
            raise Cancelled(f'the handler of {self.event.name} ended with CancelledError') from None
        if self.is_cancelled and asyncio.iscoroutine(result):
            result.close()
        self.check_cancelled()
        return result

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the work was cancelled."""
        if self._cancelled_by is not None:
            raise Cancelled(f'{self.event.name} was cancelled by {self._cancelled_by}')

    def cancel(self, by: str) -> None:
        """Cancel the work.

        A coroutine is cancelled at once. A plain function is asked to end, or is abandoned with its thread.
        """
        if self._cancelled_by is not None:
            return
        self._cancelled_by = by
        if isinstance(self._work, asyncio.Task):
            self._work.cancel()
        elif self._work is not None:
            self._work.get_loop().call_later(CANCEL_TIME, self._abandon)

    def _abandon(self) -> None:
        """Wait no longer for a plain function; from here on its end is a late one."""
        if self._work is not None and self._work.cancel():
            self.on_abandoned()


async def _guarded(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine; no error of it ends the task that waits for it, or the loop."""
    try:
        return await work
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as ex:
        raise RuntimeError(f'{ex!r} in a handler') from ex


def described_failure(error: BaseException) -> str:
    """Return the type, text and traceback of an error, in bounded length."""
    own = trace = error.__traceback__
    while own is not None and own.tb_frame.f_globals.get('__name__', '').startswith('echorig.'):
        own = own.tb_next  # the frames of the caller say nothing about the handler
    lines = ''.join(traceback.format_exception(type(error), error, own or trace)).rstrip()
    if len(lines) > _MAX_TRACEBACK:
        lines = f'…{lines[-_MAX_TRACEBACK:]}'
    return f'{type(error).__name__}: {error}'[:_MAX_TRACEBACK] + f'\n{lines}'
