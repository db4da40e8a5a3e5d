"""Messages that nobody wants any more: not delivered, not confirmed; where that is not known, their sender is asked."""

from __future__ import annotations

import pytest

from echorig.delivery.verdicts import Outcome, Verdict
from echorig.wire._tags import add_tag as any_tag
from echorig.wire._tags import read_reply_number
from echorig.wire._tags import read_tag as read_all
from exchanges import (
    INIT,
    NOTICE_FRAME,
    OWN,
    START,
    STATUS,
    A,
    B,
    count,
    exchange,
    meet_echorig,
    meet_legacy,
    out,
    run_until,
)
from tagging import RUN, identity, is_ping, ping, read_tag, set_ack, strip_tag, tag, tag_answer


def question_of(ex):
    """Return the ping that asks about a message, and what it asks about."""
    (frame,) = out(ex)
    assert is_ping(frame)
    return frame, read_reply_number(frame)


def answer(question, wanted):
    """Return what the other program answers to the question: its run, and the number or 0."""
    number = read_reply_number(question) & 0xFFFFFFFF
    return set_ack(tag_answer(b'[]', read_tag(question), RUN << 32 | (number if wanted else 0), run=OWN))


def wanted(ex, now):
    """Return what is to be received again, of what was in doubt."""
    taken = []
    while (one := ex.next_verified(now)) is not None:
        taken.append(one)
    return taken


# --- the receiver knows how long it lay there ---


@pytest.mark.parametrize(
    ('waited', 'verdict'),
    [(0.0, Verdict.DELIVER), (1.2, Verdict.DELIVER), (1.201, Verdict.EXPIRED), (3600.0, Verdict.EXPIRED)],
)
def test_a_message_that_lay_here_for_longer_than_it_is_wanted(waited, verdict):
    ex = exchange()
    frame = tag(START, 7, lifetime=1200)
    assert ex.classify(frame, A, 10.0, waited) == verdict
    assert (ex.n_expired, count(ex, 'expired')) == ((1, 1) if verdict == Verdict.EXPIRED else (0, 0))
    assert out(ex) == []


def test_it_was_not_received():
    """A copy that is still wanted is new, and so is one that is late by the counting of the window."""
    ex = exchange()
    assert ex.classify(tag(START, 5000, lifetime=10), A, 0.0, 1.0) == Verdict.EXPIRED
    assert ex.classify(tag(START, 7, lifetime=10), A, 0.0, 0.001) == Verdict.DELIVER
    again = tag(START, 5000, lifetime=500)
    assert ex.classify(again, A, 0.0, 0.1) == Verdict.DELIVER
    assert ex.reply == set_ack(again)
    assert ex.classify(again, A, 0.0, 0.1) == Verdict.ECHO


def test_what_was_delivered_is_confirmed_again_however_late():
    ex = exchange()
    frame = tag(START, 7, lifetime=10)
    assert ex.classify(frame, A, 0.0) == Verdict.DELIVER
    assert ex.classify(frame, A, 9.0, 9.0) == Verdict.ECHO
    assert ex.n_expired == 0


def test_what_nobody_waits_for_has_no_limit():
    ex = exchange()
    for frame, verdict in (
        (tag(STATUS, 1), Verdict.DELIVER),
        (tag(NOTICE_FRAME, 2), Verdict.ERROR_NOTICE),
        (ping(3), Verdict.ECHO),
        (INIT, Verdict.DELIVER),
    ):
        assert ex.classify(frame, A, 1e6, 1e6) == verdict
        assert ex.classify(frame, B, 1e6, 1e6, False) != Verdict.MAYBE_EXPIRED
    assert ex.n_expired == 0


def test_an_echo_is_never_late():
    """We still wait for it: it says that the message was delivered."""
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 0.5)
    assert ex.classify(set_ack(send.frame), A, 0.4, 3600.0) == Verdict.CONFIRMED


