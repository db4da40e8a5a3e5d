"""What a rig without hardware does with each event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..checks import described, flag, number_of, seconds, text
from ..events.callbacks import each
from ..messages import ExpMessage
from ..security.redaction import redact_frame
from ..uri import Address

__all__ = ['Reaction', 'Received', 'Script']

Answer = bool | Sequence[Any] | Callable[[list[Any]], Sequence[Any]] | None


class Received(NamedTuple):
    """A message that a rig has received."""

    event: ExpMessage | None
    """ExpMessage or None: Its event; None if it is no message."""
    data: list[Any]
    """list: What came with the event; empty if it could not be read."""
    addr: Address
    """tuple of (str, int): Where it came from."""
    frame: bytes
    """bytes: What travelled, as far as the rig has read it."""
    time: float
    """float: When it came, on the clock of `time.monotonic`, in seconds."""

    def __repr__(self) -> str:
        event = None if self.event is None else self.event.name or 'notice'
        return f'Received({event}, {redact_frame(self.frame)!r}, {self.addr}, {self.time})'


@dataclass(frozen=True)
class Reaction:
    """What a rig does with a message; see `FakeRig.script`."""

    echo: bool = True
    echo_delay: float = 0.0
    answer: Answer = True
    answer_event: ExpMessage | None = None
    answer_delay: float = 0.0
    notice: str | None = None

    def message(self, heard: Received) -> list[Any] | None:
        """Return the answer to a message, or None."""
        if heard.event is None or self.answer is None or self.answer is False:
            return None
        if self.answer is True:
            data: Sequence[Any] = heard.data
        else:
            data = self.answer(heard.data) if callable(self.answer) else self.answer
        event = heard.event if self.answer_event is None else self.answer_event
        return [int(event), *data]


class Script:
    """The reactions to each event. Those for a number of messages lie on top of those for all."""

    def __init__(self) -> None:
        self._reactions: dict[ExpMessage, list[tuple[Reaction, int | None]]] = {}
        self.set(ExpMessage.any(), Reaction(), None)
        self.set(ExpMessage.ALYX, Reaction(answer=None), None)  # a token is confirmed, not answered

    def set(self, events: str | int | ExpMessage, reaction: Reaction, times: int | None) -> None:
        """Say what is done with an event or a combination, for the next `times` messages or for all.

        Raises
        ------
        TypeError, ValueError
            There is no such event, or a value is out of range.
        """
        if times is not None:
            number_of(times, 'times')
        flag(reaction.echo, 'echo')
        seconds(reaction.echo_delay, 'echo_delay', zero=True)
        seconds(reaction.answer_delay, 'answer_delay', zero=True)
        if isinstance(reaction.answer, (str, bytes)) or not (
            reaction.answer is None or isinstance(reaction.answer, (bool, Sequence)) or callable(reaction.answer)
        ):
            raise TypeError(f'answer must be a bool, a list of data or callable, not {described(reaction.answer)}')
        if reaction.notice is not None:
            text(reaction.notice, 'notice')
        for event in each(ExpMessage.validate(events)):
            own = reaction
            if reaction.answer_event is not None:
                own = replace(reaction, answer_event=ExpMessage.validate(reaction.answer_event, False))
            if times is None:
                self._reactions[event] = [(own, None)]
            else:
                self._reactions[event].append((own, times))

    def next(self, event: ExpMessage | None) -> Reaction:
        """Return what is done with the message that has just come."""
        if event is None or event not in self._reactions:  # no message, or a notice
            return Reaction(answer=None)
        reactions = self._reactions[event]
        reaction, times = reactions[-1]
        if times is not None:
            if times == 1:
                reactions.pop()
            else:
                reactions[-1] = reaction, times - 1
        return reaction
