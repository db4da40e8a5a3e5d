"""The bases and attributes of the blocking classes: proxies of asynchronous objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..communicator.service import Service
from .portal import Portal

__all__ = ['Attribute', 'ClosableProxy', 'ContextProxy', 'Property', 'Proxy', 'ServiceBase']

_T = TypeVar('_T')
_Self = TypeVar('_Self', bound='ClosableProxy')


if TYPE_CHECKING:

    class ServiceBase:
        """`Service` at run time. A type checker would prefer its methods, without results, to those made here."""

        name: str
else:
    ServiceBase = Service


class Proxy:
    """A blocking object for an asynchronous one, which was opened on the thread of a portal."""

    def __init__(self, asynchronous: Any, portal: Portal) -> None:
        self.asynchronous = asynchronous
        self.portal = portal


class ClosableProxy(Proxy):
    """A proxy that is closed at the end of ``with``."""

    def close(self) -> None:
        """Close it and, except in a callback, wait until it is closed; calls in other threads raise an error."""
        self.portal.close(self.asynchronous)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class ContextProxy(ClosableProxy):
    """A proxy whose asynchronous object is opened by ``with``."""

    def __enter__(self: _Self) -> _Self:
        leave = partial(self.asynchronous.__aexit__, None, None, None)
        self.portal.call('__enter__', self.asynchronous.__aenter__, undo=lambda: asyncio.ensure_future(leave()))
        return self


class Attribute(Generic[_T]):
    """An attribute of the asynchronous object."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, proxy: Any, owner: type) -> _T:
        return self if proxy is None else getattr(proxy.asynchronous, self._name)  # type: ignore[return-value]

    def __set__(self, proxy: Any, value: _T) -> None:
        setattr(proxy.asynchronous, self._name, value)


class Property(Generic[_T]):
    """A property that is computed from the asynchronous object on the thread of the portal."""

    def __init__(self, function: Callable[[Any], _T]) -> None:
        self._function = function

    def __get__(self, proxy: Any, owner: type) -> _T:
        if proxy is None:
            return self  # type: ignore[return-value]
        return proxy.portal.run(partial(self._function, proxy.asynchronous))  # type: ignore[no-any-return]