def test_the_life_of_a_message_is_what_is_left_of_its_timeout():
    ex = exchange()
    meet_echorig(ex)
    lives = {}
    for timeout in (0.0001, 0.001, 1.0, 1.0005, 3600.0, 4_294_967.295, 4_294_968.0, 1e9, float('inf')):
        ex.send(START, A, None, 0.0, timeout)
        lives[timeout] = read_all(out(ex)[0])[3]
        ex.cancel(ex.newest_send(A), 0.0)
    assert list(lives.values()) == [1, 1, 1000, 1001, 3_600_000, 4_294_967_295, 0, 0, 0]
    ex.send(START, A, None, 0.0, 1.0)
    ex.send(INIT, A, None, 0.0, 1.0)  # it waits for its turn
    (frame,) = out(ex)
    ex.classify(set_ack(frame), A, 0.25)
    (frame,) = out(ex)
    assert read_all(frame)[3] == 750
    assert read_all(ex.send_unconfirmed(STATUS, A, 0.3))[3] == 0
    ex.ping(B, None, 0.3, 1.0)
    assert [read_all(frame)[3] for frame in out(ex)] == [0]


# --- it does not know, and asks ---


def test_a_message_in_doubt_is_asked_about():
    ex = exchange(stream=True)
    frame = tag(START, 7, lifetime=100)
    assert ex.classify(frame, A, 1.0, 0.5, False) == Verdict.MAYBE_EXPIRED
    question, about = question_of(ex)
    assert about == RUN << 32 | 7
    assert ex.classify(answer(question, True), A, 1.1) == Verdict.STRAY_ECHO
    assert wanted(ex, 1.1) == [(frame, A)]
    assert ex.classify(frame, A, 1.1, -1.0) == Verdict.DELIVER  # as the shell does with what was in doubt
    assert ex.reply == set_ack(frame)
    assert ex.n_expired == 0


@pytest.mark.parametrize('stream', [True, False])
def test_a_message_in_doubt_that_is_not_wanted(stream):
    ex = exchange(stream=stream)
    assert ex.classify(tag(START, 7, lifetime=100), A, 1.0, 0.5, False) == Verdict.MAYBE_EXPIRED
    question, _ = question_of(ex)
    assert ex.classify(answer(question, False), A, 1.1) == Verdict.STRAY_ECHO
    assert wanted(ex, 1.1) == []
    assert (ex.n_expired, count(ex, 'expired')) == (1, 1)
    assert ex.classify(answer(question, True), A, 1.2) == Verdict.STRAY_ECHO  # too late
    assert wanted(ex, 1.2) == []
    assert ex.classify(tag(STATUS, 8, lifetime=100), A, 1.2) == Verdict.DELIVER


def test_a_message_that_is_short_enough_in_our_hands_is_in_no_doubt():
    ex = exchange(stream=True)
    assert ex.classify(tag(START, 7, lifetime=500), A, 1.0, 0.5, False) == Verdict.DELIVER


def test_on_a_stream_what_follows_waits_and_keeps_its_place():
    ex = exchange(stream=True)
    frames = [
        tag(START, 1, lifetime=100),
        tag(STATUS, 2),
        tag(NOTICE_FRAME, 3),
        tag(INIT, 4, lifetime=100),
        tag(STATUS, 5),
    ]
    verdicts = [ex.classify(frame, A, 1.0, 0.5, False) for frame in frames]
    assert verdicts == [Verdict.MAYBE_EXPIRED] * 5
    first, second = out(ex)
    assert ex.classify(ping(6), A, 1.0, 0.5, False) == Verdict.ECHO  # a ping is answered at once
    assert ex.classify(tag(STATUS, 7), B, 1.0) == Verdict.DELIVER  # others do not wait
    assert ex.classify(answer(second, True), A, 1.1) == Verdict.STRAY_ECHO
    assert wanted(ex, 1.1) == []
    assert ex.classify(answer(first, False), A, 1.15) == Verdict.STRAY_ECHO
    again = []
    while (one := ex.next_verified(1.15)) is not None:
        again.append(ex.classify(*one, 1.15, -1.0))
    assert again == [Verdict.DELIVER, Verdict.ERROR_NOTICE, Verdict.DELIVER, Verdict.DELIVER]
    assert ex.classify(tag(STATUS, 8), A, 1.2) == Verdict.DELIVER  # nothing is before it any more


