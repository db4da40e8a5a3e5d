"""What the simulation has found, as it was found, and the rule in a few lines."""

from __future__ import annotations

import pytest

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Outcome, Verdict
from echorig.security._signing import Signer
from exchanges import (
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
from tagging import RUN, identity, is_ping, ping, read_tag, run_of, set_ack, tag, tag_answer

LONG = b'[2, "%s"]' % (b'x' * 600)
WINDOW = 1024


def met(ex: Exchange, now: float, addr: object, run: int = RUN) -> None:
    """Let an address answer a ping, which tells which program is there."""
    ex.ping(addr, None, now, 1.0)
    (frame,) = out(ex)
    ex.classify(answered(frame, run), addr, now + 0.001)
    emptied(ex.finished)


def answered(frame: bytes, run: int = RUN) -> bytes:
    """Return the echo of a ping by an echorig with a run."""
    return set_ack(tag_answer(b'[]', read_tag(frame), run << 32, run_of(frame)))


# --- as of the first tag ---


def test_one_without_tags_can_ping_a_tagging_peer():
    ex = exchange(tags=False)
    send = ex.ping(A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert ex.classify(set_ack(frame), A, 0.1) == Verdict.CONFIRMED
    assert send.outcome == Outcome.CONFIRMED
    assert ex.classify(set_ack(frame), A, 0.2) == Verdict.STRAY_ECHO
    assert ex.classify(ping(5), A, 0.3) == Verdict.DELIVER  # the ping of another is echoed as it is
    assert ex.reply == ping(5)
    assert ex.classify(tag(START, 6), A, 0.4) == Verdict.DELIVER
    assert ex.reply == tag(START, 6)


def test_the_truncated_echo_of_an_unconfirmed_message_is_no_message():
    ex = exchange()
    frame = ex.send_unconfirmed(LONG, A, 0.0)
    assert ex.classify(frame[:512], A, 0.1) == Verdict.STRAY_ECHO


def test_a_damaged_message_does_not_take_the_place_of_the_true_one():
    """Or the sender would be told that it arrived."""
    ex = exchange()
    frame = tag(START, 7)
    assert ex.classify(frame.replace(b'r', b's'), A, 0.0) == Verdict.DAMAGED
    assert ex.classify(frame, A, 0.1) == Verdict.DELIVER
    assert ex.classify(frame, A, 0.2) == Verdict.ECHO


def test_an_earlier_refusal_is_none_of_the_next_message():
    ex = exchange()
    ex.classify(STATUS, A, 0.0)
    ex.on_refused(A, 0.1)
    send = ex.send(START, A, None, 1.0, 1.0, False)
    ex.expire(2.0)
    assert send.outcome == Outcome.TIMED_OUT
    assert ex.classify(START, A, 2.1) == Verdict.STRAY_ECHO


def test_several_storms_at_once_are_ended():
    ex = exchange(message_burst=64)
    frames = [b'[32, %d]' % i for i in range(16)]
    verdicts = [ex.classify(frame, A, 0.001 * i) for i in range(65) for frame in frames]
    assert verdicts == [Verdict.DELIVER] * 64 * 16 + [Verdict.RATE_LIMITED] * 16


# --- one program at two addresses ---


def test_what_is_below_the_window_is_not_confirmed():
    """One program may be at two addresses, so that the limit was kept for each, and it has not got this message."""
    ex = exchange()
    ex.classify(tag(START, 5000), A, 0.0)
    frame = tag(START, 5000 - WINDOW)
    assert ex.classify(frame, A, 0.1) not in (Verdict.ECHO, Verdict.DELIVER)


def test_two_peers_that_are_one_program_become_one():
    """What is on its way to one address of it must not be sent to the other, which may be dead."""
    ex = exchange()
    met(ex, 0.0, A)
    send = ex.send(START, B, None, 20.0, 1.0)
    run_until(ex, 20.6)  # it is sent although no ping was answered
    assert ex.classify(tag(STATUS, 5), B, 20.7) == Verdict.DELIVER
    assert ex.addresses() == [B]
    assert ex.current_addr(A) == B
    assert ex.classify(set_ack(send.frame), B, 20.8) == Verdict.CONFIRMED
    assert send.outcome == Outcome.CONFIRMED


def test_a_ping_tells_that_a_program_has_moved():
    ex = exchange()
    ex.classify(tag(STATUS, 5), A, 0.0)
    met(ex, 1.0, B)
    assert ex.addresses() == [B]
    ex.classify(tag(STATUS, 1, RUN + 7), B, 2.0)
    assert count(ex, 'restarts', B) == 1


def test_a_late_answer_to_a_ping_moves_nobody_back():
    ex = exchange()
    ex.ping(B, None, 0.0, 9.0)
    (frame,) = out(ex)
    ex.classify(tag(STATUS, 5), A, 1.0)
    ex.classify(answered(frame), B, 2.0)
    assert ex.current_addr(A) == A


def test_who_is_proven_by_a_join_is_not_asked_any_more():
    """What waits for the answer would wait in vain."""
    ex = exchange()
    ex.classify(ping(1), B, 0.0)
    first = ex.send(START, A, None, 0.0, 1.0)
    second = ex.send(STATUS, B, None, 0.0, 4.0)
    asked_a, asked_b = out(ex)
    ex.classify(answered(asked_a), A, 0.2)
    ex.classify(answered(asked_b), B, 0.2)
    for send in (first, second):
        said = [frame for frame in out(ex) if not is_ping(frame)]
        assert len(said) == 1
        ex.classify(set_ack(said[0]), ex.addresses()[0], 0.3)
        assert send.outcome == Outcome.CONFIRMED


def test_who_takes_an_address_takes_the_place_of_who_was_there():
    ex = exchange()
    ex.classify(tag(STATUS, 5), A, 0.0)
    ex.classify(tag(STATUS, 5, RUN + 7), B, 0.0)
    ex.classify(tag(STATUS, 6, RUN + 7), A, 1.0)
    assert ex.addresses() == [A]
    assert ex.current_addr(B) == A
    assert ex.classify(tag(STATUS, 6), B, 2.0) == Verdict.DELIVER  # the other has moved, too
    assert sorted(ex.addresses()) == [A, B]
    assert ex.classify(tag(STATUS, 5), B, 2.1) == Verdict.ECHO


def test_a_late_message_of_a_former_program_does_not_undo_a_move():
    ex = exchange()
    ex.classify(tag(STATUS, 5), A, 0.0)
    ex.classify(tag(STATUS, 1, RUN + 7), A, 1.0)
    ex.classify(tag(STATUS, 2, RUN + 7), B, 2.0)
    assert ex.classify(tag(STATUS, 4), A, 3.0) == Verdict.DELIVER
    assert ex.current_addr(A) == B


# --- what a peer is ---


def test_the_ping_of_one_without_tags_does_not_prove_that_it_has_some():
    ex = exchange()
    ex.classify(tag(STATUS, 1), B, 0.0)
    ex.classify(ping(1, RUN + 7), A, 20.0)
    assert kind(ex) == 'unknown'


def test_what_a_plain_peer_sends_back_to_the_program_before_this_one_proves_nothing():
    """Else it is sent messages again, and runs its callbacks as often."""
    ex = exchange()
    assert ex.classify(tag(START, 7), A, 0.0) == Verdict.DELIVER
    assert kind(ex) == 'unknown'
    ex.classify(tag(START, 8), A, 20.0)  # none is busy for so long
    assert kind(ex) == 'echorig'


def test_an_untagged_message_of_a_tagging_peer_does_not_make_it_plain():
    ex = exchange()
    meet_echorig(ex)
    ex.classify(STATUS, A, 1.0)
    assert kind(ex) == 'unknown'


def test_a_notice_that_quotes_a_tagged_message_is_a_notice():
    quoted = tag(START, 7).replace(b'"', b'\\"').replace(b'\t', b'\\t')
    assert exchange().classify(b'[0, "Error using jsondecode", "%s"]' % quoted, A, 0.0) == Verdict.ERROR_NOTICE


def test_who_was_silent_for_long_is_asked_what_it_is():
    ex = exchange()
    meet_echorig(ex)
    ex.send(START, A, None, 61.0, 1.0)
    (frame,) = out(ex)
    assert is_ping(frame)


def test_what_a_peer_is_is_known_before_the_next_message_leaves():
    ex = exchange()
    meet_legacy(ex)
    first = ex.send(START, A, None, 0.0, 1.0)
    second = ex.send(STATUS, A, None, 0.0, 1.0, True, 5 << 32 | 6)
    (frame,) = out(ex)
    ex.classify(set_ack(frame), A, 0.1)
    assert first.outcome == Outcome.CONFIRMED
    (frame,) = out(ex)
    assert frame == second.frame
    assert len(frame) == len(STATUS) + 64 + 128  # it names what it answers


def test_the_echo_of_one_message_does_not_say_that_the_next_was_read():
    """MATLAB takes our echo of an answer for a command, once it has sent another."""
    ex = exchange()
    meet_legacy(ex)
    ex.classify(b'[0, "Error", "[]"]', A, 0.0)  # so it is MATLAB
    ex.send(START, A, None, 0.0, 1.0)
    ex.send_unconfirmed(STATUS, A, 0.0)
    (first,) = out(ex)
    assert ex.classify(first, A, 0.1) == Verdict.CONFIRMED
    assert ex.classify(b'[2, "answer"]', A, 0.2) == Verdict.DELIVER
    assert ex.reply is None


# --- time ---


def test_nothing_leaves_whose_time_is_over():
    """This program stood still, and reads the answer to its ping first."""
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 0.1)
    (frame,) = out(ex)
    ex.classify(answered(frame), A, 0.5)
    assert not out(ex)
    ex.expire(0.5)
    assert send.outcome == Outcome.TIMED_OUT
    assert not out(ex)


def test_one_slow_round_trip_leaves_a_message_its_second_try():
    ex = exchange()
    ex.ping(A, None, 0.0, 5.0)
    (frame,) = out(ex)
    ex.classify(answered(frame), A, 1.0)
    ex.send(START, A, None, 1.0, 1.0)
    assert len(run_until(ex, 1.9)) > 1


def test_a_message_that_lay_too_long_may_come_again():
    ex = exchange()
    assert ex.classify(tag(START, 7, lifetime=100), A, 1.0, 0.2) == Verdict.EXPIRED
    assert ex.classify(tag(START, 7, lifetime=100), A, 1.0, 0.05) == Verdict.DELIVER


# --- numbers come to their end ---


def test_a_late_message_from_before_the_end_of_the_numbers_is_no_restart():
    ex = exchange()
    ex.classify(tag(STATUS, 1, RUN + 1), A, 0.0)
    assert ex.classify(tag(STATUS, 2**32 - 1, RUN), A, 1.0) == Verdict.DELIVER
    ex.classify(tag(STATUS, 2, RUN + 1), A, 2.0)
    assert count(ex, 'restarts') == 0


def test_a_large_message_is_sent_again_when_the_numbers_end_behind_it():
    ex = exchange(number=2**32 - 3)
    ex.classify(ping(1), A, 0.0)
    met(ex, 0.0, A)
    confirmed(ex, STATUS)
    send = ex.send(LONG, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    for _, question in run_until(ex, 0.4):
        assert is_ping(question)
        last = question
    assert run_of(last) == OWN + 1
    ex.classify(answered(last), A, 0.4)
    (again,) = out(ex)
    assert identity(again) == identity(frame) == identity(send.frame)


# --- signed ---


def signer() -> Signer:
    return Signer(b'the key of the laboratory')


def shaken(one: Signer, other: Signer, now: float) -> None:
    """Let two carry each other's handshakes, as A and B."""
    for _ in range(3):
        for here, there, addr in ((one, other, A), (other, one, B)):
            for frame, _ in emptied(here.outbox):
                there.open(frame, addr, now)


@pytest.mark.parametrize('wanted', [True, False], ids=['still wanted', 'not any more'])
def test_what_waits_for_a_session_is_wanted_no_longer_than_before(wanted):
    here, there = signer(), signer()
    assert here.seal(tag(START, 1, lifetime=500), B, 0.0) is None
    ((hello, _),) = emptied(here.outbox)
    there.open(hello, A, 0.3)
    ((welcome, _),) = emptied(there.outbox)
    here.open(welcome, B, 0.3 if wanted else 0.6)
    sent = emptied(here.outbox)
    if not wanted:
        assert sent == []
        return
    ((frame, _),) = sent
    assert there.open(frame, A, 0.3) == tag(START, 1, lifetime=200)


def test_one_slow_handshake_leaves_a_message_its_second_try():
    """Or nobody finds out in time that the other end was started again."""
    here, there = signer(), signer()
    here.seal(tag(START, 1), B, 0.0)
    ((hello, _),) = emptied(here.outbox)
    there.open(hello, A, 0.9)
    ((welcome, _),) = emptied(there.outbox)
    here.open(welcome, B, 0.9)
    emptied(here.outbox)
    assert here.seal(tag(STATUS, 2, lifetime=1000), B, 2.0) is not None
    emptied(here.outbox)
    here.seal(tag(STATUS, 2, lifetime=700), B, 2.3)
    assert len(emptied(here.outbox)) == 1  # a hello


def test_a_wrong_answer_to_a_bare_text_is_still_a_mismatch():
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 1.0, False)
    out(ex)
    assert ex.classify(b'[2, "another"]', A, 0.1) == Verdict.MISMATCH
    assert send.outcome == Outcome.MISMATCH


def test_an_echo_from_the_former_address_confirms_though_another_program_is_there():
    """A rig with two addresses echoes from the one it was asked at; a program without tags may be there by now."""
    ex = exchange()
    met(ex, 0.0, A)
    ex.classify(tag(START, 5), A, 0.1)
    send = ex.send(STATUS, A, None, 0.2, 4.0)
    (frame,) = out(ex)
    assert ex.classify(tag(START, 6), B, 0.3) == Verdict.DELIVER
    assert ex.classify(b'[4, null]', A, 0.4) == Verdict.DELIVER
    assert ex.classify(set_ack(frame), A, 0.5) == Verdict.CONFIRMED
    assert send.outcome == Outcome.CONFIRMED
