"""What delivery tags add to the rules, case by case."""

from __future__ import annotations

import pytest

from echorig import Tuning
from echorig._codec import peek
from echorig._exchange import (
    CONFIRMED,
    DELIVER,
    ECHO,
    IGNORED,
    MISMATCH,
    NOTICE,
    REFUSED,
    STORM,
    SWALLOWED,
    TIMED_OUT,
    Exchange,
)
from tagging import acknowledged, read_tag, tag, untagged
from test_exchange import INIT, START, STATUS, A, B, emptied


def exchange(number=1000, stream=False, max_size=65535, max_frame=65507, **tuning) -> Exchange:
    return Exchange(Tuning(**tuning), stream, max_size, number, max_frame)


def tagging(ex: Exchange, now: float = 0.0) -> None:
    """Let A show that it is a tagging peer."""
    ex.send(STATUS, A, None, now, 1.0)
    (frame,) = out(ex)
    assert ex.receive(acknowledged(frame), A, now) == CONFIRMED
    ex.expire(now)


def out(ex: Exchange) -> list[bytes]:
    return [frame for frame, _ in emptied(ex.outbox)]


def test_messages_are_numbered_and_confirmed_by_either_kind_of_peer():
    ex = exchange(number=2**31 - 2)
    for i, number in enumerate((2**31 - 2, 2**31 - 1, 0)):
        send = ex.send(START, A, None, float(i), 1.0)
        (frame,) = out(ex)
        assert (read_tag(frame), untagged(frame), send.frame) == (number, START, frame)
        flagged = i % 2 == 0
        assert ex.receive(acknowledged(frame) if flagged else frame, A, i + 0.01) == CONFIRMED
        assert ex.statistics(A)[0] == ('tagging' if flagged else 'plain')
        assert emptied(ex.finished) == [send]
        assert send.round_trip == pytest.approx(0.01)


def test_what_is_not_tagged():
    ex = exchange()
    for frame, taggable in ((START, False), (b'null', True), (b'[' + b'1' * 65475 + b']', True)):
        ex.send(frame, (frame[:3], 1), None, 0.0, 1.0, taggable)
        assert out(ex) == [frame]
    assert out(exchange(tags=False)) == []
    fits = b'[' + b'1' * 65473 + b']'
    ex.send(fits, A, None, 0.0, 1.0)
    assert len(out(ex)[0]) == 65507


def test_a_tag_never_makes_a_message_too_long_for_a_plain_peer():
    ex = exchange()
    ex.send(START, A, None, 0.0, 1.0)
    ex.receive(out(ex)[0], A, 0.0)
    for size, tagged in (
        (480, True),
        (481, False),
        (512, False),
        (513, True),
        (969, False),
        (1000, False),
        (1001, True),
    ):
        message = b'[1, "' + b'x' * (size - 7) + b'"]'
        ex.send(message, A, None, 0.0, 1.0)
        (frame,) = out(ex)
        assert (read_tag(frame) >= 0) is tagged, size
        assert ex.receive(frame, A, 0.0) == CONFIRMED


def test_a_duplicate_is_echoed_again_and_delivered_once():
    ex = exchange()
    frame = tag(START, 7)
    assert ex.receive(frame, A, 0.0) == DELIVER
    assert ex.reply == acknowledged(frame)
    assert ex.receive(frame, A, 1.0) == ECHO
    assert ex.reply == acknowledged(frame)
    assert ex.receive(frame, B, 1.0) == DELIVER  # numbers are each peer's own
    assert ex.receive(frame, A, 70.0) == DELIVER  # a minute later the number may be new
    kind, *_, duplicates, _, _, _, _, _, _ = ex.statistics(A)
    assert (kind, duplicates) == ('unknown', 1)  # only an answer with the flag says what a peer is
    assert ex.receive(tag(INIT, 7), A, 70.0) == DELIVER  # one of the two was damaged on its way


