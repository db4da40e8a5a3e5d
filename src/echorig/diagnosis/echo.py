"""The kind of the rig, and whether its echo is whole."""

from __future__ import annotations

from ..security.redaction import redact_frame
from .finding import Finding
from .limits import Limits
from .prober import Prober, Reply
from .replies import USUAL, Kind

__all__ = ['check_echo', 'foreign_finding']

_SIZES = (600, 1100, 1400)  # bytes: above 512 and 1,000, and within a packet of Ethernet


async def check_echo(prober: Prober, first: Reply, limits: Limits) -> tuple[list[Finding], int | None]:
    """Send pings of several sizes; return the findings, and where the echo is cut, in bytes."""
    reply, whole = first, USUAL
    for size in _SIZES:
        if not reply.is_echo:
            break
        reply = await prober.ping(limits.wait(0.5), size, tries=2)
        if reply.is_echo:
            whole = size
    return [_kind(first, prober), _echo(reply, whole, prober.channel.is_stream)], len(
        reply.frame
    ) if reply.kind is Kind.CUT else None


def foreign_finding(frame: bytes, host: str, port: int) -> Finding:
    """Return the finding about a program that answers something else."""
    shown = frame[:40].decode('latin-1').encode('unicode_escape').decode() if frame[:1] != b'[' else redact_frame(frame)
    return Finding(
        'kind',
        False,
        f'another program answers at {host}:{port}, with {shown!r}',
        'it is no rig: mend the port, or end that program; which one it is: '
        'ss -ulpn or ss -tlpn on the rig (Windows: netstat -abno)',
        {'fault': 'foreign program', 'kind': 'foreign', 'answer': shown},
    )


def _kind(first: Reply, prober: Prober) -> Finding:
    if first.kind is Kind.ACKNOWLEDGED:
        return Finding('kind', True, 'the rig runs echorig', facts={'kind': 'echorig'})
    if prober.notices:
        text = 'the rig echoes and answers pings with error messages, as MATLAB programs do'
        return Finding('kind', True, text, facts={'kind': 'matlab'})
    text = 'the rig echoes the bytes unchanged: iblutil, or another program without delivery tags'
    return Finding('kind', True, text, facts={'kind': 'legacy'})


def _echo(reply: Reply, whole: int, is_stream: bool) -> Finding:
    facts: dict[str, object] = {'whole': whole}
    if reply.is_echo or (reply.kind is None and not is_stream):  # lost datagrams are searched later
        return Finding('echo', True, f'its echo is whole, up to {whole:,} bytes', facts=facts)
    if reply.kind is Kind.CUT:
        cut = len(reply.frame)
        text = f'its echo is cut at {cut:,} bytes: the rig reads no more of a message'
        advice = (
            f'keep messages to this rig below {cut:,} bytes, or let its program read more (MATLAB: the buffer of read)'
        )
        return Finding('echo', False, text, advice, facts | {'fault': 'cut', 'cut': cut})
    if reply.kind is Kind.CHANGED:
        text = 'its echo is changed: other bytes than were sent'
        advice = 'the rig must send back the bytes as it received them, not decode and encode them'
        return Finding('echo', False, text, advice, facts | {'fault': 'changed'})
    text = f'messages up to {whole:,} bytes are echoed, longer ones not'
    advice = (
        'does the program of the rig read all bytes? or the network loses long packets: look at the MTU, and the VPN'
    )
    return Finding('echo', False, text, advice, facts | {'fault': 'long lost'})
