"""`Presence`: which rigs of a set are there, found out by pinging them in the background.

1. A session is never disturbed. A tagging peer may be pinged at any time, and no message waits for a ping. An incumbent
   takes whatever comes while it waits for an echo for a wrong one, and closes: a peer that is not known to be tagging
   is left alone while anything is sent to it or expected from it, also of a call that has given up: the rig has not.
   Over TCP it is sent no ping: it would take one and the message behind it for one. There the connection has to tell.
2. A ping that a busy plain rig has not read lies in its socket. It is never repeated, and no other follows before the
   rig is heard; only when that takes long is it taken for gone.
3. A rig whose program has begun anew is not the one that was told what to do: that is reported as well.
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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .changes import Changes, ConnectionChange, ConnectionChanges
from .checks import seconds
from .errors import ConnectionClosedError, EchoTimeoutError, PeerUnreachableError
from .peers import Peers, PeerStatistics
from .safe_log import SafeLog
from .streams import Stream
from .tuning import DEFAULT_TUNING, Tuning
from .uri import SCHEMES
from .waiting import Waiting

if TYPE_CHECKING:
    from .rig_set import RigSet

__all__ = ['Heard', 'Presence', 'PresenceChange', 'RigPresence', 'heard']

_JITTER = 0.1  # so that the pings of many rigs do not stay together
_PATIENT = 3  # intervals that a peer has which may be busy
_STREAMS = frozenset(SCHEMES) - {'udp'}
_PATIENCE = 0.8  # of `Tuning.first_probe`, after which a ping would be repeated


class Heard(NamedTuple):
    """What has come from a rig by now."""

    at: float
    """float: When the last of it came, on the clock of `time.monotonic`, in seconds."""
    echoes: int
    """int: How much of it was an echo."""


def heard(rig: Any) -> Heard:
    """Tell what has come from a rig by now."""
    statistics = _statistics(rig)
    if statistics is None:
        return Heard(-inf, 0)
    at = -inf if statistics.last_seen is None else statistics.last_seen
    return Heard(at, statistics.confirmed + statistics.strays)


def _statistics(rig: Any) -> PeerStatistics | None:
    peers = getattr(rig, 'peers', None)
    return next(iter(peers.values()), None) if isinstance(peers, Peers) else None


@dataclass(frozen=True)
class RigPresence:
    """What is known of one rig, at the time of asking."""

    state: Literal['unknown', 'online', 'offline'] = 'unknown'
    """str: ``unknown`` before the first answer, then ``online`` or ``offline``."""
    since: float = 0.0
    """float: Since when, on the clock of `time.monotonic`, in seconds."""
    round_trip: float | None = None
    """float or None: The last round-trip time while it is online, in seconds."""
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
        return self._rigs[name]

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
        self._changes.tell(PresenceChange(name, state, self._rigs[name]))

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
        self._pinged: float | None = None  # when, if nothing has been heard since
        self._was_tagging = False  # when last known: a peer that is silent for long is unknown again
        self._heard_at = heard(rig).at
        self._ended = False  # its program: nobody listened there since it was last online
        self._told = False  # that it was restarted, which the numbers of its messages may have yet to show
        self._restarts = self._numbered_restarts()
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
            if (restarts := self._numbered_restarts()) > self._restarts:
                self._restarts = restarts
                if not self._told:
                    self._presence._restarted(self._name)
                self._told = False
            timer = loop.call_later(interval * random.uniform(1 - _JITTER, 1 + _JITTER), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def _look(self) -> None:
        """Ping the rig, if that disturbs nobody, and take in what comes of it."""
        if (kind := self._kind()) == 'tagging':
            self._was_tagging = True
            await self._ping(self._presence._timeout)
            return
        if kind == 'plain':
            self._was_tagging = False
        if self._rig.protocol in _STREAMS:
            self._look_at_connection()
            return
        if self._is_busy() or self._has_yet_to_answer():
            if self._is_heard():
                self._there(self._presence[self._name].round_trip)
        elif self._pinged is None or self._was_tagging or self._is_heard():
            await self._ping_once()
        elif monotonic() - self._pinged >= max(self._presence._timeout, _PATIENT * self._presence._interval):
            self._gone(
                EchoTimeoutError(f'{self._name} has not been heard for {monotonic() - self._pinged:.3f} s'), False
            )

    async def _ping(self, timeout: float) -> Exception | None:
        """Ping the rig and take in what comes of it; return the error if it may have got the ping all the same."""
        begun = monotonic()
        try:
            round_trip = await self._rig.ping(timeout=timeout)
        except (PeerUnreachableError, ConnectionClosedError) as ex:
            self._gone(ex, isinstance(ex, PeerUnreachableError))
        except Exception as ex:
            if heard(self._rig).at >= begun:
                self._there(self._presence[self._name].round_trip)
            elif not isinstance(ex, TimeoutError | asyncio.TimeoutError):
                self._gone(ex, False)
            else:
                if self._kind() == 'tagging' or self._presence[self._name].state == 'unknown':
                    self._gone(ex, False)
                return ex
        else:
            self._there(round_trip)
        return None

    async def _ping_once(self) -> None:
        """Ping a rig that may be an incumbent, and remember it until the rig is heard."""
        tuning = getattr(self._rig, 'tuning', None)
        probe = (tuning if isinstance(tuning, Tuning) else DEFAULT_TUNING).first_probe
        self._heard_at = heard(self._rig).at
        begun = monotonic()
        error = await self._ping(min(self._presence._timeout, _PATIENCE * probe))
        self._pinged = None
        if error is None:
            return
        if self._heard_at > -inf and not isinstance(error.__cause__, OSError):
            self._pinged = begun
        else:
            # It did not get there, as the system says; or the rig was never heard and so has nothing to answer: what
            # lies in its socket it will echo in order.
            self._gone(error, False)

    def _look_at_connection(self) -> None:
        """Take in whether there is one."""
        if self._rig.is_connected:
            statistics = _statistics(self._rig)
            self._there(None if statistics is None else statistics.srtt)
        else:
            self._gone(ConnectionClosedError(f'{self._name} is not connected'), False)

    def _there(self, round_trip: float | None) -> None:
        self._pinged = None
        self._presence._is(self._name, 'online', round_trip=round_trip, error=None)
        if self._ended:
            self._ended = False
            self._told = True
            self._presence._restarted(self._name)

    def _gone(self, error: Exception | None, program_ended: bool) -> None:
        self._ended = self._ended or (program_ended and self._presence[self._name].state == 'online')
        self._presence._is(self._name, 'offline', round_trip=None, error=error)

    def _on_connection(self, change: ConnectionChange) -> None:
        if change.state == 'lost':
            # In order or with a reset, it was ended at the other end; otherwise it may have been the network.
            ended = change.error is None or isinstance(change.error, ConnectionResetError | BrokenPipeError)
            self._gone(ConnectionClosedError(f'{self._name} closed its connection'), ended)
        else:
            self._wake.set()

    # --- what is known of the rig ---

    def _is_busy(self) -> bool:
        """Tell whether something is on its way to the rig, or expected from it."""
        if self._presence._set._asked[self._name] or self._rig.awaiting_response() is True:
            return True
        waiting = getattr(self._rig, '_waiting', None)
        return isinstance(waiting, Waiting) and bool(waiting.waiters)

    def _has_yet_to_answer(self) -> bool:
        """Tell whether the rig may still be at work on what it was told by a call that has failed on it."""
        owing = self._presence._set._owing
        if (before := owing.get(self._name)) is None or self._was_tagging:
            return False
        now = heard(self._rig)
        if now.at > before.at and now.echoes == before.echoes:
            del owing[self._name]  # a message of its own
            return False
        owing[self._name] = now  # a late echo is not yet the answer
        return True

    def _is_heard(self) -> bool:
        """Tell whether anything has come from the rig since it was last asked for."""
        before, self._heard_at = self._heard_at, heard(self._rig).at
        return self._heard_at > before

    def _kind(self) -> str:
        statistics = _statistics(self._rig)
        return 'unknown' if statistics is None else statistics.kind

    def _numbered_restarts(self) -> int:
        statistics = _statistics(self._rig)
        return 0 if statistics is None else statistics.restarts
