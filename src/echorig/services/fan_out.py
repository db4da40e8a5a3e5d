"""`RigSet`: rigs that are told together: listening, asking, and what becomes of each.

1. Every listener is in place before the first byte leaves: an answer may come together with the echo.
2. Every rig is told, in order, whatever became of the others; the error names each that failed, and why.
3. A rig that can no longer answer (it reported a failure, interrupted, was closed or lost) fails at once.
4. Only documented methods of the rigs are used, so that any `Service` with them will do. Nothing is left
   behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections import UserDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from ..checks import described, flag, limit, set_checked, short, text
from ..communicator.service import Service
from ..errors import ServicesError, ServicesTimeoutError
from ..events.callbacks import Listener, WithService, checked_listener
from ..messages import ExpMessage
from ..stall import Later, call_later
from .pending_answer import PendingAnswer
from .presence import Presence

__all__ = ['RigSet', 'each_rig', 'failed', 'outcome']

_Self = TypeVar('_Self', bound='RigSet')
_R = TypeVar('_R')


class RigSet(Service, UserDict[str, Any]):
    """The part of `Services` that listens, asks and collects.

    Parameters
    ----------
    remote_rigs : iterable of Service
        The communicators, with distinct names.
    timeout : float or None
        How long to wait for the answers, in seconds; None or 0 waits without limit.

    Raises
    ------
    TypeError
        One of them is no `Service`, or the time-out no number.
    ValueError
        Two have the same name, or the time-out is negative.
    """

    # `server` is a documented name that nothing sets.
    __slots__ = ('server',)

    __setattr__ = set_checked(timeout=limit)
    timeout: float | None = 10.0
    """:obj:`float` or None: How long to wait for the answers, in seconds; None or 0 waits without limit."""

    def __init__(self, remote_rigs: Iterable[Any], timeout: float | None = 10.0) -> None:
        super().__init__()
        rigs: dict[str, Any] = {}
        for rig in each_rig(remote_rigs, Service, 'a Service, such as an EchoProtocol'):  # type: ignore[type-abstract]
            if rig.name in rigs:
                raise ValueError(f'Two rigs are called {short(rig.name)}: give each its own name')
            rigs[rig.name] = rig
        self.data = MappingProxyType(rigs)  # type: ignore[assignment]
        self.timeout = timeout
        self.logger = logging.getLogger(__name__)
        self._watches: dict[int, Presence] = {}

    @property
    def is_connected(self) -> bool:
        """bool: Whether there are rigs and all of them are connected."""
        return len(self) > 0 and all(rig.is_connected for rig in self.values())

    # --- listening ---

    def assign_callback(self, event: str | int | ExpMessage, callback: Listener, return_service: bool = False) -> None:
        """Register a callback with every rig.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable or asyncio.Future
            What to tell. It is called as ``callback(data, addr)``, with the event as a further argument if
            it was registered for a combination, and with the rig as the last if `return_service` is true.
        return_service : bool
            Whether to pass the rig that the message came from.

        Raises
        ------
        TypeError, ValueError
            `callback` is neither callable nor a future, or there is no such event.
        """
        ExpMessage.validate(event)
        checked_listener(callback, futures=not flag(return_service, 'return_service'))
        for rig in self.values():
            rig.assign_callback(event, WithService(callback, rig) if return_service else callback)  # type: ignore[arg-type]

    def clear_callbacks(self, event: str | int | ExpMessage, callback: Listener | None = None) -> dict[str, int]:
        """Remove a callback, or all of them, from every rig.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable or asyncio.Future, optional
            What to remove, as it was given to `assign_callback`; by default everything.

        Returns
        -------
        dict of str to int
            How many were removed, by name of the rig.

        Raises
        ------
        TypeError, ValueError
            `callback` is neither callable nor a future, or there is no such event.
        """
        ExpMessage.validate(event)
        if callback is not None:
            checked_listener(callback)
        return {name: rig.clear_callbacks(event, callback=callback) for name, rig in self.items()}

    async def await_all(self, event: str | int | ExpMessage) -> dict[str, Any]:
        """Wait until every rig has reported an event.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.

        Returns
        -------
        dict of str to list
            What each rig sent with it, by name.

        Raises
        ------
        ServicesTimeoutError
            At least one did not within `timeout` seconds (a `TimeoutError`).
        ServicesError
            At least one failed in another way.
        """
        event = ExpMessage.validate(event)
        return self._result(await self._outcomes(list(self.values()), event, None))

    # --- closing ---

    def close(self) -> None:
        """Close every communicator, and end every watch."""
        for presence in list(self._watches.values()):
            presence.close()
        for rig in self.values():
            rig.close()

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await asyncio.gather(*(rig.wait_closed() for rig in self.values() if hasattr(rig, 'wait_closed')))

    # --- inside ---

    async def _signal(
        self,
        event: str | int | ExpMessage,
        method: str,
        *args: Any,
        concurrent: bool = True,
        reverse: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Tell all rigs something, and wait for each to answer with the same event.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event of the answers.
        method : str
            The method of each rig to call, by default that named like the event.
        args, kwargs
            What to call it with.
        concurrent : bool
            If false, each rig is told when the one before has answered.
        reverse : bool
            Whether the last rig is told first.

        Returns
        -------
        dict of str to list
            What each rig answered, by name.

        Raises
        ------
        ServicesTimeoutError, ServicesError
            At least one rig failed.
        TypeError, ValueError
            There is no such event, or an argument is of a wrong type.
        """
        event = ExpMessage.validate(event, allow_bitwise=False)
        flag(concurrent, 'concurrent')
        flag(reverse, 'reverse')
        method = text(method, 'method') or str(event.name).removeprefix('EXP').lower()
        rigs = list(self.values())
        if reverse:
            rigs.reverse()
        if concurrent:
            return self._result(await self._outcomes(rigs, event, (method, args, kwargs)))
        outcomes: dict[str, Any] = {}
        for rig in rigs:
            outcomes |= await self._outcomes([rig], event, (method, args, kwargs), from_echo=True)
        return self._result(outcomes)

    async def _outcomes(
        self, rigs: list[Any], event: ExpMessage, message: tuple[Any, ...] | None, from_echo: bool = False
    ) -> dict[str, Any]:
        """Tell rigs something in order while all of them are listened to, and return what became of each.

        The time for the answers begins when they have been told, or with the echo.
        """
        loop = asyncio.get_running_loop()
        timer: Later | None = None
        over, left = loop.create_future(), len(rigs)
        listeners: list[PendingAnswer] = []

        def ended() -> None:
            nonlocal left
            left -= 1
            if not left and not over.done():
                over.set_result(None)

        def expire() -> None:
            for listener in listeners:
                listener.expire()

        try:
            for rig in rigs:
                listeners.append(PendingAnswer(rig, event, message is not None, ended))
            await asyncio.sleep(0)  # the tasks that listen take their first step
            if message is not None:
                for listener in listeners:
                    listener.tell(*message)
                await asyncio.sleep(0)  # those that send take theirs, one right after the other
                if from_echo:
                    await asyncio.wait([listener.sending for listener in listeners if listener.sending is not None])
            if self.timeout:
                timer = call_later(loop, self.timeout, expire, lambda: [_last_seen(rig) for rig in rigs])
            if listeners:
                await over
            return {listener.rig.name: listener.outcome for listener in listeners}
        finally:
            if timer is not None:
                timer.cancel()
            for listener in listeners:
                listener.leave()

    async def _gather(self, work: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, Any]:
        # Tasks take their first step, which sends the message, in the order of their making.
        outcomes = await asyncio.gather(*map(outcome, work.values()))
        return self._result(dict(zip(work, outcomes, strict=True)))

    def _result(self, outcomes: dict[str, Any]) -> dict[str, Any]:
        """Return the answers in the order of the rigs, or raise what went wrong."""
        failures = {name: outcomes[name] for name in self if isinstance(outcomes[name], Exception)}
        responses = {name: outcomes[name] for name in self if name not in failures}
        if failures:
            raise failed(responses, failures)
        return responses


