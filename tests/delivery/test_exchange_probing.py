"""What a peer is: it is asked before its first message, never behind one, and stays what it has shown to be."""

from __future__ import annotations

import pytest

from echorig.delivery.verdicts import Outcome, Verdict
from exchanges import (
    INIT,
    NOTICE_FRAME,
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
from tagging import is_ping, ping, read_tag, set_ack, strip_tag, tag

HOUR = 3600.0


def verbatim(frame):
    """The echo of a plain peer."""
    return frame


def pings_of(said):
    return [time for time, frame in said if is_ping(frame)]


def messages_of(said):
    return [(time, strip_tag(frame)) for time, frame in said if not is_ping(frame)]


# --- before the first message ---


def test_a_peer_not_known_is_pinged_and_the_message_follows_at_half_the_time():
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 1.0)
    (first,) = out(ex)
    assert is_ping(first)
    said = run_until(ex, 1.0)
    assert pings_of(said) == [0.01, 0.02, 0.04, 0.08, 0.16, 0.26, 0.36, 0.46]
    assert messages_of(said) == [(0.5, START)]  # once, and nothing behind it
    assert send.outcome == Outcome.TIMED_OUT
    numbers = [read_tag(frame) for frame in (first, *(frame for _, frame in said))]
    assert numbers == list(range(1000, 1010))


@pytest.mark.parametrize('timeout', [0.02, 0.1, 5.0, 60.0, float('inf')])
def test_a_peer_is_pinged_for_half_the_timeout_or_15_seconds(timeout):
    ex = exchange()
    ex.send(START, A, None, 0.0, timeout)
    said = run_until(ex, min(timeout, 100.0))
    ((when, _),) = messages_of(said)
    assert when == min(timeout / 2, 15.0)
    assert max(pings_of(said)) < when
    asked = [0.0, *pings_of(said)[1:], when]
    assert all(after - before <= 0.1 + 1e-9 for before, after in zip(asked, asked[1:], strict=False))


@pytest.mark.parametrize('answer', [set_ack, verbatim])
@pytest.mark.parametrize('which', [0, 1, 2])
def test_the_message_leaves_with_the_first_echo(answer, which):
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 1.0)
    pings = [frame for _, frame in run_until(ex, 0.025)]
    assert len(pings) == 3
    assert ex.classify(answer(pings[which]), A, 0.03) == Verdict.STRAY_ECHO
    (frame,) = out(ex)
    assert frame == send.frame
    assert strip_tag(frame) == START
    assert kind(ex) == ('legacy' if answer is verbatim else 'echorig')
    for other in pings:  # the others come too
        assert ex.classify(answer(other), A, 0.031) == Verdict.STRAY_ECHO
    said = run_until(ex, 0.9)
    assert (len(said) > 5) is (answer is set_ack)  # a plain peer is sent nothing again
    assert {strip_tag(frame) for _, frame in said} <= {START}
    assert ex.classify(answer(send.frame), A, 0.95) == Verdict.CONFIRMED


def test_the_echo_of_a_ping_says_how_long_a_round_trip_takes():
    ex = exchange()
    ex.send(START, A, None, 0.0, 1.0)
    _, second = (frame for _, frame in run_until(ex, 0.015))
    ex.classify(set_ack(second), A, 0.035)
    assert ex.statistics(A)[8] == pytest.approx(0.025)


def test_a_late_echo_of_a_ping_tells_the_kind_too():
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 2.0)
    pings = [frame for _, frame in run_until(ex, 1.1) if is_ping(frame)]
    assert ex.classify(set_ack(pings[0]), A, 1.2) == Verdict.STRAY_ECHO
    said = run_until(ex, 1.3)
    assert said  # it seems to have got lost
    assert {frame[:100] for _, frame in said} == {send.frame[:100]}


def test_raw_text_is_not_asked_about():
    """It cannot be repeated in any case."""
    ex = exchange()
    ex.send(b'text', A, None, 0.0, 1.0, False)
    assert out(ex) == [b'text']
    assert run_until(ex, 0.9) == []


def test_a_tagging_peer_is_not_asked():
    ex = exchange()
    meet_echorig(ex)
    confirmed(ex, START)


