"""The main program: ``python -m system.main FOLDER SEED NAME=URI …`` sends to all rigs until stdin is closed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

from echorig import EchoError, EchoProtocol, Services, ServicesError, Tuning

from .event_log import EventLog
from .program import ECHO_TIMEOUT, EVERYTHING, Program

_PATIENCE = 30.0  # seconds
_EVENTS = ([1], [4], [8], [64, 20])  # EXPINIT, EXPEND, EXPCLEANUP, EXPINFO


class Main(Program):
    """The main program, and its clients of the rigs by name."""

    def __init__(self, log: EventLog, seed: str, rigs: dict[str, EchoProtocol]) -> None:
        super().__init__(log, seed)
        self.rigs = rigs
        self.sets = [Services(rigs.values(), timeout=timeout) for timeout in (0.6, 1.2, 2.5)]
        for name, com in rigs.items():
            com.assign_callback(EVERYTHING, lambda data, addr, event: self.log_delivery(data))
            com.default_echo_timeout = ECHO_TIMEOUT
            if com.protocol == 'udp':
                log('port', rig=name, port=com._transport.get_extra_info('sockname')[1])
            for work in (self.converse, self.converse, self.burst, self.cancel_sends, self.ping):
                self.start_task(work(name, com))
        for _ in range(3):
            self.start_task(self.call())
        self.start_task(self.block_sometimes())

    async def converse(self, name: str, com: EchoProtocol) -> None:
        """Send one message after another, concurrently with other tasks."""
        while not self.stopping.is_set():
            await self.send_confirmed(com, name, self.random.choice(_EVENTS))
            await self.pause(0.05)

    async def burst(self, name: str, com: EchoProtocol) -> None:
        """Send many messages at once, with and without waiting for confirmation."""
        while not self.stopping.is_set():
            await self.pause(2.0)
            if self.random.random() < 0.3:
                await asyncio.gather(*(self.send_confirmed(com, name, [2]) for _ in range(self.random.randint(2, 12))))
            else:
                for _ in range(self.random.choice((1, 5, 20, 70, 150))):
                    self.send_unconfirmed(com, name, [32, 20])

    async def cancel_sends(self, name: str, com: EchoProtocol) -> None:
        """Cancel sends before their time-out."""
        while not self.stopping.is_set():
            await self.pause(3.0)
            sending = asyncio.ensure_future(self.send_confirmed(com, name, [2]))
            await asyncio.wait({sending}, timeout=self.random.choice((0.0, 0.01, 0.1, 1.0)))
            sending.cancel()
            await asyncio.wait({sending})

    async def ping(self, name: str, com: EchoProtocol) -> None:
        """Ping the rig at random times."""
        while not self.stopping.is_set():
            await self.pause(2.0)
            with contextlib.suppress(EchoError):
                await com.ping(timeout=self.random.choice((0.1, 1.0)))

    async def call(self) -> None:
        """Call all rigs again and again, concurrently with other tasks."""
        while not self.stopping.is_set():
            await self.pause(0.3)
            rigs, content = self.random.choice(self.sets), {'id': self.new_id(), 'asks': True}
            for name in rigs:
                self.log('send', id=content['id'], to=name, kind='call', timeout=ECHO_TIMEOUT, patience=rigs.timeout)
            answers, failures = {}, {}
            try:
                if self.random.random() < 0.7:
                    answers = await rigs.info('RUNNING', data=content)
                else:
                    answers = await rigs.init(data=content)
            except ServicesError as ex:
                answers, failures = ex.responses, ex.failures
            for name in rigs:
                error = failures.get(name)
                self.log(
                    'end',
                    id=content['id'],
                    to=name,
                    outcome='ok' if error is None else type(error).__name__,
                    text='' if error is None else str(error),
                    answer=answers[name][-1] if error is None else None,
                )

    async def block_sometimes(self) -> None:
        """Block the event loop at random times."""
        while not self.stopping.is_set():
            await self.pause(8.0)
            self.block()

    async def send_last(self, name: str, com: EchoProtocol) -> None:
        """Send the last message; it must be confirmed, since only the network is still faulty."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while not com.is_connected and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        await self.send_confirmed(com, name, [2], kind='last', timeout=_PATIENCE)


async def run(folder: str, seed: str, *uris: str) -> None:
    """Run the main program until stdin is closed."""
    quick: Any = {'tuning': Tuning(max_reconnect_delay=0.5)}
    pairs = [uri.split('=') for uri in uris]
    rigs = {name: await EchoProtocol.client(uri, name, **quick) for name, uri in pairs}
    main = Main(EventLog(folder, 'main'), seed, rigs)
    await main.stopping.wait()
    await main.finish()
    await asyncio.gather(*(main.send_last(name, com) for name, com in rigs.items()))
    for com in rigs.values():
        com.close()
        await com.wait_closed()


if __name__ == '__main__':
    asyncio.run(run(*sys.argv[1:]))
