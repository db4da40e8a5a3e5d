"""TCP: one `Connection` for each socket, whole messages in and out.

1. A connection knows its peer's address from the moment it is made to its end.
2. It decides nothing: every message goes to the communicator that owns it.
3. A stream that cannot be understood any more is closed, with the reason logged and kept as the cause.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from typing import TYPE_CHECKING, Any, cast

from ._courier import stream_received
from ._framing import FrameSplitter
from .errors import ConnectionClosedError, PeerUnreachableError
from .reconnecting import Reconnecting
from .uri import Address, Uri, as_address

if TYPE_CHECKING:
    from .link import Link

__all__ = ['Connection', 'connect', 'listen']


class Connection(asyncio.Protocol):
    """One TCP connection of a communicator.

    Parameters
    ----------
    owner : Link
        The communicator that is told of everything.
    """

    __slots__ = ('_grace', '_splitter', 'addr', 'cause', 'owner', 'transport')

    def __init__(self, owner: Link) -> None:
        self.owner = owner
        self.transport: asyncio.Transport | None = None
        self.addr: Address = ('', 0)
        self.cause: BaseException | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._splitter = FrameSplitter(owner.tuning.max_stream_message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        peername = transport.get_extra_info('peername')
        if not peername:  # it was gone before the loop could ask
            transport.abort()  # type: ignore[attr-defined]
            return
        if peername == transport.get_extra_info('sockname'):
            # Looking for a server on this computer that is away may end in a connection of a port with itself.
            transport.abort()  # type: ignore[attr-defined]
            return
        if self.owner._role == 'server' and not self.owner._admits(as_address(peername)[0]):
            transport.abort()  # type: ignore[attr-defined]
            return
        self.transport = cast('asyncio.Transport', transport)
        self.transport.set_write_buffer_limits(high=self.owner.tuning.max_unsent)
        _send_at_once(transport)
        self.addr = as_address(peername)
        self.owner._connected(self)

    data_received = stream_received

    def eof_received(self) -> None:
        """Called by the event loop; the transport closes itself."""
        if self._splitter.pending:
            self.owner.logger.warning(
                'Connection with %s:%s ended inside a message; %d bytes are lost',
                *self.addr,
                self._splitter.pending,
            )
        self.owner.eof_received()

    def pause_writing(self) -> None:
        """Called by the event loop when the peer does not read, and too much waits to be sent to it."""
        self._give_up(f'has not read {self.owner.tuning.max_unsent} bytes (Tuning.max_unsent)')

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop."""
        if self._grace is not None:
            self._grace.cancel()
        if self.transport is not None:
            self.owner._disconnected(self, exc or self.cause)

    def _give_up(self, why: str) -> None:
        """Break the connection off, once, with the reason logged and kept as the cause."""
        if self.cause is None and self.transport is not None:
            self.cause = ConnectionClosedError(f'{self.addr[0]}:{self.addr[1]} {why}; the connection is closed')
            self.owner.logger.error('%s', self.cause)
            self.transport.abort()

    def close(self) -> None:
        """Close the connection, after a short time for the peer to read what is on its way."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self._grace = self.owner._loop.call_later(self.owner.tuning.close_grace, self.transport.abort)


def _send_at_once(transport: asyncio.BaseTransport) -> None:
    """Turn off Nagle's algorithm (RFC 896), or an answer behind an echo waits 40 ms for its acknowledgement.

    The loops do so too, but not for every socket that was passed to them.
    """
    sock = transport.get_extra_info('socket')
    if sock is not None and sock.family != getattr(socket, 'AF_UNIX', None):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def listen(owner: Link, uri: Uri, **kwargs: Any) -> asyncio.Server:
    """Start the server of a communicator.

    Parameters
    ----------
    owner : Link
        The communicator.
    uri : Uri
        Where to listen; the host is numeric.
    kwargs
        For ``loop.create_server``.

    Returns
    -------
    asyncio.Server
        The server.

    Raises
    ------
    ValueError
        The scheme is wss and there is no ``ssl`` context, or it is ws or tcp and there is one.
    OSError
        The address is in use or not of this machine.
    """
    if uri.scheme == 'wss' and not isinstance(kwargs.get('ssl'), ssl_module.SSLContext):
        raise ValueError(f'{uri} needs TLS: pass ssl= an ssl.SSLContext with the certificate of this server')
    _check_plain(uri, kwargs)
    if 'sock' not in kwargs:
        kwargs.update(host=uri.host, port=uri.port)
    return await asyncio.get_running_loop().create_server(lambda: Connection(owner), **kwargs)


async def connect(owner: Link, uri: Uri, hostname: str, reconnect: bool = True, **kwargs: Any) -> None:
    """Connect a communicator to its server.

    Parameters
    ----------
    owner : Link
        The communicator.
    uri : Uri
        The server; the host is numeric.
    hostname : str
        The host as the user wrote it, which is what the certificate of a wss server is checked for.
    reconnect : bool
        Whether to look for the server again when the connection is lost. A socket that was passed is not made anew.
    kwargs
        For ``loop.create_connection``.

    Raises
    ------
    ValueError
        There is an ``ssl`` context, but the scheme is not wss.
    PeerUnreachableError
        Nobody listens there (a `ConnectionRefusedError`).
    OSError
        There is no way there, or the TLS handshake failed.
    """
    if uri.scheme == 'wss':
        kwargs['ssl'] = kwargs.get('ssl') or ssl_module.create_default_context()
        kwargs.setdefault('server_hostname', hostname)
    _check_plain(uri, kwargs)
    if 'sock' not in kwargs:
        kwargs.update(host=uri.host, port=uri.port)
    await _attempt(owner, uri, kwargs)
    if reconnect and 'sock' not in kwargs:
        owner._reconnecting = Reconnecting(owner, lambda: _attempt(owner, uri, kwargs))
        if not owner.is_connected:  # it was lost at once
            owner._reconnecting.start()


async def _attempt(owner: Link, uri: Uri, kwargs: dict[str, Any]) -> None:
    """Connect once."""
    try:
        _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(owner), **kwargs)
    except ConnectionRefusedError as ex:
        raise PeerUnreachableError(f'Nobody listens at {owner.name} ({uri})') from ex
    if connection.transport is None:
        raise PeerUnreachableError(f'Nobody listens at {owner.name} ({uri}) any more')


def _check_plain(uri: Uri, kwargs: dict[str, Any]) -> None:
    if uri.scheme != 'wss' and kwargs.get('ssl'):
        raise ValueError(f'{uri} is plain TCP, but ssl= was given: use wss:// for TLS')
