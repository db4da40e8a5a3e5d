"""UDP programs that are no rigs, or bad ones: what they send back is a function of what they receive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

__all__ = ['UdpProgram', 'udp_program']

Answer = Callable[[bytes], 'bytes | None']


class UdpProgram(asyncio.DatagramProtocol):
    """Answers each datagram, from the socket that received it or from another one."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.received: list[bytes] = []
        self.transport: asyncio.DatagramTransport
        self.sender: asyncio.DatagramTransport | None = None

    @property
    def uri(self) -> str:
        host, port = self.transport.get_extra_info('sockname')[:2]
        return f'udp://{host}:{port}'

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append(data)
        answer = self._answer(data)
        if answer is not None:
            (self.sender or self.transport).sendto(answer, addr)


@contextlib.asynccontextmanager
async def udp_program(
    answer: Answer, host: str = '127.0.0.1', answers_from: str | None = None
) -> AsyncIterator[UdpProgram]:
    """Run a program, which answers from another address of this computer if `answers_from` is given."""
    loop = asyncio.get_running_loop()
    _, program = await loop.create_datagram_endpoint(lambda: UdpProgram(answer), local_addr=(host, 0))
    if answers_from is not None:
        port = program.transport.get_extra_info('sockname')[1]
        program.sender, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=(answers_from, port)
        )
    try:
        yield program
    finally:
        program.transport.close()
        if program.sender is not None:
            program.sender.close()
        await asyncio.sleep(0)
