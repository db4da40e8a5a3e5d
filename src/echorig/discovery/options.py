"""Checks of the arguments of discovery, before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any

from ..checks import described, short, text

__all__ = ['ENVIRONMENT', 'Announcement', 'announcement', 'checked_group', 'checked_interfaces', 'checked_name']

ENVIRONMENT = 'ECHORIG_DISCOVERY_INTERFACES'
"""str: The environment variable with the addresses of the interfaces to use, separated by commas."""

_LONGEST = 200  # bytes; one entry of a TXT record has at most 255
_KEYS = ('name', 'group', 'interfaces')


@dataclass(frozen=True)
class Announcement:
    """What a server announces of itself, apart from its address; `interfaces` None stands for those it listens on."""

    name: str
    group: str | None
    has_key: bool
    interfaces: tuple[str, ...] | None


def announcement(value: Any, name: str | None, has_key: bool) -> Announcement:
    """Return what the option `announce` of a server called `name` asks for."""
    if value is not True and not isinstance(value, Mapping):
        raise TypeError(f"announce must be True or a mapping such as {{'group': 'room-2'}}, not {described(value)}")
    options = {} if value is True else dict(value)
    unknown = [key for key in options if key not in _KEYS]
    if unknown:
        raise ValueError(f'announce has {short(unknown[0])}, and may have only {", ".join(_KEYS)}')
    given = options.get('name')
    if given is None and name is None:
        raise ValueError("announce needs a name: server(uri, 'camera', announce=True), or announce={'name': 'camera'}")
    return Announcement(
        checked_name(name, 'name') if given is None else checked_name(given, "announce['name']"),
        checked_group(options.get('group'), "announce['group']"),
        has_key,
        checked_interfaces(options.get('interfaces'), "announce['interfaces']"),
    )


def checked_name(value: Any, what: str) -> str:
    """Return a name that can be announced."""
    text(value, what)
    if (
        not value
        or not value.isprintable()
        or len(value.encode('utf-8', 'replace')) > _LONGEST
        or value != value.strip()
    ):
        raise ValueError(
            f'{what} must be one line of 1 to {_LONGEST} bytes without blanks around it, not {short(value)}'
        )
    return str(value)


def checked_group(value: Any, what: str = 'group') -> str | None:
    """Return the name of a group, or None for no group."""
    return None if value is None else checked_name(value, what)


def checked_interfaces(value: Any, what: str = 'interfaces') -> tuple[str, ...] | None:
    """Return the addresses of the interfaces to use; None for all. The default is that of the environment."""
    if value is None:
        value = [part.strip() for part in os.environ.get(ENVIRONMENT, '').split(',') if part.strip()]
        if not value:
            return None
        what = ENVIRONMENT
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"{what} must be a list of IPv4 addresses such as ['192.168.0.5'], not {described(value)}")
    if not value:
        raise ValueError(f'{what} is empty: give the IPv4 address of at least one interface, or None for all')
    return tuple(dict.fromkeys(_interface(one, what) for one in value))


def _interface(value: Any, what: str) -> str:
    try:
        address = ip_address(value) if isinstance(value, (str, IPv4Address)) else None
    except ValueError:
        address = None
    if not isinstance(address, IPv4Address) or address.is_unspecified or address.is_multicast:
        raise ValueError(f'{what} must have IPv4 addresses of interfaces of this computer, not {short(value)}')
    return str(address)
