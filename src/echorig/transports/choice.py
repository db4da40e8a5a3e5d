"""Which transports are used: the compiled ones, where they exist and are chosen, or those of the event loop."""

from __future__ import annotations

import asyncio
import os
import socket

try:
    from ._datagram import DatagramTransport
    from ._stream import StreamTransport
except ImportError:  # Windows

    class DatagramTransport:  # type: ignore[no-redef]
        """Stands for the missing transport."""

    class StreamTransport:  # type: ignore[no-redef]
        """Stands for the missing transport."""

    _ARE_COMPILED = False
else:
    _ARE_COMPILED = True

__all__ = ['ENVIRONMENT', 'DatagramTransport', 'StreamTransport', 'can_be_compiled', 'is_proactor', 'wants_compiled']

ENVIRONMENT = 'ECHORIG_TRANSPORTS'
"""str: The environment variable that chooses the transports: ``compiled`` (the default) or the ``loop``'s own."""


def is_proactor(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop is the proactor of asyncio on Windows, which has no readers and no writers."""
    return isinstance(loop, getattr(asyncio, 'ProactorEventLoop', ()))


def wants_compiled() -> bool:
    """Return whether compiled transports exist and are chosen; raises ValueError for an unknown choice."""
    choice = os.environ.get(ENVIRONMENT, '').strip().lower()
    if choice not in ('', 'compiled', 'loop'):
        raise ValueError(f"{ENVIRONMENT} is {choice!r}; it must be 'compiled' or 'loop', or not be set")
    return _ARE_COMPILED and choice != 'loop'


def can_be_compiled(sock: socket.socket, kind: int) -> bool:
    """Return whether a compiled transport serves a socket, which must be one of IP and of a kind (``SOCK_STREAM``)."""
    return wants_compiled() and sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == kind
