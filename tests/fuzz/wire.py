"""What the target `receive` hands a communicator for its transport, and for its log."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

HERE, THERE = '127.0.0.1', '127.0.0.2'
PORT = 11001
LONGEST = 2500  # characters of one record


class Wire:
    """What a communicator takes for its transport: it keeps what is sent."""

    def __init__(self, kind: int, peername: tuple[str, int] | None) -> None:
        self.sock = socket.socket(socket.AF_INET, kind)
        self.extra = {'socket': self.sock, 'peername': peername, 'sockname': (HERE, PORT + 1)}
        self.sent: list[tuple[bytes, Any]] = []
        self.closing = False
        self.error: Exception | None = None
        self.owner: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.extra.get(name, default)

    def sendto(self, data: bytes, addr: Any = None) -> None:
        assert type(data) is bytes
        assert data
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.sent.append((data, addr))

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.sendto(data, self.extra['peername'])

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self._gone)

    abort = close

    def _gone(self) -> None:
        self.sock.close()
        if self.owner is not None:
            self.owner.connection_lost(None)


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.failed: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()  # a record whose text cannot be made is an error too
        if 'could not be processed' in text:
            self.failed.append(f'{text}: {record.exc_info}')
        # Neither as long as a peer likes, nor what a terminal would obey; but how a callback fails here is not his.
        elif len(text) > LONGEST or not (text.isprintable() or text.startswith('Callback "')):
            self.failed.append(text)
