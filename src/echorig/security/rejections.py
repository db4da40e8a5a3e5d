"""`Rejections`: what a communicator has refused to listen to, counted for each host and logged once.

1. What anybody on the network can cause is never logged without a bound.
2. The table has a bound: hosts beyond it are counted together under ``*``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .safe_log import SafeLog

__all__ = ['CUT', 'HANDSHAKE', 'NOT_ALLOWED', 'OTHERS', 'REPLAYED', 'UNSIGNED', 'Rejected', 'Rejections']

NOT_ALLOWED, UNSIGNED, REPLAYED, HANDSHAKE, CUT = range(5)
"""int: The reasons, which are the places of the fields of `Rejected`."""

OTHERS = '*'
"""str: Stands for all hosts beyond those that are counted one by one."""


@dataclass(frozen=True)
class Rejected:
    """What came from one host, or under its address, and was refused."""

    not_allowed: int = 0
    """int: Datagrams and connections of a host that is not in ``allow=``."""
    unsigned: int = 0
    """int: Frames without a signature, or with a wrong one, where ``key=`` asks for one."""
    replayed: int = 0
    """int: Frames with a good signature that were sent before."""
    handshakes: int = 0
    """int: Connections to a ``wss://`` server that did not become TLS connections."""
    cut: int = 0
    """int: Connections that were closed because they took too much room or time."""


class Rejections:
    """The counters of one communicator.

    Parameters
    ----------
    logger : SafeLog
        Where each host is mentioned once for each reason.
    limit : int
        How many hosts are counted one by one.
    """

    def __init__(self, logger: SafeLog, limit: int = 256) -> None:
        self._logger = logger
        self._limit = limit
        self._counts: dict[str, list[int]] = {}

    def note(self, host: str, reason: int, message: str, *args: Any) -> None:
        """Count something that was refused, and log it if it is the first of its kind from that host.

        Parameters
        ----------
        host : str
            Where it came from.
        reason : int
            ``NOT_ALLOWED``, ``UNSIGNED``, ``REPLAYED``, ``HANDSHAKE`` or ``CUT``.
        message : str
            What to log, with places for `args` as in ``%``-formatting.
        args
            What stands in those places.
        """
        counts = self._counts.get(host)
        if counts is None:
            if len(self._counts) >= self._limit:
                self._note_other(reason)
                return
            counts = self._counts[host] = [0] * len(Rejected.__dataclass_fields__)
        counts[reason] += 1
        if counts[reason] == 1:
            self._logger.warning(message + '; more from there is only counted', *args)

    def _note_other(self, reason: int) -> None:
        counts = self._counts.get(OTHERS)
        if counts is None:
            counts = self._counts[OTHERS] = [0] * len(Rejected.__dataclass_fields__)
            self._logger.warning(
                'Something was refused from more than %d hosts; what comes from others is only counted', self._limit
            )
        counts[reason] += 1

    def snapshot(self) -> dict[str, Rejected]:
        """Return the counters by host."""
        return {host: Rejected(*counts) for host, counts in self._counts.items()}