def test_the_window_of_numbers_has_its_size():
    ex = exchange(max_numbers=64)
    frames = [tag(START, number) for number in range(65)]
    assert [ex.receive(frame, A, 0.0) for frame in frames] == [DELIVER] * 65
    assert [ex.receive(frame, A, 0.0) for frame in frames[1:]] == [ECHO] * 64
    assert ex.receive(frames[0], A, 0.0) == DELIVER


def test_notices_are_delivered_once_and_never_echoed():
    ex = exchange()
    frame = tag(b'[0, "text", 2]', 7)
    assert [ex.receive(frame, A, 0.0) for _ in range(2)] == [NOTICE, IGNORED]


def test_echoes_that_nobody_waits_for_are_swallowed():
    ex = exchange()
    frame = ex.sent(START, A, 0.0)
    assert read_tag(frame) == 1000
    assert ex.receive(acknowledged(frame), A, 0.1) == SWALLOWED
    assert ex.receive(frame, A, 0.1) == SWALLOWED
    assert ex.receive(acknowledged(tag(START, 5)), A, 0.1) == SWALLOWED  # forged
    send = ex.send(INIT, A, None, 1.0, 1.0)
    (frame,) = out(ex)
    ex.cancel(send, 1.1)
    assert ex.receive(frame, A, 1.2) == SWALLOWED
    assert ex.statistics(A)[6] == 4


def test_an_echo_with_other_bytes_is_a_mismatch_of_that_send_only():
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    wrong = acknowledged(frame.replace(b'ref', b'REF'))
    assert ex.receive(wrong, A, 0.1) == MISMATCH
    assert (send.outcome, send.answer) == (MISMATCH, wrong)
    assert ex.receive(acknowledged(frame), A, 0.1) == SWALLOWED


def test_messages_that_cross_are_delivered_and_ours_goes_on_waiting():
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.receive(START, A, 0.1) == DELIVER  # from a plain peer: the same event, even the same bytes
    assert ex.receive(STATUS, A, 0.1) == DELIVER
    assert ex.receive(tag(START, 5), A, 0.1) == DELIVER  # from a tagging one
    assert ex.receive(acknowledged(frame), A, 0.2) == CONFIRMED
    crossed = ex.send(START, A, None, 1.0, 1.0)
    ex.receive(b'[2, "other", null]', A, 1.1)
    ex.expire(2.0)
    assert (crossed.outcome, crossed.answer) == (MISMATCH, b'[2, "other", null]')
    assert send.outcome == CONFIRMED
    nonsense = ex.send(START, A, None, 3.0, 1.0)
    assert ex.receive(b'nonsense', A, 3.1) == MISMATCH
    assert nonsense.outcome == MISMATCH


