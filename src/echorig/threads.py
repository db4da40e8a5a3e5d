"""Blocking calls in threads of their own.

The default executor of a loop is shared with the program: calls would wait for the program's own work, and the end of
the program would wait for calls that hang. Here each call has a daemon thread, which is abandoned when nobody waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ['in_thread']

_T = TypeVar('_T')


def in_thread(function: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:
    """Call a blocking function in a daemon thread; return the future of its result, which may be cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def resolve(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = function(*args)
        except BaseException as ex:
            error = ex
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(resolve, result, error)

    threading.Thread(target=work, name=f'echorig {function.__name__}', daemon=True).start()
    return future
