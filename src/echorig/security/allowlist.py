"""Who may talk to a communicator: IP addresses, networks and the computers behind names.

1. Names are resolved once, when a communicator is opened, and never on the event loop.
2. An IPv4 address that came through an IPv6 socket (``::ffff:a.b.c.d``) is that IPv4 address, on both sides.
3. What has been decided is remembered in a table of bounded size: invented senders must not make it grow.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

from ..checks import described, short
from ..uri import IPAddress, Uri, as_address, parse

__all__ = ['Allowed', 'allowed', 'check_server', 'entries']

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ADDRESS = (ipaddress.IPv4Address, ipaddress.IPv6Address)
_NETWORK = (ipaddress.IPv4Network, ipaddress.IPv6Network)
_INTERFACE = (
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)  # addresses, too; their network would be lost
_MAPPED = ipaddress.IPv6Network('::ffff:0:0/96')
_ACCEPTED = 'an IP address, a network such as 10.0.0.0/8 or fe80::/10, or a host name'
_REMEMBERED = 4096  # hosts


class Allowed:
    """The hosts that may talk to a communicator; ``host in allowed`` takes an IP address as text.

    Parameters
    ----------
    entries : iterable of ipaddress objects
        Addresses and networks. An IPv6 address with a scope (``fe80::1%4``) stands for this one link, without one
        for any.

    Raises
    ------
    ValueError
        There are none, so that nobody could ever be heard.
    """

    def __init__(self, entries: Iterable[IPAddress | _Network]) -> None:
        self._hosts: set[IPAddress] = set()
        self._networks: list[_Network] = []
        for entry in entries:
            if isinstance(entry, _NETWORK):
                self._networks.append(_plain_network(entry))
            else:
                self._hosts.add(_plain(entry))
        if not self._hosts and not self._networks:
            raise ValueError(f'allow= is empty, so that nobody could be heard; it takes {_ACCEPTED}')
        self._known: dict[str, bool] = {}

    def __contains__(self, host: object) -> bool:
        known = self._known.get(host)  # type: ignore[call-overload]
        if known is None:
            known = self._decide(host)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[host] = known  # type: ignore[index]
        return bool(known)

    def __str__(self) -> str:
        return ', '.join(sorted(map(str, [*self._hosts, *self._networks])))

    def _decide(self, host: object) -> bool:
        try:
            address = _plain(ipaddress.ip_address(host))  # type: ignore[arg-type]
        except ValueError:
            return False
        if address in self._hosts or _without_scope(address) in self._hosts:
            return True
        address = _without_scope(address)
        return any(address in network for network in self._networks)


def _plain(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that is meant, and a scope as a number, as the system gives it with a message."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id and not address.scope_id.isdigit():
            try:
                return ipaddress.IPv6Address(f'{_without_scope(address)}%{socket.if_nametoindex(address.scope_id)}')
            except OSError:
                raise ValueError(f'Invalid entry {str(address)!r} in allow=: no such network interface') from None
    return address


def _without_scope(address: IPAddress) -> IPAddress:
    return ipaddress.IPv6Address(int(address)) if getattr(address, 'scope_id', None) else address


def _plain_network(network: _Network) -> _Network:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network


def _parsed(entry: Any) -> IPAddress | _Network | str:
    """Return what an entry means; text that is a host name as it is."""
    if isinstance(entry, _NETWORK) or (isinstance(entry, _ADDRESS) and not isinstance(entry, _INTERFACE)):
        return entry
    if not isinstance(entry, str):
        raise TypeError(
            f'Invalid entry {short(entry)} in allow=: {_ACCEPTED}, as text or as an ipaddress object, '
            f'not {described(entry)}'
        )
    if '/' in entry:
        try:
            return ipaddress.ip_network(entry)
        except ValueError as ex:
            raise ValueError(
                f'Invalid network {short(entry)} in allow=: {str(ex)[:200]}; it takes {_ACCEPTED}'
            ) from None
    try:
        return ipaddress.ip_address(entry)
    except ValueError:
        pass
    try:
        is_name = bool(entry) and parse(entry, 0, '') == Uri('', entry, 0)  # nothing but a host
    except ValueError:
        is_name = False
    if not is_name:
        raise ValueError(f'Invalid entry {short(entry)} in allow=: it takes {_ACCEPTED}, without a scheme or a port')
    return entry


def entries(allow: Any) -> list[IPAddress | _Network | str]:
    """Read the ``allow=`` of a communicator, without resolving the names in it.

    Parameters
    ----------
    allow : str, ipaddress object, or iterable of those
        Who may talk to it.

    Returns
    -------
    list
        Addresses, networks and names.

    Raises
    ------
    TypeError, ValueError
        An entry is none.
    """
    if isinstance(allow, (str, *_ADDRESS, *_NETWORK)):
        allow = [allow]
    elif isinstance(allow, (bytes, bytearray)) or not isinstance(allow, Iterable):
        raise TypeError(f'allow= takes {_ACCEPTED}, or several of them, not {described(allow)}')
    return [_parsed(entry) for entry in allow]


async def allowed(allow: Any) -> Allowed | None:
    """Read the ``allow=`` of a communicator, and resolve the names in it.

    Parameters
    ----------
    allow : str, ipaddress object, iterable of those, or None
        Who may talk to it; None is everybody.

    Returns
    -------
    Allowed or None
        The hosts.

    Raises
    ------
    TypeError, ValueError
        An entry is none, a name does not resolve, or there are no entries.
    """
    if allow is None:
        return None
    found: list[IPAddress | _Network] = []
    for entry in entries(allow):
        if isinstance(entry, str):
            found += await asyncio.get_running_loop().run_in_executor(None, _addresses, entry)
        else:
            found.append(entry)
    return Allowed(found)


def _addresses(name: str) -> list[IPAddress]:
    """Return all addresses of a computer."""
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as ex:
        raise ValueError(f'Failed to resolve the host name {name!r} in allow=: {ex}') from ex
    return [ipaddress.ip_address(str(info[4][0])) for info in infos]


def check_server(allow: Allowed | None, uri: Uri, sock: socket.socket | None, name: str) -> None:
    """Refuse a server that a client is not allowed to talk to.

    Parameters
    ----------
    allow : Allowed or None
        What the client was told.
    uri : Uri
        The server; the host is numeric.
    sock : socket.socket or None
        The socket that the client was given, which may lead elsewhere.
    name : str
        What the user calls the server.

    Raises
    ------
    PermissionError
        Its address is not among those allowed.
    """
    if allow is None:
        return
    hosts = [uri.host]
    if sock is not None:
        with contextlib.suppress(OSError):  # not connected yet
            hosts.append(as_address(sock.getpeername())[0])
    for host in hosts:
        if host not in allow:
            raise PermissionError(f'{name} is at {host}, which is not in allow= ({allow}); nothing was sent')
