"""`Connection`: one TCP connection of a communicator, whole messages in and out.

1. A connection knows its peer's address from the moment it is made to its end.
2. It decides nothing: every message goes to the communicator that owns it.
3. A stream that cannot be understood any more is closed, with the reason logged and kept as the cause.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, cast

from ..communicator._pipeline import stream_received
from ..errors import ConnectionClosedError, TLSError
from ..security.rejections import HANDSHAKE
from ..uri import Address, as_address
from ..wire._framing import FrameSplitter
from .tls_errors import explained

if TYPE_CHECKING:
    from ..communicator.link import Link
    from ..tuning import Tuning

__all__ = ['Connection', 'may_begin']

_MUCH = 64 * 1024  # bytes that wait to be sent before anybody looks after them


class Connection(asyncio.Protocol):
    """One TCP connection of a communicator.

    Parameters
    ----------
    owner : Link
        The communicator that is told of everything.
    """

    __slots__ = ('_grace', '_is_lost', '_splitter', 'addr', 'cause', 'owner', 'transport')

    def __init__(self, owner: Link) -> None:
        self.owner = owner
        self.transport: asyncio.Transport | None = None
        self.addr: Address = ('', 0)
        self.cause: BaseException | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._is_lost = False
        self._splitter = FrameSplitter(owner.tuning.max_stream_message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        if not may_begin(self.owner, transport):
            transport.abort()  # type: ignore[attr-defined]
            return
        self.transport = cast('asyncio.Transport', transport)
        self.transport.set_write_buffer_limits(high=min(_MUCH, self.owner.tuning.max_unsent))
        _prepare(transport, self.owner.tuning)
        self.addr = as_address(transport.get_extra_info('peername'))
        self.owner._connected(self)

    data_received = stream_received

    def eof_received(self) -> None:
        """Called by the event loop; the transport closes itself."""
        if self._splitter.pending:
            self.owner._crowd.ended_inside += 1
            so_far = self.owner._crowd.ended_inside
            if so_far & (so_far - 1) == 0:  # not each of what may be very many
                self.owner._log.warning(
                    'Connection with %s:%s ended inside a message; %d bytes are lost (%d so far)',
                    *(*self.addr, self._splitter.pending, so_far),
                )
        self.owner.eof_received()

    def pause_writing(self) -> None:
        """Called by the event loop when much waits to be sent."""
        self.owner._crowd.reads_slowly(self)

    def resume_writing(self) -> None:
        """Called by the event loop when little waits to be sent."""
        self.owner._crowd.reads_again(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop, and where an attempt was given up; the first time counts."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._grace is not None:
            self._grace.cancel()
        self.owner._crowd.forget(self)
        if self.transport is not None:
            self.owner._disconnected(self, _explained(self, exc or self.cause))

    def pause(self) -> bool:
        """Read nothing for now; tell whether it was being read."""
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
    def unfinished(self) -> int:
        """int: How many bytes of a message have come that is not whole yet."""
        return self._splitter.pending

    @property
    def unsent(self) -> int:
        """int: How many bytes wait to be sent."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def cut(self, why: str) -> None:
        """Break the connection off, once, with the reason logged and kept as the cause."""
        if self.cause is None and self.transport is not None:
            self.cause = ConnectionClosedError(f'The connection with {self.addr[0]}:{self.addr[1]} is closed: {why}')
            if self.owner.role == 'server':
                self.owner._crowd.tell(self.addr[0], why)
            else:
                self.owner._log.error('%s', self.cause)
            self._splitter.stop()  # many may be cut before the loop gets to free them
            self.abort()

    def abort(self) -> None:
        """Break the connection off."""
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close the connection, after a short time for the peer to read what is on its way."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self._grace = self.owner._loop.call_later(self.owner.tuning.close_grace, self.transport.abort)


def may_begin(owner: Link, transport: asyncio.BaseTransport) -> bool:
    """Tell whether a connection that has been made is to be used."""
    peername = transport.get_extra_info('peername')
    if not peername:  # it was gone before the loop could ask
        return False
    if peername == transport.get_extra_info('sockname'):
        # Looking for a server on this computer that is away may end in a connection of a port with itself.
        return False
    return owner._role == 'client' or owner._admits(as_address(peername)[0])


def _explained(connection: Connection, exc: BaseException | None) -> BaseException | None:
    """Say what has become of a TLS connection.

    Since TLS 1.3 a client thinks that all is well before the server has looked at its certificate.
    """
    owner, who = connection.owner, connection.owner._who(connection.addr)
    if isinstance(exc, ssl.SSLError):
        error = explained(exc, who, owner.role)
    elif owner.role == 'client' and isinstance(exc, OSError) and not getattr(connection.transport, 'heard', True):
        error = TLSError(
            f'No TLS connection with {who}: it was closed right after the handshake; '
            'the server may want a certificate (SSLContext.load_cert_chain)'
        )
        error.__cause__ = exc
    else:
        return exc
    if owner.role == 'client':
        owner._log.warning('%s', error)
    else:
        owner._rejections.note(connection.addr[0], HANDSHAKE, '%s', error)
    return error


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
