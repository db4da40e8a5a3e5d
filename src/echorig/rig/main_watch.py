"""`MainWatch`: notices that the main PC of a session goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..communicator import EchoProtocol
from ..errors import ConnectionClosedError, EchoError, EchoTimeoutError
from ..events.notifier import ConnectionEvent
from ..uri import Address

__all__ = ['MainWatch']

_INTERVAL = 1.0  # seconds between two pings
_PING_TIMEOUT = 2.0  # seconds
_SILENCE = 2  # pings without echo, after which the main PC is lost


class MainWatch:
    """Pings the main PC while `current` returns its address; calls `on_lost` once, until it returns another or None.

    A main PC that does not run echorig is not pinged: MATLAB may take an echo for a message.
    """

    def __init__(
        self, com: EchoProtocol, current: Callable[[], Address | None], on_lost: Callable[[Exception], None]
    ) -> None:
        self._com, self._current, self._on_lost = com, current, on_lost
        self._lost: Address | None = None
        self._task = asyncio.ensure_future(self._run())
        com.assign_connection_callback(self._on_connection)

    async def close(self) -> None:
        """Stop watching."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        n_silent, former = 0, None
        while True:
            await asyncio.sleep(_INTERVAL)
            addr = self._current()
            if addr != former:
                n_silent, former = 0, addr
            if addr is None:
                self._lost = None
            if addr is None or addr == self._lost:
                continue
            statistics = self._com.peers.get(addr)
            if statistics is None or statistics.kind != 'echorig':
                continue
            try:
                await self._com.ping(addr, timeout=_PING_TIMEOUT)
                n_silent = 0
            except EchoTimeoutError as ex:
                n_silent += 1
                if n_silent >= _SILENCE:
                    self._lose(addr, ex)
            except (EchoError, OSError) as ex:
                self._lose(addr, ex)

    def _on_connection(self, event: ConnectionEvent) -> None:
        if event.state == 'lost' and event.addr == self._current():
            self._lose(event.addr, ConnectionClosedError(f'The connection of {event.addr[0]}:{event.addr[1]} was lost'))

    def _lose(self, addr: Address, error: Exception) -> None:
        if self._lost != addr:
            self._lost = addr
            self._on_lost(error)
