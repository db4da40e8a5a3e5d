"""The base of the rig and the main program: they send, log what they receive, and end when stdin is closed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
from random import Random
from typing import Any

from echorig import ConnectionClosedError

from .event_log import EventLog

EVERYTHING = 127  # all events but ALYX
ECHO_TIMEOUT = 1.0  # seconds, of the messages of a call
_TIMEOUTS = (0.3, 0.6, 1.2, 3.0)


class Program:
    """One run of a program.

    Parameters
    ----------
    log : EventLog
        The event log of this run.
    seed : str
        The seed of its random choices.
    """

    def __init__(self, log: EventLog, seed: str) -> None:
        self.log = log
        self.random = Random(seed)
        self.stopping = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: log('escaped', text=repr(context)))
        log.watch_clock()

        def wait() -> None:
            while os.read(0, 4096):
                pass
            loop.call_soon_threadsafe(self.stopping.set)

        threading.Thread(target=wait, daemon=True).start()

    def new_id(self) -> str:
        """Return an id for a message; the link finds it by its form."""
        return f'#{self.log.by}.{next(self._numbers)}'

    def log_delivery(self, data: list[Any]) -> dict[str, Any]:
        """Log that a message was delivered; return its content."""
        content: dict[str, Any] = data[-1]
        self.log('delivered', id=content['id'])
        return content

    def block(self) -> None:
        """Block the event loop for a random time."""
        since = time.monotonic()
        time.sleep(self.random.uniform(0.2, 1.5))
        self.log('blocked', since=since, until=time.monotonic())

    async def pause(self, seconds: float) -> None:
        """Wait for a random time with this mean, or until the program stops."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), self.random.expovariate(1 / seconds))

    async def send_confirmed(
        self, com: Any, to: str, message: list[Any], addr: Any = None, kind: str = 'confirmed', **more: Any
    ) -> bool:
        """Send a message and wait for its confirmation; log the start and the outcome."""
        timeout = more.pop('timeout', None) or self.random.choice(_TIMEOUTS)
        content = {'id': self.new_id(), **more}
        if self.random.random() < 0.05:
            content['padding'] = 'x' * self.random.randrange(3000)
        self.log('send', id=content['id'], to=to, kind=kind, timeout=timeout, **more)
        outcome, text = 'cancelled', ''
        try:
            await com.confirmed_send([*message, content], addr=addr, timeout=timeout)
            outcome = 'ok'
        except Exception as ex:
            outcome, text = type(ex).__name__, str(ex)
        finally:
            self.log('end', id=content['id'], to=to, outcome=outcome, text=text)
        return outcome == 'ok'

    def send_unconfirmed(self, com: Any, to: str, message: list[Any], addr: Any = None) -> None:
        """Send a message without waiting for its confirmation."""
        content = {'id': self.new_id()}
        self.log('send', id=content['id'], to=to, kind='unconfirmed')
        try:
            com.send([*message, content], addr=addr)
        except (ConnectionClosedError, OSError) as ex:  # the connection is closed, or the queue is full
            self.log('end', id=content['id'], to=to, outcome='refused', text=str(ex))

    def start_task(self, work: Any) -> None:
        """Run a coroutine as a task; log its exception."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log('escaped', text=repr(task.exception()))

    async def finish(self) -> None:
        """Wait for all tasks."""
        while self.tasks:
            await asyncio.wait(self.tasks)
