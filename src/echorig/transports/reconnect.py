"""`Reconnecting`: a TCP client that has lost its server looks for it until it is found, or closed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import monotonic

from ..errors import TLSError
from ..stall import wait_for
from .connection import StreamContext

__all__ = ['Reconnector']

_JITTER = 0.25  # many clients of one server must not come back at the same moment


class Reconnector:
    """One attempt after another, at growing intervals.

    The interval begins anew only after a connection that has lasted, so that a server which accepts and hangs up
    is not asked without end.

    Parameters
    ----------
    context : StreamContext
        What the connections of the client share.
    uri : str
        The server, for the log.
    connect : callable
        One attempt: it raises, or the client is connected.
    """

    def __init__(self, context: StreamContext, uri: str, connect: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._uri = uri
        self._connect = connect
        tuning = context.tuning
        self._first_delay = min(tuning.first_reconnect_delay, tuning.max_reconnect_delay)
        self._delay = self._first_delay
        self._since = monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, now that the connection is lost."""
        if self._task is None or self._task.done():
            if monotonic() - self._since > self._context.tuning.max_reconnect_delay:
                self._delay = self._first_delay
            self._task = self._context.loop.create_task(self._run())

    def stop(self) -> None:
        """End, whatever it is doing."""
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        """Wait until nothing goes on any more."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        user, tuning, log, attempts = self._context.user, self._context.tuning, self._context.log, 0
        while not user.is_closed():
            delay = self._delay * random.uniform(1 - _JITTER, 1 + _JITTER)
            self._delay = min(2 * self._delay, tuning.max_reconnect_delay)
            await asyncio.sleep(delay)
            attempts += 1
            try:
                await wait_for(self._connect(), tuning.reconnect_timeout)
            except Exception as ex:  # refused, unreachable, out of time, no certificate: all of it may pass
                level = logging.DEBUG
                if isinstance(ex, TLSError):  # somebody must put it right
                    level = logging.WARNING
                    user.attempt_failed(ex)
                log.log(level, 'Attempt %d to reach %s again: %s', attempts, self._uri, ex)
            else:
                self._since = monotonic()
                log.info('Connected with %s again (attempt %d)', self._uri, attempts)
                if user.has_connection():
                    break  # or it was lost again while this task still ran
