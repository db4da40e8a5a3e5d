"""What a seed means: which programs there are, what each does and when, and what the network does wrong."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from .network import DAMAGE, DELAY, DOUBLE, LOSE

RIG, UNTAGGED, IBLUTIL, MATLAB = 'rig', 'untagged rig', 'iblutil', 'matlab'
NAMES = 'ABCD'
_CASTS = (
    *[(RIG, RIG)] * 9,
    *[(RIG, RIG, RIG)] * 2,
    *[(RIG, IBLUTIL)] * 3,
    *[(RIG, MATLAB)] * 2,
    (RIG, UNTAGGED),
    (RIG, RIG, IBLUTIL, MATLAB),
    (RIG, IBLUTIL, IBLUTIL),
)
_DEEDS = (
    *['send'] * 12,
    *['raw'] * 2,  # confirmed, but bytes as they are, without a tag
    *['tell'] * 3,  # without waiting for the echo
    'notice',
    *['ping'] * 2,
    *['cancel'] * 3,
    *['restart'] * 2,
    'down',  # the program ends, and another is started later
    'unplug',
    'flood',  # frames from many strangers, which make the program forget its peers
)
_PLAIN_DEEDS = (*['send'] * 6, *['tell'] * 2, *['notice'] * 2, 'restart', 'unplug')
_GAPS = (0.0, 0.0, 0.0, 0.0005, 0.002, 0.006, 0.02, 0.05, 0.15)
_TIMEOUTS = (0.03, 0.15, 0.5, 1.0, 1.0)
_SIZES = (490, 512, 530, 990, 1000)  # around what MATLAB reads, with and without a tag
_EVENTS = (1, 2, 4, 32)
_FAULTS = (*[LOSE] * 10, *[DOUBLE] * 4, *[DELAY] * 5, DAMAGE)
_LATENESS = (0.0, 0.0007, 0.005, 0.03, 0.15)
_FAULTY_PACKETS = 64  # those after them all arrive: the network becomes calm
_FORGETTING = 61.0  # seconds after which nothing is remembered

Deed = tuple[float, str, str, str, dict[str, Any]]


@dataclass(frozen=True)
class Schedule:
    """One course of events.

    Attributes
    ----------
    seed : int
        Where it comes from; it also gives the numbers with which the programs start.
    cast : tuple of str
        The kinds of the programs, which are called A, B, C, D.
    latency : float
        How long a packet takes, in seconds.
    deeds : tuple of (float, str, str, str, dict)
        When, who, does what, to whom, how.
    faults : dict of int to tuple
        What happens to the packet of each number.
    """

    seed: int
    cast: tuple[str, ...]
    latency: float
    deeds: tuple[Deed, ...]
    faults: dict[int, tuple[Any, ...]]


def make(seed: int) -> Schedule:
    """Make the schedule of a seed."""
    rng = Random(seed)
    random, pick = rng.random, rng.choice
    cast = pick(_CASTS)
    deeds: list[Deed] = []
    now = 0.0
    for n in range(2 + int(13 * random())):
        now += _FORGETTING if random() < 0.01 else pick(_GAPS)
        i = int(random() * len(cast))
        kind = cast[i]
        what = pick(_DEEDS if kind in (RIG, UNTAGGED) else _PLAIN_DEEDS)
        # Peers of the plain ones are rigs: what two plain ones do to each other is not ours.
        others = [NAMES[j] for j in range(len(cast)) if j != i and (kind == RIG or cast[j] == RIG)]
        how: dict[str, Any] = {}
        if what in ('send', 'raw', 'tell'):
            event = pick(_EVENTS)
            how['frame'] = _frame(event, f'{NAMES[i]}{n}', random, pick, unique=what == 'raw' or kind != RIG)
        if what in ('send', 'raw', 'ping'):
            how['timeout'] = pick(_TIMEOUTS)
        elif what in ('down', 'unplug'):
            how['seconds'] = pick((0.01, 0.06, 0.25))
            how['refusing'] = random() < 0.5
        elif what == 'cancel':
            how['back'] = int(3 * random())
        deeds.append((now, NAMES[i], what, pick(others), how))
    damage = len(cast) == 2 or random() < 0.5
    faults: dict[int, tuple[Any, ...]] = {}
    rate = pick((0.0, 0.04, 0.15, 0.3))
    if rate:
        for number in range(_FAULTY_PACKETS):
            if random() < rate:
                fault = pick(_FAULTS)
                if fault == LOSE or (fault == DAMAGE and not damage):
                    faults[number] = (LOSE,)
                elif fault == DAMAGE:
                    faults[number] = (DAMAGE, int(64 * random()), pick((b'#', b'9', b'\xff', b']', b'A')))
                else:
                    faults[number] = (fault, pick(_LATENESS))
    # The guard against storms counts over a second: on slower links it would take minutes, or never end them.
    quick = any(kind != RIG for kind in cast) or any(what == 'raw' for _, _, what, _, _ in deeds)
    quick = quick or any(fault[0] == DAMAGE for fault in faults.values())
    return Schedule(seed, cast, pick((0.0001, 0.001, 0.004) if quick else (0.0001, 0.001, 0.015)), tuple(deeds), faults)


def _frame(event: int, text: str, random: Any, pick: Any, unique: bool) -> bytes:
    """Write a message; one with a question mark is answered by who gets it."""
    chance = random()
    if chance < 0.25 and not unique:
        return b'[%d, null]' % event  # the same bytes again and again
    if chance > 0.85:
        return b'[%d, "%s"]' % (event, text.encode().ljust(pick(_SIZES) - 7, b'.'))
    return b'[%d, "%s%s"]' % (event, text.encode(), b'?' if chance < 0.4 else b'')
