"""The diagnosis of a rig over UDP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from ..uri import Address, Uri
from .channels import UdpChannel
from .finding import Finding
from .firewall import firewall_finding
from .limits import Limits
from .prober import Prober
from .quality import check_quality, no_key
from .reach import Reached, State, reach_tcp, reach_udp
from .reports import answer_finding, dead_address, other_transport, sender_finding, udp_finding
from .silence import look_around, silence_finding
from .way import Way

__all__ = ['check_udp']

_REPLIES = (State.ANSWERS, State.OTHER_ADDRESS)
_MOST_SILENT = 3  # addresses that are looked at more closely


async def check_udp(
    uri: Uri, ways: Mapping[str, Way], key: bytes | str | None, limits: Limits
) -> AsyncIterator[Finding]:
    """Yield the findings about the addresses to which there is a way."""
    addresses = [(host, uri.port) for host, way in ways.items() if way.error is None]
    results = await asyncio.gather(*(reach_udp(addr, limits, key) for addr in addresses))
    best = next((result for state in _REPLIES for result in results if result.state is state), None)
    shows_firewall, n_silent = False, 0
    for result in results:
        finding, may_be_firewall = None, False
        if result.state is State.ANSWERS:
            finding = answer_finding(result, 'udp')
        elif result.state is State.OTHER_ADDRESS:
            assert result.reply.sender is not None
            finding = sender_finding(result.addr, result.reply.sender)
        elif result.state is State.REFUSED or (
            result.state is State.UNREACHABLE and not ways[result.addr[0]].is_direct
        ):
            finding = udp_finding(result)
        elif n_silent < _MOST_SILENT:
            n_silent += 1
            finding = await _silence(result.addr, ways[result.addr[0]], key is not None, limits)
            may_be_firewall = finding.facts.get('fault') in ('firewall', 'silent')
        if finding is None:
            continue
        if best is not None and result.state not in _REPLIES:
            finding, may_be_firewall = dead_address(finding, result.addr[0], uri.host), False
        shows_firewall = shows_firewall or may_be_firewall
        yield finding
    if best is not None:
        async for finding in _quality(best, key, limits):
            yield finding
        return
    for result in results:
        tcp = await reach_tcp(result.addr, limits) if result.state is State.REFUSED else None
        if tcp is not None and tcp.state is State.ANSWERS:
            yield other_transport(uri, 'tcp', 'a program accepts TCP connections')
            break
    if shows_firewall:
        yield firewall_finding(uri.port, 'udp')


async def _silence(addr: Address, way: Way, has_key: bool, limits: Limits) -> Finding:
    return silence_finding(addr, way, await look_around(addr, limits), has_key)


async def _quality(reached: Reached, key: bytes | str | None, limits: Limits) -> AsyncIterator[Finding]:
    """Yield the findings about the address that answers, on a socket of their own."""
    if key is not None and reached.reply.is_unsigned:
        yield no_key()
        key = None
    elif key is not None and reached.reply.is_echo:
        yield Finding('key', True, 'the rig has the same key')
    channel = await UdpChannel.open(reached.addr, connected=reached.state is State.ANSWERS)
    try:
        prober = Prober(channel, key)
        first = await prober.ping(limits.wait(0.5), tries=2)
        async for finding in check_quality(prober, first if first.kind is not None else reached.reply, limits):
            yield finding
    finally:
        channel.close()
