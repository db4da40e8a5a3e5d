"""Who listens to which event; telling them is the business of `_dispatch`.

1. A listener is in the list of each single event that it was registered for, in the order of registration.
2. The lists are never changed in place: one that is being gone through stays as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any

from ..checks import described
from ..messages import ExpMessage
from ..uri import Address

__all__ = ['CallbackTable', 'Listener', 'WithService', 'checked_listener', 'each', 'is_success']

Listener = Callable[..., Any] | asyncio.Future[Any]

NOTICE = ExpMessage(0)


def is_success(future: asyncio.Future[Any]) -> bool:
    """Tell whether a future has a result.

    Parameters
    ----------
    future : asyncio.Future
        The future to look at.

    Returns
    -------
    bool
        True if it is done, was not cancelled and holds no exception.

    Raises
    ------
    TypeError
        `future` is none.
    """
    if not hasattr(future, 'cancelled'):
        raise TypeError(f'future must be an asyncio.Future, not {described(future)}')
    return future.done() and not future.cancelled() and future.exception() is None


def checked_listener(callback: Any, what: str = 'callback', futures: bool = True) -> Any:
    """Return a callback, which must be callable, or may be a future.

    Parameters
    ----------
    callback : callable or asyncio.Future
        What the user gave.
    what : str
        The name of the argument.
    futures : bool
        Whether it may be a future.

    Returns
    -------
    callable or asyncio.Future
        The callback.

    Raises
    ------
    TypeError
        It is neither.
    """
    if not callable(callback) and not (futures and asyncio.isfuture(callback)):
        or_future = ' or a Future' if futures else ''
        raise TypeError(f'{what} must be callable{or_future}, not {described(callback)}')
    return callback


class CallbackTable(dict[ExpMessage, list[tuple[Listener, bool]]]):
    """The listeners of each event, in order: ``{event: [(listener, told the event), …]}``."""

    def __init__(self) -> None:
        super().__init__((event, []) for event in (NOTICE, *ExpMessage.__members__.values()))
        self.tasks: set[asyncio.Task[Any]] = set()

    def add(self, event: ExpMessage, listener: Listener) -> None:
        """Register a listener for an event or a combination of events.

        Raises
        ------
        TypeError
            The listener is neither callable nor a future.
        """
        checked_listener(listener)
        events = each(event)
        for single in events:
            self[single] = [*self[single], (listener, len(events) > 1)]

    def remove(self, event: ExpMessage, listener: Listener | None, cancel_futures: bool) -> int:
        """Remove one listener, or all, from an event or a combination of events, and count them."""
        removed = []
        for single in each(event):
            entries = self[single]
            gone = [entry for entry in entries if listener is None or _same(entry[0], listener)]
            self[single] = [entry for entry in entries if entry not in gone]
            removed += gone
        if cancel_futures:
            for found, _ in removed:
                if asyncio.isfuture(found):
                    found.cancel()
                    self.clear_futures(found)
        return len(removed)

    def clear_futures(self, future: asyncio.Future[Any]) -> None:
        """Remove a future from every event, without cancelling it."""
        for event, entries in self.items():
            if any(entry[0] is future for entry in entries):
                self[event] = [entry for entry in entries if entry[0] is not future]

    def run(
        self, coro: Coroutine[Any, Any, Any], report: Callable[[BaseException, Address], None], addr: Address
    ) -> None:
        """Run an asynchronous callback as a task that is not garbage collected before its end."""

        def done(task: asyncio.Task[Any]) -> None:
            self.tasks.discard(task)
            if not task.cancelled() and (ex := task.exception()) is not None:
                report(ex, addr)

        task = asyncio.ensure_future(coro)
        self.tasks.add(task)
        task.add_done_callback(done)

    def close(self) -> None:
        """Remove every listener and cancel the futures among them."""
        for event, entries in self.items():
            for listener, _ in entries:
                if asyncio.isfuture(listener):
                    listener.cancel('Close called on communicator')
            self[event] = []


@cache  # there are 256 at most
def each(event: ExpMessage) -> tuple[ExpMessage, ...]:
    """Return the single events of a combination; the notice is one too."""
    return tuple(event) if event else (NOTICE,)


def _same(one: Any, other: Any) -> bool:
    """Tell whether two listeners are the same, looking into those that `Services` has wrapped."""
    if isinstance(one, WithService):
        one = one.callback
    if isinstance(other, WithService):
        other = other.callback
    return one is other or bool(one == other)


class WithService:
    """A callback of `Services` that is also told which rig the message came from.

    Parameters
    ----------
    callback : callable
        Called as ``callback(data, addr[, event], service)``.
    service : Service
        The rig.
    """

    def __init__(self, callback: Callable[..., Any], service: Any) -> None:
        self.callback = callback
        self.service = service

    def __call__(self, *args: Any) -> Any:
        return self.callback(*args, self.service)

    def __repr__(self) -> str:
        return repr(self.callback)
