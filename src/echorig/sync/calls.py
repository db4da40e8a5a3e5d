"""Calls on their way from a thread to the background thread and back.

1. A call begins, is cancelled and ends on the background thread; another thread only waits for its end.
2. What is posted to that thread is done in order: a call that is cancelled is over before the next begins.
3. A waiting thread costs one lock: the futures of the standard library, made for several who wait, take longer.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from ..events._reply_context import Origin, current

__all__ = ['Call', 'Closing', 'Submitted', 'Undo', 'Waiting']

_T = TypeVar('_T')
Undo = Callable[[_T, Origin | None], object]
_PATIENCE = 0.05  # seconds; how long Ctrl-C may go unnoticed on Windows, where nothing interrupts a lock
_MAIN_ENDED = 'The main thread has ended, so this wait without limit ends'


class Owner(Protocol):
    """The part of the background thread that calls need."""

    loop: asyncio.AbstractEventLoop

    def may_begin(self, call: Call[Any]) -> bool:
        """Note the begin of a call; tell whether it may begin at all."""

    def may_end(self, call: Call[Any]) -> bool:
        """Note the end of a call; tell whether anybody may still be told of it."""


class Call(ABC, Generic[_T]):
    """A coroutine that another thread wants to have run.

    Parameters
    ----------
    owner : Background
        The thread that runs it.
    function : callable
        The coroutine function, with its arguments.
    has_limit : bool
        Whether it ends by itself.
    undo : callable, optional
        What is done with a result that came just when nobody waited any more, called as ``undo(result, origin)`` with
        the message that was read last.
    """

    def __init__(
        self,
        owner: Owner,
        function: Callable[[], Coroutine[Any, Any, _T]],
        has_limit: bool,
        undo: Undo[_T] | None = None,
    ) -> None:
        self.has_limit = has_limit
        self._undo = undo
        self._owner = owner
        self._function = function
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    def begin(self) -> None:
        """Start the coroutine."""
        if self._is_over or self._task is not None:
            return
        if self._owner.may_begin(self):
            self._task = self._owner.loop.create_task(self._run())
        else:
            self.leave()

    async def _run(self) -> None:
        try:
            value = await self._function()
        except BaseException as ex:  # also what ends a program: it is for whoever waits
            self._fail(ex)
        else:
            if self._ends():
                self.succeeded(value)
            else:
                self.undo(value, current.get())

    def _ends(self) -> bool:
        if self._is_over:
            return False
        self._is_over = True
        return self._owner.may_end(self)

    def _fail(self, error: BaseException) -> None:
        if self._ends():
            self.failed(error)

    def cancel(self) -> None:
        """Cancel the coroutine; nobody waits for its end any more."""
        self._ends()
        if self._task is not None:
            self._task.cancel()

    def undo(self, value: _T, origin: Origin | None) -> None:
        """Give back a result that nobody has seen."""
        if self._undo is not None:
            self._undo(value, origin)

    def leave(self) -> None:
        """End a wait that would keep the interpreter for ever; the thread that waits ends without a word."""
        self._fail(SystemExit(_MAIN_ENDED))
        self.cancel()

    @abstractmethod
    def succeeded(self, value: _T) -> None:
        """Hand over the result."""

    @abstractmethod
    def failed(self, error: BaseException) -> None:
        """Hand over the exception."""


class Waiting(Call[_T]):
    """A call for whose end one thread waits.

    Parameters
    ----------
    owner, function, has_limit, undo
        As for `Call`.
    """

    def __init__(
        self,
        owner: Owner,
        function: Callable[[], Coroutine[Any, Any, _T]],
        has_limit: bool,
        undo: Undo[_T] | None = None,
    ) -> None:
        super().__init__(owner, function, has_limit, undo)
        self._values: list[_T] = []
        self._origin: Origin | None = None
        self._error: BaseException | None = None
        self._over = threading.Lock()
        self._over.acquire()

    def succeeded(self, value: _T) -> None:
        self._origin = current.get()
        self._values.append(value)
        self._over.release()

    def failed(self, error: BaseException) -> None:
        self._error = error
        self._over.release()

    def cancel(self) -> None:
        super().cancel()
        if self._values:
            self.undo(self._values.pop(), self._origin)

    def wait(self) -> None:
        """Wait for the end."""
        if sys.platform == 'win32':
            while not self._over.acquire(timeout=_PATIENCE):
                pass
        else:
            self._over.acquire()

    def result(self) -> _T:
        """Return or raise what came out."""
        if self._error is None:
            current.set(self._origin)  # of the message that was read, so that what is sent next is known as the answer
            return self._values.pop()
        try:
            raise self._error
        finally:
            self._error = None  # its traceback leads to this frame, and so back to itself


class Closing(Waiting[_T]):
    """A call that goes on to its end, even if the thread that waits for it is interrupted."""

    def cancel(self) -> None:
        self.begin()  # the thread may have been interrupted before that


class Submitted(Call[_T]):
    """A call with a future for its end.

    Attributes
    ----------
    future : concurrent.futures.Future
        The future; cancelling it cancels the call.
    """

    def __init__(
        self,
        owner: Owner,
        function: Callable[[], Coroutine[Any, Any, _T]],
        has_limit: bool,
        undo: Undo[_T] | None = None,
    ) -> None:
        super().__init__(owner, function, has_limit, undo)
        self.future: Future[_T] = Future()

    def succeeded(self, value: _T) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(value)
        else:  # it was cancelled, which this thread would have heard of next
            self.undo(value, current.get())

    def failed(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.future.cancel()
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)
