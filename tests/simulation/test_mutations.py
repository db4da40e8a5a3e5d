"""Each rule broken in turn, which some invariant must notice."""

from __future__ import annotations

import pytest

from .mutant import ChangedRetransmissions, Mutant, OtherNumbers, OtherRuns
from .mutations import HEAVY, MUTATIONS
from .schedule import make
from .simulate import violation

pytestmark = pytest.mark.slow

SEEDS = 3000  # the hardest to see needs about 800


@pytest.mark.timeout(300)
@pytest.mark.parametrize('name', MUTATIONS)
def test_a_broken_rule_is_seen(name):
    heavy = name in HEAVY
    assert any(violation(make(seed, heavy), MUTATIONS[name]) for seed in range(SEEDS // 10 if heavy else SEEDS))


@pytest.mark.parametrize('base', [Mutant, OtherNumbers, OtherRuns, ChangedRetransmissions])
def test_what_mutants_are_made_of_breaks_nothing(base):
    assert [violation(make(seed), base) for seed in range(200)] == [None] * 200
    assert [violation(make(seed, True), base) for seed in range(5)] == [None] * 5