def test_what_comes_meanwhile_waits_for_its_turn():
    ex = exchange()
    first, second = ex.send(START, A, None, 0.0, 1.0), ex.send(INIT, A, None, 0.0, 1.0)
    assert ex.send_unconfirmed(STATUS, A, 0.005) is None
    assert ex.n_deferred == 1
    (probe,) = out(ex)
    ex.classify(verbatim(probe), A, 0.006)
    assert sorted(strip_tag(frame) for frame in out(ex)) == sorted([START, STATUS])
    assert ex.n_deferred == 0
    assert ex.classify(verbatim(first.frame), A, 0.1) == Verdict.CONFIRMED
    assert [strip_tag(frame) for frame in out(ex)] == [INIT]
    assert ex.classify(verbatim(second.frame), A, 0.2) == Verdict.CONFIRMED


def test_when_the_message_is_cancelled_nobody_is_asked():
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 1.0)
    held = ex.send_unconfirmed(STATUS, A, 0.0)
    assert held is None
    out(ex)
    ex.cancel(send, 0.005)
    assert [strip_tag(frame) for frame in out(ex)] == [STATUS]
    assert run_until(ex, 1.0) == []
    assert not ex.is_waiting(A)


def test_a_message_whose_time_is_short_does_not_delay_the_next():
    ex = exchange()
    ex.send(START, A, None, 0.0, 0.05)
    second = ex.send(INIT, A, None, 0.0, 1.0)
    said = run_until(ex, 0.2)
    assert messages_of(said) == [(0.025, START), (0.05, INIT)]
    assert max(pings_of(said)) < 0.025  # nothing behind a message
    assert second.outcome == Outcome.WAITING


def test_a_peer_that_was_only_heard_is_asked_too():
    """Who sends a ping may be a plain program that sends back one of an earlier program of ours."""
    ex = exchange()
    for frame in (ping(5), tag(NOTICE_FRAME, 6), tag(STATUS, 7)):
        ex.classify(frame, A, 0.0)
        assert kind(ex) == 'unknown'
    ex.send(START, A, None, 0.1, 1.0)
    assert [is_ping(frame) for frame in out(ex)] == [True]


# --- behind a message ---


def test_nothing_is_sent_behind_a_message_that_is_not_confirmed():
    """A busy MATLAB rig that finds a ping behind a message takes our next echo for a command."""
    ex = exchange()
    first = ex.send(START, A, None, 0.0, 1.0)
    run_until(ex, 1.0)
    assert first.outcome == Outcome.TIMED_OUT
    second = ex.send(INIT, A, None, 2.0, 1.0)
    assert messages_of(run_until(ex, 3.0)) == [(float('-inf'), INIT)]  # at once, with no ping before it
    assert second.outcome == Outcome.TIMED_OUT
    third = ex.send(STATUS, A, None, 3.0, 1.0)
    assert len(out(ex)) == 1
    assert ex.classify(verbatim(first.frame), A, 3.1) == Verdict.STRAY_ECHO
    assert kind(ex) == 'legacy'
    assert ex.classify(verbatim(third.frame), A, 3.2) == Verdict.CONFIRMED


def test_an_unconfirmed_message_counts_as_well():
    ex = exchange()
    assert strip_tag(ex.send_unconfirmed(STATUS, A, 0.0)) == STATUS
    ex.send(START, A, None, 1.0, 1.0)
    assert messages_of(run_until(ex, 1.9)) == [(float('-inf'), START)]


def test_once_the_echo_is_there_it_may_be_asked_again():
    ex = exchange()
    frame = ex.send_unconfirmed(STATUS, A, 0.0)
    assert ex.classify(set_ack(frame), A, 0.5) == Verdict.STRAY_ECHO
    assert kind(ex) == 'echorig'
    ex.send(START, A, None, 61.0, 1.0)
    assert [is_ping(frame) for frame in out(ex)] == [True]


def test_after_15_seconds_it_has_dealt_with_the_message():
    for later, asks in ((14.9, False), (15.1, True)):
        ex = exchange()
        ex.send_unconfirmed(STATUS, A, 0.0)
        ex.send(START, A, None, later, 1.0)
        assert [is_ping(frame) for frame in out(ex)] == [asks]


