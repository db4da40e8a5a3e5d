"""The steps with a rig that answers: key, kind, echo, size of datagrams, round trips."""

from __future__ import annotations

from collections.abc import AsyncIterator

from .echo import check_echo, foreign_finding
from .finding import Finding
from .limits import Limits
from .prober import Prober, Reply
from .replies import Kind
from .size import check_size
from .timing import check_round_trips

__all__ = ['check_quality', 'no_key']

_PINGS = 100
_PINGS_OF_LEGACY = 10  # a MATLAB rig answers each with an error message


async def check_quality(prober: Prober, first: Reply, limits: Limits, n: int = _PINGS) -> AsyncIterator[Finding]:
    """Yield the findings about a rig; `first` is its reply to the first ping."""
    host, port = prober.channel.addr
    if first.kind in (Kind.FOREIGN, Kind.NOTICE):
        yield foreign_finding(first.frame, host, port)
        return
    findings, cut = await check_echo(prober, first, limits)
    for finding in findings:
        yield finding
    if not prober.channel.is_stream and cut is None and first.is_echo:
        yield await check_size(prober, first.round_trip or 0.0, limits)
    if first.is_echo:
        is_echorig = first.kind is Kind.ACKNOWLEDGED
        yield await check_round_trips(prober, n if is_echorig else min(n, _PINGS_OF_LEGACY), limits)


def no_key() -> Finding:
    """Return the finding about a rig that answers without the signature that was asked for."""
    return Finding(
        'key',
        False,
        'the rig answers without a signature: it has no key',
        'give the program of the rig the same key (key=, --key-file), or leave out --key-file here',
        {'fault': 'rig has no key'},
    )
