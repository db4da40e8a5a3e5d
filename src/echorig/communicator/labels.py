"""`Labels`: the names of a communicator and its peers in errors and logs, and errors about its connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ConnectionClosedError
from ..uri import DATAGRAM_SCHEMES, Address, address_text

__all__ = ['Labels', 'described_state']


@dataclass(slots=True)
class Labels:
    """Names a communicator and its peers; `server_uri` is the complete URI of now, `protocol` its scheme."""

    name: str
    server_uri: str
    protocol: str
    is_client: bool

    @property
    def has_datagrams(self) -> bool:
        """Whether the transport has no connections, and may lose a frame."""
        return self.protocol in DATAGRAM_SCHEMES

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
        reconnecting = ' and is reconnecting' if reconnects else ''
        why = '' if cause is None else f': {cause}'
        return ConnectionClosedError(f'{self.name} ({self.server_uri}) has lost its connection{reconnecting}{why}')

    def not_connected(self, addr: Address) -> ConnectionClosedError:
        """Return the error for a peer that is not connected."""
        if self.is_client:
            return ConnectionClosedError(f'{self.peer(addr)} is not connected')
        return ConnectionClosedError(f'No client of {self.name} ({self.server_uri}) at {addr[0]}:{addr[1]}')


def described_state(com: Any) -> str:
    """Return the URI and the state of a communicator, also of a blocking one or a mock, for its `repr`."""
    state = ('listening' if com.role == 'server' else 'connected') if com.is_connected else 'not connected'
    return f'{com.server_uri}, {state}'
