"""`Reconnector`: connects a TCP client again after its connection was lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic

from ..errors import TLSError
from ..stall import wait_for
from .connection import StreamContext

__all__ = ['Reconnector']

_JITTER = 0.25  # spreads the attempts of many clients of one server


class Reconnector:
    """Attempts to connect at growing intervals; `connect` is one attempt, which raises if it fails.

    The interval is reset only after a connection that lasted, so that a server that accepts and closes connections is
    not flooded with attempts.
    """

    def __init__(self, context: StreamContext, uri: str, connect: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._uri = uri
        self._connect = connect
        tuning = context.tuning
        self._first_delay = self._delay = min(tuning.first_reconnect_delay, tuning.max_reconnect_delay)
        self._connected_at = monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the attempts, unless they are running."""
        if self._task is None or self._task.done():
            if monotonic() - self._connected_at > self._context.tuning.max_reconnect_delay:
                self._delay = self._first_delay
            self._task = self._context.loop.create_task(self._run())

    def stop(self) -> None:
        """Cancel the attempts."""
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        """Wait until no attempt is running."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        context, tuning, log, attempts = self._context, self._context.tuning, self._context.log, 0
        while not context.is_closed():
            delay = self._delay * random.uniform(1 - _JITTER, 1 + _JITTER)
            self._delay = min(2 * self._delay, tuning.max_reconnect_delay)
            await asyncio.sleep(delay)
            attempts += 1
            try:
                await wait_for(self._connect(), tuning.reconnect_timeout)
            except Exception as ex:  # refused, unreachable, timed out, no certificate: each may pass
                report = log.debug
                if isinstance(ex, TLSError | PermissionError):  # a person must correct it
                    report = log.warning
                    context.attempt_failed(ex)
                report('Attempt %d to reconnect to %s failed: %s', attempts, self._uri, ex)
            else:
                self._connected_at = monotonic()
                log.info('Reconnected to %s (attempt %d)', self._uri, attempts)
                if context.has_connection():  # else it was lost again while this task still ran
                    break
