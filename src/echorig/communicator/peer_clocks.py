"""`PeerClocks`: by how much the clocks of other computers differ from the clock of this one.

A peer echoes a ping with the time of its clock. That is the time here at some moment between sending the ping and
receiving the echo, so that half of the round trip bounds the error (RFC 5905, section 8). Of the last eight pings the
one with the smallest bound counts (RFC 5905, section 10).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from ..uri import Address
from ..wall_clock import RESOLUTION, wall_time

__all__ = ['PeerClock', 'PeerClocks']

_N_SAMPLES = 8
_DRIFT_BOUND = 100e-6  # seconds a second, between two computers whose clocks nothing adjusts
_HISTORY = 600.0  # seconds over which the drift is estimated
_HISTORY_STEP = 1.0  # seconds between two samples of it
_SHORTEST_HISTORY = 30.0  # seconds
_MAX_PEERS = 4096
_SLEWING = 1e-3  # seconds a second; more than a system slews its clock
_STEP = 2e-3  # seconds; more than two clocks of this computer are read apart


@dataclass(frozen=True)
class PeerClock:
    """The clock of another computer, compared with the clock of this one, at the time of asking."""

    offset: float
    """float: By how much it is ahead, in seconds."""
    error: float
    """float: The bound of the error of `offset`, in seconds."""
    drift: float | None
    """float or None: By how much `offset` grows, in seconds a second; None before half a minute of pings."""
    age: float
    """float: How long ago it was measured, in seconds."""


class _Sample(NamedTuple):
    at: float  # seconds, monotonic
    offset: float
    error: float
    base: float  # the clock of this computer less the monotonic one, in seconds

    def is_valid(self, now: float, base: float) -> bool:
        """Return whether the clock of this computer was not set since then."""
        return abs(base - self.base) <= _STEP + self.error + (now - self.at) * _SLEWING

    def bound(self, now: float) -> float:
        """Return the bound of the error at a later time."""
        return self.error + (now - self.at) * _DRIFT_BOUND


class _Samples:
    """The measurements of one clock."""

    def __init__(self) -> None:
        self._newest: deque[_Sample] = deque(maxlen=_N_SAMPLES)
        self._history: deque[_Sample] = deque()

    def add(self, sample: _Sample) -> None:
        """Add a measurement; earlier ones are dropped if a clock was set since then."""
        if self._newest:
            best = self.best(sample.at)
            is_same_clock = best.is_valid(sample.at, sample.base)
            if not is_same_clock or abs(sample.offset - best.offset) > sample.error + best.bound(sample.at):
                self._newest.clear()
                self._history.clear()
        self._newest.append(sample)
        if self._history and sample.at - self._history[-1].at < _HISTORY_STEP:
            if sample.error > self._history[-1].error:
                return
            self._history.pop()
        self._history.append(sample)
        while sample.at - self._history[0].at > _HISTORY:
            self._history.popleft()

    def best(self, now: float) -> _Sample:
        """Return the measurement with the smallest bound of its error."""
        return min(self._newest, key=lambda sample: sample.bound(now))

    def drift(self) -> float | None:
        """Return the slope of a line through the measurements, weighted by their errors (least squares)."""
        history = self._history
        if history[-1].at - history[0].at < _SHORTEST_HISTORY:
            return None
        weights = [1.0 / max(sample.error, 1e-9) ** 2 for sample in history]
        total = sum(weights)
        pairs = list(zip(weights, history, strict=True))
        mean_at = sum(weight * sample.at for weight, sample in pairs) / total
        mean_offset = sum(weight * sample.offset for weight, sample in pairs) / total
        square = sum(weight * (sample.at - mean_at) ** 2 for weight, sample in pairs)
        product = sum(weight * (sample.at - mean_at) * (sample.offset - mean_offset) for weight, sample in pairs)
        return product / square if square > 0.0 else None


class PeerClocks:
    """The clocks of the peers of one communicator."""

    def __init__(self) -> None:
        self._samples: dict[Address, _Samples] = {}

    def add(self, addr: Address, peer_time: int, echoed_at: float, round_trip: float) -> None:
        """Add the echo of a ping: the time in it in ns, and when it was received and for how long it was awaited."""
        before, now, after = monotonic(), wall_time(), monotonic()  # a program may stand still between two of them
        middle = (before + after) / 2 - echoed_at + round_trip / 2  # seconds ago
        offset = (peer_time - now) / 1e9 + middle
        if addr not in self._samples and len(self._samples) >= _MAX_PEERS:
            del self._samples[next(iter(self._samples))]
        samples = self._samples.setdefault(addr, _Samples())
        base = now / 1e9 - (before + after) / 2
        error = (round_trip + after - before) / 2 + 2 * RESOLUTION  # of the time of the echo and of this moment
        samples.add(_Sample(echoed_at, offset, error, base))

    def get(self, addr: Address) -> PeerClock | None:
        """Return the clock of a peer, or None if it is not known, or the clock of this computer was set since then."""
        samples = self._samples.get(addr)
        if samples is None:
            return None
        before, wall, now = monotonic(), wall_time(), monotonic()
        best = samples.best(now)
        if now - before < _STEP and not best.is_valid(now, wall / 1e9 - now):
            return None
        return PeerClock(best.offset, best.bound(now), samples.drift(), now - best.at)