def test_what_is_found_out_late_lets_the_message_be_repeated():
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 4.0)
    run_until(ex, 2.5)
    assert kind(ex) == 'unknown'
    meet_echorig(ex, 2.5)
    said = run_until(ex, 3.0)
    assert said[0][0] == pytest.approx(2.52)
    assert {strip_tag(frame) for _, frame in said} == {START}
    assert ex.classify(set_ack(send.frame), A, 3.0) == Verdict.CONFIRMED


# --- who is what ---


def test_a_plain_peer_stays_plain():
    ex = exchange()
    meet_legacy(ex)
    for i in range(10):
        now = i * 7 * HOUR
        confirmed(ex, START, now=now, flagged=False)
        assert kind(ex) == 'legacy'
        send = ex.send(INIT, A, None, now + 1.0, 5.0)
        assert len(run_until(ex, now + 6.0)) == 1  # no ping before it, no repetition
        assert send.outcome == Outcome.TIMED_OUT


@pytest.mark.parametrize('silence', [61.0, HOUR])
def test_a_tagging_peer_is_asked_again_after_a_minute_of_silence(silence):
    ex = exchange()
    meet_echorig(ex)
    assert ex.classify(ping(9), A, 30.0) == Verdict.ECHO
    ex.send(START, A, None, 89.0, 0.5)
    assert [strip_tag(frame) for frame in out(ex)] == [START]
    ex.expire(89.5)
    send = ex.send(START, A, None, 30.0 + silence, 1.0)
    (probe,) = out(ex)
    assert is_ping(probe)
    assert kind(ex) == 'unknown'
    assert ex.classify(verbatim(probe), A, 30.1 + silence) == Verdict.STRAY_ECHO  # it was replaced by a plain one
    assert kind(ex) == 'legacy'
    assert len(run_until(ex, 30.9 + silence)) == 1
    assert ex.classify(verbatim(send.frame), A, 30.9 + silence) == Verdict.CONFIRMED


def test_a_peer_that_became_unknown_while_a_message_waits_is_asked_before_it_is_sent_it_again():
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 1.0, 100.0)
    said = run_until(ex, 80.0)
    assert 59.0 < max(time for time, _ in messages_of(said)) <= 60.0
    assert {is_ping(frame) for time, frame in said if time > 61.0} == {True}
    assert len([time for time in pings_of(said) if time > 61.0]) == pytest.approx(19, abs=2)
    assert ex.classify(set_ack(said[-1][1]), A, 80.1) == Verdict.STRAY_ECHO
    assert messages_of(run_until(ex, 80.5))
    assert ex.classify(set_ack(send.frame), A, 80.6) == Verdict.CONFIRMED


def test_a_plain_peer_in_its_place_is_sent_nothing_again():
    ex = exchange()
    meet_echorig(ex)
    ex.send(START, A, None, 1.0, 100.0)
    said = run_until(ex, 80.0)
    assert ex.classify(verbatim(said[-1][1]), A, 80.1) == Verdict.STRAY_ECHO
    assert run_until(ex, 101.0) == []


def test_all_peers_with_a_key_are_tagging_ones():
    ex = exchange(signed=True)
    ex.send(START, A, None, 0.0, 1.0)
    said = run_until(ex, 0.05)
    assert {strip_tag(frame) for _, frame in said} == {START}
    assert len(said) == 3
    ex.send(START, A, None, HOUR, 1.0)
    assert kind(ex) == 'echorig'


def test_an_untagged_message_says_that_a_peer_is_plain():
    for frame, expected in ((START, 'legacy'), (NOTICE_FRAME, 'unknown'), (b'text', 'unknown'), (b'{}', 'unknown')):
        ex = exchange()
        ex.classify(frame, A, 0.0)
        assert kind(ex) == expected


def test_one_with_tags_may_send_bytes_as_they_are():
    """It is asked again, and not taken for a plain one."""
    ex = exchange()
    meet_echorig(ex)
    assert ex.classify(START, A, 0.0) == Verdict.DELIVER
    assert kind(ex) == 'unknown'
    ex.send(INIT, A, None, 0.1, 1.0)
    (probe,) = out(ex)
    assert is_ping(probe)
    assert ex.classify(set_ack(probe), A, 0.1) == Verdict.STRAY_ECHO
    assert kind(ex) == 'echorig'


