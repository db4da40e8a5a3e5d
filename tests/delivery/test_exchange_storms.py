"""Untagged frames that come again and again: what ends an exchange in which echoes are taken for messages."""

from __future__ import annotations

import pytest

from echorig.delivery.verdicts import Verdict
from exchanges import INIT, NOTICE_FRAME, START, STATUS, A, B, exchange, meet_echorig, meet_legacy, out, run_until
from tagging import tag


def verdicts(ex, frame, times, addr=A):
    return [ex.classify(frame, addr, now) for now in times]


def asked(ex, message=START, now=1.0):
    """Send a plain peer a message, which it confirms."""
    send = ex.send(message, A, None, now, 5.0)
    assert out(ex) == [send.frame]
    assert ex.classify(send.frame, A, now) == Verdict.CONFIRMED


def test_an_answer_is_echoed_twice_within_a_second():
    """A rig that has not got the first echo of its answer sends it again; more often it is no answer."""
    ex = exchange()
    meet_legacy(ex)
    asked(ex)
    assert verdicts(ex, START, [1.1, 1.2]) == [Verdict.DELIVER, Verdict.DELIVER]
    assert ex.reply == START
    assert verdicts(ex, START, [1.3, 1.4, 2.1, 2.9, 3.8, 4.7]) == [Verdict.RATE_LIMITED] * 6  # it does not begin anew


def test_when_it_has_been_quiet_for_a_second_it_may_come_again():
    ex = exchange()
    meet_legacy(ex)
    asked(ex)
    assert verdicts(ex, START, [1.1, 1.2, 1.3]) == [Verdict.DELIVER, Verdict.DELIVER, Verdict.RATE_LIMITED]
    assert verdicts(ex, START, [2.31, 2.4, 2.5]) == [Verdict.DELIVER, Verdict.DELIVER, Verdict.RATE_LIMITED]


def test_other_answers_are_counted_for_themselves():
    ex = exchange()
    meet_legacy(ex)
    asked(ex)
    assert verdicts(ex, START, [1.1] * 3) == [Verdict.DELIVER, Verdict.DELIVER, Verdict.RATE_LIMITED]
    assert verdicts(ex, b'[2, "other", null]', [1.1] * 3) == [Verdict.DELIVER, Verdict.DELIVER, Verdict.RATE_LIMITED]
    assert verdicts(ex, STATUS, [1.1] * 3) == [Verdict.DELIVER] * 3  # nothing of that event was sent to it


def test_another_message_may_be_answered_with_the_same_bytes():
    ex = exchange()
    meet_legacy(ex)
    for i in range(20):
        asked(ex, now=1.0 + 0.01 * i)
        assert ex.classify(START, A, 1.0 + 0.01 * i) == Verdict.DELIVER


def test_but_not_once_it_was_a_storm():
    ex = exchange()
    meet_legacy(ex)
    asked(ex)
    assert verdicts(ex, START, [1.1] * 3) == [Verdict.DELIVER, Verdict.DELIVER, Verdict.RATE_LIMITED]
    asked(ex, now=1.2)
    assert verdicts(ex, START, [1.2] * 3) == [Verdict.RATE_LIMITED] * 3
    assert verdicts(ex, START, [2.3]) == [Verdict.DELIVER]


def test_what_is_answered_is_told_by_peer_and_event():
    ex = exchange()
    for addr in (A, B):
        meet_legacy(ex, addr=addr)
    asked(ex)
    assert verdicts(ex, START, [1.1] * 5, B) == [Verdict.DELIVER] * 5
    assert verdicts(ex, INIT, [1.1] * 5) == [Verdict.DELIVER] * 5


def test_unconfirmed_messages_are_answered_too():
    ex = exchange()
    meet_legacy(ex)
    frame = ex.send_unconfirmed(START, A, 1.0)
    assert ex.classify(frame, A, 1.0) == Verdict.STRAY_ECHO
    assert verdicts(ex, START, [1.1] * 4) == [
        Verdict.DELIVER,
        Verdict.DELIVER,
        Verdict.RATE_LIMITED,
        Verdict.RATE_LIMITED,
    ]


def test_a_ping_pong_with_a_peer_that_echoes_echoes_ends():
    """A duplicate begins it: the rig takes our echo of its answer for a message, runs it, and sends it back."""
    ex = exchange()
    meet_legacy(ex)
    asked(ex)
    now, coming, n = 1.1, 2, 0
    while coming and n < 1000:
        now += 0.001
        coming += -1 + (ex.classify(START, A, now) == Verdict.DELIVER)
        n += 1
    assert n == 4


