"""Not too much at a time: streams to peers that read two frames as one, large messages over slow links."""

from __future__ import annotations

import heapq
import itertools

import pytest

from echorig.delivery.verdicts import Outcome, Verdict
from exchanges import (
    INIT,
    NOTICE_FRAME,
    OWN,
    START,
    STATUS,
    A,
    B,
    count,
    exchange,
    meet_echorig,
    meet_legacy,
    out,
    run_until,
)
from tagging import RUN, is_ping, ping, set_ack, strip_tag, tag

GAP = 0.1
NOW = float('-inf')  # what was sent before the time began to pass


def said_by(ex, end):
    return [(time, strip_tag(frame)) for time, frame in run_until(ex, end)]


# --- streams ---


def test_messages_to_a_peer_not_known_are_apart_on_a_stream():
    ex = exchange(stream=True)
    for i in range(4):
        ex.send(b'[2, %d]' % i, A, None, 0.0, 10.0)
    assert said_by(ex, 1.0) == [(NOW, b'[2, 0]'), (0.1, b'[2, 1]'), (0.2, b'[2, 2]'), (0.3, b'[2, 3]')]


@pytest.mark.parametrize('to', [meet_legacy, None])
def test_everything_that_is_written_is_apart(to):
    """Messages, those that nobody waits for, pings, notices, and echoes."""
    ex = exchange(stream=True)
    if to:
        to(ex)
    ex.send(START, A, None, 1.0, 10.0)
    assert ex.send_unconfirmed(STATUS, A, 1.0) is None
    assert ex.send_unconfirmed(NOTICE_FRAME, A, 1.0) is None
    assert ex.classify(b'[64, 20, 1]', A, 1.0) == Verdict.DELIVER
    assert ex.reply is None  # it is sent later
    ex.ping(A, None, 1.0, 10.0)
    said = said_by(ex, 2.0)
    assert [time for time, _ in said] == [NOW, 1.1, 1.2, 1.3, 1.4]
    assert [frame for _, frame in said[:4]] == [START, STATUS, NOTICE_FRAME, b'[64, 20, 1]']
    assert said[4][1] == b'[]'


def test_what_comes_later_than_that_is_written_at_once():
    ex = exchange(stream=True)
    for i in range(5):
        now = i * 0.15
        ex.send(b'[2, %d]' % i, A, None, now, 10.0)
        assert [strip_tag(frame) for frame in out(ex)] == [b'[2, %d]' % i]
    assert ex.send_unconfirmed(STATUS, A, 0.75) is not None
    assert ex.send_unconfirmed(STATUS, A, 0.76) is None


def test_an_echo_says_that_everything_so_far_was_read():
    ex = exchange(stream=True)
    first, second = ex.send(START, A, None, 0.0, 10.0), ex.send(INIT, A, None, 0.0, 10.0)
    assert out(ex) == [first.frame]
    assert ex.classify(first.frame, A, 0.01) == Verdict.CONFIRMED
    assert out(ex) == [second.frame]
    assert ex.send_unconfirmed(STATUS, A, 0.01) is None
    assert ex.classify(second.frame, A, 0.02) == Verdict.CONFIRMED
    assert [strip_tag(frame) for frame in out(ex)] == [STATUS]
    unconfirmed = ex.send_unconfirmed(b'[64, 20, 1]', A, 0.2)
    assert ex.send_unconfirmed(b'[64, 20, 2]', A, 0.2) is None
    assert ex.classify(unconfirmed, A, 0.21) == Verdict.STRAY_ECHO
    assert [strip_tag(frame) for frame in out(ex)] == [b'[64, 20, 2]']


def test_once_a_peer_has_proved_to_be_tagging_everything_goes_at_once():
    ex = exchange(stream=True)
    sends = [ex.send(b'[2, %d]' % i, A, None, 0.0, 10.0) for i in range(4)]
    assert ex.send_unconfirmed(STATUS, A, 0.0) is None
    (first,) = out(ex)
    assert ex.classify(set_ack(first), A, 0.01) == Verdict.CONFIRMED
    assert sorted(strip_tag(frame) for frame in out(ex)) == [b'[2, 1]', b'[2, 2]', b'[2, 3]', STATUS]
    assert ex.send_unconfirmed(STATUS, A, 0.01) is not None
    assert [send.outcome for send in sends] == [Outcome.CONFIRMED, Outcome.WAITING, Outcome.WAITING, Outcome.WAITING]


