"""The routes, addresses and neighbours that the kernel of Linux knows, by a netlink socket (RFC 3549); no root needed.

Other systems have no such socket; `Netlink` then raises OSError.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ['Neighbour', 'Netlink', 'Route']

_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE, _NEWNEIGH, _GETNEIGH = 20, 22, 24, 26, 28, 30
_REQUEST, _DUMP = 1, 0x300
_ERROR, _DONE = 2, 3
_HEADER, _ATTRIBUTE = struct.Struct('=IHHII'), struct.Struct('=HH')
_ROUTE, _ADDRESS, _NEIGHBOUR = struct.Struct('=8BI'), struct.Struct('=4BI'), struct.Struct('=BBHiHBB')
_LOCAL_ROUTE = 2
# States of a neighbour, of <linux/neighbour.h>.
_ABSENT = 0x01 | 0x20  # incomplete, failed
_PRESENT = 0x02 | 0x80  # reachable, permanent
_UNSURE = 0x04 | 0x08 | 0x10  # stale, delay, probe: it has answered once, and is asked again within seconds of use
_TICKS = 100  # a second, in the ages that the kernel tells


@dataclass(frozen=True)
class Route:
    """The way that the system uses to an address."""

    interface: str
    gateway: str | None  # None if the address is in a network of this computer
    is_local: bool  # the address is one of this computer


@dataclass(frozen=True)
class Neighbour:
    """What the system knows of the network card that has an address."""

    is_present: bool | None  # it has answered; False: it was asked in vain; None: it will be asked
    card: str  # its hardware address, if known
    age: float | None  # seconds since it answered


class Netlink:
    """A netlink socket; a context manager. Its methods do not wait for the network."""

    def __init__(self) -> None:
        family = getattr(socket, 'AF_NETLINK', None)
        if family is None:
            raise OSError('this system has no netlink socket')
        self._socket = socket.socket(family, socket.SOCK_RAW, 0)
        self._socket.settimeout(1.0)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def route(self, host: str) -> Route | None:
        """Return the route to an IP address; None if there is none."""
        packed, family = _packed(host)
        body = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), 1) + packed
        for kind, data in self._ask(_GETROUTE, body, _REQUEST):
            if kind == _NEWROUTE:
                found = _attributes(data[_ROUTE.size :])
                index = int.from_bytes(found.get(4, bytes(4)), sys.byteorder)
                gateway = _address(found[5]) if 5 in found else None
                return Route(_interface(index), gateway, data[7] == _LOCAL_ROUTE)
        return None

    def networks(self) -> list[tuple[str, str, int]]:
        """Return the interface, address and prefix length of each address of this computer."""
        found = []
        for kind, data in self._ask(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), _REQUEST | _DUMP):
            if kind == _NEWADDR:
                _, prefix, _, _, index = _ADDRESS.unpack_from(data)
                attributes = _attributes(data[_ADDRESS.size :])
                own = attributes.get(2) or attributes.get(1)
                if own:
                    found.append((_interface(index), _address(own), prefix))
        return found

    def neighbour(self, host: str) -> Neighbour | None:
        """Return what the system knows of the network card of an address in the same network; None if nothing."""
        packed, family = _packed(host)
        for kind, data in self._ask(_GETNEIGH, _NEIGHBOUR.pack(family, 0, 0, 0, 0, 0, 0), _REQUEST | _DUMP):
            if kind == _NEWNEIGH:
                state = _NEIGHBOUR.unpack_from(data)[4]
                attributes = _attributes(data[_NEIGHBOUR.size :])
                if attributes.get(1) == packed and state & (_PRESENT | _ABSENT | _UNSURE):
                    is_present = None if state & _UNSURE else bool(state & _PRESENT)
                    ages = attributes.get(3, b'')
                    age = struct.unpack_from('=I', ages)[0] / _TICKS if is_present and len(ages) >= 4 else None
                    return Neighbour(is_present, attributes.get(2, b'').hex(':'), age)
        return None

    def _ask(self, kind: int, body: bytes, flags: int) -> Iterator[tuple[int, bytes]]:
        """Send a request; yield the kind and the body of each message of the answer."""
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        while True:
            data = self._socket.recv(2**17)
            while len(data) >= _HEADER.size:
                size, kind, _, _, _ = _HEADER.unpack_from(data)
                message, data = data[_HEADER.size : size], data[(size + 3) & ~3 :]
                if kind == _ERROR:
                    number = -struct.unpack_from('=i', message)[0]
                    if number:
                        raise OSError(number, os.strerror(number))
                if kind in (_ERROR, _DONE):
                    return
                yield kind, message
            if not flags & _DUMP & ~_REQUEST:
                return


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[_ATTRIBUTE.size : size]
        data = data[(size + 3) & ~3 :]
    return found


def _packed(host: str) -> tuple[bytes, int]:
    address = ipaddress.ip_address(host.partition('%')[0])
    return address.packed, socket.AF_INET if address.version == 4 else socket.AF_INET6


def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)
