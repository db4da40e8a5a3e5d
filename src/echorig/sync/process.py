"""One background thread for each process: its begin, and what happens to it at a fork and at the end.

1. It is made on first use.
2. A fork makes its own; communicators that it inherited say so instead of working.
3. When the main thread ends, waits without limit in other threads end: nothing else would end them, and Python waits
   for these threads. Calls that have a limit go on to their end.
4. At the very end everything is closed; daemon threads that still wait are not woken any more.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  (notes its own end of the interpreter, which must come after ours)
import os
import threading

from .background import Background

__all__ = ['background']

_lock = threading.Lock()
_current: Background | None = None
_main_has_ended = False


def background() -> Background:
    """Return the background thread of this process; it is started if there is none."""
    global _current
    if _current is None:
        with _lock:
            if _current is None:
                made = Background()
                if _main_has_ended:
                    made.main_ends()
                _current = made
    return _current


def _after_fork() -> None:
    global _current, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    if _current is not None:
        _current.abandon()
        _current = None


def _main_ends() -> None:
    global _main_has_ended
    _main_has_ended = True
    if _current is not None:
        _current.main_ends()


def _leave() -> None:
    if _current is not None:
        _current.leave()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)
# This comes before Python waits for the threads that are no daemons, atexit after that. Where it is missing, a wait
# without limit keeps the interpreter, as it does everywhere in Python.
getattr(threading, '_register_atexit', lambda function: None)(_main_ends)
atexit.register(_leave)
