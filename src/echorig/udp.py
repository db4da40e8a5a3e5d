"""UDP: opening the endpoint of a communicator, which is its own datagram protocol."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from .errors import MessageTooLongError
from .uri import Uri

if TYPE_CHECKING:
    from .link import Link

__all__ = ['check_size', 'connect', 'listen', 'max_size']

_MAX_PAYLOAD = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}
# The IPv4 total length is 16 bits and includes 20 bytes of IP and 8 of UDP header (RFC 791, RFC 768); the
# IPv6 payload length is 16 bits and includes only the 8 bytes of UDP header (RFC 8200).


def max_size(host: str) -> int:
    """Return the largest message, in bytes, that one datagram to an IP address can carry."""
    return _MAX_PAYLOAD[socket.AF_INET6 if ':' in host else socket.AF_INET]


def check_size(frame: bytes, host: str) -> None:
    """Refuse a message that one datagram cannot carry.

    Parameters
    ----------
    frame : bytes
        The message.
    host : str
        The IP address of the server, which tells IPv4 from IPv6.

    Raises
    ------
    MessageTooLongError
        It is too long.
    """
    limit = max_size(host)
    if len(frame) > limit:
        raise MessageTooLongError(
            f'The message has {len(frame)} bytes and a datagram carries at most {limit}: use a tcp:// URI'
        )


def _check_plain(uri: Uri, kwargs: dict[str, Any]) -> None:
    if kwargs.pop('ssl', None):
        raise ValueError(f'{uri} is UDP, which has no TLS, but ssl= was given: use wss:// for TLS')


async def listen(owner: Link, uri: Uri, **kwargs: Any) -> None:
    """Open the socket of a server.

    Parameters
    ----------
    owner : Link
        The communicator.
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
    if 'sock' not in kwargs:
        kwargs.setdefault('local_addr', uri.address)
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: owner, **kwargs)


async def connect(owner: Link, uri: Uri, **kwargs: Any) -> None:
    """Open the socket of a client and connect it to its server.

    Parameters
    ----------
    owner : Link
        The communicator.
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
        sock.connect(uri.address)
    else:
        kwargs.setdefault('remote_addr', uri.address)
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: owner, **kwargs)
