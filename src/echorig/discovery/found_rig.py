"""`FoundRig`: a rig that announces itself; and the records by which it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..messages import PROTOCOL_VERSION
from ..uri import Uri
from .options import Announcement

__all__ = ['TYPES', 'FoundRig', 'read_rig', 'service_type', 'txt_records']

TYPES = ('_echorig._udp.local.', '_echorig._tcp.local.')
"""tuple of str: The service types, for UDP and for TCP."""


@dataclass(frozen=True)
class FoundRig:
    """A rig that announces itself on the network."""

    name: str
    """str: The name of the rig."""
    uri: str
    """str: The URI for :meth:`EchoProtocol.client`, with the first of `addresses`."""
    group: str | None
    """str or None: The group of rigs that it belongs to, such as a room."""
    tls: bool
    """bool: Whether it needs TLS; then the URI says so, too."""
    key: bool
    """bool: Whether its messages must be signed with a key."""
    version: str
    """str: The version of the protocol."""
    addresses: tuple[str, ...]
    """tuple[str, ...]: Its IP addresses, those first that this computer reaches directly."""

    def __str__(self) -> str:
        return f'{self.name} ({self.uri}{f", group {self.group}" if self.group else ""})'


def service_type(uri: Uri) -> str:
    """Return the service type of a server."""
    return TYPES[0] if uri.scheme == 'udp' else TYPES[1]


def txt_records(announcement: Announcement, uri: Uri) -> dict[str, str]:
    """Return the entries of the TXT record of a server; the key is never among them."""
    entries = {'name': announcement.name, 'version': PROTOCOL_VERSION}
    if announcement.group is not None:
        entries['group'] = announcement.group
    return {**entries, 'tls': str(int(uri.is_tls)), 'key': str(int(announcement.has_key))}


def read_rig(kind: str, port: int | None, entries: Mapping[bytes, bytes | None], hosts: Sequence[str]) -> FoundRig:
    """Return the rig that announces this; raise ValueError if it is none.

    Anybody on the network may have sent it, and terminals will show it: only printable text is accepted.
    """
    name, group = _text(entries, b'name'), _text(entries, b'group')
    if not name or not port or not hosts:
        raise ValueError('it has no name, no port or no address')
    is_tls = entries.get(b'tls') == b'1'
    scheme = 'udp' if kind == TYPES[0] else 'tls' if is_tls else 'tcp'
    version = _text(entries, b'version')
    return FoundRig(
        name,
        str(Uri(scheme, hosts[0], port)),
        group or None,
        is_tls,
        entries.get(b'key') == b'1',
        version,
        tuple(hosts),
    )


def _text(entries: Mapping[bytes, bytes | None], key: bytes) -> str:
    value = (entries.get(key) or b'').decode('utf-8')
    if value and not value.isprintable():
        raise ValueError(f'its {key.decode()} is no printable text')
    return value
