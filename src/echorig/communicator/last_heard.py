"""`describe_silence`: what is known of a peer that did not echo or answer in time."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from ..delivery.statistics import PeerStatistics

__all__ = ['describe_silence', 'statistics_of']

_RECENT = 2.0  # seconds; a peer that was heard within this time is there
_SEE = 'see docs/troubleshooting'


def statistics_of(rig: object) -> PeerStatistics | None:
    """Return what a client knows of its server; None if it has never sent to it, or is no communicator."""
    peers: Any = getattr(rig, 'peers', None)
    found = list(peers.values()) if isinstance(peers, Mapping) else []
    return found[-1] if found else None


def describe_silence(peer: PeerStatistics | None, event: str, started: float, is_stream: bool) -> str:
    """Say when a peer was heard since the time `started` of a message, and what may be the reason."""
    if peer is None or peer.last_seen is None:
        if is_stream:
            return f'connected, but never heard from it: blocked, or no program of echorig or iblutil; {_SEE}'
        return f'never heard from it: off, wrong address, or firewall; {_SEE}'
    age = monotonic() - peer.last_seen
    if peer.last_seen < started or age > _RECENT:
        return f'was last heard {age:.1f} s ago: off, cut off, or blocked; {_SEE}'
    alive = 'answers pings' if peer.kind == 'echorig' else f'was heard {age:.1f} s ago'
    return f'{alive}, but its program has not answered {event}: busy or blocked'
