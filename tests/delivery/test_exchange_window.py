"""Which numbers of a program were received: a window of 1,024, whatever the time and the number of messages between."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echorig.delivery.verdicts import Outcome, Verdict
from exchanges import A, B, count, exchange, meet_echorig, out, run_until
from tagging import ping, set_ack, tag

WINDOW = 1024
FRAME = b'[64, 20, 1]'
HOUR = 3600.0


def heard(ex, numbers, now=0.0):
    """Receive messages with given numbers; return for each whether it was delivered."""
    verdicts = [ex.classify(tag(FRAME, number), A, now) for number in numbers]
    assert set(verdicts) <= {Verdict.DELIVER, Verdict.ECHO, Verdict.IGNORED}
    return [verdict == Verdict.DELIVER for verdict in verdicts]


def test_each_number_is_new_once_in_any_order():
    numbers = list(range(5000, 5000 + WINDOW))
    random.Random(1).shuffle(numbers)
    ex = exchange()
    assert all(heard(ex, numbers))
    assert not any(heard(ex, numbers))


def test_the_window_has_its_size():
    """What is below it is not confirmed either: nobody knows any more whether it was delivered."""
    ex = exchange()

    def verdict(number):
        return ex.classify(tag(FRAME, number), A, 0.0)

    assert [verdict(10_000 - i) for i in (0, WINDOW - 1, WINDOW, WINDOW - 1, 0)] == [
        *(Verdict.DELIVER, Verdict.DELIVER, Verdict.IGNORED, Verdict.ECHO, Verdict.ECHO)
    ]
    assert verdict(10_001) == Verdict.DELIVER
    assert [verdict(10_001 - i) for i in (WINDOW, WINDOW - 1, WINDOW - 2)] == [
        Verdict.IGNORED,
        Verdict.DELIVER,
        Verdict.DELIVER,
    ]
    assert count(ex, 'duplicates') == 4


@pytest.mark.parametrize(
    'ahead', [1, 63, 64, 65, 127, 128, 1000, WINDOW - 1, WINDOW, WINDOW + 1, 10**6, 2**31, 2**32 - 3001]
)
def test_numbers_far_above(ahead):
    """What is known of those below moves with the window."""
    ex = exchange()
    below = [3000 - 5 * i for i in range(200)]
    assert all(heard(ex, below))
    assert heard(ex, [3000 + ahead, 3000 + ahead]) == [True, False]
    assert not any(heard(ex, below))
    between = [number for number in (2999, 2001, 3001) if number < 3000 + ahead and number > 3000 + ahead - WINDOW]
    assert all(heard(ex, between))
    assert not any(heard(ex, between))


@pytest.mark.parametrize('number', [0, 1, 2, 1023, 2**31, 2**32 - 1])
def test_the_first_number_may_be_any(number):
    ex = exchange()
    assert heard(ex, [number, number]) == [True, False]


def test_numbers_far_below_are_never_new():
    ex = exchange()
    assert heard(ex, [2**32 - 1]) == [True]
    assert not any(heard(ex, [1, 2**31, 2**32 - 1 - WINDOW, 2**32 - 2 * WINDOW]))
    assert count(ex, 'duplicates') == 4


@pytest.mark.parametrize('later', [0.06, 61.0, HOUR, 24 * HOUR])
def test_2000_copies(later):
    """A link doubles each of 2,000 messages, and the copy comes after all of them, or the next day."""
    ex = exchange()
    numbers = range(1, 2001)
    assert all(heard(ex, numbers))
    assert not any(heard(ex, numbers, later))
    assert heard(ex, [2001], later) == [True]


def test_a_message_that_is_late_by_hours_is_new():
    """Its sender has said nothing that is further ahead: it is still to be confirmed."""
    ex = exchange()
    assert heard(ex, [1]) == [True]
    assert all(heard(ex, range(3, 2 + WINDOW), HOUR))
    assert heard(ex, [2, 2], 5 * HOUR) == [True, False]


def test_100_unconfirmed_messages_do_not_push_out_one_whose_echo_was_lost():
    ex = exchange()
    assert heard(ex, [7]) == [True]
    assert all(heard(ex, range(8, 108)))
    assert heard(ex, [7], 100.0) == [False]


def test_each_program_has_its_own_window_and_each_address_not():
    ex = exchange()
    frame = tag(FRAME, 7)
    assert ex.classify(frame, A, 0.0) == Verdict.DELIVER
    assert ex.classify(frame, B, 0.0) == Verdict.ECHO  # the network has carried it another way
    assert ex.classify(tag(FRAME, 7, run=5), B, 0.0) == Verdict.DELIVER
    assert ex.classify(tag(FRAME, 7, run=5), A, 0.0) == Verdict.ECHO


def test_notices_have_numbers_of_the_same_window():
    ex = exchange()
    notice = b'[0, "text"]'
    assert ex.classify(tag(notice, 5000), A, 0.0) == Verdict.ERROR_NOTICE
    assert heard(ex, [5000, 5000 - WINDOW, 4999]) == [False, False, True]
    assert ex.classify(tag(notice, 4999), A, 0.0) == ex.classify(tag(notice, 3000), A, 0.0) == Verdict.IGNORED


def test_pings_do_not_move_the_window():
    """They are not repeated in order: a ping that overtakes a message must not make it old."""
    ex = exchange()
    assert heard(ex, [1]) == [True]
    for number in (5000, 2**32 - 1, 5000):
        assert ex.classify(ping(number), A, 0.0) == Verdict.ECHO
    assert heard(ex, [2, 3, 1, 2]) == [True, True, False, False]


def test_what_was_refused_was_not_received():
    ex = exchange()
    ex.refuse_events(64)
    for _ in range(3):
        ex.classify(tag(FRAME, 5000), A, 0.0)
    ex.refuse_events(0)
    assert heard(ex, [5000 - WINDOW, 5000, 5000]) == [True, True, False]


def test_streams_do_without_a_window():
    """Nothing is sent a second time on one, and nothing is overtaken."""
    ex = exchange(stream=True)
    assert all(heard(ex, [5, 7, 1, 7]))


# --- against a set ---


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-1500, 1500), max_size=80))
def test_the_window_against_a_set(start, steps):
    """Whatever comes in whatever order: new is what was not received and is not too far behind."""
    ex = exchange()
    received: set[int] = set()
    for number in itertools.accumulate(steps, initial=start):
        number = min(max(number, 0), 2**32 - 1)
        expected = Verdict.ECHO if number in received else Verdict.DELIVER
        if received and number <= max(received) - WINDOW:
            expected = Verdict.IGNORED
        assert ex.classify(tag(FRAME, number), A, 0.0) == expected
        if expected == Verdict.DELIVER:
            received.add(number)


@settings(max_examples=200)
@given(st.data())
def test_the_window_where_the_sender_keeps_its_promise(data):
    """Any order of first copies in which none is overtaken by one that is 1,024 ahead: each is delivered, once."""
    draw = data.draw
    base = draw(st.sampled_from([0, 1, 50_000, 2**32 - 3000]))
    waiting = [base]
    delivered: list[int] = []
    sent: list[int] = [base]
    ex = exchange()
    for _ in range(draw(st.integers(1, 60))):
        # The sender may send whatever is less than 1,024 above the oldest of those on their way.
        top = min(waiting[0] + WINDOW - 1 if waiting else sent[-1] + 2000, 2**32 - 1)
        if top > sent[-1] and draw(st.booleans()):
            number = draw(st.one_of(st.just(top), st.integers(sent[-1] + 1, top)))
            sent.append(number)
            waiting.append(number)
        elif waiting:
            number = waiting.pop(draw(st.integers(0, len(waiting) - 1)))
            assert heard(ex, [number]) == [True], 'a message was lost'
            delivered.append(number)
        if delivered:
            copy = draw(st.sampled_from(delivered))
            assert heard(ex, [copy]) == [False], 'a message was delivered twice'
    for number in waiting:
        assert heard(ex, [number]) == [True], 'a message was lost'
    assert not any(heard(ex, sent, HOUR))


# --- both ends ---


def test_a_conversation_whose_every_datagram_comes_again():
    """2,000 messages are confirmed at once; each copy, of message and echo, comes 60 ms later."""
    one, other = exchange(number=1), exchange(run=5, number=2**31)
    meet_echorig(one, run=5)
    meet_echorig(other, addr=B, run=one.run)
    copies: list[tuple[float, bool, bytes]] = []
    delivered = 0
    now = 0.0

    def arrive(to_other: bool, frame: bytes) -> None:
        nonlocal delivered
        if not to_other:
            one.classify(frame, A, now)
            return
        verdict = other.classify(frame, B, now)
        delivered += verdict == Verdict.DELIVER
        if verdict in (Verdict.DELIVER, Verdict.ECHO):
            copies.append((now + 0.06, False, other.reply))
            arrive(False, other.reply)

    for i in range(2000):
        now = i / 2500
        while copies and copies[0][0] <= now:
            arrive(*copies.pop(0)[1:])
        send = one.send(b'[64, %d]' % i, A, None, now, 1.0)
        for frame in out(one):
            copies.append((now + 0.06, True, frame))
            arrive(True, frame)
        assert send.outcome == Outcome.CONFIRMED
    while copies:
        now = copies[0][0]
        arrive(*copies.pop(0)[1:])
    assert delivered == 2000
    assert run_until(one, now + 1) == []


def test_an_echo_that_is_lost_for_longer_than_a_minute():
    """The program goes on saying other things; the repetition after all of them is known."""
    ex = exchange()
    first = tag(b'[2, "start"]', 10)
    assert ex.classify(first, A, 0.0) == Verdict.DELIVER
    assert all(heard(ex, range(11, 511), 1.0))
    for now in (1.0, 61.0, 600.0, HOUR):
        assert ex.classify(first, A, now) == Verdict.ECHO
        assert ex.reply == set_ack(first)
