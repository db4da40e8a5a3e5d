"""`UdpProbe`: a second socket of a UDP client, on which an address of its server is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..uri import Address, Uri
from . import sockets, udp

__all__ = ['UdpProbe', 'retire']


class UdpProbe(asyncio.DatagramProtocol):
    """Sends to one address; calls `on_datagram` and `on_error` with itself and what the loop reports."""

    def __init__(
        self,
        addr: Address,
        on_datagram: Callable[[UdpProbe, bytes, Any], None],
        on_error: Callable[[UdpProbe, Exception], None],
    ) -> None:
        self.addr, self._on_datagram, self._on_error = addr, on_datagram, on_error
        self.transport: asyncio.DatagramTransport | None = None
        self.is_connected = False

    async def open(self, *, connected: bool) -> None:
        """Open the socket; one that is not connected receives from every address. Raises OSError if there is no way."""
        uri = Uri('udp', *self.addr)
        sock = sockets.connect_socket(uri, {}) if connected else sockets.any_socket(uri)
        assert sock is not None
        self.is_connected = connected
        try:
            await udp.open_socket(self, sock)
        except BaseException:
            sock.close()
            raise

    def send(self, frame: bytes) -> None:
        """Send a frame to the address."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.sendto(frame, None if self.is_connected else self.addr)

    def close(self) -> None:
        """Close the socket."""
        if self.transport is not None:
            retire(self.transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Pass on a datagram."""
        self._on_datagram(self, data, addr)

    def error_received(self, exc: Exception) -> None:
        """Pass on an error of the system."""
        self._on_error(self, exc)


def retire(transport: asyncio.BaseTransport) -> None:
    """Close a transport; nothing is reported to its protocol any more."""
    transport.set_protocol(asyncio.DatagramProtocol())
    transport.close()
