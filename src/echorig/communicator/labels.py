"""`Labels`: the names of a communicator and its peers in errors and logs, and errors about its connection."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConnectionClosedError
from ..uri import Address, address_text

__all__ = ['Labels']


@dataclass(frozen=True, slots=True)
class Labels:
    """Names a communicator and its peers for people."""

    name: str
    """str: The label of the communicator."""
    server_uri: str
    """str: The complete URI."""
    protocol: str
    """str: The scheme of the URI."""
    is_client: bool
    """bool: Whether it is a client."""

    def peer(self, addr: Address) -> str:
        """Name a peer."""
        if self.is_client:
            return f'{self.name} ({self.server_uri})'
        return f'{address_text(self.protocol, addr)} (client of {self.name})'

    def closed(self) -> ConnectionClosedError:
        """Return the error for a communicator that is closed."""
        return ConnectionClosedError(f'{self.name} ({self.server_uri}) is closed')

    def lost_connection(self, reconnects: bool, cause: BaseException | None) -> ConnectionClosedError:
        """Return the error for a client that has lost its connection."""
        so_far = ' and looks for its server' if reconnects else ''
        why = '' if cause is None else f': {cause}'
        return ConnectionClosedError(f'{self.name} ({self.server_uri}) has lost its connection{so_far}{why}')

    def not_connected(self, addr: Address) -> ConnectionClosedError:
        """Return the error for a peer that is not connected."""
        if self.is_client:
            return ConnectionClosedError(f'{self.peer(addr)} is not connected')
        return ConnectionClosedError(f'No client of {self.name} ({self.server_uri}) at {addr[0]}:{addr[1]}')
