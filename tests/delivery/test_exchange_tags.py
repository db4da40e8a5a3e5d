"""What delivery tags add to the rules, case by case; the other files test_exchange_*.py have the longer stories."""

from __future__ import annotations

import pytest

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Outcome, Verdict
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
    meet_echorig,
    meet_legacy,
    out,
    run_until,
)
from tagging import ACK, ping, read_tag, set_ack, strip_tag, tag


def test_messages_are_numbered_and_confirmed_by_either_kind_of_peer():
    for flagged in (True, False):
        ex = exchange(number=7)
        (meet_echorig if flagged else meet_legacy)(ex)
        for i, number in enumerate((7, 8, 9)):
            send = ex.send(START, A, None, float(i), 1.25)
            (frame,) = out(ex)
            assert read_all(frame) == (False, OWN, number, 1250)
            assert (send.number, send.frame, strip_tag(frame)) == (number, frame, START)
            assert not is_damaged(frame)
            assert ex.classify(set_ack(frame) if flagged else frame, A, i + 0.01) == Verdict.CONFIRMED
            assert kind(ex) == ('echorig' if flagged else 'legacy')
            assert emptied(ex.finished) == [send]
            assert send.round_trip == pytest.approx(0.01)


def test_all_messages_of_a_program_have_one_counter():
    ex = exchange(number=1)
    for run, addr in enumerate((A, B)):
        meet_echorig(ex, addr=addr, run=run)
    numbers = [read_tag(confirmed(ex, START, addr)) for addr in (A, B, B, A)]
    assert numbers == [1, 2, 3, 4]
    assert read_tag(ex.send_unconfirmed(STATUS, B, 0.0)) == 5
    ex.ping(A, None, 0.0, 1.0)
    assert [read_tag(frame) for frame in out(ex)] == [6]


def test_what_is_not_tagged():
    ex = exchange()
    for i, (frame, taggable) in enumerate(((START, False), (b'null', True), (b'[' + b'1' * 65_379 + b']', True))):
        addr = ('10.0.1.1', i)
        meet_echorig(ex, addr=addr, run=i)
        ex.send(frame, addr, None, 0.0, 1.0, taggable)
        assert out(ex) == [frame]
    fits = b'[' + b'1' * 65_377 + b']'
    meet_echorig(ex)
    ex.send(fits, A, None, 0.0, 1.0)
    assert [len(frame) for frame in out(ex)] == [65507]


def test_an_answer_names_its_question_where_there_is_room_and_somebody_to_read_it():
    question = 5 << 32 | 6
    for to, room, longer in ((meet_echorig, 65507, 64), (meet_echorig, len(START) + 191, 0), (meet_legacy, 65507, 0)):
        ex = exchange(max_frame=room)
        to(ex)
        ex.send(START, A, None, 0.0, 1.0, True, question)
        (frame,) = out(ex)
        assert len(frame) == len(START) + 128 + longer
        assert len(ex.send_unconfirmed(START, A, 0.0, True, question)) == len(frame)


def test_a_tag_never_makes_a_message_too_long_for_a_plain_peer():
    ex = exchange()
    meet_legacy(ex)
    sizes = (384, True), (385, False), (512, False), (513, True), (872, True), (873, False), (1000, False), (1001, True)
    for size, has_tag in sizes:
        message = b'[1, "' + b'x' * (size - 7) + b'"]'
        frame = confirmed(ex, message, flagged=False)
        assert (read_tag(frame) >= 0) is has_tag, size
    meet_echorig(ex)
    assert read_tag(confirmed(ex, b'[1, "' + b'x' * 500 + b'"]')) > 0


def test_a_message_is_echoed_with_the_flag_and_delivered_once():
    ex = exchange()
    frame = tag(START, 7)
    assert ex.classify(frame, A, 0.0) == Verdict.DELIVER
    assert ex.reply == set_ack(frame)
    for now in (0.0, 1.0, 3600.0):
        assert ex.classify(frame, A, now) == Verdict.ECHO
        assert ex.reply == set_ack(frame)
    assert count(ex, 'duplicates') == 3
    again = tag(START, 7, lifetime=50)  # sent again, with less time left
    assert ex.classify(again, A, 3600.0) == Verdict.ECHO
    assert ex.reply == set_ack(again)


def test_notices_are_delivered_once_and_never_echoed():
    ex = exchange()
    assert [ex.classify(tag(NOTICE_FRAME, 7), A, 0.0) for _ in range(3)] == [
        Verdict.ERROR_NOTICE,
        Verdict.IGNORED,
        Verdict.IGNORED,
    ]
    assert count(ex, 'duplicates') == 2


