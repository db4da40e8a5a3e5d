"""The errors, as one tree.

::

    EchoError(Exception)
    ├── EchoTimeoutError(TimeoutError, asyncio.TimeoutError)   no echo or no answer in time
    │   └── PeerUnreachableError(ConnectionRefusedError)        no program listens at the address
    ├── EchoMismatchError(RuntimeError)                         the echo differs from the message
    ├── ConnectionClosedError(ConnectionError)                  closed here or by the peer
    ├── TLSError(ConnectionError)                               no TLS connection
    ├── MessageTooLongError(ValueError)                         longer than one datagram
    ├── RemoteCallbackError(RuntimeError)                       a callback of the rig failed
    └── ServicesError                                           at least one rig of a set failed
        ├── ServicesTimeoutError(EchoTimeoutError)              at least one of them timed out
        └── RigLostError                                        at least one went away during an experiment

Each also inherits the built-in type of the documented API, so that ``except TimeoutError`` and, on Python 3.10,
``except asyncio.TimeoutError`` still work.
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
    'RigLostError',
    'ServicesError',
    'ServicesTimeoutError',
    'TLSError',
]


class EchoError(Exception):
    """The base of all errors of communication."""


if sys.version_info >= (3, 11):

    class EchoTimeoutError(EchoError, TimeoutError):
        """No echo or no answer was received in time."""
else:

    class EchoTimeoutError(EchoError, TimeoutError, asyncio.TimeoutError):
        """No echo or no answer was received in time."""


class PeerUnreachableError(EchoTimeoutError, ConnectionRefusedError):
    """The operating system reported that no program listens at the address."""


class EchoMismatchError(EchoError, RuntimeError):
    """The echo differs from the message."""


class ConnectionClosedError(EchoError, ConnectionError):
    """The communicator was closed, or the connection was lost."""


class TLSError(EchoError, ConnectionError):
    """A TLS connection failed; the text has the reason and advice, ``__cause__`` is the error of the `ssl` module."""


class MessageTooLongError(EchoError, ValueError):
    """The message is longer than one datagram."""


class RemoteCallbackError(EchoError, RuntimeError):
    """A callback of the rig failed, or the rig aborted the experiment.

    Parameters
    ----------
    text : str
        The description for the user.
    event : int
        The event whose callback failed; also an attribute.
    message : str
        The error text that the rig sent; also an attribute.
    addr : tuple of (str, int), optional
        The address of the rig; also an attribute.
    """

    def __init__(self, text: str, event: int, message: str, addr: tuple[str, int] | None = None) -> None:
        super().__init__(text)
        self.event = event
        self.message = message
        self.addr = addr

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.event, self.message, self.addr)


class ServicesError(EchoError):
    """At least one rig of a set failed; the message was sent to all of them.

    Parameters
    ----------
    text : str
        The description, which names each failed rig and its error.
    responses : mapping of str to Any
        The answers of the other rigs, by name; also an attribute.
    failures : mapping of str to BaseException
        The error of each failed rig, by name; also an attribute.
    """

    def __init__(self, text: str, responses: Mapping[str, Any], failures: Mapping[str, BaseException]) -> None:
        super().__init__(text)
        self.responses = dict(responses)
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.responses, self.failures)


class ServicesTimeoutError(ServicesError, EchoTimeoutError):
    """At least one rig of a set did not echo or answer in time."""


class RigLostError(ServicesError):
    """At least one rig went offline, was restarted or ended its program during an experiment."""
