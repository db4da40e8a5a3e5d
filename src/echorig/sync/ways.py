"""Ways for other threads to have coroutines run on the background thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .calls import Submitted, Waiting

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
    """

    def __init__(self, owner: Background, has_limit: bool) -> None:
        self._owner = owner
        self._has_limit = has_limit

    def call(self, function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a coroutine function and wait for its result.

        Raises
        ------
        RuntimeError, ConnectionClosedError
            As `Background.check`.
        """
        self._owner.check(function)
        return self._owner.wait_for(Waiting(self._owner, partial(function, *args, **kwargs), self._has_limit))

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
        call = Submitted(self._owner, partial(function, *args, **kwargs), self._has_limit)
        call.future.add_done_callback(lambda future: self._owner.post(call.cancel) if future.cancelled() else None)
        self._owner.start(call)
        return call.future
