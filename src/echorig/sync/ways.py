"""Ways for other threads to have coroutines run on the background thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .calls import Closing, Submitted, Undo, Waiting

if TYPE_CHECKING:
    from .background import Background

__all__ = ['Calls']

_P = ParamSpec('_P')
_T = TypeVar('_T')


class Calls:
    """Ways to run coroutines on the background thread.

    Parameters
    ----------
    owner : Background
        The thread.
    has_limit : bool
        Whether the coroutines end by themselves, so that the interpreter may wait for them.
    undo : callable, optional
        What is done with a result that came just when nobody waited any more; see `Call`.
    """

    def __init__(self, owner: Background, has_limit: bool, undo: Undo[Any] | None = None) -> None:
        self._owner = owner
        self._has_limit = has_limit
        self._undo = undo

    def undoing(self, undo: Undo[Any]) -> Calls:
        """Return ways that give back what nobody has seen."""
        return Calls(self._owner, self._has_limit, undo)

    def call(self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a coroutine function and wait for its result.

        Raises
        ------
        RuntimeError, ConnectionClosedError
            As `Background.check`.
        """
        self._owner.check(function)
        work = partial(function, *args, **kwargs)
        call: Waiting[_T] = Waiting(self._owner, work, self._has_limit, self._undo)
        return self._owner.wait_for(call)

    def finish(self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a coroutine function that closes something: to its end, even if the thread that waits is interrupted.

        Raises
        ------
        RuntimeError, ConnectionClosedError
            As `Background.check`.
        """
        self._owner.check(function)
        return self._owner.wait_for(Closing(self._owner, partial(function, *args, **kwargs), self._has_limit))

    def submit(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        """Run a coroutine function and return a future for its result; cancelling the future cancels it.

        Raises
        ------
        ConnectionClosedError
            As `Background.check`.
        """
        self._owner.check()
        call = Submitted(self._owner, partial(function, *args, **kwargs), self._has_limit, self._undo)
        call.future.add_done_callback(lambda future: self._owner.post(call.cancel) if future.cancelled() else None)
        self._owner.start(call)
        return call.future