def test_a_message_of_a_tagging_peer_proves_it_at_once():
    """A connection is to one program, so that this cannot be what it has heard from another."""
    ex = exchange(stream=True)
    for i in range(3):
        ex.send(b'[2, %d]' % i, A, None, 0.0, 10.0)
    assert len(out(ex)) == 1
    assert ex.classify(tag(STATUS, 1), A, 0.01) == Verdict.DELIVER
    assert len(out(ex)) == 2
    assert ex.reply is not None


def test_connections_do_not_wait_for_each_other():
    ex = exchange(stream=True)
    for addr in (A, B):
        ex.send(START, addr, None, 0.0, 10.0)
        ex.send(INIT, addr, None, 0.0, 10.0)
    assert len(out(ex)) == 2
    assert [time for time, _ in said_by(ex, 1.0)] == [0.1, 0.1]


def test_what_has_waited_too_long_for_a_stream_is_never_sent():
    ex = exchange(stream=True)
    sends = [ex.send(b'[2, %d]' % i, A, None, 0.0, 0.25) for i in range(5)]
    assert said_by(ex, 1.0) == [(NOW, b'[2, 0]'), (0.1, b'[2, 1]'), (0.2, b'[2, 2]')]
    assert {send.outcome for send in sends} == {Outcome.TIMED_OUT}


def test_echoes_for_one_who_sends_many_at_once_do_not_pile_up():
    """It tells messages apart itself, and does not wait for an echo before the next."""
    ex = exchange(stream=True)
    frames = [b'[32, %d]' % i for i in range(100)]
    echoes = []
    for frame in frames:
        assert ex.classify(frame, A, 1.0) == Verdict.DELIVER
        echoes += [*out(ex), *([ex.reply] if ex.reply is not None else [])]
    assert echoes == frames


def test_a_bare_text_stands_alone_on_a_stream():
    """Nothing shows where it ends, to whomever it is sent."""
    ex = exchange(stream=True)
    ex.classify(tag(STATUS, 1), A, 0.0)  # this end has tags
    assert ex.send_unconfirmed(b'text', A, 1.0, False) == b'text'
    assert ex.send_unconfirmed(STATUS, A, 1.0) is None
    assert ex.classify(tag(STATUS, 2), A, 1.0) == Verdict.DELIVER
    assert ex.reply is None
    assert [time for time, _ in run_until(ex, 2.0)] == [pytest.approx(1.0 + GAP)] * 2


def test_a_connection_that_is_lost_leaves_nothing_to_be_sent():
    ex = exchange(stream=True)
    ex.send(START, A, None, 0.0, 10.0)
    ex.send_unconfirmed(STATUS, A, 0.0)
    out(ex)
    ex.disconnect(A, 0.05)
    assert run_until(ex, 1.0) == []


def test_datagrams_are_not_paced():
    """They are read one by one."""
    ex = exchange()
    meet_legacy(ex)
    assert None not in [ex.send_unconfirmed(STATUS, A, 0.0) for _ in range(20)]


# --- slow links ---

LARGE = b'[64, 20, "' + b'x' * 1000 + b'"]'


