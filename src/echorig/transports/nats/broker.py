"""`Broker`: one connection to a NATS broker, shared by the communicators of a loop that have equal options.

1. What is published while there is no connection is lost, as over UDP; the exchange sends it again.
2. All private subjects of the communicators here begin with that of the broker, which has one subscription for them.
3. nats-py reconnects by itself, except after errors that it holds for final: then the connection is made anew.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Protocol
from weakref import WeakValueDictionary

from .options import BrokerOptions
from .package import import_client
from .subscriptions import Receiver, Subscriptions

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from .client import BrokerClient

__all__ = ['Broker', 'Observer']

_MAX_OUTBOX = 2**24  # bytes that wait to be written
_REOPEN_WAIT = 1.0  # seconds between two attempts to make a connection anew
_CLOSE_TIME = 1.0  # seconds for what was sent last to be written
_REFUSED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)


class Observer(Protocol):
    """What is told of a connection."""

    def subject_refused(self, subject: str, is_publish: bool, error: Exception) -> None:
        """Note that the broker does not allow to publish or subscribe to a subject, which is in lower case."""

    def broker_lost(self, error: Exception | None) -> None:
        """Note that the connection with the broker is lost."""

    def broker_found(self) -> None:
        """Note that there is a connection with the broker again."""


class Broker:
    """A connection to a broker; see `open`."""

    _shared: ClassVar[WeakValueDictionary[tuple[int, BrokerOptions], Broker]] = WeakValueDictionary()

    def __init__(self, options: BrokerOptions) -> None:
        self._loop = asyncio.get_running_loop()  # its id stays that of this loop, since it is referenced
        self._options = options
        self._client: BrokerClient | None = None
        self._private: dict[str, Receiver] = {}  # by the last word of the private subject
        self._observers: dict[str, Observer] = {}
        self.subscriptions = Subscriptions(options.servers[0], self._connected_client)
        self._outbox: deque[tuple[str, bytes, str]] = deque()
        self._outbox_size = 0
        self._filled = asyncio.Event()
        self._written = asyncio.Event()
        self._n_private = self._n_holders = 0
        self._last_error: Exception | None = None
        self.is_closed = self._is_over = False
        self._inbox = ''
        self._writer: asyncio.Task[None] | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] = self._loop.create_task(self._open())
        self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())

    # --- opening and closing ---

    @classmethod
    async def open(cls, options: BrokerOptions) -> Broker:
        """Return the connection with these options, which must be released; the errors are those of `connect`."""
        key = id(asyncio.get_running_loop()), options
        broker = cls._shared.get(key)
        if broker is None or broker.is_closed:
            cls._shared[key] = broker = cls(options)
        await broker.hold()
        return broker

    async def hold(self) -> None:
        """Wait until the connection is open, and keep it open until `release`; OSError if it is lost."""
        self._n_holders += 1
        try:
            await asyncio.shield(self._opening)
            self._connected_client()
        except BaseException:
            await self.release()
            raise

    async def _open(self) -> None:
        try:
            await import_client()
            await self._connect()
        except BaseException:
            self.is_closed = True
            raise
        self._writer = self._loop.create_task(self._write())

    async def _connect(self) -> None:
        from .client import connect

        options = await self._options.for_client()
        client = await connect(options, self._on_error, self._on_lost, self._on_found, self._on_closed)
        try:
            self._inbox = self._inbox or client.new_inbox()
            await self.subscriptions.renew(client, f'{self._inbox}.>', self._received)
        except BaseException:
            await client.close()
            raise
        self._client = client

    async def release(self) -> None:
        """Give the connection back; the last one closes it, after what was published has been written."""
        self._n_holders -= 1
        if self._n_holders or self.is_closed:
            return
        self.is_closed = True
        for task in filter(None, (self._opening, self._reopening)):
            task.cancel()
            await asyncio.wait({task})
        if self._writer is None:
            return
        if self._outbox and self.is_connected:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._written.wait(), _CLOSE_TIME)
        self._is_over = True  # before nats-py, which may lose the cancellation, goes on
        self._writer.cancel()
        await asyncio.wait({self._writer})
        if self._client is not None:
            await self._client.close()

    # --- the state ---

    @property
    def is_connected(self) -> bool:
        """bool: Whether there is a connection now."""
        return self._client is not None and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """int: The bytes of the longest message that the broker accepts."""
        return self._client.max_payload if self._client is not None else 0

    def _connected_client(self) -> BrokerClient:
        if self._client is None or not self._client.is_connected:
            why = '' if self._last_error is None else f': {self._last_error}'
            raise OSError(errno.ENETDOWN, f'There is no connection with the broker {self._options.servers[0]}{why}')
        return self._client

    def _on_error(self, error: Exception) -> None:
        self._last_error = error
        if match := _REFUSED.search(str(error)):
            is_publish, subject = match.group(1).lower() == 'publish', match.group(2).lower()
            if not is_publish:
                self.subscriptions.note_refused(subject, error)
            for observer in list(self._observers.values()):
                observer.subject_refused(subject, is_publish, error)

    async def _on_lost(self) -> None:
        if not self.is_closed:
            for observer in list(self._observers.values()):
                observer.broker_lost(self._last_error)

    async def _on_found(self) -> None:
        self._last_error = None
        for observer in list(self._observers.values()):
            observer.broker_found()

    async def _on_closed(self) -> None:
        if not self.is_closed and self._client is not None:
            self._last_error = self._client.last_error or self._last_error
            self._client = None
            self._reopening = self._loop.create_task(self._reopen())

    async def _reopen(self) -> None:
        while not self.is_closed:
            await asyncio.sleep(_REOPEN_WAIT)
            try:
                await self._connect()
            except Exception as ex:  # nats-py has its own kinds of errors; whatever it is, it is tried again
                self._last_error = ex
            else:
                await self._on_found()
                return

    # --- sending ---

    def publish(self, subject: str, payload: bytes, reply: str = '') -> None:
        """Publish a message; raise OSError if there is no connection, or too much waits to be written."""
        self._connected_client()
        if self._outbox_size + len(payload) > _MAX_OUTBOX:
            raise OSError(errno.ENOBUFS, f'The broker {self._options.servers[0]} is too slow: {_MAX_OUTBOX} bytes wait')
        self._outbox.append((subject, payload, reply))
        self._outbox_size += len(payload)
        self._filled.set()

    async def _write(self) -> None:
        while not self._is_over:
            await self._filled.wait()
            self._filled.clear()
            self._written.clear()
            while self._outbox and not self._is_over:
                subject, payload, reply = self._outbox.popleft()
                self._outbox_size -= len(payload)
                if self._client is not None and self._client.is_connected:
                    try:
                        await self._client.publish(subject, payload, reply)
                    except Exception as ex:  # of one message, such as one that is too long for the broker of now
                        self._on_error(ex)
            self._written.set()

    # --- receiving ---

    def join(self, receive: Receiver, observer: Observer | None = None) -> str:
        """Return a private subject; a function is called with its messages, and with those of the subjects below it."""
        self._n_private += 1
        name = f'c{self._n_private}'
        self._private[name] = receive
        if observer is not None:
            self._observers[name] = observer
        return f'{self._inbox}.{name}'

    def leave(self, private: str) -> None:
        """End the use of a private subject."""
        name = private.rpartition('.')[2]
        self._private.pop(name, None)
        self._observers.pop(name, None)

    def _received(self, message: Msg) -> None:
        name = message.subject[len(self._inbox) + 1 :].partition('.')[0]
        if (receive := self._private.get(name)) is not None:
            receive(message)
