"""The main program: ``python -m system.main FOLDER SEED NAME=URI …``; it talks to all rigs at once until stdin ends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

from echorig import EchoError, EchoProtocol, Services, ServicesError, Tuning

from .notes import Notes
from .program import ECHO_TIMEOUT, EVERYTHING, Program

_PATIENCE = 30.0  # seconds
_EVENTS = ([1], [4], [8], [64, 20])  # EXPINIT, EXPEND, EXPCLEANUP, EXPINFO


class Main(Program):
    """The main program, and its clients of the rigs by name."""

    def __init__(self, notes: Notes, seed: str, rigs: dict[str, EchoProtocol]) -> None:
        super().__init__(notes, seed)
        self.rigs = rigs
        self.sets = [Services(rigs.values(), timeout=timeout) for timeout in (0.6, 1.2, 2.5)]
        for name, com in rigs.items():
            com.assign_callback(EVERYTHING, lambda data, addr, event: self.hear(data))
            com.default_echo_timeout = ECHO_TIMEOUT
            if com.protocol == 'udp':
                notes('port', rig=name, port=com._transport.get_extra_info('sockname')[1])
            for work in (self.converse, self.converse, self.burst, self.lose_patience, self.ping):
                self.begin(work(name, com))
        for _ in range(3):
            self.begin(self.call())
        self.begin(self.stumble())

    async def converse(self, name: str, com: EchoProtocol) -> None:
        """Say one thing after another, beside others who do the same."""
        while not self.over.is_set():
            await self.tell(com, name, self.dice.choice(_EVENTS))
            await self.pause(0.05)

    async def burst(self, name: str, com: EchoProtocol) -> None:
        """Say many things at once, with and without waiting."""
        while not self.over.is_set():
            await self.pause(2.0)
            if self.dice.random() < 0.3:
                await asyncio.gather(*(self.tell(com, name, [2]) for _ in range(self.dice.randint(2, 12))))
            else:
                for _ in range(self.dice.choice((1, 5, 20, 70, 150))):
                    self.post(com, name, [32, 20])

    async def lose_patience(self, name: str, com: EchoProtocol) -> None:
        """Stop waiting for a message before its time is up."""
        while not self.over.is_set():
            await self.pause(3.0)
            telling = asyncio.ensure_future(self.tell(com, name, [2]))
            await asyncio.wait({telling}, timeout=self.dice.choice((0.0, 0.01, 0.1, 1.0)))
            telling.cancel()
            await asyncio.wait({telling})

    async def ping(self, name: str, com: EchoProtocol) -> None:
        """Measure the round-trip time now and then."""
        while not self.over.is_set():
            await self.pause(2.0)
            with contextlib.suppress(EchoError):
                await com.ping(timeout=self.dice.choice((0.1, 1.0)))

    async def call(self) -> None:
        """Ask all rigs, again and again, beside others who do the same."""
        while not self.over.is_set():
            await self.pause(0.3)
            rigs, content = self.dice.choice(self.sets), {'id': self.new_id(), 'asks': True}
            for name in rigs:
                self.notes('send', id=content['id'], to=name, kind='call', timeout=ECHO_TIMEOUT, patience=rigs.timeout)
            answers, failures = {}, {}
            try:
                if self.dice.random() < 0.7:
                    answers = await rigs.info('RUNNING', data=content)
                else:
                    answers = await rigs.init(data=content)
            except ServicesError as ex:
                answers, failures = ex.responses, ex.failures
            for name in rigs:
                error = failures.get(name)
                self.notes(
                    'end',
                    id=content['id'],
                    to=name,
                    outcome='ok' if error is None else type(error).__name__,
                    text='' if error is None else str(error),
                    answer=answers[name][-1] if error is None else None,
                )

    async def stumble(self) -> None:
        """Stand still, as a program does that calculates in its event loop."""
        while not self.over.is_set():
            await self.pause(8.0)
            self.block()

    async def part(self, name: str, com: EchoProtocol) -> None:
        """After all that, and with nothing in the way but the network, the last message must be confirmed."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while not com.is_connected and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        await self.tell(com, name, [2], kind='last', timeout=_PATIENCE)


async def run(folder: str, seed: str, *uris: str) -> None:
    """Be the main program until stdin ends."""
    quick: Any = {'tuning': Tuning(max_reconnect_delay=0.5)}
    pairs = [uri.split('=') for uri in uris]
    rigs = {name: await EchoProtocol.client(uri, name, **quick) for name, uri in pairs}
    main = Main(Notes(folder, 'main'), seed, rigs)
    await main.over.wait()
    await main.finish()
    await asyncio.gather(*(main.part(name, com) for name, com in rigs.items()))
    for com in rigs.values():
        com.close()
        await com.wait_closed()


if __name__ == '__main__':
    asyncio.run(run(*sys.argv[1:]))
