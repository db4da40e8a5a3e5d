"""`connect`: a connection of nats-py, opened once or refused with a clear error.

This is the only module that imports nats-py, which takes a tenth of a second; see `package.py`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.errors import AuthorizationError, Error

from ...errors import EchoTimeoutError, PeerUnreachableError, TLSError
from ..tls_errors import explain_tls_error

__all__ = ['BrokerClient', 'connect']

_CONNECT_TIMEOUT = 3  # seconds for each broker to accept a connection
_RECONNECT_WAIT = 0.2  # seconds between two attempts to connect with one broker
_PING_INTERVAL = 2  # seconds; a connection without an echo of two pings is lost
_MAX_PINGS = 2
_CLOSE_TIME = 1.0  # seconds for what was sent last to be written
_FLUSH_TIMEOUT = 10  # seconds for the broker to answer
_BUFFER_SIZE = 32_768  # bytes that are read at once
_REFUSED_LOGIN = ('authorization', 'authentication', 'credentials', 'nkey', 'jwt')


class _NoTLS(ConnectionError):
    """A broker offers no TLS."""


class _Transport(TcpTransport):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Close the connection at once; what waits to be written is lost."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    @property
    def is_empty(self) -> bool:
        """bool: Whether nothing waits to be written."""
        transport = None if self._io_writer is None else self._io_writer.transport
        return transport is None or transport.is_closing() or not transport.get_write_buffer_size()


class BrokerClient(Client):
    """A client of nats-py with these differences.

    1. It sends no password to a broker without TLS, if TLS is asked for.
    2. What waits to be written to a broker that stands still, or is cut off, holds up neither closing nor reconnecting.
    3. Its `flush` returns after the subscriptions before it have been made or refused.
    4. It ends although asyncio before Python 3.12 may lose a cancellation.
    5. It goes on reading after a `flush` was cancelled or took too long.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_over = False
        self._wire = _Transport()

    async def _connect_to_server(self, s: Any) -> None:
        if self._is_over:
            raise asyncio.CancelledError
        s.last_attempt = time.monotonic()
        self._transport = self._wire = _Transport()
        await self._wire.connect(s.uri, _BUFFER_SIZE, self.options['connect_timeout'])

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and 'tls' in self.options:
            if not (info.get('tls_required') or info.get('tls_available')):
                raise _NoTLS('it offers no TLS')
            info['tls_required'] = True  # else nats-py uses no TLS with a broker that only offers it
        await super()._process_info(info, initial_connection)

    async def _process_op_err(self, e: Exception) -> None:
        self._wire.abort()
        await super()._process_op_err(e)

    async def flush(self, timeout: int = _FLUSH_TIMEOUT) -> None:
        """Wait until the broker has processed what was sent."""
        await self._flush_pending(force_flush=True)  # else the ping of nats-py overtakes that
        await super().flush(timeout)

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():  # of a `flush` that was cancelled; nats-py would stop reading
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    def end(self) -> None:
        """Make no further connection."""
        self._is_over = True

    async def close(self) -> None:
        """Close the connection, after what was published has been written, within a limited time."""
        self.end()
        until = time.monotonic() + _CLOSE_TIME
        while not self._wire.is_empty:
            if time.monotonic() > until:
                self._wire.abort()
                self._pending, self._pending_data_size = [], 0
                break
            await asyncio.sleep(0.01)
        if self._flush_queue is not None:  # else it has not begun to connect
            await super().close()


async def connect(
    options: dict[str, Any],
    on_error: Callable[[Exception], object],
    on_lost: Callable[[], Awaitable[None]],
    on_found: Callable[[], Awaitable[None]],
    on_closed: Callable[[], Awaitable[None]],
) -> BrokerClient:
    """Connect with a broker, which from then on reconnects by itself.

    Parameters
    ----------
    options : dict
        Keyword arguments of ``nats.connect``.
    on_error : callable
        Called with each error after the connection was opened.
    on_lost, on_found, on_closed : coroutine functions
        Called when the connection is lost, is there again, and is closed for ever.

    Raises
    ------
    PeerUnreachableError
        Nobody listens at the addresses of the brokers.
    PermissionError
        The broker refused the login.
    TLSError
        There is no TLS connection.
    OSError
        There is no way to the broker.
    """
    client = BrokerClient()
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    attempts = [len(options['servers'])]

    async def error_cb(error: Exception) -> None:
        if opened:
            on_error(error)
            return
        attempts[0] -= 1
        if not failed.done() and (attempts[0] <= 0 or _is_final(error)):
            failed.set_result(error)

    opened = False
    connecting = asyncio.ensure_future(
        client.connect(
            **options,
            error_cb=error_cb,
            disconnected_cb=on_lost,
            reconnected_cb=on_found,
            closed_cb=on_closed,
            name='echorig',
            connect_timeout=_CONNECT_TIMEOUT,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_WAIT,  # type: ignore[arg-type]
            ping_interval=_PING_INTERVAL,
            max_outstanding_pings=_MAX_PINGS,
        )
    )
    try:
        waited: set[asyncio.Future[Any]] = {connecting, failed}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        error = failed.result() if failed.done() else connecting.exception()
        opened = error is None
    finally:
        if not opened:
            client.end()
            connecting.cancel()
            await asyncio.wait({connecting})
            await client.close()
    if error is not None:
        raise _explained(error, ', '.join(map(_without_login, options['servers']))) from error
    return client


def _without_login(server: str) -> str:
    scheme, mark, rest = server.rpartition('://')
    return f'{scheme}{mark}{rest.rpartition("@")[2]}'


def _is_final(error: Exception) -> bool:
    """Return whether another attempt, or another broker of the cluster, would end in the same way."""
    return isinstance(error, (ssl.SSLError, _NoTLS)) or _is_refused_login(error)


def _is_refused_login(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, AuthorizationError) or (
        isinstance(error, Error) and any(word in text for word in _REFUSED_LOGIN)  # not an error in a file here
    )


def _explained(error: BaseException, brokers: str) -> Exception:
    """Return the error that a program gets; `brokers` has no login."""
    if isinstance(error, _NoTLS):
        return TLSError(f'There is no TLS connection with {brokers}: {error}; leave out ssl=, or set up TLS there')
    if isinstance(error, ssl.SSLError):
        return explain_tls_error(error, brokers)
    if _is_refused_login(error):
        return PermissionError(f'The broker {brokers} refuses the login: {error}')
    if isinstance(error, ConnectionRefusedError):
        return PeerUnreachableError(f'No broker listens at {brokers}')
    if isinstance(error, asyncio.TimeoutError):
        return EchoTimeoutError(f'The broker {brokers} accepted no connection within {_CONNECT_TIMEOUT} s')
    if isinstance(error, (OSError, Error)):
        return OSError(f'There is no connection with the broker {brokers}: {error}')
    kind = type(error).__name__  # its text may have secrets
    return ValueError(f'The login for the broker {brokers} is not valid ({kind})')
