"""`Ages`: no message that is late beyond the drift of clocks seems young, whatever the clocks and delays are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echorig.transports.nats.ages import HEADER, UNKNOWN, Ages, unstamped

DRIFT = 2e-4  # seconds a second between the clocks of two computers, at most


class Clocks:
    """Two programs, the true time, and how the clock of the sender shows it."""

    def __init__(self, offset: float = 0.0, drift: float = 0.0) -> None:
        self.time, self._sent, self.offset, self.drift = 0.0, 0.0, offset, drift
        self.here = Ages(lambda: self.time)
        self.there = Ages(lambda: self.offset + self._sent * (1.0 + self.drift))

    def ask(self, delay: float = 0.0) -> None:
        """Send a message there, which arrives now."""
        frame = self.here.stamped(b'x', 'there')
        self.time += delay
        self._sent = self.time
        sent, echoed, _ = unstamped(frame)
        self.there.of('here', sent, echoed)

    def receive(self, delay: float, gap: float = 0.0) -> float:
        """Return the age of a message that was sent after a gap, and is received after a delay."""
        self.time += gap
        self._sent = self.time
        frame = self.there.stamped(b'x', 'here')
        self.time += delay
        sent, echoed, _ = unstamped(frame)
        return self.here.of('there', sent, echoed)


offsets = st.floats(1e3, 1e6)
drifts = st.floats(-DRIFT / 2, DRIFT / 2)
delays = st.one_of(st.floats(0.0, 0.01), st.floats(0.0, 100.0))
gaps = st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 1e5))
trips = st.floats(0.0, 0.4)


@given(offsets, drifts, st.lists(st.tuples(gaps, delays, st.booleans(), trips), min_size=1, max_size=20))
def test_never_too_young(offset, drift, messages):
    """Whatever is held up: a message is late by at most a round trip beyond what is said, and that by at most 1 s.

    Questions arrive after a while, too, and their answers count only as answers to them.
    """
    clocks = Clocks(offset, drift)
    assert clocks.receive(0.0) == UNKNOWN
    for gap, delay, asks, trip in messages:
        if asks:
            clocks.ask(trip)
        assert clocks.receive(delay, gap) >= delay - 1.0 - 1e-3


@given(offsets, drifts, st.lists(st.tuples(gaps, delays), min_size=1, max_size=20))
def test_never_too_young_by_more_than_the_round_trip(offset, drift, messages):
    """A round trip of 2 ms is known; clocks that drift cannot be told from delays that grow as slowly."""
    clocks = Clocks(offset, drift)
    clocks.ask(0.001)
    clocks.receive(0.001)
    hidden = 0.0021
    for gap, delay in messages:
        assert clocks.receive(delay, gap) >= delay - hidden
        hidden += DRIFT * (gap + delay)
        clocks.ask(0.001)
        clocks.receive(0.001)
        hidden = min(hidden, 0.0021 + DRIFT)


@given(offsets, drifts, st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 0.01)), min_size=1, max_size=50))
def test_usual_messages_are_young(offset, drift, messages):
    """Otherwise each would need a question; a conversation goes both ways."""
    clocks = Clocks(offset, drift)
    clocks.ask(0.001)
    clocks.receive(0.001)
    for gap, delay in messages:
        assert clocks.receive(delay, gap) <= 0.02 + 4 * DRIFT * 10.0
        clocks.ask(0.001)
        clocks.receive(0.001)


def test_messages_that_were_all_held_up_are_unknown():
    """The first ones of a program, which arrive together: none shows how late they are."""
    clocks = Clocks()
    for delay in (3.0, 2.9, 2.8, 2.7):
        assert clocks.receive(delay) == UNKNOWN
    clocks.ask(0.001)
    assert clocks.receive(0.001) < 0.01


def test_an_answer_that_is_late_itself_does_not_count():
    clocks = Clocks()
    clocks.receive(0.0)
    clocks.ask(0.001)
    assert clocks.receive(5.0) == UNKNOWN


def test_a_long_way_is_usual():
    """Over a satellite each message takes 0.3 s, and is not late."""
    clocks = Clocks()
    clocks.receive(0.3)
    clocks.ask(0.3)
    clocks.receive(0.3)
    for _ in range(5):
        assert clocks.receive(0.3, 1.0) < 0.01
    assert clocks.receive(2.3, 1.0) >= 1.99


@pytest.mark.parametrize('idle', [60.0, 3600.0, 12 * 3600.0, 7 * 24 * 3600.0])
def test_a_late_message_after_a_quiet_night(idle):
    """The clocks may have drifted meanwhile by seconds: that must not hide as long a delay."""
    clocks = Clocks()
    clocks.ask()
    clocks.receive(0.0)
    late = idle * DRIFT * 0.9
    assert clocks.receive(late, idle) >= late * 0.999
    clocks.ask()
    clocks.receive(0.0)
    assert clocks.receive(0.0, 1.0) < 0.01  # soon after an answer it is known again


def test_the_time_of_another_program_is_not_taken_for_an_own_one():
    """A rig has restarted: what its client has of the former one says nothing."""
    clocks = Clocks()
    clocks.ask()
    clocks.here = Ages(lambda: clocks.time)
    assert clocks.receive(0.0) == UNKNOWN


def test_each_sender_has_a_clock_of_its_own():
    clocks = Clocks()
    clocks.ask()
    assert clocks.receive(0.0) == 0.0
    assert clocks.here.of('another', 5, 0) == UNKNOWN
    assert clocks.receive(2.0, 0.1) == pytest.approx(2.0, abs=0.01)


def test_the_memory_is_bounded():
    ages = Ages()
    for i in range(70_000):
        ages.of(f's{i}', 1, 0)
    assert unstamped(ages.stamped(b'x', 's0'))[1] == 0  # the oldest are forgotten
    assert unstamped(ages.stamped(b'x', 's69999'))[1] == 1


@given(st.binary(min_size=1, max_size=100))
def test_a_stamp_is_removed_again(frame):
    sent, echoed, found = unstamped(Ages().stamped(frame, 'peer'))
    assert found == frame
    assert sent > 0
    assert echoed == 0


@given(st.binary(max_size=40))
def test_anything_else_has_no_stamp(payload):
    found = unstamped(payload)
    if len(payload) <= HEADER or payload[0] != 1:
        assert found is None
    else:
        assert found[2] == payload[HEADER:]
