"""The methods of the blocking classes, with the signatures and docstrings of the asynchronous methods."""

from __future__ import annotations

import asyncio
import inspect
import sys
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
from .proxy import Attribute, ContextProxy

__all__ = ['CallbackGuard', 'Stream', 'blocking', 'proxied', 'submitted', 'threadsafe', 'with_timeout']

_P = ParamSpec('_P')
_A = TypeVar('_A')
_T = TypeVar('_T')
_CoroutineMethod = Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]


class CallbackGuard(WithService):
    """A callback whose `SystemExit` is a failure like any other: its thread serves the whole program."""

    def __init__(self, callback: Callable[..., object], service: object = None) -> None:
        super().__init__(checked_listener(callback, futures=False), service)

    def __eq__(self, other: object) -> bool:
        """Compare the callbacks: a user removes one as it was assigned, without the guard."""
        return bool(self.callback == (other.callback if isinstance(other, WithService) else other))

    def __call__(self, *args: object) -> object:
        try:
            return self.callback(*args) if self.service is None else super().__call__(*args)
        except (SystemExit, KeyboardInterrupt) as ex:
            raise RuntimeError(f'{ex!r} in a callback ends no program: it runs on the background thread') from ex


def _caller(method: Callable[..., Any], limit: str | float | None, waits: bool) -> Any:
    names = list(inspect.signature(method).parameters)[1:]
    parameters = inspect.signature(method).parameters
    is_positional = 'timeout' in names and parameters['timeout'].kind is not inspect.Parameter.KEYWORD_ONLY
    position = names.index('timeout') if is_positional else sys.maxsize

    @wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        timeout = args[position] if position < len(args) else kwargs.get('timeout')
        if timeout is None:
            timeout = getattr(self.asynchronous, limit) or None if isinstance(limit, str) else limit
        has_limit = isinstance(timeout, Real) and timeout != inf
        work = partial(method, self.asynchronous, *args, **kwargs)
        return self.portal.call(method.__name__, work, has_limit) if waits else self.portal.submit(work, has_limit)

    return call


def blocking(method: _CoroutineMethod[_P, _T], limit: str | float | None) -> Callable[Concatenate[Any, _P], _T]:
    """Return a method that waits for the end of a coroutine function of the asynchronous object.

    `limit` is the longest duration of a call without a timeout, or the attribute that has it; None is no limit.
    """
    return _caller(method, limit, True)  # type: ignore[no-any-return]


def submitted(
    method: _CoroutineMethod[_P, _T], limit: str | float | None
) -> Callable[Concatenate[Any, _P], Future[_T]]:
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


def proxied(
    method: Callable[Concatenate[Any, _P], _A], proxy: Callable[[_A, Portal], _T]
) -> Callable[Concatenate[Any, _P], _T]:
    """Return a method that makes an asynchronous object and returns a proxy of it."""

    @wraps(method)
    def call(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return proxy(self.portal.run(partial(method, self.asynchronous, *args, **kwargs)), self.portal)

    return call


class Stream(ContextProxy, Generic[_T]):
    """The items that arrive while the ``with`` block is open, in order; any thread may read them.

    If more than `limit` items wait, the oldest is dropped, counted and logged.
    """

    limit = Attribute[int]()  #: How many items may wait.
    dropped = Attribute[int]()  #: How many items have been dropped.

    def __init__(self, asynchronous: Asynchronous[_T], portal: Portal) -> None:
        super().__init__(asynchronous, portal)

    def __len__(self) -> int:
        return len(self.asynchronous)

    def get(self, timeout: float | None = None) -> _T:
        """Wait for the next item, such as ``(data, addr, event)``, or raise `EchoTimeoutError`.

        `timeout` is in seconds, 0 returns only an item that waits already; by default there is no limit. If the stream
        ends, `ConnectionClosedError` is raised.
        """
        read = partial(with_timeout, timeout, self.asynchronous.__anext__, 'Nothing')
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


async def with_timeout(timeout: float | None, read: Callable[[], Coroutine[Any, Any, _T]], what: str) -> _T:
    """Return the result of a coroutine function, within a time limit."""
    delay = inf if timeout is None else seconds(timeout, 'timeout', zero=True)
    task: Any = asyncio.current_task()  # reads itself, so that its context gets the request of the message
    is_late = False

    def expire() -> None:
        nonlocal is_late
        is_late = task.cancel()

    timer = call_later(asyncio.get_running_loop(), delay, expire)
    try:
        return await read()
    except asyncio.CancelledError:
        if is_late:
            raise EchoTimeoutError(f'{what} received within {timeout} s') from None
        raise
    finally:
        timer.cancel()
