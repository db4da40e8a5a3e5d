"""The settings and the counters of links, for each direction."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

from ..checks import described, short

__all__ = ['Counters', 'PerDirection', 'flip_bit', 'per_direction', 'seeded_random']

T = TypeVar('T')


@dataclass(frozen=True)
class PerDirection(Generic[T]):
    """One value for each direction of a link."""

    to_server: T
    """Any: The value of the direction from client to server."""
    to_client: T
    """Any: The value of the direction from server to client."""

    def __iter__(self) -> Iterator[T]:
        return iter((self.to_server, self.to_client))


@dataclass
class Counters:
    """Counts of the datagrams, or pieces of a stream, of one direction of a link."""

    received: int = 0
    """int: Received."""
    forwarded: int = 0
    """int: Sent on, copies included."""
    lost: int = 0
    """int: Dropped by chance."""
    duplicated: int = 0
    """int: Sent twice."""
    reordered: int = 0
    """int: Held back, so that later ones overtook them."""
    truncated: int = 0
    """int: Shortened."""
    corrupted: int = 0
    """int: Sent with a wrong bit."""
    cut: int = 0
    """int: Dropped because the link was cut."""


def per_direction(maxima: dict[str, float], settings: dict[str, Any]) -> PerDirection[dict[str, Any]]:
    """Check the settings named in `maxima`, and split them by direction; each is a number or a pair of numbers."""
    to_server, to_client = {}, {}
    for name, most in maxima.items():
        value = settings[name]
        pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
        if len(pair) != 2:
            raise ValueError(f'{name} must be a number or a (to_server, to_client) pair, not {short(value)}')
        to_server[name], to_client[name] = (_checked(name, one, most) for one in pair)
    return PerDirection(to_server, to_client)


def _checked(name: str, value: Any, most: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f'{name} must be a number or a pair of numbers, not {described(value)}')
    if not 0 <= value <= most or value == inf:
        limit = 'finite' if most == inf else f'at most {most:g}'
        raise ValueError(f'{name} must be at least 0 and {limit}, not {short(value)}')
    return value


def seeded_random(seed: int, client: int, direction: int) -> random.Random:
    """Return the random numbers of one direction (0 to server, 1 to client) of one client."""
    return random.Random(f'{seed}/{client}/{direction}')


def flip_bit(data: bytes, place: float) -> bytes:
    """Return the bytes with one bit inverted; `place` is from 0 to below 1."""
    byte, bit = divmod(int(place * 8 * len(data)), 8)
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]