def _last_seen(rig: Any) -> object:
    """Return something that changes with each message from a rig."""
    peers = getattr(rig, 'peers', None)
    return [peer.last_seen for peer in peers.values()] if isinstance(peers, Mapping) else None


def each_rig(rigs: Iterable[Any], kind: type[_R], what: str) -> Iterator[_R]:
    """Go through the rigs that a user gave, each of which must be of a kind."""
    if not isinstance(rigs, Iterable) or isinstance(rigs, (str, bytes)):
        raise TypeError(f'remote_rigs must be several rigs, such as a list of them, not {described(rigs)}')
    for rig in rigs:
        if not isinstance(rig, kind):
            raise TypeError(f'A rig (in remote_rigs) must be {what}, not {described(rig)}')
        yield rig


def failed(responses: Mapping[str, Any], failures: Mapping[str, Exception]) -> ServicesError:
    """Return the error that names the rigs that failed, and why."""
    timed_out = any(isinstance(error, TimeoutError | asyncio.TimeoutError) for error in failures.values())
    reasons = '; '.join(f'{name}: {type(error).__name__}: {error}' for name, error in failures.items())
    text = f'{len(failures)} of {len(failures) + len(responses)} rigs failed: {reasons}'
    return (ServicesTimeoutError if timed_out else ServicesError)(text, responses, failures)


async def outcome(work: Callable[[], Awaitable[Any]]) -> Any:
    """Return a result, or the exception that took its place."""
    try:
        return await work()
    except Exception as ex:
        return ex
