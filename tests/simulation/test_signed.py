"""Programs that sign, an attacker, and that broken signatures would be noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from echorig.security._signature import OVERHEAD
from echorig.security._signing import Signer

from .parallel import run
from .signed import make_signed
from .simulate import Simulation, violation
from .tags import FIELD, TAG
from .test_simulation import SCHEDULES

SEEDS = 400


@pytest.mark.timeout(1800)
def test_all_invariants_hold():
    failure = run(0, SCHEDULES // 5, processes=2, signed=True)
    assert failure is None, failure


@pytest.mark.slow
def test_schedules_reach_everything():
    log: list[str] = []
    attacks = 0
    for seed in range(600):
        simulation = Simulation(make_signed(seed), log=log)
        simulation.run()
        attacks += simulation.attacker.attacks
    assert attacks > 1000
    text = '\n'.join(log)
    for word in (
        'a HANDSHAKE',
        'what is UNSIGNED',
        'DELIVER',
        'ECHO',
        'CONFIRMED',
        'ERROR_NOTICE',
        'IGNORED',
        'EXPIRED',
    ):
        assert text.count(f'  {word}\n') > 5, word


class NothingIsChecked(Signer):
    """Everything that looks signed is believed."""

    def open(self, frame: bytes, addr: Any, now: float) -> bytes | None:
        plain = super().open(frame, addr, now)
        if plain is None and self.verdict and len(frame) > OVERHEAD + 2 and frame[1:2].isdigit():
            named = frame[-TAG - FIELD - 1 : -TAG - 1]
            return frame[: -OVERHEAD - 1] + frame[-TAG - 1 - (FIELD if named.strip(b' ') else 0) :]
        return plain


def without_chance(*args: Any, random: Any, **kwargs: Any) -> Signer:
    """Every session has the same key."""
    return Signer(*args, random=bytes, **kwargs)


def never_asking_again(*args: Any, **kwargs: Any) -> Signer:
    """A peer that has begun anew is not found out."""
    return Signer(*args, retry=1e9, **kwargs)


class OneForAll(Signer):
    """All peers are one."""

    def seal(self, frame: bytes, addr: Any, now: float) -> bytes | None:
        sealed = super().seal(frame, 'all', now)
        self.outbox[:] = [(frame, addr) for frame, _ in self.outbox]
        return sealed

    def open(self, frame: bytes, addr: Any, now: float) -> bytes | None:
        plain = super().open(frame, 'all', now)
        self.outbox[:] = [(frame, addr) for frame, _ in self.outbox]
        return plain

    def drop(self, frame: bytes, addr: Any) -> None:
        super().drop(frame, 'all')

    def send_failed(self, frame: bytes, addr: Any) -> None:
        super().send_failed(frame, 'all')


@pytest.mark.parametrize('broken', [NothingIsChecked, without_chance, never_asking_again, OneForAll])
def test_a_broken_signature_is_seen(broken: Callable[..., Any]):
    assert any(violation(make_signed(seed), make_signer=broken) for seed in range(SEEDS))
