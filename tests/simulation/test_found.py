"""What the simulation has found, as it was found, and the rule in a few lines."""

from __future__ import annotations

import pytest

from echorig import Tuning
from echorig._codec import acknowledged, tag
from echorig._exchange import CONFIRMED, DELIVER, ECHO, MISMATCH, STORM, SWALLOWED, TIMED_OUT, Exchange

from .schedule import make
from .simulate import violation

A = ('10.0.0.1', 11001)
START, STATUS = b'[2, "ref", null]', b'[32, 20]'
LONG = b'[2, "%s"]' % (b'x' * 600)


def exchange(**tuning: object) -> Exchange:
    return Exchange(Tuning(**tuning), False, 65535, 1000)


def out(ex: Exchange) -> list[bytes]:
    frames = [frame for frame, _ in ex.outbox]
    ex.outbox.clear()
    return frames


@pytest.mark.parametrize('seed', [30, 114, 144, 196, 207, 986, 1596, 4300, 7027, 85152, 3198, 9321])
def test_seeds_that_failed(seed):
    assert violation(make(seed)) is None


def test_one_without_tags_can_ping_a_tagging_peer():
    ex = exchange(tags=False)
    ping = ex.ping(A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.receive(acknowledged(frame), A, 0.1) == CONFIRMED
    assert ping.outcome == CONFIRMED
    assert ex.receive(acknowledged(frame), A, 0.2) == SWALLOWED
    assert ex.receive(tag(b'[]', 5), A, 0.3) == DELIVER  # the ping of another is echoed as it is
    assert ex.reply == tag(b'[]', 5)
    assert ex.receive(tag(START, 6), A, 0.4) == DELIVER
    assert ex.reply == tag(START, 6)


def test_the_truncated_echo_of_an_unconfirmed_message_is_no_message():
    ex = exchange()
    frame = ex.sent(LONG, A, 0.0)
    assert ex.receive(frame[:512], A, 0.1) == SWALLOWED


@pytest.mark.parametrize('frame', [tag(START, 7), tag(b'[]', 7)], ids=['an echo for an earlier program', 'a ping'])
def test_only_the_flag_says_that_a_peer_is_tagging(frame):
    """A plain peer taken for a tagging one would be sent messages again, and run callbacks twice."""
    ex = exchange()
    ex.receive(frame, A, 0.0)
    ex.send(START, A, None, 0.0, 1.0)
    (message,) = out(ex)
    ex.expire(ex.alarm)
    (ping,) = out(ex)
    assert ping != message
    assert ex.receive(acknowledged(ping), A, 0.1) == SWALLOWED
    assert out(ex) == [message]


def test_a_flagged_frame_that_is_not_the_echo_says_nothing_of_the_peer():
    ex = exchange()
    ex.send(START, A, None, 0.0, 1.0)
    (message,) = out(ex)
    assert ex.receive(acknowledged(message.replace(b'r', b's')), A, 0.1) == MISMATCH
    assert ex.statistics(A)[0] == 'unknown'


def test_a_damaged_message_does_not_take_the_place_of_the_true_one():
    """Or the sender would be told that it arrived."""
    ex = exchange()
    frame = tag(START, 7)
    assert ex.receive(frame.replace(b'r', b's'), A, 0.0) == DELIVER
    assert ex.receive(frame, A, 0.1) == DELIVER
    assert ex.receive(frame, A, 0.2) == ECHO


def test_a_damaged_answer_to_a_ping_is_none():
    ex = exchange()
    ex.ping(A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.receive(b'x' + acknowledged(frame)[1:], A, 0.1) == MISMATCH


def test_an_earlier_refusal_is_none_of_the_next_message():
    ex = exchange()
    ex.receive(STATUS, A, 0.0)
    ex.refused(A, 0.1)
    send = ex.send(START, A, None, 1.0, 1.0, False)
    ex.expire(2.0)
    assert send.outcome == TIMED_OUT
    assert ex.receive(START, A, 2.1) == SWALLOWED


def test_several_storms_at_once_are_ended():
    ex = exchange(message_burst=64)
    frames = [b'[32, %d]' % i for i in range(16)]
    verdicts = [ex.receive(frame, A, 0.001 * i) for i in range(65) for frame in frames]
    assert verdicts == [DELIVER] * 64 * 16 + [STORM] * 16
