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

__all__ = ['Evidence', 'look_around', 'silence_finding', 'silent_program', 'unreachable_finding']

_ASKED_WITHIN = 9.0  # seconds
_RECENT = 3.0  # seconds
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
        is_present = self.neighbour is not None and self.neighbour.is_present is True
        replies = (State.ANSWERS, State.REFUSED, State.OTHER_ADDRESS)
        return is_present or self.tcp.state in replies or self.other_port in replies

    @property
    def is_open(self) -> bool:
        """bool: Whether the computer refuses another UDP port, so that no firewall drops everything."""
        return self.other_port is State.REFUSED

    @property
    def sign_of_life(self) -> str:
        """str: That the computer is on, or when it was."""
        card = self.neighbour
        if card is None or not card.is_present:
            return 'is on'
        if card.age is None or card.age <= _RECENT:
            return f'is on (network card {card.card})'
        return f'was on {card.age:.0f} s ago (network card {card.card})'


def silent_program(has_key: bool, command: str) -> str:
    """Return what to do with a program that has the port and does not answer; `command` shows the program."""
    key = 'the key of the rig is another one' if has_key else 'the rig needs a key (--key-file)'
    return (
        f'{key}, or does not allow this computer (allow=): its log says so\n'
        f'or its program is blocked, or is no rig: which one has the port? ({command}; Windows: netstat -abno)'
    )


async def look_around(addr: Address, limits: Limits) -> Evidence:
    """Try TCP and another port of a computer, then look into the neighbour table."""
    port = _CLOSED_PORT + (addr[1] == _CLOSED_PORT)
    tcp, other = await asyncio.gather(reach_tcp(addr, limits), reach_udp((addr[0], port), limits))
    # Linux asks an old neighbour 5 s after it was sent something, three times within 3 s.
    return Evidence(await neighbour_of(addr[0], min(limits.left, _ASKED_WITHIN)), tcp, other.state)


def silence_finding(addr: Address, way: Way, evidence: Evidence, has_key: bool) -> Finding:
    """Return why nothing answers over UDP."""
    host, port = addr
    facts: dict[str, object] = {
        'address': host,
        'port': port,
        'tcp': evidence.tcp.state.value,
        'other_port': evidence.other_port.value,
        'neighbour': None if evidence.neighbour is None else evidence.neighbour.is_present,
        'neighbour_age': None if evidence.neighbour is None else evidence.neighbour.age,
    }
    key = 'the key of the rig is another one' if has_key else 'the rig needs a key (--key-file)'
    if way.is_own or evidence.is_open:
        text = (
            f'UDP port {port} at {host} is silent, other ports of that computer are refused: '
            'a program has the port, and does not answer'
        )
        return Finding('reach', False, text, silent_program(has_key, 'ss -ulpn'), facts | {'fault': 'program silent'})
    if evidence.is_on:
        life = evidence.sign_of_life
        text = f'UDP port {port} at {host} is silent, but the computer {life}: a firewall drops the datagrams'
        text += ', or it was switched off since' if 'ago' in life else ''
        advice = (
            f'open the port in the firewall of the rig, see below\nif it is open: {key}, its program is blocked, or '
            'the rig has no way back to this computer (its netmask and routes; its log says so)'
        )
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
    return Finding('reach', False, text, f'{advice}\nor {key}', facts | {'fault': 'silent'})


def unreachable_finding(way: Way, evidence: Evidence) -> Finding | None:
    """Return the finding if no computer has the address, or a router says that there is no way; else None."""
    neighbour = evidence.neighbour
    if way.gateway is None and neighbour is not None and neighbour.is_present is False:
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
