"""Access control by source address: IP addresses, networks and host names.

1. Host names are resolved once, when a communicator is opened, and never on the event loop.
2. An IPv4 address received through an IPv6 socket (``::ffff:a.b.c.d``) counts as that IPv4 address, on both sides.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from ..checks import described, short
from ..resolver import lookup
from ..uri import IPAddress, Uri, as_address, parse

__all__ = ['AllowList', 'check_server', 'parse_allowlist', 'parse_entries']

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_ADDRESS = (ipaddress.IPv4Address, ipaddress.IPv6Address)
_NETWORK = (ipaddress.IPv4Network, ipaddress.IPv6Network)
_INTERFACE = (ipaddress.IPv4Interface, ipaddress.IPv6Interface)  # subclasses of addresses, whose network would be lost
_MAPPED = ipaddress.IPv6Network('::ffff:0:0/96')
_ACCEPTED = 'an IP address, a network such as 10.0.0.0/8 or fe80::/10, or a host name'
_CACHE_SIZE = 4096  # decisions; bounds the memory in a flood from forged addresses


class AllowList:
    """The hosts that may talk to a communicator; ``host in allowed`` takes an IP address as text.

    An IPv6 address with a scope (``fe80::1%4``) is allowed on this one link, without a scope on every link.
    """

    def __init__(self, entries: Iterable[IPAddress | _Network]) -> None:
        self._hosts: set[IPAddress] = set()
        self._networks: list[_Network] = []
        for entry in entries:
            if isinstance(entry, _NETWORK):
                self._networks.append(_unmapped_network(entry))
            else:
                self._hosts.add(_normalized(entry))
        if not self._hosts and not self._networks:
            raise ValueError(f'allow= is empty, so that every host would be refused; it takes {_ACCEPTED}')
        self.decide = lru_cache(maxsize=_CACHE_SIZE)(self._decide)

    def __contains__(self, host: str) -> bool:
        return self.decide(host)

    def __str__(self) -> str:
        return ', '.join(sorted(map(str, [*self._hosts, *self._networks])))

    def _decide(self, host: str) -> bool:
        try:
            address = _normalized(ipaddress.ip_address(host))
        except ValueError:
            return False
        unscoped = _unscoped(address)
        return bool({address, unscoped} & self._hosts) or any(unscoped in network for network in self._networks)


def _normalized(address: IPAddress) -> IPAddress:
    """Return the IPv4 address of a mapped one, and the name of a scope as its number, as the system reports it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id and not address.scope_id.isdigit():
            try:
                return ipaddress.IPv6Address(f'{_unscoped(address)}%{socket.if_nametoindex(address.scope_id)}')
            except OSError:
                raise ValueError(f'Invalid entry {str(address)!r} in allow=: no such network interface') from None
    return address


def _unscoped(address: IPAddress) -> IPAddress:
    return ipaddress.IPv6Address(int(address)) if getattr(address, 'scope_id', None) else address


def _unmapped_network(network: _Network) -> _Network:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network


def _parse_entry(entry: Any) -> IPAddress | _Network | str:
    """Return the address or network of an entry; a host name is returned as it is."""
    if isinstance(entry, (*_ADDRESS, *_NETWORK)) and not isinstance(entry, _INTERFACE):
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
            reason = str(ex)[:200]
            raise ValueError(f'Invalid network {short(entry)} in allow=: {reason}; it takes {_ACCEPTED}') from None
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(entry)
    with contextlib.suppress(ValueError):
        if entry and parse(entry, 0, '') == Uri('', entry, 0):  # only a host
            return entry
    raise ValueError(f'Invalid entry {short(entry)} in allow=: it takes {_ACCEPTED}, without a scheme or a port')


def parse_entries(allow: Any) -> list[IPAddress | _Network | str]:
    """Return the entries of ``allow=``, without resolving host names; TypeError or ValueError if one is invalid."""
    if isinstance(allow, (str, *_ADDRESS, *_NETWORK)):
        allow = [allow]
    elif isinstance(allow, (bytes, bytearray)) or not isinstance(allow, Iterable):
        raise TypeError(f'allow= takes {_ACCEPTED}, or several of them, not {described(allow)}')
    return [_parse_entry(entry) for entry in allow]


async def parse_allowlist(allow: Any) -> AllowList | None:
    """Return the list of ``allow=`` with host names resolved, or None, which allows every host.

    Raises TypeError or ValueError if an entry is invalid, a name does not resolve, or there are no entries.
    """
    if allow is None:
        return None
    resolved: list[IPAddress | _Network] = []
    for entry in parse_entries(allow):
        if isinstance(entry, str):
            try:
                resolved += map(ipaddress.ip_address, await lookup(entry))
            except ValueError as ex:
                raise ValueError(f'Failed to resolve the host name {entry!r} in allow=: {ex.__cause__}') from ex
        else:
            resolved.append(entry)
    return AllowList(resolved)


def check_server(allow: AllowList | None, uris: Sequence[Uri], sock: socket.socket | None, name: str) -> None:
    """Raise PermissionError if no address of the server of a client, or not that of its socket, is allowed."""
    if allow is None:
        return
    hosts = [uri.host for uri in uris]
    if sock is not None:
        with contextlib.suppress(OSError):  # not connected yet
            hosts = [as_address(sock.getpeername())[0]]
    if not any(host in allow for host in hosts):
        raise PermissionError(f'{name} is at {", ".join(hosts)}, which is not in allow= ({allow}); nothing was sent')
