"""Sends to one or several rigs at once, and collects the outcome of each.

1. The callbacks of each rig are registered before the first byte is sent: an answer may arrive together with the echo.
2. All rigs are sent to, in order, even if some fail; those first whose methods no program has replaced.
3. A rig that can no longer answer (it reported a failure, interrupted, was closed or lost) fails at once.
4. Only documented methods of the rigs are called, so that any `Service` with them can be a rig.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..messages import ExpMessage
from ..stall import wait
from ._pipeline import send_prepared
from .direct_send import DirectSender, composed_once
from .interfaces import Answering
from .pending_answer import PendingAnswer

__all__ = ['Timing', 'outcomes']


@dataclass
class Timing:
    """When callbacks shall run, and have run, by the name of the rig: in ns since 1970 on the clock of the rig."""

    wanted: Mapping[str, int]
    ran: dict[str, int] = field(default_factory=dict)


async def outcomes(
    rigs: Sequence[Answering],
    event: ExpMessage,
    message: tuple[str, tuple[Any, ...], dict[str, Any]] | None,
    timeout: float | None,
    from_echo: bool = False,
    timing: Timing | None = None,
) -> dict[str, Any]:
    """Send to rigs in order, wait for all of them, and return the answer or the exception of each, by name.

    `message` is the method of each rig that sends it, and its arguments; None only waits for `event`. The time-out, in
    seconds, starts with the sends, or with the echoes if `from_echo` is true; None or 0 is no limit. `timing` is only
    for rigs with a `DirectSender`.
    """
    pending: list[PendingAnswer] = []
    composed = composed_once(rigs[0], message) if rigs and message is not None else None
    try:
        for rig in rigs:
            sender = None if message is None or composed is None else DirectSender.of(rig, message[0])
            pending.append(PendingAnswer(rig, event, message is not None, sender))
        by_method = [answer for answer in pending if answer.sender is None]
        if by_method:
            await asyncio.sleep(0)  # the tasks that read take their first step
        if message is not None:
            if composed is not None:
                wanted = {} if timing is None else timing.wanted
                prepared = [
                    answer.prepare(*composed, wanted.get(answer.rig.name, 0))
                    for answer in pending
                    if answer.sender is not None
                ]
                send_prepared([one for one in prepared if one is not None])
            for answer in by_method:
                answer.send(*message)
            if by_method:
                await asyncio.sleep(0)  # the tasks that send take theirs, one right after the other
            if from_echo:
                await asyncio.wait([answer.sending for answer in pending if answer.sending is not None])
        ends = [answer.outcome for answer in pending]
        await wait(ends, timeout or None, lambda: [_last_seen(rig) for rig in rigs])
        for answer in pending:
            answer.expire()
        await wait(ends, None)
        if timing is not None:
            timing.ran.update({answer.rig.name: answer.ran_at for answer in pending if answer.ran_at})
        return {answer.rig.name: answer.outcome.result() for answer in pending}
    finally:
        for answer in pending:
            answer.close()


def _last_seen(rig: object) -> object:
    """Return a value that changes with each message from a rig, and with each piece of a long one."""
    if (progress := DirectSender.progress_of(rig)) is not None:
        return progress
    peers = getattr(rig, 'peers', None)
    return [peer.last_seen for peer in peers.values()] if isinstance(peers, Mapping) else None
