"""`BlockingFakeRig`: a `FakeRig` on the background thread, for tests without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import EchoError
from ..messages import ExpMessage
from ..sync.background import Background
from ..uri import Address
from .script import Answer, Received

if TYPE_CHECKING:
    from .fake_rig import FakeRig

__all__ = ['BlockingFakeRig']


class BlockingFakeRig:
    """What ``with FakeRig() as rig`` yields: the same names, and methods that wait.

    Parameters
    ----------
    rig : FakeRig
        The rig, which was opened on the background thread.
    owner : Background
        That thread.
    """

    def __init__(self, rig: FakeRig, owner: Background) -> None:
        self._rig = rig
        self._owner = owner

    @property
    def uri(self) -> str:
        """str: Where it listens."""
        return self._rig.uri

    @property
    def kind(self) -> str:
        """str: What it speaks like."""
        return self._rig.kind

    @property
    def name(self) -> str:
        """str: The label."""
        return self._rig.name

    @property
    def buffer(self) -> int:
        """int: How many bytes of a message MATLAB reads."""
        return self._rig.buffer

    @property
    def received(self) -> list[Received]:
        """:obj:`list` of Received: What it has received so far."""
        return list(self._rig.received)

    @property
    def addr(self) -> Address:
        """:obj:`tuple` of (str, int): The host and port where it listens."""
        return self._rig.addr

    @property
    def confirmed(self) -> list[Any]:
        """:obj:`list`: Its own messages that were echoed."""
        return list(self._rig.confirmed)

    @property
    def unconfirmed(self) -> list[tuple[Any, EchoError]]:
        """:obj:`list` of (list, EchoError): Its own messages that were not echoed, and why."""
        return list(self._rig.unconfirmed)

    @property
    def gave_up(self) -> EchoError | None:
        """EchoError or None: Why it has closed itself, as iblutil does."""
        return self._rig.gave_up

    @property
    def is_on(self) -> bool:
        """bool: Whether it listens."""
        return self._rig.is_on

    @property
    def silent(self) -> bool:
        """bool: Whether it does nothing with what comes."""
        return self._rig.silent

    @silent.setter
    def silent(self, value: bool) -> None:
        self._rig.silent = value

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
        """Say what is done with an event from now on, as :meth:`FakeRig.script`."""
        self._owner.run(
            self._rig.script,
            event,
            echo=echo,
            echo_delay=echo_delay,
            answer=answer,
            answer_event=answer_event,
            answer_delay=answer_delay,
            notice=notice,
            times=times,
        )

    def wait_for(self, event: str | int | ExpMessage | None = None, timeout: float = 5.0) -> Received:
        """Wait for a message, as :meth:`FakeRig.wait_for`."""
        return self._owner.calls.call(self._rig.wait_for, event, timeout)

    def tell(self, message: Any, addr: Address | None = None, timeout: float = 1.0) -> None:
        """Send a message without being asked, as :meth:`FakeRig.tell`."""
        self._owner.calls.call(self._rig.tell, message, addr, timeout)

    def busy(self, seconds: float) -> None:
        """Be busy from now on, as :meth:`FakeRig.busy`."""
        self._owner.run(self._rig.busy, seconds)

    def power_off(self) -> None:
        """Stop listening, in the middle of whatever it does: now messages are refused."""
        self._owner.calls.call(self._rig.power_off)

    def power_on(self) -> None:
        """Listen at the same address, as :meth:`FakeRig.power_on`."""
        self._owner.calls.call(self._rig.power_on)

    def restart(self) -> None:
        """Power off and on again."""
        self._owner.calls.call(self._rig.restart)

    def close(self) -> None:
        """Stop listening."""
        self._owner.close([self._rig])
