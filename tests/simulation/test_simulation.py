"""Schedules by the thousand, and that a failing one can be understood and seen again."""

from __future__ import annotations

import os

import pytest

from .mutations import MUTATIONS
from .parallel import first_failure, run
from .schedule import DELAY, DOUBLE, LOSE, make
from .shrink import report, shrink
from .simulate import Simulation, violation

SCHEDULES = int(os.environ.get('ECHORIG_SCHEDULES') or 5_000)


@pytest.mark.timeout(1800)
def test_all_invariants_hold():
    failure = run(0, SCHEDULES, processes=2)
    assert failure is None, failure


def test_a_seed_means_the_same_each_time():
    for seed in range(50):
        logs: list[list[str]] = [[], []]
        for log in logs:
            assert violation(make(seed), log=log) is None
        assert logs[0] == logs[1]
    assert make(7) != make(8)


@pytest.mark.slow
def test_schedules_reach_everything():
    """What is not reached cannot fail: every kind of fault and deed, and every verdict, is there in numbers."""
    schedules = [make(seed) for seed in range(1000)]
    kinds = [kind for schedule in schedules for kind in schedule.cast]
    assert {kind: kinds.count(kind) > 20 for kind in kinds} == dict.fromkeys(kinds, True)
    assert len(set(kinds)) == 4
    deeds = [deed[2] for schedule in schedules for deed in schedule.deeds]
    assert min(deeds.count(deed) for deed in set(deeds)) > 20
    assert len(set(deeds)) == 15
    faults = [fault[0] for schedule in schedules for fault in schedule.faults.values()]
    assert min(faults.count(fault) for fault in (LOSE, DOUBLE, DELAY, 'damage')) > 20
    assert sum(schedule.aliases for schedule in schedules) > 20
    assert sum(schedule.first > 1 for schedule in schedules) > 20
    log: list[str] = []
    for schedule in schedules:
        Simulation(schedule, log=log).run()
    text = '\n'.join(log)
    for word in ('CONFIRMED', 'DELIVER', 'ERROR_NOTICE', 'STRAY_ECHO', 'MISMATCH', 'ECHO', 'DAMAGED', 'EXPIRED'):
        assert text.count(f'  {word}\n') > 5, word
    for outcome in ('CONFIRMED', 'TIMED_OUT', 'UNREACHABLE', 'MISMATCH'):
        assert text.count(f'has ended as {outcome}\n') > 5, outcome
    assert text.count('B closes: this is not the echo') > 5
    assert text.count('B cannot read this, and sends a notice') > 5
    assert text.count('  RATE_LIMITED\n') > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thousands_of_messages_reach_the_limits():
    """Some wait until an earlier one is confirmed, some are too many to wait, and some come when nobody knows them."""
    log: list[str] = []
    held = 0
    for seed in range(30):
        simulation = Simulation(make(seed, heavy=True), log=log)
        while simulation.network.step():
            held = max(held, *(len(getattr(node, 'held', ())) for node in simulation.nodes.values()))
    assert held > 500
    assert sum('may say no more' in line for line in log) > 10
    assert sum(line.endswith('  IGNORED') for line in log) > 10
    assert sum('sends: A -> B' in line for line in log) > 10_000


def test_a_failing_seed_is_made_small_and_replays():
    mutant = MUTATIONS['DuplicatesAreNew']
    seed = next(seed for seed in range(1000) if violation(make(seed), mutant) and len(make(seed).deeds) > 5)
    small = shrink(make(seed), mutant)
    assert violation(small, mutant) is not None
    assert len(small.deeds) <= 3
    assert len(small.faults) <= 3
    text = report(make(seed), mutant)
    assert f'again: PYTHONPATH=tests:tests/support python -m simulation 1 --seed {seed}' in text
    assert 'violated: ' in text
    assert report(make(seed), mutant) == text


def test_the_first_failure_is_found(monkeypatch):
    monkeypatch.setattr('simulation.parallel.violation', lambda schedule: 'bad' if schedule.seed >= 1234 else None)
    assert first_failure(1000, 500) == 1234
    assert first_failure(0, 10) is None
