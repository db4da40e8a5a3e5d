"""`FakeRig`: a rig without hardware, to test the program of a main PC with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any

from ..checks import number_of, seconds, short, text
from ..errors import EchoError
from ..messages import ExpMessage
from ..resolver import resolve
from ..sync.blocking import Context, Mirrored, blocking, threadsafe
from ..sync.portal import current_portal
from ..uri import Address, checked_address, parse
from .dialects import Echorig, Habits
from .inbox import Inbox
from .matlab_dialect import Matlab
from .plain_dialects import Iblutil
from .script import Answer, Reaction, Received, Script

__all__ = ['BlockingFakeRig', 'FakeRig']

HABITS: dict[str, type[Habits]] = {'echorig': Echorig, 'iblutil': Iblutil, 'matlab': Matlab}


class FakeRig:
    """A rig that does with each message what a test says; a context manager.

    ``async with FakeRig() as rig`` runs it on the running loop. ``with FakeRig() as rig`` runs it on the background
    thread of :mod:`echorig.sync`; `rig` is then a `BlockingFakeRig`, whose methods wait.

    Unless told otherwise it echoes every message and answers every event but ALYX with the same data.

    Parameters
    ----------
    uri : str
        Where to listen: ``udp://`` or ``tcp://``. By default any port that is free, on this computer only.
    kind : {'echorig', 'iblutil', 'matlab'}
        What it speaks like: iblutil closes itself for good when it finds a wrong echo, or none within a second; MATLAB
        does one thing at a time, reads the first bytes of a message only, takes for an echo what equals the last
        frame that it sent, and answers what it cannot execute, such as a ping, with a notice that quotes it.
    name : str
        A label.
    buffer : int
        How many bytes of a message MATLAB reads: 512 or 1000.

    Attributes
    ----------
    uri : str
        Where it listens, once it is open.
    received : list of Received
        What it has received, without echoes, pings and repetitions.
    confirmed : list
        Its own messages that were echoed.
    unconfirmed : list of (list, EchoError)
        Its own messages that were not echoed, and why. MATLAB waits for no echo: what it sends before it reads the
        echo of the message before makes it forget that.
    gave_up : EchoError or None
        Why it has closed itself, as iblutil does.
    silent : bool
        Set it to make the rig deaf: it is there, but does nothing with what comes.

    Raises
    ------
    TypeError, ValueError
        There is no such kind, or the URI is not valid.
    """

    def __init__(
        self, uri: str = 'udp://127.0.0.1:0', kind: str = 'echorig', name: str = 'rig', buffer: int = 512
    ) -> None:
        if text(kind, 'kind') not in HABITS:
            raise ValueError(f'Unknown kind of rig {short(kind)}; choose from {", ".join(HABITS)}')
        parse(uri)
        text(name, 'name')
        number_of(buffer, 'buffer')
        self.uri = uri
        self.kind = kind
        self.name = name
        self.buffer = buffer
        self._inbox = Inbox(name)
        self.received = self._inbox.all
        self.confirmed: list[Any] = []
        self.unconfirmed: list[tuple[Any, EchoError]] = []
        self.gave_up: EchoError | None = None
        self.silent = False
        self._script = Script()
        self._habits: Habits | None = None
        self._closing: Habits | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- what it does ---

    def script(
        self,
        event: str | int | ExpMessage = 255,
        *,
        echo: bool = True,
        echo_delay: float = 0.0,
        answer: Answer = True,
        answer_event: str | int | ExpMessage | None = None,
        answer_delay: float = 0.0,
        notice: str | None = None,
        times: int | None = None,
    ) -> None:
        """Say what is done with an event from now on.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events, by default all.
        echo : bool
            Whether it is confirmed. If not, nothing else is done with it either.
        echo_delay : float
            How long it takes to confirm it, in seconds. MATLAB reads nothing else meanwhile.
        answer : bool, sequence or callable
            The data of the answer; True answers with the data of the message, None or False not at all. A callable is
            given the data of the message.
        answer_event : str, int or ExpMessage, optional
            The event of the answer if it is another, such as EXPINTERRUPT.
        answer_delay : float
            How long it takes from the echo to the answer, in seconds. MATLAB reads nothing else meanwhile.
        notice : str, optional
            The text of an error: after the echo, a notice with it is sent in place of the answer.
        times : int, optional
            How many messages this holds for; after them, what was said before holds again.

        Raises
        ------
        TypeError, ValueError
            There is no such event, or a value is out of range.
        """
        other = None if answer_event is None else ExpMessage.validate(answer_event, False)
        self._script.set(event, Reaction(echo, echo_delay, answer, other, answer_delay, notice), times)

    async def wait_for(self, event: str | int | ExpMessage | None = None, timeout: float = 5.0) -> Received:
        """Wait for a message; each is returned once.

        Parameters
        ----------
        event : str, int or ExpMessage, optional
            The event or combination of events; 0 for a notice; by default whatever comes.
        timeout : float
            How long to wait, in seconds.

        Returns
        -------
        Received
            The message.

        Raises
        ------
        EchoTimeoutError
            It did not come in time (a `TimeoutError`).
        TypeError, ValueError
            There is no such event, or the time-out is no number, or negative.
        """
        return await self._inbox.wait_for(event, seconds(timeout, 'timeout', zero=True))

    async def tell(self, message: Any, addr: Address | None = None, timeout: float = 1.0) -> None:
        """Send a message without being asked, and wait for its echo.

        Parameters
        ----------
        message : list, str or bytes
            The event code and the data; text and bytes are sent as they are.
        addr : tuple of (str, int), optional
            Whom to tell; by default whoever was last heard.
        timeout : float
            How long to wait for the echo, in seconds.

        Raises
        ------
        EchoError
            It was not confirmed.
        TypeError, ValueError
            Nobody has been heard yet, and there is no `addr`; or an argument is not valid.
        """
        if addr is None:
            if not self.received:
                raise ValueError(f'{self.name} has heard nobody yet: whom should it tell?')
            addr = self.received[-1].addr
        addr, timeout = checked_address(addr), seconds(timeout, 'timeout')
        try:
            await self._opened.tell(message, addr, timeout)
        except EchoError as ex:
            self.unconfirmed.append((message, ex))
            raise
        self.confirmed.append(message)

    def busy(self, seconds: float) -> None:
        """Be busy from now on, as a program is whose callback blocks; for legacy rigs.

        It reads and sends nothing. What comes waits in its socket, and is read in the order of arrival.

        Parameters
        ----------
        seconds : float
            For how long.

        Raises
        ------
        ValueError
            The time is negative, or the rig is an echorig.
        EchoError
            The rig is off.
        """
        if not seconds >= 0:
            raise ValueError(f'A rig can be busy for a number of seconds, at least 0, not {seconds!r}')
        self._opened.be_busy(seconds)

    @property
    def addr(self) -> Address:
        """:obj:`tuple` of (str, int): The host and port where it listens."""
        return parse(self.uri).address

    # --- power ---

    @property
    def is_on(self) -> bool:
        """bool: Whether it listens."""
        return self._habits is not None and self.gave_up is None

    async def power_off(self) -> None:
        """Stop listening, in the middle of whatever it does: now messages are refused."""
        self.close()
        await self.wait_closed()

    async def power_on(self) -> None:
        """Listen at the same address, with no memory of what was before; `received` and the script stay."""
        if self.gave_up is not None:  # its program has ended, its object has not
            await self.power_off()
        if self._habits is None:
            _, uri = await resolve(self.uri, any_port=True)
            habits = HABITS[self.kind](self)
            self.uri = str(await habits.open(uri))
            self._habits = habits
            self.gave_up = None

    async def restart(self) -> None:
        """Power off and on again."""
        await self.power_off()
        await self.power_on()

    def close(self) -> None:
        """Stop listening; the sockets are gone after `wait_closed`."""
        self._closing, self._habits = self._habits, None
        for task in self._tasks:
            task.cancel()
        if self._closing is not None:
            self._closing.close()

    async def wait_closed(self) -> None:
        """Wait until the sockets are gone."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._closing is not None:
            await self._closing.wait_closed()

    async def __aenter__(self) -> FakeRig:
        await self.power_on()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.power_off()

    def __enter__(self) -> BlockingFakeRig:
        portal = current_portal()
        portal.open('__enter__', self.__aenter__)
        self._blocking = BlockingFakeRig(self, portal)
        return self._blocking

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocking.close()

    # --- called by the habits ---

    @property
    def _opened(self) -> Habits:
        if self._habits is None:
            raise EchoError(f'{self.name} ({self.uri}) is off')
        return self._habits

    def heard(self, message: Received) -> Reaction:
        """Note a message; return what is to be done with it."""
        self._inbox.add(message)
        return self._script.next(message.event)

    def react(self, reaction: Reaction, heard: Received | None, echo: Callable[[], None]) -> None:
        """Confirm a message and, the first time, answer it."""
        if reaction.echo_delay:
            self._later(self._echo_later(reaction, heard, echo))
            return
        echo()
        if heard is not None:
            self._later(self._answer(reaction, heard))

    async def _echo_later(self, reaction: Reaction, heard: Received | None, echo: Callable[[], None]) -> None:
        await asyncio.sleep(reaction.echo_delay)
        echo()
        if heard is not None:
            await self._answer(reaction, heard)

    async def _answer(self, reaction: Reaction, heard: Received) -> None:
        if reaction.answer_delay:
            await asyncio.sleep(reaction.answer_delay)
        if reaction.notice is not None:
            self._opened.transmit(self._opened.notice(reaction.notice, heard), heard.addr)
        elif (message := reaction.message(heard)) is not None:
            with suppress(EchoError):  # it is noted
                await self.tell(message, heard.addr)

    def noted(self, message: Any, echo: asyncio.Future[None]) -> None:
        """Note what became of a message whose echo nobody waits for."""
        if echo.cancelled():
            return
        if isinstance(error := echo.exception(), EchoError):
            self.unconfirmed.append((message, error))
        else:
            self.confirmed.append(message)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class BlockingFakeRig(Context):
    """What ``with FakeRig() as rig`` yields: the same names, and methods that wait."""

    asynchronous: FakeRig
    uri = Mirrored[str]()
    """str: Where it listens."""
    kind = Mirrored[str]()
    """str: What it speaks like."""
    name = Mirrored[str]()
    """str: The label."""
    buffer = Mirrored[int]()
    """int: How many bytes of a message MATLAB reads."""
    addr = Mirrored[Address]()
    """:obj:`tuple` of (str, int): The host and port where it listens."""
    gave_up = Mirrored['EchoError | None']()
    """EchoError or None: Why it has closed itself, as iblutil does."""
    is_on = Mirrored[bool]()
    """bool: Whether it listens."""
    silent = Mirrored[bool]()
    """bool: Whether it does nothing with what it receives."""

    @property
    def received(self) -> list[Received]:
        """:obj:`list` of Received: What it has received so far."""
        return list(self.asynchronous.received)

    @property
    def confirmed(self) -> list[Any]:
        """:obj:`list`: Its own messages that were echoed."""
        return list(self.asynchronous.confirmed)

    @property
    def unconfirmed(self) -> list[tuple[Any, EchoError]]:
        """:obj:`list` of (list, EchoError): Its own messages that were not echoed, and why."""
        return list(self.asynchronous.unconfirmed)

    script = threadsafe(FakeRig.script)
    busy = threadsafe(FakeRig.busy)
    wait_for = blocking(FakeRig.wait_for, 5.0)
    tell = blocking(FakeRig.tell, 1.0)
    power_off = blocking(FakeRig.power_off, 1.0)
    power_on = blocking(FakeRig.power_on, 1.0)
    restart = blocking(FakeRig.restart, 1.0)