def test_a_truncated_echo_of_a_tagged_message():
    ex = exchange()
    message = b'[1, "' + b'x' * 600 + b'"]'
    ex.send(message, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.receive(frame[:512], A, 0.1) == CONFIRMED
    assert ex.statistics(A)[0] == 'plain'
    ex.send(message, A, None, 1.0, 1.0)
    (frame,) = out(ex)
    ex.expire(2.0)
    assert ex.receive(frame[:512], A, 2.1) == SWALLOWED


def test_a_tagging_peer_is_sent_a_message_again():
    ex = exchange()
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    times = []
    now = 0.0
    while ex.n_waiting:
        now = ex.alarm
        ex.expire(now)
        if repeated := out(ex):
            assert repeated == [frame]
            times.append(round(now, 3))
    assert times[:12] == [0.02, 0.04, 0.06, 0.08, 0.12, 0.2, *(round(0.3 + 0.1 * i, 3) for i in range(6))]
    assert (now, send.outcome) == (1.0, TIMED_OUT)
    assert ex.alarm == float('inf')


def test_an_unknown_peer_is_pinged_and_a_plain_one_is_left_alone():
    for answer, kind in ((acknowledged, 'tagging'), (lambda frame: frame, 'plain')):
        ex = exchange()
        ex.send(START, A, None, 0.0, 1.0)
        (frame,) = out(ex)
        ex.expire(0.24)
        assert out(ex) == []  # an incumbent must have time to echo, and to be sent the echo of its answer
        ex.expire(0.25)
        (ping,) = out(ex)
        assert (untagged(ping), peek(ping), read_tag(ping)) == (b'[]', -1, 1001)
        assert ex.receive(answer(ping), A, 0.26) == SWALLOWED
        assert ex.statistics(A)[0] == kind
        assert out(ex) == ([frame] if kind == 'tagging' else [])
        for i in range(70):
            ex.expire(0.27 + 0.01 * i)
        assert set(out(ex)) == ({frame} if kind == 'tagging' else set())
        assert ex.receive(answer(frame), A, 0.98) == CONFIRMED


def test_a_late_answer_to_an_earlier_ping_tells_the_kind_too():
    ex = exchange()
    ex.send(START, A, None, 0.0, 2.0)
    (frame,) = out(ex)
    ex.expire(0.25)
    ex.expire(0.50)
    first, _ = out(ex)
    assert ex.receive(acknowledged(first), A, 0.6) == SWALLOWED
    assert out(ex) == [frame]


def test_what_a_peer_is_is_forgotten_with_time():
    ex = exchange()
    tagging(ex)
    ex.send(START, A, None, 100.0, 1.0)
    (frame,) = out(ex)
    ex.expire(100.5)
    assert [untagged(repeated) for repeated in out(ex)] == [b'[]']
    assert ex.receive(frame, A, 100.6) == CONFIRMED


def test_the_interval_follows_the_round_trip_time():
    ex = exchange(min_retry=0.001)
    for i in range(50):
        ex.send(START, A, None, float(i), 1.0)
        (frame,) = out(ex)
        ex.receive(acknowledged(frame), A, i + 0.004)
    *_, srtt, min_rtt, _, _ = ex.statistics(A)
    assert srtt == pytest.approx(0.004)
    assert min_rtt == pytest.approx(0.004)
    ex.expire(49.9)
    ex.send(START, A, None, 50.0, 1.0)
    assert 0.004 <= ex.alarm - 50.0 < 0.006


def test_a_stream_is_never_repeated_and_confirms_in_any_order():
    ex = exchange(stream=True)
    sends = [ex.send(frame, A, None, 0.0, 1.0) for frame in (START, INIT, START)]
    frames = out(ex)
    ex.expire(0.5)
    assert out(ex) == []
    for i in (2, 0, 1):
        assert ex.receive(acknowledged(frames[i]), A, 0.6) == CONFIRMED
        assert emptied(ex.finished) == [sends[i]]


def test_pings():
    for answer in (acknowledged, lambda frame: frame):
        ex = exchange()
        send = ex.ping(A, 'waiter', 0.0, 1.0)
        out(ex)
        ex.expire(0.25)
        (second,) = out(ex)
        assert ex.receive(answer(second), A, 0.255) == CONFIRMED
        assert (send.waiter, round(send.round_trip, 6)) == ('waiter', 0.005)
    assert ex.receive(tag(b'[]', 9), A, 0.0) == ECHO
    assert ex.reply == acknowledged(tag(b'[]', 9))


def test_tags_off_is_a_plain_peer():
    ex = exchange(tags=False)
    frame = tag(START, 7)
    assert [ex.receive(frame, A, 0.0) for _ in range(2)] == [DELIVER, DELIVER]
    assert ex.reply == frame
    ex.send(START, A, None, 0.0, 1.0)
    assert out(ex) == [START]
    ex.expire(0.5)
    assert out(ex) == []


def test_endless_exchanges_of_untagged_messages_end():
    ex = exchange()
    kinds = [ex.receive(START, A, 0.001 * i) for i in range(66)]
    assert kinds == [DELIVER] * 64 + [STORM, DELIVER]
    assert [ex.receive(tag(START, i), A, 0.0) for i in range(200)] == [DELIVER] * 200


@pytest.mark.parametrize(
    'wrong', [{'first_retry': 0}, {'due_age': -1.0}, {'max_numbers': 65}, {'max_retry': 0.001}, {'max_peers': 0}]
)
def test_tuning_is_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).replace('max_retry', 'min_retry')):
        Tuning(**wrong)


