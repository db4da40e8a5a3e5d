"""`RateLimitedLog`: limits how many warnings peers can cause.

In each interval the first few warnings of a kind are logged. The others are counted, and summarized in one line at the
end of the interval. So a flood of 100,000 datagrams a second logs as little as a slow one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from .safe_log import SafeLog

__all__ = ['RateLimitedLog']

_MAX_REMEMBERED = 1024  # (kind, peer) pairs of `should_log_once`
_MAX_ADDRESSES = 4096  # counted one by one in an interval, so that counting a flood does not fill the memory


@dataclass(slots=True)
class _Interval:
    """The warnings of one kind in one interval."""

    start: float
    logged: int = 0
    suppressed: int = 0
    addresses: set[int] = field(default_factory=set)


class RateLimitedLog:
    """Decides which warnings are logged: `burst` of each kind in an interval of `interval` seconds.

    `suppressed` counts the warnings that were not logged. Without `call_later`, that of an event loop, a summary is
    logged with the next warning of its kind.
    """

    def __init__(
        self, logger: SafeLog, burst: int, interval: float, call_later: Callable[..., Any] | None = None
    ) -> None:
        self.suppressed = 0
        self._logger = logger
        self._burst, self._interval = burst, interval
        self._call_later = call_later
        self._intervals: dict[str, _Interval] = {}
        self._timer: Any = None
        self._logged_once: OrderedDict[tuple[str, Hashable], None] = OrderedDict()

    def should_log(self, kind: str, addr: Hashable = None, factor: int = 1) -> bool:
        """Return whether a warning may be logged now; count it if not. `factor` multiplies the burst.

        `kind` is one of a few constants. It completes the summary: "… and 12 more *kind* from 3 addresses".
        """
        now = monotonic()
        current = self._intervals.get(kind)
        if current is None or now - current.start >= self._interval:
            if current is not None:
                self._log_summary(kind, current, now)
            current = self._intervals[kind] = _Interval(now)
        if current.logged < self._burst * factor:
            current.logged += 1
            return True
        self.suppressed += 1
        current.suppressed += 1
        if len(current.addresses) < _MAX_ADDRESSES:
            current.addresses.add(hash(addr))
        if self._timer is None and self._call_later is not None:
            self._timer = self._call_later(self._interval, self._flush_summary)
        return False

    def should_log_once(self, kind: str, addr: Hashable) -> bool:
        """Return whether a warning that is logged once for each peer may be logged now."""
        if (kind, addr) in self._logged_once:
            return False
        self._logged_once[kind, addr] = None
        if len(self._logged_once) > _MAX_REMEMBERED:
            self._logged_once.popitem(last=False)
        return self.should_log(kind, addr)

    def close(self) -> None:
        """Log the outstanding summaries."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush_summary()

    def _flush_summary(self) -> None:
        self._timer = None
        now = monotonic()
        for kind, current in self._intervals.items():
            self._log_summary(kind, current, now)
        self._intervals.clear()

    def _log_summary(self, kind: str, current: _Interval, now: float) -> None:
        if current.suppressed:
            n = len(current.addresses)
            self._logger.warning(
                '… and %d more %s from %s in the last %.0f s (Tuning.log_burst)',
                current.suppressed,
                kind,
                f'{n} address{"es" * (n != 1)}' if n < _MAX_ADDRESSES else f'at least {n} addresses',
                now - current.start,
            )
