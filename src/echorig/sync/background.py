"""The background thread: one event loop for all the blocking calls of a process.

1. It is a daemon thread: it never keeps the interpreter from ending.
2. Whatever touches a communicator runs on this thread; other threads hand it work and wait for the end of it.
3. In a fork of the process it is kept and never touched: the loops of parent and child share one set of watched sockets
   in the system, and to close one in the child would deafen the parent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar

from ..errors import ConnectionClosedError
from ..loop import new_event_loop
from ..security.safe_log import SafeLog
from .calls import Call, Waiting
from .ways import Calls

__all__ = ['Background', 'Closable']

_LOGGER = SafeLog(logging.getLogger(__name__))
_LONGEST_END = 2.0  # seconds; a callback that blocks the thread must not keep the interpreter
_P = ParamSpec('_P')
_T = TypeVar('_T')


class Closable(Protocol):
    """What is closed at the end: a communicator."""

    def close(self) -> None:
        """Begin to close."""

    async def wait_closed(self) -> None:
        """Wait until it is closed."""


class Background:
    """The thread and its loop; there is one for each process, see :mod:`echorig.sync.process`.

    Attributes
    ----------
    loop : asyncio.AbstractEventLoop
        The loop.
    calls, waits : Calls
        Ways to have a coroutine run on it: one that ends by itself, and one that may wait for ever.
    """

    def __init__(self) -> None:
        self.loop = new_event_loop()
        self.calls = Calls(self, has_limit=True)
        self.waits = Calls(self, has_limit=False)
        self._opened: set[Closable] = set()  # in a fork this keeps them from being collected, see 3 above
        self._closing: list[Closable] = []
        self._waiting: set[Call[Any]] = set()
        self._pid = os.getpid()
        self._forked = False
        self._main_ended = False
        self._left = False
        self._thread = threading.Thread(target=self._run, name='echorig.sync', daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self.loop.close()
            raise

    @property
    def is_here(self) -> bool:
        """bool: Whether the calling thread is the background thread."""
        return threading.get_ident() == self._thread.ident

    @property
    def is_over(self) -> bool:
        """bool: Whether nothing can be done here any more: the process has forked since, or it is ending."""
        return self._forked or self._left

    def check(self, function: Callable[..., object] | None = None) -> None:
        """See that something can be done here.

        Parameters
        ----------
        function : callable, optional
            What the calling thread will wait for.

        Raises
        ------
        RuntimeError
            This is the background thread, which would wait for itself.
        ConnectionClosedError
            The process has forked since, or the interpreter is ending.
        """
        if self._forked:
            raise ConnectionClosedError(
                f'This was opened by process {self._pid}, of which process {os.getpid()} is a fork, and can only be '
                'used there: open a new one in this process'
            )
        if self._left:
            if threading.current_thread().daemon and not self.is_here:
                threading.Event().wait()  # for ever, which is a moment: the interpreter stops such threads
            raise ConnectionClosedError('The interpreter is ending: all communicators are closed')
        if function is not None and self.is_here:
            name = getattr(function, '__name__', 'this')
            raise RuntimeError(
                f'{name}() would wait for itself: callbacks run on the background thread of echorig.sync, and so does '
                f'{name}(). Use submit.{name}(...), which does not wait, or in an async def callback '
                f'await asyncio.wrap_future(submit.{name}(...))'
            )

    def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a function that does not wait on the background thread, and return its result.

        Raises
        ------
        ConnectionClosedError
            The process has forked since, or the interpreter is ending.
        """
        if self.is_here:
            return function(*args, **kwargs)

        async def work() -> _T:
            return function(*args, **kwargs)

        return self.calls.call(work)

    def open(self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a coroutine function that opens a communicator or a set of them, and note what it has opened.

        Raises
        ------
        RuntimeError, ConnectionClosedError
            As `check`.
        """

        async def work() -> _T:
            opened = await function(*args, **kwargs)
            self._opened.update(_each(opened))
            return opened

        self.check(function)
        return self.wait_for(Waiting(self, work, True, undo=lambda opened, _: self._close(_each(opened))))

    def close(self, coms: Iterable[Closable], first: Callable[[], object] = lambda: None) -> None:
        """Close communicators and, on any thread but the background one, wait until they are.

        Parameters
        ----------
        coms : iterable of Closable
            The communicators.
        first : callable, optional
            Closes what uses them.
        """
        coms = list(coms)

        def begin() -> None:
            first()
            self._close(coms)

        async def close() -> None:
            begin()
            await _all_closed(coms)

        if self.is_over:
            return
        if self.is_here:
            begin()
            return
        try:
            self.calls.finish(close)
        except ConnectionClosedError:
            if not self.is_over:  # it was not yet when we looked
                raise

    def _close(self, coms: Iterable[Closable]) -> None:
        for com in coms:
            com.close()
            self._opened.discard(com)

    def wait_for(self, call: Waiting[_T]) -> _T:
        """Have a call run, and wait for its end in this thread; what interrupts the wait cancels the call."""
        try:
            self.start(call)
            call.wait()
            return call.result()
        except BaseException:
            self.post(call.cancel)  # nothing, if it is over
            raise

    def start(self, call: Call[Any]) -> None:
        """Have a call begin."""
        try:
            self.loop.call_soon_threadsafe(call.begin)
        except RuntimeError:  # the loop is closed, since we looked
            self.check()
            raise

    def post(self, function: Callable[[], object]) -> None:
        """Have a function called on the background thread, unless it is too late for that."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed
            if not self._left:
                raise

    # --- on the background thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(None)
        while not self._left:
            try:
                self.loop.run_forever()
            except BaseException as ex:
                # sys.exit() in a task ends no program from here; all the others still need the loop.
                _LOGGER.error('%r in an asynchronous callback ends no program: the background thread goes on', ex)
        try:
            self.loop.run_until_complete(self._end())
        finally:
            self.loop.close()

    def may_begin(self, call: Call[Any]) -> bool:
        """Note the begin of a call; tell whether it may begin at all."""
        if not call.has_limit:
            if self._main_ended:
                return False
            self._waiting.add(call)
        return True

    def may_end(self, call: Call[Any]) -> bool:
        """Note the end of a call; tell whether anybody may still be told of it."""
        self._waiting.discard(call)
        return not self._left

    def _end_waits(self) -> None:
        for call in list(self._waiting):
            call.leave()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        closed = asyncio.ensure_future(_all_closed(self._closing))
        await asyncio.wait([*tasks, closed], timeout=_LONGEST_END / 2)
        await self.loop.shutdown_asyncgens()

    # --- at the end of the process ---

    def main_ends(self) -> None:
        """End the waits that nothing else would end, now that the main thread has."""
        self._main_ended = True
        self.post(self._end_waits)

    def leave(self) -> None:
        """Close everything and end the thread."""
        self.post(self._leave)
        self._thread.join(_LONGEST_END)
        self._left = True  # even if a callback that blocks has kept the thread from saying so

    def _leave(self) -> None:
        """Close everything at once, so that no callback finds half of it closed."""
        self._left = True
        self._closing = list(self._opened)
        self._close(self._closing)
        self.loop.stop()

    def abandon(self) -> None:
        """Note, in a child just forked, that this is the parent's."""
        self._forked = True


def _each(opened: Any) -> list[Closable]:
    return list(opened.values()) if isinstance(opened, Mapping) else [opened]


async def _all_closed(coms: list[Closable]) -> None:
    await asyncio.gather(*(com.wait_closed() for com in coms))
