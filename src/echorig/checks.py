"""Checks of arguments: one function for each kind of value, called before anything else is done with the value.

1. A value of a wrong type is a `TypeError`, one out of range a `ValueError`. The text names the argument `what`, the
   accepted values and the given value.
2. A truth value is no number, and a number no truth value: ``timeout=True`` is a slip.
3. The text stays short, also for a value whose `repr` is long or fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import inf
from numbers import Integral, Real
from reprlib import Repr
from typing import Any

__all__ = [
    'arguments',
    'described',
    'flag',
    'limit',
    'number_of',
    'path',
    'seconds',
    'set_checked',
    'short',
    'text',
    'timeout_or_default',
]

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 60, 60, 40


def short(value: Any) -> str:
    """Return the `repr` of a value, in one line of bounded length."""
    try:
        shown = _SHORT.repr(value)
    except Exception:  # an integer of more digits than Python writes, or a class that fails
        return f'<{type(value).__name__}>'
    return ' '.join(shown[:200].split('\n'))


def described(value: Any) -> str:
    """Return the type and the `repr` of a value."""
    return 'None' if value is None else f'{type(value).__name__}: {short(value)}'


def seconds(value: Any, what: str, *, zero: bool = False, endless: bool = True) -> float:
    """Return a positive number of seconds; with `zero` it may be 0, with `endless` infinite."""
    kind = type(value)
    if kind is not float and kind is not int and (not isinstance(value, Real) or kind is bool):
        raise TypeError(f'{what} must be a number of seconds, not {described(value)}')
    try:
        number = float(value)
    except OverflowError:  # an integer that no float can hold
        number = inf if value > 0 else -inf
    if not (number > 0 or (zero and number == 0)) or (number == inf and not endless):  # also not-a-number
        what = 'Timeout' if what == 'timeout' else what  # programs may search for the words of iblutil
        least = 'number of seconds, 0 or more' if zero else 'non-zero number of seconds, positive'
        most = 'or math.inf for no limit' if endless else 'and finite'
        raise ValueError(f'{what} must be {least} {most}, not {short(value)}')
    return number


def timeout_or_default(timeout: Any, default: float) -> float:
    """Return a time-out in seconds; None stands for `default_echo_timeout`, which is not checked on a class."""
    if timeout is not None:
        return seconds(timeout, 'timeout')
    return default if type(default) is float and default > 0.0 else seconds(default, 'default_echo_timeout')


def limit(value: Any, what: str) -> float | None:
    """Return a time limit: a number of seconds, or None, 0 or infinity for no limit."""
    return None if value is None else seconds(value, what, zero=True)


def number_of(value: Any, what: str, most: int = 2**31 - 1, least: int = 1) -> int:
    """Return an integer in a range; a float is none, whatever its value."""
    if type(value) is not int and (not isinstance(value, Integral) or isinstance(value, bool)):
        raise TypeError(f'{what} must be a whole number, an int, not {described(value)}')
    number = int(value)
    if not least <= number <= most:
        positive = 'positive: ' if least == 1 else ''
        raise ValueError(f'{what} must be {positive}{least} to {most}, not {short(value)}')
    return number


def flag(value: Any, what: str) -> bool:
    """Return a truth value; any other type is refused, because ``'no'`` would be true."""
    if value is not True and value is not False and type(value).__name__ not in ('bool', 'bool_'):  # or of numpy
        raise TypeError(f'{what} must be True or False, not {described(value)}')
    return bool(value)


def text(value: Any, what: str, hint: str = '') -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise TypeError(f'{what} must be a str{hint}, not {described(value)}')
    return value


def path(value: Any, what: str) -> str:
    """Return the path of a file; an integer is refused, because `open` would take it for an open file descriptor."""
    name = value if isinstance(value, str) else os.fspath(value) if isinstance(value, os.PathLike) else None
    if not isinstance(name, str):
        raise TypeError(f'{what} must be the path of a file, a str or os.PathLike, not {described(value)}')
    try:
        os.fsencode(name)
        if '\0' not in name and name:
            return name
    except UnicodeEncodeError:
        pass
    raise ValueError(f'{what} must be the path of a file, and no file can be called {short(name)}')


def arguments(argv: Any) -> list[str]:
    """Return the arguments of a command line."""
    if isinstance(argv, str) or not isinstance(argv, Sequence):
        raise TypeError(f'argv must be a list of str, not {described(argv)}')
    return [text(word, 'argv', ' for each argument') for word in argv]


def set_checked(**checks: Callable[[Any, str], Any]) -> Callable[[Any, str, Any], None]:
    """Return a ``__setattr__`` that stores ``check(value, name)`` in attributes that have a check."""

    def set_attribute(self: Any, name: str, value: Any) -> None:
        check = checks.get(name)
        object.__setattr__(self, name, value if check is None else check(value, name))

    return set_attribute
