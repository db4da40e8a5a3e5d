"""`opens`: coroutine functions whose result may be used with ``async with`` directly."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from functools import update_wrapper
from types import FunctionType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

__all__ = ['Opening', 'opens']

_P = ParamSpec('_P')
_T = TypeVar('_T', bound=AbstractAsyncContextManager[Any])


class Opening(Coroutine[Any, Any, _T], AbstractAsyncContextManager[_T]):
    """The coroutine that opens a communicator: for ``await``, tasks, and ``async with``, which also closes it."""

    __slots__ = ('_coroutine', '_opened')

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._coroutine = coroutine
        self._opened: _T

    def __await__(self) -> Generator[Any, Any, _T]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Resume the coroutine."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the coroutine."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    async def __aenter__(self) -> _T:
        self._opened = await self._coroutine
        opened: _T = await self._opened.__aenter__()
        return opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._opened.__aexit__(kind, error, traceback)


class _Opener(Generic[_P, _T]):
    """A coroutine function that returns an `Opening`.

    `inspect.iscoroutinefunction` and mocks ask for the class and the code of a function. Python 3.10 and 3.11 have no
    other way to mark one.
    """

    def __init__(self, function: Callable[_P, Coroutine[Any, Any, _T]]) -> None:
        self._function = function
        update_wrapper(self, function)
        for name in ('__code__', '__defaults__', '__kwdefaults__', '__globals__', '__closure__'):
            setattr(self, name, getattr(function, name))

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return FunctionType

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Opening[_T]:
        return Opening(self._function(*args, **kwargs))

    def __repr__(self) -> str:
        return repr(self._function)


def opens(function: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Opening[_T]]:
    """Let ``async with`` be used with and without ``await`` before the call of a coroutine function."""
    return _Opener(function)
