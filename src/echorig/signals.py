"""Ctrl-C and SIGTERM cancel the work of a program, so that sockets and processes are closed.

A second signal ends the program at once. `asyncio.Runner` does the same for Ctrl-C only, from Python 3.11 on.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

__all__ = ['CancelOnSignal', 'Interrupted', 'interruptible']

_T = TypeVar('_T')


class Interrupted(Exception):
    """The user ended the program with a signal."""


async def interruptible(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine; at the first Ctrl-C, Ctrl-Break or SIGTERM cancel it, wait for it and raise `Interrupted`."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    replaced: dict[int, Any] = {}
    interrupted = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        restore()
        loop.call_soon_threadsafe(task.cancel)

    def restore() -> None:
        while replaced:
            signal.signal(*replaced.popitem())

    # Not loop.add_signal_handler(): loops on Windows do not have it.
    if threading.current_thread() is threading.main_thread():
        for name in ('SIGINT', 'SIGTERM', 'SIGBREAK'):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                replaced[number] = signal.signal(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if interrupted:
            raise Interrupted from None
        raise
    finally:
        restore()


class CancelOnSignal:
    """Cancels a task at SIGTERM or Ctrl-C, if nothing else does it; a second signal ends the program at once.

    Call `start` and `stop` on the loop of the task. It does nothing except on the main thread.
    """

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._loop = task.get_loop()
        self._replaced: dict[int, Any] = {}
        self.error: BaseException | None = None
        """BaseException or None: What the signal would have raised."""

    def start(self) -> None:
        """Replace the default handlers; those of the program and of `asyncio.Runner` stay."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, default in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
            if signal.getsignal(number) is default:
                self._replaced[number] = signal.signal(number, self._on_signal)

    def stop(self) -> None:
        """Restore the handlers."""
        while self._replaced:
            signal.signal(*self._replaced.popitem())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.error = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        self.stop()
        self._loop.call_soon_threadsafe(self._task.cancel)
