"""TCP and TLS: opening the server of a communicator, and connecting a client."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import PeerUnreachableError
from ..security.rejections import HANDSHAKE
from ..uri import Address, Uri, as_address
from .connection import Connection, may_begin
from .reconnect import Reconnecting
from .tls import Tls
from .tls_errors import explained

if TYPE_CHECKING:
    from ..communicator.link import Link

__all__ = ['connect', 'listen']

_BACKLOG = 100  # connections that wait to be accepted, as is usual
_P = TypeVar('_P', bound=asyncio.BaseProtocol)


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
    kwargs.setdefault('backlog', min(_BACKLOG, owner._crowd.limit))  # asyncio accepts so many before it closes any
    if 'sock' not in kwargs:
        kwargs.update(host=uri.host, port=uri.port)
    if uri.scheme == 'wss':
        context, timeout = _tls_options(owner, kwargs, server_side=True)
        return await asyncio.get_running_loop().create_server(lambda: _Handshake(owner, context, timeout).tls, **kwargs)
    return await asyncio.get_running_loop().create_server(lambda: Connection(owner), **kwargs)


class _Handshake:
    """A new connection to a TLS server, until it is one."""

    def __init__(self, owner: Link, context: ssl_module.SSLContext, timeout: float) -> None:
        self.owner = owner
        self.addr: Address = ('', 0)
        self.tls = Tls(
            *(Connection(owner), context, None, timeout, owner.tuning.close_grace),
            *(self._begin, self._failed, self._leave, self._leave),
        )

    def _begin(self, transport: asyncio.BaseTransport) -> bool:
        if self.owner._delivery.closed or not may_begin(self.owner, transport):
            return False
        self.addr = as_address(transport.get_extra_info('peername'))
        return self.owner._crowd.enter(self, self.addr[0])

    def _failed(self, error: BaseException | None) -> None:
        if not self.owner._delivery.closed:
            who = f'{self.addr[0]} (client of {self.owner.name})'
            self.owner._rejections.note(self.addr[0], HANDSHAKE, '%s', explained(error, who, 'server'))

    def _leave(self) -> None:
        self.owner._crowd.leave(self)

    def cut(self, why: str) -> None:
        """Break it off, to make room for another."""
        self.owner._crowd.tell(self.addr[0], why)
        self.abort()

    def abort(self) -> None:
        """Break it off."""
        self.tls.abort()


def _tls_options(owner: Link, kwargs: dict[str, Any], server_side: bool) -> tuple[ssl_module.SSLContext, float]:
    """Take what is meant for TLS out of the arguments for the loop."""
    context = kwargs.pop('ssl')
    timeout = kwargs.pop('ssl_handshake_timeout', owner.tuning.handshake_timeout)
    kwargs.pop('ssl_shutdown_timeout', None)  # nothing is waited for
    try:
        bios = ssl_module.MemoryBIO(), ssl_module.MemoryBIO()
        context.wrap_bio(*bios, server_side=server_side, server_hostname=None if server_side else 'camera')
    except (ssl_module.SSLError, ValueError) as ex:
        purpose = 'ssl.Purpose.CLIENT_AUTH' if server_side else ''
        raise ValueError(f'ssl= is no context for a {owner.role}: use ssl.create_default_context({purpose})') from ex
    return context, timeout


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
        if not isinstance(kwargs.get('ssl'), ssl_module.SSLContext):
            kwargs['ssl'] = await asyncio.to_thread(ssl_module.create_default_context)  # it reads files
        context, timeout = _tls_options(owner, kwargs, server_side=False)
        name = kwargs.pop('server_hostname', None) or hostname.partition('%')[0] or socket.gethostname()

        async def attempt() -> None:
            await _attempt_tls(owner, uri, context, name, timeout, kwargs)
    else:

        async def attempt() -> None:
            await _attempt(owner, uri, kwargs)

    _check_plain(uri, kwargs)
    if 'sock' not in kwargs:
        kwargs.update(host=uri.host, port=uri.port)
    await attempt()
    if reconnect and 'sock' not in kwargs:
        owner._reconnecting = Reconnecting(owner, attempt)
        if not owner.is_connected:  # it was lost at once
            owner._reconnecting.start()


async def _connected(owner: Link, uri: Uri, make: Callable[[], _P], kwargs: dict[str, Any]) -> _P:
    loop = asyncio.get_running_loop()
    made: list[_P] = []

    def remembered() -> _P:
        made.append(make())
        return made[-1]

    try:
        _, protocol = await loop.create_connection(remembered, **kwargs)
    except ConnectionRefusedError as ex:
        raise PeerUnreachableError(f'Nobody listens at {owner.name} ({uri})') from ex
    except asyncio.CancelledError:
        for protocol in made:  # uvloop closes what it has just made without a word
            loop.call_soon(protocol.connection_lost, None)
        raise
    return protocol


async def _attempt(owner: Link, uri: Uri, kwargs: dict[str, Any]) -> None:
    """Connect once."""
    connection = await _connected(owner, uri, lambda: Connection(owner), kwargs)
    if connection.transport is None:
        raise PeerUnreachableError(f'Nobody listens at {owner.name} ({uri}) any more')


async def _attempt_tls(
    owner: Link, uri: Uri, context: ssl_module.SSLContext, hostname: str, timeout: float, kwargs: dict[str, Any]
) -> None:
    """Connect once, with TLS."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def failed(error: BaseException | None) -> None:
        if not over.done():
            over.set_exception(explained(error, f'{owner.name} ({uri})'))

    def begin(transport: asyncio.BaseTransport) -> bool:
        if may_begin(owner, transport):
            return True
        over.set_exception(PeerUnreachableError(f'Nobody listens at {owner.name} ({uri}) any more'))
        return False

    def made() -> None:
        if not over.done():
            over.set_result(None)

    over.add_done_callback(lambda over: over.cancelled() or over.exception())  # where nobody gets to wait for it
    tls = await _connected(
        owner, uri, lambda: Tls(Connection(owner), context, hostname, timeout, 0.0, begin, failed, made), kwargs
    )
    try:
        await over
    except asyncio.CancelledError:
        tls.abort()
        raise


def _check_plain(uri: Uri, kwargs: dict[str, Any]) -> None:
    if uri.scheme != 'wss' and kwargs.get('ssl'):
        raise ValueError(f'{uri} is plain TCP, but ssl= was given: use wss:// for TLS')
