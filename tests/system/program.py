"""What a rig and the main program have in common: they send, note what they hear, and end when their stdin does."""

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

from .notes import Notes

EVERYTHING = 127  # all events but ALYX
ECHO_TIMEOUT = 1.0  # seconds, of the messages of a call
_TIMEOUTS = (0.3, 0.6, 1.2, 3.0)


class Program:
    """One run of a program.

    Parameters
    ----------
    notes : Notes
        Where it notes what happens.
    seed : str
        What its chances are drawn from.
    """

    def __init__(self, notes: Notes, seed: str) -> None:
        self.notes = notes
        self.dice = Random(seed)
        self.over = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: notes('escaped', text=repr(context)))
        notes.watch_clock()

        def wait() -> None:
            while os.read(0, 4096):
                pass
            loop.call_soon_threadsafe(self.over.set)

        threading.Thread(target=wait, daemon=True).start()

    def new_id(self) -> str:
        """Return what a message is known by; the link finds it by its form."""
        return f'#{self.notes.by}.{next(self._numbers)}'

    def hear(self, data: list[Any]) -> dict[str, Any]:
        """Note that a message was delivered; return what it carries."""
        content: dict[str, Any] = data[-1]
        self.notes('delivered', id=content['id'])
        return content

    def block(self) -> None:
        """Stand still as a program does that is busy with something else."""
        since = time.monotonic()
        time.sleep(self.dice.uniform(0.2, 1.5))
        self.notes('blocked', since=since, until=time.monotonic())

    async def pause(self, seconds: float) -> None:
        """Wait for a time with this mean, or for the end."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.over.wait(), self.dice.expovariate(1 / seconds))

    async def tell(
        self, com: Any, to: str, message: list[Any], addr: Any = None, kind: str = 'confirmed', **more: Any
    ) -> bool:
        """Send a message and wait for its confirmation; note when, and what became of it."""
        timeout = more.pop('timeout', None) or self.dice.choice(_TIMEOUTS)
        content = {'id': self.new_id(), **more}
        if self.dice.random() < 0.05:
            content['padding'] = 'x' * self.dice.randrange(3000)
        self.notes('send', id=content['id'], to=to, kind=kind, timeout=timeout, **more)
        outcome, text = 'cancelled', ''
        try:
            await com.confirmed_send([*message, content], addr=addr, timeout=timeout)
            outcome = 'ok'
        except Exception as ex:
            outcome, text = type(ex).__name__, str(ex)
        finally:
            self.notes('end', id=content['id'], to=to, outcome=outcome, text=text)
        return outcome == 'ok'

    def post(self, com: Any, to: str, message: list[Any], addr: Any = None) -> None:
        """Send a message that nobody waits for."""
        content = {'id': self.new_id()}
        self.notes('send', id=content['id'], to=to, kind='unconfirmed')
        try:
            com.send([*message, content], addr=addr)
        except (ConnectionClosedError, OSError) as ex:  # the connection is gone, or too many wait
            self.notes('end', id=content['id'], to=to, outcome='refused', text=str(ex))

    def begin(self, work: Any) -> None:
        """Do something beside everything else; an exception ends it and is noted."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.notes('escaped', text=repr(task.exception()))

    async def finish(self) -> None:
        """Wait for everything that was begun."""
        while self.tasks:
            await asyncio.wait(self.tasks)
