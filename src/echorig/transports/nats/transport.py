"""`NatsTransport`: the transport of one communicator over NATS, with the contract of one for datagrams."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...uri import Address, Uri
from .ages import HEADER, Ages, unstamped
from .broker import Broker
from .options import BrokerOptions
from .package import check_installed

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ['NatsReports', 'NatsTransport', 'open_endpoint']

_NO_RESPONDERS = '503'  # the status of a broker's message that nobody subscribes to a subject
_OTHERS = '.others'  # below the private subject of a server: answers of other servers
_REPLY = re.compile(r'[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*')


@dataclass(frozen=True)
class NatsReports:
    """What a communicator is told beside the messages."""

    peer_error: Callable[[Address | None, Exception], object]
    """Called with the address of a peer, or None, and an error about what was sent there."""
    foreign: Callable[[Address, bytes], object]
    """Called with a message that no echorig program has sent."""
    lost: Callable[[Exception | None], object]
    """Called when the connection with the broker is lost."""
    found: Callable[[], object]
    """Called when there is a connection again."""


async def open_endpoint(
    protocol: asyncio.DatagramProtocol, uri: Uri, options: dict[str, Any], reports: NatsReports, *, is_client: bool
) -> None:
    """Open the endpoint of a server or client; see `Broker.open` and `Subscriptions.serve` for the errors."""
    check_installed()
    broker = await Broker.open(BrokerOptions.of(uri, options))
    try:
        transport = NatsTransport(broker, protocol, uri, reports, is_client)
        try:
            await transport.open()
        except BaseException:
            broker.leave(transport.private)
            raise
    except BaseException:
        await broker.release()
        raise
    protocol.connection_made(transport)


class NatsTransport(asyncio.DatagramTransport):
    """Sends and receives frames of one communicator.

    Attributes
    ----------
    private : str
        The subject at which it receives what is for this communicator alone.
    waited : float
        How much longer than usual the frame being received was on its way, in seconds.
    """

    estimates_age = True

    def __init__(
        self, broker: Broker, protocol: asyncio.DatagramProtocol, uri: Uri, reports: NatsReports, is_client: bool
    ) -> None:
        super().__init__()
        self._broker, self._protocol, self._reports = broker, protocol, reports
        self._subject, self._is_client = uri.subject, is_client
        self._server: Address = uri.address
        self.private = broker.join(self.message_received, self)
        self._serving: object = None
        self._ages = Ages()
        self._addr: Address = uri.address  # of the last message
        self._sender = ''  # of the last message; to a client, the subject of its server for replies
        self._ending: asyncio.Task[None] | None = None
        self.waited = 0.0

    async def open(self) -> None:
        """Subscribe to the subject of a server; the errors are those of `Subscriptions.serve`."""
        if not self._is_client:
            self._serving = await self._broker.subscriptions.serve(self._subject, self.message_received)
            self._ask_others()

    def _ask_others(self) -> None:
        """Ask whether another server has the subject: one that started together with this one, or stood still then."""
        with suppress(OSError):  # there is no connection: it is asked when there is one
            self._broker.publish(self._subject, b'', f'{self.private}{_OTHERS}')

    @property
    def max_size(self) -> int:
        """int: The bytes of the longest frame that the broker accepts."""
        return self._broker.max_payload - HEADER

    @property
    def is_connected(self) -> bool:
        """bool: Whether there is a connection with the broker now."""
        return self._broker.is_connected

    # --- the contract of a transport ---

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Publish a frame; OSError if there is no connection with the broker.

        The subject for replies is private. There the broker reports that nobody subscribes, so it tells of which peer.
        """
        if self._ending is not None:
            return
        if self._is_client:
            self._broker.publish(self._subject, self._ages.stamped(data, self._sender), self.private)
        else:
            self._broker.publish(addr[0], self._ages.stamped(data, addr[0]), f'{self.private}.{addr[0]}')

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the own address for ``sockname``; there is no socket of this communicator alone."""
        return (self.private, self._server[1]) if name == 'sockname' else default

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Return whether the transport is closed or closing."""
        return self._ending is not None

    def close(self) -> None:
        """Close the transport, after what was sent last is written."""
        if self._ending is None:
            self._broker.leave(self.private)
            self._ending = asyncio.get_running_loop().create_task(self._end())

    abort = close

    async def _end(self) -> None:
        try:
            await self._broker.subscriptions.unsubscribe(self._serving)
            await self._broker.release()
        finally:
            self._protocol.connection_lost(None)

    # --- called by the broker ---

    def message_received(self, message: Msg) -> None:
        """Process a message, or the report that nobody subscribes to a subject."""
        if self._ending is not None:
            return
        if message.headers and message.headers.get('Status') == _NO_RESPONDERS:
            peer = self._server
            if not self._is_client:
                peer = message.subject[len(self.private) + 1 :], self._server[1]
            error = ConnectionRefusedError(errno.ECONNREFUSED, f'Nobody subscribes to the subject {peer[0]}')
            self._reports.peer_error(peer, error)
            return
        sender, found = message.reply, unstamped(message.data)
        if not message.data and not self._is_client:
            self._answer(message.subject, sender)
        elif found is None or not _REPLY.fullmatch(sender):
            self._reports.foreign((sender or message.subject, self._server[1]), message.data)
        else:
            if not self._is_client and sender != self._addr[0]:
                self._addr = sender, self._server[1]
            self._sender = sender
            sent, echoed, frame = found
            self.waited = self._ages.of(sender, sent, echoed)
            self._protocol.datagram_received(frame, self._addr)

    def _answer(self, subject: str, sender: str) -> None:
        """Tell a program that asks whether a server is here; note the answer of another server."""
        own = f'{self.private}{_OTHERS}'
        if subject == own:
            text = f'another server also answers at the subject {self._subject}: both get each message, so end one'
            self._reports.peer_error(None, OSError(errno.EADDRINUSE, text))
        elif sender and sender != own:
            self._broker.publish(sender, b'')

    def subject_refused(self, subject: str, is_publish: bool, error: Exception) -> None:
        """Note that the broker does not allow to send to the server, or no longer that the server subscribes."""
        if subject == self._subject.lower() and (self._is_client if is_publish else self._serving is not None):
            self._reports.peer_error(self._server if is_publish else None, PermissionError(errno.EACCES, str(error)))

    def broker_lost(self, error: Exception | None) -> None:
        """Note that the connection with the broker is lost."""
        self._reports.lost(error)

    def broker_found(self) -> None:
        """Note that there is a connection with the broker again."""
        self._reports.found()
        if self._serving is not None and self._ending is None:
            self._ask_others()
