"""What delivery tags add to the rules, case by case; the other files test_exchange_*.py have the longer stories."""

from __future__ import annotations

import pytest

from echorig.delivery._exchange import (
    CONFIRMED,
    DAMAGED,
    DELIVER,
    ECHO,
    IGNORED,
    MISMATCH,
    NOTICE,
    REFUSED,
    SWALLOWED,
    TIMED_OUT,
    WAITING,
)
from echorig.tuning import InternalTuning
from echorig.wire._tags import is_damaged
from echorig.wire._tags import read_tag as read_all
from exchanges import (
    INIT,
    NOTICE_FRAME,
    OWN,
    START,
    STATUS,
    A,
    B,
    confirmed,
    count,
    emptied,
    exchange,
    kind,
    out,
    plain,
    run_until,
    tagging,
)
from tagging import ACK, acknowledged, ping, read_tag, tag, untagged


def test_messages_are_numbered_and_confirmed_by_either_kind_of_peer():
    for flagged in (True, False):
        ex = exchange(number=7)
        (tagging if flagged else plain)(ex)
        for i, number in enumerate((7, 8, 9)):
            send = ex.send(START, A, None, float(i), 1.25)
            (frame,) = out(ex)
            assert read_all(frame) == (False, OWN, number, 1250)
            assert (send.number, send.frame, untagged(frame)) == (number, frame, START)
            assert not is_damaged(frame)
            assert ex.receive(acknowledged(frame) if flagged else frame, A, i + 0.01) == CONFIRMED
            assert kind(ex) == ('echorig' if flagged else 'legacy')
            assert emptied(ex.finished) == [send]
            assert send.round_trip == pytest.approx(0.01)


def test_all_messages_of_a_program_have_one_counter():
    ex = exchange(number=1)
    for run, addr in enumerate((A, B)):
        tagging(ex, addr=addr, run=run)
    numbers = [read_tag(confirmed(ex, START, addr)) for addr in (A, B, B, A)]
    assert numbers == [1, 2, 3, 4]
    assert read_tag(ex.sent(STATUS, B, 0.0)) == 5
    ex.ping(A, None, 0.0, 1.0)
    assert [read_tag(frame) for frame in out(ex)] == [6]


def test_what_is_not_tagged():
    ex = exchange()
    for i, (frame, taggable) in enumerate(((START, False), (b'null', True), (b'[' + b'1' * 65_379 + b']', True))):
        addr = ('10.0.1.1', i)
        tagging(ex, addr=addr, run=i)
        ex.send(frame, addr, None, 0.0, 1.0, taggable)
        assert out(ex) == [frame]
    fits = b'[' + b'1' * 65_377 + b']'
    tagging(ex)
    ex.send(fits, A, None, 0.0, 1.0)
    assert [len(frame) for frame in out(ex)] == [65507]


def test_an_answer_names_its_question_where_there_is_room_and_somebody_to_read_it():
    question = 5 << 32 | 6
    for to, room, longer in ((tagging, 65507, 64), (tagging, len(START) + 191, 0), (plain, 65507, 0)):
        ex = exchange(max_frame=room)
        to(ex)
        ex.send(START, A, None, 0.0, 1.0, True, question)
        (frame,) = out(ex)
        assert len(frame) == len(START) + 128 + longer
        assert len(ex.sent(START, A, 0.0, True, question)) == len(frame)


def test_a_tag_never_makes_a_message_too_long_for_a_plain_peer():
    ex = exchange()
    plain(ex)
    sizes = (384, True), (385, False), (512, False), (513, True), (872, True), (873, False), (1000, False), (1001, True)
    for size, has_tag in sizes:
        message = b'[1, "' + b'x' * (size - 7) + b'"]'
        frame = confirmed(ex, message, flagged=False)
        assert (read_tag(frame) >= 0) is has_tag, size
    tagging(ex)
    assert read_tag(confirmed(ex, b'[1, "' + b'x' * 500 + b'"]')) > 0


