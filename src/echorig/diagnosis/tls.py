"""TLS: whether both ends have it, and whether the certificate is accepted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from ..threads import in_thread
from ..transports.tls_errors import explain_tls_error
from ..uri import Address, Uri
from .channels import StreamChannel
from .finding import Finding
from .limits import Limits
from .prober import Prober
from .replies import Kind

__all__ = ['open_tls', 'speaks_plain', 'speaks_tls', 'tls_fault']

_RECORDS = (b'\x15\x03', b'\x16\x03')  # an alert, a handshake; of any version of TLS (RFC 8446, section 5.1)
_CERTIFICATES = {9: 'not valid yet', 10: 'expired', 62: 'wrong name', 64: 'wrong name'}


async def open_tls(
    uri: Uri, addr: Address, context: ssl.SSLContext | None, limits: Limits
) -> tuple[StreamChannel | None, Finding]:
    """Open a TLS connection; return it, or None, and the finding."""
    name = uri.host.partition('%')[0].rstrip('.') or socket.gethostname()
    if context is None:
        context = await in_thread(ssl.create_default_context)
    wait = limits.wait(2)
    channel = None
    try:
        channel = await StreamChannel.open(addr, wait)
        version = await channel.start_tls(context, name, wait)
    except asyncio.TimeoutError:
        error: Exception = TimeoutError(f'the handshake was not complete within {wait:.1f} s')
    except OSError as ex:
        error = ex
    else:
        facts: dict[str, object] = {'version': version, 'name': name}
        return channel, Finding('tls', True, f'{version}; the certificate is valid for {name}', facts=facts)
    if channel is not None:
        channel.close()
    if not isinstance(error, ssl.SSLCertVerificationError) and await speaks_plain(addr, limits):
        plain = Uri('tcp', uri.host, uri.port)
        return None, Finding(
            'tls',
            False,
            f'the rig at {uri.host} speaks plain TCP, not TLS',
            f'use {plain}, or give the rig a certificate (tls:// at its end)',
            {'fault': 'rig is plain', 'use': str(plain)},
        )
    return None, tls_fault(error, str(uri))


def tls_fault(error: BaseException, who: str) -> Finding:
    """Return the finding for an error of TLS."""
    text, _, advice = str(explain_tls_error(error, who)).rpartition('; ')
    fault = 'tls'
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = f'certificate {_CERTIFICATES.get(error.verify_code, "not trusted")}'
        if 'cafile=' in advice:
            advice += ' or --cafile FILE'
    return Finding('tls', False, text, advice, {'fault': fault})


async def speaks_plain(addr: Address, limits: Limits) -> bool:
    """Return whether a ping without TLS is echoed over TCP."""
    try:
        channel = await StreamChannel.open(addr, limits.wait())
    except (OSError, asyncio.TimeoutError):
        return False
    try:
        return (await Prober(channel).ping(limits.wait())).kind not in (None, Kind.FOREIGN)
    finally:
        channel.close()


async def speaks_tls(addr: Address, limits: Limits) -> bool:
    """Return whether the first message of a TLS handshake is answered by TLS; the handshake is not completed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(received, sent, server_hostname='rig').do_handshake()
    try:
        channel = await StreamChannel.open(addr, limits.wait())
    except (OSError, asyncio.TimeoutError):
        return False
    try:
        channel.send(sent.read())
        arrival = await channel.receive(limits.wait())
    finally:
        channel.close()
    return arrival is not None and arrival.frame[:2] in _RECORDS
