"""Fake rigs without delivery tags, on plain sockets: the common part, and iblutil.

1. A received frame waits until the rig is not busy. Frames are then handled in the order of arrival, one at a time.
2. iblutil echoes every frame unchanged. While it waits for an echo it takes any frame for that echo: if it is another
   one, or none arrives in time, iblutil closes itself for good.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..errors import ConnectionClosedError, EchoMismatchError, EchoTimeoutError
from ..security.redaction import redact_frame
from ..transports import sockets
from ..tuning import DEFAULT_TUNING
from ..uri import Address, Uri, as_address
from ..wire._framing import FrameSplitter
from .dialects import Dialect, RigState

__all__ = ['IblutilDialect', 'LegacyDialect', 'is_empty_array']


def is_empty_array(frame: bytes) -> bool:
    """Return whether a frame is an array without elements, as a ping is."""
    return frame[:1] == b'[' and frame[-1:] == b']' and not frame[1:-1].strip()


class LegacyDialect(Dialect):
    """The sockets of a rig without tags, and the frames that wait in them."""

    def __init__(self, state: RigState) -> None:
        super().__init__(state)
        self._server: asyncio.Server | None = None
        self._sockets: dict[Address | None, _Socket] = {}  # by address of the client; None for UDP
        self._unread: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self._has_frame = False  # one that was taken from the queue and is not handled yet
        self._busy_until = 0.0

    async def open(self, uri: Uri) -> Uri:
        loop = asyncio.get_running_loop()
        kwargs: dict[str, Any] = {}
        sock = sockets.bind_socket(uri, kwargs)
        if uri.scheme == 'udp':
            await loop.create_datagram_endpoint(self._new_socket, **kwargs)
            name = kwargs['sock'].getsockname()
        else:
            if sock is None:
                kwargs.update(host=uri.host, port=uri.port)
            self._server = await loop.create_server(self._new_socket, **kwargs)
            name = self._server.sockets[0].getsockname()
        self._program = loop.create_task(self._run())
        return Uri(uri.scheme, *as_address(name))

    def _new_socket(self) -> _Socket:
        return _Socket(self._sockets, self._receive)

    def _receive(self, frame: bytes, addr: Address) -> None:
        if not self.state.silent:
            self._unread.put_nowait((frame, addr))

    async def _run(self) -> None:
        while True:
            frame, addr = await self._unread.get()
            self._has_frame = True
            await self.wait_until_free()
            with suppress(ConnectionClosedError):
                await self.handle_frame(frame, addr)
            self._has_frame = False
            await asyncio.sleep(0)  # an answer without delay is sent before the next frame is read

    @abstractmethod
    async def handle_frame(self, frame: bytes, addr: Address) -> None:
        """Handle a frame that the rig has read."""

    def set_busy(self, seconds: float) -> None:
        self._busy_until = max(self._busy_until, monotonic() + seconds)

    async def wait_until_free(self) -> None:
        """Wait until the rig is not busy."""
        while True:
            left = self._busy_until - monotonic()
            if left <= 0.0:
                return
            await asyncio.sleep(left)

    async def read_unread(self, echo: asyncio.Future[None]) -> None:
        """Handle the frames that arrived while the rig was busy, until one of them is the echo."""
        while not echo.done() and not self._program.done():
            if monotonic() >= self._busy_until and not self._has_frame and not self._unread.qsize():
                return
            await self.wait_until_free()
            await asyncio.sleep(0)

    def send_unconfirmed(self, message: Any, addr: Address) -> None:
        self.transmit(EchoProtocol.encode(message), addr)

    def transmit(self, frame: bytes, addr: Address) -> None:
        """Send bytes."""
        socket = self._sockets.get(None) or self._sockets.get(addr)
        if socket is None:
            raise ConnectionClosedError(f'{self.state.name} is not connected with {addr}')
        socket.send(frame, addr)

    def close(self) -> None:
        super().close()
        self._program.cancel()
        if self._server is not None:
            self._server.close()
        for socket in self._sockets.values():
            socket.transport.close()

    async def wait_closed(self) -> None:
        await super().wait_closed()
        await asyncio.wait([self._program, *(socket.closed for socket in self._sockets.values())])


class IblutilDialect(LegacyDialect):
    """Talks like iblutil, over UDP or TCP."""

    def __init__(self, state: RigState) -> None:
        super().__init__(state)
        self._pending: dict[Address, tuple[bytes, asyncio.Future[None]]] = {}

    async def handle_frame(self, frame: bytes, addr: Address) -> None:
        try:
            frame.decode()
        except UnicodeDecodeError:  # iblutil fails here, before it echoes or compares
            return
        sent, echo = self._pending.get(addr, (b'', None))
        if echo is None or echo.done():
            self._handle_message(frame, addr)
        elif frame == sent:
            echo.set_result(None)
        else:
            expected, got = redact_frame(sent), redact_frame(frame)
            echo.set_exception(EchoMismatchError(f'{self.state.name} expected {expected}, got {got}'))

    def _handle_message(self, frame: bytes, addr: Address) -> None:
        if is_empty_array(frame):
            self.transmit(frame, addr)
            return
        message = self.parse_frame(frame, addr)
        reaction = self.record(message)
        if frame[1:2] != b'0':  # notices are not echoed
            self.react(reaction, lambda: self.transmit(frame, addr), message)

    async def confirmed_send(self, message: Any, addr: Address, timeout: float) -> None:
        frame = EchoProtocol.encode(message)
        async with self.turn:
            await self.wait_until_free()
            echo: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._pending[addr] = frame, echo
            try:
                self.transmit(frame, addr)
                await asyncio.wait([echo], timeout=timeout)
                await self.read_unread(echo)
                if not echo.done():
                    raise EchoTimeoutError(f'{addr} did not echo {redact_frame(frame)} within {timeout} s')
                echo.result()
            except (EchoTimeoutError, EchoMismatchError) as error:
                self.state.gave_up = error
                self.close()
                raise
            finally:
                del self._pending[addr]


class _Socket(asyncio.DatagramProtocol, asyncio.Protocol):
    """A UDP socket or a TCP connection, which is in `opened` while it is open."""

    transport: Any

    def __init__(self, opened: dict[Address | None, _Socket], receive: Callable[[bytes, Address], None]) -> None:
        self._opened = opened
        self._receive = receive
        self._splitter = FrameSplitter(DEFAULT_TUNING.max_stream_message)
        self._addr: Address | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        peername = transport.get_extra_info('peername')
        self._addr = None if peername is None else as_address(peername)
        self._opened[self._addr] = self

    def connection_lost(self, exc: BaseException | None) -> None:
        self._opened.pop(self._addr, None)
        self.closed.set_result(None)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._receive(data, as_address(addr))

    def data_received(self, data: bytes) -> None:
        assert self._addr is not None
        for frame in self._splitter.feed(data):
            self._receive(frame, self._addr)

    def send(self, frame: bytes, addr: Address) -> None:
        if self._addr is not None:
            self.transport.write(frame)
        elif not self.transport.is_closing():
            self.transport.sendto(frame, addr)
