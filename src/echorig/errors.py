"""What can go wrong, as one tree.

::

    EchoError(Exception)
    ├── EchoTimeoutError(TimeoutError, asyncio.TimeoutError)   no echo or no answer in time
    │   └── PeerUnreachableError(ConnectionRefusedError)        the system said so: nobody listens there
    ├── EchoMismatchError(RuntimeError)                         the echo is not what was sent
    ├── ConnectionClosedError(ConnectionError)                  closed here, or the peer went away
    ├── TLSError(ConnectionError)                               the two ends of a wss:// connection do not agree
    ├── MessageTooLongError(ValueError)                         the transport cannot carry it
    ├── RemoteCallbackError(RuntimeError)                       the rig's callback raised
    └── ServicesError                                           at least one rig of a set failed
        └── ServicesTimeoutError(EchoTimeoutError)              at least one of them timed out

Each also inherits the built-in type that the documented API names, so that ``except TimeoutError`` and,
on Python 3.10, ``except asyncio.TimeoutError`` go on working.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

__all__ = [
    'ConnectionClosedError',
    'EchoError',
    'EchoMismatchError',
    'EchoTimeoutError',
    'MessageTooLongError',
    'PeerUnreachableError',
    'RemoteCallbackError',
    'ServicesError',
    'ServicesTimeoutError',
    'TLSError',
]


class EchoError(Exception):
    """The root of every error that echorig raises for what happened on the network."""


if sys.version_info >= (3, 11):

    class EchoTimeoutError(EchoError, TimeoutError):
        """No echo, or no answer, came within the time allowed."""
else:

    class EchoTimeoutError(EchoError, TimeoutError, asyncio.TimeoutError):
        """No echo, or no answer, came within the time allowed."""


class PeerUnreachableError(EchoTimeoutError, ConnectionRefusedError):
    """The operating system reported that nobody listens at the address."""


class EchoMismatchError(EchoError, RuntimeError):
    """The remote host sent back something other than what it was sent."""


class ConnectionClosedError(EchoError, ConnectionError):
    """The communicator was closed here, or its peer went away."""


class TLSError(EchoError, ConnectionError):
    """There is no TLS connection; the text says why and what to do, ``__cause__`` is the error of the `ssl` module."""


class MessageTooLongError(EchoError, ValueError):
    """The message is larger than one datagram can carry."""


class RemoteCallbackError(EchoError, RuntimeError):
    """A callback on the remote rig raised, or the rig interrupted the experiment.

    Parameters
    ----------
    text : str
        The description for the user.
    event : int
        The event whose callback failed.
    message : str
        The error text that the rig sent.
    addr : tuple of (str, int), optional
        The address of the rig.

    Attributes
    ----------
    event : int
        The event whose callback failed.
    message : str
        The error text that the rig sent.
    addr : tuple of (str, int) or None
        The address of the rig.
    """

    def __init__(self, text: str, event: int, message: str, addr: tuple[str, int] | None = None) -> None:
        super().__init__(text)
        self.event = event
        self.message = message
        self.addr = addr

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.event, self.message, self.addr)


class ServicesError(EchoError):
    """At least one rig of a set failed; the others were told all the same.

    Parameters
    ----------
    text : str
        The description, which names each failed rig and why it failed.
    responses : mapping of str to Any
        What the other rigs answered, by name.
    failures : mapping of str to BaseException
        What went wrong, by name of the rig.

    Attributes
    ----------
    responses : dict of str to Any
        What the other rigs answered, by name.
    failures : dict of str to BaseException
        What went wrong, by name of the rig.
    """

    def __init__(self, text: str, responses: Mapping[str, Any], failures: Mapping[str, BaseException]) -> None:
        super().__init__(text)
        self.responses = dict(responses)
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.responses, self.failures)


class ServicesTimeoutError(ServicesError, EchoTimeoutError):
    """At least one rig of a set did not echo or answer in time."""
