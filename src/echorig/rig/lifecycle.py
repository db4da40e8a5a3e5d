"""`Lifecycle`: the status of a rig, and which messages it accepts in which status."""

from __future__ import annotations

from typing import Any

from ..messages import ExpMessage, ExpStatus

__all__ = ['AlreadyRunning', 'Lifecycle', 'NotAccepted']


class NotAccepted(Exception):
    """The rig does not do the work of a message; the text says why."""


class AlreadyRunning(NotAccepted):
    """The rig runs an experiment, perhaps that of another main PC."""


class Lifecycle:
    """CONNECTED → INITIALIZED → RUNNING → STOPPED; cleanup leads back to CONNECTED."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.status = ExpStatus.CONNECTED
        self.exp_ref: str | None = None
        self.has_started = False
        """bool: Whether the work of EXPSTART has begun since the last stop, even if it failed."""

    @property
    def is_in_session(self) -> bool:
        """bool: Whether an experiment is prepared or runs."""
        return self.status in (ExpStatus.INITIALIZED, ExpStatus.RUNNING)

    def check(self, event: ExpMessage) -> None:
        """Raise `AlreadyRunning` if a message is not accepted now."""
        if self.status == ExpStatus.RUNNING and event in (ExpMessage.EXPINIT, ExpMessage.EXPSTART):
            raise AlreadyRunning(
                f'{self._name} is RUNNING {self.exp_ref}: send EXPEND or EXPINTERRUPT before {event.name}'
            )

    def begin(self, event: ExpMessage) -> None:
        """Note that the work for a message begins."""
        if event == ExpMessage.EXPSTART:
            self.has_started = True

    def succeed(self, event: ExpMessage, data: list[Any]) -> None:
        """Note that the work for a message has succeeded."""
        if event == ExpMessage.EXPINIT:
            self.status, self.exp_ref = ExpStatus.INITIALIZED, None
        elif event == ExpMessage.EXPSTART:
            self.status, self.exp_ref = ExpStatus.RUNNING, data[0] if data else None
        elif event in (ExpMessage.EXPEND, ExpMessage.EXPINTERRUPT):
            self.status, self.has_started = ExpStatus.STOPPED, False
        elif event == ExpMessage.EXPCLEANUP:
            self.status, self.exp_ref, self.has_started = ExpStatus.CONNECTED, None, False
