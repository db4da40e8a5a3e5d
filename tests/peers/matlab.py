"""A rig as MATLAB speaks it by hand, over UDP: what it does with a message, and what it says itself.

1. It takes a frame that is equal to its own last message for the echo of that message, and does nothing.
2. It reads 512 bytes of a datagram at most; the rest is lost to it, and to its echo.
3. It reads bytes as characters, and the event code from between the bracket and the comma.
4. Where its handler fails it sends a notice with the message quoted as third element, or answers EXPSTART
   with EXPINTERRUPT.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from rigs import RawUdp

__all__ = ['Matlab']


class Matlab(RawUdp):
    """A rig that speaks like MATLAB; open it with ``await Matlab.open()``.

    Attributes
    ----------
    messages : asyncio.Queue of (int, str)
        The code and the characters of each message read that was not taken for an echo.
    confirmed : asyncio.Queue of str
        Its own messages whose echo came.
    answers : dict of int to str
        The data with which it answers each event; one that is not in it gets no answer.
    fails : dict of int to str
        The events on which its handler fails, and with which text.
    interrupts : bool
        Whether it says so with EXPINTERRUPT (if the event is EXPSTART) and not with a notice.
    """

    buffer = 512

    def __init__(self) -> None:
        super().__init__()
        self.messages: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.confirmed: asyncio.Queue[str] = asyncio.Queue()
        self.answers: dict[int, str] = {}
        self.fails: dict[int, str] = {}
        self.interrupts = False
        self._last = b''

    def datagram_received(self, data: bytes, addr: Any) -> None:
        read = data[: self.buffer]
        text = read.decode('latin-1')
        if read == self._last[: self.buffer]:
            self.confirmed.put_nowait(text)
            return
        code = re.match(r'\[(\d+)[,\]]', text)
        if code is None:
            self.messages.put_nowait((-1, text))
            self.transport.sendto(read, addr)
            return
        event = int(code.group(1))
        self.messages.put_nowait((event, text))
        if event == 0:
            return
        self.transport.sendto(read, addr)
        if event in self.fails:
            self._fail(event, text, addr)
        elif event in self.answers:
            self.tell(f'[{event}, {json.dumps(self.answers[event])}]', addr)

    def _fail(self, event: int, text: str, addr: Any) -> None:
        why = json.dumps(self.fails[event])
        if self.interrupts and event == 2:
            self.tell(f'[16, {why}]', addr)
        else:
            self.tell(f'[0, {why}, {json.dumps(text)}]', addr)

    def tell(self, text: str, addr: Any) -> None:
        """Send a message of its own and remember it."""
        self._last = text.encode('ascii')
        self.transport.sendto(self._last, addr)

    async def next_message(self) -> tuple[int, str]:
        """Return the next message that it read."""
        return await asyncio.wait_for(self.messages.get(), 10)

    async def next_confirmed(self) -> str:
        """Return the next of its own messages that was echoed, as far as it could read it."""
        return await asyncio.wait_for(self.confirmed.get(), 10)
