"""`Lane`: one way of one client of a `LossyLink`: the datagrams under way, and one timer for them."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from .faults import Counters, corrupted

__all__ = ['Lane']

CHANCES = ('loss', 'duplicate', 'reorder', 'truncate', 'corrupt')


class Lane:
    """Takes datagrams in, and lets out what is left of them.

    Parameters
    ----------
    out : callable
        ``out(data)`` sends a datagram on.
    faults : dict of str to float
        The settings of this way.
    counters : Counters
        Where everything is counted.
    chances : random.Random
        What the faults are drawn from.
    """

    def __init__(
        self, out: Callable[[bytes], None], faults: dict[str, Any], counters: Counters, chances: random.Random
    ) -> None:
        self.is_cut = False
        self._out = out
        self._faults = faults
        self._counters = counters
        self._chances = chances
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[tuple[float, bytes]] = deque()  # (when to let it out, datagram), in order
        self._held: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._hold_timer: asyncio.TimerHandle | None = None

    def take(self, data: bytes) -> None:
        """Take a datagram in, and decide what it suffers."""
        counters = self._counters
        counters.received += 1
        # Each chance is drawn for each datagram, so that one setting does not change what another one picks.
        drawn = [self._chances.random() for _ in CHANCES]
        place = self._chances.random()
        lost, twice, late, shorter, wrong = (
            chance < self._faults[name] for chance, name in zip(drawn, CHANCES, strict=True)
        )
        if self.is_cut:
            counters.cut += 1
            return
        if lost:
            counters.lost += 1
            return
        if shorter and len(data) > 1:
            counters.truncated += 1
            data = data[: 1 + int(place * (len(data) - 1))]
        if wrong and data:
            counters.corrupted += 1
            data = corrupted(data, place)
        counters.duplicated += twice
        copies = [data] * (1 + twice)
        if late:
            counters.reordered += 1
            self._held.extend(copies)
            if self._hold_timer is None:
                self._hold_timer = self._loop.call_later(self._faults['hold'], self._release)
        else:
            self._queue(copies)
            self._release()

    def _release(self) -> None:
        """Let those go that were held back."""
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        held, self._held = self._held, []
        self._queue(held)

    def _queue(self, copies: list[bytes]) -> None:
        for data in copies:
            delay = self._faults['delay'] + self._faults['jitter'] * self._chances.random()
            if delay == 0.0 and not self._under_way:
                self._send(data)
                continue
            when = monotonic() + delay
            if self._under_way:
                when = max(when, self._under_way[-1][0])
            self._under_way.append((when, data))
        self._arm()

    def _arm(self) -> None:
        if self._under_way and self._timer is None:
            self._timer = self._loop.call_later(max(self._under_way[0][0] - monotonic(), 0.0), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = monotonic()
        while self._under_way and self._under_way[0][0] <= now:
            self._send(self._under_way.popleft()[1])
        if self._under_way:  # not sooner than a millisecond: the clock of the loop may be as coarse as that
            self._timer = self._loop.call_later(max(self._under_way[0][0] - now, 0.001), self._tick)

    def _send(self, data: bytes) -> None:
        self._counters.forwarded += 1
        self._out(data)

    def clear(self) -> None:
        """Drop what is under way."""
        self._counters.cut += len(self._under_way) + len(self._held)
        self._under_way.clear()
        self._held.clear()
        for timer in (self._timer, self._hold_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._hold_timer = None
