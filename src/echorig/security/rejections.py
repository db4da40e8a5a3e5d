"""`Rejections`: counts refused traffic by host, and logs each host once for each reason.

The table is bounded: hosts beyond its size are counted together as ``*``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .safe_log import SafeLog

__all__ = [
    'CONNECTION_CLOSED',
    'HANDSHAKE',
    'NOT_ALLOWED',
    'OVERFLOW_KEY',
    'REPLAYED',
    'UNSIGNED',
    'Rejected',
    'Rejections',
]

NOT_ALLOWED, UNSIGNED, REPLAYED, HANDSHAKE, CONNECTION_CLOSED = range(5)
"""int: The reasons, in the order of the fields of `Rejected`."""

OVERFLOW_KEY = '*'
"""str: Stands for all hosts that are not counted one by one."""


@dataclass(frozen=True)
class Rejected:
    """Rejected traffic of one source address, which may be forged."""

    not_allowed: int = 0
    """int: Datagrams and connections of a host that is not in ``allow=``."""
    unsigned: int = 0
    """int: Frames without a valid signature, where ``key=`` requires one."""
    replayed: int = 0
    """int: Frames with a valid signature that were received before."""
    handshakes: int = 0
    """int: Failed TLS handshakes of connections to a ``tls://`` server."""
    cut: int = 0
    """int: Connections that were closed because they exceeded a limit."""


class Rejections:
    """The counters of one communicator; `limit` hosts are counted one by one."""

    def __init__(self, logger: SafeLog, limit: int = 256) -> None:
        self._logger = logger
        self._limit = limit
        self._counts: dict[str, list[int]] = {}

    def count(self, host: str, reason: int, message: str, *args: Any) -> None:
        """Count rejected traffic; log `message` with `args` if it is the first of its kind from the host."""
        is_overflow = host not in self._counts and len(self._counts) >= self._limit
        key = OVERFLOW_KEY if is_overflow else host
        is_new = key not in self._counts
        counts = self._counts.setdefault(key, [0] * len(Rejected.__dataclass_fields__))
        counts[reason] += 1
        if is_overflow:
            if is_new:
                self._logger.warning('More than %d hosts were rejected; further hosts are only counted', self._limit)
        elif counts[reason] == 1:
            more = '; further events from this host are counted in `communicator.rejected` and not logged'
            self._logger.warning(message + more, *args)

    def snapshot(self) -> dict[str, Rejected]:
        """Return the counters by host."""
        return {host: Rejected(*counts) for host, counts in self._counts.items()}
