"""Descriptions for methods that do what those of the asynchronous classes do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

__all__ = ['mirrors']

_C = TypeVar('_C', bound=type)


def mirrors(original: type) -> Callable[[_C], _C]:
    """Give the methods of a class that have no docstring those of the same names in another class.

    Parameters
    ----------
    original : type
        The other class.

    Returns
    -------
    callable
        The class decorator.
    """

    def decorate(cls: _C) -> _C:
        for name, member in vars(cls).items():
            function = getattr(member, '__func__', member)
            if inspect.isfunction(function) and function.__doc__ is None and not name.startswith('_'):
                function.__doc__ = inspect.getdoc(getattr(original, name))
        return cls

    return decorate
