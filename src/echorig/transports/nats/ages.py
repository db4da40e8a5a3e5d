"""`Ages`: estimates for how long messages were on their way, without common clocks.

A broker, and the system at both ends, keep a message while a connection stands still, and deliver it later. Each
message therefore has the time at which it was sent. The clocks of two computers differ by an unknown offset, so only
the difference between a message and the fastest one so far is known: the delay in excess of the usual one, as in
LEDBAT (RFC 6817, section 3.4.2). The clocks drift, too: the estimate is an upper limit, so that after a quiet night it
is seconds, and the sender of a message is asked whether it still waits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from ...stall import now_with_suspension

__all__ = ['HEADER', 'UNKNOWN', 'Ages', 'stamped', 'unstamped']

_FORMAT = struct.Struct('>BQ')  # the version of this header, and nanoseconds of the clock of the sender
_VERSION = 1
HEADER = _FORMAT.size
"""int: The bytes in front of each frame."""
UNKNOWN = 1e9
"""float: The age of the first message of a sender, in seconds: longer than any lifetime."""
_DRIFT = 2e-4  # seconds a second by which two clocks may drift apart; crystals differ by less than 1e-4
_MAX_SENDERS = 65_536


def stamped(frame: bytes) -> bytes:
    """Return a frame with the time of now in front of it."""
    return _FORMAT.pack(_VERSION, int(now_with_suspension() * 1e9)) + frame


def unstamped(payload: bytes) -> tuple[float, bytes] | None:
    """Return the time at which a frame was sent, by the clock of its sender, and the frame; None if it is none."""
    if len(payload) <= HEADER or payload[0] != _VERSION:
        return None
    return _FORMAT.unpack_from(payload)[1] / 1e9, payload[HEADER:]


class Ages:
    """Estimates the age of each message of each sender; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = now_with_suspension) -> None:
        self._clock = clock
        self._fastest: dict[str, tuple[float, float]] = {}  # the least difference of the clocks, and when it was seen

    def of(self, sender: str, sent: float) -> float:
        """Return by how many seconds at most a message was slower than the fastest one; `UNKNOWN` for the first.

        Parameters
        ----------
        sender : str
            Identifies one run of the program that sent it, which has one clock.
        sent : float
            The time at which it was sent, by that clock.
        """
        now = self._clock()
        difference, known = now - sent, self._fastest.get(sender)
        if known is None:
            if len(self._fastest) >= _MAX_SENDERS:
                del self._fastest[next(iter(self._fastest))]
            self._fastest[sender] = difference, now
            return UNKNOWN
        drift = _DRIFT * (now - known[1])
        excess = difference - known[0]
        if excess <= drift:
            self._fastest[sender] = difference, now
        return max(0.0, excess + drift)