def test_echoes_that_nobody_waits_for_are_swallowed():
    ex = exchange()
    meet_echorig(ex)
    before = count(ex, 'strays')
    frame = ex.send_unconfirmed(START, A, 0.0)
    assert read_all(frame) == (False, OWN, 1000, 0)
    assert ex.classify(set_ack(frame), A, 0.1) == Verdict.STRAY_ECHO
    assert ex.classify(set_ack(tag(START, 5)), A, 0.1) == Verdict.STRAY_ECHO  # of another program: none of our business
    send = ex.send(INIT, A, None, 1.0, 1.0)
    (frame,) = out(ex)
    ex.cancel(send, 1.1)
    assert ex.classify(set_ack(frame), A, 1.2) == Verdict.STRAY_ECHO
    assert ex.classify(frame, A, 1.2) == Verdict.STRAY_ECHO
    assert count(ex, 'strays') == before + 3
    assert ex.classify(set_ack(frame), B, 1.2) == Verdict.STRAY_ECHO  # from who is not known
    assert ex.classify(frame, B, 1.2) == Verdict.STRAY_ECHO
    assert ex.addresses() == [A]


def test_an_echo_with_other_bytes_is_a_mismatch_of_that_send_only():
    """Its check is right, so that the peer has changed it, and not the network."""
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    wrong = tag(START.replace(b'ref', b'REF'), send.number | ACK, run=OWN)
    assert ex.classify(wrong, A, 0.1) == Verdict.MISMATCH
    assert (send.outcome, send.answer) == (Outcome.MISMATCH, wrong)
    assert ex.classify(set_ack(frame), A, 0.1) == Verdict.STRAY_ECHO
    assert emptied(ex.finished) == [send]
    assert confirmed(ex, INIT)


def test_the_echo_of_an_earlier_copy_confirms():
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    first, second = (frame for _, frame in run_until(ex, 0.025))
    assert read_all(first)[:3] == read_all(second)[:3]
    assert (read_all(first)[3], read_all(second)[3]) == (1000, 980)
    assert ex.classify(set_ack(first), A, 0.03) == Verdict.CONFIRMED
    assert ex.classify(set_ack(second), A, 0.03) == Verdict.STRAY_ECHO
    assert send.outcome == Outcome.CONFIRMED


# --- damage ---


def damaged(frame, place=4):
    """Return a frame with a byte changed."""
    return frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]


def test_a_damaged_message_is_a_lost_one():
    ex = exchange()
    frame = tag(START, 7)
    for place in (0, 4, len(START), len(START) + 40, len(frame) - 40, len(frame) - 1):
        assert ex.classify(damaged(frame, place), A, 0.0) == Verdict.DAMAGED
    assert (ex.n_damaged, ex.n_peers) == (6, 0)  # nobody is known by it
    assert ex.classify(frame, A, 0.1) == Verdict.DELIVER
    assert ex.classify(damaged(frame), A, 0.2) == Verdict.DAMAGED  # no duplicate either, which would be echoed
    assert ex.classify(damaged(tag(NOTICE_FRAME, 8)), A, 0.2) == Verdict.DAMAGED
    assert ex.classify(damaged(ping(9), 100), A, 0.2) == Verdict.DAMAGED
    assert (ex.n_damaged, count(ex, 'damaged'), count(ex, 'duplicates')) == (9, 3, 0)
    assert ex.classify(tag(NOTICE_FRAME, 8), A, 0.3) == Verdict.ERROR_NOTICE


def test_a_damaged_echo_is_a_lost_one():
    for to, answer in ((meet_echorig, set_ack), (meet_legacy, lambda frame: frame)):
        ex = exchange()
        to(ex)
        send = ex.send(START, A, None, 0.0, 1.0)
        (frame,) = out(ex)
        for place in (4, len(START), len(START) + 40, len(frame) - 2):
            assert ex.classify(damaged(answer(frame), place), A, 0.1) == Verdict.DAMAGED
        assert send.outcome == Outcome.WAITING
        assert ex.classify(answer(frame), A, 0.2) == Verdict.CONFIRMED
        assert ex.classify(damaged(answer(frame)), A, 0.2) == Verdict.DAMAGED
        assert count(ex, 'damaged') == 5


# --- messages that cross ---


