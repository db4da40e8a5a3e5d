"""Fake rigs that talk like MATLAB, on plain sockets.

1. The program does one thing at a time: it reads a datagram, echoes it, executes it and sends the answer. Meanwhile
   further datagrams wait in the socket.
2. It remembers the last frame that it sent on its own: a message, an answer or a notice, to any address. A received
   frame equal to that is an echo. Any other frame, a notice too, is echoed and executed.
3. If it cannot execute a frame (`jsondecode` fails, there is no first element, or that is no event), it answers with a
   notice that quotes it. That includes pings, and messages longer than the buffer.
4. It never waits for an echo. If it sends another frame before the echo arrives, it takes that echo for a command.
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
from .dialects import RigState
from .legacy_dialects import LegacyDialect, is_empty_array
from .received import Received
from .script import Reaction

__all__ = ['MatlabDialect']


class MatlabDialect(LegacyDialect):
    """Talks like MATLAB, over UDP."""

    def __init__(self, state: RigState) -> None:
        super().__init__(state)
        self._last: bytes | None = None
        self._echo: asyncio.Future[None] | None = None  # of `_last`

    async def open(self, uri: Uri) -> Uri:
        if uri.scheme != 'udp':
            raise ValueError(f'MATLAB speaks UDP only, not {uri.scheme}')
        return await super().open(uri)

    async def handle_frame(self, frame: bytes, addr: Address) -> None:
        read = frame[: self.state.buffer]
        async with self.turn:
            if read != self._last:
                await self._execute(self.parse_frame(read, addr))
            elif self._echo is not None and not self._echo.done():
                self._echo.set_result(None)

    async def _execute(self, message: Received) -> None:
        reaction = Reaction() if is_empty_array(message.frame) else self.record(message)
        if not reaction.echo:
            return
        await asyncio.sleep(reaction.echo_delay)
        self.transmit(message.frame, message.addr)
        error = _execution_error(message.frame)
        if error is None:
            await asyncio.sleep(reaction.answer_delay)
            error = reaction.notice
        if error is not None:
            self._send_own(_to_jsonencode_style([0, error, message.frame.decode('latin-1')]), message.addr)
        elif (answer := reaction.answer_to(message)) is not None:
            echo = self._send_own(_to_jsonencode_style(answer), message.addr)
            echo.add_done_callback(partial(self._record_outcome, answer))

    def _record_outcome(self, message: Any, echo: asyncio.Future[None]) -> None:
        if echo.cancelled():
            return
        if isinstance(error := echo.exception(), EchoError):
            self.state.unconfirmed.append((message, error))
        else:
            self.state.confirmed.append(message)

    def parse_frame(self, frame: bytes, addr: Address) -> Received:
        message = super().parse_frame(frame.decode('latin-1').encode(), addr)._replace(frame=frame)
        code = re.match(rb'\[(\d+)[,\]]', frame)
        if message.event is None and code and int(code[1]) in ExpMessage.__members__.values():
            message = message._replace(event=ExpMessage(int(code[1])))  # the message was truncated
        return message

    async def confirmed_send(self, message: Any, addr: Address, timeout: float) -> None:
        async with self.turn:
            await self.wait_until_free()
            frame = _to_jsonencode_style(message)
            echo = self._send_own(frame, addr)
        await asyncio.wait([echo], timeout=timeout)
        if not echo.done():
            raise EchoTimeoutError(f'{addr} did not echo {redact_frame(frame)} within {timeout} s')
        if echo.cancelled():
            shown = redact_frame(frame)
            raise ConnectionClosedError(f'{self.state.name} was switched off before {addr} had echoed {shown}')
        echo.result()

    def _send_own(self, frame: bytes, addr: Address) -> asyncio.Future[None]:
        """Send a frame that is no echo; return a future for its echo."""
        if self._echo is not None and not self._echo.done() and self._last is not None:
            forgotten = redact_frame(self._last)
            self._echo.set_exception(EchoError(f'{self.state.name} forgot {forgotten} before its echo arrived'))
            self._echo.exception()  # nobody may wait for it
        self._last = frame
        self._echo = asyncio.get_running_loop().create_future()
        self.transmit(frame, addr)
        return self._echo

    def close(self) -> None:
        super().close()
        if self._echo is not None:
            self._echo.cancel()


def _execution_error(frame: bytes) -> str | None:
    """Return the error of MATLAB for a frame that it cannot execute."""
    try:
        message = json.loads(frame.decode('latin-1'))
    except (ValueError, RecursionError):
        return 'JSON syntax error'
    if not isinstance(message, list) or not message:
        return 'Index exceeds the number of array elements'
    if message[0] not in ExpMessage.__members__.values():
        return 'Cannot find the enumeration member'
    return None


def _to_jsonencode_style(message: Any) -> bytes:
    """Encode a message as `jsonencode` of MATLAB does, with one byte for each character."""
    if not is_raw(message):
        text = json.dumps(decode(EchoProtocol.encode(message)), ensure_ascii=False, separators=(',', ':'))
    elif isinstance(message, str):
        text = message
    else:
        return bytes(message)
    return bytes(min(ord(character), 255) for character in text)
