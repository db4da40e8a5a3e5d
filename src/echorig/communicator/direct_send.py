"""Confirmed sends without a coroutine, for calls on many rigs at once.

1. The sends of all rigs are prepared first. Then their frames are given to the system one right after the other.
2. This is possible for a client whose documented methods are those of this package. A method that a program has
   replaced, of the class or of one object, is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from ..checks import timeout_or_default
from ..events._reply_context import OutgoingRequest
from ..events.event_queue import EventQueue, bits
from ..messages import ExpMessage
from ..wire._codec import as_bytes, encode_event
from ._pipeline import MessagePipeline, PreparedSend
from .sender import Failure, Sender
from .service import Service
from .subject_book import Addresses

__all__ = ['COMPOSING', 'DirectSend', 'DirectSender', 'composed_once']

Call = tuple[str, tuple[Any, ...], dict[str, Any]]
"""The name of a method of a rig, and its arguments."""

COMPOSING = ('init', 'start', 'stop', 'status', 'info', 'cleanup')
"""tuple: The methods that send what the method of `Service` with the same name returns."""


def composed_once(rig: Any, call: Call) -> tuple[Any, bytes] | None:
    """Return the parts of the message that a call sends, and its bytes; None if only the method itself can do it."""
    method, args, kwargs = call
    try:
        if method in COMPOSING:
            parts = getattr(Service, method)(rig, *args, **kwargs)
        elif method == 'confirmed_send' and len(args) == 1 and not kwargs:
            (parts,) = args
        else:
            return None
        frame = encode_event(parts)
    except Exception:  # the method raises it, for each rig
        return None
    return None if frame is None else (parts, frame)


class DirectSender:
    """Sends for the client with a `receiver_id`.

    `timeout` returns its default time-out, `on_failure` is called with each failure. `methods` are the documented
    methods as they are defined, by name.
    """

    _by_receiver: ClassVar[WeakValueDictionary[object, DirectSender]] = WeakValueDictionary()

    def __init__(
        self,
        receiver_id: object,
        pipeline: MessagePipeline,
        queue: EventQueue,
        sender: Sender,
        addresses: Addresses,
        timeout: Callable[[], float],
        on_failure: Callable[[Failure], object],
        methods: Mapping[str, Callable[..., Any]],
    ) -> None:
        self._pipeline, self._queue, self._sender, self._addresses = pipeline, queue, sender, addresses
        self._timeout, self._on_failure, self._methods = timeout, on_failure, methods
        self._by_receiver[receiver_id] = self  # as long as the communicator keeps this object

    @classmethod
    def of(cls, rig: Any, method: str) -> DirectSender | None:
        """Return what can send in place of a method of a rig; None if the method must be called."""
        sender = cls._registered(rig)
        return sender if sender is not None and sender.is_in_use(rig, method) else None

    @classmethod
    def progress_of(cls, rig: Any) -> int | None:
        """Return a number that grows with all that a client receives; None for another rig."""
        sender = cls._registered(rig)
        return None if sender is None else sender.count_received()

    @classmethod
    def _registered(cls, rig: Any) -> DirectSender | None:
        receiver_id = getattr(rig, 'receiver_id', None)
        return cls._by_receiver.get(receiver_id) if type(receiver_id) is object else None  # else it is a mock

    def count_received(self) -> int:
        """Return that number of this client."""
        return self._pipeline.count_received()

    def is_in_use(self, rig: Any, method: str) -> bool:
        """Return whether no program has replaced a method of the client, or the one that it calls."""
        for name in (method, 'confirmed_send', 'on_event', 'assign_callback'):
            if getattr(getattr(rig, name), '__func__', None) is not self._methods[name]:
                return False
        return rig.encode is as_bytes

    def add_waiter(self, event: ExpMessage) -> asyncio.Future[Any]:
        """Return a future for the next message of an event, as `on_event` has; it fails as that does."""
        return self._queue.add_waiter(bits(event))

    def remove_waiter(self, waiter: asyncio.Future[Any]) -> None:
        """Remove such a future."""
        self._queue.remove_waiter(waiter)

    def prepare(self, parts: Any, frame: bytes, request: OutgoingRequest) -> DirectSend:
        """Prepare a send; raises what `confirmed_send` raises before it waits."""
        timeout = timeout_or_default(None, self._timeout())
        prepared = self._pipeline.prepare_send(parts, frame, self._addresses.server, timeout, request)
        return DirectSend(prepared, self._sender, self._on_failure)


class DirectSend:
    """A confirmed send; `future` is done when it is confirmed or has failed."""

    def __init__(self, prepared: PreparedSend, sender: Sender, on_failure: Callable[[Failure], object]) -> None:
        self.prepared = prepared
        self.future: asyncio.Future[Any] = prepared.send.future
        self._sender, self._on_failure = sender, on_failure

    def cancel(self) -> None:
        """Stop waiting, unless it has ended."""
        if not self.future.done():
            self._sender.cancel(self.prepared.send)
            self.future.cancel()
            self._on_failure(Failure.of(self.prepared.send, asyncio.CancelledError()))

    def note_failure(self, error: BaseException) -> None:
        """Note the error with which it has failed."""
        self._on_failure(Failure.of(self.prepared.send, error))
