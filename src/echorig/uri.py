"""Addresses: a URI is parsed once, into a frozen :class:`Uri`; everything after that uses its fields.

An address is ``(host, port)``, for IPv6 as for IPv4; a scope travels in the host (``fe80::1%4``). IP addresses are
always in their shortest form, so that equal ones compare equal.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

from .checks import described, short, text

__all__ = [
    'LISTEN_PORT',
    'SCHEMES',
    'Address',
    'IPAddress',
    'Uri',
    'address_text',
    'as_address',
    'canonical',
    'checked_address',
    'is_valid_ip',
    'parse',
    'require_port',
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


def address_text(scheme: str, addr: Address) -> str:
    """Return an address as a URI, for people."""
    return str(Uri(scheme, *addr))


@lru_cache(maxsize=4096)
def _shortest(host: str) -> str | None:
    """Return an IP address in its shortest form; None if it is none. Messages come from and go to the same few."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def canonical(host: str) -> str:
    """Return an IP address in its shortest form; anything else as it is."""
    return _shortest(host) or host


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
    if type(ip_address) is str:
        return _shortest(ip_address) is not None
    try:
        ipaddress.ip_address(ip_address)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


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
    text(default_proc, 'default_proc')
    if not isinstance(default_port, str):
        default_port = _port(default_port, 'the argument', 'default_port')
    if isinstance(uri, str):
        return _parse_text(uri, default_port, default_proc)
    if isinstance(uri, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return Uri(default_proc, str(uri), _port(default_port, 'the URI', uri))
    raise TypeError(f'A URI is a str or an ipaddress object, not {described(uri)}')


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
            raise ValueError(f'Invalid IPv6 address in the URI {short(uri)}')
        port = port[1:]
    elif is_valid_ip(rest):
        host = rest  # also a bare IPv6 address, whose colons are no port
    else:
        host, _, port = rest.partition(':')
        if host and not is_valid_ip(host) and not _is_hostname(host):
            raise ValueError(f'Invalid host name {short(host)} in the URI {short(uri)}')
    return Uri(scheme, canonical(host), _port(port or default_port, 'the URI', uri))


def _is_hostname(host: str) -> bool:
    """Tell whether this can be a host name: labels of letters, digits, - and _, the last not a number."""
    labels = host.removesuffix('.').split('.')
    return len(host) <= 253 and all(map(_LABEL.fullmatch, labels)) and not (len(labels) > 1 and labels[-1].isdigit())


def _port(port: Any, what: str, value: object) -> int:
    """Return a port as a number; `what` and `value` say where it stands."""
    if type(port) is int:
        number = port
    elif isinstance(port, str):
        number = int(port) if port.isascii() and port.isdigit() and len(port) < 10 else -1
    elif isinstance(port, bool) or not isinstance(port, Real):
        raise TypeError(f'Invalid port {described(port)} in {what} {short(value)}: a port is a number, 1 to 65535')
    elif isinstance(port, Integral):
        number = int(port)
    else:
        number = int(float(port)) if port == port // 1 else -1  # nor is not-a-number
    if not 0 <= number <= 65535:
        raise ValueError(f'Invalid port number {short(port)} in {what} {short(value)}: ports are 1 to 65535')
    return number


def require_port(uri: Uri) -> None:
    """Refuse port 0, which means any that is free."""
    if uri.port == 0:
        raise ValueError(f'Invalid port number 0 in {uri}: ports are 1 to 65535')


def checked_address(addr: Any, what: str = 'addr') -> Address:
    """Return an address given by a user in the form that the library uses.

    Parameters
    ----------
    addr : sequence of (str, int)
        A host name or IP address, and a port as a number or text. What IPv6 adds to it is folded in.
    what : str
        The name of the argument.

    Returns
    -------
    tuple of (str, int)
        The host and port.

    Raises
    ------
    TypeError, ValueError
        It is no such pair.
    """
    if type(addr) is tuple and len(addr) == 2:  # of most messages
        host, port = addr
        if type(host) is str and type(port) is int and 0 <= port < 65536 and (known := _shortest(host)):
            return known, port
    if not isinstance(addr, (tuple, list)) or len(addr) not in (2, 4):
        raise TypeError(f"{what} must be a (host, port) pair such as ('192.168.0.12', 11001), not {described(addr)}")
    host = addr[0]
    if not isinstance(host, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        raise TypeError(f'{what} must begin with a host name or IP address, a str, not {described(host)}')
    if isinstance(host, str) and host and not is_valid_ip(host) and not _is_hostname(host):
        raise ValueError(f'{what} must begin with a host name or IP address, which {short(host)} cannot be')
    port = _port(addr[1], what, addr)
    if len(addr) == 4 and (isinstance(addr[3], bool) or not isinstance(addr[3], int)):
        raise TypeError(f'{what} must end with the scope of an IPv6 address, an int, not {described(addr[3])}')
    return as_address((host, port, *addr[2:]))


def as_address(addr: Any) -> Address:
    """Bring an address that the system gave into the form that the library uses; a user's: `checked_address`.

    Parameters
    ----------
    addr : sequence of (str, int)
        A host name or IP address, and a port. What IPv6 adds to it is folded in.

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
        raise TypeError(f'An address is a (host, port) pair, not {described(addr)}')
    host, port = canonical(str(addr[0])), _port(addr[1], 'the address', addr)
    if len(addr) == 4 and addr[3] and '%' not in host:
        host = f'{host}%{addr[3]}'
    return host, port
