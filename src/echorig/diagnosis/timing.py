"""Round trips: how long they take, how much they differ, and how many pings are lost."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise
from statistics import median

from .finding import Finding
from .limits import Limits
from .prober import Prober

__all__ = ['check_round_trips', 'round_trip_finding']

_INTERVAL = 0.01  # seconds between two pings
_SLOW = 0.05  # seconds


async def check_round_trips(prober: Prober, n: int, limits: Limits) -> Finding:
    """Send pings one after the other and return what their round trips are."""
    trips, sent = [], 0
    while sent < n and limits.left > 0.1:
        sent += 1
        reply = await prober.ping(limits.wait())
        if reply.round_trip is not None:
            trips.append(reply.round_trip)
        elif reply.error is not None:
            break
        if sent - len(trips) > n // 10:  # the rest would take long, and change nothing
            break
        await asyncio.sleep(_INTERVAL)
    return round_trip_finding(trips, sent)


def round_trip_finding(in_order: list[float], sent: int) -> Finding:
    """Return the finding about some round trips, in seconds, of the pings that were sent."""
    jitter = sum(abs(b - a) for a, b in pairwise(in_order)) / max(len(in_order) - 1, 1)
    trips = sorted(in_order)
    lost = sent - len(trips)
    facts: dict[str, object] = {'sent': sent, 'lost': lost}
    if not sent:
        return Finding('round trip', None, 'no time was left to measure round trips', facts=facts)
    if not trips:
        return Finding('round trip', False, f'none of {sent} pings came back', 'is the rig still there?', facts)
    middle, p99 = median(trips), trips[math.ceil(0.99 * len(trips)) - 1]
    facts |= {'min': trips[0], 'median': middle, 'p99': p99, 'max': trips[-1], 'jitter': jitter}
    text = (
        f'round trip of {sent} pings: min {_ms(trips[0])}, median {_ms(middle)}, p99 {_ms(p99)}, max {_ms(trips[-1])}, '
        f'jitter {_ms(jitter)}'
    )
    if lost:
        advice = (
            'the network is bad, or the rig is busy: use a cable in place of Wi-Fi, look at the cable and the switch'
        )
        return Finding('round trip', False, f'{text}; {lost} lost', advice, facts | {'fault': 'loss'})
    if middle > _SLOW:
        advice = 'this is slow for a local network: is there Wi-Fi or a VPN on the way?'
        return Finding('round trip', None, f'{text}, none lost', advice, facts)
    return Finding('round trip', True, f'{text}, none lost', facts=facts)


def _ms(seconds: float) -> str:
    return f'{seconds * 1e3:.3g} ms'