def test_messages_that_cross_are_delivered_and_ours_goes_on_waiting():
    ex = exchange()
    meet_legacy(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.classify(START, A, 0.1) == Verdict.DELIVER  # the same event, even the same bytes
    assert ex.classify(STATUS, A, 0.1) == Verdict.DELIVER
    assert ex.classify(NOTICE_FRAME, A, 0.1) == Verdict.ERROR_NOTICE
    assert ex.classify(frame, A, 0.2) == Verdict.CONFIRMED
    crossed = ex.send(START, A, None, 1.0, 1.0)
    ex.classify(b'[2, "other", null]', A, 1.1)
    ex.expire(2.0)
    assert (crossed.outcome, crossed.answer) == (Outcome.MISMATCH, b'[2, "other", null]')
    assert send.outcome == Outcome.CONFIRMED
    nonsense = ex.send(START, A, None, 3.0, 1.0)
    assert ex.classify(b'nonsense', A, 3.1) == Verdict.MISMATCH
    assert nonsense.outcome == Outcome.MISMATCH


def test_messages_of_tagging_peers_cross_without_a_trace():
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    assert ex.classify(tag(START, 5), A, 0.1) == Verdict.DELIVER
    ex.expire(1.0)
    assert (send.outcome, send.answer) == (Outcome.TIMED_OUT, None)


def test_a_truncated_echo_of_a_tagged_message():
    ex = exchange()
    meet_legacy(ex)
    message = b'[1, "' + b'x' * 600 + b'"]'
    send = ex.send(message, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.classify(frame[:512], A, 0.1) == Verdict.CONFIRMED
    assert send.truncated
    assert kind(ex) == 'legacy'
    ex.send(message, A, None, 1.0, 1.0)
    (frame,) = out(ex)
    ex.expire(2.0)
    assert ex.classify(frame[:512], A, 2.1) == Verdict.STRAY_ECHO


def test_an_echo_that_is_cut_in_its_tag_is_not_taken_for_a_damaged_message():
    """MATLAB reads 1,000 bytes, which may end in the tag."""
    ex = exchange()
    message = b'[1, "' + b'x' * 990 + b'"]'
    send = ex.send(message, A, None, 0.0, 1.0)
    run_until(ex, 0.5)
    cut = send.frame[:1115]
    assert is_damaged(cut)
    assert ex.classify(cut, A, 0.6) == Verdict.CONFIRMED
    assert send.truncated
    assert kind(ex) == 'legacy'
    assert ex.classify(cut, B, 0.6) == Verdict.DAMAGED  # nothing was sent there


# --- repetitions ---


def test_a_tagging_peer_is_sent_a_message_again():
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    said = run_until(ex, 1.0)
    times = [time for time, _ in said]
    assert times[1:13] == [0.02, 0.04, 0.06, 0.08, 0.12, 0.2, *(round(0.3 + 0.1 * i, 3) for i in range(6))]
    assert {read_all(frame)[:3] for _, frame in said} == {(False, OWN, 1000)}
    assert [read_all(frame)[3] for _, frame in said[1:5]] == [980, 960, 940, 920]  # milliseconds that are left
    assert not any(is_damaged(frame) for _, frame in said)
    assert send.outcome == Outcome.TIMED_OUT
    assert ex.alarm == float('inf')
    assert count(ex, 'retransmitted') == len(said) - 1


def test_the_interval_follows_the_round_trip_time():
    ex = exchange(min_rto=0.001)
    meet_echorig(ex)
    for i in range(50):
        ex.send(START, A, None, float(i), 1.0)
        (frame,) = out(ex)
        ex.classify(set_ack(frame), A, i + 0.004)
    srtt, min_rtt = ex.statistics(A)[8:10]
    assert srtt == pytest.approx(0.004)
    assert min_rtt == pytest.approx(0.004)
    ex.expire(50.0)
    ex.send(START, A, None, 50.0, 1.0)
    assert 0.004 <= ex.alarm - 50.0 < 0.006


def test_a_repeated_message_says_nothing_of_the_round_trip_time():
    ex = exchange()
    meet_echorig(ex)
    ex.send(START, A, None, 0.0, 1.0)
    said = run_until(ex, 0.025)
    assert len(said) == 2
    assert ex.classify(set_ack(said[0][1]), A, 0.026) == Verdict.CONFIRMED
    assert ex.statistics(A)[8] is None


def test_a_stream_is_never_repeated_and_confirms_in_any_order():
    ex = exchange(stream=True)
    meet_echorig(ex)
    sends = [ex.send(frame, A, None, 0.0, 1.0) for frame in (START, INIT, START)]
    frames = out(ex)
    assert len(frames) == 3
    assert run_until(ex, 0.5) == []
    for i in (2, 0, 1):
        assert ex.classify(set_ack(frames[i]), A, 0.6) == Verdict.CONFIRMED
        assert emptied(ex.finished) == [sends[i]]


# --- pings ---


def test_pings_of_others_are_echoed_with_our_run():
    ex = exchange()
    for number in (9, 9, 8, 2**32 - 1):
        frame = ping(number)
        assert ex.classify(frame, A, 0.0) == Verdict.ECHO
        assert read_all(ex.reply) == (True, *read_all(frame)[1:])
        assert len(ex.reply) == len(frame)
        assert not is_damaged(ex.reply)
        # No time, for this exchange has no clock; after a tab, our run and no number.
        field = f'{OWN:031b}{0:032b}'.replace('0', ' ').replace('1', '\t').encode()
        assert ex.reply[1:130] == b' ' * 65 + b'\t' + field
    assert ex.classify(tag(STATUS, 3), A, 0.0) == Verdict.DELIVER  # their numbers say nothing of those of messages
    assert ex.classify(tag(b'[]', 10), A, 0.0) == Verdict.ECHO  # one of another form
    assert ex.reply == set_ack(tag(b'[]', 10))


def test_pings_ask_for_the_time():
    ours, theirs = exchange(), Exchange(InternalTuning(), False, 65535, run=6)
    theirs.wall_clock = lambda: 2**62 + 5
    for asked in (ours, theirs):
        send = ours.ping(A, 'waiter', 0.0, 1.0)
        [(frame, _)] = ours.outbox
        ours.outbox.clear()
        if asked is theirs:
            assert theirs.classify(frame, B, 0.0) == Verdict.ECHO
        assert ours.classify(set_ack(frame) if asked is ours else theirs.reply, A, 0.25) == Verdict.CONFIRMED
        assert (send.peer_time, send.echoed_at, send.round_trip) == (0 if asked is ours else 2**62 + 5, 0.25, 0.25)


def test_pings_are_repeated_and_any_of_them_may_be_answered():
    for answer in (set_ack, lambda frame: frame):
        ex = exchange()
        send = ex.ping(A, 'waiter', 0.0, 1.0)
        first, second, third = (frame for _, frame in run_until(ex, 0.045))
        assert len({read_tag(frame) for frame in (first, second, third)}) == 3  # each has its own number
        assert ex.classify(answer(second), A, 0.045) == Verdict.CONFIRMED
        assert (send.future, round(send.round_trip, 6)) == ('waiter', 0.025)
        assert ex.classify(answer(third), A, 0.05) == Verdict.STRAY_ECHO
        assert run_until(ex, 2.0) == []


def test_pings_are_repeated_to_a_tagging_peer_beside_a_message():
    ex = exchange()
    meet_echorig(ex)
    ex.ping(A, 'ping', 0.0, 1.0)
    ex.send(START, A, 'message', 0.0, 1.0)
    said = [strip_tag(frame) for _, frame in run_until(ex, 0.025)]
    assert [frame.replace(b' ', b'') for frame in said] == [b'[]', START.replace(b' ', b'')] * 2


# --- the rest ---


def test_tags_off_is_a_plain_peer():
    ex = exchange(tags=False)
    frame = tag(START, 7)
    assert [ex.classify(frame, A, 0.0) for _ in range(2)] == [Verdict.DELIVER, Verdict.DELIVER]
    assert ex.reply == frame
    broken = frame.replace(b' ]', b'x]').replace(b'\t]', b'x]')
    assert [ex.classify(broken, addr, 0.0) for addr in (A, B)] == [
        Verdict.DELIVER,
        Verdict.DELIVER,
    ]  # it looks at no tag
    ex.send(START, A, None, 0.0, 1.0)
    assert out(ex) == [START]
    assert run_until(ex, 0.9) == []
    assert ex.classify(START, A, 0.9) == Verdict.CONFIRMED
    for answer in (set_ack, lambda frame: frame):  # it can ping all the same
        send = ex.ping(A, None, 1.0, 1.0)
        (sent,) = out(ex)
        assert ex.classify(answer(sent), A, 1.1) == Verdict.CONFIRMED
        assert send.outcome == Outcome.CONFIRMED


@pytest.mark.parametrize('wrong', [{'initial_rto': 0}, {'memory_seconds': -1.0}, {'max_rto': 0.001}, {'max_peers': 0}])
def test_tuning_is_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).replace('max_rto', 'min_rto')):
        InternalTuning(**wrong)