@pytest.mark.parametrize('stream', [True, False])
def test_an_answer_is_believed_for_a_tenth_of_a_second(stream):
    """A callback that blocks may come between, or another stop of this program."""
    ex = exchange(stream=stream)
    frame = tag(START, 7, lifetime=100)
    ex.classify(frame, A, 1.0, 0.5, False)
    for now in (1.1, 2.0):
        question, about = question_of(ex)
        assert about == RUN << 32 | 7
        assert ex.classify(answer(question, True), A, now) == Verdict.STRAY_ECHO
        assert wanted(ex, now + 0.11) == []
    question, _ = question_of(ex)
    assert ex.classify(answer(question, True), A, 2.2) == Verdict.STRAY_ECHO
    assert wanted(ex, 2.29) == [(frame, A)]


def test_an_answer_that_lay_here_itself_is_no_news():
    ex = exchange(stream=True)
    frame = tag(START, 7, lifetime=100)
    ex.classify(frame, A, 1.0, 0.5, False)
    question, _ = question_of(ex)
    assert ex.classify(answer(question, True), A, 5.0, 3.9) == Verdict.STRAY_ECHO
    assert wanted(ex, 5.0) == []
    question, _ = question_of(ex)
    assert ex.classify(answer(question, True), A, 5.1, 0.05) == Verdict.STRAY_ECHO
    assert wanted(ex, 5.1) == [(frame, A)]


def test_what_waits_behind_others_may_grow_old():
    ex = exchange(stream=True)
    frames = [tag(START, 1, lifetime=100), tag(INIT, 2, lifetime=700)]
    assert [ex.classify(frame, A, 1.0, 0.5, False) for frame in frames] == [Verdict.MAYBE_EXPIRED] * 2
    question, _ = question_of(ex)  # 200 ms are left to the second
    assert ex.classify(answer(question, True), A, 1.5) == Verdict.STRAY_ECHO
    assert wanted(ex, 1.5) == [(frames[0], A)]
    question, about = question_of(ex)
    assert about == RUN << 32 | 2
    assert ex.classify(answer(question, False), A, 1.6) == Verdict.STRAY_ECHO
    assert wanted(ex, 1.6) == []
    assert ex.n_expired == 1


def test_an_answer_that_is_waited_for_is_never_late():
    """It is we who know how long we wait for it; once nobody does, it is a message like any other."""
    ex = exchange()
    meet_echorig(ex)
    question = ex.send(START, A, None, 0.0, 1.0, expects_answer=True)
    for sure in (True, False):
        frame = any_tag(STATUS, RUN, 5 + sure, 100, question.identity)
        assert ex.classify(frame, A, 9.0, 5.0, sure) == Verdict.DELIVER
    other = any_tag(STATUS, RUN, 9, 100, 5 << 32 | 6)
    assert ex.classify(other, A, 9.0, 5.0) == Verdict.EXPIRED
    question.forget_answer()
    assert ex.classify(any_tag(STATUS, RUN, 10, 100, question.identity), A, 9.0, 5.0) == Verdict.EXPIRED


def test_an_answer_to_a_message_that_asks_for_none_may_be_late():
    ex = exchange()
    meet_echorig(ex)
    message = ex.send(START, A, None, 0.0, 1.0)
    assert ex.classify(any_tag(STATUS, RUN, 5, 100, message.identity), A, 9.0, 5.0) == Verdict.EXPIRED


