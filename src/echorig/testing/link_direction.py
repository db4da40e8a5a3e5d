"""`LinkDirection`: one direction of one client of a `LossyLink`."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from .faults import Counters, flip_bit

__all__ = ['LinkDirection']

CHANCES = ('loss', 'duplicate', 'reorder', 'truncate', 'corrupt')


class LinkDirection:
    """Applies faults to datagrams, and forwards them with `forward`; one timer serves all that are delayed."""

    def __init__(
        self, forward: Callable[[bytes], None], faults: dict[str, Any], counters: Counters, chances: random.Random
    ) -> None:
        self.is_cut = False
        self._forward = forward
        self._faults = faults
        self._counters = counters
        self._chances = chances
        self._loop = asyncio.get_running_loop()
        self._in_transit: deque[tuple[float, bytes]] = deque()  # (when to forward it, datagram), in order
        self._held: list[bytes] = []  # for reordering
        self._timer: asyncio.TimerHandle | None = None
        self._hold_timer: asyncio.TimerHandle | None = None

    def receive(self, data: bytes) -> None:
        """Apply faults to a datagram; forward, delay, hold or drop it."""
        counters = self._counters
        counters.received += 1
        # Each chance is drawn for each datagram, so that one setting does not change the choices of another.
        drawn = [self._chances.random() for _ in CHANCES]
        place = self._chances.random()
        lost, duplicated, held, truncated, corrupted = (
            chance < self._faults[name] for chance, name in zip(drawn, CHANCES, strict=True)
        )
        if self.is_cut:
            counters.cut += 1
            return
        if lost:
            counters.lost += 1
            return
        if truncated and len(data) > 1:
            counters.truncated += 1
            data = data[: 1 + int(place * (len(data) - 1))]
        if corrupted and data:
            counters.corrupted += 1
            data = flip_bit(data, place)
        counters.duplicated += duplicated
        copies = [data] * (1 + duplicated)
        if held:
            counters.reordered += 1
            self._held.extend(copies)
            if self._hold_timer is None:
                self._hold_timer = self._loop.call_later(self._faults['hold'], self._release)
        else:
            self._delay(copies)
            self._release()

    def _release(self) -> None:
        """Forward the datagrams that were held back."""
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        held, self._held = self._held, []
        self._delay(held)

    def _delay(self, copies: list[bytes]) -> None:
        for data in copies:
            delay = self._faults['delay'] + self._faults['jitter'] * self._chances.random()
            if delay == 0.0 and not self._in_transit:
                self._send(data)
                continue
            when = monotonic() + delay
            if self._in_transit:
                when = max(when, self._in_transit[-1][0])
            self._in_transit.append((when, data))
        self._set_timer(0.0)

    def _set_timer(self, shortest: float) -> None:
        if self._in_transit and self._timer is None:
            delay = max(self._in_transit[0][0] - monotonic(), shortest)
            self._timer = self._loop.call_later(delay, self._send_due)

    def _send_due(self) -> None:
        self._timer = None
        now = monotonic()
        while self._in_transit and self._in_transit[0][0] <= now:
            self._send(self._in_transit.popleft()[1])
        self._set_timer(0.001)  # the clock of the loop may be as coarse as that

    def _send(self, data: bytes) -> None:
        self._counters.forwarded += 1
        self._forward(data)

    def clear(self) -> None:
        """Drop the datagrams that are delayed or held back."""
        self._counters.cut += len(self._in_transit) + len(self._held)
        self._in_transit.clear()
        self._held.clear()
        for timer in (self._timer, self._hold_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._hold_timer = None
