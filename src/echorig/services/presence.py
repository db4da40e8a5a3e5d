"""`Presence`: which rigs of a set are there, found out in the background.

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ..checks import seconds
from ..communicator import Peers, PeerStatistics
from ..communicator.failure import Failure
from ..errors import ConnectionClosedError, EchoTimeoutError
from ..events.notifier import Changes, ConnectionChange, ConnectionChanges
from ..events.stream import Stream
from ..security.safe_log import SafeLog
from ..uri import SCHEMES

if TYPE_CHECKING:
    from .fan_out import RigSet

__all__ = ['Presence', 'PresenceChange', 'RigPresence']

_JITTER = 0.1  # so that the pings of many rigs do not stay together
_STREAMS = frozenset(SCHEMES) - {'udp'}


def _statistics(rig: Any) -> PeerStatistics | None:
    peers = getattr(rig, 'peers', None)
    return next(iter(peers.values()), None) if isinstance(peers, Peers) else None


@dataclass(frozen=True)
class RigPresence:
    """What is known of one rig, at the time of asking."""

    state: Literal['unknown', 'online', 'offline'] = 'unknown'
    """str: ``unknown`` before the first sign of life, then ``online`` or ``offline``."""
    since: float = 0.0
    """float: Since when, on the clock of `time.monotonic`, in seconds."""
    round_trip: float | None = None
    """float or None: The last round-trip time while it is online, in seconds; of a legacy rig that of its messages."""
    last_heard: float | None = None
    """float or None: When something last came from it, on the clock of `time.monotonic`, in seconds."""
    restarts: int = 0
    """int: How often its program was found to have begun anew."""
    error: Exception | None = None
    """Exception or None: Why it is taken for offline."""


@dataclass(frozen=True)
class PresenceChange:
    """A rig that has come, gone or begun anew."""

    name: str
    """str: The rig."""
    state: Literal['online', 'offline', 'restarted']
    """str: ``online``, ``offline`` or ``restarted``; a rig that comes back and was restarted is first ``online``."""
    presence: RigPresence
    """RigPresence: What is known of it now."""


class Presence(Mapping[str, RigPresence]):
    """Which rigs of a set are there; made by :meth:`Services.watch`, and at work during ``async with``.

    A mapping of the names of the rigs to what is known of them.

    Parameters
    ----------
    rigs : Services
        The set.
    interval : float
        How long after each ping the next follows, in seconds, give or take a tenth.
    timeout : float
        How long a rig has for its echo, in seconds.
    limit : int
        How many changes may wait in a stream.

    Raises
    ------
    TypeError, ValueError
        A time is not a positive number.
    """

    def __init__(self, rigs: RigSet, interval: float, timeout: float, limit: int) -> None:
        self._set = rigs
        self._interval, self._timeout = seconds(interval, 'interval', endless=False), seconds(timeout, 'timeout')
        self._rigs = {name: RigPresence(since=monotonic()) for name in rigs}
        self._changes: Changes[PresenceChange] = Changes('changes', limit, SafeLog(rigs.logger))
        self._looks: dict[str, _Look] = {}

    def __getitem__(self, name: str) -> RigPresence:
        statistics = _statistics(self._set[name])
        return replace(self._rigs[name], last_heard=None if statistics is None else statistics.last_seen)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rigs)

    def __len__(self) -> int:
        return len(self._rigs)

    def __repr__(self) -> str:
        return f'<Presence { ({name: rig.state for name, rig in self.items()}) }>'

    # --- being told ---

    def assign_callback(self, callback: Callable[[PresenceChange], Any]) -> None:
        """Register a function to be told of each change.

        Parameters
        ----------
        callback : callable
            Called as ``callback(change)``, with a :class:`PresenceChange`; a coroutine function runs as a task.

        Raises
        ------
        TypeError
            `callback` is not callable.
        """
        self._changes.add(callback)

    def clear_callbacks(self, callback: Callable[[PresenceChange], Any] | None = None) -> int:
        """Remove a function that is told of changes, or all of them.

        Parameters
        ----------
        callback : callable, optional
            What to remove; by default everything.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        TypeError
            `callback` is not callable.
        """
        return self._changes.remove(callback)

    def events(self, limit: int | None = None) -> Stream[PresenceChange]:
        """Read changes with ``async for``.

        Parameters
        ----------
        limit : int, optional
            How many changes may wait to be read, by default 1,024.

        Returns
        -------
        Stream
            An asynchronous context manager and iterator of :class:`PresenceChange`; the iteration ends when
            the watch does.

        Raises
        ------
        TypeError, ValueError
            The limit is no positive whole number.
        """
        return self._changes.stream(limit)

    # --- at work ---

    async def __aenter__(self) -> Presence:
        if self._looks:
            raise RuntimeError('A watch can be entered once')
        self._set._watches[id(self)] = self
        for name, rig in self._set.items():
            self._looks[name] = _Look(self, name, rig)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._looks:
            await asyncio.wait({look.task for look in self._looks.values()})

    def close(self) -> None:
        """End the watch; the set does so when it is closed."""
        self._set._watches.pop(id(self), None)
        for look in self._looks.values():
            look.close()
        self._changes.close()

    def _tell(self, name: str, state: Literal['online', 'offline', 'restarted']) -> None:
        self._changes.tell(PresenceChange(name, state, self[name]))

    def _is(self, name: str, state: Literal['online', 'offline'], **known: Any) -> None:
        before = self._rigs[name]
        since = before.since if before.state == state else monotonic()
        self._rigs[name] = replace(before, state=state, since=since, **known)
        if before.state != state:
            self._tell(name, state)

    def _restarted(self, name: str) -> None:
        before = self._rigs[name]
        self._rigs[name] = replace(before, restarts=before.restarts + 1)
        self._tell(name, 'restarted')


class _Look:
    """Looks after one rig."""

    def __init__(self, presence: Presence, name: str, rig: Any) -> None:
        self._presence, self._name, self._rig = presence, name, rig
        self._wake = asyncio.Event()
        self._was_echorig = False  # when last known: it is unknown again after a new connection, or long silence
        self._gone_at = -inf
        self._ended = False  # the legacy program at the other end of a connection has closed it
        statistics = _statistics(rig)
        self._restarts = 0 if statistics is None else statistics.restarts
        if isinstance(rig, ConnectionChanges):
            with suppress(ConnectionClosedError):
                rig.assign_connection_callback(self._on_connection)
        self.task = asyncio.ensure_future(self._run())

    def close(self) -> None:
        self.task.cancel()
        if isinstance(self._rig, ConnectionChanges):
            self._rig.clear_connection_callbacks(self._on_connection)

    async def _run(self) -> None:
        loop, interval = asyncio.get_running_loop(), self._presence._interval
        while True:
            self._wake.clear()
            await self._look()
            if (statistics := _statistics(self._rig)) is not None:
                before, self._restarts = self._restarts, statistics.restarts
                if self._restarts > before:
                    self._presence._restarted(self._name)
            timer = loop.call_later(interval * random.uniform(1 - _JITTER, 1 + _JITTER), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def _look(self) -> None:
        """Take in whether the rig is there; ping it for that, if that cannot harm it."""
        statistics = _statistics(self._rig)
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
        """Tell whether a message to the rig is under way."""
        return self._rig.awaiting_response() is True

    def _failure(self) -> Failure | None:
        """Return the last failure of a message to the rig, if nothing has come from there since it was sent."""
        failure = getattr(self._rig, '_last_failure', None)
        if not isinstance(failure, Failure):
            return None
        statistics = _statistics(self._rig)
        is_answered = statistics is not None and (statistics.last_seen or -inf) >= failure.began
        return None if is_answered else failure

    async def _ping(self) -> None:
        """Ping the rig and take in what comes of it."""
        begun = monotonic()
        try:
            round_trip = await self._rig.ping(timeout=self._presence._timeout)
        except Exception as ex:
            statistics = _statistics(self._rig)
            if statistics is not None and (statistics.last_seen or -inf) >= begun:
                self._there(statistics.srtt)
            elif self._was_echorig or not self._is_asked():
                self._gone(ex)
        else:
            self._there(round_trip)

    def _look_at_messages(self, statistics: PeerStatistics | None) -> None:
        """Take in what has become of the messages to the rig, and whether something has come from it."""
        failure = self._failure()
        if failure is not None and (failure.error is not None or failure.waited >= self._presence._timeout):
            self._gone(failure.error or EchoTimeoutError(f'{self._name} did not echo within {failure.waited:.3f} s'))
        elif statistics is not None and (statistics.last_seen or -inf) > self._gone_at:
            self._there(statistics.srtt)

    def _look_at_connection(self, statistics: PeerStatistics | None) -> None:
        """Take in whether there is one."""
        if self._rig.is_connected:
            self._there(None if statistics is None else statistics.srtt)
        else:
            self._gone(ConnectionClosedError(f'{self._name} is not connected'))

    def _there(self, round_trip: float | None) -> None:
        self._presence._is(self._name, 'online', round_trip=round_trip, error=None)
        if self._ended:
            self._ended = False
            self._presence._restarted(self._name)

    def _gone(self, error: Exception) -> None:
        self._gone_at = monotonic()
        self._presence._is(self._name, 'offline', round_trip=None, error=error)

    def _on_connection(self, change: ConnectionChange) -> None:
        if change.state == 'lost':
            # In order or with a reset, it was ended at the other end; otherwise it may have been the network.
            ended = change.error is None or isinstance(change.error, ConnectionResetError | BrokenPipeError)
            was_there = self._presence._rigs[self._name].state == 'online'
            self._ended = self._ended or (ended and was_there and not self._was_echorig)
            self._gone(ConnectionClosedError(f'{self._name} closed its connection'))
        else:
            self._wake.set()