def test_on_datagrams_nothing_waits_and_no_answer_is_no_harm():
    """If it is wanted, it comes again; the answer may have been lost."""
    ex = exchange()
    frame = tag(START, 7, lifetime=100)
    assert ex.classify(frame, A, 1.0, 0.5, False) == Verdict.MAYBE_EXPIRED
    question, _ = question_of(ex)
    assert ex.classify(tag(STATUS, 8), A, 1.0, 0.5, False) == Verdict.DELIVER
    assert run_until(ex, 2.5) == []
    assert ex.alarm == float('inf')
    assert ex.classify(answer(question, True), A, 2.6) == Verdict.STRAY_ECHO
    assert wanted(ex, 2.6) == []
    assert ex.classify(tag(START, 7, lifetime=50), A, 2.7) == Verdict.DELIVER


def test_a_datagram_in_doubt_that_is_wanted():
    ex = exchange()
    frame = tag(START, 7, lifetime=100)
    for _ in range(2):  # it is sent again meanwhile
        assert ex.classify(frame, A, 1.0, 0.5, False) == Verdict.MAYBE_EXPIRED
    questions = out(ex)
    assert ex.classify(answer(questions[1], True), A, 1.1) == Verdict.STRAY_ECHO
    assert ex.classify(answer(questions[0], True), A, 1.1) == Verdict.STRAY_ECHO
    released = wanted(ex, 1.1)
    assert released == [(frame, A)] * 2
    assert [ex.classify(*one, 1.1, -1.0) for one in released] == [Verdict.DELIVER, Verdict.ECHO]


def test_doubts_are_bounded_on_datagrams():
    ex = exchange()
    for i in range(3000):
        assert ex.classify(tag(START, i + 1, lifetime=100), A, 1.0, 0.5, False) == Verdict.MAYBE_EXPIRED
    assert len(out(ex)) == 1024


@pytest.mark.parametrize('stream', [False, True])
def test_doubts_are_bounded_in_bytes(stream):
    ex = exchange(stream=stream)
    frame = b'[2, "%s"]' % (b'x' * 2**20)
    for i in range(20):
        assert ex.classify(tag(frame, i + 1, lifetime=100), A, 1.0, 0.5, False) == Verdict.MAYBE_EXPIRED
    questions = [one for one in out(ex) if is_ping(one)]
    for question in questions:
        ex.classify(answer(question, True), A, 1.01)
    assert 10 < len(wanted(ex, 1.01)) < 17


def test_a_stream_does_not_wait_for_ever_for_an_answer():
    """Its sender answers no ping; what came behind the message is delivered all the same."""
    ex = exchange(stream=True)
    assert ex.classify(tag(START, 7, lifetime=100), A, 1.0, 0.5, False) == Verdict.MAYBE_EXPIRED
    assert ex.classify(tag(STATUS, 8), A, 1.0) == Verdict.MAYBE_EXPIRED
    out(ex)
    run_until(ex, 60.0)
    assert wanted(ex, 60.0) == []
    run_until(ex, 63.0)
    assert [strip_tag(frame) for frame, _ in wanted(ex, 63.0)] == [STATUS]
    assert ex.classify(tag(STATUS, 9), A, 63.0) == Verdict.DELIVER
    assert ex.n_expired == 1


def test_a_peer_in_doubt_is_not_forgotten():
    ex = exchange(max_peers=4)
    frame = tag(START, 7, lifetime=100)
    ex.classify(frame, A, 1.0, 0.5, False)
    question, _ = question_of(ex)
    for i in range(20):
        meet_echorig(ex, 1.1, addr=('10.0.9.9', i), run=100 + i)
    ex.classify(answer(question, True), A, 1.2)
    assert wanted(ex, 1.2) == [(frame, A)]


