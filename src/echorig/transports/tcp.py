"""TCP and TLS: opening the server of a communicator, and connecting a client."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from aiohappyeyeballs import start_connection

from ..errors import EchoTimeoutError, PeerUnreachableError
from ..stall import wait_for
from ..threads import in_thread
from ..uri import Uri
from .choice import StreamTransport, can_be_compiled, wants_compiled
from .connection import Connection, StreamContext, is_acceptable
from .reconnect import Reconnector
from .sockets import address_info, bound_socket, connected_to
from .stream_server import StreamServer
from .tls import Handshake
from .tls_errors import explain_tls_error

__all__ = ['connect', 'listen']

_LOOKUP_TIMEOUT = 2.0  # seconds for the name of a server whose connection was lost
_DIAL_TIMEOUT = 3.0  # seconds for each new TCP connection; the system sends its first packet ever more rarely
_NEXT_ADDRESS = 0.25  # seconds before the next address is tried at the same time (RFC 8305, section 5)
_BACKLOG = 100  # connections that wait to be accepted: the default of asyncio
_P = TypeVar('_P', bound=asyncio.BaseProtocol)


async def listen(context: StreamContext, uri: Uri, **kwargs: Any) -> asyncio.Server | StreamServer:
    """Start the server of a communicator at a numeric URI, with options of ``loop.create_server``.

    Its transports are compiled, or those of the loop for TLS and where the options or the environment require it.
    Raises ValueError if there is a wrong ``ssl`` context or none for TLS, OSError if the address cannot be used.
    """
    if uri.is_tls and not isinstance(kwargs.get('ssl'), ssl_module.SSLContext):
        raise ValueError(f'{uri} needs TLS: pass ssl= an ssl.SSLContext with the certificate of this server')
    _check_plain(uri, kwargs)
    kwargs.setdefault('backlog', min(_BACKLOG, context.limits.limit))  # asyncio accepts as many before it closes any
    loop = asyncio.get_running_loop()
    if not uri.is_tls and not kwargs.keys() - {'sock', 'backlog'} and wants_compiled():
        server = _listen_compiled(context, uri, loop, kwargs['backlog'], kwargs.get('sock'))
        if server is not None:
            return server
    if 'sock' not in kwargs:
        kwargs.update(host=uri.host, port=uri.port)
    if uri.is_tls:
        ssl, timeout = _tls_options(context, kwargs)
        return await loop.create_server(lambda: Handshake(context, ssl, None, timeout), **kwargs)
    return await loop.create_server(lambda: Connection(context), **kwargs)


def _listen_compiled(
    context: StreamContext, uri: Uri, loop: asyncio.AbstractEventLoop, backlog: int, given: socket.socket | None
) -> StreamServer | None:
    """Start a server with compiled transports; None if they cannot serve the socket that is given, or the own one."""
    sock = bound_socket(uri) if given is None else given
    try:
        if can_be_compiled(sock, socket.SOCK_STREAM):
            sock.setblocking(False)
            return StreamServer(loop, sock, backlog, lambda sock: StreamTransport(loop, sock, Connection(context)))
    except NotImplementedError:  # a loop without readers, such as the proactor of Windows
        pass
    except BaseException:
        if given is None:
            sock.close()
        raise
    if given is None:
        sock.close()
    return None


async def connect(
    context: StreamContext,
    uris: Sequence[Uri],
    hostname: str,
    lookup: Callable[[], Awaitable[Sequence[Uri]]],
    reconnect: bool = True,
    **kwargs: Any,
) -> Reconnector | None:
    """Connect a communicator to the first of several numeric URIs that accepts it (RFC 8305).

    `kwargs` are options of ``loop.create_connection``. The certificate of a TLS server must be for `hostname`, the host
    as the user wrote it. Returns what connects again after the connection was lost, to the addresses that `lookup`
    returns then; None without `reconnect`, or with a socket of the user. Raises ValueError for a wrong ``ssl`` context,
    PeerUnreachableError if no program listens there, OSError if there is no route or no TLS.
    """
    make: Callable[[Sequence[Uri], float | None], Awaitable[None]]
    if uris[0].is_tls:
        if not isinstance(kwargs.get('ssl'), ssl_module.SSLContext):
            kwargs['ssl'] = await in_thread(ssl_module.create_default_context)  # it reads files
        ssl, timeout = _tls_options(context, kwargs)
        name = kwargs.pop('server_hostname', None) or hostname.partition('%')[0].rstrip('.') or socket.gethostname()
        ssl.wrap_bio(ssl_module.MemoryBIO(), ssl_module.MemoryBIO(), server_hostname=name)  # ValueError: no host name
        make = partial(_attempt_tls, context, kwargs, ssl, name, timeout)
    else:
        make = partial(_attempt, context, kwargs)
    _check_plain(uris[0], kwargs)
    await make(uris, None)
    if not reconnect or 'sock' in kwargs:
        return None

    async def attempt() -> None:
        nonlocal uris
        try:
            uris = await wait_for(lookup(), _LOOKUP_TIMEOUT)
        except (ValueError, asyncio.TimeoutError) as ex:  # no name server answers now: the rig may be where it was
            context.log.debug('The name of %s does not resolve now: %s', context.name, ex or 'no answer')
        await make(uris, _DIAL_TIMEOUT)

    reconnector = Reconnector(context, str(uris[0]), attempt)
    if not context.has_connection():  # it was lost at once
        reconnector.start()
    return reconnector


def _check_plain(uri: Uri, kwargs: dict[str, Any]) -> None:
    if not uri.is_tls and kwargs.get('ssl'):
        raise ValueError(f'{uri} is plain TCP, but ssl= was given: use tls:// for TLS')


def _tls_options(context: StreamContext, kwargs: dict[str, Any]) -> tuple[ssl_module.SSLContext, float]:
    """Remove the options of TLS from `kwargs`; return the checked context and the time-out of the handshake."""
    ssl, is_server = kwargs.pop('ssl'), context.is_server
    timeout = kwargs.pop('ssl_handshake_timeout', context.tuning.handshake_timeout)
    kwargs.pop('ssl_shutdown_timeout', None)  # a shutdown is not waited for
    try:
        bios = ssl_module.MemoryBIO(), ssl_module.MemoryBIO()
        ssl.wrap_bio(*bios, server_side=is_server, server_hostname=None if is_server else 'camera')
    except (ssl_module.SSLError, ValueError) as ex:
        role, purpose = ('server', 'ssl.Purpose.CLIENT_AUTH') if is_server else ('client', '')
        raise ValueError(f'ssl= is no context for a {role}: use ssl.create_default_context({purpose})') from ex
    return ssl, timeout


async def _attempt(context: StreamContext, kwargs: dict[str, Any], uris: Sequence[Uri], timeout: float | None) -> None:
    """Connect once."""
    connection = await _dial(context, uris, lambda: Connection(context), kwargs, timeout, may_be_compiled=True)
    if connection.transport is None:
        raise PeerUnreachableError(f'Nobody listens at {_names(context, uris)} any more')


async def _attempt_tls(
    context: StreamContext,
    kwargs: dict[str, Any],
    ssl: ssl_module.SSLContext,
    hostname: str,
    handshake_timeout: float,
    uris: Sequence[Uri],
    timeout: float | None,
) -> None:
    """Connect once, with TLS."""
    make = partial(Handshake, context, ssl, hostname, handshake_timeout)
    handshake = await _dial(context, uris, make, kwargs, timeout)
    if not is_acceptable(context, handshake.transport):
        handshake.abort()
        raise PeerUnreachableError(f'Nobody listens at {_names(context, uris)} any more')
    try:
        await handshake.run()
    except Exception as ex:
        raise explain_tls_error(ex, _names(context, uris)) from ex


async def _dial(
    context: StreamContext,
    uris: Sequence[Uri],
    make: Callable[[], _P],
    kwargs: dict[str, Any],
    timeout: float | None,
    may_be_compiled: bool = False,
) -> _P:
    """Return the protocol of a new TCP connection that was made within the timeout."""
    connecting = _create_connection(context, uris, make, kwargs, may_be_compiled)
    if timeout is None:
        return await connecting
    try:
        return await wait_for(connecting, timeout)
    except asyncio.TimeoutError:
        raise EchoTimeoutError(f'{_names(context, uris)} did not accept a connection within {timeout:g} s') from None


async def _create_connection(
    context: StreamContext, uris: Sequence[Uri], make: Callable[[], _P], kwargs: dict[str, Any], may_be_compiled: bool
) -> _P:
    """Return the protocol of a new TCP connection."""
    loop = asyncio.get_running_loop()
    made: list[_P] = []

    def factory() -> _P:
        made.append(make())
        return made[-1]

    try:
        by_loop = len(uris) == 1 and ('local_addr' in kwargs or not (may_be_compiled and wants_compiled()))
        if by_loop or kwargs.keys() - {'local_addr', 'sock'}:
            where: dict[str, Any] = {} if 'sock' in kwargs else {'host': uris[0].host, 'port': uris[0].port}
            await loop.create_connection(factory, **where, **kwargs)
            return made[-1]
        sock = kwargs.get('sock') or await _connected_socket(uris, kwargs.get('local_addr'))
        try:
            if not (may_be_compiled and can_be_compiled(sock, socket.SOCK_STREAM) and _attach(loop, sock, factory)):
                await loop.create_connection(factory, sock=sock)
        except BaseException:
            if 'sock' not in kwargs:
                sock.close()
            raise
    except ConnectionRefusedError as ex:
        raise PeerUnreachableError(f'Nobody listens at {_names(context, uris)}') from ex
    except asyncio.CancelledError:
        for protocol in made:  # uvloop closes the new connection without calling it
            loop.call_soon(protocol.connection_lost, None)
        raise
    return made[-1]


async def _connected_socket(uris: Sequence[Uri], local_addr: Any) -> socket.socket:
    """Return a socket connected to the first of some numeric URIs that accepts it."""
    if len(uris) == 1:
        return await connected_to(uris[0])
    local = None if local_addr is None else [address_info(Uri(uris[0].scheme, *local_addr))]
    return await start_connection(
        list(map(address_info, uris)), local_addr_infos=local, happy_eyeballs_delay=_NEXT_ADDRESS
    )


def _attach(loop: asyncio.AbstractEventLoop, sock: socket.socket, factory: Callable[[], Any]) -> bool:
    """Use the compiled transport for a connected socket; return False if the loop has no readers."""
    sock.setblocking(False)
    try:
        StreamTransport(loop, sock, factory())
    except NotImplementedError:  # such as the proactor of Windows
        return False
    return True


def _names(context: StreamContext, uris: Sequence[Uri]) -> str:
    """Name a server with all its addresses."""
    return f'{context.name} ({", ".join(map(str, uris))})'
