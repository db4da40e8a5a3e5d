"""TLS by the event loop, started on an open TCP connection.

``create_server(ssl=...)`` of the loops does not report a failed handshake, and cannot refuse a host before it.
``create_connection(ssl=...)`` does not report when the handshake starts. So the TCP connection is made first, with a
`Handshake` as its protocol, and becomes a TLS connection with ``loop.start_tls``.

1. Only the TLS of the loop writes to the TCP transport, so nothing is sent unencrypted.
2. A `Connection` is made after the handshake is complete and the certificates have been checked.
3. The timer is `stall.call_later`, because the loops do not read the sockets once more before their own timer expires.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any, cast

from ..security.rejections import HANDSHAKE
from ..stall import call_later
from ..uri import Address, as_address, unmapped
from .connection import Connection, StreamContext, is_acceptable
from .tls_errors import explain_tls_error

__all__ = ['Handshake']

_NEVER = 365 * 24 * 3600.0  # seconds, the handshake timeout of the loop
_PIECE = 64 * 1024  # bytes that the loop encrypts at a time


class Handshake(asyncio.Protocol):
    """The protocol of a TCP connection until it is a TLS connection.

    A server runs it as a task, which counts and logs failures. A client awaits `run`. `server_hostname` is the name
    that must be in the certificate of the server; `timeout` is in seconds.
    """

    def __init__(
        self, context: StreamContext, options: ssl.SSLContext, server_hostname: str | None, timeout: float
    ) -> None:
        self.addr: Address = ('', 0)
        self.transport: asyncio.Transport
        self._context, self._options, self._timeout = context, options, timeout
        self._server_hostname = server_hostname
        self._early_data: list[bytes] = []
        self._eof_received = self._is_lost = self._is_aborted = False
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake of a server, unless the connection must be refused."""
        self.transport = cast('asyncio.Transport', transport)
        context = self._context
        if not context.is_server:
            return
        if not context.is_closed() and is_acceptable(context, transport):
            self.addr = unmapped(as_address(transport.get_extra_info('peername')))
            if context.limits.register(self):
                self._task = context.loop.create_task(self._serve())
                return
        self.transport.abort()

    # The TCP transport calls these before the handshake, and the TLS transport right after it.

    def data_received(self, data: bytes) -> None:
        """Keep early data."""
        self._early_data.append(data)

    def eof_received(self) -> None:
        """Note that the peer has closed its side."""
        self._eof_received = True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that the connection is lost."""
        self._is_lost, self._error = True, self._error or exc

    async def run(self) -> None:
        """Do the handshake and make the connection; on failure close the TCP connection and raise OSError."""
        loop, tcp, is_server = self._context.loop, self.transport, self._context.is_server
        connection = None
        timer = call_later(loop, self._timeout, self._on_timeout)
        try:
            if tcp.is_closing():
                raise self._error or ConnectionResetError
            loop.call_soon(self._replay_early_data)
            tls = await loop.start_tls(
                *(tcp, self, self._options),
                server_side=is_server,
                server_hostname=self._server_hostname,
                ssl_handshake_timeout=_NEVER,
            )
            # If the TCP transport is aborted, start_tls returns without an error.
            is_lost = self._is_lost or self._is_aborted or self._error is not None
            if is_lost or tls is None or tls.get_extra_info('ssl_object') is None:
                raise self._error or ConnectionResetError
            self._context.limits.unregister(self)
            connection = Connection(self._context)
            tls.set_protocol(connection)
            connection.connection_made(cast('asyncio.Transport', _TlsTransport(tls, tcp)))
            for data in self._early_data:
                connection.data_received(data)
            if self._eof_received:
                connection.eof_received()
        finally:
            timer.cancel()
            if connection is None:
                tcp.abort()

    def _replay_early_data(self, is_started: bool = False) -> None:
        """Pass on data that the loop has read before start_tls replaced the protocol, even if reading was paused."""
        protocol: Any = self.transport.get_protocol()
        if not is_started and self._early_data and not hasattr(protocol, 'get_buffer'):
            # asyncio of Python 3.10 starts its protocol in this iteration, after this call.
            self._context.loop.call_soon(self._replay_early_data, True)
            return
        early_data, self._early_data = self._early_data, []
        for data in early_data:
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                if hasattr(protocol, 'get_buffer'):
                    protocol.get_buffer(len(piece))[: len(piece)] = piece
                    protocol.buffer_updated(len(piece))
                else:
                    protocol.data_received(piece)

    def _on_timeout(self) -> None:
        self._error = TimeoutError(
            f'the handshake was not complete within {self._timeout:g} s (Tuning.handshake_timeout)'
        )
        self.transport.abort()

    async def _serve(self) -> None:
        context, host = self._context, self.addr[0]
        try:
            await self.run()
        except Exception as ex:
            if not self._is_aborted and not context.is_closed():
                who = f'{host} (client of {context.name})'
                context.rejections.count(host, HANDSHAKE, '%s', explain_tls_error(ex, who, 'server'))
        finally:
            context.limits.unregister(self)

    def cut(self, reason: str) -> None:
        """Abort the handshake to make room for another connection."""
        self._context.limits.reject(self.addr[0], reason)
        self.abort()

    def abort(self) -> None:
        """Abort the handshake."""
        self._is_aborted = True
        self.transport.abort()


class _TlsTransport:
    """The TLS transport of the loop, corrected by means of its TCP transport.

    1. A paused TLS transport continues to read, and uvloop drops that data if the peer closes meanwhile. So the TCP
       transport is paused.
    2. The size of its write buffer does not include bytes in the TCP transport; they are added here.
    3. It passes all of a long message to the TCP transport at once. So long messages are written in pieces.
    """

    def __init__(self, tls: asyncio.Transport, tcp: asyncio.Transport) -> None:
        self._tls, self._tcp = tls, tcp
        self.closed_here = False
        self.pause_reading, self.resume_reading, self.is_reading = tcp.pause_reading, tcp.resume_reading, tcp.is_reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if len(data) <= _PIECE:
            self._tls.write(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            if self.is_closing():  # the connection exceeded a limit and was cut
                return
            self._tls.write(view[start : start + _PIECE])

    def close(self) -> None:
        """Send the buffered data, then close."""
        if not self.is_closing():  # closing twice breaks the transport of asyncio
            self.closed_here = True
            self._tls.close()

    def abort(self) -> None:
        """Close at once."""
        self.closed_here = True
        self._tls.abort()

    def is_closing(self) -> bool:
        """Return whether it is closed or closing."""
        return self.closed_here or self._tcp.is_closing() or self._tls.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes."""
        size = self._tcp.get_write_buffer_size()
        if self._tcp.is_closing() or (sys.version_info < (3, 11) and type(self._tls).__module__ == 'asyncio.sslproto'):
            return size  # that transport of asyncio returns this size too
        return size + self._tls.get_write_buffer_size()
