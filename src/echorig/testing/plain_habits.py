"""Rigs without hardware that speak like iblutil or like MATLAB, with raw bytes on a socket.

1. iblutil echoes everything as it is. Whatever comes while it waits for an echo it takes for that echo: if it is
   another, or none comes in time, it closes itself for good.
2. MATLAB reads so many bytes of a datagram and echoes these. It takes what is equal to its own last message for the
   echo of that. It reads the event code; its notices quote the message instead of naming the event.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from .. import sockets
from .._codec import encode
from .._framing import FrameSplitter
from .._tags import is_ping
from ..errors import ConnectionClosedError, EchoError, EchoMismatchError, EchoTimeoutError
from ..messages import ExpMessage
from ..protocol import EchoProtocol
from ..redact import shown
from ..tuning import DEFAULT_TUNING
from ..uri import Address, Uri, as_address
from .habits import Habits
from .script import Received

__all__ = ['Iblutil', 'Matlab']


class Iblutil(Habits):
    """Speaks like iblutil, over UDP or TCP."""

    def __init__(self, rig: Any) -> None:
        super().__init__(rig)
        self._awaiting: dict[Address, tuple[bytes, asyncio.Future[None]]] = {}
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self.streams: dict[Address, asyncio.Transport] = {}
        self._open: set[asyncio.BaseTransport] = set()
        self._all_lost = asyncio.Event()

    async def open(self, uri: Uri) -> Uri:
        loop = asyncio.get_running_loop()
        kwargs: dict[str, Any] = {}
        sock = sockets.bound(uri, kwargs)
        if uri.scheme == 'udp':
            self._datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), **kwargs)
            name = self._datagrams.get_extra_info('socket').getsockname()
        else:
            if sock is None:
                kwargs.update(host=uri.host, port=uri.port)
            self._server = await loop.create_server(lambda: _Stream(self), **kwargs)
            name = self._server.sockets[0].getsockname()
        return Uri(uri.scheme, *as_address(name))

    def receive(self, frame: bytes, addr: Address) -> None:
        """Take a message."""
        if self.rig.silent:
            return
        if not self._is_echo(frame, addr):
            self._new(frame, addr)

    def _is_echo(self, frame: bytes, addr: Address) -> bool:
        if addr not in self._awaiting:
            return False
        sent, echo = self._awaiting[addr]
        if echo.done():
            return False
        if frame == sent:
            echo.set_result(None)
        else:
            echo.set_exception(EchoMismatchError(f'{self.rig.name} expected {shown(sent)}, got {shown(frame)}'))
        return True

    def _new(self, frame: bytes, addr: Address) -> None:
        if is_ping(frame):
            self.transmit(frame, addr)
            return
        heard = self.read(frame, addr)
        reaction = self.rig.heard(heard)
        if frame[1:2] == b'0':
            return
        if reaction.echo:
            self.rig.react(reaction, heard, lambda: self.transmit(heard.frame, addr))

    async def tell(self, message: Any, addr: Address, timeout: float) -> None:
        frame = EchoProtocol.encode(message)
        echo: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaiting[addr] = frame, echo
        self.transmit(frame, addr)
        try:
            await asyncio.wait_for(echo, timeout)
        except asyncio.TimeoutError:
            error: EchoError = EchoTimeoutError(f'{addr} did not echo {shown(frame)} within {timeout} s')
            self._give_up(error)
            raise error from None
        except EchoMismatchError as error:
            self._give_up(error)
            raise
        finally:
            if addr in self._awaiting and self._awaiting[addr][1] is echo:
                del self._awaiting[addr]

    def _give_up(self, error: EchoError) -> None:
        self.rig.gave_up = error
        self.close()

    def transmit(self, frame: bytes, addr: Address) -> None:
        if self._datagrams is not None and not self._datagrams.is_closing():
            self._datagrams.sendto(frame, addr)
        elif addr in self.streams:
            self.streams[addr].write(frame)
        else:
            raise ConnectionClosedError(f'{self.rig.name} is not connected with {addr}')

    def close(self) -> None:
        for transport in (self._datagrams, self._server, *self.streams.values()):
            if transport is not None:
                transport.close()

    async def wait_closed(self) -> None:
        while self._open:
            self._all_lost.clear()
            await self._all_lost.wait()

    def made(self, transport: asyncio.BaseTransport) -> None:
        """Note a socket."""
        self._open.add(transport)

    def lost(self, transport: asyncio.BaseTransport) -> None:
        """Note that a socket is gone."""
        self._open.discard(transport)
        self._all_lost.set()


class Matlab(Iblutil):
    """Speaks like MATLAB, over UDP."""

    _last: tuple[bytes, asyncio.Future[None]] | None = None

    async def open(self, uri: Uri) -> Uri:
        if uri.scheme != 'udp':
            raise ValueError(f'MATLAB speaks UDP only, not {uri.scheme}')
        return await super().open(uri)

    def _is_echo(self, frame: bytes, addr: Address) -> bool:
        read = frame[: self.rig.buffer]
        if self._last is None or read != self._last[0][: self.rig.buffer]:
            return False
        if not self._last[1].done():
            self._last[1].set_result(None)
        return True

    def read(self, frame: bytes, addr: Address) -> Received:
        read = frame[: self.rig.buffer]
        heard = super().read(read, addr)
        code = re.match(rb'\[(\d+)[,\]]', read)
        if heard.event is None and code and int(code[1]) in ExpMessage.__members__.values():
            heard = heard._replace(event=ExpMessage(int(code[1])))  # the rest was cut off
        return heard

    def notice(self, text: str, heard: Received) -> bytes:
        return encode([0, text, heard.frame.decode('latin-1')])

    async def tell(self, message: Any, addr: Address, timeout: float) -> None:
        frame = EchoProtocol.encode(message)
        self._last = frame, asyncio.get_running_loop().create_future()
        echo = self._last[1]
        self.transmit(frame, addr)
        try:
            await asyncio.wait_for(echo, timeout)
        except asyncio.TimeoutError:
            raise EchoTimeoutError(f'{addr} did not echo {shown(frame)} within {timeout} s') from None


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, habits: Iblutil) -> None:
        self._habits = habits

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._habits.made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._habits.lost(self._transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._habits.receive(data, as_address(addr))

    def error_received(self, exc: Exception) -> None:
        """Whoever left is not there any more."""


class _Stream(asyncio.Protocol):
    def __init__(self, habits: Iblutil) -> None:
        self._habits = habits
        self._splitter = FrameSplitter(DEFAULT_TUNING.max_stream_message)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._addr = as_address(transport.get_extra_info('peername'))
        self._habits.made(transport)
        self._habits.streams[self._addr] = transport

    def data_received(self, data: bytes) -> None:
        for frame in self._splitter.feed(data):
            self._habits.receive(frame, self._addr)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._habits.streams.pop(self._addr, None)
        self._habits.lost(self._transport)
