"""One run of a rig: ``python -m system.rig FOLDER RUN URI SEED`` answers calls and sends messages of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from echorig import EchoProtocol

from .event_log import EventLog
from .program import ECHO_TIMEOUT, EVERYTHING, Program

_UNASKED = [32, 20]  # EXPSTATUS: no call waits for it, so it is never taken for an answer


class Rig(Program):
    """One run of a rig; the name of the run starts with the name of the rig."""

    def __init__(self, log: EventLog, seed: str, com: EchoProtocol) -> None:
        super().__init__(log, seed)
        self.name = log.by.partition('.')[0]
        self.com = com
        self.addr: Any = None
        com.assign_callback(EVERYTHING, self.on_message)

    def on_message(self, data: list[Any], addr: Any, event: int) -> None:
        """Process a message, which has already been confirmed."""
        content = self.log_delivery(data)
        if self.addr is None:
            self.start_task(self.send_unasked())
        self.addr = addr
        if content.get('asks'):
            self.start_task(self.answer([int(event), *data[:-1]], content['id'], addr))
        if self.random.random() < 0.001:
            self.block()

    async def answer(self, message: list[Any], question: str, addr: Any) -> None:
        """Answer a call after a random delay, so that answers arrive in any order, and some too late."""
        await asyncio.sleep(self.random.choice((0.0, 0.0, 0.02, 0.1, 0.1, 1.0)) * self.random.random())
        await self.send_confirmed(
            self.com, 'main', message, addr, 'answer', timeout=ECHO_TIMEOUT, answers=question, rig=self.name
        )

    async def send_unasked(self) -> None:
        """Send messages at random times."""
        while not self.stopping.is_set():
            if self.random.random() < 0.8:
                await self.send_confirmed(self.com, 'main', _UNASKED, self.addr)
            else:
                for _ in range(self.random.randint(1, 20)):
                    self.send_unconfirmed(self.com, 'main', _UNASKED, self.addr)
            await self.pause(0.15)


async def run(folder: str, by: str, uri: str, seed: str) -> None:
    """Run a rig until stdin is closed."""
    log = EventLog(folder, by)
    async with await EchoProtocol.server(uri, by) as com:
        rig = Rig(log, seed, com)
        log('began', pid=os.getpid())
        await rig.stopping.wait()
        await rig.finish()


if __name__ == '__main__':
    asyncio.run(run(*sys.argv[1:]))
