"""The URI, and the addresses of its name."""

from __future__ import annotations

import asyncio
import sys

from ..resolver import lookup
from ..stall import wait_for
from ..uri import SCHEMES, Uri, is_valid_ip, parse, require_port
from .finding import Finding
from .limits import Limits

__all__ = ['check_uri', 'look_up']

_HOSTS = r'C:\Windows\System32\drivers\etc\hosts' if sys.platform == 'win32' else '/etc/hosts'


def check_uri(text: str) -> tuple[Uri | None, Finding]:
    """Return the parsed URI, None if it is not valid, and the finding."""
    try:
        uri = parse(text)
        require_port(uri)
        if uri.scheme not in SCHEMES:
            raise ValueError(f'Unknown scheme {uri.scheme!r}; choose from {", ".join(SCHEMES)}')
    except (TypeError, ValueError) as ex:
        advice = 'write it as udp://192.168.0.12:11001, or tcp:// or tls://; the port may be left out'
        return None, Finding('uri', False, f'the URI is not valid: {ex}', advice, {'fault': 'uri'})
    facts: dict[str, object] = {'uri': str(uri), 'scheme': uri.scheme, 'host': uri.host, 'port': uri.port}
    return uri, Finding('uri', True, f'{uri} is a valid URI', facts=facts)


async def look_up(uri: Uri, limits: Limits) -> tuple[list[str], Finding]:
    """Return the addresses of a host, those of IPv4 first, and the finding."""
    host = uri.host
    if is_valid_ip(host):
        return [host], Finding(
            'name', True, f'{host} is an address; no name server is needed', facts={'addresses': [host]}
        )
    known_by = f'use its address, or add a line "ADDRESS {host}" to {_HOSTS} on this computer'
    try:
        addresses = await wait_for(lookup(host), limits.wait(3))
    except ValueError as ex:
        text = f'the name {host} is not known: {ex}'
        return [], Finding('name', False, text, f'check the spelling; {known_by}', {'fault': 'name unknown'})
    except asyncio.TimeoutError:
        text = f'no name server answers the question for {host}'
        return [], Finding(
            'name', False, text, f'check the network of this computer; {known_by}', {'fault': 'no name server'}
        )
    facts: dict[str, object] = {'addresses': addresses}
    if host not in ('', 'localhost') and all(address.startswith('127.') or address == '::1' for address in addresses):
        text = f'the name {host} is this computer itself: {", ".join(addresses)}'
        return addresses, Finding('name', None, text, f'if it is to be another one, look into {_HOSTS}', facts)
    count = 'one address' if len(addresses) == 1 else f'{len(addresses)} addresses'
    return addresses, Finding(
        'name', True, f'{host or "this computer"} has {count}: {", ".join(addresses)}', facts=facts
    )
