"""The messages that a fake rig has received."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from ..aliases import AnyEvent
from ..errors import EchoTimeoutError
from ..messages import ExpMessage
from ..security.redaction import redact_frame
from ..uri import Address

__all__ = ['Inbox', 'Received']


class Received(NamedTuple):
    """A message that a rig has received."""

    event: ExpMessage | None
    """ExpMessage or None: Its event; None if the bytes are no message."""
    data: list[Any]
    """list: The data after the event; empty if the bytes are no message."""
    addr: Address
    """tuple of (str, int): The address of the sender."""
    frame: bytes
    """bytes: The bytes on the wire, as far as the rig has read them."""
    time: float
    """float: When it was received, on the clock of `time.monotonic`, in seconds."""

    def __repr__(self) -> str:
        event = None if self.event is None else self.event.name or 'notice'
        return f'Received({event}, {redact_frame(self.frame)!r}, {self.addr}, {self.time})'


class Inbox:
    """All messages of a rig, in the order of arrival, and those that no `wait_for` has returned yet."""

    def __init__(self, name: str) -> None:
        self.all: list[Received] = []
        self._name = name
        self._unread: list[Received] = []
        self._changed = asyncio.Event()

    def add(self, message: Received) -> None:
        """Add a message."""
        self.all.append(message)
        self._unread.append(message)
        self._changed.set()

    async def wait_for(self, event: AnyEvent | None, timeout: float) -> Received:
        """Return the first unread message of an event, or of any event (None)."""
        wanted = None if event is None else ExpMessage.validate(event)
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            for i, message in enumerate(self._unread):
                found = message.event
                if wanted is None or (found is not None and (found & wanted or found == wanted)):
                    return self._unread.pop(i)
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, end - loop.time()))
            except asyncio.TimeoutError:
                what = 'nothing' if wanted is None else f'no {wanted.name or "notice"}'
                names = [str(one.event.name if one.event else redact_frame(one.frame)) for one in self.all]
                raise EchoTimeoutError(
                    f'{self._name} has received {what} within {timeout} s; so far: {", ".join(names) or "nothing"}'
                ) from None