def test_a_message_that_is_refused_is_new_when_it_comes_again():
    ex = exchange()
    meet_echorig(ex)
    known, first, second = tag(START, 7), tag(START, 8), tag(INIT, 9)
    assert ex.classify(known, A, 0.0) == Verdict.DELIVER
    ex.refuse_events(2)
    assert ex.classify(known, A, 0.1) == Verdict.ECHO  # it has been accepted before
    assert ex.classify(first, A, 0.1) == ex.classify(first, A, 0.2) == Verdict.NO_CAPACITY
    assert ex.classify(START, B, 0.1) == Verdict.NO_CAPACITY
    assert ex.classify(second, A, 0.2) == Verdict.DELIVER  # another event
    assert ex.classify(tag(b'[0, "x"]', 10), A, 0.2) == Verdict.ERROR_NOTICE
    assert ex.classify(ping(11), A, 0.2) == Verdict.ECHO
    assert ex.classify(b'text', B, 0.2) == Verdict.DELIVER  # no message, which is said elsewhere
    send = ex.send(START, A, None, 0.3, 1.0)
    assert ex.classify(set_ack(send.frame), A, 0.3) == Verdict.CONFIRMED
    ex.refuse_events(0)
    assert ex.classify(first, A, 0.4) == Verdict.DELIVER
    assert ex.reply == set_ack(first)
    assert ex.classify(first, A, 0.5) == Verdict.ECHO
    for i in range(3 * 64):  # what is refused is no storm
        ex.refuse_events(2 * (i < 128))
        verdict = ex.classify(START, B, 1.0)
    assert verdict == Verdict.DELIVER
    assert count(ex, 'duplicates') == 2


