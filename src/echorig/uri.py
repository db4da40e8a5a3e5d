"""URIs and addresses: a URI is parsed once, into a frozen `Uri`.

An address is ``(host, port)``, for IPv6 as for IPv4; the host contains the scope (``fe80::1%4``). IP addresses are
always in their shortest form, so that equal ones compare equal. Over NATS, the host of an address is a subject, such as
``lab.room2.camera``, and the port that of the broker.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

from .checks import described, short, text

__all__ = [
    'DATAGRAM_SCHEMES',
    'LISTEN_PORT',
    'NATS_PORT',
    'SCHEMES',
    'Address',
    'IPAddress',
    'Uri',
    'address_text',
    'as_address',
    'checked_address',
    'checked_subject',
    'is_valid_ip',
    'mapped',
    'parse',
    'parse_broker',
    'require_port',
    'unmapped',
    'with_login',
    'without_login',
]

LISTEN_PORT = 11001
"""int: The default port of rigs."""

NATS_PORT = 4222
"""int: The default port of NATS brokers."""

SCHEMES = ('udp', 'tcp', 'tls', 'ws', 'wss', 'nats')
"""tuple of str: The transports of a communicator; ws is another name of tcp, and wss of tls."""

DATAGRAM_SCHEMES = ('udp', 'nats')
"""tuple of str: The transports without connections, which carry one frame at a time and may lose it."""

Address = tuple[str, int]
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_SCHEME = re.compile(r'([a-zA-Z][a-zA-Z0-9+.-]*)://')
_LABEL = re.compile(rb'[A-Za-z0-9_-]{1,63}')  # in ASCII, as name servers know it
_SUBJECT = re.compile(r'[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*')
_LOGIN = re.compile(r'^([a-z0-9+.-]*://)?.*@', re.IGNORECASE | re.DOTALL)
_LONGEST_SUBJECT = 255  # characters; a broker reads control lines of 4,096, which have two of our subjects


@dataclass(frozen=True)
class Uri:
    """A complete URI."""

    scheme: str
    host: str  # a name or an IP address, IPv6 without brackets; '' for this computer
    port: int  # 0 for any free port
    subject: str = ''  # over NATS
    login: str = field(default='', repr=False)  # for a NATS broker: user:password or a token; never shown

    def __str__(self) -> str:
        host = f'[{self.host}]' if ':' in self.host else self.host
        path = f'/{self.subject}' if self.subject else ''
        return f'{self.scheme}://{host}:{self.port}{path}'

    @property
    def is_tls(self) -> bool:
        """Whether the transport is TLS."""
        return self.scheme in ('tls', 'wss')

    @property
    def address(self) -> Address:
        """The host and port, or over NATS the subject and port."""
        return self.subject or self.host, self.port


def address_text(scheme: str, addr: Address) -> str:
    """Return an address as the text of a URI, or, over NATS, as the subject."""
    return f'subject {addr[0]}' if scheme == 'nats' else str(Uri(scheme, *addr))


@lru_cache(maxsize=4096)
def _shortest(host: str) -> str | None:
    """Return an IP address in its shortest form; None for any other text."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def is_valid_ip(ip_address: object) -> bool:
    """Return whether a value is an IP address.

    Parameters
    ----------
    ip_address : str
        The value.

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
    """Parse a URI, a host with or without a port, or an IP address; ``''`` is this computer. No name is resolved."""
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
    if scheme == 'nats':
        return _parse_nats(rest, needs_subject=True)
    if '@' in rest and '://' in uri:
        raise ValueError(f'The URI {short(without_login(uri))} has a login, which only a nats:// URI may have')
    rest = rest.removesuffix('/')
    host, port = _host_and_port(rest, uri)
    return Uri(scheme, host, _port(port or default_port, 'the URI', uri))


def _host_and_port(rest: str, uri: str) -> tuple[str, str]:
    """Split ``host:port``; `uri` is shown in errors."""
    port = ''
    if rest.startswith('['):
        host, bracket, port = rest[1:].partition(']')
        if not bracket or (port and not port.startswith(':')) or not is_valid_ip(host):
            raise ValueError(f'Invalid IPv6 address in the URI {short(uri)}')
        port = port[1:]
    elif is_valid_ip(rest):
        host = rest  # maybe an IPv6 address, whose colons do not separate a port
    else:
        host, _, port = rest.partition(':')
        if host and not is_valid_ip(host) and not _is_hostname(host):
            raise ValueError(f'Invalid host name {short(host)} in the URI {short(uri)}')
    return _shortest(host) or host, port


def without_login(uri: str) -> str:
    """Return a URI as it was given, without a login, for output."""
    return _LOGIN.sub(r'\1', uri)


def with_login(uri: str, login: str) -> str:
    """Return the URI of a NATS server with a login for its broker, if there is one."""
    return f'nats://{login}@{uri.partition("://")[2]}' if login else uri


def parse_broker(uri: Any, what: str = 'broker') -> Uri:
    """Parse the URI of a NATS broker, without a subject; `what` is the name of the argument."""
    scheme, mark, rest = text(uri, what).partition('://')
    if not mark or scheme.lower() != 'nats':
        raise ValueError(f'{what} must be the URI of a NATS broker, such as nats://192.168.0.5:4222')
    return _parse_nats(rest.rstrip('/'), needs_subject=False)


def _parse_nats(rest: str, needs_subject: bool) -> Uri:
    """Parse what is behind ``nats://``: the broker, with or without a login, and a subject."""
    login, _, rest = rest.rpartition('@')  # a password may have any character
    authority, _, subject = rest.partition('/')
    shown = f'nats://{authority}/{subject}'  # without the login
    host, port = _host_and_port(authority, shown)
    if not host:
        raise ValueError(
            f'The URI {short(shown)} has no broker: give its host, as in nats://192.168.0.5/lab.room2.camera'
        )
    number = _port(port or NATS_PORT, 'the URI', shown)
    if not subject and not needs_subject:
        return Uri('nats', host, number, '', login)
    if not subject or not needs_subject:
        mistake = 'has no subject' if needs_subject else 'must have no subject'
        raise ValueError(f'The URI {short(shown)} {mistake}, as in nats://192.168.0.5/lab.room2.camera')
    return Uri('nats', host, number, checked_subject(subject, f'The URI {short(shown)}'), login)


