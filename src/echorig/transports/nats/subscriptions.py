"""`Subscriptions`: the subjects of one connection to a NATS broker, kept when the connection is made anew."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from .client import BrokerClient

__all__ = ['Receiver', 'Subscriptions']

Receiver = Callable[['Msg'], Any]
"""A function that is called with each message."""

_IN_USE_TIME = 1.0  # seconds for another server of a subject to answer


class Subscriptions:
    """The subscriptions of one broker; `connected` returns its client, or raises OSError without a connection."""

    def __init__(self, broker: str, connected: Callable[[], BrokerClient]) -> None:
        self._broker, self._connected = broker, connected
        self._subscribed: dict[object, tuple[str, Receiver]] = {}  # the subject and the function of each subscription
        self._subscriptions: dict[object, Subscription] = {}
        self._served: set[str] = set()  # the subjects of servers
        self._refused: dict[str, Exception] = {}  # by subject in lower case

    def note_refused(self, subject: str, error: Exception) -> None:
        """Note that the broker does not allow a subscription; its subject is in lower case."""
        self._refused[subject] = error

    async def renew(self, client: BrokerClient, private: str, receive: Receiver) -> None:
        """Subscribe with a new client: to its private subjects, which have no key, and to all others."""
        with self._os_errors():
            await _subscribe(client, private, receive)
            for key, (subject, receiver) in self._subscribed.items():
                self._subscriptions[key] = await _subscribe(client, subject, receiver)
            await client.flush()
        self._check_allowed(private)

    async def serve(self, subject: str, receive: Receiver) -> object:
        """Call a function with each message of a subject that no other server has; see `subscribe`.

        Raises
        ------
        OSError
            Another server answers there (``EADDRINUSE``), or there is no connection.
        """
        in_use = OSError(errno.EADDRINUSE, f'Another server answers at the subject {subject}')
        if subject in self._served:
            raise in_use
        self._served.add(subject)  # before it is asked, so that of two servers here that start together one fails
        try:
            if await self._is_served(subject):
                raise in_use
            return await self.subscribe(subject, receive)
        except BaseException:
            self._served.discard(subject)
            raise

    async def _is_served(self, subject: str) -> bool:
        """Return whether a server answers at a subject; one that has just died may still be registered."""
        from nats.errors import NoRespondersError
        from nats.errors import TimeoutError as NoAnswer

        with self._os_errors():
            try:
                await self._connected().request(subject, b'', timeout=_IN_USE_TIME)
            except (NoRespondersError, NoAnswer):
                return False
        return True

    async def subscribe(self, subject: str, receive: Receiver) -> object:
        """Call a function with each message of a subject; return the key for `unsubscribe`.

        Raises
        ------
        OSError
            There is no connection.
        PermissionError
            The broker does not allow this subscription.
        """
        client, key = self._connected(), object()
        self._subscribed[key] = subject, receive
        self._refused.pop(subject.lower(), None)
        try:
            with self._os_errors():
                self._subscriptions[key] = await _subscribe(client, subject, receive)
                await client.flush()  # a refusal comes before the answer to this
            self._check_allowed(subject)
        except BaseException:
            await self.unsubscribe(key)
            raise
        return key

    async def unsubscribe(self, key: object) -> None:
        """End a subscription."""
        subject, _ = self._subscribed.pop(key, ('', None))
        self._served.discard(subject)
        subscription = self._subscriptions.pop(key, None)
        if subscription is not None:
            with suppress(OSError), self._os_errors():  # without a connection it is over already
                self._connected()
                await subscription.unsubscribe()

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        """Raise OSError in place of an error of nats-py."""
        from nats.errors import Error

        try:
            yield
        except Error as ex:
            raise OSError(errno.ENETDOWN, f'The broker {self._broker} cannot be used: {ex}') from ex

    def _check_allowed(self, subject: str) -> None:
        if (error := self._refused.pop(subject.lower(), None)) is not None:
            raise PermissionError(f'The broker does not allow to subscribe to {subject}: {error}')


async def _subscribe(client: BrokerClient, subject: str, receive: Receiver) -> Subscription:
    async def received(message: Msg) -> None:
        receive(message)

    return await client.subscribe(subject, cb=received)
