"""Datagram transports that use transports of the event loop; `open_datagrams` chooses one."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .choice import is_proactor

__all__ = ['DelegatingTransport', 'Receiver', 'open_datagrams']


async def open_datagrams(protocol: asyncio.DatagramProtocol, sock: socket.socket) -> None:
    """Open the endpoint of a socket that is bound or connected, with the transport of the event loop."""
    loop = asyncio.get_running_loop()
    if is_proactor(loop):
        try:
            peer = sock.getpeername()
        except OSError:  # it is bound
            pass
        else:
            await _ConnectedTransport(loop, protocol, peer).open(sock)
            return
    await loop.create_datagram_endpoint(lambda: protocol, sock=sock)


class DelegatingTransport(asyncio.DatagramTransport):
    """A transport with one of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__()
        self._loop, self._protocol = loop, protocol
        self._main: asyncio.DatagramTransport | None = None

    async def _open_main(self, sock: socket.socket) -> None:
        self._main, _ = await self._loop.create_datagram_endpoint(lambda: Receiver(self, True), sock=sock)

    # --- called by the receivers ---

    def on_datagram(self, transport: asyncio.DatagramTransport, data: bytes, addr: Any) -> None:
        """Pass on a datagram."""
        self._protocol.datagram_received(data, addr)

    def on_error(self, exc: Exception) -> None:
        """Pass on an error of the system."""
        self._protocol.error_received(exc)

    def on_lost(self, exc: Exception | None) -> None:
        """Report that the socket is closed."""
        self.close()
        self._protocol.connection_lost(exc)

    # --- the contract of a transport ---

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the information of the socket."""
        return default if self._main is None else self._main.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol."""
        self._protocol = protocol  # type: ignore[assignment]

    def is_closing(self) -> bool:
        """Return whether the transport is closed or closing."""
        return self._main is None or self._main.is_closing()

    def close(self) -> None:
        """Close the socket."""
        if self._main is not None:
            self._main.close()

    def abort(self) -> None:
        """Close the socket at once."""
        if self._main is not None:
            self._main.abort()


class Receiver(asyncio.DatagramProtocol):
    """The protocol of one socket of a `DelegatingTransport`."""

    def __init__(self, owner: DelegatingTransport, is_main: bool) -> None:
        self._owner, self._is_main = owner, is_main

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._owner.on_datagram(self._transport, data, addr)

    def error_received(self, exc: Exception) -> None:
        self._owner.on_error(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_main:
            self._owner.on_lost(exc)


class _ConnectedTransport(DelegatingTransport):
    """Passes the address of the peer with each datagram.

    The transport of the proactor of Windows needs it for a connected socket that was passed to it: it fails with
    ``sendto(data)``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.DatagramProtocol, peer: Any) -> None:
        super().__init__(loop, protocol)
        self._peer = peer

    async def open(self, sock: socket.socket) -> None:
        """Open the endpoint of a connected socket."""
        await self._open_main(sock)
        self._protocol.connection_made(self)

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram to the peer."""
        if self._main is not None:
            self._main.sendto(data, self._peer)
