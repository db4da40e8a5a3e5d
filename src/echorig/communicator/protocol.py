"""`EchoProtocol`: a communicator over UDP or TCP, with confirmed sends.

1. A message that fails closes nothing: the communicator, its callbacks and its other peers stay usable.
2. No frame of a peer raises an error into the event loop.
3. This class connects the parts and decides nothing itself: `Exchange` has the rules, `MessagePipeline` carries the
   frames, `Endpoint` has the sockets, `Sender` waits, `AddressBook` and `AccessPolicy` know the peers. No part knows
   this class.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..aliases import AddressLike, ClientOptions, ServerOptions, SingleEvent, Unpack, UriLike
from ..checks import flag, number_of, seconds, set_checked, timeout_or_default
from ..compatibility import in_force
from ..console_log import logger_for
from ..delivery._exchange import Exchange
from ..delivery.statistics import Peers
from ..errors import EchoError
from ..messages import ExpMessage
from ..resolver import resolve, resolve_all
from ..security.access import AccessPolicy, signer_for
from ..security.allowlist import AllowList, check_server, parse_allowlist
from ..security.redaction import LazyFrame
from ..security.rejections import Rejected
from ..security.safe_log import SafeLog
from ..transports import sockets, udp
from ..transports.stream_server import StreamServer
from ..tuning import DEFAULT_TUNING, Tuning
from ..uri import Address, Uri, as_address, is_valid_ip, parse
from ..wall_clock import wall_time
from ..wire._codec import as_bytes, encode_event, is_raw
from ._busy_poll import BusyPoll
from ._pipeline import MessagePipeline
from .announcing import Announcing, announcer_for
from .base import Communicator
from .direct_send import COMPOSING, DirectSender
from .endpoint import Endpoint
from .experiment_messages import composed
from .flow_control import FlowControl
from .journal_link import JournalLink
from .labels import Labels, described_state
from .last_sent import LastSent
from .opening import opens
from .options import (
    check_event,
    check_options,
    check_text,
    check_transport,
    checked_role,
    echo_timeout,
    poll_seconds,
    pop_options,
)
from .outcomes import outcomes
from .peer_clocks import PeerClock
from .scheduled import ScheduledMessages
from .sender import WAIT_FOR, Failure, Sender
from .subject_book import addresses_for

if TYPE_CHECKING:
    from ..journal.writer import Journal

__all__ = ['EchoProtocol']

_DELETED = asyncio.BaseTransport()
_Self = TypeVar('_Self', bound='EchoProtocol')
Lookup = Callable[[], Awaitable[list[Uri]]]


class EchoProtocol(Communicator, asyncio.DatagramProtocol):
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
        Shared secret of at least 16 bytes. Every message is signed with it; unsigned messages are neither echoed nor
        delivered. Keep it in a file or an environment variable, not in code.

    Attributes
    ----------
    default_echo_timeout : float
        How long to wait for an echo by default, in seconds.
    max_message_size : int
        The buffer size of peers in bytes; an echo of exactly this size may be truncated.
    """

    __slots__ = ('__weakref__', '_role', 'tuning')

    default_echo_timeout: float = 1.0
    max_message_size: int = 65535
    __setattr__ = set_checked(default_echo_timeout=echo_timeout, max_message_size=number_of, response_timeout=seconds)
    last_failure: Failure | None = None  # the last confirmed send that failed

    def __init__(
        self,
        server_uri: UriLike,
        role: Literal['client', 'server'],
        name: str | None = None,
        logger: logging.Logger | None = None,
        tuning: Tuning = DEFAULT_TUNING,
        key: bytes | str | None = None,
    ) -> None:
        self._role = ''
        self.role = role
        loop = self._loop = asyncio.get_running_loop()
        super().__init__(server_uri, name=name, logger=logger, tuning=tuning, call_later=loop.call_later)
        self.tuning = tuning
        self._is_client, self._has_backlog = self._role == 'client', self._role == 'server'
        self._announcer: Announcing | None = None
        self._create_parts(key)

    def _create_parts(self, key: bytes | str | None) -> None:
        loop, tuning, log, log_limit = self._loop, self._tuning, self._log, self._log_limit
        labels = Labels(self.name, self.server_uri, self.protocol, self._is_client)
        is_signed, max_stream, has_datagrams = key is not None, tuning.max_stream_message, labels.has_datagrams
        longest = max_stream if is_signed else sys.maxsize  # over NATS the broker tells
        if labels.protocol == 'udp':
            longest = udp.max_size(self.hostname)
        max_frame = 2**62 if is_signed else min(longest, max_stream)
        self._exchange = Exchange(
            *(tuning, not has_datagrams, self.max_message_size),
            run=secrets.randbits(31),
            max_frame=max_frame,
            signed=is_signed,
        )
        self._exchange.wall_clock = wall_time
        self._pipeline = pipeline = MessagePipeline(
            *(loop, self._exchange, self._dispatcher, self, labels, self.logger, log, log_limit),
            plain_receive=self._plain_hooks[0],
            connected=self._is_client,
            longest=longest,
            datagrams=has_datagrams,
            signer=signer_for(key, has_datagrams, tuning),
        )
        if type(self).datagram_received is self._plain_hooks[1]:  # saves a call for each datagram
            self.datagram_received = pipeline.datagram_received  # type: ignore[method-assign]
        self._journal_link = JournalLink(pipeline, self._connection_notifier, labels)
        self._access = AccessPolicy(labels.name, log)
        self._addresses = addresses_for(labels, self._access.admits, log, log_limit)
        self._sender = Sender(pipeline, labels, tuning.min_truncated_echo)
        self._sender.on_clock = self._journal_link.note_clock
        self._flow_control = FlowControl(
            *(self._exchange, self._event_queue, loop, has_datagrams, pipeline.receive_verified),
            is_connected=lambda addr: has_datagrams or addr in pipeline.connections,
            default_patience=lambda: self.default_echo_timeout,
        )
        self._endpoint = Endpoint(
            *(labels, tuning, pipeline, self._sender, self._addresses, self._access, self._connection_notifier),
            *(log, log_limit, self._event_queue.fail),
        )
        if self._is_client:
            self._direct_sender = DirectSender(
                *(self.receiver_id, pipeline, self._event_queue, self._sender, self._addresses),
                *(lambda: self.default_echo_timeout, partial(setattr, self, 'last_failure'), _METHODS),
            )
        self._endpoint.on_server_moved = partial(setattr, self, 'server_uri')
        self._busy_poll = BusyPoll(loop, self._exchange if self._is_client else None)
        self._event_queue.on_capacity_change = self._flow_control.update
        pipeline.on_refused = self._flow_control.on_refused
        pipeline.max_message_size = lambda: self.max_message_size
        pipeline.scheduled = ScheduledMessages(loop, self._dispatcher.deliver, log)

    # --- opening ---

    @staticmethod
    @opens
    async def server(
        server_uri: UriLike, name: str | None = None, log: logging.Logger | None = None, **kwargs: Unpack[ServerOptions]
    ) -> EchoProtocol:
        """Listen for clients; also for ``async with``, without ``await``.

        Parameters
        ----------
        server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
            The address to listen on: an IP address or host name of this computer, with or without a port
            (default 11001; 0 takes any that is free) and a scheme: ``udp://`` (the default), ``tcp://`` or
            ``tls://``; ``ws://`` and ``wss://`` are other names of these two, not WebSocket. ``':9998'`` means this
            computer. ``nats://host:4222/lab.room2.camera`` is the subject ``lab.room2.camera`` of a NATS broker, by
            default at port 4222. Before the host may stand ``user:password@`` or ``token@``. That needs nats-py,
            ``pip install 'echorig[nats]'``.
        name : str, optional
            A label, by default the URI.
        log : logging.Logger, optional
            Where to log, by default the logger called `name`.
        kwargs
            ``allow``, who may send to this server: an IP address, a network such as ``'10.0.0.0/8'`` or a host name
            (resolved now, with all its addresses), or several of them; others are ignored, see :attr:`rejected`.
            ``tuning``, a :class:`Tuning`; ``key``, with which every message is signed; ``busy_poll``, see
            :attr:`busy_poll`; ``journal``, see :attr:`journal`; ``ssl``, an ``ssl.SSLContext`` for ``tls://``;
            ``announce``, whether the network is told of this server, so that :func:`discover` finds it: True, or a
            dict of ``group``, such as a room, ``name`` (default: that of the server) and ``interfaces`` (as for
            :func:`discover`). That needs python-zeroconf, ``pip install 'echorig[discovery]'``, and takes seconds in
            the background; over NATS the broker tells of it. Everything else is passed to the event loop's
            ``create_datagram_endpoint`` or ``create_server`` (options of the socket need a port other than 0). Over
            NATS there are instead ``servers``, the URIs of more brokers of a cluster; ``user``, ``password`` and
            ``token``; the files ``user_credentials`` and ``nkeys_seed``; ``inbox_prefix``; ``ssl``, ``tls_hostname``.

        Returns
        -------
        EchoProtocol
            The communicator.

        Raises
        ------
        TypeError, ValueError
            The URI or an option is not valid, a name does not resolve, or a TLS server has no ``ssl``.
        OSError
            The address is in use, or is not one of this computer; or there is no connection with the broker.
        PermissionError
            The broker refuses the login, or does not allow the subscription.
        ImportError
            The optional package that is needed is not installed.
        """
        options: dict[str, Any] = {**kwargs}
        check_options(name, log, options)
        announce = options.pop('announce', False)
        announcer = None if announce is False else announcer_for(announce, server_uri, name, options)
        allow = await parse_allowlist(options.pop('allow', None))
        given, uri = await resolve(server_uri, any_port=True)
        check_transport(uri, allow, options.get('sock'), 'server')
        with sockets.naming_errors(name, uri):
            own = sockets.bind_socket(uri, options)
        if sock := options.get('sock'):
            uri = Uri(uri.scheme, *as_address(sock.getsockname()))
        try:
            com = EchoProtocol(str(uri), 'server', name, log or logger_for(name or str(uri)), **pop_options(options))
            with sockets.naming_errors(name, uri):
                await com._open_server(given.host, uri, allow, own is not None or not sock, announcer, options)
        except BaseException:
            if own is not None:
                own.close()
            raise
        return com

    @staticmethod
    @opens
    async def client(
        server_uri: UriLike, name: str | None = None, log: logging.Logger | None = None, **kwargs: Unpack[ClientOptions]
    ) -> EchoProtocol:
        """Connect to a server, which over TCP must be there; over UDP nothing is sent yet.

        Parameters
        ----------
        server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
            The address of the server, as for :meth:`server`.
        name, log : optional
            As for :meth:`server`.
        kwargs
            ``allow``, ``tuning``, ``key``, ``busy_poll`` and ``journal`` as for :meth:`server`; only addresses in
            ``allow`` are used. ``ssl``, an ``ssl.SSLContext`` for ``tls://`` (default: the system's certificates);
            ``reconnect``, whether to connect again after a TCP connection was lost (default True; never with a
            ``sock`` of your own); everything else is passed to the event loop's ``create_datagram_endpoint`` or
            ``create_connection``.

        Returns
        -------
        EchoProtocol
            The communicator.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`server`.
        PermissionError
            No address of the server is in ``allow``; nothing has been sent. Or the broker refuses the login.
        PeerUnreachableError
            Over TCP: nobody listens there (a `ConnectionRefusedError`). Over NATS: no broker does.
        TLSError
            The TLS handshake failed (a `ConnectionError`).
        OSError
            There is no way to the address.
        """
        options: dict[str, Any] = {**kwargs}
        check_options(name, log, options)
        allow = await parse_allowlist(options.pop('allow', None))

        async def lookup() -> list[Uri]:
            given, uris = await resolve_all(server_uri)
            check_server(allow, uris, options.get('sock'), name or str(given))
            return [uri for uri in uris if allow is None or uri.host in allow]

        check_transport(parse(server_uri), allow, options.get('sock'), 'client')
        uris = await lookup()
        com = EchoProtocol(
            str(uris[0]), 'client', name, log or logger_for(name or str(uris[0])), **pop_options(options)
        )
        with sockets.naming_errors(name, uris[0]):
            await com._open_client(parse(server_uri).host, uris, lookup, allow, options)
        return com

    async def _open_server(
        self,
        host: str,
        uri: Uri,
        allow: AllowList | None,
        is_own_socket: bool,
        announcer: Callable[[Uri, SafeLog], Announcing] | None,
        kwargs: dict[str, Any],
    ) -> None:
        self._access.allowed = allow
        self._addresses.names[host] = uri.host
        try:
            await self._journal_link.open(kwargs.pop('journal', None))
            self.busy_poll = kwargs.pop('busy_poll', 0.0)
            self._flow_control.pause()
            await self._endpoint.listen(self, uri, kwargs, is_own_socket)
            self._journal_link.note_opened()
        except BaseException:
            self.close()
            raise
        self._log.info('Listening on %s', self.server_uri)
        self._flow_control.resume_soon()
        if announcer is not None:
            self._announcer = announcer(uri, self._log)

    async def _open_client(
        self, host: str, uris: list[Uri], lookup: Lookup, allow: AllowList | None, kwargs: dict[str, Any]
    ) -> None:
        self._addresses.names[host] = uris[0].host
        own = None
        try:
            await self._journal_link.open(kwargs.pop('journal', None))
            own = sockets.connect_first(uris, kwargs)
            self.busy_poll = kwargs.pop('busy_poll', 0.0)
            await self._endpoint.connect(self, uris, host, lookup, kwargs)
            if own is not None:  # else it is TCP, or the program has made the socket or chosen its options
                by_name = None if is_valid_ip(host) else lookup
                self._endpoint.follow_server(self, by_name, lambda host: allow is None or host in allow)
            self._journal_link.note_opened()
        except BaseException:
            self.close()
            if own is not None:
                own.close()
            raise

    # --- state ---

    @property
    def role(self) -> str:
        """str: 'client' or 'server'; it can be set once."""
        return self._role

    @role.setter
    def role(self, value: str) -> None:
        if self._role:
            raise AttributeError('The role of a communicator cannot be changed')
        self._role = checked_role(value)

    @property
    def busy_poll(self) -> float:
        """float: For how long to poll for messages instead of sleeping, in seconds; by default 0, which disables it.

        A client polls after each send until the echo has arrived, a server after each message. Polling uses a whole
        core. It saves the time to wake the program, which is several times that of a round trip.
        """
        return self._busy_poll.seconds

    @busy_poll.setter
    def busy_poll(self, value: float) -> None:
        self._busy_poll.seconds = poll_seconds(value)
        self._pipeline.on_activity = self._busy_poll.extend if self._busy_poll.seconds else None

    @property
    def journal(self) -> Journal | None:
        """:obj:`echorig.journal.Journal` or None: Where every message is noted; a path opens one.

        A journal that was opened by a path is shared by all communicators with this path, and closed with the last
        one. A `Journal` of the program is closed by the program.
        """
        return self._journal_link.journal

    @journal.setter
    def journal(self, value: Journal | str | os.PathLike[str] | None) -> None:
        self._journal_link.set(value)

    @property
    def is_connected(self) -> bool:
        """bool: Whether messages can be exchanged; True for a server that listens, without any client yet."""
        return self._endpoint.is_connected

    @property
    def Server(self) -> asyncio.Server | StreamServer | None:
        """asyncio.Server or None: The listening server, or an object like it, in the server role over TCP."""
        return self._endpoint.server

    @property
    def on_connection_lost(self) -> asyncio.Future[BaseException | str | None]:
        """asyncio.Future: Done when the connection of a client is lost, and when the communicator is closed.

        The result is the exception, None or a text. After a client has reconnected, this is a new future.
        """
        return self._endpoint.on_connection_lost

    @property
    def on_error_received(self) -> asyncio.Future[Exception]:
        """asyncio.Future: Done when the system reports an error of the transport, which is the result."""
        return self._endpoint.on_error_received

    @property
    def on_eof_received(self) -> asyncio.Future[bool]:
        """asyncio.Future: Done when a TCP peer has ended its side of the connection."""
        return self._endpoint.on_eof_received

    @property
    def peers(self) -> Peers:
        """mapping: Statistics of each remote address: ``communicator.peers[addr]`` is a `PeerStatistics`."""
        return Peers(self._exchange)

    @property
    def rejected(self) -> Mapping[str, Rejected]:
        """mapping: What was refused, by host, as a `Rejected`; hosts beyond the first 256 are counted as ``'*'``."""
        return self._access.rejections.snapshot()

    @property
    def _transport(self) -> asyncio.BaseTransport | None:
        if self._pipeline.transport is _DELETED:
            raise AttributeError('_transport')
        return self._pipeline.transport

    @_transport.setter
    def _transport(self, transport: asyncio.BaseTransport | None) -> None:
        self._pipeline.transport = transport

    @_transport.deleter
    def _transport(self) -> None:  # `mock.patch` deletes what it has set, and sets the former one if nothing is left
        self._pipeline.transport = _DELETED

    @property
    def _socket(self) -> socket.socket | None:
        return self._endpoint.socket

    @property
    def _last_sent(self) -> LastSent:
        return self._sender.last_sent

    def awaiting_response(self, addr: AddressLike | None = None) -> bool:
        """Return whether the echo of a message is awaited.

        Parameters
        ----------
        addr : tuple of (str, int), optional
            The remote host and port; by default any.
        """
        if addr is None:
            return any(not echo.done() for _, echo in self._last_sent.values())
        pair = self._last_sent.get(self._addresses.known(addr))
        return pair is not None and not pair[1].done()

    # --- sending ---

    async def confirmed_send(self, data: object, addr: AddressLike | None = None, timeout: float | None = None) -> None:
        """Send a message and wait for its echo.

        For the messages of an experiment, use `init`, `start`, `stop` and the other methods of `Service`.

        Parameters
        ----------
        data : Any
            The message: bytes and text are sent as they are, everything else as JSON. An array begins with the code
            of its event.
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
            The reply differs from the message (a `RuntimeError`).
        ConnectionClosedError
            The communicator is or was closed, or the connection was lost.
        MessageTooLongError
            One datagram cannot carry the message (a `ValueError`).
        TypeError, ValueError
            An argument is not valid, an array does not begin with an event code, `addr` is missing (in the server
            role) or is not that of the server (in the client role), or bytes for a stream are not one whole message.
        """
        # Most calls take none of the slower ways, and a call of a function costs as much as half of the encoding.
        limit = self.default_echo_timeout
        if timeout is not None or type(limit) is not float or not limit > 0.0:
            limit = timeout_or_default(timeout, limit)
        if addr is None and self._is_client:
            target = self._addresses.server
        else:
            target, limit = await self._addresses.resolved(addr, limit)
        frame = encode_event(data) if self.encode is as_bytes else None
        send = self._pipeline.start_send(data, frame or self._encoded(data), target, limit)
        try:
            if asyncio.wait_for is not WAIT_FOR and in_force().patched_names:
                await self._sender.wait_patched(send, limit)
            else:
                await send.future
        except BaseException as ex:
            self._sender.cancel(send)
            self._addresses.forget(addr)
            self.last_failure = Failure.of(send, ex)
            if isinstance(ex, EchoError):
                self._cancel_instead(ex)
            raise

    async def ping(self, addr: AddressLike | None = None, timeout: float | None = None) -> float:
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
        timeout = timeout_or_default(timeout, self.default_echo_timeout)
        return await self._sender.ping(*await self._addresses.resolved(addr, timeout))

    def clock(self, addr: AddressLike | None = None) -> PeerClock | None:
        """Compare the clock of a peer with the clock of this computer, by the last pings to it.

        Only echorig peers tell the time of their clocks. See `measure_clock` for pings now.

        Parameters
        ----------
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Returns
        -------
        PeerClock or None
            The offset and its error; None if no ping was echoed with a time.
        """
        return self._sender.clocks.get(
            self._addresses.target(None if addr is None else self._addresses.checked(addr), None)
        )

    async def measure_clock(
        self, addr: AddressLike | None = None, *, n_pings: int = 8, timeout: float | None = None
    ) -> PeerClock | None:
        """Ping a peer several times, and compare its clock with the clock of this computer.

        Parameters
        ----------
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.
        n_pings : int
            How many pings; the best of the last eight counts.
        timeout : float, optional
            How long to wait for each echo, in seconds; by default `default_echo_timeout`.

        Returns
        -------
        PeerClock or None
            The offset and its error; None if the peer is not echorig, which does not tell the time.

        Raises
        ------
        EchoTimeoutError, PeerUnreachableError, ConnectionClosedError, ValueError, TypeError
            As in `ping`.
        """
        for _ in range(number_of(n_pings, 'n_pings')):
            await self.ping(addr, timeout)
            if (clock := self.clock(addr)) is None:
                return None
        return clock

    async def call(
        self, event: SingleEvent, *args: Any, timeout: float = 10.0, check_exp_ref: bool = True
    ) -> list[Any]:
        """Send a message to the rig, and wait for its answer; in the client role.

        `start`, `init` and the others only confirm that the rig has received the message.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event: EXPINIT, EXPSTART, EXPEND, EXPINTERRUPT, EXPCLEANUP, EXPSTATUS or EXPINFO.
        args : Any
            The arguments of the method of this event: for EXPSTART those of `start`, and so on.
        timeout : float
            How long to wait for the answer, in seconds; `math.inf` waits without limit.
        check_exp_ref : bool
            Whether the reference of EXPSTART must have the form ``yyyy-mm-dd_n_subject``.

        Returns
        -------
        list
            The data of the answer.

        Raises
        ------
        RemoteCallbackError
            The work of the rig failed; the text is that of its error.
        EchoTimeoutError
            The rig did not echo or answer in time (a `TimeoutError`).
        TypeError, ValueError, EchoError
            As in `confirmed_send`.
        """
        single = ExpMessage.validate(event, allow_bitwise=False)
        if not self._is_client:
            raise ValueError('call() is for clients: a server has no single rig that answers')
        message = composed(self, single, args, flag(check_exp_ref, 'check_exp_ref'))
        limit = seconds(timeout, 'timeout')
        found = (await outcomes([self], single, ('confirmed_send', (message,), {}), limit))[self.name]
        if isinstance(found, BaseException):
            raise found
        return list(found)

    def send(self, data: object, addr: AddressLike | None = None) -> None:
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
            1,024 messages to this peer wait already (``ENOBUFS``), because an earlier one is not confirmed or, over
            TCP, because it may read two messages that arrive together as one.
        """
        if addr is not None:
            addr = self._addresses.checked(addr)
        self._check_open()
        frame = self._pipeline.checked_frame(data, self._encoded(data))
        try:
            target = self._addresses.target(addr, None if self._endpoint.has_datagrams else self._pipeline.connections)
        except ValueError:
            if self._endpoint.has_datagrams:
                raise
            self._log.warning('Message not sent: unexpected address %s', addr)
            return
        if not self._addresses.is_resolved(target):
            task = self._loop.create_task(self._send_to_name(data, target))
            self._callbacks.tasks.add(task)
            task.add_done_callback(self._callbacks.tasks.discard)
            return
        if self._log.isEnabledFor(logging.DEBUG):
            self._log.debug('Send "%s" to %s://%s:%s', LazyFrame(frame), self.protocol, *target)
        self._pipeline.send_unconfirmed(frame, target, not is_raw(data), self._pipeline.reply_number(data, target))

    def _encoded(self, data: object) -> bytes:
        if isinstance(data, str):
            check_text(data)
        frame = self.encode(data)
        check_event(data, frame)
        return frame

    async def _send_to_name(self, data: object, target: Address) -> None:
        try:
            self.send(data, (await self._addresses.resolved(target))[0])
        except (EchoError, OSError, ValueError) as ex:
            self._log.warning('Message not sent: %s', ex)

    # --- called by the event loop, and by the pipeline ---

    def _receive(self, data: bytes, addr: Address) -> None:
        self._pipeline.handle_frame(data, addr)

    def _is_from(self, sender: Address, addr: AddressLike) -> bool:
        return sender == self._addresses.known(addr)

    def _count_malformed(self, addr: Address) -> None:
        self._exchange.count_malformed(addr, monotonic())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop with the transport, whose socket must be of the kind that the URI asks for.

        Parameters
        ----------
        transport : asyncio.BaseTransport
            The transport.
        """
        self._endpoint.connection_made(transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Called by the event loop with each datagram.

        Parameters
        ----------
        data : bytes
            The datagram.
        addr : tuple
            Where it came from.
        """
        self._pipeline.datagram_received(data, addr)

    _plain_hooks = (_receive, datagram_received)  # the functions, whatever a program puts in their places

    def data_received(self, data: bytes) -> None:
        """Receive bytes of the newest TCP connection.

        Parameters
        ----------
        data : bytes
            A piece of the stream.
        """
        self._endpoint.data_received(data)

    def error_received(self, exc: Exception) -> None:
        """Called by the event loop with an error that the system reports for an earlier datagram.

        Parameters
        ----------
        exc : Exception
            The error.
        """
        self._endpoint.error_received(exc)

    def eof_received(self) -> None:
        """Called when a TCP peer has ended its side of the connection; the connection closes."""
        self._endpoint.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop when the transport is closed.

        Parameters
        ----------
        exc : BaseException or None
            The reason; None if one of the ends closed it.
        """
        self._endpoint.connection_lost(exc)

    # --- closing ---

    def _check_open(self) -> None:
        self._pipeline.check_open()

    def _check_usable(self) -> None:
        if self._pipeline.closed or not self._pipeline.reconnects:
            self._check_open()

    def close(self) -> None:
        """Close the communicator, remove its callbacks and cancel its futures.

        Coroutines that wait for a confirmation or an event raise `ConnectionClosedError`. Closing twice does nothing.
        """
        pipeline = self._pipeline
        if pipeline.closed:
            return
        if self._loop.is_closed():
            pipeline.closed = True
            self._endpoint.close_without_loop()
            self._journal_link.close()
        else:
            pipeline.write_all()
            pipeline.closed = True
            self._endpoint.close_sockets()
            if self._announcer is not None:
                self._announcer.close()
            super().close()
            self._flow_control.close()
            self._busy_poll.stop()
            pipeline.close()
            self._last_sent.cancel_all()
            self._endpoint.end()
            self._journal_link.close()

    async def wait_closed(self) -> None:
        """Wait until the communicator and its sockets are closed, and its journal is written."""
        await self._endpoint.wait_closed()
        if self._announcer is not None:
            await self._announcer.wait_closed()
        await self._journal_link.wait_closed()

    def __repr__(self) -> str:
        state = f'{self.server_uri}, closed' if self._pipeline.closed else described_state(self)
        where = 'client of' if self._is_client else 'server at'
        return f'<echorig.{type(self).__name__} {self.name!r}, {where} {state}>'

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
        await self.wait_closed()


# Before a program replaces any of them.
_METHODS = {name: getattr(EchoProtocol, name) for name in ('confirmed_send', 'on_event', 'assign_callback', *COMPOSING)}
