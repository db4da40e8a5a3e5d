"""UDP: the datagram endpoint of a communicator, which is its own datagram protocol."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from ..uri import Uri
from .choice import DatagramTransport, can_be_compiled
from .delegating import open_datagrams
from .sockets import connect_socket, set_datagram_options
from .udp_addresses import AllAddressesTransport, is_for_all

__all__ = ['connect', 'max_size', 'open_endpoint', 'open_socket']

# The IPv4 total length is 16 bits and includes 20 bytes of IP and 8 of UDP header (RFC 791, RFC 768); the
# IPv6 payload length is 16 bits and includes only the 8 bytes of UDP header (RFC 8200).
_MAX_PAYLOAD = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}


def max_size(host: str) -> int:
    """Return the largest message, in bytes, that one datagram to an IP address can carry."""
    return _MAX_PAYLOAD[socket.AF_INET6 if ':' in host else socket.AF_INET]


async def open_endpoint(
    protocol: asyncio.DatagramProtocol, uri: Uri, kwargs: dict[str, Any], *, is_client: bool
) -> None:
    """Open the endpoint of a server or client at a numeric URI.

    Its transport is the compiled one, or that of the loop where `kwargs`, the options of
    ``loop.create_datagram_endpoint``, or the environment require it.
    """
    if kwargs.pop('ssl', None):
        raise ValueError(f'{uri} is UDP, which has no TLS, but ssl= was given: use tls:// for TLS')
    loop, sock = asyncio.get_running_loop(), kwargs.get('sock')
    if sock is not None:
        sock.setblocking(False)
        set_datagram_options(sock)
        if is_client and not _is_connected(sock):
            sock.connect(uri.address)
        if kwargs.keys() == {'sock'}:
            await open_socket(protocol, sock, is_server=not is_client)
            return
    else:
        kwargs.setdefault('remote_addr' if is_client else 'local_addr', uri.address)
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, **kwargs)
    set_datagram_options(transport.get_extra_info('socket'))


async def open_socket(protocol: asyncio.DatagramProtocol, sock: socket.socket, *, is_server: bool = False) -> None:
    """Open the endpoint of a non-blocking socket that is bound or connected."""
    loop = asyncio.get_running_loop()
    if can_be_compiled(sock, socket.SOCK_DGRAM):
        try:
            DatagramTransport(loop, sock, protocol)
            return
        except NotImplementedError:  # a loop without readers, such as the proactor of Windows
            pass
    if is_server and is_for_all(sock):
        await AllAddressesTransport(loop, protocol).open(sock)
    else:
        await open_datagrams(protocol, sock)


async def connect(protocol: asyncio.DatagramProtocol, uri: Uri) -> None:
    """Open the endpoint of a client at a numeric URI by a new socket; raises OSError if there is no way."""
    sock = connect_socket(uri, {})
    assert sock is not None
    try:
        await open_socket(protocol, sock)
    except BaseException:
        sock.close()
        raise


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
