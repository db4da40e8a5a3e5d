"""Programs are known by their runs: our own coming back, restarts, numbers that come to their end, new addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echorig.delivery.verdicts import Outcome, Verdict
from echorig.wire._tags import add_tag as any_tag
from echorig.wire._tags import make_ping
from echorig.wire._tags import read_tag as read_all
from exchanges import (
    INIT,
    NOTICE_FRAME,
    OWN,
    START,
    STATUS,
    A,
    B,
    C,
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
from tagging import RUN, identity, ping, read_tag, set_ack, tag, tag_answer

LAST = 2**32 - 1
HOUR = 3600.0


# --- our own messages, coming back ---


@pytest.mark.parametrize('to', [meet_echorig, meet_legacy])
def test_our_own_message_is_never_delivered_nor_echoed_however_late(to):
    ex = exchange(number=1)
    to(ex)
    mine = [ex.send_unconfirmed(b'[2, %d]' % i, A, 0.0) for i in range(2000)]
    assert [ex.classify(frame, A, HOUR) for frame in mine] == [Verdict.STRAY_ECHO] * 2000
    assert [ex.classify(frame, A, 48 * HOUR) for frame in mine] == [Verdict.STRAY_ECHO] * 2000
    assert [ex.classify(frame, B, HOUR) for frame in mine] == [Verdict.STRAY_ECHO] * 2000
    assert out(ex) == []
    assert ex.addresses() == [A]


def test_there_is_no_memory_in_it():
    """Another exchange of the same run, as one that was never told of the message: it is its own all the same."""
    mine = any_tag(START, OWN, 5)
    ex = exchange()
    assert ex.classify(mine, A, 0.0) == Verdict.STRAY_ECHO
    assert ex.classify(set_ack(mine), A, 0.0) == Verdict.STRAY_ECHO
    assert ex.n_peers == 0
    meet_legacy(ex)
    assert ex.classify(mine, A, 0.0) == Verdict.STRAY_ECHO
    assert exchange(run=OWN + 1).classify(mine, A, 0.0) == Verdict.DELIVER


def test_our_own_message_from_elsewhere_confirms_nothing():
    ex = exchange()
    meet_legacy(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    meet_legacy(ex, addr=B)
    assert ex.classify(frame, B, 0.1) == Verdict.STRAY_ECHO
    assert ex.classify(set_ack(frame), B, 0.1) == Verdict.STRAY_ECHO
    assert send.outcome == Outcome.WAITING
    assert ex.classify(frame, A, 0.1) == Verdict.CONFIRMED


def test_our_own_message_with_other_bytes_is_no_echo():
    """With a check that is right, so nobody but a peer can have made it; it goes on waiting for the true one."""
    ex = exchange()
    meet_legacy(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    assert ex.classify(any_tag(INIT, OWN, send.number), A, 0.1) == Verdict.STRAY_ECHO
    assert send.outcome == Outcome.WAITING
    assert ex.classify(send.frame, A, 0.2) == Verdict.CONFIRMED


def test_our_own_pings_and_notices_come_back_and_nothing_happens():
    ex = exchange()
    for frame in (ex.send_unconfirmed(NOTICE_FRAME, A, 0.0), make_ping(OWN, 77), make_ping(OWN, 77, 5 << 32 | 6)):
        assert ex.classify(frame, A, 0.1) == Verdict.STRAY_ECHO
    assert out(ex) == []


# --- restarts ---


@pytest.mark.parametrize('begins', [START, NOTICE_FRAME, b'[]'])
def test_another_run_at_an_address_is_a_restart_and_nothing_else_is(begins):
    ex = exchange()
    for number in (2**32 - 3, 2**32 - 1, 2, 1, 400_000, 2**31):  # whatever its numbers are
        ex.classify(tag(START, number), A, 0.0)
        assert count(ex, 'restarts') == 0
    for i in range(1, 4):
        for number in (7, 7, 8, 2**31):
            ex.classify(tag(begins, number, run=RUN + 100 * i), A, float(i))
            assert count(ex, 'restarts') == i
    ex.classify(tag(START, 7), B, 4.0)
    assert ex.addresses() == [A, B]  # the first program has moved to where no other is
    assert (count(ex, 'restarts', A), count(ex, 'restarts', B)) == (3, 0)


def test_a_restarted_program_may_use_the_same_numbers():
    ex = exchange()
    assert [ex.classify(tag(START, 7, run=run), A, 0.0) for run in (1, 5, 1, 5, 900)] == [
        *(Verdict.DELIVER, Verdict.DELIVER, Verdict.ECHO, Verdict.ECHO, Verdict.DELIVER)
    ]


def test_what_a_former_program_said_comes_late():
    """It is neither a restart nor a duplicate of another; and it does not say where its program is now."""
    ex = exchange()
    meet_echorig(ex, run=5)
    assert ex.classify(tag(START, 8, run=5), A, 0.0) == Verdict.DELIVER
    meet_echorig(ex, run=90)
    assert count(ex, 'restarts') == 1
    for _ in range(3):
        assert ex.classify(tag(INIT, 9, run=5), A, 1.0) in (Verdict.DELIVER, Verdict.ECHO)
        assert ex.classify(tag(START, 8, run=5), A, 1.0) == Verdict.ECHO
        assert ex.classify(tag(INIT, 9, run=90), A, 1.0) in (Verdict.DELIVER, Verdict.ECHO)
    assert (count(ex, 'restarts'), count(ex, 'duplicates')) == (1, 7)
    assert ex.addresses() == [A]


def test_the_echo_of_a_ping_tells_of_a_restart():
    """A program that only watches learns of it: an echorig puts its run into the echo."""
    ex = exchange()
    for i, run in enumerate((5, 5, 90, 90, 900)):
        ex.ping(A, None, float(i), 1.0)
        (frame,) = out(ex)
        other = exchange(run=run)
        assert other.classify(frame, B, 0.0) == Verdict.ECHO
        assert ex.classify(other.reply, A, float(i)) == Verdict.CONFIRMED
        assert count(ex, 'restarts') == (0, 0, 1, 1, 2)[i]
    assert ex.classify(tag(START, 1, run=900), A, 9.0) == Verdict.DELIVER
    assert ex.classify(tag(START, 1, run=90), A, 9.0) == Verdict.DELIVER  # late
    assert count(ex, 'restarts') == 2


def test_a_late_echo_of_the_program_before_is_no_restart():
    ex = exchange()
    echoes = []
    for run in (5, 90):
        ex.ping(A, None, 0.0, 1.0)
        (frame,) = out(ex)
        other = exchange(run=run)
        other.classify(frame, B, 0.0)
        echoes.append(other.reply)
        ex.classify(other.reply, A, 0.0)
    assert count(ex, 'restarts') == 1
    for _ in range(2):
        for echo in echoes:
            assert ex.classify(echo, A, 1.0) == Verdict.STRAY_ECHO
    assert count(ex, 'restarts') == 1


def test_a_restart_is_known_of_a_peer_that_was_forgotten():
    """Its place in the table was needed for others, but what it is was not forgotten with it."""
    ex = exchange(max_peers=4)
    meet_echorig(ex, run=5)
    for i in range(8):
        meet_echorig(ex, 1.0 + i, addr=('10.0.9.9', i), run=100 + i)
    assert A not in ex.addresses()
    for i, run in enumerate((5, 90)):
        ex.ping(A, None, 20.0, 1.0)
        (frame,) = out(ex)
        other = exchange(run=run)
        other.classify(frame, B, 20.0)
        ex.classify(other.reply, A, 20.0)
        assert count(ex, 'restarts') == i


def test_a_new_connection_from_the_same_address_tells_of_a_restart():
    ex = exchange(stream=True)
    for i, run in enumerate((5, 5, 90)):
        meet_echorig(ex, run=run)
        assert count(ex, 'restarts') == (0, 0, 1)[i]
        ex.disconnect(A, 0.0)
        assert ex.statistics(A) is None


# --- numbers come to their end ---


def test_our_numbers_come_to_their_end_and_begin_again():
    ex = exchange(number=LAST - 1)
    meet_echorig(ex)
    said = [read_all(confirmed(ex, START))[1:3] for _ in range(4)]
    assert said == [(OWN, LAST - 1), (OWN, LAST), (OWN + 1, 1), (OWN + 1, 2)]
    assert ex.run == OWN + 1


def test_the_last_run_is_followed_by_the_first():
    ex = exchange(number=LAST, run=2**31 - 1)
    meet_echorig(ex)
    assert [read_all(confirmed(ex, START))[1:3] for _ in range(2)] == [(2**31 - 1, LAST), (0, 1)]


def test_what_we_said_before_is_still_our_own():
    ex = exchange(number=LAST)
    meet_echorig(ex)
    before, after = ex.send(START, A, None, 0.0, 1.0), ex.send_unconfirmed(STATUS, A, 0.0)
    out(ex)
    assert read_all(after)[1] == OWN + 1
    assert ex.classify(set_ack(before.frame), A, 0.1) == Verdict.CONFIRMED
    for frame in (before.frame, after):
        assert ex.classify(frame, A, HOUR) == Verdict.STRAY_ECHO
        assert ex.classify(frame, B, HOUR) == Verdict.STRAY_ECHO


def test_a_repetition_keeps_its_run_and_number():
    ex = exchange(number=LAST)
    meet_echorig(ex)
    ex.send(START, A, None, 0.0, 1.0)
    said = [read_all(frame)[1:3] for _, frame in run_until(ex, 0.1)]
    assert set(said) == {(OWN, LAST)}
    assert len(said) > 2


def test_a_large_message_is_repeated_beyond_the_end_of_the_numbers():
    """Of such the peer is asked first, with a ping of a later number: the second of these has 1."""
    ex = exchange(number=LAST - 2)
    meet_echorig(ex)
    ex.send(START, A, None, 0.0, 1.0)
    assert ex.classify(set_ack(*out(ex)), A, 0.004) == Verdict.CONFIRMED  # how long it takes is known
    large = b'[64, "' + b'x' * 1000 + b'"]'
    send = ex.send(large, A, None, 1.0, 1.0)
    assert [read_all(frame)[1:3] for frame in out(ex)] == [(OWN, LAST - 1)]
    ex.expire(1.1)
    ex.expire(1.2)
    lost, asking = out(ex)
    assert [read_all(frame)[1:3] for frame in (lost, asking)] == [(OWN, LAST), (OWN + 1, 1)]
    assert ex.classify(set_ack(asking), A, 1.21) == Verdict.STRAY_ECHO
    assert [read_all(frame)[1:3] for frame in out(ex)] == [(OWN, LAST - 1)]
    assert ex.classify(set_ack(send.frame), A, 1.2) == Verdict.CONFIRMED


def test_the_next_run_of_a_program_is_no_restart():
    ex = exchange()
    for run, number in ((5, LAST - 1), (5, LAST), (6, 1), (6, 2), (5, LAST - 2)):
        assert ex.classify(tag(START, number, run=run), A, 0.0) == Verdict.DELIVER
        assert ex.classify(tag(START, number, run=run), A, 0.0) == Verdict.ECHO
    assert count(ex, 'restarts') == 0
    for run in (2**31 - 1, 0):
        meet_echorig(ex, addr=B, run=run)
    assert count(ex, 'restarts', B) == 0
    meet_echorig(ex, addr=B, run=2)  # not the next
    assert count(ex, 'restarts', B) == 1
    assert (
        ex.classify(tag(START, LAST, run=1), B, 0.0) == Verdict.DELIVER
    )  # a late one of before its numbers came to their end
    assert count(ex, 'restarts', B) == 1


def test_both_ends_beyond_the_end_of_their_numbers():
    one, other = exchange(number=LAST - 3), exchange(run=5, number=LAST - 5)
    meet_echorig(one, run=5)
    meet_echorig(other, addr=B, run=one.run)
    heard = []
    for i in range(20):
        message = b'[2, %d]' % i
        send = one.send(message, A, None, float(i), 1.0)
        (frame,) = out(one)
        assert other.classify(frame, B, float(i)) == Verdict.DELIVER
        heard.append(message)
        answer = other.send(message, B, None, float(i), 1.0, True, identity(frame))
        assert one.classify(other.reply, A, float(i)) == Verdict.CONFIRMED
        (frame,) = out(other)
        assert one.classify(frame, A, float(i)) == Verdict.DELIVER
        assert other.classify(one.reply, B, float(i)) == Verdict.CONFIRMED
        assert send.outcome == answer.outcome == Outcome.CONFIRMED
    assert len(heard) == 20
    assert (one.run, other.run) == (OWN + 1, 6)
    assert count(one, 'restarts', A) == count(other, 'restarts', B) == 0


# --- addresses change ---


def test_a_program_whose_address_changes_is_the_same_peer():
    ex = exchange()
    meet_echorig(ex)
    first, second = tag(START, 7), tag(INIT, 8)
    assert ex.classify(first, A, 0.0) == Verdict.DELIVER
    assert ex.classify(second, B, 1.0) == Verdict.DELIVER
    assert ex.addresses() == [B]
    assert ex.classify(first, B, 1.0) == Verdict.ECHO
    assert ex.classify(first, A, 1.0) == Verdict.ECHO  # a copy of an older one does not move it back
    assert ex.addresses() == [B]
    assert (count(ex, 'duplicates', B), count(ex, 'restarts', B)) == (2, 0)
    assert ex.statistics(A) == ex.statistics(B)


def test_what_is_sent_to_the_former_address_goes_to_the_new_one():
    ex = exchange()
    meet_echorig(ex)
    assert ex.current_addr(A) == A
    assert ex.current_addr(B) == B
    ex.classify(tag(INIT, 8), B, 1.0)
    assert ex.current_addr(A) == ex.current_addr(B) == B
    send = ex.send(START, A, None, 1.0, 1.0)
    ((frame, to),) = emptied(ex.outbox)
    assert to == send.addr == B
    assert ex.classify(set_ack(frame), B, 1.0) == Verdict.CONFIRMED
    ex.ping(A, None, 2.0, 1.0)
    assert [to for _, to in emptied(ex.outbox)] == [B]
    assert ex.newest_send(A) is None
    assert ex.is_waiting(A)
    ex.classify(tag(INIT, 9), C, 3.0)
    assert ex.current_addr(A) == ex.current_addr(B) == C
    assert ex.addresses() == [C]


def test_what_is_on_its_way_goes_on_to_the_new_address():
    ex = exchange()
    meet_echorig(ex)
    sends = [ex.send(frame, A, None, 0.0, 5.0) for frame in (START, INIT)]
    assert [to for _, to in emptied(ex.outbox)] == [A]
    ex.classify(tag(STATUS, 8), B, 0.01)
    ex.expire(0.03)
    assert [to for _, to in emptied(ex.outbox)] == [B]
    assert ex.classify(set_ack(sends[0].frame), B, 0.04) == Verdict.CONFIRMED
    ((frame, to),) = emptied(ex.outbox)
    assert to == B
    assert ex.classify(set_ack(frame), A, 0.05) == Verdict.CONFIRMED  # an echo may have left before
    assert [send.outcome for send in sends] == [Outcome.CONFIRMED] * 2
    ex.ping(B, None, 0.1, 1.0)
    (asking,) = out(ex)
    assert ex.classify(set_ack(asking), B, 0.1) == Verdict.CONFIRMED


def test_who_speaks_from_the_address_of_another_has_taken_its_place():
    """Two programs cannot be at one address: the other is gone, as it is after a restart."""
    ex = exchange()
    meet_echorig(ex, addr=A, run=5)
    meet_echorig(ex, addr=B, run=90)
    confirmed(ex, START, A)
    confirmed(ex, START, B)
    assert ex.classify(tag(STATUS, 8, run=5), B, 1.0) == Verdict.DELIVER
    assert ex.addresses() == [B]
    assert ex.current_addr(A) == B
    assert (count(ex, 'confirmed', B), count(ex, 'restarts', B)) == (2, 1)
    assert ex.classify(tag(STATUS, 9, run=5), B, 1.1) == Verdict.DELIVER
    assert count(ex, 'restarts', B) == 1


def test_two_programs_that_change_their_addresses_with_each_other():
    ex = exchange()
    meet_echorig(ex, addr=A, run=5)
    meet_echorig(ex, addr=B, run=90)
    said = {run: tag(STATUS, 7, run=run) for run in (5, 90)}
    for run, addr in ((5, A), (90, B)):
        assert ex.classify(said[run], addr, 0.0) == Verdict.DELIVER
    assert ex.classify(tag(STATUS, 8, run=5), B, 1.0) == Verdict.DELIVER
    assert ex.classify(tag(STATUS, 8, run=90), A, 1.0) == Verdict.DELIVER
    assert sorted(ex.addresses()) == [A, B]
    for addr in (A, B):
        assert ex.current_addr(addr) == addr
        ex.ping(addr, None, 2.0, 1.0)
    assert [to for _, to in emptied(ex.outbox)] == [A, B]
    for run, addr in ((5, B), (90, A), (5, A), (90, B)):
        assert ex.classify(said[run], addr, 3.0) == Verdict.ECHO
    assert count(ex, 'restarts', A) == 0


def test_what_is_on_its_way_to_who_was_replaced_goes_on():
    """It is the same as after a restart: who is there now has never got it."""
    ex = exchange()
    meet_echorig(ex, addr=A, run=5)
    meet_echorig(ex, addr=B, run=90)
    one, other = ex.send(START, A, None, 0.0, 5.0), ex.send(INIT, B, None, 0.0, 5.0)
    waiting = ex.send(STATUS, B, None, 0.0, 5.0)
    out(ex)
    ex.classify(tag(STATUS, 8, run=5), B, 0.01)
    ex.expire(0.03)
    assert sorted(emptied(ex.outbox)) == sorted([(one.frame, B), (other.frame, B)])
    assert ex.classify(set_ack(one.frame), B, 0.04) == Verdict.CONFIRMED
    assert out(ex) == []  # one at a time, as soon as there is but one
    assert ex.classify(set_ack(other.frame), B, 0.04) == Verdict.CONFIRMED
    assert emptied(ex.outbox) == [(waiting.frame, B)]


def test_a_stranger_where_a_program_was_is_another_peer():
    ex = exchange()
    meet_echorig(ex, addr=A, run=5)
    ex.classify(tag(STATUS, 8, run=5), B, 1.0)
    assert ex.current_addr(A) == B
    meet_echorig(ex, addr=A, run=90)
    assert ex.current_addr(A) == A
    assert sorted(ex.addresses()) == [A, B]
    assert count(ex, 'restarts', A) == count(ex, 'restarts', B) == 0
    ex.send(START, A, None, 2.0, 1.0)
    assert [to for _, to in emptied(ex.outbox)] == [A]


def test_a_plain_peer_has_no_run_and_stays_where_it_is():
    ex = exchange()
    meet_legacy(ex, addr=A)
    meet_echorig(ex, addr=B, run=5)
    ex.classify(tag(STATUS, 8, run=5), C, 1.0)
    assert sorted(ex.addresses()) == [A, C]
    assert kind(ex, A) == 'legacy'


def test_former_addresses_are_bounded():
    ex = exchange(max_peers=8)
    meet_echorig(ex)
    for i in range(100):
        assert ex.classify(tag(STATUS, 2 + i), ('10.0.7.7', i), 1.0 + i) == Verdict.DELIVER
    assert ex.n_peers == 1
    last = ('10.0.7.7', 99)
    known = [i for i in range(99) if ex.current_addr(('10.0.7.7', i)) == last]
    assert known == list(range(91, 99))


def test_a_moved_peer_that_is_forgotten_is_looked_for_nowhere():
    ex = exchange(max_peers=4)
    meet_echorig(ex, addr=A, run=5)
    ex.classify(tag(STATUS, 2, run=5), B, 1.0)
    for i in range(8):
        meet_echorig(ex, 2.0 + i, addr=('10.0.9.9', i), run=100 + i)
    assert B not in ex.addresses()
    assert ex.current_addr(A) == A
    assert ex.statistics(A) is None
    send = ex.send(START, A, None, 20.0, 1.0)
    assert send.addr == A


def test_a_moved_peer_that_is_lost_is_looked_for_nowhere():
    ex = exchange()
    meet_echorig(ex)
    ex.classify(tag(INIT, 8), B, 1.0)
    ex.disconnect(B, 2.0)
    assert ex.current_addr(A) == A
    send = ex.send(START, A, None, 2.0, 1.0)
    assert (send.addr, ex.addresses()) == (A, [A])
    run_until(ex, 3.0)
    assert send.outcome == Outcome.TIMED_OUT


def test_a_stream_is_where_it_is_connected():
    """The same program may have several connections."""
    ex = exchange(stream=True)
    for i, addr in enumerate((A, B, A, B)):
        assert ex.classify(tag(STATUS, 2 + i), addr, float(i)) == Verdict.DELIVER
    assert sorted(ex.addresses()) == [A, B]
    assert ex.current_addr(A) == A
    assert count(ex, 'restarts', A) == count(ex, 'restarts', B) == 0


@given(st.lists(st.tuples(st.sampled_from([5, 90, 900]), st.sampled_from([A, B, C]), st.booleans()), max_size=40))
def test_programs_wander_and_every_message_is_delivered_once(said):
    """Each peer is where its newest message came from, or was pushed from there by another program's."""
    ex = exchange()
    numbers = dict.fromkeys((5, 90, 900), 0)
    for i, (run, addr, copy) in enumerate(said):
        if copy and numbers[run]:
            assert ex.classify(tag(STATUS, numbers[run], run=run), addr, float(i)) == Verdict.ECHO
            continue
        numbers[run] += 1
        assert ex.classify(tag(STATUS, numbers[run], run=run), addr, float(i)) == Verdict.DELIVER
        assert addr in ex.addresses()
        assert ex.current_addr(addr) == addr
        assert len(set(ex.addresses())) == ex.n_peers <= 3
    assert ex.classify(tag(NOTICE_FRAME, 1, run=7), A, 99.0) == Verdict.ERROR_NOTICE
    assert ex.classify(tag(NOTICE_FRAME, 1, run=7), B, 99.0) == Verdict.IGNORED


