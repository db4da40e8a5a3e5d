"""What a seed means: which programs there are, what each does and when, and what the network does wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from .network import DAMAGE, DELAY, DOUBLE, LOSE

RIG, UNTAGGED, IBLUTIL, MATLAB = 'rig', 'untagged rig', 'iblutil', 'matlab'
NAMES = 'ABCD'
_CASTS = (
    *[(RIG, RIG)] * 9,
    *[(RIG, RIG, RIG)] * 3,
    *[(RIG, IBLUTIL)] * 3,
    *[(RIG, MATLAB)] * 4,
    (RIG, UNTAGGED),
    (RIG, RIG, IBLUTIL, MATLAB),
    (RIG, IBLUTIL, IBLUTIL),
)
_DEEDS = (
    *['send'] * 14,
    *['raw'] * 2,  # confirmed, but bytes as they are, without a tag
    *['tell'] * 4,  # without waiting for the echo
    'burst',  # many of them
    'series',  # many confirmed ones, one after the other
    'notice',
    *['ping'] * 2,
    *['cancel'] * 3,
    *['restart'] * 2,
    'down',  # the program ends, and another is started later
    'unplug',
    'lose',  # the next packets that it sends are lost
    *['stop'] * 2,  # the program stands still, and its socket fills
    *['move'] * 2,  # it gets another address
    'flood',  # frames from many strangers, which make the program forget its peers
)
_PLAIN_DEEDS = (*['send'] * 6, *['tell'] * 2, *['notice'] * 2, *['stop'] * 3, 'restart', 'unplug')
_GAPS = (0.0, 0.0, 0.0, 0.0005, 0.002, 0.006, 0.02, 0.05, 0.15, 0.4)
_LONG_GAPS = (2.0, 61.0, 700.0, 20000.0)
_TIMEOUTS = (0.03, 0.15, 0.5, 1.0, 1.0, 4.0)
_SIZES = (390, 512, 530, 860, 1000)  # around what MATLAB reads, with and without a tag
_EVENTS = (1, 2, 4, 32)
_FAULTS = (*[LOSE] * 10, *[DOUBLE] * 5, *[DELAY] * 5, DAMAGE)
_LATENESS = (0.0, 0.0007, 0.005, 0.03, 0.15)
_LONG_LATENESS = (0.6, 3.0, 65.0, 900.0, 30000.0)
_ABSENCES = (0.01, 0.06, 0.25, 0.25)
_LONG_ABSENCES = (1.5, 9.0, 70.0, 5000.0)
_FAULTY_PACKETS = 64  # those after them all arrive: the network becomes calm
_WORK = (0.0, 0.0, 0.002, 0.05, 0.4, 2.0)  # how long a legacy peer is busy with a message, in seconds
_MANY = (3, 8, 40, 70)
_VERY_MANY = (1100, 2200)
_DOUBTS = 0.02  # of all schedules ask for a message that may have lain in a socket for too long
_HEAVY = 0.004  # of all schedules have so many messages

Deed = tuple[float, str, str, str, dict[str, Any]]


@dataclass(frozen=True)
class Schedule:
    """One course of events.

    Attributes
    ----------
    seed : int
        Where it comes from; it also gives the runs of the programs.
    cast : tuple of str
        The kinds of the programs, which are called A, B, C, D.
    latency : float
        How long a packet takes, in seconds.
    deeds : tuple of (float, str, str, str, dict)
        When, who, does what, to whom, how.
    faults : dict of int to tuple
        What happens to the packet of each number.
    first : int
        The first number of each program that has tags.
    aliases : bool
        Whether each rig has a second address from the beginning.
    work : float
        How long a legacy peer is busy with each message, in seconds.
    stamps : bool
        Whether the rigs know for how long a datagram lay in their sockets.
    """

    seed: int
    cast: tuple[str, ...]
    latency: float
    deeds: tuple[Deed, ...]
    faults: dict[int, tuple[Any, ...]]
    first: int = 1
    aliases: bool = False
    work: float = 0.0
    stamps: bool = True


def make(seed: int, heavy: bool = False) -> Schedule:
    """Make the schedule of a seed; one with thousands of messages, if that is asked for."""
    rng = Random(seed)
    random, pick = rng.random, partial(_pick, rng.getrandbits)
    cast = pick(_CASTS)
    heavy = random() < _HEAVY or heavy
    long = random() < 0.3
    deeds: list[Deed] = []
    now = 0.0
    for n in range(2 + int(13 * random())):
        now += pick(_LONG_GAPS) if long and random() < 0.2 else pick(_GAPS)
        i = int(random() * len(cast))
        kind = cast[i]
        what = pick(_DEEDS if kind in (RIG, UNTAGGED) else _PLAIN_DEEDS)
        # Peers of the legacy ones are rigs: what two legacy ones do to each other is not ours.
        others = [NAMES[j] for j in range(len(cast)) if j != i and (kind == RIG or cast[j] == RIG)]
        how: dict[str, Any] = {}
        if what in ('send', 'raw', 'tell'):
            event = pick(_EVENTS)
            how['frame'] = _frame(event, f'{NAMES[i]}{n}', random, pick, unique=what == 'raw' or kind != RIG)
        elif what in ('burst', 'series'):
            how['text'] = f'{NAMES[i]}{n}'.encode()
            how['number'] = pick(_VERY_MANY) if heavy else pick(_MANY)
        if what in ('send', 'raw', 'ping', 'series'):
            how['timeout'] = pick(_TIMEOUTS)
        elif what in ('down', 'unplug', 'stop'):
            how['seconds'] = (
                pick(_LONG_ABSENCES) if random() < (0.3 if long or kind != RIG else 0.05) else pick(_ABSENCES)
            )
            how['refusing'] = random() < 0.5
            if what == 'stop' and random() < 0.3:
                how['again'] = pick((0.0002, 0.003, 0.01))  # it goes on for so long, and stands still again
        elif what == 'cancel':
            how['back'] = int(3 * random())
        elif what == 'lose':
            how['packets'] = 1 + int(3 * random())
        elif what == 'move':
            how['taken'] = random() < 0.3  # another rig gets its old address
        how['to'] = int(2 * random())  # the first or another address of the peer
        deeds.append((now, NAMES[i], what, pick(others), how))
    doubts = random() < _DOUBTS
    if heavy:
        deeds += _much(deeds, pick)
    if doubts:
        deeds += _unverified(deeds, pick)
    if heavy or doubts:
        deeds.sort(key=lambda deed: deed[0])
    aliases = random() < 0.15
    moves = aliases or any(deed[2] == 'move' for deed in deeds)
    return Schedule(
        seed,
        cast,
        _latency(cast, deeds, pick),
        tuple(deeds),
        _faults(cast, heavy, long, random, pick),
        1 if moves else pick((1, 1, 1, 2**32 - 1, 2**32 - 4, 2**32 - 30)),
        aliases,
        pick(_WORK),
        random() < 0.75 and not doubts,
    )


def _pick(getrandbits: Callable[[int], int], values: Sequence[Any]) -> Any:
    """Do what `Random.choice` does, which takes twice as long."""
    number = len(values)
    bits = number.bit_length()
    while (i := getrandbits(bits)) >= number:
        pass
    return values[i]


def _much(deeds: list[Deed], pick: Any) -> list[Deed]:
    """Say something whose first copies are lost or late, and thousands of other things before it is confirmed."""
    now = pick(deeds)[0]
    what, number, whom = pick(('burst', 'burst', 'series')), pick(_VERY_MANY), NAMES[1]
    more: list[Deed] = [(now, 'A', 'send', whom, {'frame': b'[2, "first"]', 'timeout': 1.0, 'to': 0})]
    if what == 'burst':
        more.append((now + 0.1, 'A', 'lose', whom, {'packets': pick((0, 1, 2)), 'to': 0}))
        more.append((now + 0.1, 'A', 'send', whom, {'frame': b'[2, "one of many"]', 'timeout': 4.0, 'to': 0}))
        more.append((now + 0.1, 'B', 'lose', 'A', {'packets': pick((0, 0, 1)), 'to': 0}))
    more.append((now + 0.1, 'A', what, whom, {'text': b'many', 'number': number, 'timeout': 4.0, 'to': 0}))
    return more


def _unverified(deeds: list[Deed], pick: Any) -> list[Deed]:
    """Send something to a program that stands still, a little before it goes on, and perhaps stands still again."""
    now, seconds, timeout = pick(deeds)[0], pick((0.06, 0.25, 1.5)), pick((0.03, 0.15, 0.5, 1.0))
    first: dict[str, Any] = {'frame': b'[2, "first"]', 'timeout': 1.0, 'to': 0}
    still = {'seconds': seconds, 'refusing': False, 'again': pick((0.0002, 0.003, 0.01, 5.0)), 'to': 0}
    late = {'frame': b'[1, "late"]', 'timeout': timeout, 'to': 0}
    before = min(seconds, timeout) * pick((0.1, 0.5, 0.9))
    return [
        (now, 'A', 'send', 'B', first),
        (now + 0.1, 'B', 'stop', 'A', still),
        (now + 0.1 + seconds - before, 'A', 'send', 'B', late),
    ]


def _faults(cast: tuple[str, ...], heavy: bool, long: bool, random: Any, pick: Any) -> dict[int, tuple[Any, ...]]:
    damage = len(cast) == 2 or random() < 0.5
    faults: dict[int, tuple[Any, ...]] = {}
    rate = pick((0.0, 0.04, 0.15, 0.3))
    stride = pick((1, 10, 50)) if heavy else 1
    if rate:
        for number in range(_FAULTY_PACKETS):
            if random() < rate:
                fault = pick(_FAULTS)
                if fault == LOSE or (fault == DAMAGE and not damage):
                    value: tuple[Any, ...] = (LOSE,)
                elif fault == DAMAGE:
                    value = (DAMAGE, int(256 * random()), pick((b'#', b'9', b'\xff', b']', b'A', b' ', b'\t')))
                else:
                    value = (fault, pick(_LONG_LATENESS) if long and random() < 0.4 else pick(_LATENESS))
                faults[number * stride] = value
    return faults


def _latency(cast: tuple[str, ...], deeds: list[Deed], pick: Any) -> float:
    # The guard against storms counts over a second: on slower links it would take minutes, or never end them.
    quick = any(kind != RIG for kind in cast) or any(deed[2] == 'raw' for deed in deeds)
    latency: float = pick((0.0001, 0.001, 0.004) if quick else (0.0001, 0.001, 0.015))
    return latency


def _frame(event: int, text: str, random: Any, pick: Any, unique: bool) -> bytes:
    """Write a message; one with a question mark is answered by who gets it."""
    chance = random()
    if chance < 0.25 and not unique:
        return b'[%d, null]' % event  # the same bytes again and again
    if chance > 0.85:
        return b'[%d, "%s"]' % (event, text.encode().ljust(pick(_SIZES) - 7, b'.'))
    return b'[%d, "%s%s"]' % (event, text.encode(), b'?' if chance < 0.45 else b'')
