"""Each rule broken in turn, which some invariant must notice."""

from __future__ import annotations

import pytest

from .mutations import MUTATIONS, Mutant
from .schedule import make
from .simulate import violation

SEEDS = 1000  # the hardest to see needs about 150


@pytest.mark.parametrize('name', MUTATIONS)
def test_a_broken_rule_is_seen(name):
    assert any(violation(make(seed), MUTATIONS[name]) for seed in range(SEEDS))


def test_what_mutants_are_made_of_breaks_nothing():
    assert [violation(make(seed), Mutant) for seed in range(200)] == [None] * 200