def test_a_send_that_failed_at_the_former_address():
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    ex.classify(tag(STATUS, 8), B, 0.5)
    run_until(ex, 1.0)
    assert send.outcome == Outcome.TIMED_OUT
    assert count(ex, 'failed', B) == 1
    ex.cancel(send, 1.0)


def test_a_peer_is_lost_by_its_former_address_too():
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    ex.classify(tag(STATUS, 8), B, 0.5)
    ex.disconnect(A, 0.6)
    assert send.outcome == Outcome.LOST
    assert ex.addresses() == []
    assert ex.n_waiting == 0


def test_a_program_beside_one_that_was_forgotten():
    """Runs 7 and 8 could be one program, whose numbers came to their end; what is known of it must not get mixed up."""
    ex = exchange(max_peers=3)
    ex.classify(tag(STATUS, 5, run=7), A, 0.0)
    ex.classify(tag(STATUS, 1, run=8), B, 0.1)
    ex.classify(tag(STATUS, 6, run=7), B, 0.2)
    for i in range(3):
        ex.classify(tag(STATUS, 1, run=200 + 10 * i), ('10.0.1.1', i), 1.0 + i)
    assert ex.classify(tag(STATUS, 2, run=8), C, 9.0) == Verdict.DELIVER
    assert C in ex.addresses()


