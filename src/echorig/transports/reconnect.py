"""`Reconnecting`: a TCP client that has lost its server looks for it until it is found, or closed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING

from ..errors import TLSError
from ..stall import wait_for

if TYPE_CHECKING:
    from ..communicator.link import Link

__all__ = ['Reconnecting']

_JITTER = 0.25  # many clients of one server must not come back at the same moment


class Reconnecting:
    """One attempt after another, at growing intervals.

    The interval begins anew only after a connection that has lasted, so that a server which accepts and hangs up
    is not asked without end.

    Parameters
    ----------
    owner : Link
        The client.
    connect : callable
        One attempt: it raises, or the owner is connected.
    """

    def __init__(self, owner: Link, connect: Callable[[], Awaitable[None]]) -> None:
        self._owner = owner
        self._connect = connect
        self._delay = owner.tuning.first_reconnect
        self._since = monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, now that the connection is lost."""
        if self._task is None or self._task.done():
            if monotonic() - self._since > self._owner.tuning.max_reconnect:
                self._delay = self._owner.tuning.first_reconnect
            self._task = self._owner._loop.create_task(self._run())

    def stop(self) -> None:
        """End, whatever it is doing."""
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        """Wait until nothing goes on any more."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        owner, tuning, attempts = self._owner, self._owner.tuning, 0
        while not owner._delivery.closed:
            delay = self._delay * random.uniform(1 - _JITTER, 1 + _JITTER)
            self._delay = min(2 * self._delay, tuning.max_reconnect)
            await asyncio.sleep(delay)
            attempts += 1
            try:
                await wait_for(self._connect(), tuning.reconnect_timeout)
            except Exception as ex:  # refused, unreachable, out of time, no certificate: all of it may pass
                level = logging.DEBUG
                if isinstance(ex, TLSError):  # somebody must put it right
                    level, owner._lost_because = logging.WARNING, ex
                owner._log.log(level, 'Attempt %d to reach %s again: %s', attempts, owner.server_uri, ex)
            else:
                self._since = monotonic()
                owner._log.info('Connected with %s again (attempt %d)', owner.server_uri, attempts)
                if owner.is_connected:
                    break  # or it was lost again while this task still ran
