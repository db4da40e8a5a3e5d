"""`Handler`: a function of the user for an event; `HandlerTable`: those of a rig."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..checks import described
from ..messages import ExpMessage

__all__ = ['ARGUMENTS', 'Handler', 'HandlerTable']

ARGUMENTS: dict[ExpMessage, tuple[str, ...]] = {
    ExpMessage.EXPINIT: ('data',),
    ExpMessage.EXPSTART: ('exp_ref', 'data'),
    ExpMessage.EXPEND: ('data',),
    ExpMessage.EXPCLEANUP: ('data',),
    ExpMessage.EXPINTERRUPT: ('data',),
    ExpMessage.EXPSTATUS: ('status',),
    ExpMessage.EXPINFO: ('status', 'data'),
    ExpMessage.ALYX: ('base_url', 'tokens'),
}
"""dict: The arguments of the handlers of each event, in the order of the message."""


class Handler:
    """A function for one event; it may take fewer arguments than the event has."""

    def __init__(self, event: ExpMessage, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f'A handler must be a function, not {described(function)}')
        self.event, self.function = event, function
        self.name = getattr(function, '__qualname__', None) or repr(function)
        called = function if inspect.isroutine(function) else type(function).__call__
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(f'{self.name} is a generator function, whose body would not run: remove yield from it')
        self._n = self._number_of_arguments()

    def _number_of_arguments(self) -> int:
        accepted = ARGUMENTS[self.event]
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):  # of some builtins nothing is known
            return len(accepted)
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if len(required) > len(accepted) or any(p.kind is p.KEYWORD_ONLY for p in required):
            needed = ', '.join(p.name for p in required)
            raise TypeError(
                f'A handler of {self.event.name} is called with ({", ".join(accepted)}), or with fewer arguments, and '
                f'{self.name} needs ({needed})'
            )
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return len(accepted)
        return min(len(positional), len(accepted))

    def arguments(self, data: list[Any]) -> tuple[Any, ...]:
        """Return the arguments for the data of a message; what is missing is None."""
        return tuple([*data, *[None] * self._n][: self._n])


class HandlerTable(dict[ExpMessage, Handler]):
    """The handlers of a rig, by event."""

    def register(self, event: str | int | ExpMessage, function: Callable[..., Any]) -> None:
        """Register a function for one event."""
        single = ExpMessage.validate(event, allow_bitwise=False)
        if single in self:
            raise ValueError(f'{single.name} has a handler already: {self[single].name}')
        self[single] = Handler(single, function)

    def of(self, event: ExpMessage) -> Handler | None:
        """Return the handler of an event; EXPINTERRUPT falls back on that of EXPEND."""
        found = self.get(event)
        if found is None and event == ExpMessage.EXPINTERRUPT:
            found = self.get(ExpMessage.EXPEND)
        return found
