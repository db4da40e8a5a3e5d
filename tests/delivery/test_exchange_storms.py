"""Untagged frames that come again and again: what ends an exchange in which echoes are taken for messages."""

from __future__ import annotations

import pytest

from echorig.delivery._exchange import CONFIRMED, DELIVER, NOTICE, STORM, SWALLOWED
from exchanges import INIT, NOTICE_FRAME, START, STATUS, A, B, exchange, out, plain, run_until, tagging
from tagging import tag


def verdicts(ex, frame, times, addr=A):
    return [ex.receive(frame, addr, now) for now in times]


def asked(ex, message=START, now=1.0):
    """Send a plain peer a message, which it confirms."""
    send = ex.send(message, A, None, now, 5.0)
    assert out(ex) == [send.frame]
    assert ex.receive(send.frame, A, now) == CONFIRMED


def test_an_answer_is_echoed_twice_within_a_second():
    """A rig that has not got the first echo of its answer sends it again; more often it is no answer."""
    ex = exchange()
    plain(ex)
    asked(ex)
    assert verdicts(ex, START, [1.1, 1.2]) == [DELIVER, DELIVER]
    assert ex.reply == START
    assert verdicts(ex, START, [1.3, 1.4, 2.1, 2.9, 3.8, 4.7]) == [STORM] * 6  # it does not begin anew


def test_when_it_has_been_quiet_for_a_second_it_may_come_again():
    ex = exchange()
    plain(ex)
    asked(ex)
    assert verdicts(ex, START, [1.1, 1.2, 1.3]) == [DELIVER, DELIVER, STORM]
    assert verdicts(ex, START, [2.31, 2.4, 2.5]) == [DELIVER, DELIVER, STORM]


def test_other_answers_are_counted_for_themselves():
    ex = exchange()
    plain(ex)
    asked(ex)
    assert verdicts(ex, START, [1.1] * 3) == [DELIVER, DELIVER, STORM]
    assert verdicts(ex, b'[2, "other", null]', [1.1] * 3) == [DELIVER, DELIVER, STORM]
    assert verdicts(ex, STATUS, [1.1] * 3) == [DELIVER] * 3  # nothing of that event was sent to it


def test_another_message_may_be_answered_with_the_same_bytes():
    ex = exchange()
    plain(ex)
    for i in range(20):
        asked(ex, now=1.0 + 0.01 * i)
        assert ex.receive(START, A, 1.0 + 0.01 * i) == DELIVER


def test_but_not_once_it_was_a_storm():
    ex = exchange()
    plain(ex)
    asked(ex)
    assert verdicts(ex, START, [1.1] * 3) == [DELIVER, DELIVER, STORM]
    asked(ex, now=1.2)
    assert verdicts(ex, START, [1.2] * 3) == [STORM] * 3
    assert verdicts(ex, START, [2.3]) == [DELIVER]


def test_what_is_answered_is_told_by_peer_and_event():
    ex = exchange()
    for addr in (A, B):
        plain(ex, addr=addr)
    asked(ex)
    assert verdicts(ex, START, [1.1] * 5, B) == [DELIVER] * 5
    assert verdicts(ex, INIT, [1.1] * 5) == [DELIVER] * 5


def test_unconfirmed_messages_are_answered_too():
    ex = exchange()
    plain(ex)
    frame = ex.sent(START, A, 1.0)
    assert ex.receive(frame, A, 1.0) == SWALLOWED
    assert verdicts(ex, START, [1.1] * 4) == [DELIVER, DELIVER, STORM, STORM]


def test_a_ping_pong_with_a_peer_that_echoes_echoes_ends():
    """A duplicate begins it: the rig takes our echo of its answer for a message, runs it, and sends it back."""
    ex = exchange()
    plain(ex)
    asked(ex)
    now, coming, n = 1.1, 2, 0
    while coming and n < 1000:
        now += 0.001
        coming += -1 + (ex.receive(START, A, now) == DELIVER)
        n += 1
    assert n == 4


