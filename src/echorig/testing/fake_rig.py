"""`FakeRig`: a rig without hardware, to test the program of a main PC."""

from __future__ import annotations

from typing import Any

from ..aliases import AnyEvent
from ..checks import number_of, seconds, short, text
from ..errors import EchoError
from ..messages import ExpMessage
from ..resolver import resolve
from ..sync.blocking import blocking, threadsafe
from ..sync.portal import current_portal
from ..sync.proxy import Attribute, ClosableProxy
from ..uri import Address, checked_address, parse
from .dialects import Dialect, EchorigDialect, RigState
from .legacy_dialects import IblutilDialect
from .matlab_dialect import MatlabDialect
from .received import Inbox, Received
from .script import Answer, Reaction

__all__ = ['BlockingFakeRig', 'FakeRig']

_ANY = ExpMessage.any()

DIALECTS: dict[str, type[Dialect]] = {'echorig': EchorigDialect, 'iblutil': IblutilDialect, 'matlab': MatlabDialect}


class FakeRig:
    """A rig without hardware, whose reactions a test sets with `script`; a context manager.

    ``async with FakeRig() as rig`` runs it on the running loop. ``with FakeRig() as rig`` runs it on the background
    thread of :mod:`echorig.sync`; `rig` is then a `BlockingFakeRig`, whose methods block.

    By default it echoes every message and answers every event but ALYX with the same data.

    Parameters
    ----------
    uri : str
        The address to listen on, with ``udp://`` or ``tcp://``. By default a free port of this computer only.
    kind : {'echorig', 'iblutil', 'matlab'}
        The program that it imitates. iblutil closes itself for good when it receives a wrong echo, or none within a
        second. MATLAB does one thing at a time, reads only the first bytes of a message, takes a frame equal to the
        last one it sent for an echo, and answers frames that it cannot execute, such as pings, with a notice.
    name : str
        A label.
    buffer : int
        How many bytes of a message MATLAB reads: 512 or 1000.

    Attributes
    ----------
    uri : str
        The address where it listens, once it is open.
    received : list of Received
        The messages that it has received, without echoes, pings and repetitions.
    confirmed : list
        Its own messages that were echoed.
    unconfirmed : list of (list, EchoError)
        Its own messages that were not echoed, and why. MATLAB waits for no echo: it forgets a message when it sends the
        next one before it has read the echo.

    Raises
    ------
    TypeError, ValueError
        There is no such kind, or the URI is not valid.
    """

    def __init__(
        self, uri: str = 'udp://127.0.0.1:0', kind: str = 'echorig', name: str = 'rig', buffer: int = 512
    ) -> None:
        if text(kind, 'kind') not in DIALECTS:
            raise ValueError(f'Unknown kind of rig {short(kind)}; choose from {", ".join(DIALECTS)}')
        parse(uri)
        self.uri = uri
        self.kind = kind
        self.name = text(name, 'name')
        self.buffer = number_of(buffer, 'buffer')
        self._state = RigState(name, buffer, Inbox(name))
        self.received = self._state.inbox.all
        self.confirmed = self._state.confirmed
        self.unconfirmed = self._state.unconfirmed
        self._dialect: Dialect | None = None
        self._closing: Dialect | None = None

    def script(
        self,
        event: AnyEvent = _ANY,
        *,
        echo: bool = True,
        echo_delay: float = 0.0,
        answer: Answer = True,
        answer_event: AnyEvent | None = None,
        answer_delay: float = 0.0,
        notice: str | None = None,
        times: int | None = None,
    ) -> None:
        """Set the reaction to an event from now on.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events, by default all.
        echo : bool
            Whether the message is confirmed. If not, there is no other reaction either.
        echo_delay : float
            The time before the confirmation, in seconds. MATLAB reads nothing else meanwhile.
        answer : bool, sequence or callable
            The data of the answer. True answers with the data of the message, None or False not at all. A callable gets
            the data of the message.
        answer_event : str, int or ExpMessage, optional
            The event of the answer if it is another one, such as EXPINTERRUPT.
        answer_delay : float
            The time between the echo and the answer, in seconds. MATLAB reads nothing else meanwhile.
        notice : str, optional
            The text of an error: a notice with it is sent in place of the answer.
        times : int, optional
            The number of messages after which the former reaction is valid again.

        Raises
        ------
        TypeError, ValueError
            There is no such event, or a value is out of range.
        """
        other = None if answer_event is None else ExpMessage.validate(answer_event, False)
        self._state.script.set(event, Reaction(echo, echo_delay, answer, other, answer_delay, notice), times)

    async def wait_for(self, event: AnyEvent | None = None, timeout: float = 5.0) -> Received:
        """Wait for a message; each is returned once.

        Parameters
        ----------
        event : str, int or ExpMessage, optional
            The event or combination of events; 0 for a notice; by default any message.
        timeout : float
            How long to wait, in seconds.

        Returns
        -------
        Received
            The message.

        Raises
        ------
        EchoTimeoutError
            No such message arrived in time (a `TimeoutError`).
        TypeError, ValueError
            There is no such event, or the timeout is no number, or negative.
        """
        return await self._state.inbox.wait_for(event, seconds(timeout, 'timeout', zero=True))

    async def send(self, message: Any, addr: Address | None = None, timeout: float = 1.0) -> None:
        """Send a message that is no answer, and wait for its echo.

        Parameters
        ----------
        message : list, str or bytes
            The event code and the data; text and bytes are sent as they are.
        addr : tuple of (str, int), optional
            The receiver; by default the sender of the last received message.
        timeout : float
            How long to wait for the echo, in seconds.

        Raises
        ------
        EchoError
            It was not confirmed.
        TypeError, ValueError
            There is no `addr` and nothing was received yet, or an argument is not valid.
        """
        if addr is None:
            if not self.received:
                raise ValueError(f'{self.name} has received nothing yet, so send() needs addr')
            addr = self.received[-1].addr
        await self._opened.send(message, checked_address(addr), seconds(timeout, 'timeout'))

    def busy(self, seconds: float) -> None:
        """Block a legacy rig from now on, as a callback that takes long does.

        It reads and sends nothing. Datagrams wait in its socket, and are read in the order of arrival.

        Parameters
        ----------
        seconds : float
            For how long.

        Raises
        ------
        ValueError
            The time is negative, or the kind of the rig is echorig.
        EchoError
            The rig is off.
        """
        if not seconds >= 0:
            raise ValueError(f'A rig can be busy for a number of seconds, at least 0, not {seconds!r}')
        self._opened.set_busy(seconds)

    @property
    def addr(self) -> Address:
        """:obj:`tuple` of (str, int): The host and port where it listens."""
        return parse(self.uri).address

    @property
    def is_on(self) -> bool:
        """bool: Whether it listens."""
        return self._dialect is not None and self.gave_up is None

    @property
    def gave_up(self) -> EchoError | None:
        """EchoError or None: Why it has closed itself, as iblutil does."""
        return self._state.gave_up

    @property
    def silent(self) -> bool:
        """bool: Whether it ignores all that it receives; it can be set."""
        return self._state.silent

    @silent.setter
    def silent(self, value: bool) -> None:
        self._state.silent = value

    async def power_on(self) -> None:
        """Listen at the same address, without any state of delivery; `received` and the script stay."""
        if self.gave_up is not None:  # its program has ended
            await self.power_off()
        if self._dialect is None:
            _, uri = await resolve(self.uri, any_port=True)
            dialect = DIALECTS[self.kind](self._state)
            self.uri = str(await dialect.open(uri))
            self._dialect = dialect
            self._state.gave_up = None

    async def power_off(self) -> None:
        """Stop listening at once: further messages are refused."""
        self.close()
        await self.wait_closed()

    async def restart(self) -> None:
        """Power off and on again."""
        await self.power_off()
        await self.power_on()

    def close(self) -> None:
        """Stop listening; the sockets are closed after `wait_closed`."""
        self._closing, self._dialect = self._dialect, None
        if self._closing is not None:
            self._closing.close()

    async def wait_closed(self) -> None:
        """Wait until the sockets are closed."""
        if self._closing is not None:
            await self._closing.wait_closed()

    async def __aenter__(self) -> FakeRig:
        await self.power_on()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.power_off()

    def __enter__(self) -> BlockingFakeRig:
        portal = current_portal()
        portal.open('__enter__', self.__aenter__)
        self._blocking = BlockingFakeRig(self, portal)
        return self._blocking

    def __exit__(self, *error: object) -> None:
        self._blocking.close()

    @property
    def _opened(self) -> Dialect:
        if self._dialect is None:
            raise EchoError(f'{self.name} ({self.uri}) is off')
        return self._dialect


class BlockingFakeRig(ClosableProxy):
    """The result of ``with FakeRig() as rig``: the same names, with methods that block."""

    uri = Attribute[str]()
    kind = Attribute[str]()
    name = Attribute[str]()
    buffer = Attribute[int]()
    addr = Attribute[Address]()
    is_on = Attribute[bool]()
    silent = Attribute[bool]()
    gave_up = Attribute['EchoError | None']()
    received = Attribute[list[Received]]()
    confirmed = Attribute[list[Any]]()
    unconfirmed = Attribute['list[tuple[Any, EchoError]]']()

    script = threadsafe(FakeRig.script)
    busy = threadsafe(FakeRig.busy)
    wait_for = blocking(FakeRig.wait_for, 5.0)
    send = blocking(FakeRig.send, 1.0)
    power_off = blocking(FakeRig.power_off, 1.0)
    power_on = blocking(FakeRig.power_on, 1.0)
    restart = blocking(FakeRig.restart, 1.0)
