"""The largest datagram that passes in both directions."""

from __future__ import annotations

from time import monotonic

from ..transports.udp import max_size
from .finding import Finding
from .limits import Limits
from .prober import Prober
from .replies import USUAL

__all__ = ['check_size']

_STEPS = (548, 1_232, 1_472, 8_972)  # bytes: what packets of 576, 1,280 (IPv6), 1,500 and 9,000 bytes carry
_PRECISION = 16  # bytes
_TRIES = 3
_WAIT = 0.2  # seconds for each try
_LONGEST = 6.0  # seconds for the search


async def check_size(prober: Prober, round_trip: float, limits: Limits) -> Finding:
    """Search the largest datagram by pings of different sizes."""
    host = prober.channel.addr[0]
    most = max_size(host)
    end = monotonic() + min(_LONGEST, limits.left)
    wait = min(max(_WAIT, 4 * round_trip), limits.timeout)
    n = 0

    async def passes(size: int) -> bool:
        nonlocal n
        n += 1
        return (await prober.ping(wait, size, _TRIES)).is_echo

    if await passes(most):
        return _finding(most, most, n)
    low, high = USUAL, most
    for size in _STEPS:
        if monotonic() > end:
            break
        if not await passes(size):
            high = size
            break
        low = size
    # Most limits are those of one of these packets, so that the search is short.
    if high - low > _PRECISION and not await passes(low + _PRECISION):
        high = low + _PRECISION
    while high - low > _PRECISION and monotonic() < end:
        middle = (low + high) // 2
        low, high = (middle, high) if await passes(middle) else (low, middle)
    return _finding(low, most, n)


def _finding(largest: int, most: int, n: int) -> Finding:
    facts: dict[str, object] = {'largest': largest, 'pings': n}
    if largest == most:
        return Finding('size', True, f'datagrams of up to {largest:,} bytes pass', facts=facts)
    text = f'datagrams of more than about {largest:,} bytes are lost: longer ones are split, and the fragments dropped'
    advice = (
        'a firewall, VPN or router on the way drops fragments: let it pass them, set the MTU of both network cards to '
        f'the same value, keep messages below {largest:,} bytes, or use tcp://'
    )
    return Finding('size', False, text, advice, facts | {'fault': 'fragments'})
