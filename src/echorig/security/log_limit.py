"""`LogLimit`: warnings that a peer can cause, and cannot cause without end.

1. In each interval the first few are written, and all others are summed up in one line at its end: how many they were,
   and from how many addresses. A flood of 100,000 datagrams a second writes as little as a slow one.
2. `OncePerPeer` lets through what is worth saying once of a peer, and of a bounded number of peers.
3. Nothing here counts for the statistics of a peer; those count everything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any

from .safe_log import SafeLog

__all__ = ['LogLimit', 'OncePerPeer']

_MAX_PEERS = 1024  # that something has been said of; then the first of them may be told of it again
_MAX_ADDRESSES = 4096  # that are told apart in an interval; a flood must not fill the memory by being counted


class LogLimit:
    """Decides whether something is logged.

    Parameters
    ----------
    logger : SafeLog
        Where the sums are written, as warnings.
    burst : int
        How many of a kind are written in each interval.
    interval : float
        How long an interval is, in seconds.
    call_later : callable, optional
        As that of an event loop: has the sum written in time. Otherwise it is written when the next of a kind comes.

    Attributes
    ----------
    left_out : int
        How many were not written so far.
    """

    def __init__(
        self,
        logger: SafeLog,
        burst: int,
        interval: float,
        call_later: Callable[..., Any] | None = None,
    ) -> None:
        self.left_out = 0
        self._logger = logger
        self._burst, self._interval = burst, interval
        self._call_later = call_later
        self._kinds: dict[str, _Interval] = {}
        self._timer: Any = None

    def allows(self, kind: str, addr: Any = None, times: int = 1) -> bool:
        """Tell whether something may be logged now, and count it if not.

        Parameters
        ----------
        kind : str
            What it is, one of a few constants, as the sum says it: "… and 12 more *kind* from 3 addresses".
        addr : hashable, optional
            Who has caused it.
        times : int
            By how much the burst of this kind is longer.

        Returns
        -------
        bool
            Whether it may.
        """
        now = monotonic()
        current = self._kinds.get(kind)
        if current is None or now - current.begun >= self._interval:
            if current is not None:
                self._sum_up(kind, current, now)
            current = self._kinds[kind] = _Interval(now)
        if current.written < self._burst * times:
            current.written += 1
            return True
        self.left_out += 1
        current.left_out += 1
        if len(current.addresses) < _MAX_ADDRESSES:
            current.addresses.add(hash(addr))
        if self._timer is None and self._call_later is not None:
            self._timer = self._call_later(self._interval, self._tick)
        return False

    def close(self) -> None:
        """Write what there is to be summed up."""
        if self._timer is not None:
            self._timer.cancel()
        self._tick()

    def _tick(self) -> None:
        self._timer = None
        now = monotonic()
        for kind, current in self._kinds.items():
            self._sum_up(kind, current, now)
        self._kinds.clear()

    def _sum_up(self, kind: str, current: _Interval, now: float) -> None:
        if current.left_out:
            many = len(current.addresses)
            self._logger.warning(
                '… and %d more %s from %s in the last %.0f s (Tuning.log_burst)',
                current.left_out,
                kind,
                f'{many} address{"es" * (many != 1)}' if many < _MAX_ADDRESSES else f'at least {many} addresses',
                now - current.begun,
            )


class OncePerPeer:
    """Decides whether something is logged that is to be said once of each peer."""

    def __init__(self) -> None:
        self._said: OrderedDict[Any, None] = OrderedDict()

    def allows(self, kind: str, addr: Any) -> bool:
        """Tell whether this is to be said of a peer, and take note that it has been.

        Parameters
        ----------
        kind : str
            What is to be said, one of a few constants.
        addr : hashable
            Of whom.

        Returns
        -------
        bool
            Whether it has not been said, as far as is remembered.
        """
        if (kind, addr) in self._said:
            return False
        self._said[kind, addr] = None
        if len(self._said) > _MAX_PEERS:
            self._said.popitem(last=False)
        return True


class _Interval:
    __slots__ = ('addresses', 'begun', 'left_out', 'written')

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.written = self.left_out = 0
        self.addresses: set[int] = set()