def test_a_program_does_not_move_another_that_took_its_place():
    ex = exchange()
    ex.classify(tag(STATUS, 5, run=7), A, 0.0)
    ex.classify(tag(STATUS, 1, run=8), B, 0.1)
    ex.classify(tag(STATUS, 6, run=7), B, 0.2)
    ex.classify(tag(STATUS, 1, run=100), B, 0.3)
    assert ex.classify(tag(STATUS, 2, run=8), C, 0.4) == Verdict.DELIVER
    assert sorted(ex.addresses()) == [B, C]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(['receive', 'copy', 'send', 'lost', 'cancel', 'later']),
            st.sampled_from([7, 8, 9, 200]),
            st.sampled_from([A, B, C]),
        ),
        max_size=60,
    )
)
def test_neighbouring_runs_never_break_anything(steps):
    ex = exchange(max_peers=3)
    numbers, now, sends, delivered = dict.fromkeys((7, 8, 9, 200), 0), 0.0, [], set()
    for what, run, addr in steps:
        now += 0.01
        if what == 'receive':
            numbers[run] += 1
        if what in ('receive', 'copy'):
            if ex.classify(tag(STATUS, numbers[run], run=run), addr, now) == Verdict.DELIVER:
                assert (run, numbers[run]) not in delivered
                delivered.add((run, numbers[run]))
        elif what == 'send':
            sends.append(ex.send(START, addr, None, now, 0.5))
        elif what == 'lost':
            ex.disconnect(addr, now)
        elif what == 'cancel' and sends:
            ex.cancel(sends.pop(), now)
        elif what == 'later':
            now += 0.3
            ex.expire(now)
    run_until(ex, now + 1.0)
    assert ex.n_waiting == 0
    assert all(send.outcome != Outcome.WAITING for send in sends)