@pytest.mark.parametrize('frame', [START, b'[64, 20, "a"]', b'[2000, 1]'])
def test_what_is_no_answer_may_come_64_times_a_second(frame):
    ex = exchange()
    kinds = verdicts(ex, frame, [0.001 * i for i in range(130)])
    assert kinds == [Verdict.DELIVER] * 64 + [Verdict.RATE_LIMITED] + [Verdict.DELIVER] * 64 + [Verdict.RATE_LIMITED]
    assert verdicts(ex, frame, [2.0 + i / 50 for i in range(200)]).count(Verdict.RATE_LIMITED) == 0  # slower


def test_what_is_no_message_may_come_4_times():
    ex = exchange()
    assert verdicts(ex, b'text', [0.0] * 6) == [Verdict.DELIVER] * 4 + [Verdict.RATE_LIMITED, Verdict.DELIVER]
    assert verdicts(ex, b'other', [2.0 * i for i in range(1, 10)]) == [Verdict.DELIVER] * 9


def test_16_frames_are_counted_at_a_time():
    ex = exchange()
    meet_legacy(ex)
    asked(ex)
    frames = [b'[2, %d]' % i for i in range(15)]
    for round_ in range(4):
        kinds = [ex.classify(frame, A, 1.1 + 0.01 * round_) for frame in frames]
        assert kinds == [Verdict.DELIVER if round_ < 2 else Verdict.RATE_LIMITED] * 15


def test_messages_with_tags_and_notices_are_no_storm():
    ex = exchange()
    meet_echorig(ex)
    assert [ex.classify(tag(START, i + 1), A, 0.0) for i in range(200)] == [Verdict.DELIVER] * 200
    assert [ex.classify(NOTICE_FRAME, A, 0.0) for i in range(200)] == [Verdict.ERROR_NOTICE] * 200


def test_what_is_sent_to_a_tagging_peer_is_answered_with_tags():
    """So it says nothing of what comes without them."""
    ex = exchange()
    meet_echorig(ex)
    ex.send_unconfirmed(START, A, 0.0)
    assert verdicts(ex, START, [0.1] * 5) == [Verdict.DELIVER] * 5


def test_it_says_nothing_while_a_message_waits():
    ex = exchange()
    meet_legacy(ex)
    send = ex.send(START, A, None, 1.0, 5.0)
    assert verdicts(ex, START, [1.1] * 4) == [
        Verdict.DELIVER,
        Verdict.DELIVER,
        Verdict.RATE_LIMITED,
        Verdict.RATE_LIMITED,
    ]
    assert ex.classify(send.frame, A, 1.2) == Verdict.CONFIRMED
    assert len(run_until(ex, 9.0)) == 1


# --- a rig that waits for no echo, and answers one message while the next lies in its socket ---

QUOTING = b'[0,"Index exceeds","[ \\t ]"]'


def test_a_rig_that_quotes_is_not_echoed_while_a_message_to_it_is_unread():
    """It would have answered the second message before our echo of its first answer comes, and execute that."""
    ex = exchange()
    meet_legacy(ex)
    assert ex.classify(QUOTING, A, 0.5) == Verdict.ERROR_NOTICE
    first = ex.send(START, A, None, 1.0, 0.1)
    ex.expire(1.1)
    second = ex.send(STATUS, A, None, 1.1, 5.0)
    assert ex.classify(first.frame, A, 1.5) == Verdict.STRAY_ECHO  # late
    assert ex.classify(START, A, 1.5) == Verdict.DELIVER
    assert ex.reply is None
    assert ex.classify(second.frame, A, 1.5) == Verdict.CONFIRMED
    assert ex.classify(STATUS, A, 1.5) == Verdict.DELIVER
    assert ex.reply == STATUS
    ex.send(INIT, A, None, 2.0, 0.1)  # which is lost
    ex.expire(2.1)
    assert ex.classify(b'[64, 20, 1]', A, 16.9) == Verdict.DELIVER
    assert ex.reply is None
    assert ex.classify(b'[64, 20, 2]', A, 17.1) == Verdict.DELIVER
    assert ex.reply == b'[64, 20, 2]'


def test_one_that_does_not_quote_is_echoed_all_the_same():
    """It may be iblutil, which closes for good if no echo comes."""
    ex = exchange()
    meet_legacy(ex)
    assert ex.classify(b'[0, "ValueError: \\"]", 2]', A, 0.5) == Verdict.ERROR_NOTICE
    ex.send(START, A, None, 1.0, 5.0)
    assert ex.classify(STATUS, A, 1.5) == Verdict.DELIVER
    assert ex.reply == STATUS
