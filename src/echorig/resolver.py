"""Resolution of host names, never on the event loop and never on its default executor."""

from __future__ import annotations

import _socket  # of which a test replaces nothing
import asyncio
import contextlib
import ipaddress
import socket
from dataclasses import replace
from time import monotonic
from typing import Any

from .checks import flag, short, text
from .compatibility import in_force
from .threads import in_thread
from .uri import LISTEN_PORT, SCHEMES, IPAddress, Uri, is_valid_ip, parse, require_port

__all__ = ['external_ip', 'hostname2ip', 'lookup', 'own_addresses', 'resolve', 'resolve_all', 'validate_uri']

# Look-ups that run, and their start, by loop and name: a name server that does not answer holds few threads for each.
_running: dict[tuple[asyncio.AbstractEventLoop, str], tuple[asyncio.Future[list[str]], float]] = {}
SHARED_FOR = 5.0  # seconds; the network of a look-up that hangs may have changed since


def external_ip() -> IPAddress:
    """Return the public IP address of this network, as a server on the internet reports it.

    Blocks for the time of the request, at most 10 seconds.

    Returns
    -------
    ipaddress.IPv4Address or ipaddress.IPv6Address
        The address.

    Raises
    ------
    OSError
        There is no connection to the internet.
    """
    import urllib.request  # its import takes half as long as that of all other modules together

    with contextlib.closing(urllib.request.urlopen('https://ident.me', timeout=10)) as reply:
        return ipaddress.ip_address(reply.read().decode('ascii').strip())


def hostname2ip(hostname: str | None = None) -> IPAddress:
    """Resolve a host name; IPv4 is preferred, because every existing rig supports it.

    Parameters
    ----------
    hostname : str, optional
        The name, by default that of this computer.

    Returns
    -------
    ipaddress.IPv4Address or ipaddress.IPv6Address
        The address.

    Raises
    ------
    TypeError
        The name is no str.
    ValueError
        The name does not resolve.
    """
    if hostname is not None:
        text(hostname, 'hostname')
    return ipaddress.ip_address(_addresses_of(hostname or '')[0])


def _getaddrinfo(hostname: str) -> list[Any]:
    if socket.gethostbyname is not _socket.gethostbyname and in_force().patched_names:
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, '', (socket.gethostbyname(hostname), 0))]
    try:
        return socket.getaddrinfo(hostname, None, type=socket.SOCK_DGRAM)
    except OSError:
        if hostname.isascii():
            raise
        # Files of hosts and multicast DNS have international names as they are written, and not in ASCII (IDNA).
        return socket.getaddrinfo(hostname.encode(), None, type=socket.SOCK_DGRAM)


def _addresses_of(hostname: str) -> list[str]:
    """Return all IP addresses of a name, those of IPv4 first; '' is this computer."""
    hostname = hostname or socket.gethostname()
    try:
        found = _getaddrinfo(hostname)
    except (OSError, ValueError) as ex:  # ValueError: characters that a name cannot have
        raise ValueError(f'Failed to resolve the host name {short(hostname)}: {str(ex)[:200]}') from ex
    hosts = []
    for family, *_, sockaddr in sorted(found, key=lambda info: info[0] != socket.AF_INET):
        host, _, *more = sockaddr
        if family == socket.AF_INET6 and more[1] and '%' not in str(host):  # the scope
            host = f'{host}%{more[1]}'
        hosts.append(str(ipaddress.ip_address(host)))
    return list(dict.fromkeys(hosts))


def own_addresses() -> list[str]:
    """Return the IP addresses at which other computers find this one, those of IPv4 first. Blocks for a look-up."""
    found = []
    # Connecting a datagram socket sends nothing, and sets the own address on the way there (RFC 5737, RFC 3849).
    for family, elsewhere in ((socket.AF_INET, '192.0.2.1'), (socket.AF_INET6, '2001:db8::1')):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((elsewhere, 9))
            found.append(sock.getsockname()[0])
    with contextlib.suppress(ValueError):
        found += _addresses_of('')
    known = map(ipaddress.ip_address, dict.fromkeys(found))
    usable = [ip for ip in known if not (ip.is_loopback or ip.is_unspecified or ip.is_link_local)]
    return [str(ip) for ip in sorted(usable, key=lambda ip: ip.version)]


def validate_uri(
    uri: str | IPAddress,
    resolve_host: bool = True,
    default_port: int | str = LISTEN_PORT,
    default_proc: str = 'udp',
) -> str:
    """Complete a URI and check it.

    Blocks while a name is resolved. ``EchoProtocol.client`` and ``server`` do not, so use those in an event loop.

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
        An argument has a wrong type.
    ValueError
        The host name is not valid or does not resolve, or the port is not in 1 to 65535.
    """
    flag(resolve_host, 'resolve_host')
    parsed = parse(uri, default_port, default_proc)
    require_port(parsed)
    host = parsed.host
    if resolve_host and not is_valid_ip(host) and parsed.scheme != 'nats':  # a certificate has the name of the broker
        host = str(hostname2ip(host))
    return str(replace(parsed, host=host or socket.gethostname()))


async def lookup(host: str) -> list[str]:
    """Return the IP addresses of a host without blocking the event loop, those of IPv4 first; '' is this computer.

    It may be cancelled at any time. Calls for one name at the same time share one thread.
    """
    if is_valid_ip(host):
        return [host]
    key = asyncio.get_running_loop(), host
    future, started = _running.get(key, (None, 0.0))
    if future is None or monotonic() - started > SHARED_FOR:
        entry = future, _ = in_thread(_addresses_of, host), monotonic()
        _running[key] = entry

        def end(future: asyncio.Future[list[str]]) -> None:
            if _running.get(key) is entry:
                del _running[key]
            if not future.cancelled():
                future.exception()  # nobody may be waiting any more

        future.add_done_callback(end)
    return await asyncio.shield(future)


async def resolve_all(uri: str | IPAddress, any_port: bool = False) -> tuple[Uri, list[Uri]]:
    """Return the URI of a communicator as given, and with each address of its host; `any_port` allows port 0."""
    given = parse(uri)
    if given.scheme not in SCHEMES:
        raise ValueError(
            f'Unknown scheme {short(given.scheme)} in the URI {short(uri)}; choose from {", ".join(SCHEMES)}'
        )
    if not any_port:
        require_port(given)
    if given.scheme == 'nats':  # the client of the broker looks its name up
        return given, [given]
    return given, [Uri(given.scheme, host, given.port) for host in await lookup(given.host)]


async def resolve(uri: str | IPAddress, any_port: bool = False) -> tuple[Uri, Uri]:
    """Return the URI of a communicator as given, and with the first address of its host."""
    given, found = await resolve_all(uri, any_port)
    return given, found[0]
