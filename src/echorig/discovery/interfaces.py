"""The network interfaces of this computer, and which addresses of a rig to announce and to use.

Multicast DNS is spoken over IPv4. The records in it may be IPv6 addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

__all__ = ['Place', 'local_networks', 'place_of', 'preferred', 'search_interfaces']

Network = IPv4Interface | IPv6Interface
_WHOLE = {4: 32, 6: 128}  # the prefix of an address without a network, such as that of a tunnel


@dataclass(frozen=True)
class Place:
    """Where a server is announced: by which interfaces (IPv4 addresses), and which addresses it has."""

    interfaces: tuple[str, ...]
    addresses: tuple[str, ...]


def local_networks() -> list[list[Network]]:
    """Return the addresses of this computer with their networks, a list for each interface."""
    import ifaddr  # a package that python-zeroconf depends on

    adapters = []
    for adapter in ifaddr.get_adapters():
        hosts = [
            (ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition('%')[0], ip.network_prefix) for ip in adapter.ips
        ]
        adapters.append([ip_interface(f'{host}/{prefix}') for host, prefix in hosts])
    return adapters


def place_of(host: str, chosen: Sequence[str] | None, adapters: list[list[Network]]) -> Place:
    """Return where to announce a server on `host`, on the chosen interfaces or on those it listens on."""
    host = host.partition('%')[0]
    address = ip_address(host)
    if address.is_loopback:
        chosen = ['127.0.0.1']  # elsewhere this address would lead to the wrong computer
    elif chosen is None and address.is_unspecified:
        speaking = _speaking(adapters)
        chosen = [str(own.ip) for own in [own for own in speaking if not own.ip.is_loopback] or speaking]
    elif chosen is None:
        chosen = [str(own.ip) for adapter in adapters if _has(adapter, [host]) for own in _speaking([adapter])]
    interfaces = tuple(one for one in chosen if any(_has(adapter, [one]) for adapter in adapters))
    if not address.is_unspecified:
        is_here = address.is_loopback or any(_has(adapter, [host]) for adapter in adapters)
        return Place(interfaces, (host,) if is_here else ())
    there = [own for adapter in adapters if _has(adapter, interfaces) for own in adapter]
    found = [str(own.ip) for own in there if str(own.ip) in interfaces]
    if address.version == 6:
        found += [str(own.ip) for own in there if own.version == 6 and not own.ip.is_link_local]
    return Place(interfaces, tuple(dict.fromkeys(found)))


def search_interfaces(chosen: Sequence[str] | None, adapters: list[list[Network]]) -> list[str]:
    """Return the IPv4 addresses of the interfaces on which to look for rigs; loopback finds those on this computer."""
    return list(chosen) if chosen is not None else [str(own.ip) for own in _speaking(adapters)]


def preferred(addresses: Iterable[str], adapters: list[list[Network]]) -> list[str]:
    """Return the addresses of a rig, those first that this computer reaches directly.

    An address that this computer has too leads to itself: virtual networks have the same address on each computer. It
    is used only if all addresses of the rig are of this computer.
    """
    networks = [own for adapter in adapters for own in adapter]
    mine = {own.ip for own in networks}
    given = [ip_address(address) for address in dict.fromkeys(addresses)]
    elsewhere = [address for address in given if address not in mine and not address.is_loopback]
    usable = [address for address in elsewhere or given if not address.is_link_local] or elsewhere or given
    is_near = {address: any(address in own.network for own in networks) for address in usable}
    return [str(address) for address in sorted(usable, key=lambda one: (not is_near[one], one.version))]


def _speaking(adapters: list[list[Network]]) -> list[Network]:
    """Return the addresses by which multicast DNS is spoken."""
    return [own for adapter in adapters for own in adapter if own.version == 4 and own.network.prefixlen < _WHOLE[4]]


def _has(adapter: list[Network], hosts: Sequence[str]) -> bool:
    return any(str(own.ip) in hosts for own in adapter)
