"""The way to an address: the own address, the interface and the network that the system uses, or why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from dataclasses import dataclass, replace
from time import monotonic

from ..threads import in_thread
from ..transports.sockets import connect_socket
from ..uri import Uri
from .finding import Finding
from .netlink import Neighbour, Netlink, Route

__all__ = ['Way', 'find_way', 'neighbour_of', 'way_finding']

_INTERVAL = 0.2  # seconds between two looks at the table of neighbours


@dataclass(frozen=True)
class Way:
    """How the system sends to an address."""

    host: str
    own: str | None = None  # the address that the rig sees
    interface: str | None = None
    network: str | None = None  # of the own address, where the system tells its prefix
    gateway: str | None = None
    networks: tuple[str, ...] = ()  # all networks of this computer, with their interfaces
    is_own: bool = False  # the address is one of this computer
    is_direct: bool | None = None  # the address is in a network of this computer; None if that is not known
    error: str | None = None


async def find_way(host: str, port: int) -> Way:
    """Return the way to an IP address; nothing is sent."""
    return await in_thread(_find_way, host, port)


async def neighbour_of(host: str, wait: float = 0.0) -> Neighbour | None:
    """Return what the system knows of the network card of an address; None if nothing.

    A card that has not answered for a while is asked again by the system. The outcome is awaited, in seconds.
    """
    end, before = monotonic() + wait, None
    while True:
        found = await in_thread(_neighbour, host)
        if found is None and before is not None:  # it was asked in vain, and forgotten
            return replace(before, is_present=False)
        if found is None or found.is_present is not None or monotonic() > end:
            return found
        before = found
        await asyncio.sleep(_INTERVAL)


def _neighbour(host: str) -> Neighbour | None:
    try:
        with Netlink() as netlink:
            return netlink.neighbour(host)
    except OSError:
        return None


def _find_way(host: str, port: int) -> Way:
    route, addresses = _ask_system(host)
    networks = tuple(
        f'{ipaddress.ip_network(f"{own}/{prefix}", strict=False)} ({interface})'
        for interface, own, prefix in addresses
        if not ipaddress.ip_address(own).is_loopback
        and (':' in own) == (':' in host)
        and not (
            ipaddress.ip_address(own).is_link_local and not ipaddress.ip_address(host.partition('%')[0]).is_link_local
        )
    )
    own, error = None, None
    try:
        sock = connect_socket(Uri('udp', host, port), {})
        assert sock is not None
        own = str(sock.getsockname()[0])
        sock.close()
    except OSError as ex:
        error = ex.strerror or str(ex)
    network = next((f'{own}/{prefix}' for _, mine, prefix in addresses if mine == own), None)
    return Way(
        host,
        own,
        route.interface if route else None,
        str(ipaddress.ip_network(network, strict=False)) if network else None,
        route.gateway if route else None,
        networks,
        route.is_local if route else own == host,
        None if route is None else route.gateway is None,
        error,
    )


def _ask_system(host: str) -> tuple[Route | None, list[tuple[str, str, int]]]:
    """Return the route to an address and the addresses of this computer, as far as the system tells them."""
    route, addresses = None, []
    with contextlib.suppress(OSError), Netlink() as netlink:
        with contextlib.suppress(OSError):
            addresses = netlink.networks()
        with contextlib.suppress(OSError):
            route = netlink.route(host)
    return route, addresses


def way_finding(way: Way) -> Finding:
    """Return the finding about a way."""
    facts: dict[str, object] = {
        'address': way.host,
        'own': way.own,
        'interface': way.interface,
        'network': way.network,
        'router': way.gateway,
        'networks': list(way.networks),
    }
    if way.error is not None:
        mine = f'this computer is in {", ".join(way.networks)}' if way.networks else 'this computer has no network'
        return Finding(
            'way',
            False,
            f'there is no way to {way.host} ({way.error}): {mine}, and no router leads there',
            _subnet_advice(way),
            facts | {'fault': 'no way'},
        )
    through = f' by {way.interface}' if way.interface else ''
    if way.is_own:
        return Finding('way', True, f'{way.host} is an address of this computer', facts=facts)
    if way.gateway is not None:
        text = f'{way.own}{through} sends to {way.host} by the router {way.gateway}: they are in different networks'
        return Finding('way', None, text, facts=facts)
    inside = f', both in {way.network}' if way.network else ''
    return Finding('way', True, f'{way.own}{through} sends to {way.host}{inside}', facts=facts)


def _subnet_advice(way: Way) -> str:
    if not way.networks:
        return 'plug in the cable, or switch on the interface, and give this computer an address (DHCP or a fixed one)'
    return (
        'wrong subnet, or the cable to the network of the rig is out: give the rig an address in the network of '
        'this computer, or this computer one in the network of the rig; compare the netmasks'
    )
