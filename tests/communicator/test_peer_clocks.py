"""Clocks of peers, compared by pings."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from time import monotonic

import pytest

import echorig
from echorig import wall_clock
from echorig.communicator import peer_clocks
from echorig.communicator.peer_clocks import PeerClock, PeerClocks
from echorig.testing import FakeRig

A, B = ('10.0.0.1', 1), ('10.0.0.2', 2)
HOUR = 3600 * 10**9
BUSY = 'import time\nend = time.monotonic() + 100\nwhile time.monotonic() < end: pass'  # it ends by itself, too
RIG = Path(__file__).parents[1] / 'support' / 'clock_rig.py'


def add(clocks: PeerClocks, offset: float, round_trip: float, ago: float = 0.0, asymmetry: float = 0.0) -> None:
    """Add the echo of a peer that is `offset` seconds ahead, received `ago` seconds ago."""
    at = monotonic() - ago
    middle = time.time_ns() - round((monotonic() - at + round_trip / 2) * 1e9)
    clocks.add(A, middle + round((offset + asymmetry) * 1e9), at, round_trip)


def known(clocks: PeerClocks) -> PeerClock:
    clock = clocks.get(A)
    assert clock is not None
    return clock


def test_the_best_of_the_last_eight_pings_counts():
    clocks = PeerClocks()
    assert clocks.get(A) is None
    add(clocks, 5.0, 0.2, ago=2.0, asymmetry=0.09)
    assert known(clocks).error == pytest.approx(0.1, abs=0.01)
    add(clocks, 5.0, 0.01, ago=1.0)
    for _ in range(7):
        add(clocks, 5.0, 0.2, asymmetry=-0.09)
    clock = known(clocks)
    assert clock.offset == pytest.approx(5.0, abs=clock.error)
    assert clock.error == pytest.approx(0.005, abs=0.003)
    assert clock.age >= 1.0
    add(clocks, 5.0, 0.2)
    assert known(clocks).error == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize('step', [-HOUR / 1e9, -1.0, 1.0, HOUR / 1e9])
def test_a_clock_that_was_set_is_noticed_at_once(step):
    clocks = PeerClocks()
    for _ in range(8):
        add(clocks, 5.0, 0.001)
    add(clocks, 5.0 + step, 0.1)
    clock = known(clocks)
    assert clock.offset == pytest.approx(5.0 + step, abs=clock.error)
    assert clock.error < 0.06


def test_the_bound_grows_with_age():
    clocks = PeerClocks()
    add(clocks, 0.0, 0.0, ago=100.0)
    assert known(clocks).error == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize('drift', [-50e-6, 0.0, 20e-6])
def test_drift(drift):
    clocks, rng = PeerClocks(), random.Random(1)
    for ago in range(300, -1, -1):
        add(clocks, -drift * ago, 0.0002, ago=float(ago), asymmetry=rng.uniform(-0.0001, 0.0001))
        if ago > 275:
            assert known(clocks).drift is None
    assert known(clocks).drift == pytest.approx(drift, abs=2e-6)


def test_the_history_is_bounded(monkeypatch):
    monkeypatch.setattr(peer_clocks, '_MAX_PEERS', 3)
    clocks = PeerClocks()
    for port in range(5):
        clocks.add(('10.0.0.1', port), time.time_ns(), monotonic(), 0.001)
    assert [clocks.get(('10.0.0.1', port)) is None for port in range(5)] == [True, True, False, False, False]


async def test_clocks_of_one_computer_agree(lab, transport):
    server, client = await lab.pair(transport)
    assert client.clock() is None
    clock = await client.measure_clock()
    assert clock is not None
    assert abs(clock.offset) <= clock.error
    assert clock.drift is None
    assert clock.age >= 0.0
    own = client._transport.get_extra_info('sockname')[:2]
    assert server.clock(own) is None
    there = await server.measure_clock(own, n_pings=2, timeout=30.0)
    assert abs(there.offset) <= there.error


async def test_signed_pings_tell_the_time(lab, transport):
    _, client = await lab.pair(transport, key=b'k' * 16)
    clock = await client.measure_clock()
    assert clock is not None
    assert abs(clock.offset) <= clock.error


async def test_a_legacy_rig_tells_no_time(lab, transport):
    async with FakeRig(f'{transport}://127.0.0.1:0', 'iblutil') as rig:
        client = await lab.client(rig.uri)
        assert await client.ping() > 0.0
        assert client.clock() is None
        assert await client.measure_clock() is None


async def test_arguments(lab):
    server, client = await lab.pair()
    with pytest.raises(TypeError, match="'addr' is required"):
        server.clock()
    with pytest.raises(ValueError, match='n_pings'):
        await client.measure_clock(n_pings=0)


@pytest.mark.blocks
@pytest.mark.parametrize('offset', [-HOUR, 123_456_789, HOUR])
async def test_a_clock_that_differs(lab, transport, offset):
    command = [sys.executable, str(RIG), str(offset), f'{transport}://127.0.0.1:0']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            client = await lab.client(process.stdout.readline().strip())
            clock = await client.measure_clock(timeout=30.0)
            assert clock is not None
            assert abs(clock.offset - offset / 1e9) <= clock.error + 1e-6
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.blocks
async def test_the_bound_is_right_under_load(lab):
    """Of 10,000 estimates beside two busy programs at least 99.9 % have the true offset, 0, within their bound."""
    busy = [subprocess.Popen([sys.executable, '-c', BUSY]) for _ in range(2)]
    try:
        _, client = await lab.pair()
        wrong = 0
        for _ in range(10_000):
            await client.ping(timeout=30.0)
            clock = client.clock()
            wrong += abs(clock.offset) > clock.error
        assert wrong <= 10
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_names():
    assert echorig.PeerClock is PeerClock


@pytest.mark.parametrize('step', [-HOUR, -(10**9), 10**9, HOUR])
def test_a_clock_of_this_computer_that_was_set_makes_the_others_unknown(monkeypatch, step):
    clocks = PeerClocks()
    add(clocks, 5.0, 0.001)
    assert known(clocks).offset == pytest.approx(5.0, abs=0.01)
    monkeypatch.setattr(peer_clocks, 'wall_time', lambda: time.time_ns() + step)
    assert clocks.get(A) is None
    add(clocks, 5.0, 0.001)
    assert known(clocks).offset == pytest.approx(5.0 - step / 1e9, abs=0.01)
    add(clocks, 5.0, 10 * abs(step) / 1e9)  # its error is larger than the step
    monkeypatch.setattr(peer_clocks, 'wall_time', time.time_ns)
    add(clocks, 5.0, 10 * abs(step) / 1e9)
    assert clocks.get(A) is not None


def test_the_bound_includes_the_steps_of_the_clock(monkeypatch):
    """Windows reads the monotonic clock in steps of 15.6 ms, before Python 3.13."""
    monkeypatch.setattr(peer_clocks, 'RESOLUTION', 1 / 64)
    clocks = PeerClocks()
    at = int(monotonic() * 64) / 64
    clocks.add(A, time.time_ns(), at, 0.0)
    clock = known(clocks)
    assert clock.error >= 2 / 64
    assert abs(clock.offset) <= clock.error + monotonic() - at


def test_the_clock_has_small_steps():
    """That of Windows too."""
    deadline = monotonic() + 30
    last, smallest = wall_clock.wall_time(), 10**9
    while smallest >= 10**6:
        assert monotonic() < deadline, f'the smallest step is {smallest} ns'
        now = wall_clock.wall_time()
        if now > last:
            smallest, last = min(smallest, now - last), now
    assert abs(now - time.time_ns()) < 10**9
