"""What users pass: each kind of value is checked in one function, before anything is done with it.

1. A value of a wrong type is a `TypeError`, one out of range a `ValueError`. The text names the argument, what it must
   be and what it was.
2. A truth value is no number, and a number no truth value: ``timeout=True`` is a slip.
3. Not even a value that cannot be printed, or only at great length, makes the text long or fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import inf
from numbers import Integral, Real
from reprlib import Repr
from typing import Any

__all__ = ['described', 'flag', 'limit', 'number_of', 'path', 'seconds', 'set_checked', 'short', 'text', 'words']

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
    """Say what a value is: its type and what it looks like."""
    return 'None' if value is None else f'{type(value).__name__}: {short(value)}'


def seconds(value: Any, what: str, *, zero: bool = False, endless: bool = True) -> float:
    """Return a number of seconds.

    Parameters
    ----------
    value : float
        What the user gave.
    what : str
        The name of the argument.
    zero : bool
        Whether it may be 0.
    endless : bool
        Whether it may be infinite, which is no limit.

    Returns
    -------
    float
        The number.

    Raises
    ------
    TypeError
        It is no real number.
    ValueError
        It is negative, not-a-number, or 0 or infinite where that is nothing.
    """
    kind = type(value)
    if kind is not float and kind is not int and (not isinstance(value, Real) or kind is bool):
        raise TypeError(f'{what} must be a number of seconds, not {described(value)}')
    try:
        number = float(value)
    except OverflowError:  # an integer that no float can hold
        number = inf if value > 0 else -inf
    if not (number > 0 or (zero and number == 0)) or (number == inf and not endless):  # nor is not-a-number
        what = 'Timeout' if what == 'timeout' else what  # with the words of iblutil, which programs may look for
        least = 'number of seconds, 0 or more' if zero else 'non-zero number of seconds, positive'
        most = 'or math.inf for no limit' if endless else 'and finite'
        raise ValueError(f'{what} must be {least} {most}, not {short(value)}')
    return number


def limit(value: Any, what: str) -> float | None:
    """Return a time limit that may be none: None, 0 or infinite.

    Parameters
    ----------
    value : float or None
        What the user gave.
    what : str
        The name of the argument.

    Returns
    -------
    float or None
        What was given, as a float.

    Raises
    ------
    TypeError, ValueError
        As `seconds`.
    """
    return None if value is None else seconds(value, what, zero=True)


def number_of(value: Any, what: str, most: int = 2**31 - 1, least: int = 1) -> int:
    """Return a whole number.

    Parameters
    ----------
    value : int
        What the user gave.
    what : str
        The name of the argument.
    most, least : int
        The range.

    Returns
    -------
    int
        The number.

    Raises
    ------
    TypeError
        It is no integer; a float is none, whatever its value.
    ValueError
        It is out of range.
    """
    if type(value) is not int and (not isinstance(value, Integral) or isinstance(value, bool)):
        raise TypeError(f'{what} must be a whole number, an int, not {described(value)}')
    number = int(value)
    if not least <= number <= most:
        positive = 'positive: ' if least == 1 else ''
        raise ValueError(f'{what} must be {positive}{least} to {most}, not {short(value)}')
    return number


def flag(value: Any, what: str) -> bool:
    """Return a truth value, which must be one: ``'no'`` would be true, as every text is.

    Parameters
    ----------
    value : bool
        What the user gave.
    what : str
        The name of the argument.

    Returns
    -------
    bool
        The value.

    Raises
    ------
    TypeError
        It is neither True nor False.
    """
    if value is not True and value is not False and type(value).__name__ not in ('bool', 'bool_'):  # or of numpy
        raise TypeError(f'{what} must be True or False, not {described(value)}')
    return bool(value)


def text(value: Any, what: str, hint: str = '') -> str:
    """Return a text.

    Parameters
    ----------
    value : str
        What the user gave.
    what : str
        The name of the argument.
    hint : str
        What else there is to say about it.

    Returns
    -------
    str
        The text.

    Raises
    ------
    TypeError
        It is no text.
    """
    if not isinstance(value, str):
        raise TypeError(f'{what} must be a str{hint}, not {described(value)}')
    return value


def path(value: Any, what: str) -> str:
    """Return the path of a file as text.

    A number is none: `open` would take it for a file that the process has open, and close that in the end.

    Parameters
    ----------
    value : str or os.PathLike
        What the user gave.
    what : str
        The name of the argument.

    Returns
    -------
    str
        The path.

    Raises
    ------
    TypeError
        It is no path, or one of bytes.
    ValueError
        No file can have this name.
    """
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


def words(argv: Any) -> list[str]:
    """Return the arguments of a command line, which are texts.

    Parameters
    ----------
    argv : sequence of str
        What the user gave.

    Returns
    -------
    list of str
        The arguments.

    Raises
    ------
    TypeError
        It is no sequence, or one of them is no text.
    """
    if isinstance(argv, str) or not isinstance(argv, Sequence):
        raise TypeError(f'argv must be a list of str, not {described(argv)}')
    return [text(word, 'argv', ' for each argument') for word in argv]


def set_checked(**checks: Callable[[Any, str], Any]) -> Callable[[Any, str, Any], None]:
    """Return a ``__setattr__`` that checks some attributes of an instance; to read them costs no more than any other.

    Parameters
    ----------
    checks : callable
        By name of the attribute what is called as ``check(value, name)``, and returns the value to keep, or raises.

    Returns
    -------
    callable
        The method.
    """

    def set_attribute(self: Any, name: str, value: Any) -> None:
        check = checks.get(name)
        object.__setattr__(self, name, value if check is None else check(value, name))

    return set_attribute
