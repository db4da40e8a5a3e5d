"""Addresses: parsing a URI once, and turning names into numbers.

1. A URI is parsed into a frozen :class:`Uri`; everything after that uses its fields.
2. Names are resolved when a communicator is opened, once, and never on the event loop.
3. An address is ``(host, port)``, for IPv6 as for IPv4; a scope travels in the host (``fe80::1%eth0``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = [
    'LISTEN_PORT',
    'Address',
    'Uri',
    'as_address',
    'external_ip',
    'hostname2ip',
    'is_valid_ip',
    'parse',
    'resolve',
    'resolve_host',
    'validate_uri',
]

LISTEN_PORT = 11001
"""int: The port that rigs listen on unless told otherwise."""

SCHEMES = ('udp', 'tcp', 'ws', 'wss')
"""tuple of str: The transports of a communicator; ws is plain TCP, wss is TLS."""

Address = tuple[str, int]
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_SCHEME = re.compile(r'([a-zA-Z][a-zA-Z0-9+.-]*)://')
_LABEL = re.compile(r'(?!-)[A-Za-z0-9_-]{1,63}(?<!-)')


@dataclass(frozen=True)
class Uri:
    """A complete URI in its parts.

    Attributes
    ----------
    scheme : str
        ``udp``, ``tcp``, ``ws`` or ``wss`` for a communicator.
    host : str
        A host name or IP address, IPv6 without brackets.
    port : int
        1 to 65535, or 0 where a server may take any that is free.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'{self.scheme}://{host}:{self.port}'

    @property
    def address(self) -> Address:
        """The host and port."""
        return self.host, self.port


def is_valid_ip(ip_address: object) -> bool:
    """Tell whether something is an IP address.

    Parameters
    ----------
    ip_address : str
        The text to look at.

    Returns
    -------
    bool
        True for an IPv4 or IPv6 address.
    """
    try:
        ipaddress.ip_address(ip_address)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def external_ip() -> IPAddress:
    """Ask the internet for this network's public IP address.

    Blocks for as long as the request takes, at most 10 seconds.

    Returns
    -------
    ipaddress.IPv4Address or ipaddress.IPv6Address
        The address that the outside world sees.

    Raises
    ------
    OSError
        There is no way to the internet.
    """
    with urllib.request.urlopen('https://ident.me', timeout=10) as reply:
        return ipaddress.ip_address(reply.read().decode('ascii').strip())