def test_the_echo_of_a_message_without_a_tag_from_a_former_address():
    """A program with two addresses has moved; then something without a tag came from its former one."""
    ex = exchange()
    meet_echorig(ex)
    ex.send(b'[4, "raw"]', A, None, 0.0, 1.0, taggable=False)
    ex.classify(tag(STATUS, 8), B, 0.1)
    assert ex.current_addr(A) == B
    assert ex.classify(b'[1, "another"]', A, 0.2) == Verdict.DELIVER
    assert ex.classify(b'[4, "raw"]', A, 0.3) == Verdict.CONFIRMED


def test_a_late_echo_of_a_ping_does_not_say_where_a_program_is_now():
    """It was restarted, answered a ping, and moved; where it is now an answer to a newer ping has said."""
    ex = exchange()
    meet_echorig(ex)
    ex.classify(tag(STATUS, 8), A, 0.1)
    ex.ping(A, None, 1.0, 5.0)
    ex.ping(B, None, 1.1, 5.0)
    early, late = out(ex)
    new = 77
    assert ex.classify(set_ack(tag_answer(b'[]', read_tag(late), new << 32, OWN)), B, 1.2) == Verdict.CONFIRMED
    assert ex.classify(set_ack(tag_answer(b'[]', read_tag(early), new << 32, OWN)), A, 1.3) == Verdict.CONFIRMED
    assert ex.current_addr(B) == B
    assert sorted(ex.addresses()) == [A, B]
    assert count(ex, 'restarts', B) == 0


