"""Why nothing answers: what the neighbour table, other ports of the same computer and TCP tell."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from ..uri import Address
from .finding import Finding
from .limits import Limits
from .netlink import Neighbour
from .reach import Reached, State, reach_tcp, reach_udp
from .way import Way, neighbour_of

__all__ = ['Evidence', 'look_around', 'silence_finding', 'unreachable_finding']

_CLOSED_PORT = 33_434  # where traceroute expects that no program listens


@dataclass(frozen=True)
class Evidence:
    """What is known of a computer that does not answer."""

    neighbour: Neighbour | None
    tcp: Reached  # at the same port
    other_port: State  # of a UDP port where probably no program listens

    @property
    def is_on(self) -> bool:
        """bool: Whether the computer has answered in any way."""
        is_present = self.neighbour is not None and self.neighbour.is_present
        replies = (State.ANSWERS, State.REFUSED, State.OTHER_ADDRESS)
        return is_present or self.tcp.state in replies or self.other_port in replies

    @property
    def is_open(self) -> bool:
        """bool: Whether the computer refuses another UDP port, so that no firewall drops everything."""
        return self.other_port is State.REFUSED


async def look_around(addr: Address, limits: Limits) -> Evidence:
    """Try TCP and another port of a computer, then look into the neighbour table."""
    port = _CLOSED_PORT + (addr[1] == _CLOSED_PORT)
    tcp, other = await asyncio.gather(reach_tcp(addr, limits), reach_udp((addr[0], port), limits))
    return Evidence(await neighbour_of(addr[0]), tcp, other.state)


def silence_finding(addr: Address, way: Way, evidence: Evidence, has_key: bool) -> Finding:
    """Return why nothing answers over UDP."""
    host, port = addr
    facts: dict[str, object] = {
        'address': host,
        'port': port,
        'tcp': evidence.tcp.state.value,
        'other_port': evidence.other_port.value,
        'neighbour': None if evidence.neighbour is None else evidence.neighbour.is_present,
    }
    key = 'its key is another one' if has_key else 'it needs a key (--key-file)'
    if way.is_own or evidence.is_open:
        text = (
            f'UDP port {port} at {host} is silent, other ports of that computer are refused: '
            f'a program has the port, and does not answer'
        )
        advice = (
            f'{key}, or it does not allow this computer (allow=): the log of the rig says so; '
            'or its program is blocked, or is no rig: which one has the port? (ss -ulpn; Windows: netstat -abno -p udp)'
        )
        return Finding('reach', False, text, advice, facts | {'fault': 'program silent'})
    if evidence.is_on:
        card = f' (network card {evidence.neighbour.card})' if evidence.neighbour and evidence.neighbour.card else ''
        text = f'UDP port {port} at {host} is silent, but the computer is on{card}: a firewall drops the datagrams'
        advice = f'open the port in the firewall of the rig, see below; if it is open: {key}, or its program is blocked'
        return Finding('reach', False, text, advice, facts | {'fault': 'firewall'})
    if (finding := unreachable_finding(way, evidence)) is not None:
        return replace(finding, facts=facts | finding.facts)
    text = f'UDP port {port} at {host} is silent, and so is the whole computer'
    if way.gateway is not None:
        advice = (
            f'the rig is off or asleep, the address is wrong (it is in no network of this computer: '
            f'{", ".join(way.networks)}), or a firewall or the router {way.gateway} drops the datagrams, see below'
        )
    else:
        advice = 'the rig is off or asleep, the address is wrong, or its firewall drops the datagrams, see below'
    return Finding('reach', False, text, f'{advice}; or {key}', facts | {'fault': 'silent'})


def unreachable_finding(way: Way, evidence: Evidence) -> Finding | None:
    """Return the finding if no computer has the address, or a router says that there is no way; else None."""
    neighbour = evidence.neighbour
    if way.gateway is None and neighbour is not None and not neighbour.is_present:
        return Finding(
            'reach',
            False,
            f'no computer in {way.network or "this network"} answers to the address {way.host} (ARP)',
            'the rig is off or asleep, its cable is out, or the address is wrong: '
            'compare it with the rig (ip -4 address; Windows: ipconfig)',
            {'fault': 'no computer'},
        )
    if evidence.tcp.state is not State.UNREACHABLE or way.gateway is None:
        return None
    return Finding(
        'reach',
        False,
        f'a router says that there is no way to {way.host}: {evidence.tcp.reason}',
        f'the rig is off, the address is wrong, or the routes of {way.gateway} or of a router behind it are',
        {'fault': 'unreachable'},
    )
