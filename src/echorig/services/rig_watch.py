"""`RigWatcher`: watches one rig in the background.

1. An echorig rig is pinged: pings do it no harm, and no message waits for one. The run in its reply shows whether its
   program was restarted.
2. A legacy rig is sent nothing. MATLAB answers a ping with a notice, and then takes our next echo for a message.
   iblutil takes any frame that arrives while it waits for an echo for a wrong echo. Such a rig is online after a frame
   of it was received, and offline after a message to it has failed. Over TCP a new connection counts as a frame, and a
   lost connection as a failed message.
3. A rig not yet known is pinged over UDP. The exchange sends no ping behind a message that it may not have read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from typing import Literal

from ..communicator import EchoProtocol, PeerStatistics
from ..communicator.sender import Failure
from ..errors import ConnectionClosedError, EchoTimeoutError
from ..events.notifier import ConnectionEvent
from ..uri import DATAGRAM_SCHEMES, SCHEMES

__all__ = ['PresenceChange', 'RigPresence', 'RigWatcher']

_JITTER = 0.1  # so that the pings of many rigs spread out
_STREAMS = frozenset(SCHEMES).difference(DATAGRAM_SCHEMES)


@dataclass(frozen=True)
class RigPresence:
    """The state of one rig, at the time of asking."""

    state: Literal['unknown', 'online', 'offline'] = 'unknown'
    """str: ``unknown`` before the first sign of life, then ``online`` or ``offline``."""
    since: float = 0.0
    """float: Since when, on the clock of `time.monotonic`, in seconds."""
    round_trip: float | None = None
    """float or None: The last round-trip time while it is online, in seconds; of a legacy rig that of its messages."""
    last_heard: float | None = None
    """float or None: When a frame of it was last received, on the clock of `time.monotonic`, in seconds."""
    restarts: int = 0
    """int: How many restarts of its program were detected."""
    error: Exception | None = None
    """Exception or None: Why it is considered offline."""


@dataclass(frozen=True)
class PresenceChange:
    """A rig that came online, went offline or was restarted."""

    name: str
    """str: The rig."""
    state: Literal['online', 'offline', 'restarted']
    """str: ``online``, ``offline`` or ``restarted``; a rig that was restarted while offline is first ``online``."""
    presence: RigPresence
    """RigPresence: Its state now."""


class RigWatcher:
    """Watches one rig, from `start` to `close`.

    Each `interval`, plus or minus a tenth, it is pinged with a time-out of `timeout`, both in seconds. `notify` is
    called with each change.
    """

    def __init__(
        self, name: str, rig: EchoProtocol, interval: float, timeout: float, notify: Callable[[PresenceChange], None]
    ) -> None:
        self._name, self._rig, self._notify = name, rig, notify
        self._interval, self._timeout = interval, timeout
        self._presence = RigPresence(since=monotonic())
        self._wake = asyncio.Event()
        self._was_echorig = False  # when last known: it is unknown again after a new connection, or long silence
        self._offline_at = self._connected_at = -inf
        self._closed_by_rig = False  # a legacy rig has closed its connection
        self.task: asyncio.Task[None] | None = None

    @property
    def presence(self) -> RigPresence:
        """RigPresence: The state of the rig."""
        statistics = self._statistics()
        return replace(self._presence, last_heard=None if statistics is None else statistics.last_seen)

    def start(self) -> None:
        """Watch the rig from now on."""
        if isinstance(self._rig, EchoProtocol):
            with suppress(ConnectionClosedError):
                self._rig.assign_connection_callback(self._on_connection)
            failure = self._rig.last_failure
            if self._rig.protocol in _STREAMS and self._rig.is_connected and failure is None:
                self._connected_at = monotonic()
        self.task = asyncio.ensure_future(self._run())

    def close(self) -> None:
        """Stop watching; `task` ends soon."""
        if self.task is not None:
            self.task.cancel()
            if isinstance(self._rig, EchoProtocol):
                self._rig.clear_connection_callbacks(self._on_connection)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        statistics = self._statistics()
        restarts = 0 if statistics is None else statistics.restarts
        while True:
            self._wake.clear()
            await self._check()
            if (statistics := self._statistics()) is not None:
                before, restarts = restarts, statistics.restarts
                if restarts > before:
                    self._set_restarted()
            timer = loop.call_later(self._interval * random.uniform(1 - _JITTER, 1 + _JITTER), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def _check(self) -> None:
        """Update the state of the rig; ping it if that cannot do harm."""
        statistics = self._statistics()
        kind = 'unknown' if statistics is None else statistics.kind
        if kind != 'unknown':
            self._was_echorig = kind == 'echorig'
        if self._was_echorig:
            await self._ping()
        elif self._rig.protocol in _STREAMS and not self._rig.is_connected:
            self._set_offline(ConnectionClosedError(f'{self._name} is not connected'))
        elif self._rig.protocol in _STREAMS or kind == 'legacy' or self._is_sending():
            self._check_messages(statistics)
        else:
            await self._ping()

    def _statistics(self) -> PeerStatistics | None:
        peers = getattr(self._rig, 'peers', None)
        return next(iter(peers.values()), None) if isinstance(peers, Mapping) else None

    def _is_sending(self) -> bool:
        return self._rig.awaiting_response() is True

    async def _ping(self) -> None:
        started = monotonic()
        try:
            round_trip = await self._rig.ping(timeout=self._timeout)
        except Exception as ex:
            statistics = self._statistics()
            if statistics is not None and _last_seen(statistics) >= started:
                self._set_online(statistics.srtt)
            elif self._was_echorig or not self._is_sending():
                self._set_offline(ex)
        else:
            self._set_online(round_trip)

    def _check_messages(self, statistics: PeerStatistics | None) -> None:
        """Update the state from the last failed message to the rig, and from the last frame of it."""
        failure, seen = getattr(self._rig, 'last_failure', None), max(_last_seen(statistics), self._connected_at)
        if not isinstance(failure, Failure) or seen >= failure.started:
            failure = None
        if failure is not None and (failure.error is not None or failure.waited >= self._timeout):
            silence = EchoTimeoutError(f'{self._name} did not echo within {failure.waited:.3f} s')
            self._set_offline(failure.error or silence)
        elif seen > self._offline_at:
            self._set_online(None if statistics is None else statistics.srtt)

    def _on_connection(self, change: ConnectionEvent) -> None:
        if change.state == 'lost':
            # In order or with a reset, the rig has closed it; with any other error the network may have failed.
            by_rig = change.error is None or isinstance(change.error, ConnectionResetError | BrokenPipeError)
            if by_rig and self._presence.state == 'online' and not self._was_echorig:
                self._closed_by_rig = True
            why = '' if change.error is None else f': {change.error}'
            self._set_offline(ConnectionClosedError(f'{self._name} has no connection any more{why}'))
        else:
            self._connected_at = monotonic()
            self._wake.set()

    def _set_online(self, round_trip: float | None) -> None:
        self._set('online', round_trip, None)
        if self._closed_by_rig:
            self._closed_by_rig = False
            self._set_restarted()

    def _set_offline(self, error: Exception) -> None:
        self._offline_at = monotonic()
        self._set('offline', None, error)

    def _set_restarted(self) -> None:
        self._presence = replace(self._presence, restarts=self._presence.restarts + 1)
        self._notify(PresenceChange(self._name, 'restarted', self.presence))

    def _set(self, state: Literal['online', 'offline'], round_trip: float | None, error: Exception | None) -> None:
        before = self._presence
        since = before.since if before.state == state else monotonic()
        self._presence = replace(before, state=state, since=since, round_trip=round_trip, error=error)
        if before.state != state:
            self._notify(PresenceChange(self._name, state, self.presence))


def _last_seen(statistics: PeerStatistics | None) -> float:
    return -inf if statistics is None or statistics.last_seen is None else statistics.last_seen
