"""The codes of the protocol: events and statuses."""

from __future__ import annotations

import sys
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from .checks import described, short

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ['PROTOCOL_VERSION', 'ExpMessage', 'ExpStatus']

PROTOCOL_VERSION = '1.0.0'
"""str: The version of the message codes, the statuses and the message signatures."""


class ExpMessage(IntFlag):
    """The events of an experiment; ``|`` combines them.

    ``ExpMessage(0)`` is the notice, which reports that a callback of the peer failed.
    """

    EXPINIT = 1
    """Prepare an experiment."""
    EXPSTART = 2
    """The experiment begins."""
    EXPEND = 4
    """The experiment ends."""
    EXPCLEANUP = 8
    """Clean up after the experiment."""
    EXPINTERRUPT = 16
    """The experiment is aborted."""
    EXPSTATUS = 32
    """The status of a rig, see :class:`ExpStatus`."""
    EXPINFO = 64
    """The status of a rig, with details."""
    ALYX = 128
    """An Alyx token, or the request for one."""
    __version__ = PROTOCOL_VERSION
    # That of Enum is written in Python, and every received message is looked up by its event.
    __hash__ = int.__hash__

    @classmethod
    def any(cls) -> ExpMessage:
        """Return the combination of all events (without the notice, 0).

        Returns
        -------
        ExpMessage
            All events, combined.
        """
        return cls(_ALL)

    @staticmethod
    def validate(event: str | int | ExpMessage, allow_bitwise: bool = True) -> ExpMessage:
        """Return the event of a name, a code or a member.

        Parameters
        ----------
        event : str, int or ExpMessage
            A name in any case (spaces around it are ignored), a code, or an event.
        allow_bitwise : bool
            Whether a combination of events is allowed.

        Returns
        -------
        ExpMessage
            The event.

        Raises
        ------
        TypeError
            `event` is neither a string nor an integer.
        ValueError
            There is no such event, or it is a combination (or the notice, 0) and `allow_bitwise` is false.

        Examples
        --------
        >>> ExpMessage.validate(' expstart').name
        'EXPSTART'
        >>> ExpMessage.validate(4).name
        'EXPEND'
        """
        if isinstance(event, str):
            found = ExpMessage.__members__.get(event.strip().upper())
            if found is None:
                raise ValueError(f'Unknown event {short(event)}; choose from {", ".join(ExpMessage.__members__)}')
            event = found
        elif not isinstance(event, int) or isinstance(event, bool):
            raise TypeError(f'An event is a name, a number or an ExpMessage, not {described(event)}')
        elif not isinstance(event, ExpMessage) or event < 0:
            # Before Python 3.11 the inverse of a flag is negative (~ALYX is -129).
            code = event & _ALL if isinstance(event, ExpMessage) else event
            if not 0 <= code <= _ALL:
                raise ValueError(f'Unknown event code {short(event)}; codes are the powers of 2 up to {_TOP}')
            event = ExpMessage(code)
        if not allow_bitwise and event not in _SINGLE:
            raise ValueError(f'A single event is needed here, not {int(event)}; choose from {", ".join(_names)}')
        return event

    if sys.version_info < (3, 11):

        def __iter__(self) -> Iterator[ExpMessage]:
            """Iterate over the single events of a combination."""
            return (member for member in ExpMessage.__members__.values() if member & self)


_names = tuple(ExpMessage.__members__)
_SINGLE = frozenset(ExpMessage.__members__.values())
_ALL = sum(map(int, _SINGLE))
_TOP = max(map(int, _SINGLE))


class ExpStatus(IntEnum):
    """The states that a rig goes through in an experiment."""

    CONNECTED = 0
    """The rig is there."""
    INITIALIZED = 10
    """The rig is ready to start."""
    RUNNING = 20
    """The experiment runs."""
    STOPPED = 30
    """The experiment has ended."""
    __version__ = PROTOCOL_VERSION
