"""`Ages`: no message that is late beyond the drift of clocks seems young, whatever the clocks and delays are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echorig.transports.nats.ages import HEADER, UNKNOWN, Ages, stamped, unstamped

DRIFT = 2e-4  # seconds a second between the clocks of two computers, at most


class Clocks:
    """The time, and how the clocks of two computers show it."""

    def __init__(self, offset: float, drift: float) -> None:
        self.time, self.offset, self.drift = 0.0, offset, drift
        self.ages = Ages(lambda: self.time)

    def receive(self, delay: float, gap: float = 0.0, sender: str = 'a') -> float:
        """Return the age of a message that is received now after a delay."""
        self.time += gap
        sent = self.time - delay
        return self.ages.of(sender, self.offset + sent * (1.0 + self.drift))


offsets = st.floats(-1e6, 1e6)
drifts = st.floats(-DRIFT / 2, DRIFT / 2)
delays = st.one_of(st.floats(0.0, 0.01), st.floats(0.0, 100.0))
gaps = st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 1e5))


@given(offsets, drifts, st.lists(st.tuples(gaps, delays), min_size=1, max_size=20), st.floats(0.0, 1000.0))
def test_never_too_young(offset, drift, messages, gap):
    """The age is at least the delay beyond that of an earlier message which had the usual delay."""
    clocks = Clocks(offset, drift)
    assert clocks.receive(0.0) == UNKNOWN
    for between, delay in messages:
        excess = clocks.receive(delay, between)
        clocks.receive(0.0)  # the usual delay, so that the next one has a reference
        assert excess >= delay * (1 - DRIFT) - 1e-6


@given(offsets, drifts, st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 0.01)), min_size=1, max_size=50))
def test_usual_messages_are_young(offset, drift, messages):
    """Otherwise each would need a question."""
    clocks = Clocks(offset, drift)
    clocks.receive(0.0)
    for between, delay in messages:
        assert clocks.receive(delay, between) <= 0.02 + 2 * DRIFT * sum(gap for gap, _ in messages)


@pytest.mark.parametrize('idle', [60.0, 3600.0, 12 * 3600.0, 7 * 24 * 3600.0])
def test_a_late_message_after_a_quiet_night(idle):
    """The clocks may have drifted meanwhile by seconds: that must not hide as long a delay."""
    clocks = Clocks(5.0, 0.0)
    clocks.receive(0.0)
    late = idle * DRIFT * 0.9
    assert clocks.receive(late, idle) >= late * 0.999
    clocks.receive(0.0)
    assert clocks.receive(0.0, 1.0) < 0.01  # soon after another one it is known again


def test_a_clock_that_is_set_back_and_forth():
    """A boot clock is not set; a program of another computer with the same name has another one."""
    clocks = Clocks(0.0, 0.0)
    clocks.receive(0.0)
    clocks.offset += 10.0  # the sender's clock goes back by 10 s for this program: its messages seem faster
    assert clocks.receive(0.0, 1.0) < 0.01
    assert clocks.receive(3.0, 1.0) >= 2.999
    clocks.offset -= 10.0
    assert clocks.receive(0.0, 1.0) >= 9.99  # slower: its sender is asked


def test_each_sender_has_a_clock_of_its_own():
    clocks = Clocks(0.0, 0.0)
    clocks.receive(0.0, sender='a')
    assert clocks.receive(0.0, sender='b') == UNKNOWN
    assert clocks.receive(2.0, sender='a') == pytest.approx(2.0)


def test_the_memory_is_bounded():
    clocks = Clocks(0.0, 0.0)
    for i in range(70_000):
        clocks.receive(0.0, sender=f's{i}')
    assert clocks.receive(0.0, sender='s0') == UNKNOWN  # the oldest are forgotten, and asked again
    assert clocks.receive(0.0, sender='s69999') < 1.0


@given(st.binary(min_size=1, max_size=100))
def test_a_stamp_is_removed_again(frame):
    sent, found = unstamped(stamped(frame))
    assert found == frame
    assert sent > 0.0


@given(st.binary(max_size=40))
def test_anything_else_has_no_stamp(payload):
    found = unstamped(payload)
    if len(payload) <= HEADER or payload[0] != 1:
        assert found is None
    else:
        assert found[1] == payload[HEADER:]
