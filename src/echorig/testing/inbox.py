"""What a rig without hardware has received."""

from __future__ import annotations

import asyncio

from ..errors import EchoTimeoutError
from ..messages import ExpMessage
from ..security.redaction import redact_frame
from .script import Received

__all__ = ['Inbox']


class Inbox:
    """The messages in the order in which they came, and waiting for the next.

    Parameters
    ----------
    name : str
        Whose they are.

    Attributes
    ----------
    all : list of Received
        The messages.
    """

    def __init__(self, name: str) -> None:
        self.all: list[Received] = []
        self._name = name
        self._new: list[Received] = []
        self._came = asyncio.Event()

    def add(self, message: Received) -> None:
        """Add a message."""
        self.all.append(message)
        self._new.append(message)
        self._came.set()

    async def wait_for(self, event: str | int | ExpMessage | None, timeout: float) -> Received:
        """Return the first message of an event, or of any, that has not been returned yet.

        Raises
        ------
        EchoTimeoutError
            It did not come in time.
        """
        wanted = None if event is None else ExpMessage.validate(event)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            for i, heard in enumerate(self._new):
                if wanted is None or (heard.event is not None and (heard.event & wanted or heard.event == wanted)):
                    return self._new.pop(i)
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), max(0.0, until - loop.time()))
            except asyncio.TimeoutError:
                what = 'nothing' if wanted is None else f'no {wanted.name or "notice"}'
                came = ', '.join(
                    str(heard.event.name if heard.event else redact_frame(heard.frame)) for heard in self.all
                )
                raise EchoTimeoutError(
                    f'{self._name} has received {what} within {timeout} s; so far: {came or "nothing"}'
                ) from None