def hostname2ip(hostname: str | None = None) -> IPAddress:
    """Resolve a host name; IPv4 is preferred, because every existing rig speaks it.

    Parameters
    ----------
    hostname : str, optional
        The name to resolve, by default that of this computer.

    Returns
    -------
    ipaddress.IPv4Address or ipaddress.IPv6Address
        The address.

    Raises
    ------
    ValueError
        The name does not resolve.
    """
    hostname = hostname or socket.gethostname()
    try:
        found = socket.getaddrinfo(hostname, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as ex:
        raise ValueError(f'Failed to resolve the host name {hostname!r}: {ex}') from ex
    return _preferred(found)


def _preferred(found: list[Any]) -> IPAddress:
    """Return the first IPv4 address of a getaddrinfo() answer, else the first of all."""
    family, *_, sockaddr = min(found, key=lambda info: info[0] != socket.AF_INET)
    host = str(sockaddr[0])
    if family == socket.AF_INET6 and sockaddr[3] and '%' not in host:
        host = f'{host}%{sockaddr[3]}'
    return ipaddress.ip_address(host)


def parse(uri: str | IPAddress, default_port: int | str = LISTEN_PORT, default_proc: str = 'udp') -> Uri:
    """Take a URI apart, without resolving names.

    Parameters
    ----------
    uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
        A URI, a host with or without a port, or an IP address. ``':9998'`` and ``''`` mean this computer.
    default_port : int or str
        The port if there is none.
    default_proc : str
        The scheme if there is none.

    Returns
    -------
    Uri
        The parts; an empty `host` means this computer.

    Raises
    ------
    TypeError
        `uri` is none of these types.
    ValueError
        The host or the port is not valid.
    """
    if isinstance(uri, str):
        return _parse_text(uri, default_port, default_proc)
    if isinstance(uri, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return Uri(default_proc, str(uri), _port(default_port, uri))
    raise TypeError(f'A URI is a str or an ipaddress object, not {type(uri).__name__}: {uri!r}')


@lru_cache(maxsize=1024)
def _parse_text(uri: str, default_port: int | str, default_proc: str) -> Uri:
    scheme, rest = default_proc, uri
    if match := _SCHEME.match(uri):
        scheme, rest = match.group(1).lower(), uri[match.end() :]
    rest = rest.removesuffix('/')
    port: int | str = ''
    if rest.startswith('['):
        host, bracket, port = rest[1:].partition(']')
        if not bracket or (port and not port.startswith(':')) or not is_valid_ip(host):
            raise ValueError(f'Invalid IPv6 address in {uri!r}')
        port = port[1:]
    elif is_valid_ip(rest):
        host = rest  # also a bare IPv6 address, whose colons are no port
    else:
        host, _, port = rest.partition(':')
        if host and not is_valid_ip(host) and not _is_hostname(host):
            raise ValueError(f'Invalid host name {host!r} in {uri!r}')
    return Uri(scheme, host, _port(port or default_port, uri))


def _is_hostname(host: str) -> bool:
    """Tell whether this can be a host name: labels of letters, digits, - and _, the last not a number."""
    labels = host.removesuffix('.').split('.')
    return len(host) <= 253 and all(map(_LABEL.fullmatch, labels)) and not (len(labels) > 1 and labels[-1].isdigit())


def _port(port: int | str, uri: object) -> int:
    try:
        number = int(port)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number <= 65535:
        raise ValueError(f'Invalid port number {port!r} in {uri!r}: ports are 1 to 65535')
    return number


def _require_port(uri: Uri) -> None:
    if uri.port == 0:
        raise ValueError(f'Invalid port number 0 in {uri}: ports are 1 to 65535')


def validate_uri(
    uri: str | IPAddress,
    resolve_host: bool = True,
    default_port: int | str = LISTEN_PORT,
    default_proc: str = 'udp',
) -> str:
    """Complete a URI and check it.

    Blocks while a name is resolved; inside an event loop use ``EchoProtocol.client`` and ``server``, which
    do not.

    Parameters
    ----------
    uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
        A URI, a host with or without a port, or an IP address.
    resolve_host : bool
        Whether to replace a host name by its IP address.
    default_port : int or str
        The port if there is none.
    default_proc : str
        The scheme if there is none.

    Returns
    -------
    str
        ``scheme://host:port``.

    Raises
    ------
    TypeError
        `uri` is neither text nor an IP address.
    ValueError
        The host name does not resolve or has characters that a name cannot have; or the port is not in 1 to
        65535.
    """
    parsed = parse(uri, default_port, default_proc)
    _require_port(parsed)
    if resolve_host and not is_valid_ip(parsed.host):
        parsed = Uri(parsed.scheme, str(hostname2ip(parsed.host)), parsed.port)
    elif not parsed.host:
        parsed = Uri(parsed.scheme, socket.gethostname(), parsed.port)
    return str(parsed)


async def resolve_host(host: str) -> str:
    """Return the IP address of a host as text, without blocking the event loop.

    Parameters
    ----------
    host : str
        A name, an IP address (returned as it is), or ``''`` for this computer.

    Returns
    -------
    str
        The address.

    Raises
    ------
    ValueError
        The name does not resolve.
    """
    if is_valid_ip(host):
        return host
    return str(await asyncio.get_running_loop().run_in_executor(None, hostname2ip, host))


async def resolve(uri: str | IPAddress, any_port: bool = False) -> tuple[Uri, Uri]:
    """Parse the URI of a communicator and resolve its host, without blocking the event loop.

    Parameters
    ----------
    uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
        What the user gave.
    any_port : bool
        Whether port 0 is allowed.

    Returns
    -------
    tuple of (Uri, Uri)
        The URI as given, and with a numeric host.

    Raises
    ------
    TypeError, ValueError
        It is not valid, its scheme is not one of a communicator, or the name does not resolve.
    """
    given = parse(uri)
    if given.scheme not in SCHEMES:
        raise ValueError(f'Unknown scheme {given.scheme!r} in {uri!r}; choose from {", ".join(SCHEMES)}')
    if not any_port:
        _require_port(given)
    return given, Uri(given.scheme, await resolve_host(given.host), given.port)


def as_address(addr: Any) -> Address:
    """Bring an address given by a user into the form that the library uses.

    Parameters
    ----------
    addr : sequence of (str, int)
        A host name or IP address, and a port as a number or text. What IPv6 adds to it is folded in.

    Returns
    -------
    tuple of (str, int)
        The host and port.

    Raises
    ------
    TypeError, ValueError
        It is no such pair.
    """
    if not isinstance(addr, (tuple, list)) or len(addr) < 2:
        raise TypeError(f'An address is a (host, port) pair, not {addr!r}')
    host, port = str(addr[0]), _port(addr[1], addr)
    if len(addr) == 4 and addr[3] and '%' not in host:
        host = f'{host}%{addr[3]}'
    return host, port
