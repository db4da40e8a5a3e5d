"""Channels: sockets of the diagnosis, on which frames are sent to one address and received with their senders."""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic
from typing import Any, NamedTuple, Protocol

from ..stall import wait_for
from ..transports import sockets
from ..transports.udp_probe import UdpProbe
from ..tuning import DEFAULT_TUNING
from ..uri import Address, Uri, as_address, unmapped
from ..wire._framing import FrameSplitter
from .network_errors import ask_for_errors, forget_errors

__all__ = ['Arrival', 'Channel', 'StreamChannel', 'UdpChannel']


class Arrival(NamedTuple):
    """A received frame, or an error that the system reports."""

    frame: bytes
    sender: Address
    at: float  # monotonic seconds
    error: OSError | None = None


class Channel(Protocol):
    """What the channels have in common."""

    addr: Address
    is_stream: bool

    def send(self, frame: bytes) -> None:
        """Send a frame to the address."""

    async def receive(self, wait: float) -> Arrival | None:
        """Return the next frame or error; None if there is none in time, in seconds."""

    def close(self) -> None:
        """Close the socket."""

    @property
    def pending(self) -> int:
        """int: How many bytes of an incomplete frame were received."""


class _Arrivals:
    """The frames that have arrived and were not read yet."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Arrival] = asyncio.Queue()

    def put(self, frame: bytes, sender: Address, error: OSError | None = None) -> None:
        """Add a frame or an error."""
        self._queue.put_nowait(Arrival(frame, sender, monotonic(), error))

    async def get(self, wait: float) -> Arrival | None:
        """Return the next one; None if there is none in time."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        try:
            return await wait_for(self._queue.get(), wait)
        except asyncio.TimeoutError:
            return None


class UdpChannel:
    """A UDP socket; one that is not connected also receives from other addresses, and no errors of the network."""

    is_stream = False
    pending = 0

    def __init__(self, addr: Address) -> None:
        self.addr = addr
        self._arrivals = _Arrivals()
        self._socket = UdpProbe(addr, self._on_datagram, self._on_error)
        self._reported: Any = None  # the socket, if all errors are reported to it

    @classmethod
    async def open(cls, addr: Address, *, connected: bool, all_errors: bool = False) -> UdpChannel:
        """Return an open channel, with all errors of the network if wanted; raises OSError if there is no way."""
        channel = cls(addr)
        await channel.start(connected, all_errors)
        return channel

    async def start(self, connected: bool, all_errors: bool) -> None:
        """Open the socket."""
        await self._socket.open(connected=connected)
        if all_errors and self._socket.transport is not None:
            self._reported = self._socket.transport.get_extra_info('socket')
            ask_for_errors(self._reported)

    def send(self, frame: bytes) -> None:
        """Send a datagram."""
        self._socket.send(frame)

    async def receive(self, wait: float) -> Arrival | None:
        """Return the next datagram or error; None if there is none in time."""
        return await self._arrivals.get(wait)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _on_datagram(self, probe: UdpProbe, frame: bytes, addr: tuple[str, int]) -> None:
        self._arrivals.put(frame, unmapped(as_address(addr)))

    def _on_error(self, probe: UdpProbe, error: Exception) -> None:
        if self._reported is not None:
            forget_errors(self._reported)
        if isinstance(error, OSError):
            self._arrivals.put(b'', self.addr, error)


class StreamChannel(asyncio.Protocol):
    """A TCP or TLS connection."""

    is_stream = True

    def __init__(self, addr: Address) -> None:
        self.addr = addr
        self._arrivals = _Arrivals()
        self._splitter = FrameSplitter(DEFAULT_TUNING.max_stream_message)
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, addr: Address, wait: float) -> StreamChannel:
        """Return a TCP connection; raises OSError, or `asyncio.TimeoutError` after a time in seconds."""
        channel = cls(addr)
        sock = await wait_for(sockets.connected_to(Uri('tcp', *addr)), wait)
        try:
            await asyncio.get_running_loop().create_connection(lambda: channel, sock=sock)
        except BaseException:
            sock.close()
            raise
        return channel

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, wait: float) -> str:
        """Do the TLS handshake; return the version. Raises OSError (also `ssl.SSLError`), or `asyncio.TimeoutError`."""
        plain = self._transport
        assert plain is not None
        starting = asyncio.get_running_loop().start_tls(plain, self, context, server_hostname=server_hostname)
        try:
            tls = await wait_for(starting, wait)
        except BaseException:
            plain.abort()
            raise
        if tls is None or tls.get_extra_info('ssl_object') is None:
            plain.abort()
            raise ConnectionResetError('the connection was closed during the handshake')
        self._transport = tls
        return str(tls.get_extra_info('ssl_object').version())

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    async def receive(self, wait: float) -> Arrival | None:
        """Return the next frame, or the error that ended the connection; None if there is none in time."""
        return await self._arrivals.get(wait)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def pending(self) -> int:
        """int: How many bytes of an incomplete frame were received."""
        return self._splitter.pending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Cut the stream into frames."""
        for frame in self._splitter.feed(data):
            self._arrivals.put(frame, self.addr)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        error = exc if isinstance(exc, OSError) else ConnectionResetError('the connection was closed')
        self._arrivals.put(b'', self.addr, error)