def test_the_echo_of_a_ping_counts_after_its_peer_was_joined_with_another():
    ex = exchange()
    ping_send = ex.ping(B, None, 0.0, 4.0)
    (asked,) = out(ex)
    ex.classify(ping(1), A, 0.1)  # it was there before,
    ex.classify(ping(2), B, 0.2)  # and is here now
    assert ex.addresses() == [B]
    assert ex.classify(set_ack(asked), B, 0.3) == Verdict.CONFIRMED
    assert ping_send.outcome == Outcome.CONFIRMED
    assert kind(ex, B) == 'echorig'


def test_a_late_echo_of_a_ping_does_not_bring_a_former_program_back():
    ex = exchange()
    ex.ping(A, None, 0.0, 9.0)
    ex.ping(A, None, 0.0, 9.0)
    first, *_ = out(ex)
    run_until(ex, 0.05)
    new = 77
    late = set_ack(tag_answer(b'[]', read_tag(first), RUN << 32, OWN))
    ex.ping(A, None, 0.1, 9.0)
    *_, newest = [frame for _, frame in run_until(ex, 0.3)]
    ex.classify(set_ack(tag_answer(b'[]', read_tag(newest), new << 32, OWN)), A, 0.4)
    assert ex.classify(late, A, 0.5) in (Verdict.CONFIRMED, Verdict.STRAY_ECHO)
    assert count(ex, 'restarts') == 0
    assert ex.classify(any_tag(STATUS, new, 1), B, 0.6) == Verdict.DELIVER  # it has moved, and is one peer
    assert ex.addresses() == [B]
