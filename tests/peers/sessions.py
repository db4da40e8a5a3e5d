"""A session of 14 calls with a rig that may be busy, and the counts of its executed messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from echorig import ExpStatus, Services, ServicesError
from lab import REF

CALLS: Sequence[tuple[int, str, tuple[Any, ...], dict[str, Any]]] = [
    (64, 'info', (ExpStatus.CONNECTED, {'subject': 'x'}), {}),
    (1, 'init', ({'exp_ref': REF},), {}),
    (32, 'status', (ExpStatus.INITIALIZED,), {}),
    (2, 'start', (REF,), {}),
    (32, 'status', (ExpStatus.RUNNING,), {}),
    (64, 'info', (ExpStatus.RUNNING, {'trial': 1}), {}),
    (64, 'info', (ExpStatus.RUNNING, {'trial': 2}), {}),
    (4, 'stop', (), {}),
    (1, 'init', ({'exp_ref': REF},), {}),
    (2, 'start', (REF, {'again': True}), {}),
    (32, 'status', (ExpStatus.RUNNING,), {}),
    (16, 'stop', (), {'immediately': True}),
    (4, 'stop', ('for good',), {}),
    (8, 'cleanup', (), {}),
]
LAST = [30, 'the end']  # the info after an impatient session
SENT = Counter([event for event, *_ in CALLS] + [64])


async def session(services: Services) -> int:
    """Make all calls and return how many succeeded."""
    succeeded = 0
    for _, method, args, kwargs in CALLS:
        try:
            await getattr(services, method)(*args, **kwargs)
        except ServicesError:
            continue
        succeeded += 1
    return succeeded


def too_often(executed: Sequence[tuple[int, Sequence[Any]]], answers: dict[int, str]) -> list[str]:
    """List the messages that a rig executed more often than they were sent, and its own answers among them."""
    counts = Counter(event for event, _ in executed)
    often = [f'event {event} {n} times, and was sent {SENT[event]}' for event, n in counts.items() if n > SENT[event]]
    own = [f'its own answer to event {event}' for event, data in executed if list(data) == [answers.get(event)]]
    return often + own
