"""The diagnosis of a rig over TCP and TLS."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from ..uri import Address, Uri
from .channels import StreamChannel
from .echo import foreign_finding
from .finding import Finding
from .firewall import firewall_finding
from .limits import Limits
from .prober import Prober, Reply
from .quality import check_quality, no_key
from .reach import Reached, State, reach_tcp, reach_udp
from .replies import Kind
from .reports import dead_address, other_transport, tcp_finding
from .silence import look_around, silent_program, unreachable_finding
from .tls import open_tls, speaks_tls, tls_fault
from .way import Way

__all__ = ['check_tcp']


async def check_tcp(
    uri: Uri, ways: Mapping[str, Way], key: bytes | str | None, ssl: ssl_module.SSLContext | None, limits: Limits
) -> AsyncIterator[Finding]:
    """Yield the findings about the addresses to which there is a way."""
    addresses = [(host, uri.port) for host, way in ways.items() if way.error is None]
    results = await asyncio.gather(*(reach_tcp(addr, limits) for addr in addresses))
    best = next((result for result in results if result.state is State.ANSWERS), None)
    shows_firewall = False
    for result in results:
        finding = tcp_finding(result, best is not None)
        if best is not None and not finding.ok:
            finding = dead_address(finding, result.addr[0], uri.host)
        elif result.state in (State.SILENT, State.UNREACHABLE):
            finding, may_be_firewall = await _silence(result, finding, ways[result.addr[0]], limits)
            shows_firewall = shows_firewall or may_be_firewall
        yield finding
    if best is not None:
        async for finding in _connection(uri, best.addr, key, ssl, limits):
            yield finding
        return
    for result in results:
        if result.state is State.REFUSED and (await reach_udp(result.addr, limits)).state is State.ANSWERS:
            yield other_transport(uri, 'udp', 'a program answers over UDP')
            break
    if shows_firewall:
        yield firewall_finding(uri.port, 'tcp')


async def _silence(result: Reached, finding: Finding, way: Way, limits: Limits) -> tuple[Finding, bool]:
    """Return the finding about a silent address, and whether a firewall may be the reason."""
    evidence = await look_around(result.addr, limits)
    if evidence.is_on and result.state is State.SILENT:
        text = f'{finding.text}, but the computer {evidence.sign_of_life}: a firewall drops the packets'
        advice = 'open the port in the firewall of the rig, see below'
        return Finding('reach', False, text, advice, {**finding.facts, 'fault': 'firewall'}), True
    if (unreachable := unreachable_finding(way, evidence)) is not None:
        return replace(unreachable, facts={**finding.facts, **unreachable.facts}), False
    return finding, result.state is State.SILENT


async def _connection(
    uri: Uri, addr: Address, key: bytes | str | None, ssl: ssl_module.SSLContext | None, limits: Limits
) -> AsyncIterator[Finding]:
    """Yield the findings about the address that accepts connections."""
    channel, finding = await _open(uri, addr, ssl, limits)
    if finding is not None:
        yield finding
    if channel is None:
        return
    try:
        prober = Prober(channel, key)
        first = await prober.ping(limits.wait())
        if key is not None and first.is_unsigned:
            yield no_key()
            channel.close()
            channel, _ = await _open(uri, addr, ssl, limits)
            if channel is None:
                return
            prober = Prober(channel)
            first = await prober.ping(limits.wait())
        elif key is not None and first.is_echo:
            yield Finding('key', True, 'the rig has the same key')
        if first.kind in (None, Kind.FOREIGN):
            yield await _no_echo(uri, addr, first, channel.pending, key is not None, limits)
            return
        async for finding in check_quality(prober, first, limits):
            yield finding
    finally:
        if channel is not None:
            channel.close()


async def _open(
    uri: Uri, addr: Address, ssl: ssl_module.SSLContext | None, limits: Limits
) -> tuple[StreamChannel | None, Finding | None]:
    if uri.is_tls:
        return await open_tls(uri, addr, ssl, limits)
    try:
        return await StreamChannel.open(addr, limits.wait()), None
    except (OSError, asyncio.TimeoutError) as ex:
        text = f'a second connection to {addr[0]}:{addr[1]} failed: {ex}'
        return None, Finding('reach', False, text, 'is the rig still there, and are its connections limited?')


async def _no_echo(uri: Uri, addr: Address, first: Reply, pending: int, has_key: bool, limits: Limits) -> Finding:
    """Return why a connection is accepted, and a ping not echoed."""
    host, port = addr
    if not uri.is_tls and await speaks_tls(addr, limits):
        other = Uri('tls', uri.host, uri.port)
        return Finding(
            'tls',
            False,
            f'the rig at {host}:{port} speaks TLS, not plain TCP',
            f'use {other}, with --cafile FILE if its certificate is of an authority of the lab',
            {'fault': 'rig has TLS', 'use': str(other)},
        )
    if uri.is_tls and first.error is not None:
        return tls_fault(first.error, str(uri))
    if first.kind is Kind.FOREIGN:
        return foreign_finding(first.frame, host, port)
    if pending:
        text = f'the echo is cut: {pending} bytes of it arrived'
        return Finding('echo', False, text, 'the rig must send back all bytes of a message', {'fault': 'cut'})
    advice = silent_program(has_key, 'ss -tlpn')
    if first.error is not None:
        text = f'{host}:{port} accepts the connection and closes it at once'
        return Finding('reach', False, text, advice, {'fault': 'closed'})
    text = f'{host}:{port} accepts the connection, and does not echo'
    return Finding('reach', False, text, advice, {'fault': 'program silent'})
