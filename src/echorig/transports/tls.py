"""`Tls`: TLS between a TCP transport and a `Connection`.

The event loops have their own, which say nothing to the other end when a handshake fails (it only sees that the
connection is gone), nothing to a server's program, and hide how much waits to be sent.

1. Only what comes out of OpenSSL is ever written to the transport, so that nothing leaves in clear.
2. The connection hears of nothing before the handshake is over, and the certificates have been checked.
3. A handshake ends in one of two ways: the connection is made, or `failed` is called with the reason, once.
4. The other end is told why it was refused, and has a short time to read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from ..stall import Later, call_later

__all__ = ['Tls']

_RECORD = 64 * 1024  # bytes read from OpenSSL at a time; it returns one record, of 16 KiB at most
_AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Tls(asyncio.Protocol):
    """The protocol of the TCP transport, and the transport of the connection.

    Parameters
    ----------
    inner : asyncio.Protocol
        The connection, whose methods are called with what has been decrypted.
    context : ssl.SSLContext
        The certificates and rules.
    server_hostname : str, optional
        In the client role, whose certificate it must be; None in the server role.
    timeout : float
        How long the handshake may take, in seconds.
    grace : float
        How long the other end has to read why it was refused, in seconds; a client need not wait for its server.
    begin : callable
        Called with the TCP transport; False closes it before a byte is read.
    failed : callable
        Called with the error when there is no TLS connection; None if the other end has hung up.
    made : callable, optional
        Called when there is one, before the connection is told.
    gone : callable, optional
        Called when the TCP transport is closed.

    Attributes
    ----------
    established, heard : bool
        Whether the handshake is over, and whether anything has come since.
    """

    def __init__(
        self,
        inner: asyncio.Protocol,
        context: ssl.SSLContext,
        server_hostname: str | None,
        timeout: float,
        grace: float,
        begin: Callable[[Any], bool],
        failed: Callable[[BaseException | None], None],
        made: Callable[[], None] = lambda: None,
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        self.inner = inner
        self.established = False
        self.heard = False
        self._context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._timeout, self._grace = timeout, grace
        self._begin, self._failed, self._made, self._gone = begin, failed, made, gone
        self._transport: asyncio.Transport | None = None
        self._timer: Later | asyncio.TimerHandle | None = None
        self._backlog: deque[memoryview] = deque()  # what OpenSSL would not take before it has read more
        self._error: BaseException | None = None
        self._over = False  # nothing more is read or written

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast('asyncio.Transport', transport)
        if not self._begin(transport):
            self._over = True
            self._transport.abort()
            return
        self._timer = call_later(asyncio.get_running_loop(), self._timeout, self._too_slow)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._over:
            return
        self._incoming.write(data)
        if not self.established:
            self._shake_hands()
        if self.established:
            self._read()

    def eof_received(self) -> None:
        """Called by the event loop; the transport closes itself."""
        if self.established and not self._over:
            self.inner.eof_received()

    def pause_writing(self) -> None:
        """Called by the event loop."""
        if self.established:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        if self.established:
            self.inner.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop."""
        self._stop_timer()
        self._gone()
        refused, self._over = self._over, True
        if self.established:
            self.inner.connection_lost(cast('Exception | None', self._error or exc))
        elif not refused:
            self._failed(exc)
        self._backlog.clear()
        del self._ssl, self._incoming, self._outgoing  # tens of kilobytes, which a cycle of references would keep

    # --- the handshake ---

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except _AGAIN:
            self._flush()
        except ssl.SSLError as ex:
            self._refuse(ex)
        else:
            self._stop_timer()
            self.established = True
            self._flush()
            self._made()
            self.inner.connection_made(cast('asyncio.BaseTransport', self))

    def _too_slow(self) -> None:
        self._over = True
        self._failed(TimeoutError(f'the handshake was not over within {self._timeout:g} s (Tuning.handshake_timeout)'))
        self._transport.abort()  # type: ignore[union-attr]

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, error: BaseException) -> None:
        """Tell the other end why it goes no further, which OpenSSL has written down, and close."""
        self._over = True
        self._error = error
        if not self.established:
            self._failed(error)
        self._stop_timer()
        transport = self._transport
        assert transport is not None
        self._flush()
        if transport.is_closing():
            return
        if not self._grace:
            transport.close()
            return
        # What the other end has sent meanwhile must still be read, or the system throws away what it was told.
        if transport.can_write_eof():
            transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(self._grace, transport.abort)

    # --- reading and writing ---

    def _read(self) -> None:
        pieces: list[bytes] = []
        error: BaseException | None = None
        ended = False
        try:
            while piece := self._ssl.read(_RECORD):
                pieces.append(piece)
            ended = True
        except _AGAIN:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as ex:
            error = ex
        if self._backlog:
            self._write_on()
        self._flush()  # such as the answer to a change of keys
        if pieces:
            self.heard = True
            self.inner.data_received(pieces[0] if len(pieces) == 1 else b''.join(pieces))
        if error is not None and not self._over:
            self._refuse(error)
        elif ended and not self._over:
            self.inner.eof_received()
            self.close()

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None:
            self._transport.write(self._outgoing.read())

    def _write_on(self) -> None:
        backlog = self._backlog
        try:
            while backlog:
                written = self._ssl.write(backlog[0])
                if written < len(backlog[0]):
                    backlog[0] = backlog[0][written:]
                else:
                    backlog.popleft()
        except _AGAIN:
            pass

    # --- what a connection asks of its transport ---

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self._over:
            return
        self._backlog.append(memoryview(data))
        try:
            self._write_on()
        except ssl.SSLError as ex:
            self._refuse(ex)
        else:
            self._flush()

    def close(self) -> None:
        """Say goodbye, send what waits, then close."""
        if not self._over:
            self._over = True
            with contextlib.suppress(ssl.SSLError, ValueError):  # it does not wait for the other end's goodbye
                self._ssl.unwrap()
            self._flush()
        self._transport.close()  # type: ignore[union-attr]

    def abort(self) -> None:
        """Close at once; what waits is dropped."""
        self._over = True
        self._transport.abort()  # type: ignore[union-attr]

    def pause_reading(self) -> None:
        """Read nothing for now."""
        self._transport.pause_reading()  # type: ignore[union-attr]

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()  # type: ignore[union-attr]

    def is_reading(self) -> bool:
        """Tell whether it is read."""
        return self._transport is not None and self._transport.is_reading()

    def is_closing(self) -> bool:
        """Tell whether it is closed or about to be."""
        return self._over or self._transport is None or self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._backlog))  # type: ignore[union-attr]

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set from how many waiting bytes on the connection is told to pause, and to go on."""
        self._transport.set_write_buffer_limits(high, low)  # type: ignore[union-attr]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the loops' own TLS transports know, or the TCP transport does."""
        if name == 'sslcontext':
            return self._context
        if name in ('ssl_object', 'peercert', 'cipher'):
            ours = getattr(self, '_ssl', None)
            if ours is None or not self.established:
                return default
            return ours if name == 'ssl_object' else ours.getpeercert() if name == 'peercert' else ours.cipher()
        return self._transport.get_extra_info(name, default)  # type: ignore[union-attr]
