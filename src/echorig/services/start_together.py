"""`start_together`: sends EXPSTART so that the callbacks of all rigs run at one moment.

1. An echorig rig gets the message at once, with the moment on the clock of that rig, and runs its callbacks then. Its
   answer carries the time at which they ran.
2. Every other rig, and one whose clock is not known, is sent the message so that it arrives at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..aliases import Data
from ..checks import seconds, short
from ..communicator.direct_send import DirectSender
from ..communicator.outcomes import Timing, outcomes
from ..communicator.peer_clocks import PeerClock
from ..communicator.protocol import EchoProtocol
from ..communicator.scheduled import LONGEST_WAIT
from ..errors import EchoError
from ..messages import ExpMessage
from ..wall_clock import TIMER_ERROR, block_for, seconds_until, wall_time

__all__ = ['CallbackTime', 'StartAnswers', 'checked_at', 'start_together']

_LONGEST = LONGEST_WAIT / 2  # seconds; a rig whose clock is set meanwhile still accepts it
_PATIENCE = 0.25  # seconds for each ping: a silent rig must not delay the others
_OLDEST = 10.0  # seconds; an older measurement of a clock is repeated


@dataclass(frozen=True)
class CallbackTime:
    """When the callbacks of a rig ran."""

    time: float
    """float: In seconds since 1970 in UTC, on the clock of this computer."""
    error: float
    """float: The bound of the error of `time`, from comparing the two clocks, in seconds."""
    late: float
    """float: How long after the moment that was asked for, in seconds."""


class StartAnswers(dict[str, Data]):
    """The answers of the rigs to EXPSTART, by name.

    Parameters
    ----------
    answers : mapping of str to list
        The answers.
    times : mapping of str to CallbackTime
        When the callbacks of each rig ran.
    """

    def __init__(self, answers: Mapping[str, Data], times: Mapping[str, CallbackTime]) -> None:
        super().__init__(answers)
        self.times = dict(times)
        """dict of str to CallbackTime: When the callbacks of each rig ran; rigs that do not tell are missing."""


def checked_at(value: float) -> float:
    """Return in how many seconds to start, or raise `TypeError` or `ValueError`."""
    at = seconds(value, 'at')
    if at > _LONGEST:
        raise ValueError(f'at must be at most {_LONGEST:g} seconds, not {short(value)}')
    return at


async def start_together(
    rigs: Mapping[str, EchoProtocol], message: tuple[Any, ...], at: float, timeout: float | None
) -> tuple[dict[str, Any], dict[str, CallbackTime]]:
    """Start all rigs `at` seconds from now; return the answer or the exception of each, and the times.

    The time-out of the answers starts at the moment.
    """
    clocks = dict(zip(rigs, await asyncio.gather(*(_clock(rig) for rig in rigs.values())), strict=True))
    moment = wall_time() + round(at * 1e9)
    known = {name: clock for name, clock in clocks.items() if clock is not None}
    timing = Timing({name: moment + round(clock.offset * 1e9) for name, clock in known.items()})
    call: tuple[str, tuple[Any, ...], dict[str, Any]] = ('start', message, {})
    sends = [
        outcomes([rigs[name] for name in known], ExpMessage.EXPSTART, call, timeout and timeout + at, timing=timing)
    ]
    sends += [_send_at(rig, moment, call, timeout) for name, rig in rigs.items() if name not in known]
    found: dict[str, Any] = {}
    for part in await asyncio.gather(*sends):
        found |= part
    times = {}
    for name, ran in timing.ran.items():
        clock = rigs[name].clock() or known[name]
        on_our_clock = ran / 1e9 - clock.offset
        times[name] = CallbackTime(on_our_clock, clock.error, on_our_clock - moment / 1e9)
    return {name: found[name] for name in rigs}, times


async def _clock(rig: EchoProtocol) -> PeerClock | None:
    """Return the clock of an echorig rig, measured now unless that was done just before; None of any other rig."""
    if DirectSender.of(rig, 'start') is None:  # another class, or a method that a program has replaced
        return None
    if any(peer.kind == 'legacy' for peer in rig.peers.values()):
        return None
    clock = rig.clock()
    if clock is None or clock.age > _OLDEST:
        try:
            return await rig.measure_clock(timeout=_PATIENCE)
        except (EchoError, OSError):  # the message itself will tell
            return None
    return clock


async def _send_at(rig: EchoProtocol, moment: int, call: tuple[str, Any, Any], timeout: float | None) -> dict[str, Any]:
    """Send a rig the message so that it arrives at a moment."""
    peers = getattr(rig, 'peers', None)
    round_trips = [peer.srtt for peer in peers.values() if peer.srtt] if isinstance(peers, Mapping) else []
    moment -= round(max(round_trips, default=0.0) / 2 * 1e9)
    await asyncio.sleep(max(0.0, seconds_until(moment) - TIMER_ERROR))
    block_for(seconds_until(moment))
    return await outcomes([rig], ExpMessage.EXPSTART, call, timeout)
