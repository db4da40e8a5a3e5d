"""`Ages`: estimates for how long messages were on their way, without common clocks.

A broker, and the system at both ends, keep a message while a connection stands still, and deliver it later. Each
message therefore has the time at which it was sent, and the time of the newest message that its sender has received
from here, as the timestamps of TCP (RFC 7323) and NTP (RFC 5905) do.

1. A message was sent after the one whose time it has: that bounds its age, whatever the clocks are.
2. The clocks of two computers differ by an unknown offset. So the difference between a message and another one with a
   bound is known: the delay in excess of the usual one, as in LEDBAT (RFC 6817, section 3.4.2).
3. Clocks drift. The estimate is an upper limit, which after a quiet night is seconds: then the sender is asked.
4. Each clock here begins at a random time, so that the times of another program are not taken for own ones.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from ...stall import now_with_suspension

__all__ = ['HEADER', 'UNKNOWN', 'Ages', 'unstamped']

_FORMAT = struct.Struct(
    '>BQQ'
)  # the version of this header; nanoseconds: the time of the sender, and that of the receiver
_VERSION = 1
HEADER = _FORMAT.size
"""int: The bytes in front of each frame."""
UNKNOWN = 1e9
"""float: The age of a message of which nothing is known, in seconds: longer than any lifetime."""
_DRIFT = 2e-4  # seconds a second by which two clocks may drift apart; crystals differ by less than 1e-4
_MAX_SENDERS = 65_536
_LONGEST_BOUND = 1.0  # seconds; more is no usual delay


def unstamped(payload: bytes) -> tuple[int, int, bytes] | None:
    """Return the two times of a message, and its frame; None if it has none."""
    if len(payload) <= HEADER or payload[0] != _VERSION:
        return None
    _, sent, echoed = _FORMAT.unpack_from(payload)
    return sent, echoed, payload[HEADER:]


@dataclass(slots=True)
class _Sender:
    """What is known of one sender."""

    newest: int  # the time of its message that was received last
    difference: float = 0.0  # of the clocks, with the delay of the message with the least bound
    bound: float = UNKNOWN  # of the age of that message
    seen: float = 0.0  # when it was received


class Ages:
    """Estimates the age of each message of each sender; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = now_with_suspension) -> None:
        self._clock, self._opened = clock, clock()
        self._start = random.SystemRandom().randrange(2**62) - int(self._opened * 1e9)
        self._senders: dict[str, _Sender] = {}

    def stamped(self, frame: bytes, peer: str) -> bytes:
        """Return a frame with the times in front of it."""
        known = self._senders.get(peer)
        return _FORMAT.pack(_VERSION, int(self._clock() * 1e9) + self._start, known.newest if known else 0) + frame

    def of(self, sender: str, sent: int, echoed: int) -> float:
        """Return by how many seconds at most a message was slower than usual; `UNKNOWN` if nothing is known yet.

        Parameters
        ----------
        sender : str
            Identifies one run of the program that sent it, which has one clock.
        sent, echoed : int
            The times of the message, see `unstamped`.
        """
        now = self._clock()
        known = self._senders.get(sender)
        if known is None:
            if len(self._senders) >= _MAX_SENDERS:
                del self._senders[next(iter(self._senders))]
            known = self._senders[sender] = _Sender(sent)
        known.newest = sent
        bound = now - (echoed - self._start) / 1e9
        if not 0.0 <= bound <= min(now - self._opened, _LONGEST_BOUND):
            bound = UNKNOWN
        difference, drift = now - sent / 1e9, _DRIFT * (now - known.seen)
        if known.bound == UNKNOWN:
            if bound == UNKNOWN:
                return UNKNOWN
            age = 0.0
        else:
            excess = difference - known.difference + drift
            age, bound = max(0.0, excess), min(bound, max(0.0, known.bound + excess))
            if bound > known.bound + drift:
                return age
        known.difference, known.bound, known.seen = difference, bound, now
        return age
