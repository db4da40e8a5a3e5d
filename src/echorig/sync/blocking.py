"""Methods and attributes made from those of the asynchronous classes, with their signatures and docstrings."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial, wraps
from math import inf
from numbers import Real
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_type_hints

from ..events.callbacks import WithService, checked_listener
from .portal import Portal

__all__ = ['CallbackGuard', 'Entered', 'Mirrored', 'Twin', 'blocking', 'submitted', 'threadsafe']

_P = ParamSpec('_P')
_T = TypeVar('_T')
_F = TypeVar('_F', bound=Callable[..., Any])
_Self = TypeVar('_Self', bound='Entered')
_Waiting = Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]


class Twin:
    """The blocking twin of an asynchronous object, which was opened on the thread of a portal."""

    def __init__(self, asynchronous: Any, portal: Portal) -> None:
        self.asynchronous = asynchronous
        self.portal = portal


class Entered(Twin):
    """A twin that is at work during ``with``."""

    def __enter__(self: _Self) -> _Self:
        leave = partial(self.asynchronous.__aexit__, None, None, None)
        self.portal.call('__enter__', self.asynchronous.__aenter__, undo=lambda: asyncio.ensure_future(leave()))
        return self

    def __exit__(self, *error: Any) -> None:
        if not self.portal.is_over:
            self.portal.call('__exit__', partial(self.asynchronous.__aexit__, *error), shield=True)


def _binding(method: _Waiting[_P, _T], limit: str | float | None) -> Callable[..., Any]:
    """Return a function that binds a method to its arguments, and tells whether the call has a limit."""
    names = list(inspect.signature(method).parameters)[1:]
    position = names.index('timeout') if 'timeout' in names else len(names)

    def bind(twin: Twin, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        timeout = args[position] if position < len(args) else kwargs.get('timeout')
        if timeout is None:
            timeout = getattr(twin.asynchronous, limit) if isinstance(limit, str) else limit
        has_limit = isinstance(timeout, Real) and not timeout <= 0 and timeout != inf
        return partial(getattr(twin.asynchronous, method.__name__), *args, **kwargs), has_limit

    return bind


def blocking(method: _Waiting[_P, _T], limit: str | float | None) -> Callable[Concatenate[Any, _P], _T]:
    """Return a method that waits for the end of a coroutine function, which is a method of the asynchronous class.

    `limit` is how long a call without a timeout takes at most, or the attribute that says so; None is no limit.
    """
    bind = _binding(method, limit)

    @wraps(method)
    def call(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self.portal.call(method.__name__, *bind(self, args, kwargs))  # type: ignore[no-any-return]

    return call


def submitted(method: _Waiting[_P, _T], limit: str | float | None) -> Callable[Concatenate[Any, _P], Future[_T]]:
    """Return a method that returns a future for the end of a coroutine function; see `blocking`."""
    bind = _binding(method, limit)

    @wraps(method)
    def submit(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        return self.portal.submit(*bind(self, args, kwargs))  # type: ignore[no-any-return]

    future: Any = Future[get_type_hints(method)['return']]  # type: ignore[misc]
    submit.__annotations__ = {**method.__annotations__, 'return': future}
    vars(submit)['__signature__'] = inspect.signature(method).replace(return_annotation=future)
    return submit


def threadsafe(method: Callable[Concatenate[Any, _P], _T]) -> Callable[Concatenate[Any, _P], _T]:
    """Return a method that calls one that does not wait on the thread of the portal."""

    @wraps(method)
    def call(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        function = partial(getattr(self.asynchronous, method.__name__), *args, **kwargs)
        return self.portal.run(function)  # type: ignore[no-any-return]

    return call


class Mirrored(Generic[_T]):
    """An attribute of the asynchronous object."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, twin: Any, owner: type) -> _T:
        return self if twin is None else getattr(twin.asynchronous, self._name)  # type: ignore[return-value]

    def __set__(self, twin: Any, value: _T) -> None:
        setattr(twin.asynchronous, self._name, value)


class CallbackGuard(WithService):
    """A callback whose `SystemExit` is a failure like any other: the thread it runs on serves the whole program."""

    def __init__(self, callback: Callable[..., Any], *extra: Any) -> None:
        super().__init__(checked_listener(callback, futures=False), None)
        self._extra = extra  # further arguments

    def __eq__(self, other: object) -> bool:
        """Compare the callbacks: a user removes one as it was assigned, without the guard."""
        return bool(self.callback == (other.callback if isinstance(other, WithService) else other))

    def __call__(self, *args: Any) -> Any:
        try:
            return self.callback(*args, *self._extra)
        except (SystemExit, KeyboardInterrupt) as ex:
            raise RuntimeError(f'{ex!r} in a callback ends no program: it runs on the background thread') from ex