def test_what_a_plain_peer_turns_into():
    """Its program is replaced by one with tags: what it says, or an echo of it, shows that."""
    ex = exchange()
    meet_legacy(ex)
    assert ex.classify(tag(STATUS, 1), A, 10.0) == Verdict.DELIVER
    assert kind(ex) == 'legacy'  # it may be what it was sent by the program that was here before this one
    assert ex.classify(ping(9), A, 16.0) == Verdict.ECHO
    assert kind(ex) == 'legacy'
    assert ex.classify(tag(STATUS, 10), A, 16.0) == Verdict.DELIVER
    assert kind(ex) == 'echorig'
    meet_legacy(ex, addr=B)
    send = ex.send(START, B, None, 20.0, 1.0)
    (frame,) = out(ex)
    assert ex.classify(set_ack(frame), B, 20.0) == Verdict.CONFIRMED
    assert kind(ex, B) == 'echorig'
    assert send.outcome == Outcome.CONFIRMED


def test_what_is_late_says_what_a_peer_was():
    ex = exchange()
    meet_echorig(ex)
    late = [ex.send_unconfirmed(b'[64, 20, %d]' % i, A, 0.0) for i in range(3)]
    ex.classify(START, A, 0.0)
    ex.classify(START, A, 0.0)
    assert kind(ex) == 'legacy'
    for frame in late:
        assert ex.classify(set_ack(frame), A, 0.1) == Verdict.STRAY_ECHO
    assert ex.classify(tag(STATUS, 5), A, 16.0) == Verdict.DELIVER
    assert kind(ex) == 'echorig'
    ex.classify(INIT, A, 16.1)
    ex.classify(INIT, A, 16.1)
    assert kind(ex) == 'legacy'
    assert ex.classify(tag(STATUS, 5), A, 16.2) == Verdict.ECHO  # the same one again is late as well as one before it
    assert ex.classify(tag(STATUS, 4), A, 16.2) == Verdict.DELIVER


# --- pings that somebody has asked for ---


def test_a_plain_peer_is_sent_a_ping_once():
    ex = exchange()
    meet_legacy(ex)
    send = ex.ping(A, None, 0.0, 1.0)
    assert len(run_until(ex, 1.0)) == 1
    assert send.outcome == Outcome.TIMED_OUT
    send = ex.ping(A, None, 2.0, 1.0)
    (frame,) = out(ex)
    assert ex.classify(verbatim(frame), A, 2.1) == Verdict.CONFIRMED
    assert send.round_trip == pytest.approx(0.1)


@pytest.mark.parametrize('to', [meet_legacy, None])
def test_a_ping_waits_behind_what_is_not_confirmed(to):
    ex = exchange()
    if to:
        to(ex)
    message = ex.send(START, A, None, 0.0, 2.0)
    run_until(ex, 1.0)
    asked = ex.ping(A, None, 1.0, 0.5)
    assert run_until(ex, 1.5) == []
    assert asked.outcome == Outcome.TIMED_OUT
    asked = ex.ping(A, None, 1.5, 5.0)
    assert run_until(ex, 2.0) == []
    assert message.outcome == Outcome.TIMED_OUT
    assert run_until(ex, 3.0) == []  # it may be at work on it still
    assert ex.classify(verbatim(message.frame), A, 3.0) == Verdict.STRAY_ECHO
    (frame,) = out(ex)
    assert is_ping(frame)
    assert ex.classify(verbatim(frame), A, 3.1) == Verdict.CONFIRMED
    assert asked.outcome == Outcome.CONFIRMED


def test_no_message_waits_for_a_ping_that_waits():
    ex = exchange()
    meet_legacy(ex)
    message = ex.send(START, A, None, 0.0, 1.0)
    run_until(ex, 1.0)
    assert message.outcome == Outcome.TIMED_OUT
    asked = ex.ping(A, None, 1.0, 3.0)
    second = ex.send(INIT, A, None, 1.1, 1.0)
    assert [strip_tag(frame) for frame in out(ex)] == [INIT]
    third = ex.send(STATUS, A, None, 1.2, 1.0)
    assert out(ex) == []
    assert ex.classify(verbatim(second.frame), A, 1.3) == Verdict.CONFIRMED
    assert out(ex) == [asked.frame, third.frame]  # now nothing is unanswered
    assert ex.classify(verbatim(asked.frame), A, 1.4) == Verdict.CONFIRMED
    assert ex.classify(verbatim(third.frame), A, 1.4) == Verdict.CONFIRMED
    assert run_until(ex, 9.0) == []


