"""`RigWatcher`: watches one rig in the background.

1. A rig that runs echorig is pinged: no ping harms it, and no message waits for one. The run in its reply says exactly
   whether its program is another than before.
2. A legacy rig is sent nothing. MATLAB answers a ping with a notice, and then takes our next echo for a message.
   iblutil takes any frame that arrives while it waits for an echo for a wrong echo. Such a rig is online when it was
   last heard, and offline when a message to it has failed. Over TCP its connection decides.
3. A rig not yet known is pinged over UDP. The exchange sends no ping behind a message that it may not have read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Protocol

from ..communicator import EchoProtocol, PeerStatistics
from ..communicator.failure import Failure
from ..errors import ConnectionClosedError, EchoTimeoutError
from ..events.notifier import ConnectionChange
from ..uri import SCHEMES

__all__ = ['Report', 'RigWatcher', 'statistics_of']

_JITTER = 0.1  # so that the pings of many rigs do not stay together
_STREAMS = frozenset(SCHEMES) - {'udp'}


class Report(Protocol):
    """Takes what a watcher finds out about its rig."""

    def online(self, name: str, round_trip: float | None) -> None:
        """Note that a rig is there, with its last round-trip time in seconds."""

    def offline(self, name: str, error: Exception) -> None:
        """Note that a rig is not there, and why."""

    def restarted(self, name: str) -> None:
        """Note that the program of a rig is another than before."""

    def is_online(self, name: str) -> bool:
        """Tell whether a rig is known to be there."""


def statistics_of(rig: Any) -> PeerStatistics | None:
    """Return the statistics of the peer of a client; None where there are none."""
    peers = getattr(rig, 'peers', None)
    return next(iter(peers.values()), None) if isinstance(peers, Mapping) else None


def _seen_since(statistics: PeerStatistics | None, time: float) -> bool:
    return statistics is not None and (statistics.last_seen or -inf) >= time


class RigWatcher:
    """Watches one rig.

    Parameters
    ----------
    name : str
        Its name.
    rig : Service
        The client that is connected to it.
    report : Report
        Takes what is found out.
    interval : float
        How long after each ping the next follows, in seconds, give or take a tenth.
    timeout : float
        How long the rig has for its echo, in seconds.
    """

    def __init__(self, name: str, rig: Any, report: Report, interval: float, timeout: float) -> None:
        self._name, self._rig, self._report = name, rig, report
        self._interval, self._timeout = interval, timeout
        self._wake = asyncio.Event()
        self._was_echorig = False  # when last known: it is unknown again after a new connection, or long silence
        self._gone_at = -inf
        self._ended = False  # the legacy program at the other end of a connection has closed it
        statistics = statistics_of(rig)
        self._restarts = 0 if statistics is None else statistics.restarts
        if isinstance(rig, EchoProtocol):
            with suppress(ConnectionClosedError):
                rig.assign_connection_callback(self._on_connection)
        self.task = asyncio.ensure_future(self._run())

    def close(self) -> None:
        """Cease to watch; `task` ends soon."""
        self.task.cancel()
        if isinstance(self._rig, EchoProtocol):
            self._rig.clear_connection_callbacks(self._on_connection)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            await self._look()
            if (statistics := statistics_of(self._rig)) is not None:
                before, self._restarts = self._restarts, statistics.restarts
                if self._restarts > before:
                    self._report.restarted(self._name)
            timer = loop.call_later(self._interval * random.uniform(1 - _JITTER, 1 + _JITTER), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def _look(self) -> None:
        """Find out whether the rig is there; ping it for that, if that cannot harm it."""
        statistics = statistics_of(self._rig)
        kind = 'unknown' if statistics is None else statistics.kind
        if kind != 'unknown':
            self._was_echorig = kind == 'echorig'
        if self._was_echorig:
            await self._ping()
        elif self._rig.protocol in _STREAMS:
            self._look_at_connection(statistics)
        elif kind == 'legacy' or self._is_asked():
            self._look_at_messages(statistics)
        else:
            await self._ping()

    def _is_asked(self) -> bool:
        """Tell whether a message to the rig is on its way."""
        return self._rig.awaiting_response() is True

    async def _ping(self) -> None:
        begun = monotonic()
        try:
            round_trip = await self._rig.ping(timeout=self._timeout)
        except Exception as ex:
            statistics = statistics_of(self._rig)
            if statistics is not None and _seen_since(statistics, begun):
                self._online(statistics.srtt)
            elif self._was_echorig or not self._is_asked():
                self._offline(ex)
        else:
            self._online(round_trip)

    def _look_at_messages(self, statistics: PeerStatistics | None) -> None:
        """Find out from the last message to the rig, and from when something came from it."""
        failure = getattr(self._rig, 'last_failure', None)
        if not isinstance(failure, Failure) or _seen_since(statistics, failure.began):
            failure = None
        if failure is not None and (failure.error is not None or failure.waited >= self._timeout):
            silence = EchoTimeoutError(f'{self._name} did not echo within {failure.waited:.3f} s')
            self._offline(failure.error or silence)
        elif statistics is not None and (statistics.last_seen or -inf) > self._gone_at:
            self._online(statistics.srtt)

    def _look_at_connection(self, statistics: PeerStatistics | None) -> None:
        if self._rig.is_connected:
            self._online(None if statistics is None else statistics.srtt)
        else:
            self._offline(ConnectionClosedError(f'{self._name} is not connected'))

    def _online(self, round_trip: float | None) -> None:
        self._report.online(self._name, round_trip)
        if self._ended:
            self._ended = False
            self._report.restarted(self._name)

    def _offline(self, error: Exception) -> None:
        self._gone_at = monotonic()
        self._report.offline(self._name, error)

    def _on_connection(self, change: ConnectionChange) -> None:
        if change.state == 'lost':
            # In order or with a reset, it was ended at the other end; otherwise it may have been the network.
            ended = change.error is None or isinstance(change.error, ConnectionResetError | BrokenPipeError)
            was_there = self._report.is_online(self._name)
            self._ended = self._ended or (ended and was_there and not self._was_echorig)
            self._offline(ConnectionClosedError(f'{self._name} closed its connection'))
        else:
            self._wake.set()
