"""Rigs without hardware that speak like iblutil, with raw bytes on a socket; and what all legacy rigs have in common.

1. What arrives waits until the rig is not busy, and is then taken in the order of arrival, one frame at a time.
2. iblutil echoes everything as it is. Whatever comes while it waits for an echo it takes for that echo: if it is
   another, or none comes in time, it closes itself for good.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..errors import ConnectionClosedError, EchoError, EchoMismatchError, EchoTimeoutError
from ..security.redaction import redact_frame
from ..transports import sockets
from ..tuning import DEFAULT_TUNING
from ..uri import Address, Uri, as_address
from ..wire._framing import FrameSplitter
from .dialects import Habits

__all__ = ['Iblutil', 'Plain', 'is_empty_array']


def is_empty_array(frame: bytes) -> bool:
    """Tell whether a frame is an array with nothing but whitespace in it, as a ping is."""
    return frame[:1] == b'[' and frame[-1:] == b']' and not frame[1:-1].strip()


class Plain(Habits):
    """The sockets of a rig that knows nothing of tags, and what waits in them."""

    def __init__(self, rig: Any) -> None:
        super().__init__(rig)
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self.streams: dict[Address, asyncio.Transport] = {}
        self._open: set[asyncio.BaseTransport] = set()
        self._all_lost = asyncio.Event()
        self._arrived: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self._blocked = 0
        self.free = asyncio.Event()
        self.free.set()

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
        self._program = loop.create_task(self._run())
        return Uri(uri.scheme, *as_address(name))

    async def _run(self) -> None:
        while True:
            frame, addr = await self._arrived.get()
            await self.free.wait()
            await self.take(frame, addr)
            await asyncio.sleep(0)  # an answer that is due now leaves before the next frame is read

    def be_busy(self, seconds: float) -> None:
        self._blocked += 1
        self.free.clear()
        asyncio.get_running_loop().call_later(seconds, self._unblock)

    def _unblock(self) -> None:
        self._blocked -= 1
        if not self._blocked:
            self.free.set()

    def receive(self, frame: bytes, addr: Address) -> None:
        """Let a frame wait in the socket until the rig reads it."""
        if not self.rig.silent:
            self._arrived.put_nowait((frame, addr))

    @abstractmethod
    async def take(self, frame: bytes, addr: Address) -> None:
        """Read a frame and do what is to be done with it."""

    def transmit(self, frame: bytes, addr: Address) -> None:
        if self._datagrams is not None and not self._datagrams.is_closing():
            self._datagrams.sendto(frame, addr)
        elif addr in self.streams:
            self.streams[addr].write(frame)
        else:
            raise ConnectionClosedError(f'{self.rig.name} is not connected with {addr}')

    def close(self) -> None:
        self._program.cancel()
        for transport in (self._datagrams, self._server, *self.streams.values()):
            if transport is not None:
                transport.close()

    async def wait_closed(self) -> None:
        await asyncio.wait([self._program])
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


class Iblutil(Plain):
    """Speaks like iblutil, over UDP or TCP."""

    def __init__(self, rig: Any) -> None:
        super().__init__(rig)
        self._awaiting: dict[Address, tuple[bytes, asyncio.Future[None]]] = {}

    async def take(self, frame: bytes, addr: Address) -> None:
        try:
            frame.decode()
        except UnicodeDecodeError:  # it fails before it echoes or compares
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
            echo.set_exception(
                EchoMismatchError(f'{self.rig.name} expected {redact_frame(sent)}, got {redact_frame(frame)}')
            )
        return True

    def _new(self, frame: bytes, addr: Address) -> None:
        if is_empty_array(frame):
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
        async with self.turn:
            await self.free.wait()
            echo: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._awaiting[addr] = frame, echo
            try:
                self.transmit(frame, addr)
                await self._confirmed(echo, timeout)
            except asyncio.TimeoutError:
                error: EchoError = EchoTimeoutError(f'{addr} did not echo {redact_frame(frame)} within {timeout} s')
                self._give_up(error)
                raise error from None
            except EchoMismatchError as error:
                self._give_up(error)
                raise
            finally:
                del self._awaiting[addr]

    async def _confirmed(self, echo: asyncio.Future[None], timeout: float) -> None:
        """Wait for an echo; what arrived while the rig was busy is read before it is missed."""
        await asyncio.wait([echo], timeout=timeout)
        while not echo.done() and not self._program.done() and not (self.free.is_set() and self._arrived.empty()):
            await self.free.wait()
            await asyncio.sleep(0)
        if not echo.done():
            raise asyncio.TimeoutError
        echo.result()

    def _give_up(self, error: EchoError) -> None:
        self.rig.gave_up = error
        self.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, habits: Plain) -> None:
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
    def __init__(self, habits: Plain) -> None:
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
