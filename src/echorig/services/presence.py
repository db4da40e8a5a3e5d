"""`Presence`: which rigs of a set are online, found out in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from types import TracebackType
from typing import Any, Literal

from ..checks import seconds
from ..events.notifier import Changes
from ..events.stream import Stream
from ..security.safe_log import SafeLog
from .rig_watch import RigWatcher, statistics_of

__all__ = ['Presence', 'PresenceChange', 'RigPresence']


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
    rigs : mapping of str to Service
        The clients of the rigs, by name.
    interval : float
        How long after each ping the next follows, in seconds, give or take a tenth.
    timeout : float
        How long a rig has for its echo, in seconds.
    limit : int
        How many changes may wait in a stream.
    log : SafeLog
        Where failures of callbacks are logged.

    Raises
    ------
    TypeError, ValueError
        A time is not a positive number.
    """

    def __init__(self, rigs: Mapping[str, Any], interval: float, timeout: float, limit: int, log: SafeLog) -> None:
        self._rigs = rigs
        self._interval, self._timeout = seconds(interval, 'interval', endless=False), seconds(timeout, 'timeout')
        self._known = {name: RigPresence(since=monotonic()) for name in rigs}
        self._changes: Changes[PresenceChange] = Changes('changes', limit, log)
        self._watchers: list[RigWatcher] = []
        self._is_closed = False

    def __getitem__(self, name: str) -> RigPresence:
        statistics = statistics_of(self._rigs[name])
        return replace(self._known[name], last_heard=None if statistics is None else statistics.last_seen)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

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
        if self._watchers or self._is_closed:
            raise RuntimeError('A watch can be entered once')
        report = _Report(self, self._known, self._changes)
        self._watchers = [
            RigWatcher(name, rig, report, self._interval, self._timeout) for name, rig in self._rigs.items()
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._watchers:
            await asyncio.wait({watcher.task for watcher in self._watchers})

    @property
    def is_closed(self) -> bool:
        """bool: Whether the watch has ended."""
        return self._is_closed

    def close(self) -> None:
        """End the watch; the set does so when it is closed."""
        self._is_closed = True
        for watcher in self._watchers:
            watcher.close()
        self._changes.close()


class _Report:
    """Keeps what the watchers find out, and tells of each change."""

    def __init__(self, presence: Presence, known: dict[str, RigPresence], changes: Changes[PresenceChange]) -> None:
        self._presence, self._known, self._changes = presence, known, changes

    def is_online(self, name: str) -> bool:
        return self._known[name].state == 'online'

    def online(self, name: str, round_trip: float | None) -> None:
        self._set(name, 'online', round_trip, None)

    def offline(self, name: str, error: Exception) -> None:
        self._set(name, 'offline', None, error)

    def restarted(self, name: str) -> None:
        self._known[name] = replace(self._known[name], restarts=self._known[name].restarts + 1)
        self._tell(name, 'restarted')

    def _set(
        self, name: str, state: Literal['online', 'offline'], round_trip: float | None, error: Exception | None
    ) -> None:
        before = self._known[name]
        since = before.since if before.state == state else monotonic()
        self._known[name] = replace(before, state=state, since=since, round_trip=round_trip, error=error)
        if before.state != state:
            self._tell(name, state)

    def _tell(self, name: str, state: Literal['online', 'offline', 'restarted']) -> None:
        self._changes.tell(PresenceChange(name, state, self._presence[name]))
