"""Sockets that are bound or connected here instead of by the event loop.

A loop that fails to bind or connect a datagram socket may leave a transport behind (uvloop 0.23 does), and no loop
reports the port of a server before the communicator is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import EchoError
from ..uri import Uri
from .choice import is_proactor

__all__ = [
    'address_info',
    'any_socket',
    'bind_socket',
    'connect_first',
    'connect_socket',
    'naming_errors',
    'set_datagram_options',
]

# With one of these options the event loop makes the socket.
_LOOP_OPTIONS = frozenset(
    ('sock', 'local_addr', 'remote_addr', 'family', 'proto', 'flags', 'reuse_address', 'reuse_port', 'allow_broadcast')
)


_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0  # of <linux/in.h>; Python does not name them
_SIO_UDP_CONNRESET = 0x9800000C  # of <mstcpip.h>; `socket.ioctl` does not accept it


@contextlib.contextmanager
def naming_errors(name: str | None, uri: Uri) -> Iterator[None]:
    """Add the rig and its address to the text of an error of the system; its class and number stay."""
    try:
        yield
    except OSError as ex:
        if not isinstance(ex, EchoError):
            who = f'{name} ({uri})' if name else str(uri)
            if ex.errno is not None:
                ex.strerror = f'{ex.strerror}: {who}'
            else:
                ex.args = (f'{ex}: {who}',)
        raise


def bind_socket(uri: Uri, kwargs: dict[str, Any]) -> socket.socket | None:
    """Return a socket bound to a numeric URI, also as ``kwargs['sock']``; None if the event loop makes it."""
    if 'sock' in kwargs or uri.scheme == 'nats' or (uri.port and _LOOP_OPTIONS & kwargs.keys()):
        return None
    if uri.port and uri.scheme != 'udp' and uri.host != '::':
        return None
    kwargs['sock'] = sock = bound_socket(uri)
    return sock


def bound_socket(uri: Uri) -> socket.socket:
    """Return a socket bound to a numeric URI."""
    sock = _make(uri)
    try:
        if uri.scheme != 'udp' and os.name == 'posix':  # as the loops do
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(_sockaddr(uri, socket.AI_PASSIVE))
    except BaseException:
        sock.close()
        raise
    return sock


async def connected_to(uri: Uri) -> socket.socket:
    """Return a TCP socket connected to a numeric URI; ``loop.sock_connect`` would need a thread for that on uvloop."""
    loop, sock = asyncio.get_running_loop(), _make(uri)
    connected: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not connected.done():
            connected.set_result(None)

    try:
        address = _sockaddr(uri, 0)
        if is_proactor(loop):
            await loop.sock_connect(sock, address)
            return sock
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
            return sock
        loop.add_writer(sock.fileno(), wake)
        try:
            await connected
        finally:
            loop.remove_writer(sock.fileno())
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock


def connect_socket(uri: Uri, kwargs: dict[str, Any]) -> socket.socket | None:
    """Return a datagram socket connected to a numeric URI, also as ``kwargs['sock']``; None if the loop makes it."""
    if uri.scheme != 'udp' or _LOOP_OPTIONS & kwargs.keys():
        return None
    sock = _make(uri)
    try:
        sock.connect(_sockaddr(uri, 0))  # sets the address of a datagram socket, and never blocks
    except BaseException:
        sock.close()
        raise
    kwargs['sock'] = sock
    return sock


def connect_first(uris: Sequence[Uri], kwargs: dict[str, Any]) -> socket.socket | None:
    """Return a datagram socket connected to the first of some numeric URIs to which there is a way."""
    for uri in uris[:-1]:
        with contextlib.suppress(OSError):
            return connect_socket(uri, kwargs)
    return connect_socket(uris[-1], kwargs)


def any_socket(uri: Uri) -> socket.socket:
    """Return a datagram socket, of the family of a numeric URI, that sends to and receives from every address."""
    sock = _make(uri)
    try:
        sock.bind(('::' if ':' in uri.host else '0.0.0.0', 0))
    except BaseException:
        sock.close()
        raise
    return sock


def set_datagram_options(sock: Any) -> None:
    """Set the options of each UDP socket.

    1. Linux: routers may split a datagram that is too long for a link on its way. By default that is forbidden; the
       datagram is lost, and a legacy peer is not sent another one.
    2. Windows: receiving does not fail because an earlier datagram was refused. Before Python 3.12 the transport of
       asyncio would never receive again. The other loops ignore the error, so that no refusal is known there.
    """
    if sys.platform == 'linux':
        with contextlib.suppress(OSError):  # a socket of IPv6 that does not serve IPv4
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
    if sys.platform == 'win32':
        _ignore_refusals(sock.fileno())


def _ignore_refusals(handle: int) -> None:
    """Turn off the option SIO_UDP_CONNRESET of a socket of Windows; if that fails, it stays as it is."""
    import ctypes

    off, n = ctypes.c_ulong(0), ctypes.c_ulong(0)
    windows: Any = ctypes.windll  # type: ignore[attr-defined,unused-ignore]
    windows.ws2_32.WSAIoctl(
        ctypes.c_size_t(handle),
        ctypes.c_ulong(_SIO_UDP_CONNRESET),
        *(ctypes.byref(off), ctypes.c_ulong(4), None, ctypes.c_ulong(0), ctypes.byref(n), None, None),
    )


def _make(uri: Uri) -> socket.socket:
    family = socket.AF_INET6 if ':' in uri.host else socket.AF_INET
    kind, protocol = socket.SOCK_DGRAM, socket.IPPROTO_UDP
    if uri.scheme != 'udp':
        kind, protocol = socket.SOCK_STREAM, socket.IPPROTO_TCP  # asyncio sets TCP_NODELAY only with this number
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    if kind == socket.SOCK_DGRAM:
        set_datagram_options(sock)
    if uri.host == '::':  # for IPv4 as well, on all systems; asyncio would limit a TCP server to IPv6
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return sock


def address_info(uri: Uri) -> tuple[int, int, int, str, Any]:
    """Return a numeric URI as an entry of the result of ``socket.getaddrinfo``, for TCP."""
    family = socket.AF_INET6 if ':' in uri.host else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, '', _sockaddr(uri, 0)


def _sockaddr(uri: Uri, flags: int) -> Any:
    """Return the system's form of a numeric address, with the scope of an IPv6 one; no name server is asked."""
    return socket.getaddrinfo(uri.host, uri.port, type=socket.SOCK_DGRAM, flags=flags | socket.AI_NUMERICHOST)[0][4]
