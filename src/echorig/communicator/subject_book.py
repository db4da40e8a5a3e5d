"""`SubjectBook`: the addresses of a communicator over NATS, whose hosts are subjects."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from ..aliases import AddressLike
from ..checks import described
from ..security.log_limit import RateLimitedLog
from ..security.safe_log import SafeLog
from ..uri import Address, checked_subject, parse
from .addressing import AddressBook
from .labels import Labels

__all__ = ['Addresses', 'SubjectBook', 'addresses_for']


class SubjectBook:
    """The addresses that one communicator knows; nothing is looked up."""

    def __init__(self, labels: Labels, server: Address) -> None:
        self._labels = labels
        self.server = server
        self.names: dict[str, str] = {}  # that of the broker; nothing is looked up

    def checked(self, addr: Any) -> Address:
        """Return an address that a program has given."""
        if not isinstance(addr, (tuple, list)) or len(addr) != 2 or not isinstance(addr[0], str):
            raise TypeError(f'addr must be the (subject, port) pair of a message or of a peer, not {described(addr)}')
        return checked_subject(addr[0], 'addr'), self.server[1]

    known = checked

    def is_resolved(self, addr: Address) -> bool:
        """Return True: subjects are not looked up."""
        return True

    def forget(self, addr: AddressLike | None) -> None:
        """Do nothing: nothing was looked up."""

    def move_server(self, addr: Address) -> None:
        """Do nothing: the subject of a server stays the same."""

    def source_of(self, addr: Any, data: bytes) -> Address | None:
        """Return the address of a message, as the transport has it."""
        return self.server if self._labels.is_client else addr

    def target(self, addr: Address | None, connections: object = None) -> Address:
        """Return the address to send to."""
        if not self._labels.is_client:
            if addr is None:
                raise TypeError("In the server role, 'addr' is required: the (subject, port) of the client")
            return addr
        if addr is not None and addr[0] != self.server[0]:
            name, uri = self._labels.name, self._labels.server_uri
            raise ValueError(f'Unexpected remote address {addr}: {name} is connected to {uri}')
        return self.server

    async def resolved(self, addr: AddressLike | None, timeout: float = inf) -> tuple[Address, float]:
        """Return the address to send to, and the timeout."""
        return self.target(None if addr is None else self.checked(addr)), timeout


Addresses = AddressBook | SubjectBook
"""The addresses that one communicator knows."""


def addresses_for(labels: Labels, admits: Callable[[str], bool], log: SafeLog, log_limit: RateLimitedLog) -> Addresses:
    """Return the addresses of a new communicator, which knows that of its server."""
    server = parse(labels.server_uri).address
    return (
        SubjectBook(labels, server)
        if labels.protocol == 'nats'
        else AddressBook(labels, server, admits, log, log_limit)
    )
