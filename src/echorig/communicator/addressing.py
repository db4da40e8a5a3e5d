"""`AddressBook`: from the addresses that users and transports give to (host, port) pairs with numeric hosts.

1. An address is a (host, port) pair. In the client role there is only one: that of the server.
2. A name is resolved once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ..resolver import resolve_host
from ..security.log_limit import LogLimit
from ..security.redaction import LazyFrame
from ..security.safe_log import SafeLog
from ..uri import Address, as_address, checked_address, is_valid_ip
from .labels import Labels

__all__ = ['AddressBook']


class AddressBook:
    """The addresses that one communicator knows.

    Parameters
    ----------
    labels : Labels
        The names in errors.
    server : tuple of (str, int)
        The address of the server: of a client the remote one, of a server its own.
    admits : callable
        Tells whether a host may talk to a server.
    log, log_limit : SafeLog, LogLimit
        Where datagrams of strangers are logged.
    """

    def __init__(
        self, labels: Labels, server: Address, admits: Callable[[str], bool], log: SafeLog, log_limit: LogLimit
    ) -> None:
        self._labels, self._admits, self._log, self._log_limit = labels, admits, log, log_limit
        self.server = server
        self.names: dict[str, str] = {}

    def number_of(self, addr: Address) -> Address:
        """Return an address with a known name replaced by its number."""
        return self.names.get(addr[0], addr[0]), addr[1]

    def is_from(self, sender: Address, addr: Any) -> bool:
        """Return whether a message came from an address that a user gave."""
        return sender == self.number_of(checked_address(addr))

    def source_of(self, addr: Any, data: bytes) -> Address | None:
        """Return the address that a datagram came from; None if it is not to be received."""
        source = addr if len(addr) == 2 else as_address(addr)
        if not self._labels.is_client:
            return source if self._admits(source[0]) else None
        if source == self.server:
            return self.server  # the same object, which is quicker to look up
        if source[0] != self.server[0]:
            if self._log_limit.allows('packets of unexpected hosts', source):
                self._log.warning('Ignoring UDP packet from unexpected host (%s:%s): %s', *source, LazyFrame(data))
            return None
        return source

    def target(self, addr: Address | None, connections: Collection[Address] | None) -> Address:
        """Return the address to send to, with names that are known replaced by numbers.

        Parameters
        ----------
        addr : tuple of (str, int), optional
            What the user gave.
        connections : collection of tuple, optional
            The clients of a server over TCP.

        Raises
        ------
        TypeError, ValueError
            There is no address, or no message can go there.
        """
        is_client, known = self._labels.is_client, connections if connections is not None else ()
        if addr is None:
            if is_client:
                return self.server
            if len(known) == 1:
                return next(iter(known))
            raise TypeError("send() in the server role needs 'addr', the (host, port) of the client")
        target = self.number_of(addr)
        if is_client and target != self.server and is_valid_ip(target[0]):
            raise self._unexpected(addr)
        if not is_client and connections is not None and is_valid_ip(target[0]) and target not in known:
            raise ValueError(f'Unexpected remote address {addr}: no client is connected from there')
        self._check_reachable(target)
        return target

    async def resolved(self, addr: Any) -> Address:
        """Return the address to send to, with a numeric host.

        Raises
        ------
        TypeError, ValueError
            There is no address, or no message can go there.
        """
        if addr is None:
            if not self._labels.is_client:
                raise TypeError("In the server role, 'addr' is required: the (host, port) of the client")
            return self.server
        host, port = checked_address(addr)
        if host not in self.names and not is_valid_ip(host):
            self.names[host] = await resolve_host(host)
        target = self.number_of((host, port))
        self._check_reachable(target)
        if self._labels.is_client and target != self.server:
            raise self._unexpected(addr)
        return target

    def _unexpected(self, addr: Address) -> ValueError:
        name, uri = self._labels.name, self._labels.server_uri
        return ValueError(f'Unexpected remote address {addr}: {name} is connected to {uri}')

    def _check_reachable(self, target: Address) -> None:
        """Refuse an address to which no message can go."""
        if target[1] == 0:
            raise ValueError(f'Unexpected remote address addr={target}: ports are 1 to 65535')
        if is_valid_ip(target[0]) and (':' in target[0]) != (':' in self.server[0]):
            raise ValueError(f'addr={target} and {self._labels.server_uri} are not both IPv4 or both IPv6 addresses')
