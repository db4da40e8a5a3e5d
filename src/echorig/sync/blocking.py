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

__all__ = ['CallbackGuard', 'Context', 'Entered', 'Mirrored', 'Twin', 'blocking', 'submitted', 'threadsafe']

_P = ParamSpec('_P')
_T = TypeVar('_T')
_Self = TypeVar('_Self', bound='Context')
_Waiting = Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]


class Twin:
    """The blocking twin of an asynchronous object, which was opened on the thread of a portal."""

    def __init__(self, asynchronous: Any, portal: Portal) -> None:
        self.asynchronous = asynchronous
        self.portal = portal


class Context(Twin):
    """A twin that is closed at the end of ``with``."""

    def close(self) -> None:
        """Close it: callbacks are removed, and threads that wait raise `ConnectionClosedError`.

        When this returns the sockets are gone; called in a callback, soon after. Closing twice does nothing, nor
        does closing in a fork of the process what its parent goes on using.
        """
        self.portal.close(self.asynchronous)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class Entered(Context):
    """A twin that works from the beginning of ``with``."""

    def __enter__(self: _Self) -> _Self:
        leave = partial(self.asynchronous.__aexit__, None, None, None)
        self.portal.call('__enter__', self.asynchronous.__aenter__, undo=lambda: asyncio.ensure_future(leave()))
        return self


def _caller(method: Callable[..., Any], limit: str | float | None, waits: bool) -> Any:
    names = list(inspect.signature(method).parameters)[1:]
    position = names.index('timeout') if 'timeout' in names else len(names)

    @wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        timeout = args[position] if position < len(args) else kwargs.get('timeout')
        if timeout is None:
            timeout = getattr(self.asynchronous, limit) if isinstance(limit, str) else limit
        has_limit = isinstance(timeout, Real) and not timeout <= 0 and timeout != inf
        work = partial(getattr(self.asynchronous, method.__name__), *args, **kwargs)
        return self.portal.call(method.__name__, work, has_limit) if waits else self.portal.submit(work, has_limit)

    return call


def blocking(method: _Waiting[_P, _T], limit: str | float | None) -> Callable[Concatenate[Any, _P], _T]:
    """Return a method that waits for the end of a coroutine function, which is a method of the asynchronous class.

    `limit` is how long a call without a timeout takes at most, or the attribute that says so; None is no limit.
    """
    return _caller(method, limit, True)  # type: ignore[no-any-return]


def submitted(method: _Waiting[_P, _T], limit: str | float | None) -> Callable[Concatenate[Any, _P], Future[_T]]:
    """Return a method that returns a future for the end of a coroutine function; see `blocking`."""
    submit = _caller(method, limit, False)
    future: Any = Future[get_type_hints(method)['return']]  # type: ignore[misc]
    submit.__annotations__ = {**method.__annotations__, 'return': future}
    submit.__signature__ = inspect.signature(method).replace(return_annotation=future)
    return submit  # type: ignore[no-any-return]


def threadsafe(method: Callable[Concatenate[Any, _P], _T]) -> Callable[Concatenate[Any, _P], _T]:
    """Return a method that calls one that does not wait on the thread of the portal; a callback is guarded."""
    assigns = method.__name__.startswith('assign_')

    @wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if assigns and 'callback' in kwargs:
            kwargs['callback'] = CallbackGuard(kwargs['callback'])
        elif assigns:
            args = *args[:-1], *map(CallbackGuard, args[-1:])
        return self.portal.run(partial(getattr(self.asynchronous, method.__name__), *args, **kwargs))

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
