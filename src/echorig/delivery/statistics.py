"""What is known of each peer: a view of the counters that the exchange keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..uri import Address, as_address
from ._exchange import Exchange

__all__ = ['PeerStatistics', 'Peers']


@dataclass(frozen=True)
class PeerStatistics:
    """What is known of one peer, at the time of asking.

    Times are in seconds; messages are counted since the peer was first met.
    """

    kind: str
    """str: ``echorig``, ``legacy`` for iblutil or MATLAB, ``unknown`` before its first echo."""
    sent: int
    """int: Messages to it, confirmed sends and others."""
    confirmed: int
    """int: Sends that it echoed."""
    failed: int
    """int: Sends that timed out, mismatched, or were refused or cancelled."""
    retransmitted: int
    """int: How often a message was sent again."""
    duplicates: int
    """int: Messages from it that came again, and were confirmed again but not delivered again."""
    strays: int
    """int: Echoes from it that nobody waited for any more."""
    malformed: int
    """int: Frames from it that were no message."""
    srtt: float | None
    """float or None: The smoothed round-trip time (RFC 6298), in seconds."""
    min_rtt: float | None
    """float or None: The shortest round-trip time, in seconds."""
    last_seen: float | None
    """float or None: When it was last heard from, on the clock of `time.monotonic`, in seconds."""
    restarts: int
    """int: How often another program has taken its place, because it was started again. It shows with the first
    message from there, and with the echo of a ping; always 0 for a legacy peer."""
    damaged: int
    """int: Frames from it that were changed on their way, and treated as lost."""
    expired: int
    """int: Messages from it that this program read only when their sender had given them up. They are neither confirmed
    nor delivered."""


class Peers(Mapping[Address, PeerStatistics]):
    """The peers of a communicator, by their (host, port); a live view, whose values are snapshots.

    A peer whose address has changed is listed once, with its new address; it is found by its former one too.

    Parameters
    ----------
    exchange : Exchange
        Where the counters are.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __getitem__(self, addr: Address) -> PeerStatistics:
        values = self._exchange.statistics(as_address(addr))
        if values is None:
            raise KeyError(addr)
        return PeerStatistics(*values)

    def __iter__(self) -> Iterator[Address]:
        return iter(self._exchange.addresses())

    def __len__(self) -> int:
        return self._exchange.n_peers

    @property
    def forgotten(self) -> int:
        """int: How many peers were forgotten to make room for others, see `Tuning.max_peers`."""
        return self._exchange.n_forgotten

    @property
    def turned_away(self) -> int:
        """int: How many frames of strangers were ignored because there was no room for another peer."""
        return self._exchange.n_turned_away

    @property
    def malformed(self) -> int:
        """int: How many frames were no message, also those of peers that have been forgotten."""
        return self._exchange.n_malformed

    @property
    def damaged(self) -> int:
        """int: How many frames were changed on their way, also those from addresses that are no peers."""
        return self._exchange.n_damaged

    @property
    def expired(self) -> int:
        """int: How many messages were read too late, also those of peers that have been forgotten."""
        return self._exchange.n_expired