def checked_subject(subject: str, what: str) -> str:
    """Return the subject of a NATS server, or raise ValueError; `what` names its origin."""
    if not _SUBJECT.fullmatch(subject) or len(subject) > _LONGEST_SUBJECT:
        raise ValueError(
            f'{what} has the subject {short(subject)}; it must be words of letters, digits, - and _ with dots between '
            f'them, such as lab.room2.camera, of at most {_LONGEST_SUBJECT} characters'
        )
    return subject


def _is_hostname(host: str) -> bool:
    """Return whether the system may know a name: labels of letters, digits, - and _, the last one no number.

    The letters are those of any language (IDNA, RFC 3490).
    """
    try:
        name = host.encode('idna').removesuffix(b'.')
    except UnicodeError:  # an empty label, one that is too long, or characters that no name can have
        return False
    labels = name.split(b'.')
    is_valid = len(name) <= 253 and not host.startswith('-') and all(map(_LABEL.fullmatch, labels))
    return is_valid and not (len(labels) > 1 and labels[-1].isdigit())


def _port(port: Any, what: str, value: object) -> int:
    """Return a port as an int; `what` and `value` name its origin in errors."""
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
    """Raise `ValueError` for port 0, which means any free port."""
    if uri.port == 0:
        raise ValueError(f'Invalid port number 0 in {uri}: ports are 1 to 65535')


def checked_address(addr: Any, what: str = 'addr') -> Address:
    """Return the (host, port) pair of an address given by a user; `what` is the name of the argument."""
    if type(addr) is tuple and len(addr) == 2:  # the usual case, for speed
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
    """Return the (host, port) pair of a socket address, with the scope of IPv6 in the host."""
    if not isinstance(addr, (tuple, list)) or len(addr) < 2:
        raise TypeError(f'An address is a (host, port) pair, not {described(addr)}')
    host, port = str(addr[0]), _port(addr[1], 'the address', addr)
    host = _shortest(host) or host
    if len(addr) == 4 and addr[3] and '%' not in host:
        host = f'{host}%{addr[3]}'
    return host, port


def mapped(host: str) -> str:
    """Return an IPv4 address as an IPv6 socket has it (``::ffff:a.b.c.d``), and any other as it is."""
    return host if ':' in host else str(ipaddress.IPv6Address(f'::ffff:{host}'))


def unmapped(addr: Address) -> Address:
    """Return the address of an IPv4 peer of an IPv6 socket as that of IPv4, and any other as it is."""
    if addr[0].startswith('::ffff:') and (host := ipaddress.IPv6Address(addr[0]).ipv4_mapped) is not None:
        return str(host), addr[1]
    return addr
