"""A session: every rig is told everything, round after round, and each confirmation is timed."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..errors import ServicesError
from ..messages import ExpMessage, ExpStatus
from ..services.services import Services
from .processes import RigProcess

__all__ = ['EVENTS', 'RigRecord', 'Session']

EVENTS = ('ALYX', 'EXPINFO', 'EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPEND', 'EXPCLEANUP')
"""tuple of str: What each rig is told in each round."""

_TIMEOUT = 5.0  # seconds
_LOG = logging.getLogger('echorig.demo')


@dataclass
class RigRecord:
    """What is known of one rig."""

    process: RigProcess
    uri: str = ''
    com: EchoProtocol | None = None
    state: str = 'starting'
    event: str = ''
    confirmed: int = 0
    kind: str = ''
    repeated: int = 0
    """How often a message had to be sent again."""
    round_trips: list[float] = field(default_factory=list)
    """From the call that sent each message to its confirmation, in seconds."""
    failure: str = ''

    @property
    def name(self) -> str:
        """str: Its label."""
        return self.process.name

    def observe(self) -> None:
        """Note what the communicator knows of the rig."""
        for known in () if self.com is None else self.com.peers.values():
            self.kind, self.repeated = known.kind, known.retransmitted

    def fail(self, why: object) -> None:
        """Take the rig out of the session; the first reason stays."""
        self.state = 'FAILED'
        self.failure = self.failure or (f'{type(why).__name__}: {why}' if isinstance(why, Exception) else str(why))


class Session:
    """Rigs in processes of their own, and rounds of messages to all of them.

    Parameters
    ----------
    rigs : list of RigProcess
        The rigs to start, with distinct names.
    rounds : int
        How often the session is run.
    changed : callable
        Called between messages, when none is on its way.
    """

    def __init__(self, rigs: list[RigProcess], rounds: int, changed: Callable[[], None] = lambda: None) -> None:
        self.rigs = [RigRecord(rig) for rig in rigs]
        self.rounds = rounds
        self.done = 0
        self.seconds = 0.0
        self.skews: list[float] = []
        """The last minus the first receipt of EXPSTART in each round, in seconds."""
        self.changed = changed
        # As an AlyxClient: these are the attributes that travel.
        self._alyx = SimpleNamespace(
            base_url='https://alyx.example.org', user='demo', _token=secrets.token_hex(20), is_logged_in=True
        )

    @property
    def expected(self) -> int:
        """int: How many messages are to be confirmed in all."""
        return self.rounds * len(EVENTS) * len(self.rigs)

    @property
    def confirmed(self) -> int:
        """int: How many messages have been confirmed."""
        return sum(rig.confirmed for rig in self.rigs)

    @property
    def failures(self) -> dict[str, str]:
        """dict: Why rigs failed, by name."""
        return {rig.name: rig.failure for rig in self.rigs if rig.failure}

    @property
    def succeeded(self) -> bool:
        """bool: Whether every message was confirmed, and each rig heard each exactly once."""
        return self.confirmed == self.expected and not self.failures

    async def run(self) -> None:
        """Start the rigs, tell them everything, and end them, whatever happens."""
        try:
            await asyncio.gather(*(self._open(rig) for rig in self.rigs))
            begun = time.perf_counter()
            while self.done < self.rounds and self._working():
                await self._round(self.done + 1)
                self.done += 1
                self.seconds = time.perf_counter() - begun
        finally:
            await asyncio.gather(*(self._end(rig) for rig in self.rigs))

    def _working(self) -> list[RigRecord]:
        return [rig for rig in self.rigs if not rig.failure]

    async def _open(self, rig: RigRecord) -> None:
        """Start a rig and connect with it."""
        try:
            rig.uri = await rig.process.start()
            rig.com = await EchoProtocol.client(rig.uri, rig.name, log=_LOG)
        except Exception as ex:
            rig.fail(ex)
            return
        rig.com.default_echo_timeout = _TIMEOUT
        send = rig.com.confirmed_send

        async def timed(data: Any, addr: Any = None, timeout: float | None = None) -> None:
            begun = time.perf_counter()
            await send(data, addr, timeout)
            rig.round_trips.append(time.perf_counter() - begun)
            rig.confirmed += 1
            rig.event = ExpMessage(data[0]).name or ''

        rig.com.confirmed_send = timed  # type: ignore[method-assign]
        rig.state = 'started'
        self.changed()

    async def _round(self, number: int) -> None:
        """Run one session, from the token to the tidying up."""
        reference = f'{time.strftime("%Y-%m-%d")}_{number}_demo'
        await self._tell(None, 'alyx', self._alyx)
        await self._tell(ExpStatus.CONNECTED, 'info', ExpStatus.CONNECTED, {'round': number})
        await self._tell(ExpStatus.INITIALIZED, 'init', {'task': 'demo'})
        started = await self._tell(ExpStatus.RUNNING, 'start', reference)
        await self._tell(ExpStatus.RUNNING, 'status', ExpStatus.RUNNING)
        await self._tell(ExpStatus.STOPPED, 'stop')
        await self._tell(ExpStatus.CONNECTED, 'cleanup')
        received = [answer[1]['received_ns'] for answer in started.values()]
        if len(received) > 1:
            self.skews.append((max(received) - min(received)) / 1e9)

    async def _tell(self, state: ExpStatus | None, method: str, *args: Any) -> dict[str, Any]:
        """Tell the rigs that still work something, and return their answers; one that fails is taken out."""
        rigs = {rig.name: rig for rig in self._working()}
        services = Services([rig.com for rig in rigs.values()], timeout=_TIMEOUT)
        try:
            answers = await getattr(services, method)(*args) or {}
        except ServicesError as ex:
            answers = ex.responses
            for name, error in ex.failures.items():
                rigs[name].fail(error)
        for rig in self._working():
            rig.state = rig.state if state is None else state.name
            rig.observe()
        self.changed()
        return dict(answers)

    async def _end(self, rig: RigRecord) -> None:
        """End a rig, and hold what it heard against what it confirmed."""
        report = await rig.process.end()
        if rig.com is not None:
            rig.com.close()
            await rig.com.wait_closed()
        if report is None:
            rig.fail('its process did not end as it should')
        elif report['unconfirmed']:
            rig.fail(f'{report["unconfirmed"]} of its answers were not confirmed')
        elif self.done == self.rounds and report['heard'] != dict.fromkeys(EVENTS, self.rounds):
            rig.fail(f'it heard {report["heard"]}, in {self.rounds} rounds')
