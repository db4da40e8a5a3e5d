"""The reactions of a fake rig to each event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..aliases import AnyEvent
from ..checks import described, flag, number_of, seconds, text
from ..events.callbacks import single_events
from ..messages import ExpMessage
from .received import Received

__all__ = ['Reaction', 'Script']

Answer = bool | Sequence[Any] | Callable[[list[Any]], Sequence[Any]] | None


@dataclass(frozen=True)
class Reaction:
    """The reaction to a message; the fields are the parameters of `FakeRig.script`."""

    echo: bool = True
    echo_delay: float = 0.0
    answer: Answer = True
    answer_event: ExpMessage | None = None
    answer_delay: float = 0.0
    notice: str | None = None

    def __post_init__(self) -> None:
        flag(self.echo, 'echo')
        seconds(self.echo_delay, 'echo_delay', zero=True)
        seconds(self.answer_delay, 'answer_delay', zero=True)
        is_data = self.answer is None or isinstance(self.answer, (bool, Sequence)) or callable(self.answer)
        if isinstance(self.answer, (str, bytes)) or not is_data:
            raise TypeError(f'answer must be a bool, a list of data or callable, not {described(self.answer)}')
        if self.notice is not None:
            text(self.notice, 'notice')

    def answer_to(self, message: Received) -> list[Any] | None:
        """Return the answer to a message; None for no answer."""
        if message.event is None or self.answer is None or self.answer is False:
            return None
        if self.answer is True:
            data: Sequence[Any] = message.data
        else:
            data = self.answer(message.data) if callable(self.answer) else self.answer
        event = message.event if self.answer_event is None else self.answer_event
        return [int(event), *data]


class Script:
    """The reactions to each event; those for a limited number of messages have priority."""

    def __init__(self) -> None:
        self._reactions: dict[ExpMessage, list[tuple[Reaction, int | None]]] = {}
        self.set(ExpMessage.any(), Reaction(), None)
        self.set(ExpMessage.ALYX, Reaction(answer=None), None)  # a token is confirmed, not answered

    def set(self, events: AnyEvent, reaction: Reaction, times: int | None) -> None:
        """Set the reaction to an event or a combination, for the next `times` messages or for all (None)."""
        if times is not None:
            number_of(times, 'times')
        for event in single_events(ExpMessage.validate(events)):
            if times is None:
                self._reactions[event] = [(reaction, None)]
            else:
                self._reactions[event].append((reaction, times))

    def next(self, event: ExpMessage | None) -> Reaction:
        """Return the reaction to the message that has just been received, and count the message."""
        if event is None or event not in self._reactions:  # no message, or a notice
            return Reaction(answer=None)
        reactions = self._reactions[event]
        reaction, times = reactions[-1]
        if times is not None:
            reactions[-1] = reaction, times - 1
            if times == 1:
                reactions.pop()
        return reaction
