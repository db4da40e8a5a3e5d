"""The findings about what happens to a ping or a connection at one address."""

from __future__ import annotations

from ..uri import Address, Uri, address_text
from .finding import Finding
from .reach import Reached, State

__all__ = ['answer_finding', 'dead_address', 'other_transport', 'sender_finding', 'tcp_finding', 'udp_finding']

_REFUSED = (
    'start the program of the rig, or mend the port: a rig prints at its start where it listens\n'
    'a rig that listens on 127.0.0.1 is reached by its own computer only: let it listen on 0.0.0.0'
)


def answer_finding(reached: Reached, scheme: str) -> Finding:
    """Return the finding about an address that answers."""
    host, port = reached.addr
    text = f'{address_text(scheme, reached.addr)} answers'
    return Finding('reach', True, text, facts={'address': host, 'port': port, 'state': reached.state.value})


def udp_finding(reached: Reached) -> Finding:
    """Return the finding about an address that refuses datagrams, or to which the network refuses them."""
    host, port = reached.addr
    facts: dict[str, object] = {'address': host, 'port': port, 'state': reached.state.value}
    if reached.state is State.REFUSED:
        return Finding(
            'reach',
            False,
            f'UDP port {port} at {host} is refused: the computer is there, and no program listens on the port',
            _REFUSED,
            facts | {'fault': 'refused'},
        )
    return Finding(
        'reach',
        False,
        f'there is no way to {host}: {reached.reason}',
        'a router on the way, or this computer, says so: look at the address, the subnet, the routes and the VPN',
        facts | {'fault': 'unreachable'},
    )


def tcp_finding(reached: Reached, others_answer: bool) -> Finding:
    """Return the finding about a TCP connection that was tried."""
    host, port = reached.addr
    facts: dict[str, object] = {'address': host, 'port': port, 'state': reached.state.value}
    if reached.state is State.ANSWERS:
        return Finding('reach', True, f'TCP port {port} at {host} accepts connections', facts=facts)
    if reached.state is State.REFUSED:
        text = f'TCP port {port} at {host} is refused: the computer is there, and no program listens on the port'
        advice = _REFUSED
        return Finding('reach', False, text, advice, facts | {'fault': 'refused'})
    if reached.state is State.UNREACHABLE:
        text = f'there is no way to {host}: {reached.reason}'
        advice = 'look at the address, the subnet, the routes and the VPN; is the rig switched on?'
        return Finding('reach', False, text, advice, facts | {'fault': 'unreachable'})
    text = f'TCP port {port} at {host} is silent'
    advice = 'the rig is off or asleep, the address is wrong, or a firewall drops the packets'
    advice += '' if others_answer else ', see below'
    return Finding('reach', False, text, advice, facts | {'fault': 'silent'})


def dead_address(finding: Finding, host: str, name: str) -> Finding:
    """Return a finding about one of several addresses of a name, of which another one answers."""
    advice = (
        f'another address of {name} answers, which echorig finds, but later: '
        f'remove {host} from the hosts file or the name server, if it is old'
    )
    return Finding(finding.step, False, finding.text, advice, {**finding.facts, 'fault': 'dead address'})


def sender_finding(addr: Address, sender: Address) -> Finding:
    """Return the finding about a rig that answers from another address than the one that was pinged."""
    return Finding(
        'sender',
        False,
        f'{addr[0]}:{addr[1]} was pinged, and {sender[0]}:{sender[1]} answered: the rig has several addresses',
        f'use udp://{sender[0]}:{sender[1]}, or let the program of the rig listen on {addr[0]} only; '
        'two network cards need two different subnets',
        {'fault': 'other address', 'pinged': addr[0], 'answered': sender[0], 'answered_port': sender[1]},
    )


def other_transport(uri: Uri, scheme: str, what: str) -> Finding:
    """Return the finding about a rig that listens with another transport."""
    other = Uri(scheme, uri.host, uri.port)
    return Finding(
        'transport',
        False,
        f'{what} at {uri.host}:{uri.port}',
        f'if that is the rig, use {other}',
        {'fault': 'transport', 'use': str(other)},
    )
