"""`CallbackTable`: the callbacks and futures of each event; `_dispatch` calls them.

1. A listener is in the list of each single event that it was registered for, in the order of registration.
2. The lists are replaced, never changed, so that a list that is being iterated over stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import cache
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR, isasyncgenfunction, isgeneratorfunction
from types import FunctionType, MethodType
from typing import Any

from ..aliases import Listener
from ..checks import described
from ..messages import ExpMessage

__all__ = [
    'CallbackTable',
    'CallbackTasks',
    'WithService',
    'checked_listener',
    'is_success',
    'single_events',
    'unusable_result',
]

NOTICE = ExpMessage(0)
_HAS_YIELD = CO_GENERATOR | CO_ASYNC_GENERATOR


def is_success(future: asyncio.Future[Any]) -> bool:
    """Return whether a future has a result.

    Parameters
    ----------
    future : asyncio.Future
        The future.

    Returns
    -------
    bool
        True if it is done, was not cancelled and has no exception.

    Raises
    ------
    TypeError
        `future` is no future.
    """
    if not hasattr(future, 'cancelled'):
        raise TypeError(f'future must be an asyncio.Future, not {described(future)}')
    return future.done() and not future.cancelled() and future.exception() is None


def checked_listener(callback: Any, what: str = 'callback', futures: bool = True) -> Any:
    """Return a listener of a user, or raise `TypeError`: it must be callable or, if `futures` is true, a future."""
    function = getattr(callback, '__func__', callback)
    if (
        type(callback) in (FunctionType, MethodType)
        and type(function) is FunctionType
        and not function.__code__.co_flags & _HAS_YIELD
    ):  # as nearly all are
        return callback
    if not callable(callback) and not (futures and asyncio.isfuture(callback)):
        or_future = ' or a Future' if futures else ''
        raise TypeError(f'{what} must be callable{or_future}, not {described(callback)}')
    call = getattr(callback, '__call__', None)  # noqa: B004 - of an object with this method
    if any(map(isgeneratorfunction, (callback, call))) or any(map(isasyncgenfunction, (callback, call))):
        raise TypeError(f'{what} must be a function without yield, which would never run: {described(callback)}')
    return callback


def unusable_result(result: object) -> TypeError | None:
    """Return the error for the result of a callback that shows that its body did not run."""
    if isinstance(result, Generator | AsyncGenerator):
        return TypeError('the callback returned a generator, which runs nothing: remove yield from it')
    return None


@cache  # there are few combinations
def single_events(event: ExpMessage) -> tuple[ExpMessage, ...]:
    """Return the single events of a combination; the notice is one too."""
    return tuple(event) if event else (NOTICE,)


class CallbackTasks(set[asyncio.Task[Any]]):
    """The tasks of asynchronous callbacks; without this reference they could be garbage collected before their end."""

    def run(self, result: Awaitable[object], report: Callable[[BaseException], None]) -> None:
        """Run a coroutine or another awaitable as a task, and report its exception."""

        def done(task: asyncio.Task[Any]) -> None:
            self.discard(task)
            if not task.cancelled() and (ex := task.exception()) is not None:
                report(ex)

        task = asyncio.ensure_future(result)
        self.add(task)
        task.add_done_callback(done)


class CallbackTable(dict[ExpMessage, list[tuple[Listener, bool]]]):
    """The listeners of each event, in order: ``{event: [(listener, whether it gets the event), …]}``."""

    def __init__(self) -> None:
        super().__init__((event, []) for event in (NOTICE, *ExpMessage.__members__.values()))
        self.tasks = CallbackTasks()

    def add(self, event: ExpMessage, listener: Listener) -> None:
        """Register a listener for an event or a combination of events."""
        checked_listener(listener)
        events = single_events(event)
        for single in events:
            self[single] = [*self[single], (listener, len(events) > 1)]

    def remove(self, event: ExpMessage, listener: Listener | None, cancel_futures: bool) -> int:
        """Remove one listener, or all, from an event or a combination of events, and count them."""
        removed = []
        for single in single_events(event):
            entries = self[single]
            matching = [entry for entry in entries if listener is None or _same(entry[0], listener)]
            self[single] = [entry for entry in entries if entry not in matching]
            removed += matching
        if cancel_futures:
            for found, _ in removed:
                if asyncio.isfuture(found):
                    found.cancel()
                    self.remove_future(found)
        return len(removed)

    def remove_future(self, future: asyncio.Future[Any]) -> None:
        """Remove a future from every event, without cancelling it."""
        for event, entries in self.items():
            if any(entry[0] is future for entry in entries):
                self[event] = [entry for entry in entries if entry[0] is not future]

    def close(self) -> None:
        """Remove every listener and cancel the futures among them."""
        for event, entries in self.items():
            for listener, _ in entries:
                if asyncio.isfuture(listener):
                    listener.cancel('Close called on communicator')
            self[event] = []


class WithService:
    """A callback of `Services` that gets the rig that sent the message as its last argument."""

    def __init__(self, callback: Callable[..., object], service: object) -> None:
        self.callback = callback
        self.service = service

    def __call__(self, *args: object) -> object:
        return self.callback(*args, self.service)

    def __repr__(self) -> str:
        return repr(self.callback)


def _same(one: object, other: object) -> bool:
    """Return whether two listeners are the same; a `WithService` is compared by its callback."""
    one, other = (found.callback if isinstance(found, WithService) else found for found in (one, other))
    return one is other or bool(one == other)
