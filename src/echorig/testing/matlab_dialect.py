"""Rigs without hardware that speak like MATLAB, with raw bytes on a socket.

1. One program does one thing at a time: it reads a datagram, echoes it, executes it and sends the answer. What arrives
   meanwhile waits in the socket.
2. It remembers the last frame that it has sent of its own: a message, an answer or a notice, and to whomever. What is
   equal to that is an echo. Anything else, a notice too, is echoed and executed.
3. What it cannot execute (`jsondecode` fails, there is no first element, that is no event) it answers with a notice
   that quotes it. A ping is such a message, and so is one that was longer than the buffer.
4. It never waits for an echo. A frame that it sends before the echo of the one before has come makes it take that
   echo for a command.
"""

from __future__ import annotations

import asyncio
import json
import re
from functools import partial
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..errors import ConnectionClosedError, EchoError, EchoTimeoutError
from ..messages import ExpMessage
from ..security.redaction import redact_frame
from ..uri import Address, Uri
from ..wire._codec import decode, is_raw
from .plain_dialects import Plain, is_empty_array
from .script import Reaction, Received

__all__ = ['Matlab']


class Matlab(Plain):
    """Speaks like MATLAB, over UDP."""

    def __init__(self, rig: Any) -> None:
        super().__init__(rig)
        self._last: bytes | None = None
        self._echo: asyncio.Future[None] | None = None  # of `_last`

    async def open(self, uri: Uri) -> Uri:
        if uri.scheme != 'udp':
            raise ValueError(f'MATLAB speaks UDP only, not {uri.scheme}')
        return await super().open(uri)

    async def take(self, frame: bytes, addr: Address) -> None:
        read = frame[: self.rig.buffer]
        async with self.turn:
            if read != self._last:
                await self._execute(self.read(read, addr))
            elif self._echo is not None and not self._echo.done():
                self._echo.set_result(None)

    async def _execute(self, heard: Received) -> None:
        reaction = Reaction() if is_empty_array(heard.frame) else self.rig.heard(heard)
        if not reaction.echo:
            return
        await asyncio.sleep(reaction.echo_delay)
        self.transmit(heard.frame, heard.addr)
        if (why := _problem(heard.frame)) is not None:
            self._say(self.notice(why, heard), heard.addr)
            return
        await asyncio.sleep(reaction.answer_delay)
        if reaction.notice is not None:
            self._say(self.notice(reaction.notice, heard), heard.addr)
        elif (message := reaction.message(heard)) is not None:
            self._say(_spelled(message), heard.addr).add_done_callback(partial(self.rig.noted, message))

    def read(self, frame: bytes, addr: Address) -> Received:
        heard = super().read(frame.decode('latin-1').encode(), addr)._replace(frame=frame)
        code = re.match(rb'\[(\d+)[,\]]', frame)
        if heard.event is None and code and int(code[1]) in ExpMessage.__members__.values():
            heard = heard._replace(event=ExpMessage(int(code[1])))  # the rest was cut off
        return heard

    def notice(self, text: str, heard: Received) -> bytes:
        return _spelled([0, text, heard.frame.decode('latin-1')])

    async def tell(self, message: Any, addr: Address, timeout: float) -> None:
        async with self.turn:
            await self.free.wait()
            frame = _spelled(message)
            echo = self._say(frame, addr)
        await asyncio.wait([echo], timeout=timeout)
        if not echo.done():
            raise EchoTimeoutError(f'{addr} did not echo {redact_frame(frame)} within {timeout} s')
        if echo.cancelled():
            raise ConnectionClosedError(
                f'{self.rig.name} was switched off before {addr} had echoed {redact_frame(frame)}'
            )
        echo.result()

    def _say(self, frame: bytes, addr: Address) -> asyncio.Future[None]:
        """Send a frame of its own; return a future for the echo."""
        if self._echo is not None and not self._echo.done() and self._last is not None:
            self._echo.set_exception(
                EchoError(f'{self.rig.name} forgot {redact_frame(self._last)} before its echo came')
            )
            self._echo.exception()  # nobody may wait for it
        self._last = frame
        self._echo = asyncio.get_running_loop().create_future()
        self.transmit(frame, addr)
        return self._echo

    def close(self) -> None:
        super().close()
        if self._echo is not None:
            self._echo.cancel()


def _problem(frame: bytes) -> str | None:
    """Say why MATLAB fails to execute what it has read; None if it does not."""
    try:
        message = json.loads(frame.decode('latin-1'))
    except (ValueError, RecursionError):
        return 'JSON syntax error'
    if not isinstance(message, list) or not message:
        return 'Index exceeds the number of array elements'
    if message[0] not in ExpMessage.__members__.values():
        return 'Cannot find the enumeration member'
    return None


def _spelled(message: Any) -> bytes:
    """Return what MATLAB sends: the text of `jsonencode`, one byte for each character."""
    if not is_raw(message):
        text = json.dumps(decode(EchoProtocol.encode(message)), ensure_ascii=False, separators=(',', ':'))
    elif isinstance(message, str):
        text = message
    else:
        return bytes(message)
    return bytes(min(ord(character), 255) for character in text)