def known(ex, round_trip=0.05):
    """Let A show that it is a tagging peer, and how far away it is."""
    ex.ping(A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.classify(set_ack(frame), A, round_trip) == Verdict.CONFIRMED


def test_a_large_message_is_not_repeated_before_a_ping_has_overtaken_it():
    ex = exchange()
    known(ex)
    send = ex.send(LARGE, A, None, 1.0, 10.0)
    assert out(ex) == [send.frame]
    said = run_until(ex, 1.5)
    assert len(said) > 1
    assert all(is_ping(frame) for _, frame in said)
    assert (
        ex.classify(set_ack(said[0][1]), A, 1.51) == Verdict.STRAY_ECHO
    )  # it is waited for the answer to the last question
    assert out(ex) == []
    assert ex.classify(set_ack(said[-1][1]), A, 1.52) == Verdict.STRAY_ECHO
    (again,) = out(ex)
    assert strip_tag(again) == LARGE
    assert count(ex, 'retransmitted') == 1
    assert ex.classify(set_ack(send.frame), A, 1.6) == Verdict.CONFIRMED


def test_an_echo_of_a_ping_from_before_the_repetition_says_nothing_of_it():
    ex = exchange()
    known(ex)
    ex.send(LARGE, A, None, 1.0, 10.0)
    out(ex)
    said = run_until(ex, 1.2)
    asked = said[-1][1]
    ex.classify(set_ack(asked), A, 1.21)
    assert [strip_tag(frame) for frame in out(ex)] == [LARGE]
    ex.classify(set_ack(asked), A, 1.22)
    assert out(ex) == []


def test_a_small_message_is_repeated_at_once():
    """It is shorter than two pings."""
    ex = exchange()
    known(ex)
    ex.send(START, A, None, 1.0, 10.0)
    out(ex)
    said = run_until(ex, 1.5)
    assert {strip_tag(frame) for _, frame in said} == {START}


class Link:
    """A wire to and from the other end, which takes so many bytes a second each way, and its clock."""

    def __init__(self, rate: float, lost=frozenset()) -> None:
        self.main, self.rig = exchange(number=1), exchange(run=RUN)
        self.rate = rate
        self.lost = lost
        self.now = 0.0
        self.free = {A: 0.0, B: 0.0}  # when the wire to each end takes the next byte
        self.coming: list[tuple[float, int, object, bytes]] = []
        self.counter = itertools.count()
        self.passed: list[bytes] = []  # to the rig
        self.delivered: list[bytes] = []

    def carry(self, frame: bytes, to: tuple[str, int]) -> None:
        begins = max(self.now, self.free[to])
        self.free[to] = begins + (len(frame) + 28) / self.rate
        n = next(self.counter)
        if to == A:
            self.passed.append(frame)
        if n not in self.lost:
            heapq.heappush(self.coming, (self.free[to], n, to, frame))

    def settle(self) -> None:
        for frame in out(self.main):
            self.carry(frame, A)
        for frame in out(self.rig):
            self.carry(frame, B)

    def say(self, frame: bytes, timeout: float) -> int:
        """Send a message, and wait for its end."""
        send = self.main.send(frame, A, None, self.now, timeout)
        self.settle()
        while send.outcome == Outcome.WAITING:
            self.now = min(self.main.alarm, self.rig.alarm, *(entry[0] for entry in self.coming[:1]))
            while self.coming and self.coming[0][0] <= self.now:
                _, _, to, said = heapq.heappop(self.coming)
                if to == A:
                    verdict = self.rig.classify(said, B, self.now)
                    if verdict == Verdict.DELIVER:
                        self.delivered.append(strip_tag(said))
                    if verdict in (Verdict.DELIVER, Verdict.ECHO):
                        self.carry(self.rig.reply, B)
                else:
                    self.main.classify(said, A, self.now)
                self.settle()
            for end in (self.main, self.rig):
                if end.alarm <= self.now:
                    end.expire(self.now)
            self.settle()
        return send.outcome


@pytest.mark.parametrize('rate', [2500.0, 12_000.0])
@pytest.mark.parametrize('size', [1000, 4000])
def test_a_slow_link_is_not_filled_with_repetitions(rate, size):
    """20 kbit/s: a message takes longer than any round trip that was measured before."""
    link = Link(rate)
    message = b'[64, 20, "%s"]' % (b'x' * size)
    outcomes = [link.say(message, 20.0) for _ in range(20)]
    assert outcomes == [Outcome.CONFIRMED] * 20
    assert link.delivered == [message] * 20
    needed = 20 * (len(message) + 128)
    assert sum(map(len, link.passed)) <= 1.25 * needed


def test_a_slow_link_that_loses_something():
    link = Link(2500.0, lost={6, 9, 15, 30})
    outcomes = [link.say(b'[64, %d, "%s"]' % (i, b'x' * 1000), 20.0) for i in range(10)]
    assert outcomes == [Outcome.CONFIRMED] * 10
    assert len(set(link.delivered)) == len(link.delivered) == 10


def test_on_a_quick_link_large_messages_are_repeated_soon():
    """A loss costs a round trip more than before, not a tenth of a second."""
    link = Link(1e7, lost=set(range(20, 400, 7)))
    begun = link.now
    for i in range(40):
        assert link.say(b'[64, %d, "%s"]' % (i, b'x' * 1000), 5.0) == Verdict.CONFIRMED
    assert len(link.delivered) == 40
    assert link.now - begun < 40 * 0.1


def test_pings_of_others_are_answered_whatever_is_on_its_way():
    ex = exchange()
    meet_echorig(ex)
    ex.send(LARGE, A, None, 0.0, 1.0)
    out(ex)
    assert ex.classify(ping(5), A, 0.1) == Verdict.ECHO
    assert ex.classify(tag(NOTICE_FRAME, 6), A, 0.1) == Verdict.ERROR_NOTICE
    assert ex.run == OWN
