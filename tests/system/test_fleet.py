"""Calls on a hundred rigs, a quarter of which misbehave.

benchmarks/soak/soak.py measures the duration of a thousand calls and looks for leaks.
"""

from __future__ import annotations

import asyncio
import gc

import pytest

import internals
from echorig import EchoProtocol
from lab import REF
from rig_fleet import ENDS, KINDS, Fleet

pytestmark = pytest.mark.slow


async def test_each_of_100_rigs_ends_as_it_should_and_is_named(transport):
    fleet = await Fleet.open(transport, timeout=1.0)
    try:
        assert len(fleet.rigs) == 100
        assert [len(fleet.named(kind)) for kind in KINDS] == [5] * 5
        error = await asyncio.wait_for(fleet.start(REF), 30)
        fleet.check(error, REF)
        assert len(error.failures) == sum(5 for end in ENDS[transport].values() if end is not None)
        assert 'of 100 rigs failed' in str(error)
    finally:
        await fleet.close()


async def test_calls_leave_nothing(transport):
    fleet = await Fleet.open(transport, timeout=0.3, n=20, each=2)
    try:
        await fleet.start('first')
        tasks, futures = len(asyncio.all_tasks()), _count(asyncio.Future)
        communicators = _count(EchoProtocol)
        for i in range(10):
            error = await asyncio.wait_for(fleet.start(f'call{i}'), 30)
            fleet.check(error, f'call{i}')
            del error
        assert len(asyncio.all_tasks()) <= tasks + 2  # those of connections that are just ending
        for com in fleet.rigs.values():
            assert not any(com._callbacks.values())
            assert not internals.waiters(com)
            assert not com.awaiting_response()
            assert not internals.pending_calls(com)
        assert _count(EchoProtocol) == communicators
        assert _count(asyncio.Future) < futures + 40
    finally:
        await fleet.close()


def _count(kind: type) -> int:
    gc.collect()
    return sum(isinstance(thing, kind) for thing in gc.get_objects())
