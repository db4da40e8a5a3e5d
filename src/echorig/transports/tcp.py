"""TCP and TLS: opening the server of a communicator, and connecting a client."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import PeerUnreachableError
from ..uri import Uri
from .connection import Connection, StreamContext, is_acceptable
from .reconnect import Reconnector
from .tls import Handshake
from .tls_errors import explained

__all__ = ['connect', 'listen']

_BACKLOG = 100  # connections that wait to be accepted, as is usual
_P = TypeVar('_P', bound=asyncio.BaseProtocol)


async def listen(context: StreamContext, uri: Uri, **kwargs: Any) -> asyncio.Server:
    """Start the server of a communicator.

    Parameters
    ----------
    context : StreamContext
        What its connections share.
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
    kwargs.setdefault('backlog', min(_BACKLOG, context.limits.limit))  # asyncio accepts so many before it closes any
    if 'sock' not in kwargs:
        kwargs.update(host=uri.host, port=uri.port)
    if uri.scheme == 'wss':
        ssl, timeout = _tls_options(context, kwargs)
        return await asyncio.get_running_loop().create_server(lambda: Handshake(context, ssl, None, timeout), **kwargs)
    return await asyncio.get_running_loop().create_server(lambda: Connection(context), **kwargs)


def _tls_options(context: StreamContext, kwargs: dict[str, Any]) -> tuple[ssl_module.SSLContext, float]:
    """Take what is meant for TLS out of the arguments for the loop."""
    ssl, is_server = kwargs.pop('ssl'), context.is_server
    timeout = kwargs.pop('ssl_handshake_timeout', context.tuning.handshake_timeout)
    kwargs.pop('ssl_shutdown_timeout', None)  # nothing is waited for
    try:
        bios = ssl_module.MemoryBIO(), ssl_module.MemoryBIO()
        ssl.wrap_bio(*bios, server_side=is_server, server_hostname=None if is_server else 'camera')
    except (ssl_module.SSLError, ValueError) as ex:
        role, purpose = ('server', 'ssl.Purpose.CLIENT_AUTH') if is_server else ('client', '')
        raise ValueError(f'ssl= is no context for a {role}: use ssl.create_default_context({purpose})') from ex
    return ssl, timeout


async def connect(
    context: StreamContext, uri: Uri, hostname: str, reconnect: bool = True, **kwargs: Any
) -> Reconnector | None:
    """Connect a communicator to its server.

    Parameters
    ----------
    context : StreamContext
        What its connections share.
    uri : Uri
        The server; the host is numeric.
    hostname : str
        The host as the user wrote it, which is what the certificate of a wss server is checked for.
    reconnect : bool
        Whether to look for the server again when the connection is lost. A socket that was passed is not made anew.
    kwargs
        For ``loop.create_connection``.

    Returns
    -------
    Reconnector or None
        What looks for the server again.

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
        ssl, timeout = _tls_options(context, kwargs)
        name = kwargs.pop('server_hostname', None) or hostname.partition('%')[0] or socket.gethostname()
        ssl.wrap_bio(ssl_module.MemoryBIO(), ssl_module.MemoryBIO(), server_hostname=name)  # ValueError: no host name

        async def attempt() -> None:
            await _attempt_tls(context, uri, ssl, name, timeout, kwargs)
    else:

        async def attempt() -> None:
            await _attempt(context, uri, kwargs)

    _check_plain(uri, kwargs)
    if 'sock' not in kwargs:
        kwargs.update(host=uri.host, port=uri.port)
    await attempt()
    if not reconnect or 'sock' in kwargs:
        return None
    reconnector = Reconnector(context, str(uri), attempt)
    if not context.user.has_connection():  # it was lost at once
        reconnector.start()
    return reconnector


async def _connected(context: StreamContext, uri: Uri, make: Callable[[], _P], kwargs: dict[str, Any]) -> _P:
    loop = asyncio.get_running_loop()
    made: list[_P] = []

    def remembered() -> _P:
        made.append(make())
        return made[-1]

    try:
        _, protocol = await loop.create_connection(remembered, **kwargs)
    except ConnectionRefusedError as ex:
        raise PeerUnreachableError(f'Nobody listens at {context.name} ({uri})') from ex
    except asyncio.CancelledError:
        for protocol in made:  # uvloop closes what it has just made without a word
            loop.call_soon(protocol.connection_lost, None)
        raise
    return protocol


async def _attempt(context: StreamContext, uri: Uri, kwargs: dict[str, Any]) -> None:
    """Connect once."""
    connection = await _connected(context, uri, lambda: Connection(context), kwargs)
    if connection.transport is None:
        raise PeerUnreachableError(f'Nobody listens at {context.name} ({uri}) any more')


async def _attempt_tls(
    context: StreamContext, uri: Uri, ssl: ssl_module.SSLContext, hostname: str, timeout: float, kwargs: dict[str, Any]
) -> None:
    """Connect once, with TLS."""
    handshake = await _connected(context, uri, lambda: Handshake(context, ssl, hostname, timeout), kwargs)
    if not is_acceptable(context, handshake.transport):
        handshake.abort()
        raise PeerUnreachableError(f'Nobody listens at {context.name} ({uri}) any more')
    try:
        await handshake.run()
    except Exception as ex:
        raise explained(ex, f'{context.name} ({uri})') from ex


def _check_plain(uri: Uri, kwargs: dict[str, Any]) -> None:
    if uri.scheme != 'wss' and kwargs.get('ssl'):
        raise ValueError(f'{uri} is plain TCP, but ssl= was given: use wss:// for TLS')
