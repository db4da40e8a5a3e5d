"""Reading with a time limit, and giving back what nobody has seen: for `on_event` and for streams.

1. What is read is read in the task of the call: the message that it came from is noted there, and is handed to the
   thread that waits, so that what this sends next is known as the answer.
2. What comes just at the end of the time is not lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from math import inf
from typing import Any, TypeVar

from ..checks import seconds
from ..communicator.protocol import EchoProtocol
from ..errors import EchoTimeoutError
from ..events._reply_context import Origin
from ..events.stream import Stream
from ..messages import ExpMessage
from ..stall import call_later
from .background import Background
from .ways import Calls

__all__ = ['confirmed', 'limited', 'on_event', 'reads_events', 'reads_stream', 'within']

_T = TypeVar('_T')


def limited(owner: Background, timeout: float | None, zero: bool = False) -> Calls:
    """Return the way for calls with this timeout, which is checked; without one they may wait for ever."""
    if timeout is not None:
        timeout = seconds(timeout, 'timeout', zero=zero)
    return owner.waits if timeout is None or timeout == inf else owner.calls


def confirmed(owner: Background, com: EchoProtocol, timeout: float | None) -> Calls:
    """Return the way for calls that wait so long for an echo, by default as long as the communicator does."""
    return limited(owner, com.default_echo_timeout if timeout is None else timeout)


class _Reading:
    """Awaits a coroutine in the task that awaits this; it can be ended from outside if it has to wait."""

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self.is_ended = False
        self._is_over = False
        self._coroutine = coroutine
        self._awaited: asyncio.Future[Any] | None = None

    def end(self) -> None:
        """Cancel what it waits for, unless that is there; and what it waits for next."""
        self._is_over = True
        if self._awaited is not None and not self._awaited.done():
            self.is_ended = True
            self._awaited.cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        try:
            self._awaited = next(steps)
            while True:
                if self._is_over and not self.is_ended:
                    self.end()
                try:
                    yield self._awaited
                except BaseException as ex:
                    self._awaited = steps.throw(ex)
                else:
                    self._awaited = next(steps)
        except StopIteration as end:
            return end.value
        finally:
            self._awaited = None


async def within(timeout: float | None, coroutine: Coroutine[Any, Any, _T], what: Callable[[], str]) -> _T:
    """Await a coroutine that reads something, for so many seconds; `what` says what did not come."""
    if timeout is None or timeout == inf:
        return await coroutine
    reading = _Reading(coroutine)
    timer = call_later(asyncio.get_running_loop(), timeout, reading.end)
    try:
        return await reading  # type: ignore[no-any-return]
    except asyncio.CancelledError:
        if reading.is_ended:
            raise EchoTimeoutError(f'{what()} came within {timeout} s') from None
        raise
    finally:
        timer.cancel()


async def on_event(com: EchoProtocol, event: str | int | ExpMessage, timeout: float | None) -> tuple[Any, ...]:
    """Wait for an event, for so many seconds."""
    return await within(
        timeout, com.on_event(event), lambda: f'{com.name} ({com.server_uri}): no {ExpMessage.validate(event).name}'
    )


def reads_events(owner: Background, com: EchoProtocol, event: str | int | ExpMessage, timeout: float | None) -> Calls:
    """Return the way for `on_event`: a message that nobody has seen is the next to be read."""

    def undo(seen: tuple[Any, ...], origin: Origin | None) -> None:
        data, addr, *came = seen
        com._waiting.put_back((came[0] if came else ExpMessage.validate(event), data, addr, origin, 0))

    ExpMessage.validate(event)
    return limited(owner, timeout, zero=True).undoing(undo)


def reads_stream(owner: Background, stream: Stream[Any], timeout: float | None) -> Calls:
    """Return the way for the next of a stream: what nobody has seen is the next to be read."""
    return limited(owner, timeout, zero=True).undoing(stream.put_back)
