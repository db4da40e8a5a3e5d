"""Ending a program in order: Ctrl-C and SIGTERM cancel the work, so that sockets and processes are closed.

A second signal ends the program at once.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

__all__ = ['Interrupted', 'interruptible']

_T = TypeVar('_T')


class Interrupted(Exception):
    """The user ended the program with a signal."""


async def interruptible(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, or cancel it at the first Ctrl-C, Ctrl-Break or SIGTERM.

    Parameters
    ----------
    work : coroutine
        What to run.

    Returns
    -------
    Any
        What `work` returned.

    Raises
    ------
    Interrupted
        A signal came, and `work` has been cancelled and is over.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    replaced: dict[int, Any] = {}
    interrupted = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        restore()
        loop.call_soon_threadsafe(task.cancel)

    def restore() -> None:
        while replaced:
            signal.signal(*replaced.popitem())

    # Not loop.add_signal_handler(), which loops on Windows do not have.
    if threading.current_thread() is threading.main_thread():
        for name in ('SIGINT', 'SIGTERM', 'SIGBREAK'):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                replaced[number] = signal.signal(number, end)
    try:
        return await task
    except asyncio.CancelledError:
        if interrupted:
            raise Interrupted from None
        raise
    finally:
        restore()
