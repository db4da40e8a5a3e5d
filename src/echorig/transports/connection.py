"""`Connection`: one TCP connection of a communicator.

1. A connection knows the address of its peer from `connection_made` to `connection_lost`.
2. It passes every frame to its communicator and decides nothing.
3. A stream that cannot be split into frames any more is closed. The reason is logged, and kept as the cause.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ..errors import ConnectionClosedError, TLSError
from ..security.log_limit import RateLimitedLog
from ..security.rejections import HANDSHAKE, Rejections
from ..security.safe_log import SafeLog
from ..tuning import InternalTuning
from ..uri import Address, as_address, unmapped
from ..wire._framing import FrameSplitter
from . import path
from .choice import StreamTransport
from .connection_limits import ConnectionLimiter
from .tls_errors import explain_tls_error

__all__ = ['Connection', 'StreamContext', 'is_acceptable']

_HTTP = re.compile(rb'[A-Z]+ \S+ HTTP/\d')
_HIGH_WATER = 64 * 1024  # unsent bytes of a connection above which they are counted


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What the TCP connections of a communicator share, and the callables through which they reach it."""

    name: str
    is_server: bool
    tuning: InternalTuning
    loop: asyncio.AbstractEventLoop
    log: SafeLog
    log_limit: RateLimitedLog
    rejections: Rejections
    limits: ConnectionLimiter

    stream_received: Callable[[FrameSplitter, bytes, Address], bool]  # returns whether the limits must be checked
    peer_connected: Callable[[Connection], None]
    peer_lost: Callable[[Connection, BaseException | None], None]
    peer_ended: Callable[[], None]  # the peer has closed its side
    describe: Callable[[Address], str]  # returns the name of a peer for errors
    admits: Callable[[str], bool]  # returns whether a host may connect, and counts it if not
    is_closed: Callable[[], bool]
    has_connection: Callable[[], bool]  # returns whether a client is connected
    attempt_failed: Callable[[BaseException], None]  # a client cannot reconnect before a person intervenes


