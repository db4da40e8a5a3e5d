"""What a link is told to do and what it counts, for each of its two ways."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..checks import described, short

__all__ = ['Counters', 'Rule', 'Ways', 'corrupted', 'dice', 'each_way']

T = TypeVar('T')


class Ways(tuple[T, T], Generic[T]):
    """A value for each way.

    Parameters
    ----------
    there : Any
        That from client to server.
    back : Any
        That from server to client.
    """

    __slots__ = ()

    def __new__(cls, there: T, back: T) -> Ways[T]:
        """Make a pair."""
        return super().__new__(cls, (there, back))

    @property
    def there(self) -> T:
        """Any: That from client to server."""
        return self[0]

    @property
    def back(self) -> T:
        """Any: That from server to client."""
        return self[1]


@dataclass
class Counters:
    """What a link did to what came in on one way: datagrams, or pieces of a stream."""

    received: int = 0
    """int: Came in."""
    forwarded: int = 0
    """int: Went out, copies included."""
    lost: int = 0
    """int: Dropped by chance."""
    duplicated: int = 0
    """int: Got a copy."""
    reordered: int = 0
    """int: Held back, to be overtaken."""
    truncated: int = 0
    """int: Lost their end."""
    corrupted: int = 0
    """int: Got a wrong bit."""
    cut: int = 0
    """int: Dropped because the link was cut or nobody was at the other end."""


@dataclass(frozen=True)
class Rule:
    """What a setting of a link may be."""

    name: str
    high: float = float('inf')

    def check(self, value: Any) -> None:
        """Raise `ValueError` if a value is out of range, `TypeError` if it is no number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f'{self.name} must be a number or a pair of numbers, not {described(value)}')
        if not 0 <= value <= self.high or value == float('inf'):
            limit = f'at most {self.high:g}' if self.high != float('inf') else 'finite'
            raise ValueError(f'{self.name} must be at least 0 and {limit}, not {short(value)}')


def each_way(rules: list[Rule], settings: dict[str, Any]) -> Ways[dict[str, Any]]:
    """Split settings, each a value or a pair of values, into those of each way.

    Parameters
    ----------
    rules : list of Rule
        What there is to set.
    settings : dict of str to Any
        A value, or a (there, back) pair, by name.

    Returns
    -------
    Ways of dict
        The values.

    Raises
    ------
    TypeError, ValueError
        A value is no number, or out of range.
    """
    ways: Ways[dict[str, Any]] = Ways({}, {})
    for rule in rules:
        value = settings[rule.name]
        pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
        if len(pair) != 2:
            raise ValueError(f'{rule.name} must be a number or a (there, back) pair, not {short(value)}')
        for way, one in zip(ways, pair, strict=True):
            rule.check(one)
            way[rule.name] = one
    return ways


def dice(seed: int, client: int, way: int) -> random.Random:
    """Return the chances of one client's one way, which do not depend on what others send."""
    return random.Random(f'{seed}/{client}/{way}')


def corrupted(data: bytes, place: float) -> bytes:
    """Return the bytes with one bit of them turned; `place` is from 0 to below 1."""
    byte, bit = divmod(int(place * 8 * len(data)), 8)
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]
