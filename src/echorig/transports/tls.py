"""TLS by the event loop, on a TCP connection that is there already.

``create_server(ssl=...)`` of the loops does not report a handshake that fails, and cannot refuse a host before its
handshake. ``create_connection(ssl=...)`` does not tell when the handshake begins. So the TCP connection is made first,
with a `Handshake` as its protocol, and becomes a TLS connection with ``loop.start_tls``.

1. Only the TLS of the loop writes to the TCP transport, so nothing is sent in clear.
2. A `Connection` is made after the handshake is over and the certificates have been checked.
3. The timer is our own (`stall.call_later`), because the loops do not read the sockets once more before theirs ends.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any, cast

from ..security.rejections import HANDSHAKE
from ..stall import call_later
from ..uri import Address, as_address
from .connection import Connection, StreamContext, is_acceptable
from .tls_errors import explained

__all__ = ['Handshake']

_NEVER = 365 * 24 * 3600.0  # seconds, the handshake timeout of the loop
_PIECE = 64 * 1024  # bytes that the loop is given to encrypt at a time


class Handshake(asyncio.Protocol):
    """The protocol of a TCP connection until it is a TLS connection.

    In the server role it begins by itself, and counts and logs its failure. In the client role `run` must be awaited.

    Parameters
    ----------
    context : StreamContext
        What the connections of the communicator share.
    options : ssl.SSLContext
        The certificates and rules.
    server_hostname : str, optional
        In the client role, whose certificate the server must have.
    timeout : float
        How long the handshake may take, in seconds.
    """

    def __init__(
        self, context: StreamContext, options: ssl.SSLContext, server_hostname: str | None, timeout: float
    ) -> None:
        self.addr: Address = ('', 0)
        self.transport: asyncio.Transport
        self._context, self._options, self._timeout = context, options, timeout
        self._server_hostname = server_hostname
        self._early: list[bytes] = []
        self._has_ended = self._is_lost = self._is_cut = False
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop when the TCP connection is made."""
        self.transport = cast('asyncio.Transport', transport)
        context = self._context
        if not context.is_server:
            return
        if not context.user.is_closed() and is_acceptable(context, transport):
            self.addr = as_address(transport.get_extra_info('peername'))
            if context.limits.register(self, self.addr[0]):
                self._task = context.loop.create_task(self._serve())
                return
        self.transport.abort()

    # These are called by the TCP transport before the handshake, and by the TLS transport right after it.

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._early.append(data)

    def eof_received(self) -> None:
        """Called by the event loop."""
        self._has_ended = True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop."""
        self._is_lost, self._error = True, self._error or exc

    async def run(self) -> None:
        """Do the handshake, and make the connection.

        Raises
        ------
        OSError
            There is no TLS connection; the TCP connection is closed.
        """
        loop, tcp, is_server = self._context.loop, self.transport, self._context.is_server
        connection = None
        timer = call_later(loop, self._timeout, self._expire)
        try:
            if tcp.is_closing():
                raise self._error or ConnectionResetError
            loop.call_soon(self._replay)
            tls = await loop.start_tls(
                *(tcp, self, self._options),
                server_side=is_server,
                server_hostname=self._server_hostname,
                ssl_handshake_timeout=_NEVER,
            )
            # A TCP transport that was aborted ends start_tls without an error.
            is_aborted = self._is_lost or self._is_cut or self._error is not None
            if is_aborted or tls is None or tls.get_extra_info('ssl_object') is None:
                raise self._error or ConnectionResetError
            self._context.limits.unregister(self)
            connection = Connection(self._context)
            tls.set_protocol(connection)
            connection.connection_made(cast('asyncio.Transport', _TlsTransport(tls, tcp)))
            for data in self._early:
                connection.data_received(data)
            if self._has_ended:
                connection.eof_received()
        finally:
            timer.cancel()
            if connection is None:
                tcp.abort()

    def _replay(self) -> None:
        """Hand on what uvloop has read before start_tls replaced the protocol; it ignores a pause that early."""
        protocol: Any = self.transport.get_protocol()
        early, self._early = self._early, []
        for data in early:
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                protocol.get_buffer(len(piece))[: len(piece)] = piece
                protocol.buffer_updated(len(piece))

    def _expire(self) -> None:
        self._error = TimeoutError(f'the handshake was not over within {self._timeout:g} s (Tuning.handshake_timeout)')
        self.transport.abort()

    async def _serve(self) -> None:
        context, host = self._context, self.addr[0]
        try:
            await self.run()
        except Exception as ex:
            if not self._is_cut and not context.user.is_closed():
                who = f'{host} (client of {context.name})'
                context.rejections.note(host, HANDSHAKE, '%s', explained(ex, who, 'server'))
        finally:
            context.limits.unregister(self)

    def cut(self, why: str) -> None:
        """Break it off, to make room for another."""
        self._context.limits.reject(self.addr[0], why)
        self.abort()

    def abort(self) -> None:
        """Break it off."""
        self._is_cut = True
        self.transport.abort()


class _TlsTransport:
    """The TLS transport of the loop, with what it hides of its TCP transport.

    While it is paused, the TLS transport reads on, and uvloop drops what it has read if the other end closes
    meanwhile; so the TCP transport is paused. What was handed to the TCP transport is not in the size of the buffer of
    the TLS transport; it is added here. It would be all of a long message, which is therefore written in pieces.
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
            if self.is_closing():  # it holds too much, and was cut
                return
            self._tls.write(view[start : start + _PIECE])

    def close(self) -> None:
        """Send what waits, then close."""
        if not self.is_closing():  # closing twice breaks the transport of asyncio
            self.closed_here = True
            self._tls.close()

    def abort(self) -> None:
        """Close at once."""
        self.closed_here = True
        self._tls.abort()

    def is_closing(self) -> bool:
        """Tell whether it is closed or about to be."""
        return self.closed_here or self._tcp.is_closing() or self._tls.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        size = self._tcp.get_write_buffer_size()
        if self._tcp.is_closing() or (sys.version_info < (3, 11) and type(self._tls).__module__ == 'asyncio.sslproto'):
            return size  # that transport of asyncio counts nothing but this
        return size + self._tls.get_write_buffer_size()
