"""`Presence`: which rigs of a set are online, found out in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from ..checks import seconds
from ..communicator import EchoProtocol
from ..events.notifier import Notifier
from ..events.stream import Stream
from ..security.safe_log import SafeLog
from .rig_watch import PresenceChange, RigPresence, RigWatcher

__all__ = ['Presence', 'PresenceChange', 'RigPresence']


class Presence(Mapping[str, RigPresence]):
    """The presence of the rigs of a set, by name; made by :meth:`Services.watch`, and updated during ``async with``.

    Parameters
    ----------
    rigs : mapping of str to Service
        The clients of the rigs, by name.
    interval : float
        The time between two pings of a rig, in seconds, plus or minus a tenth.
    timeout : float
        How long to wait for the echo of a ping, in seconds.
    limit : int
        How many changes may wait in a stream.
    log : SafeLog
        Logs failures of callbacks.
    """

    def __init__(
        self, rigs: Mapping[str, EchoProtocol], interval: float, timeout: float, limit: int, log: SafeLog
    ) -> None:
        times = seconds(interval, 'interval', endless=False), seconds(timeout, 'timeout')
        self._changes: Notifier[PresenceChange] = Notifier(limit, log)
        self._watchers = {name: RigWatcher(name, rig, *times, self._changes.notify) for name, rig in rigs.items()}
        self._is_entered = self._is_closed = False

    def __getitem__(self, name: str) -> RigPresence:
        return self._watchers[name].presence

    def __iter__(self) -> Iterator[str]:
        return iter(self._watchers)

    def __len__(self) -> int:
        return len(self._watchers)

    def __repr__(self) -> str:
        return f'<Presence { ({name: rig.state for name, rig in self.items()}) }>'

    # --- changes ---

    def assign_callback(self, callback: Callable[[PresenceChange], object]) -> None:
        """Register a function that is called for each change.

        Parameters
        ----------
        callback : callable
            Called as ``callback(change)``, with a :class:`PresenceChange`; a coroutine function runs as a task.
        """
        self._changes.add(callback)

    def clear_callbacks(self, callback: Callable[[PresenceChange], object] | None = None) -> int:
        """Remove a callback, or all of them.

        Parameters
        ----------
        callback : callable, optional
            The callback; by default all are removed.

        Returns
        -------
        int
            How many were removed.
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
            the watch ends.
        """
        return self._changes.stream(limit)

    # --- the time of the watch ---

    async def __aenter__(self) -> Presence:
        if self._is_entered or self._is_closed:
            raise RuntimeError('A watch can be entered once')
        self._is_entered = True
        for watcher in self._watchers.values():
            watcher.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await asyncio.gather(*(w.task for w in self._watchers.values() if w.task is not None), return_exceptions=True)

    @property
    def is_closed(self) -> bool:
        """bool: Whether the watch has ended."""
        return self._is_closed

    def close(self) -> None:
        """End the watch; the set does so when it is closed."""
        self._is_closed = True
        for watcher in self._watchers.values():
            watcher.close()
        self._changes.close()