def test_a_message_is_echoed_with_the_flag_and_delivered_once():
    ex = exchange()
    frame = tag(START, 7)
    assert ex.receive(frame, A, 0.0) == DELIVER
    assert ex.reply == acknowledged(frame)
    for now in (0.0, 1.0, 3600.0):
        assert ex.receive(frame, A, now) == ECHO
        assert ex.reply == acknowledged(frame)
    assert count(ex, 'duplicates') == 3
    again = tag(START, 7, life=50)  # sent again, with less time left
    assert ex.receive(again, A, 3600.0) == ECHO
    assert ex.reply == acknowledged(again)


def test_notices_are_delivered_once_and_never_echoed():
    ex = exchange()
    assert [ex.receive(tag(NOTICE_FRAME, 7), A, 0.0) for _ in range(3)] == [NOTICE, IGNORED, IGNORED]
    assert count(ex, 'duplicates') == 2


def test_echoes_that_nobody_waits_for_are_swallowed():
    ex = exchange()
    tagging(ex)
    before = count(ex, 'strays')
    frame = ex.sent(START, A, 0.0)
    assert read_all(frame) == (False, OWN, 1000, 0)
    assert ex.receive(acknowledged(frame), A, 0.1) == SWALLOWED
    assert ex.receive(acknowledged(tag(START, 5)), A, 0.1) == SWALLOWED  # of another program: none of our business
    send = ex.send(INIT, A, None, 1.0, 1.0)
    (frame,) = out(ex)
    ex.cancel(send, 1.1)
    assert ex.receive(acknowledged(frame), A, 1.2) == SWALLOWED
    assert ex.receive(frame, A, 1.2) == SWALLOWED
    assert count(ex, 'strays') == before + 3
    assert ex.receive(acknowledged(frame), B, 1.2) == SWALLOWED  # from who is not known
    assert ex.receive(frame, B, 1.2) == SWALLOWED
    assert ex.addresses() == [A]


def test_an_echo_with_other_bytes_is_a_mismatch_of_that_send_only():
    """Its check is right, so that the peer has changed it, and not the network."""
    ex = exchange()
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    wrong = tag(START.replace(b'ref', b'REF'), send.number | ACK, run=OWN)
    assert ex.receive(wrong, A, 0.1) == MISMATCH
    assert (send.outcome, send.answer) == (MISMATCH, wrong)
    assert ex.receive(acknowledged(frame), A, 0.1) == SWALLOWED
    assert emptied(ex.finished) == [send]
    assert confirmed(ex, INIT)


def test_the_echo_of_an_earlier_copy_confirms():
    ex = exchange()
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    first, second = (frame for _, frame in run_until(ex, 0.025))
    assert read_all(first)[:3] == read_all(second)[:3]
    assert (read_all(first)[3], read_all(second)[3]) == (1000, 980)
    assert ex.receive(acknowledged(first), A, 0.03) == CONFIRMED
    assert ex.receive(acknowledged(second), A, 0.03) == SWALLOWED
    assert send.outcome == CONFIRMED


# --- damage ---


def damaged(frame, place=4):
    """Return a frame with a byte changed."""
    return frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]


def test_a_damaged_message_is_a_lost_one():
    ex = exchange()
    frame = tag(START, 7)
    for place in (0, 4, len(START), len(START) + 40, len(frame) - 40, len(frame) - 1):
        assert ex.receive(damaged(frame, place), A, 0.0) == DAMAGED
    assert (ex.n_damaged, ex.n_peers) == (6, 0)  # nobody is known by it
    assert ex.receive(frame, A, 0.1) == DELIVER
    assert ex.receive(damaged(frame), A, 0.2) == DAMAGED  # no duplicate either, which would be echoed
    assert ex.receive(damaged(tag(NOTICE_FRAME, 8)), A, 0.2) == DAMAGED
    assert ex.receive(damaged(ping(9), 100), A, 0.2) == DAMAGED
    assert (ex.n_damaged, count(ex, 'damaged'), count(ex, 'duplicates')) == (9, 3, 0)
    assert ex.receive(tag(NOTICE_FRAME, 8), A, 0.3) == NOTICE