class Connection(asyncio.Protocol):
    """One TCP connection of a communicator."""

    __slots__ = (
        '_abort_timer',
        '_context',
        '_eof_received',
        '_is_lost',
        '_stream_received',
        'addr',
        'cause',
        'splitter',
        'transport',
    )

    def __init__(self, context: StreamContext) -> None:
        self._context = context
        self._stream_received = self._first_received if context.is_server else context.stream_received
        self.transport: asyncio.Transport | None = None
        self.addr: Address = ('', 0)
        self.cause: BaseException | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._is_lost = self._eof_received = False
        self.splitter = FrameSplitter(context.tuning.max_stream_message)

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to use a connection, unless it must not be used."""
        if not is_acceptable(self._context, transport):
            transport.abort()  # type: ignore[attr-defined]
            return
        self.transport = cast('asyncio.Transport', transport)
        self.transport.set_write_buffer_limits(high=min(_HIGH_WATER, self._context.tuning.max_send_buffer))
        self._set_options()
        self.addr = unmapped(as_address(transport.get_extra_info('peername')))
        self._context.peer_connected(self)
        if not self._context.is_server:
            self._bypass()

    def _bypass(self) -> None:
        """Have the compiled transport give each piece to the communicator itself, which saves a call."""
        if isinstance(self.transport, StreamTransport):
            self.transport.bypass(self._stream_received, self.splitter, self.addr, self._check)

    def data_received(self, data: bytes) -> None:
        """Pass on a piece of the stream, and check the limits."""
        if self._stream_received(self.splitter, data, self.addr):
            self._check(len(data))

    def _check(self, n: int) -> None:
        """Check the limits after a piece of n bytes."""
        splitter, limits = self.splitter, self._context.limits
        if splitter.overflow:
            limit = self._context.tuning.max_stream_message
            self.cut(f'it sent a message larger than {limit} bytes (Tuning.max_stream_message)')
        elif splitter.is_inside:
            limits.on_partial_message(self, n)
        limits.on_read(self, n)

    def _first_received(self, splitter: FrameSplitter, data: bytes, addr: Address) -> bool:
        """Pass on the first piece of a stream, unless it is that of a browser or a client of WebSocket."""
        self._stream_received = self._context.stream_received
        self._bypass()
        if _HTTP.match(data):
            self.cut('it sent an HTTP request: ws:// is plain TCP here, not WebSocket')
            return False
        return self._stream_received(splitter, data, addr)

    def eof_received(self) -> None:
        """Note that the peer has closed its side; the transport closes itself."""
        self._eof_received = True
        n = self.splitter.pending
        if n and self._context.log_limit.should_log('connections that ended inside a message', self.addr):
            text = 'Connection with %s:%s ended inside a message; %d bytes are lost'
            self._context.log.warning(text, *self.addr, n)
        self._context.peer_ended()

    def pause_writing(self) -> None:
        """Count the unsent bytes of this connection; its peer may only not read."""
        self._set_user_timeout(0.0)
        self._context.limits.on_pause_writing(self)

    def resume_writing(self) -> None:
        """Stop counting the unsent bytes, unless with TLS many of them are in the TCP transport."""
        if self.unsent <= _HIGH_WATER:
            self._set_user_timeout(self._context.tuning.path_timeout)
            self._context.limits.on_resume_writing(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Report the loss once: it is also called where an attempt to connect is cancelled."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._context.limits.release(self)
        if exc is None and not self._eof_received and not getattr(self.transport, 'closed_here', True):
            self.eof_received()  # the TLS of uvloop omits it if the peer has closed TCP without closing TLS
        if self.transport is not None:
            self._context.peer_lost(self, self._explain(exc or self.cause))

    # --- called by the limits ---

    def pause(self) -> bool:
        """Stop reading; return whether the connection was being read."""
        transport = self.transport
        if transport is None or transport.is_closing() or not transport.is_reading():
            return False
        transport.pause_reading()
        return True

    def resume(self) -> None:
        """Read again, unless the connection was closed meanwhile."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def unsent(self) -> int:
        """int: The number of bytes that wait to be sent."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def cut(self, reason: str) -> None:
        """Abort the connection once; log the reason and keep it as the cause."""
        if self.cause is None and self.transport is not None:
            self.cause = ConnectionClosedError(f'The connection with {self.addr[0]}:{self.addr[1]} is closed: {reason}')
            if self._context.is_server:
                self._context.limits.reject(self.addr[0], reason)
            else:
                self._context.log.error('%s', self.cause)
            self.splitter.stop()  # frees its buffer now: many connections may be cut in one turn of the loop
            self.abort()

    # --- the way to the peer ---

    def _set_options(self) -> None:
        sock = self._socket
        if sock is not None:
            path.set_options(sock, self._context.tuning)

    def _set_user_timeout(self, seconds: float) -> None:
        if (sock := self._socket) is not None:
            path.set_user_timeout(sock, seconds)

    @property
    def _socket(self) -> Any:
        """Return the TCP socket, or None."""
        sock = None if self.transport is None else self.transport.get_extra_info('socket')
        return None if sock is None or sock.family == getattr(socket, 'AF_UNIX', None) else sock

    @property
    def path_state(self) -> path.PathState | None:
        """What the system knows of the way to the peer, see `path.path_state`."""
        sock = self._socket
        return None if sock is None else path.path_state(sock)

    def lose(self, reason: str) -> None:
        """Abort a connection whose peer is not there any more; keep the reason as the cause."""
        if self.cause is None and self.transport is not None:
            self.cause = ConnectionClosedError(f'The connection with {self.addr[0]}:{self.addr[1]} is lost: {reason}')
            if self._context.log_limit.should_log('lost connections', self.addr):
                self._context.log.warning('%s', self.cause)
            if (sock := self._socket) is not None:
                path.reset_on_close(sock)
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    # --- closing ---

    def close(self) -> None:
        """Close the connection after its unsent bytes were sent, or after `close_grace`."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self._abort_timer = self._context.loop.call_later(self._context.tuning.close_grace, self.transport.abort)

    def _explain(self, exc: BaseException | None) -> BaseException | None:
        """Return the error with which the connection was lost, after logging it if it is one of TLS."""
        context, who = self._context, self._context.describe(self.addr)
        if isinstance(exc, ssl.SSLError):
            if self._is_closed_here():  # the peer was still sending
                return None
            error = explain_tls_error(exc, who, 'server' if context.is_server else 'client')
        elif (refusal := self.refusal(exc)) is not None:
            error = refusal
        else:
            return exc
        if context.is_server:
            context.rejections.count(self.addr[0], HANDSHAKE, '%s', error)
        else:
            context.log.warning('%s', error)
        return error

    def refusal(self, exc: BaseException | None = None) -> TLSError | None:
        """Return an error if the server has probably refused the certificate of this client, or its absence.

        Since TLS 1.3 a client completes its handshake before the server has checked its certificate, and the loops
        close the connection without an alert. A server of OpenSSL that has accepted it sends a session ticket.
        """
        if self._context.is_server or self.transport is None or self.splitter.received or self._is_closed_here():
            return None
        tls = self.transport.get_extra_info('ssl_object')
        if tls is None or tls.version() != 'TLSv1.3' or (tls.session is not None and tls.session.has_ticket):
            return None
        who = self._context.describe(self.addr)
        error = TLSError(
            f'No TLS connection with {who}: it was closed right after the handshake; '
            'the server may want a certificate (SSLContext.load_cert_chain)'
        )
        error.__cause__ = exc
        return error

    def _is_closed_here(self) -> bool:
        return getattr(self.transport, 'closed_here', False)


def is_acceptable(context: StreamContext, transport: asyncio.BaseTransport) -> bool:
    """Return whether a new connection may be used."""
    peername = transport.get_extra_info('peername')
    if not peername:  # it was closed before the loop could ask
        return False
    if peername == transport.get_extra_info('sockname'):
        return False  # a port connected to itself, as happens where a client retries a missing server on its own host
    return not context.is_server or context.admits(unmapped(as_address(peername))[0])