def test_no_message_waits_for_a_ping():
    ex = exchange()
    meet_echorig(ex)
    first = ex.ping(A, 'ping', 0.0, 1.0)
    assert (ex.newest_send(A), ex.waiting_peers(), ex.is_waiting(A), ex.is_waiting(B)) == (None, [], True, False)
    send = ex.send(START, A, 'message', 0.0, 1.0)
    behind = ex.ping(A, 'behind', 0.0, 1.0)
    last = ex.send(INIT, A, 'last', 0.0, 1.0)
    assert out(ex) == [first.frame, send.frame]  # a message waits for messages, a ping for everything
    assert ex.newest_send(A) is last
    assert ex.classify(set_ack(send.frame), A, 0.01) == Verdict.CONFIRMED
    assert out(ex) == [last.frame]  # the first ping is still out, and the one behind waits for both
    assert ex.classify(set_ack(first.frame), A, 0.01) == Verdict.CONFIRMED
    assert out(ex) == []
    assert ex.classify(set_ack(last.frame), A, 0.01) == Verdict.CONFIRMED
    assert out(ex) == [behind.frame]


def test_a_send_does_not_time_out_while_echoes_may_be_unread():
    """It is not retransmitted either, since its time is up."""
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    out(ex)
    ex.expire(5.0, read_until=0.9)
    assert (ex.finished, ex.outbox) == ([], [])
    assert ex.alarm <= 5.0
    ex.expire(5.1, read_until=5.05)
    assert emptied(ex.finished) == [send]
    assert send.outcome == Outcome.TIMED_OUT


def test_a_notice_is_echoed_only_if_its_sender_waits():
    """An echo of an earlier message is not sent again for it."""
    ex = exchange()
    waited_for, other = (tag(NOTICE_FRAME, number, lifetime=lifetime) for number, lifetime in ((1, 500), (2, 0)))
    assert ex.classify(waited_for, A, 0.0) == Verdict.ERROR_NOTICE
    assert ex.reply == set_ack(waited_for)
    assert ex.classify(waited_for, A, 0.1) == Verdict.ECHO  # a duplicate
    assert ex.reply == set_ack(waited_for)
    assert ex.classify(other, A, 0.2) == Verdict.ERROR_NOTICE
    assert ex.reply is None
    assert ex.classify(other, A, 0.3) == Verdict.IGNORED
    assert ex.classify(tag(START, 3), A, 0.4) == Verdict.DELIVER
    assert ex.classify(NOTICE_FRAME, A, 0.5) == Verdict.ERROR_NOTICE
    assert ex.reply is None
