"""`StreamServer`: accepts TCP connections for the compiled transport."""

from __future__ import annotations

import asyncio
import errno
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

__all__ = ['StreamServer']

_PAUSE = 1.0  # seconds without accepting, after the system had no room for another connection
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class StreamServer(asyncio.AbstractServer):
    """A server on one listening socket, which it owns.

    `accept` is called with the non-blocking socket of each new connection. NotImplementedError is raised if the loop
    has no ``add_reader``; then the caller keeps the socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        backlog: int,
        accept: Callable[[socket.socket], object],
    ) -> None:
        self._loop, self._sock, self._backlog, self._accept = loop, sock, backlog, accept
        self._is_serving = False
        self._retry: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] = loop.create_future()
        sock.listen(backlog)
        self._resume()
        self._is_serving = True

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock.fileno(), self._accept_waiting)

    def _accept_waiting(self) -> None:
        """Accept the connections that wait, at most as many as may wait."""
        for _ in range(max(1, self._backlog)):
            try:
                sock, _addr = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as ex:
                self._pause(ex)
                return
            sock.setblocking(False)
            try:
                self._accept(sock)
            except Exception as ex:
                sock.close()
                self._report('A new connection could not be used', ex)
            if not self._is_serving:
                return

    def _pause(self, error: OSError) -> None:
        """Accept no connections for a while: those that wait would be reported again and again."""
        if error.errno in _NO_ROOM:
            self._loop.remove_reader(self._sock.fileno())
            self._retry = self._loop.call_later(_PAUSE, self._resume)
        self._report('Connections cannot be accepted', error)

    def _report(self, message: str, error: Exception) -> None:
        context: dict[str, Any] = {
            'message': message,
            'exception': error,
            'socket': TransportSocket(self._sock),
        }
        self._loop.call_exception_handler(context)

    @property
    def sockets(self) -> tuple[Any, ...]:
        """tuple: The listening socket; empty after `close`."""
        return (TransportSocket(self._sock),) if self._is_serving else ()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Return whether connections are accepted."""
        return self._is_serving

    async def start_serving(self) -> None:
        """Do nothing: connections are accepted from the beginning."""

    async def serve_forever(self) -> None:
        """Wait until the task is cancelled, which closes the server, or the server is closed, which cancels the task.

        Raises RuntimeError if the server is closed already.
        """
        if not self._is_serving:
            raise RuntimeError(f'{self!r} is closed')
        try:
            await asyncio.shield(self._closed)
        finally:
            self.close()
        raise asyncio.CancelledError

    def close(self) -> None:
        """Accept no more connections; those that were accepted stay open."""
        if not self._is_serving:
            return
        self._is_serving = False
        if not self._loop.is_closed():
            if self._retry is not None:
                self._retry.cancel()
            else:
                self._loop.remove_reader(self._sock.fileno())
            self._loop.call_soon(self._finish)
        self._sock.close()

    def _finish(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until the server is closed."""
        await asyncio.shield(self._closed)
