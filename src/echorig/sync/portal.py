"""`Portal`: one daemon thread with an event loop, for all blocking calls of a process.

1. A fork of the process makes its own portal. The inherited one is kept and never used: the loops of both share one set
   of watched sockets in the system, and to close the loop in the child would stop the parent from receiving.
2. When the main thread ends, waits without limit in other threads end: nothing else would end them, and Python waits
   for these threads. Calls that have a limit continue to their end.
3. At exit everything is closed. Daemon threads that still wait are not woken any more.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ..errors import ConnectionClosedError, EchoError
from ..events._reply_context import RequestContext, current_request
from ..loop import new_event_loop
from ..security.safe_log import SafeLog

__all__ = ['Portal', 'copy_of', 'current_portal']

_LOGGER = SafeLog(logging.getLogger(__name__))
_EXIT_TIMEOUT = 2.0  # seconds; a callback that blocks the thread must not keep the interpreter from exiting
_POLL = 0.05  # seconds; on Windows nothing interrupts a thread that waits for a lock
_T = TypeVar('_T')
_portals: dict[int, Portal] = {}  # by process id: that of this process, and those that it has inherited
_locks: dict[int, threading.Lock] = {}  # by process id: another thread of the parent may hold the inherited one
_copies: WeakKeyDictionary[asyncio.Future[Any], Future[Any]] = WeakKeyDictionary()
_Function = Callable[[], object]
_Work = Callable[[], Coroutine[Any, Any, _T]]  # a coroutine function with its arguments


class Portal:
    """The thread and its loop; see `current_portal`.

    It opens communicators, or mappings of them. It closes asynchronous context managers.
    """

    def __init__(self) -> None:
        self.loop = new_event_loop()
        self._opened: set[Any] = set()
        self._endless: set[Future[Any]] = set()  # calls without limit
        self._pid = os.getpid()
        self._main_ended = self._stopped = False
        self._thread = threading.Thread(target=self._run, name='echorig.sync', daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self.loop.close()
            raise
        try:  # this runs before Python waits for the threads that are no daemons, atexit after that
            getattr(threading, '_register_atexit', lambda function: None)(self._on_main_end)
        except RuntimeError:
            self._main_ended = True

    @property
    def is_here(self) -> bool:
        """bool: Whether the calling thread is the thread of the portal."""
        return threading.get_ident() == self._thread.ident

    @property
    def is_closed(self) -> bool:
        """bool: Whether it can run nothing any more: the process has forked since, or it exits."""
        return self._stopped or os.getpid() != self._pid

    def check(self, name: str = '') -> None:
        """Raise an error if the portal is closed or, given the name of a method, if that would wait for itself."""
        if os.getpid() != self._pid:
            raise ConnectionClosedError(
                f'Process {self._pid} opened this, and process {os.getpid()} is a fork of it: open a new one there'
            )
        if self._stopped:
            if threading.current_thread().daemon and not self.is_here:
                threading.Event().wait()  # blocks until the interpreter kills this daemon thread
            raise ConnectionClosedError('The interpreter is ending: all communicators are closed')
        if name and self.is_here:
            raise RuntimeError(
                f'{name}() would wait for itself: callbacks run on the background thread of echorig.sync, and so does '
                f'{name}(). Use submit.{name}(...), which does not wait, or in an async def callback '
                f'await asyncio.wrap_future(submit.{name}(...))'
            )

    def submit(self, work: _Work[_T], has_limit: bool = True) -> Future[_T]:
        """Run a coroutine function on the loop; cancelling the future cancels it."""
        self.check()
        future: Future[_T] = Future()
        self._start(future, work, has_limit)
        return future

    def _start(self, future: Future[_T], work: _Work[_T], has_limit: bool) -> None:
        async def run() -> _T:  # the traceback of an error refers to this frame, which must not refer to the future
            try:
                return await work()
            except asyncio.CancelledError as ex:
                if isinstance(ex.__cause__, EchoError):  # with `Compatibility.cancel_waiters`; no thread is cancelled
                    raise ex.__cause__ from None
                raise

        def begin() -> None:
            if not future.cancelled():
                task = self.loop.create_task(run())
                task.add_done_callback(end)
                future.add_done_callback(lambda _: task.cancel() if self.is_here else self._post(task.cancel))
                if not has_limit:
                    self._endless.add(future)
                    self._end_waits()

        def end(task: asyncio.Task[_T]) -> None:
            self._endless.discard(future)
            _copy_result(task, Future() if self._stopped else future)  # at exit no thread is woken

        try:
            self.loop.call_soon_threadsafe(begin)
        except RuntimeError:  # the loop was closed after the check
            self.check()
            raise

    def call(
        self, name: str, work: _Work[_T], has_limit: bool = True, undo: _Function = lambda: None, shield: bool = False
    ) -> _T:
        """Run a coroutine function on the loop and wait for its result.

        If the wait is interrupted, it is cancelled, and `undo` is called on the loop. With `shield` it continues.
        """

        async def read() -> tuple[_T, RequestContext | None]:
            return await work(), current_request.get()

        self.check(name)
        future: Future[tuple[_T, RequestContext | None]] = Future()
        try:
            self._start(future, read, has_limit)
            while sys.platform == 'win32' and not concurrent.futures.wait([future], _POLL).done:
                pass
            result, request = future.result()
            current_request.set(request)  # the next message that this thread sends may answer the one that was read
            return result
        except BaseException:
            if not shield and (future.cancel() or future.exception() is None):
                self._post(undo)
            raise
        finally:
            del future  # the traceback of its exception refers to this frame

    def run(self, function: Callable[[], _T]) -> _T:
        """Call a function that does not wait on the thread of the portal, and return its result."""

        async def work() -> _T:
            return function()

        return function() if self.is_here else self.call('', work)

    def open(self, name: str, work: _Work[_T]) -> _T:
        """Run a coroutine function that opens something, which is closed at exit."""
        opened: list[_T] = []

        async def run() -> _T:
            opened.append(await work())
            self._opened.update(_each(opened[0]))
            return opened[0]

        return self.call(name, run, undo=lambda: any(map(self.close, opened)))

    def close(self, opened: Any) -> None:
        """Close something, and on any other thread wait until it is closed, even if the wait is interrupted."""
        if not self.is_closed:
            self._opened.difference_update(_each(opened))
            if self.is_here and hasattr(opened, 'close'):
                opened.close()
            else:
                with suppress(ConnectionClosedError):  # at exit everything is closed
                    self.call('close', partial(opened.__aexit__, None, None, None), shield=True)

    def stop(self) -> None:
        """Close everything and end the thread, unless a callback blocks it."""
        if not self.is_closed:
            self._post(self._stop)
            self._thread.join(_EXIT_TIMEOUT)
            self._stopped = True

    def _post(self, function: _Function) -> None:
        """Call a function on the thread of the portal, unless the portal is closed."""
        with suppress(RuntimeError):  # the loop is closed
            if not self.is_closed:
                self.loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        asyncio.set_event_loop(None)
        while not self._stopped:
            try:
                self.loop.run_forever()
            except BaseException as ex:
                # sys.exit() in a task cannot end the program from here, and all other calls still need the loop.
                _LOGGER.error('%r in an asynchronous callback ends no program: the background thread continues', ex)
        try:
            self.loop.run_until_complete(self._shut_down())
        finally:
            self.loop.close()

    def _on_main_end(self) -> None:
        self._main_ended = True
        self._post(self._end_waits)

    def _end_waits(self) -> None:
        for future in list(self._endless) if self._main_ended else []:
            if not future.done() and future.set_running_or_notify_cancel():
                # SystemExit ends the thread that waits without a traceback.
                future.set_exception(SystemExit('The main thread has ended, so this wait without limit ends'))

    def _stop(self) -> None:
        self._stopped = True
        for com in list(self._opened):  # all at once, so that no callback finds only some of them closed
            com.close()
        self.loop.stop()

    async def _shut_down(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        closed = asyncio.gather(*(com.wait_closed() for com in self._opened))
        await asyncio.wait([*tasks, closed], timeout=_EXIT_TIMEOUT / 2)
        await self.loop.shutdown_asyncgens()


def _each(opened: Any) -> list[Any]:
    return list(opened.values()) if isinstance(opened, Mapping) else [opened]


def _copy_result(source: asyncio.Future[_T], target: Future[_T]) -> None:
    """Copy the result of a finished future of the loop to a future for threads, unless that is finished too."""
    error = None if source.cancelled() else source.exception()
    if source.cancelled():
        target.cancel()
    elif not target.done() and target.set_running_or_notify_cancel():
        target.set_result(source.result()) if error is None else target.set_exception(error)


def copy_of(source: asyncio.Future[_T]) -> Future[_T]:
    """Return the future for threads that gets the result of a future of the loop; always the same for the same one."""
    if source not in _copies:
        copy = _copies[source] = Future()
        source.add_done_callback(lambda source: _copy_result(source, copy))
    return _copies[source]


def current_portal() -> Portal:
    """Return the portal of this process; start one if there is none."""
    pid = os.getpid()
    with _locks.setdefault(pid, threading.Lock()):
        if pid not in _portals:
            _portals[pid] = Portal()
        return _portals[pid]


@atexit.register  # now, so that functions that a program registers later can still use its communicators
def _stop_all() -> None:
    for portal in _portals.values():
        portal.stop()
