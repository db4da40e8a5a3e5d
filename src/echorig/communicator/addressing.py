"""`AddressBook`: turns the addresses of users and transports into (host, port) pairs with numeric hosts.

1. In the client role there is one address: that of the server.
2. A name is looked up once, and again after a message to it was not confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from math import inf
from time import monotonic
from typing import Any

from ..aliases import AddressLike
from ..errors import EchoTimeoutError
from ..resolver import lookup
from ..security.log_limit import RateLimitedLog
from ..security.redaction import LazyFrame
from ..security.safe_log import SafeLog
from ..stall import wait_for
from ..uri import Address, as_address, checked_address, is_valid_ip, mapped, unmapped
from .labels import Labels

__all__ = ['AddressBook']


class AddressBook:
    """The addresses that one communicator knows; `admits` returns whether a host may talk to a server."""

    def __init__(
        self, labels: Labels, server: Address, admits: Callable[[str], bool], log: SafeLog, log_limit: RateLimitedLog
    ) -> None:
        self._labels, self._admits, self._log, self._log_limit = labels, admits, log, log_limit
        self.server = server
        self.names: dict[str, str] = {}

    def checked(self, addr: Any) -> Address:
        """Return an address that a program has given."""
        return checked_address(addr)

    def known(self, addr: Any) -> Address:
        """Return an address that a program has given, with a known name replaced by its IP address."""
        return self._with_ip(checked_address(addr))

    def is_resolved(self, addr: Address) -> bool:
        """Return whether an address has an IP address, or a name that must be looked up."""
        return is_valid_ip(addr[0])

    def _with_ip(self, addr: Address) -> Address:
        return self.names.get(addr[0], addr[0]), addr[1]

    def forget(self, addr: AddressLike | None) -> None:
        """Forget the address of a name whose host did not confirm a message to a server's client: it may have moved."""
        if not self._labels.is_client and addr is not None:
            self.names.pop(str(addr[0]), None)

    def move_server(self, addr: Address) -> None:
        """Replace the address of the server; its names and former addresses lead to the new one."""
        before, self.server = self.server, addr
        for name, host in self.names.items():
            if host == before[0]:
                self.names[name] = addr[0]
        self.names[before[0]] = addr[0]

    def source_of(self, addr: Any, data: bytes) -> Address | None:
        """Return the address of a datagram; None if the datagram must be ignored."""
        source = addr if len(addr) == 2 else as_address(addr)
        if not self._labels.is_client:
            return source if self._admits(source[0]) else None
        if source == self.server:
            return self.server  # the same object, which is quicker to look up
        if source[0] != self.server[0]:
            if self._log_limit.should_log('packets of unexpected hosts', source):
                self._log.warning('Ignoring UDP packet from unexpected host (%s:%s): %s', *source, LazyFrame(data))
            return None
        return source

    def target(self, addr: Address | None, connections: Collection[Address] | None) -> Address:
        """Return the address to send to, with known names resolved; `connections` are the clients of a TCP server."""
        is_client, known = self._labels.is_client, connections if connections is not None else ()
        if addr is None:
            if is_client:
                return self.server
            if len(known) == 1:
                return next(iter(known))
            raise TypeError("In the server role, 'addr' is required: the (host, port) of the client")
        target = self._with_ip(addr)
        if self.server[0] == '::' and is_valid_ip(target[0]):  # it serves IPv4, too
            target = (mapped(target[0]), target[1]) if self._labels.protocol == 'udp' else unmapped(target)
        is_of_family = self.server[0] == '::' or (':' in target[0]) == (':' in self.server[0])
        if is_client and target != self.server and is_valid_ip(target[0]):
            name, uri = self._labels.name, self._labels.server_uri
            raise ValueError(f'Unexpected remote address {addr}: {name} is connected to {uri}')
        if target[1] == 0:
            raise ValueError(f'Unexpected remote address {addr}: ports are 1 to 65535')
        if is_valid_ip(target[0]) and not is_of_family:
            raise ValueError(f'addr={target} and {self._labels.server_uri} are not both IPv4 or both IPv6 addresses')
        if not is_client and connections is not None and is_valid_ip(target[0]) and target not in known:
            raise ValueError(f'Unexpected remote address {addr}: no client is connected from there')
        return target

    async def resolved(self, addr: AddressLike | None, timeout: float = inf) -> tuple[Address, float]:
        """Return the address to send to, with a numeric host, and what is left of a timeout after a look-up."""
        if addr is not None:
            addr = checked_address(addr)
            host, started = addr[0], monotonic()
            if host not in self.names and not is_valid_ip(host):
                try:
                    self.names[host] = (await wait_for(lookup(host), timeout))[0]
                except asyncio.TimeoutError:
                    raise EchoTimeoutError(f'The host name {host} did not resolve within {timeout:.3f} s') from None
                timeout -= monotonic() - started
        return self.target(addr, None), timeout
