"""`Session`: rounds of messages to all rigs of the demo."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ..errors import EchoTimeoutError, PeerUnreachableError, ServicesError
from ..messages import ExpStatus
from ..services.services import Services
from .rig_process import RigProcess

__all__ = ['EVENTS', 'Session']

EVENTS = ('ALYX', 'EXPINFO', 'EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPEND', 'EXPCLEANUP')
"""tuple of str: The messages of each round."""

ANSWER_TIMEOUT = 10.0  # seconds; a computer that runs all the processes may be busy
_MAX_RESENT = 0.01  # share of the messages: nothing is lost within a computer, so a rig did not run for that long
_MAX_P99 = 0.1  # seconds


def is_time_out(error: BaseException) -> bool:
    """Return whether a rig was too late, not gone."""
    return isinstance(error, EchoTimeoutError) and not isinstance(error, PeerUnreachableError)


class Session:
    """Rounds of messages to rigs in processes of their own; `on_change` is called between messages."""

    def __init__(self, rigs: list[RigProcess], rounds: int) -> None:
        self.rigs = rigs
        self.rounds = rounds
        self.done = 0
        self.answer_timeout = ANSWER_TIMEOUT
        self.seconds = 0.0
        self.skews: list[float] = []  # seconds between the first and the last receipt of EXPSTART, by round
        self.on_change: Callable[[], None] = lambda: None
        # Like an AlyxClient: these attributes are sent.
        self._alyx = SimpleNamespace(
            base_url='https://alyx.example.org', user='demo', _token=secrets.token_hex(20), is_logged_in=True
        )

    @property
    def expected(self) -> int:
        """int: The number of messages in all rounds, to all rigs."""
        return self.rounds * len(EVENTS) * len(self.rigs)

    @property
    def confirmed(self) -> int:
        """int: The number of confirmed messages."""
        return sum(rig.confirmed for rig in self.rigs)

    @property
    def failures(self) -> dict[str, str]:
        """dict: The errors of rigs, by name."""
        return {rig.name: rig.failure for rig in self.rigs if rig.failure}

    @property
    def succeeded(self) -> bool:
        """bool: Whether every message was confirmed, and each rig received each exactly once."""
        return self.confirmed == self.expected and not self.failures

    @property
    def busy(self) -> str:
        """str: Why the times are not those of the messages, but those of a computer that is too busy; or nothing."""
        late, resent = sum(rig.late for rig in self.rigs), sum(rig.retransmitted for rig in self.rigs)
        times = sorted(seconds for rig in self.rigs for seconds in rig.round_trips)
        slow = times[int(0.99 * (len(times) - 1))] if times else 0.0
        if late:
            return f'{late:,} messages were confirmed, but not answered within {self.answer_timeout:g} s'
        if resent > _MAX_RESENT * self.confirmed:
            return f'{resent:,} messages were sent again, although nothing is lost within a computer'
        if slow > _MAX_P99:
            return f'one message in a hundred took more than {_MAX_P99 * 1e3:g} ms'
        return ''

    async def run(self) -> None:
        """Start the rigs, run all rounds, and stop the rigs, also after an error."""
        try:
            await asyncio.gather(*(self._open(rig) for rig in self.rigs))
            start = time.perf_counter()
            while self.done < self.rounds and self._working():
                await self._round(self.done + 1)
                self.done += 1
                self.seconds = time.perf_counter() - start
        finally:
            await asyncio.gather(*(self._close(rig) for rig in self.rigs))

    def _working(self) -> list[RigProcess]:
        return [rig for rig in self.rigs if not rig.failure]

    async def _open(self, rig: RigProcess) -> None:
        try:
            await rig.open()
        except Exception as ex:
            rig.fail(ex)
        self.on_change()

    async def _round(self, number: int) -> None:
        """Send the messages of one session."""
        reference = f'{time.strftime("%Y-%m-%d")}_{number}_demo'
        await self._call(None, 'alyx', self._alyx)
        await self._call(ExpStatus.CONNECTED, 'info', ExpStatus.CONNECTED, {'round': number})
        await self._call(ExpStatus.INITIALIZED, 'init', {'task': 'demo'})
        started = await self._call(ExpStatus.RUNNING, 'start', reference)
        await self._call(ExpStatus.RUNNING, 'status', ExpStatus.RUNNING)
        await self._call(ExpStatus.STOPPED, 'stop')
        await self._call(ExpStatus.CONNECTED, 'cleanup')
        received = [answer[1]['received_ns'] for answer in started.values()]
        if len(received) > 1:
            self.skews.append((max(received) - min(received)) / 1e9)

    async def _call(self, state: ExpStatus | None, method: str, *args: Any) -> dict[str, Any]:
        """Call a method of `Services` for the rigs without failure; return their answers."""
        rigs = {rig.name: rig for rig in self._working()}
        if not rigs:
            return {}
        services = Services([rig.com for rig in rigs.values() if rig.com is not None], timeout=self.answer_timeout)
        confirmed = {name: rig.confirmed for name, rig in rigs.items()}
        try:
            answers = await getattr(services, method)(*args) or {}
        except ServicesError as ex:
            answers = ex.responses
            for name, error in ex.failures.items():
                if rigs[name].confirmed > confirmed[name] and is_time_out(error):
                    rigs[name].late += 1
                else:
                    rigs[name].fail(error)
        for rig in self._working():
            rig.update(state)
        self.on_change()
        return dict(answers)

    async def _close(self, rig: RigProcess) -> None:
        """Stop a rig, and compare the received messages with the sent ones."""
        report = await rig.close()
        if report is None:
            rig.fail('its process failed')
        elif report['unconfirmed']:
            rig.late += report['unconfirmed']  # the messages were confirmed; only their answers were not
        elif self.done == self.rounds and report['received'] != dict.fromkeys(EVENTS, self.rounds):
            rig.fail(f'it received {report["received"]}, in {self.rounds} rounds')
