"""What the blocking classes are made of: methods of the asynchronous ones, with their signatures and docstrings."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial, wraps
from math import inf
from numbers import Real
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_type_hints

from ..checks import seconds
from ..errors import ConnectionClosedError, EchoTimeoutError
from ..events.callbacks import WithService, checked_listener
from ..events.stream import Stream as Asynchronous
from ..stall import call_later
from .portal import Portal

__all__ = ['CallbackGuard', 'Context', 'Entered', 'Mirrored', 'Stream', 'Twin', 'blocking', 'submitted', 'threadsafe']

_P = ParamSpec('_P')
_A = TypeVar('_A')
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
        """Close it and, except in a callback, wait until it is closed; calls in other threads raise an error."""
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


class Mirrored(Generic[_T]):
    """An attribute of the asynchronous object."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, twin: Any, owner: type) -> _T:
        return self if twin is None else getattr(twin.asynchronous, self._name)  # type: ignore[return-value]

    def __set__(self, twin: Any, value: _T) -> None:
        setattr(twin.asynchronous, self._name, value)


class Computed(Generic[_T]):
    """A property that is computed from the asynchronous object on the thread of the portal."""

    def __init__(self, function: Callable[[Any], _T]) -> None:
        self._function = function

    def __get__(self, twin: Any, owner: type) -> _T:
        if twin is None:
            return self  # type: ignore[return-value]
        computed = partial(self._function, twin.asynchronous)
        return twin.portal.run(computed)  # type: ignore[no-any-return]


class CallbackGuard(WithService):
    """A callback whose `SystemExit` is a failure like any other: the thread it runs on serves the whole program."""

    def __init__(self, callback: Callable[..., Any], service: Any = None) -> None:
        super().__init__(checked_listener(callback, futures=False), service)

    def __eq__(self, other: object) -> bool:
        """Compare the callbacks: a user removes one as it was assigned, without the guard."""
        return bool(self.callback == (other.callback if isinstance(other, WithService) else other))

    def __call__(self, *args: Any) -> Any:
        try:
            return self.callback(*args) if self.service is None else super().__call__(*args)
        except (SystemExit, KeyboardInterrupt) as ex:
            raise RuntimeError(f'{ex!r} in a callback ends no program: it runs on the background thread') from ex


def _caller(method: Callable[..., Any], limit: str | float | None, waits: bool) -> Any:
    names = list(inspect.signature(method).parameters)[1:]
    position = names.index('timeout') if 'timeout' in names else len(names)

    @wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        timeout = args[position] if position < len(args) else kwargs.get('timeout')
        if timeout is None:
            timeout = getattr(self.asynchronous, limit) or None if isinstance(limit, str) else limit
        has_limit = isinstance(timeout, Real) and timeout != inf
        work = partial(method, self.asynchronous, *args, **kwargs)
        return self.portal.call(method.__name__, work, has_limit) if waits else self.portal.submit(work, has_limit)

    return call


def blocking(method: _Waiting[_P, _T], limit: str | float | None) -> Callable[Concatenate[Any, _P], _T]:
    """Return a method that waits for the end of a coroutine function of the asynchronous object.

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
            args = (*args[:-1], *map(CallbackGuard, args[-1:]))
        return self.portal.run(partial(method, self.asynchronous, *args, **kwargs))

    return call


class Stream(Entered, Generic[_T]):
    """What happens from ``with`` on, in order, for as long as that block lasts; any thread may read it.

    Of more than `limit` things that wait the oldest is dropped, which is counted and logged.
    """

    limit = Mirrored[int]()  #: How many things may wait.
    dropped = Mirrored[int]()  #: How many have been dropped.

    def __init__(self, asynchronous: Asynchronous[_T], portal: Portal) -> None:
        super().__init__(asynchronous, portal)

    def __len__(self) -> int:
        return len(self.asynchronous)

    def get(self, timeout: float | None = None) -> _T:
        """Wait for the next, such as ``(data, addr, event)``, or raise `EchoTimeoutError`.

        `timeout` is how long to wait, in seconds, 0 for what is there already; by default without limit. If the stream
        ends, `ConnectionClosedError` is raised.
        """
        read = partial(within, timeout, self.asynchronous.__anext__, 'Nothing')
        try:
            return self.portal.call('get', read, timeout is not None and timeout != inf)  # type: ignore[no-any-return]
        except StopAsyncIteration:
            raise ConnectionClosedError('The stream has ended') from None

    def __iter__(self) -> Stream[_T]:
        return self

    def __next__(self) -> _T:
        try:
            return self.portal.call('next', self.asynchronous.__anext__, False)  # type: ignore[no-any-return]
        except StopAsyncIteration:
            raise StopIteration from None


def made(
    method: Callable[Concatenate[Any, _P], _A], twin: Callable[[_A, Portal], _T]
) -> Callable[Concatenate[Any, _P], _T]:
    """Return a method that makes an asynchronous object and returns the twin of it."""

    @wraps(method)
    def call(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return twin(self.portal.run(partial(method, self.asynchronous, *args, **kwargs)), self.portal)

    return call


async def within(timeout: float | None, read: Callable[[], Coroutine[Any, Any, _T]], what: str) -> _T:
    """Return what a coroutine function reads, within a time limit."""
    delay = inf if timeout is None else seconds(timeout, 'timeout', zero=True)
    task: Any = asyncio.current_task()  # which reads itself: it must have the origin of the message in its context
    is_late = False

    def expire() -> None:
        nonlocal is_late
        is_late = task.cancel()

    timer = call_later(asyncio.get_running_loop(), delay, expire)
    try:
        return await read()
    except asyncio.CancelledError:
        if is_late:
            raise EchoTimeoutError(f'{what} came within {timeout} s') from None
        raise
    finally:
        timer.cancel()
