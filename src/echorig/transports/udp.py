"""UDP: opening the endpoint of a communicator, which is its own datagram protocol."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from ..uri import Uri

try:
    from ._datagram import DatagramTransport as FastTransport
except ImportError:  # Windows
    FastTransport = None  # type: ignore[assignment, misc]

__all__ = ['ENVIRONMENT', 'connect', 'listen', 'max_size']

ENVIRONMENT = 'ECHORIG_DATAGRAM'
"""str: The environment variable that chooses the datagram transport: ``fast`` (the default) or the ``loop``'s own."""

_MAX_PAYLOAD = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}
# The IPv4 total length is 16 bits and includes 20 bytes of IP and 8 of UDP header (RFC 791, RFC 768); the
# IPv6 payload length is 16 bits and includes only the 8 bytes of UDP header (RFC 8200).


def max_size(host: str) -> int:
    """Return the largest message, in bytes, that one datagram to an IP address can carry."""
    return _MAX_PAYLOAD[socket.AF_INET6 if ':' in host else socket.AF_INET]


def _check_plain(uri: Uri, kwargs: dict[str, Any]) -> None:
    if kwargs.pop('ssl', None):
        raise ValueError(f'{uri} is UDP, which has no TLS, but ssl= was given: use wss:// for TLS')


def _wants_fast() -> bool:
    """Tell whether the compiled transport is there and wanted."""
    choice = os.environ.get(ENVIRONMENT, '').strip().lower()
    if choice not in ('', 'fast', 'loop'):
        raise ValueError(f"{ENVIRONMENT} is {choice!r}; it must be 'fast' or 'loop', or not be set")
    return FastTransport is not None and choice != 'loop'


async def _open(protocol: asyncio.DatagramProtocol, kwargs: dict[str, Any]) -> None:
    """Make the transport: the compiled one, or the loop's where the loop or the arguments ask for it."""
    loop = asyncio.get_running_loop()
    sock = kwargs.get('sock')
    if sock is not None and kwargs.keys() == {'sock'} and sock.family in _MAX_PAYLOAD and _wants_fast():
        try:
            FastTransport(loop, sock, protocol)
            return
        except NotImplementedError:  # a loop without readers, such as the proactor of Windows
            pass
    await loop.create_datagram_endpoint(lambda: protocol, **kwargs)


async def listen(protocol: asyncio.DatagramProtocol, uri: Uri, **kwargs: Any) -> None:
    """Open the socket of a server.

    Parameters
    ----------
    protocol : asyncio.DatagramProtocol
        Takes what is received.
    uri : Uri
        Where to listen; the host is numeric.
    kwargs
        For ``loop.create_datagram_endpoint``.

    Raises
    ------
    ValueError
        There is an ``ssl`` context.
    OSError
        The address is in use or not of this machine.
    """
    _check_plain(uri, kwargs)
    if sock := kwargs.get('sock'):
        sock.setblocking(False)
    else:
        kwargs.setdefault('local_addr', uri.address)
    await _open(protocol, kwargs)


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


async def connect(protocol: asyncio.DatagramProtocol, uri: Uri, **kwargs: Any) -> None:
    """Open the socket of a client and connect it to its server.

    Parameters
    ----------
    protocol : asyncio.DatagramProtocol
        Takes what is received.
    uri : Uri
        The server; the host is numeric.
    kwargs
        For ``loop.create_datagram_endpoint``.

    Raises
    ------
    ValueError
        There is an ``ssl`` context.
    OSError
        There is no way to the address.
    """
    _check_plain(uri, kwargs)
    if sock := kwargs.get('sock'):
        sock.setblocking(False)
        if not _is_connected(sock):
            sock.connect(uri.address)
    else:
        kwargs.setdefault('remote_addr', uri.address)
    await _open(protocol, kwargs)