def test_what_is_no_answer_decides_nothing():
    ex = exchange(stream=True)
    ex.classify(tag(START, 7, lifetime=100), A, 1.0, 0.5, False)
    question, _ = question_of(ex)
    other = tag_answer(b'[]', read_tag(question) + 1, RUN << 32 | 7, run=OWN)
    for frame in (
        set_ack(other),
        answer(question, True)[:-2] + b' ]',
        question,
        tag_answer(b'[]', 9, RUN << 32 | 7),
    ):
        ex.classify(frame, A, 1.1)
        assert wanted(ex, 1.1) == []
        assert ex.n_expired == 0
    assert ex.classify(answer(question, True), A, 1.2) == Verdict.STRAY_ECHO
    assert len(wanted(ex, 1.2)) == 1


def test_the_answer_of_a_plain_peer_is_that_of_none():
    """It sends the question back as it is; nothing that it says has a life."""
    ex = exchange(stream=True)
    meet_legacy(ex)
    assert ex.classify(b'[1, "no tag"]', A, 1.0, 5.0, False) == Verdict.DELIVER


# --- being asked ---


def asked(ex, about, number=77):
    """Let the other program ask whether a message is wanted; return what it is told."""
    question = tag_answer(b'[]', number, about)
    assert ex.classify(question, A, 0.5) == Verdict.ECHO
    told = ex.reply
    assert is_ping(told)
    assert read_tag(told) == read_tag(set_ack(question))
    assert len(told) == len(question)
    return read_reply_number(told)


def test_who_is_asked_says_whether_it_still_waits():
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert asked(ex, identity(frame)) == OWN << 32 | send.number
    assert send.outcome == Outcome.WAITING
    ex.cancel(send, 0.1)
    assert asked(ex, identity(frame)) == OWN << 32
    send = ex.send(START, A, None, 0.2, 1.0)
    (frame,) = out(ex)
    ex.classify(set_ack(frame), A, 0.3)
    assert asked(ex, identity(frame)) == OWN << 32  # the answer is not needed any more
    assert out(ex) == []


def test_who_is_asked_about_messages_of_another_program_does_not_want_them():
    ex = exchange()
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    for about in (5 << 32 | send.number, OWN << 32 | (send.number + 1), OWN << 32, 0):
        assert asked(ex, about) == OWN << 32


def test_a_message_to_another_peer_is_not_wanted_from_this_one():
    ex = exchange()
    meet_echorig(ex)
    meet_echorig(ex, addr=B, run=5)
    send = ex.send(START, B, None, 0.0, 1.0)
    assert asked(ex, identity(send.frame)) == OWN << 32


def test_what_has_begun_before_the_numbers_came_to_their_end_is_still_wanted():
    ex = exchange(number=2**32 - 1)
    meet_echorig(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    assert ex.run == OWN + 1
    assert asked(ex, OWN << 32 | send.number) & 0xFFFFFFFF == send.number


def test_both_ends():
    """A rig that stood still for 3 s: of three messages the last is still wanted."""
    main, rig = exchange(stream=True), exchange(run=RUN, stream=True)
    meet_echorig(main, addr=A)
    meet_echorig(rig, addr=B, run=OWN)
    sends = [main.send(b'[2, %d]' % i, A, None, 0.0, timeout) for i, timeout in enumerate((1.0, 2.0, 10.0))]
    frames = out(main)
    main.expire(3.0)
    assert [rig.classify(frame, B, 3.0, 3.0, False) for frame in frames] == [Verdict.MAYBE_EXPIRED] * 3
    delivered = []
    for question in out(rig):
        assert main.classify(question, A, 3.0) == Verdict.ECHO
        assert rig.classify(main.reply, B, 3.0) == Verdict.STRAY_ECHO
    for frame, source in wanted(rig, 3.0):
        assert rig.classify(frame, source, 3.0, -1.0) == Verdict.DELIVER
        delivered.append(strip_tag(frame))
        assert main.classify(rig.reply, A, 3.0) == Verdict.CONFIRMED
    assert delivered == [b'[2, 2]']
    assert [send.outcome == Outcome.CONFIRMED for send in sends] == [False, False, True]
    assert rig.n_expired == 2
