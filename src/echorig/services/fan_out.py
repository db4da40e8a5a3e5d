"""Functions that send to several rigs at once, and collect what becomes of each.

1. Each rig is listened to before the first byte is sent: an answer may come together with the echo.
2. All rigs are sent to, in order, whatever becomes of the others; the error names each that failed, and why.
3. A rig that can no longer answer (it reported a failure, interrupted, was closed or lost) fails at once.
4. Only documented methods of the rigs are used, so that any `Service` with them will do. Nothing is left
   behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ..checks import described
from ..errors import ServicesError, ServicesTimeoutError
from ..messages import ExpMessage
from ..stall import Later, call_later
from .pending_answer import PendingAnswer

__all__ = ['each_rig', 'outcome', 'outcomes', 'result', 'services_error']

_R = TypeVar('_R')


async def outcomes(
    rigs: list[Any],
    event: ExpMessage,
    message: tuple[str, tuple[Any, ...], dict[str, Any]] | None,
    timeout: float | None,
    from_echo: bool = False,
) -> dict[str, Any]:
    """Send to rigs in order while all of them are listened to, and return what became of each.

    Parameters
    ----------
    rigs : list of Service
        The rigs.
    event : ExpMessage
        The event of the answers.
    message : tuple of (str, tuple, dict), optional
        The method of each rig that sends the message, and its arguments; by default nothing is sent.
    timeout : float or None
        How long to wait for the answers, in seconds; None or 0 waits without limit.
    from_echo : bool
        Whether the time begins with the echoes instead of the sends.

    Returns
    -------
    dict of str to Any
        The answer of each rig, or the exception that took its place.
    """
    loop = asyncio.get_running_loop()
    timer: Later | None = None
    over, left = loop.create_future(), len(rigs)
    pending: list[PendingAnswer] = []

    def ended() -> None:
        nonlocal left
        left -= 1
        if not left and not over.done():
            over.set_result(None)

    def expire() -> None:
        for answer in pending:
            answer.expire()

    try:
        for rig in rigs:
            pending.append(PendingAnswer(rig, event, message is not None, ended))
        await asyncio.sleep(0)  # the tasks that listen take their first step
        if message is not None:
            for answer in pending:
                answer.tell(*message)
            await asyncio.sleep(0)  # those that send take theirs, one right after the other
            if from_echo:
                await asyncio.wait([answer.sending for answer in pending if answer.sending is not None])
        if timeout:
            timer = call_later(loop, timeout, expire, lambda: [_last_seen(rig) for rig in rigs])
        if pending:
            await over
        return {answer.rig.name: answer.outcome for answer in pending}
    finally:
        if timer is not None:
            timer.cancel()
        for answer in pending:
            answer.leave()


def result(found: dict[str, Any]) -> dict[str, Any]:
    """Return the answers of all rigs, or raise the error that names those that failed."""
    failures = {name: error for name, error in found.items() if isinstance(error, Exception)}
    responses = {name: answer for name, answer in found.items() if name not in failures}
    if failures:
        raise services_error(responses, failures)
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


def services_error(responses: Mapping[str, Any], failures: Mapping[str, Exception]) -> ServicesError:
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
