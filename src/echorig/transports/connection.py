"""`Connection`: one TCP connection of a communicator: frames in, bytes out.

1. A connection knows its peer's address from the moment it is made to its end.
2. It decides nothing: every frame goes to its user.
3. A stream that cannot be split into frames any more is closed, with the reason logged and kept as the cause.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import cast

from ..errors import ConnectionClosedError, TLSError
from ..security.rejections import HANDSHAKE, Rejections
from ..security.safe_log import SafeLog
from ..tuning import InternalTuning, Tuning
from ..uri import Address, as_address
from ..wire._framing import FrameSplitter
from .connection_limits import ConnectionLimiter
from .interfaces import ConnectionUser
from .tls_errors import explained

__all__ = ['Connection', 'StreamContext', 'is_acceptable']

_MUCH = 64 * 1024  # bytes that wait to be sent before anybody looks after them


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What all TCP connections of a communicator share."""

    user: ConnectionUser
    name: str
    is_server: bool
    tuning: InternalTuning
    loop: asyncio.AbstractEventLoop
    log: SafeLog
    rejections: Rejections
    limits: ConnectionLimiter


class Connection(asyncio.Protocol):
    """One TCP connection of a communicator.

    Parameters
    ----------
    context : StreamContext
        What it shares with others.
    """

    __slots__ = (
        '_context',
        '_grace',
        '_has_ended',
        '_is_lost',
        '_stream_received',
        'addr',
        'cause',
        'splitter',
        'transport',
    )

    def __init__(self, context: StreamContext) -> None:
        self._context = context
        self._stream_received = context.user.stream_received
        self.transport: asyncio.Transport | None = None
        self.addr: Address = ('', 0)
        self.cause: BaseException | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._is_lost = self._has_ended = False
        self.splitter = FrameSplitter(context.tuning.max_stream_message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        if not is_acceptable(self._context, transport):
            transport.abort()  # type: ignore[attr-defined]
            return
        self.transport = cast('asyncio.Transport', transport)
        self.transport.set_write_buffer_limits(high=min(_MUCH, self._context.tuning.max_send_buffer))
        _prepare(transport, self._context.tuning)
        self.addr = as_address(transport.get_extra_info('peername'))
        self._context.user.peer_connected(self)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with each piece of the stream."""
        if not self._stream_received(self.splitter, data, self.addr):
            return
        splitter, limits = self.splitter, self._context.limits
        if splitter.overflow:
            limit = self._context.tuning.max_stream_message
            self.cut(f'it sent a message larger than {limit} bytes (Tuning.max_stream_message)')
        elif splitter.is_inside:
            limits.on_partial_message(self, len(data))
        limits.on_read(self, len(data))

    def eof_received(self) -> None:
        """Called by the event loop; the transport closes itself."""
        self._has_ended = True
        if self.splitter.pending:
            limits = self._context.limits
            limits.ended_inside += 1
            so_far = limits.ended_inside
            if so_far & (so_far - 1) == 0:  # not each of what may be very many
                self._context.log.warning(
                    'Connection with %s:%s ended inside a message; %d bytes are lost (%d so far)',
                    *(*self.addr, self.splitter.pending, so_far),
                )
        self._context.user.peer_ended()

    def pause_writing(self) -> None:
        """Called by the event loop when much waits to be sent."""
        self._context.limits.on_pause_writing(self)

    def resume_writing(self) -> None:
        """Called by the event loop when little waits to be sent; with TLS much may wait in the TCP transport."""
        if self.unsent <= _MUCH:
            self._context.limits.on_resume_writing(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop, and where an attempt was given up; the first time counts."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._grace is not None:
            self._grace.cancel()
        self._context.limits.release(self)
        if exc is None and not self._has_ended and not getattr(self.transport, 'closed_here', True):
            self.eof_received()  # the TLS of uvloop does not, where the other end has not closed that of its end
        if self.transport is not None:
            self._context.user.peer_lost(self, self._explain(exc or self.cause))

    def pause(self) -> bool:
        """Read nothing for now; return whether it was being read."""
        transport = self.transport
        if transport is None or transport.is_closing() or not transport.is_reading():
            return False
        transport.pause_reading()
        return True

    def resume(self) -> None:
        """Read again, where it has not been closed meanwhile."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def unsent(self) -> int:
        """int: How many bytes wait to be sent."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def cut(self, why: str) -> None:
        """Break the connection off, once, with the reason logged and kept as the cause."""
        if self.cause is None and self.transport is not None:
            self.cause = ConnectionClosedError(f'The connection with {self.addr[0]}:{self.addr[1]} is closed: {why}')
            if self._context.is_server:
                self._context.limits.reject(self.addr[0], why)
            else:
                self._context.log.error('%s', self.cause)
            self.splitter.stop()  # many may be cut before the loop gets to free them
            self.abort()

    def abort(self) -> None:
        """Break the connection off."""
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close the connection, after a short time for the peer to read what is on its way."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self._grace = self._context.loop.call_later(self._context.tuning.close_grace, self.transport.abort)

    def _explain(self, exc: BaseException | None) -> BaseException | None:
        """Say what has become of a TLS connection."""
        context, who = self._context, self._context.user.describe(self.addr)
        if isinstance(exc, ssl.SSLError):
            if self._is_closed_here():  # while the other end was sending
                return None
            error = explained(exc, who, 'server' if context.is_server else 'client')
        elif (refusal := self.refusal(exc)) is not None:
            error = refusal
        else:
            return exc
        if context.is_server:
            context.rejections.note(self.addr[0], HANDSHAKE, '%s', error)
        else:
            context.log.warning('%s', error)
        return error

    def refusal(self, exc: BaseException | None = None) -> TLSError | None:
        """Return an error if the server seems to have refused the certificate of this client, or that it has none.

        Since TLS 1.3 a client completes its handshake before the server has checked its certificate, and the loops
        close the connection without an alert. A server of OpenSSL that has accepted it sends a session ticket.
        """
        if self._context.is_server or self.transport is None or self.splitter.received or self._is_closed_here():
            return None
        tls = self.transport.get_extra_info('ssl_object')
        if tls is None or tls.version() != 'TLSv1.3' or (tls.session is not None and tls.session.has_ticket):
            return None
        who = self._context.user.describe(self.addr)
        error = TLSError(
            f'No TLS connection with {who}: it was closed right after the handshake; '
            'the server may want a certificate (SSLContext.load_cert_chain)'
        )
        error.__cause__ = exc
        return error

    def _is_closed_here(self) -> bool:
        return getattr(self.transport, 'closed_here', False)


def is_acceptable(context: StreamContext, transport: asyncio.BaseTransport) -> bool:
    """Tell whether a connection that has been made is to be used."""
    peername = transport.get_extra_info('peername')
    if not peername:  # it was gone before the loop could ask
        return False
    if peername == transport.get_extra_info('sockname'):
        # Looking for a server on this computer that is away may end in a connection of a port with itself.
        return False
    return not context.is_server or context.user.admits(as_address(peername)[0])


def _prepare(transport: asyncio.BaseTransport, tuning: Tuning) -> None:
    """Turn off Nagle's algorithm (RFC 896), or an answer behind an echo waits 40 ms for its acknowledgement.

    The loops do so too, but not for every socket that was passed to them. And have the system find out when the other
    computer is gone without a word.
    """
    sock = transport.get_extra_info('socket')
    if sock is not None and sock.family != getattr(socket, 'AF_UNIX', None):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in ('TCP_KEEPIDLE', 'TCP_KEEPALIVE'):  # the latter on macOS; the system's own time is two hours
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _seconds(tuning.idle_timeout))


def _seconds(time: float) -> int:
    """Return a time as systems take it: whole seconds, at most 32,767 (Linux)."""
    return int(min(max(time, 1.0), 32_767.0))
