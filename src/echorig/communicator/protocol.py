"""`EchoProtocol`: one rig's end of the conversation: opening it, and sending messages that are confirmed."""

from __future__ import annotations

import logging
from typing import Any

from ..checks import seconds, short
from ..errors import EchoError
from ..resolver import resolve, resolve_host
from ..security.allowlist import allowed, check_server
from ..security.redaction import LazyFrame
from ..transports import sockets, tcp, udp
from ..uri import Address, Uri, as_address, checked_address, is_valid_ip
from ..wire._codec import is_raw
from .failure import Failure, failure_of
from .link import Link
from .options import check_options, check_socket, settings

__all__ = ['EchoProtocol']


def _check_text(data: str) -> None:
    """Refuse text that has no bytes."""
    if not data.isascii():
        try:
            data.encode()
        except UnicodeEncodeError as ex:
            raise ValueError(f'data must be text that can be written as UTF-8, not {short(data)}') from ex


class EchoProtocol(Link):
    """A communicator over UDP or TCP; made by :meth:`client` and :meth:`server`.

    In the client role it talks to one remote server; in the server role to any number of clients.

    Parameters
    ----------
    server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
        The address of the server: one's own in the server role, the remote one in the client role.
    role : {'client', 'server'}
        The role.
    name : str, optional
        A label, by default the URI.
    logger : logging.Logger, optional
        Where to log, by default the logger called `name`.
    tuning : Tuning, optional
        Limits and timings.
    key : bytes or str, optional
        What those have who may talk to this communicator, 16 bytes or more: every message is signed with it, and what
        is not is neither echoed nor delivered. Keep it in a file or an environment variable, not in code.

    Attributes
    ----------
    Server : asyncio.Server or None
        The listening server, in the server role over TCP.
    default_echo_timeout : float
        How long to wait for an echo, in seconds, unless told otherwise.
    response_timeout : float
        How long to wait for the answer to a request, in seconds.
    max_message_size : int
        The largest echo, in bytes, that peers are known to send: one of just this size may be cut short.
    on_connection_lost : asyncio.Future
        Done when the connection of a client is gone (the result is the exception, or None) and when the
        communicator is closed (the result says so). A client that finds its server again has a new one.
    on_error_received : asyncio.Future
        Done when the system reports an error of the transport, which is the result.
    on_eof_received : asyncio.Future
        Done when a TCP peer has ended its side of the connection.

    Raises
    ------
    ValueError
        The role is neither client nor server, the URI is not valid, or the key is too short.
    """

    __slots__ = ()

    _last_failure: Failure | None = None  # of a confirmed send

    # --- opening ---

    @staticmethod
    async def server(
        server_uri: Any, name: str | None = None, log: logging.Logger | None = None, **kwargs: Any
    ) -> EchoProtocol:
        """Listen for clients.

        Parameters
        ----------
        server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
            The address to listen on: an IP address or host name of this computer, with or without a port
            (default 11001; 0 takes any that is free) and a scheme: ``udp://`` (the default), ``ws://`` or
            ``tcp://`` for TCP, ``wss://`` for TLS. ``':9998'`` means this computer.
        name : str, optional
            A label, by default the URI.
        log : logging.Logger, optional
            Where to log, by default the logger called `name`.
        kwargs
            ``allow``, who may talk to this server: an IP address, a network such as ``'10.0.0.0/8'`` or a host name
            (resolved now, with all its addresses), or several of them; others are ignored, see :attr:`rejected`.
            ``tuning``, a :class:`Tuning`; ``key``, with which every message is signed; ``busy_poll``, see
            :attr:`busy_poll`; ``ssl``, an ``ssl.SSLContext`` for ``wss://``; everything else is passed to the event
            loop's ``create_datagram_endpoint`` or ``create_server`` (options of the socket need a port other than 0).

        Returns
        -------
        EchoProtocol
            The communicator.

        Raises
        ------
        TypeError, ValueError
            The URI or ``allow`` is not valid, a name does not resolve, or a wss server has no ``ssl``.
        OSError
            The address is in use, or is not one of this computer.
        """
        check_options(name, log, kwargs)
        allow = await allowed(kwargs.pop('allow', None))
        given, uri = await resolve(server_uri, any_port=True)
        check_socket(kwargs.get('sock'), uri, 'server')
        own = sockets.bound(uri, kwargs)
        if sock := kwargs.get('sock'):
            uri = Uri(uri.scheme, *as_address(sock.getsockname()))
        try:
            com = EchoProtocol(str(uri), 'server', name, log, *settings(kwargs))
        except BaseException:
            if own is not None:
                own.close()
            raise
        com._names[given.host] = uri.host
        com._allowed = allow
        com._flow_control.pause()
        try:
            com.busy_poll = kwargs.pop('busy_poll', 0.0)
            if com._is_udp:
                await udp.listen(com, uri, **kwargs)
            else:
                com.Server = await tcp.listen(com._stream_context, uri, **kwargs)
                com._socket = com.Server.sockets[0]
                com._delivery.watch_stalls()  # a first connection may have waited for a program that stood still
        except BaseException:
            com.close()
            if own is not None:
                own.close()
            raise
        com._log.info('Listening on %s', com.server_uri)
        com._flow_control.resume_soon()
        return com

    @staticmethod
    async def client(
        server_uri: Any, name: str | None = None, log: logging.Logger | None = None, **kwargs: Any
    ) -> EchoProtocol:
        """Connect to a server.

        Over UDP nothing is sent yet, so the server need not be there. Over TCP it must be.

        Parameters
        ----------
        server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
            The address of the server: an IP address or host name, with or without a port (default 11001) and
            a scheme: ``udp://`` (the default), ``ws://`` or ``tcp://`` for TCP, ``wss://`` for TLS.
        name : str, optional
            A label, by default the URI.
        log : logging.Logger, optional
            Where to log, by default the logger called `name`.
        kwargs
            ``allow``, which addresses the server may have, as for :meth:`server`: a name must not lead elsewhere.
            ``tuning``, a :class:`Tuning`; ``key``, with which every message is signed; ``busy_poll``, see
            :attr:`busy_poll`; ``ssl``, an ``ssl.SSLContext`` for ``wss://`` (default: the system's certificates);
            ``reconnect``, whether to look for the server again when a TCP connection is lost (default True; never
            with a ``sock`` of your own); everything else is passed to the event loop's ``create_datagram_endpoint``
            or ``create_connection``.

        Returns
        -------
        EchoProtocol
            The communicator.

        Raises
        ------
        TypeError, ValueError
            The URI or ``allow`` is not valid or a name does not resolve.
        PermissionError
            The address of the server is not in ``allow``; nothing has been sent.
        PeerUnreachableError
            Over TCP: nobody listens there (a `ConnectionRefusedError`).
        TLSError
            The TLS handshake failed (a `ConnectionError`).
        OSError
            There is no way to the address.
        """
        check_options(name, log, kwargs)
        allow = await allowed(kwargs.pop('allow', None))
        given, uri = await resolve(server_uri)
        check_socket(kwargs.get('sock'), uri, 'client')
        check_server(allow, uri, kwargs.get('sock'), name or str(given))
        com = EchoProtocol(str(uri), 'client', name, log, *settings(kwargs))
        com._names[given.host] = uri.host
        own = sockets.connected(uri, kwargs)
        try:
            com.busy_poll = kwargs.pop('busy_poll', 0.0)
            if com._is_udp:
                kwargs.pop('reconnect', None)  # without connections none is lost
                await udp.connect(com, uri, **kwargs)
            else:
                com._reconnector = await tcp.connect(com._stream_context, uri, given.host, **kwargs)
        except BaseException:
            com.close()
            if own is not None:
                own.close()
            raise
        return com

    def awaiting_response(self, addr: Any = None) -> bool:
        """Tell whether a message has been sent whose echo is still to come.

        Parameters
        ----------
        addr : tuple of (str, int), optional
            The remote host and port; by default any.

        Returns
        -------
        bool
            True while waiting.
        """
        if addr is None:
            return any(not echo.done() for _, echo in self._last_sent.values())
        host, port = checked_address(addr)
        pair = self._last_sent.get((self._names.get(host, host), port))
        return pair is not None and not pair[1].done()

    # --- sending ---

    async def confirmed_send(self, data: Any, addr: Any = None, timeout: float | None = None) -> None:
        """Send a message and wait for its echo.

        `init`, `start`, `stop` and the like are made for the messages of an experiment.

        Parameters
        ----------
        data : Any
            The message: bytes and text are sent as they are, everything else as JSON.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.
        timeout : float, optional
            How long to wait, in seconds, from this call on; by default `default_echo_timeout`.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        PeerUnreachableError
            The system reported that nobody listens there (an `EchoTimeoutError`).
        EchoMismatchError
            Something else came back (a `RuntimeError`).
        ConnectionClosedError
            The communicator is or was closed, or the connection was lost.
        MessageTooLongError
            One datagram cannot carry the message (a `ValueError`).
        ValueError
            The timeout is not a positive number; or, in the client role, `addr` is not the server's; or
            bytes for a stream are not one whole message.
        TypeError
            In the server role, `addr` is missing; or the message cannot be written as JSON.
        """
        if timeout is not None:
            timeout = seconds(timeout, 'timeout')
        target = self._server_addr if addr is None and self._role == 'client' else await self._resolved(addr)
        if isinstance(data, str):
            _check_text(data)
        send = self._delivery.begin(data, target, timeout)
        try:
            await send.waiter
        except BaseException as ex:
            self._delivery.give_up(send)
            self._last_failure = failure_of(send.started, ex)
            raise

    async def ping(self, addr: Any = None, timeout: float | None = None) -> float:
        """Measure the round-trip time to a peer of any kind; no callback runs there.

        Parameters
        ----------
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.
        timeout : float, optional
            How long to wait, in seconds; by default `default_echo_timeout`.

        Returns
        -------
        float
            The round-trip time in seconds.

        Raises
        ------
        EchoTimeoutError, PeerUnreachableError, ConnectionClosedError, ValueError, TypeError
            As in `confirmed_send`.
        """
        if timeout is not None:
            timeout = seconds(timeout, 'timeout')
        target = await self._resolved(addr)
        return await self._delivery.ping(target, timeout)

    def send(self, data: Any, addr: Any = None) -> None:
        """Send a message without waiting for its confirmation.

        Parameters
        ----------
        data : Any
            The message: bytes and text are sent as they are, everything else as JSON.
        addr : tuple of (str, int), optional
            The remote host and port. Required in the server role, except over TCP with a single client.

        Raises
        ------
        ConnectionClosedError
            The communicator is closed.
        MessageTooLongError, TypeError, ValueError
            As in `confirmed_send`; over TCP an address that is not connected is only logged.
        OSError
            1,024 messages to this peer wait already (``ENOBUFS``): it has not confirmed an earlier one, or over TCP it
            may take two that arrive together for one.
        """
        if addr is not None:
            addr = checked_address(addr)
        self._check_open()
        if isinstance(data, str):
            _check_text(data)
        frame = self._delivery.frame(data)
        try:
            target = self._target(addr)
        except ValueError:
            if self._is_udp:
                raise
            self._log.warning('Message not sent: unexpected address %s', addr)
            return
        if not is_valid_ip(target[0]):
            task = self._loop.create_task(self._send_to_name(data, target))
            self._callbacks.tasks.add(task)
            task.add_done_callback(self._callbacks.tasks.discard)
            return
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug('Send "%s" to %s://%s:%s', LazyFrame(frame), self.protocol, *target)
        self._delivery.post(frame, target, not is_raw(data), self._delivery.answered(data, target))

    async def _send_to_name(self, data: Any, target: Address) -> None:
        try:
            self.send(data, await self._resolved(target))
        except (EchoError, OSError, ValueError) as ex:
            self._log.warning('Message not sent: %s', ex)

    def _target(self, addr: Address | None) -> Address:
        """Return the address to send to, with names that are known replaced by numbers."""
        if addr is None:
            if self._role == 'client':
                return self._server_addr
            if len(self._connections) == 1:
                return next(iter(self._connections))
            raise TypeError("send() in the server role needs 'addr', the (host, port) of the client")
        host, port = addr
        target = self._names.get(host, host), port
        if self._role == 'client' and target != self._server_addr and is_valid_ip(target[0]):
            raise ValueError(f'Unexpected remote address {addr}: {self.name} is connected to {self.server_uri}')
        if not self._is_udp and self._role == 'server' and is_valid_ip(target[0]) and target not in self._connections:
            raise ValueError(f'Unexpected remote address {addr}: no client is connected from there')
        self._check_reachable(target)
        return target

    async def _resolved(self, addr: Any) -> Address:
        """Return the address to send to, with a numeric host."""
        if addr is None:
            if self._role == 'server':
                raise TypeError("In the server role, 'addr' is required: the (host, port) of the client")
            return self._server_addr
        host, port = checked_address(addr)
        if host not in self._names and not is_valid_ip(host):
            self._names[host] = await resolve_host(host)
        target = self._names.get(host, host), port
        self._check_reachable(target)
        if self._role == 'client' and target != self._server_addr:
            raise ValueError(f'Unexpected remote address {addr}: {self.name} is connected to {self.server_uri}')
        return target

    def _check_reachable(self, target: Address) -> None:
        """Refuse an address to which no message can go."""
        if target[1] == 0:
            raise ValueError(f'Unexpected remote address addr={target}: ports are 1 to 65535')
        if is_valid_ip(target[0]) and (':' in target[0]) != (':' in self._server_addr[0]):
            raise ValueError(f'addr={target} and {self.server_uri} are not both IPv4 or both IPv6 addresses')