def test_a_message_that_is_refused_is_new_when_it_comes_again():
    ex = exchange()
    known, first, second = tag(START, 7), tag(START, 8), tag(INIT, 9)
    assert ex.receive(known, A, 0.0) == DELIVER
    ex.refuse(2)
    assert ex.receive(known, A, 0.1) == ECHO  # it has been accepted before
    assert ex.receive(first, A, 0.1) == ex.receive(first, A, 0.2) == REFUSED
    assert ex.receive(START, B, 0.1) == REFUSED
    assert ex.receive(second, A, 0.2) == DELIVER  # another event
    assert ex.receive(tag(b'[0, "x"]', 10), A, 0.2) == NOTICE
    assert ex.receive(tag(b'[]', 11), A, 0.2) == ECHO
    assert ex.receive(b'text', B, 0.2) == DELIVER  # no message, which is said elsewhere
    send = ex.send(START, A, None, 0.3, 1.0)
    assert ex.receive(acknowledged(send.frame), A, 0.3) == CONFIRMED
    ex.refuse(0)
    assert ex.receive(first, A, 0.4) == DELIVER
    assert ex.reply == acknowledged(first)
    assert ex.receive(first, A, 0.5) == ECHO
    for i in range(3 * 64):  # what is refused is no storm
        ex.refuse(2 * (i < 128))
        kind = ex.receive(START, B, 1.0)
    assert kind == DELIVER
    assert ex.statistics(A)[5] == 2


def test_no_message_waits_for_a_ping():
    ex = exchange()
    ping = ex.ping(A, 'ping', 0.0, 1.0)
    assert (ex.newest(A), ex.waiting_for(), ex.is_waiting(A), ex.is_waiting(B)) == (None, [], True, False)
    send = ex.send(START, A, 'message', 0.0, 1.0)
    behind = ex.ping(A, 'behind', 0.0, 1.0)
    last = ex.send(INIT, A, 'last', 0.0, 1.0)
    assert out(ex) == [ping.frame, send.frame]  # a message waits for messages, a ping for everything
    assert ex.newest(A) is last
    for now in (0.3, 0.6):
        ex.expire(now)
        assert [untagged(frame) for frame in out(ex)] == [b'[]']  # what the peer is, but not the ping again
    assert ex.receive(send.frame, A, 0.7) == CONFIRMED
    assert ex.statistics(A)[0] == 'plain'
    assert out(ex) == []  # the first ping is still out
    assert ex.receive(ping.frame, A, 0.7) == CONFIRMED
    assert out(ex) == [behind.frame, last.frame]
    ex.expire(0.96)
    assert out(ex) == []
    ex.expire(1.1)
    assert [send.outcome for send in (behind, last)] == [TIMED_OUT] * 2


def test_pings_are_repeated_to_a_tagging_peer_beside_a_message():
    ex = exchange()
    tagging(ex)
    ex.ping(A, 'ping', 0.0, 1.0)
    ex.send(START, A, 'message', 0.0, 1.0)
    assert len(out(ex)) == 2
    ex.expire(0.1)
    assert [peek(frame) for frame in out(ex)] == [-1, 2]


@pytest.mark.parametrize('begins', [b'[2, "x"]', b'[0, "x"]', b'[]'])
def test_a_peer_whose_numbers_begin_anew_was_restarted(begins):
    ex = exchange()

    def restarts():
        return ex.statistics(A)[-1]

    for number in (2**31 - 3, 2**31 - 1, 2, 1, 400_000):  # on, around, out of order, and with much said to others
        ex.receive(tag(START, number), A, 0.0)
        assert restarts() == 0
    ex.receive(tag(begins, 1_000_000), A, 1.0)
    assert restarts() == 1
    ex.receive(tag(begins, 1_000_000), A, 1.0)
    ex.receive(tag(START, 1_000_001), A, 1.0)
    assert restarts() == 1
    ex.receive(tag(begins, 1), A, 2.0)
    assert restarts() == 2
    ex.receive(tag(START, 7), B, 2.0)
    assert ex.statistics(B)[-1] == 0
