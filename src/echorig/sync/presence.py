"""`Presence` for programs without an event loop: which rigs of a set are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from ..services.presence import Presence as Asynchronous
from ..services.presence import PresenceChange, RigPresence
from .background import Background
from .guarded import Guarded
from .mirror import mirrors
from .stream import Stream

__all__ = ['Presence']

_Self = TypeVar('_Self', bound='Presence')


@mirrors(Asynchronous)
class Presence(Mapping[str, RigPresence]):
    """Which rigs of a set are there; made by :meth:`Services.watch`, and at work during ``with``.

    A mapping of the names of the rigs to what is known of them. Everything else is as with :class:`echorig.Presence`.

    Parameters
    ----------
    make : callable
        Makes the asynchronous one, on the background thread.
    owner : Background
        That thread.
    """

    def __init__(self, make: Callable[[], Asynchronous], owner: Background) -> None:
        self._presence = owner.run(make)
        self._owner = owner

    def __getitem__(self, name: str) -> RigPresence:
        return self._presence[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._presence)

    def __len__(self) -> int:
        return len(self._presence)

    def __repr__(self) -> str:
        return repr(self._presence)

    def assign_callback(self, callback: Callable[[PresenceChange], Any]) -> None:
        self._owner.run(self._presence.assign_callback, Guarded(callback))

    def clear_callbacks(self, callback: Callable[[PresenceChange], Any] | None = None) -> int:
        return self._owner.run(self._presence.clear_callbacks, callback)

    def events(self, limit: int | None = None) -> Stream[PresenceChange]:
        """Read changes with ``for``.

        Parameters
        ----------
        limit : int, optional
            How many changes may wait to be read, by default 1,024.

        Returns
        -------
        Stream
            A context manager and iterator of :class:`PresenceChange`; the iteration ends when the watch does.

        Raises
        ------
        TypeError, ValueError
            The limit is no positive whole number.
        """
        return Stream(lambda: self._presence.events(limit), self._owner)

    def __enter__(self: _Self) -> _Self:
        self._owner.calls.undoing(lambda presence, _: presence.close()).call(self._presence.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._owner.is_over:
            self._owner.calls.finish(self._presence.__aexit__, kind, error, trace)

    def close(self) -> None:
        self._owner.close([], self._presence.close)