def test_a_ping_waits_for_15_seconds_at_most():
    ex = exchange()
    meet_legacy(ex)
    ex.send_unconfirmed(START, A, 1.0)
    asked = ex.ping(A, None, 2.0, 60.0)
    ((when, frame),) = run_until(ex, 60.0)
    assert when == 16.0
    assert is_ping(frame)
    assert ex.classify(verbatim(frame), A, 61.0) == Verdict.CONFIRMED
    assert asked.round_trip == pytest.approx(45.0)


def test_a_ping_is_not_repeated_behind_a_message():
    ex = exchange()
    asked = ex.ping(A, None, 0.0, 2.0)
    assert len(run_until(ex, 0.05)) == 3
    frame = ex.send_unconfirmed(START, A, 0.05)
    assert run_until(ex, 1.0) == []
    assert ex.classify(verbatim(frame), A, 1.0) == Verdict.STRAY_ECHO
    assert kind(ex) == 'legacy'
    assert run_until(ex, 2.0) == []
    assert asked.outcome == Outcome.TIMED_OUT


def test_a_ping_does_not_wait_for_what_never_arrived():
    """A program that is to be started is asked whether it is there yet."""
    ex = exchange()
    meet_legacy(ex)
    ex.send_unconfirmed(START, A, 0.0)
    ex.on_refused(A, 0.01)
    ex.ping(A, None, 0.5, 1.0)
    assert [is_ping(frame) for frame in out(ex)] == [True]


# --- nobody is there ---


def test_pings_that_the_system_reports_as_refused():
    ex = exchange()
    sends = [ex.send(frame, A, None, 0.0, 1.0) for frame in (START, INIT)]
    run_until(ex, 0.0)
    ex.on_refused(A, 0.001)
    assert [send.outcome for send in sends] == [Outcome.WAITING] * 2  # it may be of something earlier
    run_until(ex, 0.015)
    ex.on_refused(A, 0.016)
    assert [send.outcome for send in sends] == [Outcome.UNREACHABLE] * 2
    assert emptied(ex.finished) == sends
    assert ex.n_waiting == 0
    assert count(ex, 'failed') == 2
    assert run_until(ex, 1.0) == []


def test_a_rig_that_is_starting_again_is_waited_for():
    ex = exchange()
    meet_legacy(ex)
    meet_echorig(ex, 16.0)
    send = ex.send(START, A, None, 100.0, 1.0)
    for i in range(1, 9):
        run_until(ex, 100.0 + i / 20)
        ex.on_refused(A, 100.0 + i / 20)
    assert send.outcome == Outcome.WAITING
    said = run_until(ex, 100.6)
    assert strip_tag(said[-1][1]) == START
    ex.on_refused(A, 100.6)
    assert run_until(ex, 101.0) == []
    assert send.outcome == Outcome.UNREACHABLE


def test_what_is_refused_does_not_count_as_sent_behind():
    """It never arrived, so nobody is at work on it."""
    ex = exchange()
    send = ex.send(b'text', A, None, 0.0, 1.0, False)
    out(ex)
    ex.on_refused(A, 0.001)
    assert send.outcome == Outcome.UNREACHABLE
    assert ex.classify(b'text', A, 0.002) == Verdict.DELIVER


def test_nonsense_while_one_asks():
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 1.0)
    for _ in range(2):
        assert ex.classify(b'nonsense', A, 0.001) == Verdict.DELIVER  # nothing was sent that it could be the echo of
    run_until(ex, 0.5)
    assert ex.classify(NOTICE_FRAME, A, 0.6) == Verdict.ERROR_NOTICE
    assert ex.classify(b'nonsense', A, 0.6) == Verdict.MISMATCH
    assert send.outcome == Outcome.MISMATCH
