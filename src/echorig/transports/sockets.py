"""The sockets that a communicator makes itself, instead of leaving it to the event loop.

A loop that fails to bind or connect a datagram socket may leave a half-made transport behind (uvloop 0.23 does),
and none of them tells which port it will get before the communicator is made.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from ..uri import Uri

__all__ = ['bound', 'connected']

# Whoever passes one of these wants the loop to make the socket.
_LOOPS_BUSINESS = frozenset(
    ('sock', 'local_addr', 'remote_addr', 'family', 'proto', 'flags', 'reuse_address', 'reuse_port', 'allow_broadcast')
)


def bound(uri: Uri, kwargs: dict[str, Any]) -> socket.socket | None:
    """Put a bound socket into the keyword arguments for the loop, where that is ours to do.

    Parameters
    ----------
    uri : Uri
        Where to listen; the host is numeric, the port may be 0.
    kwargs : dict
        The keyword arguments; ``sock`` is added.

    Returns
    -------
    socket.socket or None
        The socket, if one was made.

    Raises
    ------
    OSError
        The address is in use or not of this computer.
    """
    if 'sock' in kwargs or (uri.port and (uri.scheme != 'udp' or _LOOPS_BUSINESS & kwargs.keys())):
        return None
    sock = _make(uri)
    try:
        if uri.scheme != 'udp' and os.name == 'posix':  # as the loops do for the servers they bind themselves
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(_sockaddr(uri, socket.AI_PASSIVE))
    except BaseException:
        sock.close()
        raise
    kwargs['sock'] = sock
    return sock


def connected(uri: Uri, kwargs: dict[str, Any]) -> socket.socket | None:
    """Put a connected datagram socket into the keyword arguments for the loop, where that is ours to do.

    Parameters
    ----------
    uri : Uri
        The server; the host is numeric.
    kwargs : dict
        The keyword arguments; ``sock`` is added.

    Returns
    -------
    socket.socket or None
        The socket, if one was made.

    Raises
    ------
    OSError
        There is no way to the address.
    """
    if uri.scheme != 'udp' or _LOOPS_BUSINESS & kwargs.keys():
        return None
    sock = _make(uri)
    try:
        sock.connect(_sockaddr(uri, 0))  # of a datagram socket this only notes the address, so it never blocks
    except BaseException:
        sock.close()
        raise
    kwargs['sock'] = sock
    return sock


def _make(uri: Uri) -> socket.socket:
    family = socket.AF_INET6 if ':' in uri.host else socket.AF_INET
    # The protocol number matters: asyncio sets TCP_NODELAY only on sockets that have it.
    kind, protocol = (
        (socket.SOCK_DGRAM, socket.IPPROTO_UDP) if uri.scheme == 'udp' else (socket.SOCK_STREAM, socket.IPPROTO_TCP)
    )
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    return sock


def _sockaddr(uri: Uri, flags: int) -> Any:
    """Return the system's form of a numeric address, with the scope of an IPv6 one; never asks a name server."""
    return socket.getaddrinfo(uri.host, uri.port, type=socket.SOCK_DGRAM, flags=flags | socket.AI_NUMERICHOST)[0][4]
