"""Decisions out of bytes, the same on every machine and in every version; at the end of the bytes all is zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar('T')


class ByteReader:
    """Takes values from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, n: int) -> bytes:
        """Return the next n bytes, or as many as there are."""
        taken = self.data[self.at : self.at + n]
        self.at += len(taken)
        return taken

    def rest(self) -> bytes:
        return self.take(self.left)

    def byte(self) -> int:
        taken = self.take(1)
        return taken[0] if taken else 0

    def number(self, n: int) -> int:
        """Return an unsigned integer of n bytes."""
        # Not int.from_bytes, whose 0 CPython 3.11 makes of memory that is not initialised, which valgrind reports of
        # whoever uses that 0.
        number = 0
        for byte in self.take(n):
            number = number << 8 | byte
        return number

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.byte() % len(choices)]

    def piece(self) -> bytes:
        """Return some bytes whose number stands before them: one byte, or for 255 two more."""
        n = self.byte()
        return self.take(self.number(2) if n == 255 else n)