def test_a_damaged_echo_is_a_lost_one():
    for to, answer in ((tagging, acknowledged), (plain, lambda frame: frame)):
        ex = exchange()
        to(ex)
        send = ex.send(START, A, None, 0.0, 1.0)
        (frame,) = out(ex)
        for place in (4, len(START), len(START) + 40, len(frame) - 2):
            assert ex.receive(damaged(answer(frame), place), A, 0.1) == DAMAGED
        assert send.outcome == WAITING
        assert ex.receive(answer(frame), A, 0.2) == CONFIRMED
        assert ex.receive(damaged(answer(frame)), A, 0.2) == DAMAGED
        assert count(ex, 'damaged') == 5


# --- messages that cross ---


def test_messages_that_cross_are_delivered_and_ours_goes_on_waiting():
    ex = exchange()
    plain(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.receive(START, A, 0.1) == DELIVER  # the same event, even the same bytes
    assert ex.receive(STATUS, A, 0.1) == DELIVER
    assert ex.receive(NOTICE_FRAME, A, 0.1) == NOTICE
    assert ex.receive(frame, A, 0.2) == CONFIRMED
    crossed = ex.send(START, A, None, 1.0, 1.0)
    ex.receive(b'[2, "other", null]', A, 1.1)
    ex.expire(2.0)
    assert (crossed.outcome, crossed.answer) == (MISMATCH, b'[2, "other", null]')
    assert send.outcome == CONFIRMED
    nonsense = ex.send(START, A, None, 3.0, 1.0)
    assert ex.receive(b'nonsense', A, 3.1) == MISMATCH
    assert nonsense.outcome == MISMATCH


def test_messages_of_tagging_peers_cross_without_a_trace():
    ex = exchange()
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    assert ex.receive(tag(START, 5), A, 0.1) == DELIVER
    ex.expire(1.0)
    assert (send.outcome, send.answer) == (TIMED_OUT, None)


def test_a_truncated_echo_of_a_tagged_message():
    ex = exchange()
    plain(ex)
    message = b'[1, "' + b'x' * 600 + b'"]'
    send = ex.send(message, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.receive(frame[:512], A, 0.1) == CONFIRMED
    assert send.truncated
    assert kind(ex) == 'legacy'
    ex.send(message, A, None, 1.0, 1.0)
    (frame,) = out(ex)
    ex.expire(2.0)
    assert ex.receive(frame[:512], A, 2.1) == SWALLOWED


def test_an_echo_that_is_cut_in_its_tag_is_not_taken_for_a_damaged_message():
    """MATLAB reads 1,000 bytes, which may end in the tag."""
    ex = exchange()
    message = b'[1, "' + b'x' * 990 + b'"]'
    send = ex.send(message, A, None, 0.0, 1.0)
    run_until(ex, 0.5)
    cut = send.frame[:1115]
    assert is_damaged(cut)
    assert ex.receive(cut, A, 0.6) == CONFIRMED
    assert send.truncated
    assert kind(ex) == 'legacy'
    assert ex.receive(cut, B, 0.6) == DAMAGED  # nothing was sent there


# --- repetitions ---


def test_a_tagging_peer_is_sent_a_message_again():
    ex = exchange()
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    said = run_until(ex, 1.0)
    times = [time for time, _ in said]
    assert times[1:13] == [0.02, 0.04, 0.06, 0.08, 0.12, 0.2, *(round(0.3 + 0.1 * i, 3) for i in range(6))]
    assert {read_all(frame)[:3] for _, frame in said} == {(False, OWN, 1000)}
    assert [read_all(frame)[3] for _, frame in said[1:5]] == [980, 960, 940, 920]  # milliseconds that are left
    assert not any(is_damaged(frame) for _, frame in said)
    assert send.outcome == TIMED_OUT
    assert ex.alarm == float('inf')
    assert count(ex, 'retransmitted') == len(said) - 1


def test_the_interval_follows_the_round_trip_time():
    ex = exchange(min_rto=0.001)
    tagging(ex)
    for i in range(50):
        ex.send(START, A, None, float(i), 1.0)
        (frame,) = out(ex)
        ex.receive(acknowledged(frame), A, i + 0.004)
    srtt, min_rtt = ex.statistics(A)[8:10]
    assert srtt == pytest.approx(0.004)
    assert min_rtt == pytest.approx(0.004)
    ex.expire(50.0)
    ex.send(START, A, None, 50.0, 1.0)
    assert 0.004 <= ex.alarm - 50.0 < 0.006


def test_a_repeated_message_says_nothing_of_the_round_trip_time():
    ex = exchange()
    tagging(ex)
    ex.send(START, A, None, 0.0, 1.0)
    said = run_until(ex, 0.025)
    assert len(said) == 2
    assert ex.receive(acknowledged(said[0][1]), A, 0.026) == CONFIRMED
    assert ex.statistics(A)[8] is None


def test_a_stream_is_never_repeated_and_confirms_in_any_order():
    ex = exchange(stream=True)
    tagging(ex)
    sends = [ex.send(frame, A, None, 0.0, 1.0) for frame in (START, INIT, START)]
    frames = out(ex)
    assert len(frames) == 3
    assert run_until(ex, 0.5) == []
    for i in (2, 0, 1):
        assert ex.receive(acknowledged(frames[i]), A, 0.6) == CONFIRMED
        assert emptied(ex.finished) == [sends[i]]


# --- pings ---


def test_pings_of_others_are_echoed_with_our_run():
    ex = exchange()
    for number in (9, 9, 8, 2**32 - 1):
        frame = ping(number)
        assert ex.receive(frame, A, 0.0) == ECHO
        assert read_all(ex.reply) == (True, *read_all(frame)[1:])
        assert len(ex.reply) == len(frame)
        assert not is_damaged(ex.reply)
        # After a tab, our run and no number.
        field = f'{OWN:031b}{0:032b}'.replace('0', ' ').replace('1', '\t').encode()
        assert ex.reply[1:65] == b'\t' + field
    assert ex.receive(tag(STATUS, 3), A, 0.0) == DELIVER  # their numbers say nothing of those of messages
    assert ex.receive(tag(b'[]', 10), A, 0.0) == ECHO  # one of another form
    assert ex.reply == acknowledged(tag(b'[]', 10))


def test_pings_are_repeated_and_any_of_them_may_be_answered():
    for answer in (acknowledged, lambda frame: frame):
        ex = exchange()
        send = ex.ping(A, 'waiter', 0.0, 1.0)
        first, second, third = (frame for _, frame in run_until(ex, 0.045))
        assert len({read_tag(frame) for frame in (first, second, third)}) == 3  # each has its own number
        assert ex.receive(answer(second), A, 0.045) == CONFIRMED
        assert (send.waiter, round(send.round_trip, 6)) == ('waiter', 0.025)
        assert ex.receive(answer(third), A, 0.05) == SWALLOWED
        assert run_until(ex, 2.0) == []


def test_pings_are_repeated_to_a_tagging_peer_beside_a_message():
    ex = exchange()
    tagging(ex)
    ex.ping(A, 'ping', 0.0, 1.0)
    ex.send(START, A, 'message', 0.0, 1.0)
    said = [untagged(frame) for _, frame in run_until(ex, 0.025)]
    assert [frame.replace(b' ', b'') for frame in said] == [b'[]', START.replace(b' ', b'')] * 2


# --- the rest ---


def test_tags_off_is_a_plain_peer():
    ex = exchange(tags=False)
    frame = tag(START, 7)
    assert [ex.receive(frame, A, 0.0) for _ in range(2)] == [DELIVER, DELIVER]
    assert ex.reply == frame
    broken = frame.replace(b' ]', b'x]').replace(b'\t]', b'x]')
    assert [ex.receive(broken, addr, 0.0) for addr in (A, B)] == [DELIVER, DELIVER]  # it looks at no tag
    ex.send(START, A, None, 0.0, 1.0)
    assert out(ex) == [START]
    assert run_until(ex, 0.9) == []
    assert ex.receive(START, A, 0.9) == CONFIRMED
    for answer in (acknowledged, lambda frame: frame):  # it can ping all the same
        send = ex.ping(A, None, 1.0, 1.0)
        (sent,) = out(ex)
        assert ex.receive(answer(sent), A, 1.1) == CONFIRMED
        assert send.outcome == CONFIRMED


@pytest.mark.parametrize('wrong', [{'initial_rto': 0}, {'due_age': -1.0}, {'max_rto': 0.001}, {'max_peers': 0}])
def test_tuning_is_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).replace('max_rto', 'min_rto')):
        InternalTuning(**wrong)


