"""`Worker`: calls the plain functions of a rig one after another in one thread.

Drivers of hardware often want to be called from one thread only. A function that blocks beyond its cancellation is
abandoned with its thread, and the next one gets a new thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

__all__ = ['Worker']


class Worker:
    """A daemon thread that calls functions, from the first call to `abandon`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], None] | None] | None = None

    def run(
        self, function: Callable[..., Any], *args: Any, on_late_end: Callable[[], object] = lambda: None
    ) -> asyncio.Future[Any]:
        """Call a function in the thread, with the context variables of this call; return the future of its result.

        `on_late_end` is called on the loop when it ends after the future was cancelled.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = copy_context()

        def resolve(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                on_late_end()
            elif error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def work() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = context.run(function, *args)
            except BaseException as ex:
                is_usual = isinstance(ex, Exception | asyncio.CancelledError) and not isinstance(ex, StopIteration)
                error = ex if is_usual else RuntimeError(f'{ex!r} in a handler')
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(resolve, result, error)

        if self._work is None:
            self._work = SimpleQueue()
            threading.Thread(target=_serve, args=(self._work,), name=self._name, daemon=True).start()
        self._work.put(work)
        return future

    def abandon(self) -> None:
        """End the thread when its present function returns; the next call starts another one."""
        if self._work is not None:
            self._work.put(None)
            self._work = None


def _serve(work: SimpleQueue[Callable[[], None] | None]) -> None:
    while (function := work.get()) is not None:
        function()
