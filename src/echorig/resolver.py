"""Names of computers: resolving them, once, when a communicator is opened, and never on the event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

from .checks import flag, short, text
from .uri import LISTEN_PORT, SCHEMES, IPAddress, Uri, is_valid_ip, parse, require_port

__all__ = ['external_ip', 'hostname2ip', 'resolve', 'resolve_host', 'validate_uri']


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
    import urllib.request  # half as long as all the rest to import, and few need it

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
    TypeError
        It is no text.
    ValueError
        The name does not resolve.
    """
    if hostname is not None:
        text(hostname, 'hostname')
    hostname = hostname or socket.gethostname()
    try:
        found = socket.getaddrinfo(hostname, None, type=socket.SOCK_DGRAM)
    except (OSError, ValueError) as ex:  # also of characters that a name cannot have
        raise ValueError(f'Failed to resolve the host name {short(hostname)}: {str(ex)[:200]}') from ex
    return _preferred(found)


def _preferred(found: list[Any]) -> IPAddress:
    """Return the first IPv4 address of a getaddrinfo() answer, else the first of all."""
    family, *_, sockaddr = min(found, key=lambda info: info[0] != socket.AF_INET)
    host = str(sockaddr[0])
    if family == socket.AF_INET6 and sockaddr[3] and '%' not in host:
        host = f'{host}%{sockaddr[3]}'
    return ipaddress.ip_address(host)


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
    flag(resolve_host, 'resolve_host')
    parsed = parse(uri, default_port, default_proc)
    require_port(parsed)
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
        raise ValueError(
            f'Unknown scheme {short(given.scheme)} in the URI {short(uri)}; choose from {", ".join(SCHEMES)}'
        )
    if not any_port:
        require_port(given)
    return given, Uri(given.scheme, await resolve_host(given.host), given.port)