def test_a_message_that_is_refused_is_new_when_it_comes_again():
    ex = exchange()
    tagging(ex)
    known, first, second = tag(START, 7), tag(START, 8), tag(INIT, 9)
    assert ex.receive(known, A, 0.0) == DELIVER
    ex.refuse(2)
    assert ex.receive(known, A, 0.1) == ECHO  # it has been accepted before
    assert ex.receive(first, A, 0.1) == ex.receive(first, A, 0.2) == REFUSED
    assert ex.receive(START, B, 0.1) == REFUSED
    assert ex.receive(second, A, 0.2) == DELIVER  # another event
    assert ex.receive(tag(b'[0, "x"]', 10), A, 0.2) == NOTICE
    assert ex.receive(ping(11), A, 0.2) == ECHO
    assert ex.receive(b'text', B, 0.2) == DELIVER  # no message, which is said elsewhere
    send = ex.send(START, A, None, 0.3, 1.0)
    assert ex.receive(acknowledged(send.frame), A, 0.3) == CONFIRMED
    ex.refuse(0)
    assert ex.receive(first, A, 0.4) == DELIVER
    assert ex.reply == acknowledged(first)
    assert ex.receive(first, A, 0.5) == ECHO
    for i in range(3 * 64):  # what is refused is no storm
        ex.refuse(2 * (i < 128))
        verdict = ex.receive(START, B, 1.0)
    assert verdict == DELIVER
    assert count(ex, 'duplicates') == 2


def test_no_message_waits_for_a_ping():
    ex = exchange()
    tagging(ex)
    first = ex.ping(A, 'ping', 0.0, 1.0)
    assert (ex.newest(A), ex.waiting_for(), ex.is_waiting(A), ex.is_waiting(B)) == (None, [], True, False)
    send = ex.send(START, A, 'message', 0.0, 1.0)
    behind = ex.ping(A, 'behind', 0.0, 1.0)
    last = ex.send(INIT, A, 'last', 0.0, 1.0)
    assert out(ex) == [first.frame, send.frame]  # a message waits for messages, a ping for everything
    assert ex.newest(A) is last
    assert ex.receive(acknowledged(send.frame), A, 0.01) == CONFIRMED
    assert out(ex) == [last.frame]  # the first ping is still out, and the one behind waits for both
    assert ex.receive(acknowledged(first.frame), A, 0.01) == CONFIRMED
    assert out(ex) == []
    assert ex.receive(acknowledged(last.frame), A, 0.01) == CONFIRMED
    assert out(ex) == [behind.frame]
