"""One run of a rig: ``python -m system.rig FOLDER RUN URI SEED``; it answers calls, and speaks unasked."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from echorig import EchoProtocol

from .notes import Notes
from .program import ECHO_TIMEOUT, EVERYTHING, Program

_UNASKED = [32, 20]  # EXPSTATUS: no call waits for it, so nothing of this kind is taken for an answer


class Rig(Program):
    """One run of a rig, whose name is the first part of that of the run."""

    def __init__(self, notes: Notes, seed: str, com: EchoProtocol) -> None:
        super().__init__(notes, seed)
        self.name = notes.by.partition('.')[0]
        self.com = com
        self.addr: Any = None
        com.assign_callback(EVERYTHING, self.heard)

    def heard(self, data: list[Any], addr: Any, event: int) -> None:
        """Take a message; it has been confirmed already."""
        content = self.hear(data)
        if self.addr is None:
            self.begin(self.speak())
        self.addr = addr
        if content.get('asks'):
            self.begin(self.answer([int(event), *data[:-1]], content['id'], addr))
        if self.dice.random() < 0.001:
            self.block()

    async def answer(self, message: list[Any], question: str, addr: Any) -> None:
        """Answer a call after a while, so that answers come in any order, and some too late."""
        await asyncio.sleep(self.dice.choice((0.0, 0.0, 0.02, 0.1, 0.1, 1.0)) * self.dice.random())
        await self.tell(
            self.com, 'main', message, addr, 'answer', timeout=ECHO_TIMEOUT, answers=question, rig=self.name
        )

    async def speak(self) -> None:
        """Say something unasked, now and then."""
        while not self.over.is_set():
            if self.dice.random() < 0.8:
                await self.tell(self.com, 'main', _UNASKED, self.addr)
            else:
                for _ in range(self.dice.randint(1, 20)):
                    self.post(self.com, 'main', _UNASKED, self.addr)
            await self.pause(0.15)


async def run(folder: str, by: str, uri: str, seed: str) -> None:
    """Be a rig until stdin ends."""
    notes = Notes(folder, by)
    async with await EchoProtocol.server(uri, by) as com:
        rig = Rig(notes, seed, com)
        notes('began', pid=os.getpid())
        await rig.over.wait()
        await rig.finish()


if __name__ == '__main__':
    asyncio.run(run(*sys.argv[1:]))