@pytest.mark.parametrize('frame', [START, b'[64, 20, "a"]', b'[2000, 1]'])
def test_what_is_no_answer_may_come_64_times_a_second(frame):
    ex = exchange()
    kinds = verdicts(ex, frame, [0.001 * i for i in range(130)])
    assert kinds == [DELIVER] * 64 + [STORM] + [DELIVER] * 64 + [STORM]
    assert verdicts(ex, frame, [2.0 + i / 50 for i in range(200)]).count(STORM) == 0  # slower


def test_what_is_no_message_may_come_4_times():
    ex = exchange()
    assert verdicts(ex, b'text', [0.0] * 6) == [DELIVER] * 4 + [STORM, DELIVER]
    assert verdicts(ex, b'other', [2.0 * i for i in range(1, 10)]) == [DELIVER] * 9


def test_16_frames_are_counted_at_a_time():
    ex = exchange()
    plain(ex)
    asked(ex)
    frames = [b'[2, %d]' % i for i in range(15)]
    for round_ in range(4):
        kinds = [ex.receive(frame, A, 1.1 + 0.01 * round_) for frame in frames]
        assert kinds == [DELIVER if round_ < 2 else STORM] * 15


def test_messages_with_tags_and_notices_are_no_storm():
    ex = exchange()
    tagging(ex)
    assert [ex.receive(tag(START, i + 1), A, 0.0) for i in range(200)] == [DELIVER] * 200
    assert [ex.receive(NOTICE_FRAME, A, 0.0) for i in range(200)] == [NOTICE] * 200


def test_what_is_sent_to_a_tagging_peer_is_answered_with_tags():
    """So it says nothing of what comes without them."""
    ex = exchange()
    tagging(ex)
    ex.sent(START, A, 0.0)
    assert verdicts(ex, START, [0.1] * 5) == [DELIVER] * 5


def test_it_says_nothing_while_a_message_waits():
    ex = exchange()
    plain(ex)
    send = ex.send(START, A, None, 1.0, 5.0)
    assert verdicts(ex, START, [1.1] * 4) == [DELIVER, DELIVER, STORM, STORM]
    assert ex.receive(send.frame, A, 1.2) == CONFIRMED
    assert len(run_until(ex, 9.0)) == 1


# --- a rig that waits for no echo, and answers one message while the next lies in its socket ---

QUOTING = b'[0,"Index exceeds","[ \\t ]"]'


def test_a_rig_that_quotes_is_not_echoed_while_a_message_to_it_is_unread():
    """It would have answered the second message before our echo of its first answer comes, and execute that."""
    ex = exchange()
    plain(ex)
    assert ex.receive(QUOTING, A, 0.5) == NOTICE
    first = ex.send(START, A, None, 1.0, 0.1)
    ex.expire(1.1)
    second = ex.send(STATUS, A, None, 1.1, 5.0)
    assert ex.receive(first.frame, A, 1.5) == SWALLOWED  # late
    assert ex.receive(START, A, 1.5) == DELIVER
    assert ex.reply is None
    assert ex.receive(second.frame, A, 1.5) == CONFIRMED
    assert ex.receive(STATUS, A, 1.5) == DELIVER
    assert ex.reply == STATUS
    ex.send(INIT, A, None, 2.0, 0.1)  # which is lost
    ex.expire(2.1)
    assert ex.receive(b'[64, 20, 1]', A, 16.9) == DELIVER
    assert ex.reply is None
    assert ex.receive(b'[64, 20, 2]', A, 17.1) == DELIVER
    assert ex.reply == b'[64, 20, 2]'


def test_one_that_does_not_quote_is_echoed_all_the_same():
    """It may be iblutil, which closes for good if no echo comes."""
    ex = exchange()
    plain(ex)
    assert ex.receive(b'[0, "ValueError: \\"]", 2]', A, 0.5) == NOTICE
    ex.send(START, A, None, 1.0, 5.0)
    assert ex.receive(STATUS, A, 1.5) == DELIVER
    assert ex.reply == STATUS
