"""The smallest part of a failing schedule that still fails, and what it looks like."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from echorig.delivery._exchange import Exchange

from .schedule import NAMES, Schedule
from .simulate import violation

_TRIES = 2000
_LINES = 60  # shown of the beginning and of the end


def shrink(schedule: Schedule, make_exchange: Callable[..., Any] = Exchange) -> Schedule:
    """Leave out deeds and faults for as long as an invariant is broken."""
    kind = _kind(violation(schedule, make_exchange))
    tries = 0
    smaller = True
    while smaller and tries < _TRIES:
        smaller = False
        for candidate in _candidates(schedule):
            tries += 1
            if _kind(violation(candidate, make_exchange)) == kind:
                schedule = candidate
                smaller = True
                break
    return schedule


def _kind(violated: str | None) -> str:
    """Return what is violated, without the names and numbers."""
    return re.sub(r'\b[A-D]\b|\d+', '', violated or '')


def _candidates(schedule: Schedule) -> list[Schedule]:
    deeds, faults = schedule.deeds, schedule.faults
    without = [replace(schedule, deeds=deeds[:i] + deeds[i + 1 :]) for i in reversed(range(len(deeds)))]
    for i, (when, who, what, whom, how) in enumerate(deeds):
        if how.get('number', 0) > 1:
            for number in {how['number'] // 2, how['number'] - 1}:
                fewer = (when, who, what, whom, {**how, 'number': number})
                without.append(replace(schedule, deeds=(*deeds[:i], fewer, *deeds[i + 1 :])))
    return without + [replace(schedule, faults={k: v for k, v in faults.items() if k != i}) for i in reversed(faults)]


def report(schedule: Schedule, make_exchange: Callable[..., Any] = Exchange) -> str:
    """Tell what happens in a failing schedule, made as small as possible, and how to see it again."""
    found = violation(schedule, make_exchange)
    small = shrink(schedule, make_exchange)
    log: list[str] = []
    reason = violation(small, make_exchange, log)
    who = ', '.join(f'{name} = {kind}' for name, kind in zip(NAMES, small.cast, strict=False))
    head = f'seed {schedule.seed}: {found}\n{who}; latency {small.latency * 1000} ms; faults {small.faults}\n'
    again = f'again: PYTHONPATH=tests:tests/support python -m simulation 1 --seed {schedule.seed}'
    if len(log) > 2 * _LINES:
        log[_LINES:-_LINES] = [f'               ... {len(log) - 2 * _LINES} lines ...']
    return head + '\n'.join(log) + f'\n    violated: {reason}\n{again}'
