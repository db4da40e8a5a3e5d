"""What the gate of the benchmarks makes of the times it is given; nothing is timed here."""

from __future__ import annotations

import random

import pytest

from benchmarks.gate import gate

BARE = 1e-5


def process(ratio: float, seed: int, busy: float = 0.0, n: int = 400) -> list[tuple[float, float, float]]:
    """Rounds with noise of 2 %; in a share of them a neighbour makes everything slow, and echorig more."""
    rng = random.Random(seed)
    rounds = []
    for _ in range(n):
        slow = rng.random() < busy
        bare, own = BARE * (1.6 if slow else 1), BARE * ratio * (1.8 if slow else 1)
        before, after = (bare * rng.gauss(1, 0.01) for _ in range(2))
        rounds.append((before, own * rng.gauss(1, 0.02), after))
    return rounds


def ratio(processes) -> float:
    return sorted(gate.undisturbed(processes))[len(processes) // 2]


def test_the_ratio_is_found_whatever_the_neighbours_do():
    for busy in (0.0, 0.3, 0.7):
        assert ratio([process(0.9, seed, busy) for seed in range(8)]) == pytest.approx(0.9, rel=0.01)


def test_rounds_in_which_the_pace_changed_do_not_count():
    changed = [(BARE, 9 * BARE, 1.6 * BARE)] * 400
    assert gate.undisturbed([changed]) == []
    assert ratio([process(0.9, seed) + changed for seed in range(8)]) == pytest.approx(0.9, rel=0.01)


def test_a_process_that_was_never_quiet_does_not_count():
    busy = process(0.9, 1, busy=1.0)
    assert len(gate.undisturbed([busy, process(0.9, 2), process(0.9, 3)])) == 2


@pytest.mark.parametrize(
    ('change', 'passes', 'verdict'),
    [(1.0, True, 'as before'), (1.05, True, 'as before'), (1.15, False, 'slower'), (0.8, True, 'faster')],
)
def test_verdicts(change, passes, verdict):
    found = {'udp': ratio([process(0.9 * change, seed) for seed in range(8)])}
    ((name, text, passed),) = gate.compared(found, {'udp': 0.9}, gate.TOLERANCE)
    assert (name, passed) == ('udp', passes)
    assert verdict in text


def test_a_row_that_is_missing_fails():
    ((_, text, passed),) = gate.compared({}, {'udp': 0.9}, gate.TOLERANCE)
    assert not passed
    assert 'not measured' in text


def test_the_baseline_and_stored_runs_are_read(tmp_path):
    ratios, tolerance = gate.stored(gate.BASELINE)
    assert set(ratios) == {f'{loop}-{transport}' for loop in ('uvloop', 'asyncio') for transport in ('udp', 'tcp')}
    assert tolerance == gate.TOLERANCE
    run = tmp_path / 'run.json'
    run.write_text(
        '{"benchmarks": [{"name": "bench_round_trip[uvloop-udp-1rig]", "extra_info": {"ratio": {"bare": 0.8}}},'
        ' {"name": "bench_import", "extra_info": {}}]}'
    )
    assert gate.stored(run) == ({'uvloop-udp': 0.8}, gate.TOLERANCE)
