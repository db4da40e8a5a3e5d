"""Messages that nobody wants any more: not delivered, not confirmed; where that is not known, their sender is asked."""

from __future__ import annotations

import pytest

from echorig.delivery._exchange import CONFIRMED, DELIVER, DOUBTED, ECHO, EXPIRED, NOTICE, SWALLOWED, WAITING
from echorig.wire._tags import read_answered
from echorig.wire._tags import read_tag as read_all
from echorig.wire._tags import tag as any_tag
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
    out,
    plain,
    run_until,
    tagging,
)
from tagging import RUN, acknowledged, identity, is_ping, ping, read_tag, tag, tag_answer, untagged


def question_of(ex):
    """Return the ping that asks about a message, and what it asks about."""
    (frame,) = out(ex)
    assert is_ping(frame)
    return frame, read_answered(frame)


def answer(question, wanted):
    """Return what the other program answers to the question: its run, and the number or 0."""
    number = read_answered(question) & 0xFFFFFFFF
    return acknowledged(tag_answer(b'[]', read_tag(question), RUN << 32 | (number if wanted else 0), run=OWN))


def wanted(ex, now):
    """Return what is to be received again, of what was in doubt."""
    taken = []
    while (one := ex.next_wanted(now)) is not None:
        taken.append(one)
    return taken


# --- the receiver knows how long it lay there ---


@pytest.mark.parametrize(('waited', 'verdict'), [(0.0, DELIVER), (1.2, DELIVER), (1.201, EXPIRED), (3600.0, EXPIRED)])
def test_a_message_that_lay_here_for_longer_than_it_is_wanted(waited, verdict):
    ex = exchange()
    frame = tag(START, 7, life=1200)
    assert ex.receive(frame, A, 10.0, waited) == verdict
    assert (ex.n_expired, count(ex, 'expired')) == ((1, 1) if verdict == EXPIRED else (0, 0))
    assert out(ex) == []


def test_it_was_not_received():
    """A copy that is still wanted is new, and so is one that is late by the counting of the window."""
    ex = exchange()
    assert ex.receive(tag(START, 5000, life=10), A, 0.0, 1.0) == EXPIRED
    assert ex.receive(tag(START, 7, life=10), A, 0.0, 0.001) == DELIVER
    again = tag(START, 5000, life=500)
    assert ex.receive(again, A, 0.0, 0.1) == DELIVER
    assert ex.reply == acknowledged(again)
    assert ex.receive(again, A, 0.0, 0.1) == ECHO


def test_what_was_delivered_is_confirmed_again_however_late():
    ex = exchange()
    frame = tag(START, 7, life=10)
    assert ex.receive(frame, A, 0.0) == DELIVER
    assert ex.receive(frame, A, 9.0, 9.0) == ECHO
    assert ex.n_expired == 0


def test_what_nobody_waits_for_has_no_limit():
    ex = exchange()
    for frame, verdict in ((tag(STATUS, 1), DELIVER), (tag(NOTICE_FRAME, 2), NOTICE), (ping(3), ECHO), (INIT, DELIVER)):
        assert ex.receive(frame, A, 1e6, 1e6) == verdict
        assert ex.receive(frame, B, 1e6, 1e6, False) != DOUBTED
    assert ex.n_expired == 0


def test_an_echo_is_never_late():
    """We still wait for it: it says that the message was delivered."""
    ex = exchange()
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 0.5)
    assert ex.receive(acknowledged(send.frame), A, 0.4, 3600.0) == CONFIRMED


def test_the_life_of_a_message_is_what_is_left_of_its_timeout():
    ex = exchange()
    tagging(ex)
    lives = {}
    for timeout in (0.0001, 0.001, 1.0, 1.0005, 3600.0, 4_294_967.295, 4_294_968.0, 1e9, float('inf')):
        ex.send(START, A, None, 0.0, timeout)
        lives[timeout] = read_all(out(ex)[0])[3]
        ex.cancel(ex.newest(A), 0.0)
    assert list(lives.values()) == [1, 1, 1000, 1001, 3_600_000, 4_294_967_295, 0, 0, 0]
    ex.send(START, A, None, 0.0, 1.0)
    ex.send(INIT, A, None, 0.0, 1.0)  # it waits for its turn
    (frame,) = out(ex)
    ex.receive(acknowledged(frame), A, 0.25)
    (frame,) = out(ex)
    assert read_all(frame)[3] == 750
    assert read_all(ex.sent(STATUS, A, 0.3))[3] == 0
    ex.ping(B, None, 0.3, 1.0)
    assert [read_all(frame)[3] for frame in out(ex)] == [0]


# --- it does not know, and asks ---


def test_a_message_in_doubt_is_asked_about():
    ex = exchange(stream=True)
    frame = tag(START, 7, life=100)
    assert ex.receive(frame, A, 1.0, 0.5, False) == DOUBTED
    question, about = question_of(ex)
    assert about == RUN << 32 | 7
    assert ex.receive(answer(question, True), A, 1.1) == SWALLOWED
    assert wanted(ex, 1.1) == [(frame, A)]
    assert ex.receive(frame, A, 1.1, -1.0) == DELIVER  # as the shell does with what was in doubt
    assert ex.reply == acknowledged(frame)
    assert ex.n_expired == 0


@pytest.mark.parametrize('stream', [True, False])
def test_a_message_in_doubt_that_is_not_wanted(stream):
    ex = exchange(stream=stream)
    assert ex.receive(tag(START, 7, life=100), A, 1.0, 0.5, False) == DOUBTED
    question, _ = question_of(ex)
    assert ex.receive(answer(question, False), A, 1.1) == SWALLOWED
    assert wanted(ex, 1.1) == []
    assert (ex.n_expired, count(ex, 'expired')) == (1, 1)
    assert ex.receive(answer(question, True), A, 1.2) == SWALLOWED  # too late
    assert wanted(ex, 1.2) == []
    assert ex.receive(tag(STATUS, 8, life=100), A, 1.2) == DELIVER


def test_a_message_that_is_short_enough_in_our_hands_is_in_no_doubt():
    ex = exchange(stream=True)
    assert ex.receive(tag(START, 7, life=500), A, 1.0, 0.5, False) == DELIVER


def test_on_a_stream_what_follows_waits_and_keeps_its_place():
    ex = exchange(stream=True)
    frames = [tag(START, 1, life=100), tag(STATUS, 2), tag(NOTICE_FRAME, 3), tag(INIT, 4, life=100), tag(STATUS, 5)]
    verdicts = [ex.receive(frame, A, 1.0, 0.5, False) for frame in frames]
    assert verdicts == [DOUBTED] * 5
    first, second = out(ex)
    assert ex.receive(ping(6), A, 1.0, 0.5, False) == ECHO  # a ping is answered at once
    assert ex.receive(tag(STATUS, 7), B, 1.0) == DELIVER  # others do not wait
    assert ex.receive(answer(second, True), A, 1.1) == SWALLOWED
    assert wanted(ex, 1.1) == []
    assert ex.receive(answer(first, False), A, 1.15) == SWALLOWED
    again = []
    while (one := ex.next_wanted(1.15)) is not None:
        again.append(ex.receive(*one, 1.15, -1.0))
    assert again == [DELIVER, NOTICE, DELIVER, DELIVER]
    assert ex.receive(tag(STATUS, 8), A, 1.2) == DELIVER  # nothing is before it any more


@pytest.mark.parametrize('stream', [True, False])
def test_an_answer_is_believed_for_a_tenth_of_a_second(stream):
    """A callback that blocks may come between, or another stop of this program."""
    ex = exchange(stream=stream)
    frame = tag(START, 7, life=100)
    ex.receive(frame, A, 1.0, 0.5, False)
    for now in (1.1, 2.0):
        question, about = question_of(ex)
        assert about == RUN << 32 | 7
        assert ex.receive(answer(question, True), A, now) == SWALLOWED
        assert wanted(ex, now + 0.11) == []
    question, _ = question_of(ex)
    assert ex.receive(answer(question, True), A, 2.2) == SWALLOWED
    assert wanted(ex, 2.29) == [(frame, A)]


def test_an_answer_that_lay_here_itself_is_no_news():
    ex = exchange(stream=True)
    frame = tag(START, 7, life=100)
    ex.receive(frame, A, 1.0, 0.5, False)
    question, _ = question_of(ex)
    assert ex.receive(answer(question, True), A, 5.0, 3.9) == SWALLOWED
    assert wanted(ex, 5.0) == []
    question, _ = question_of(ex)
    assert ex.receive(answer(question, True), A, 5.1, 0.05) == SWALLOWED
    assert wanted(ex, 5.1) == [(frame, A)]


def test_what_waits_behind_others_may_grow_old():
    ex = exchange(stream=True)
    frames = [tag(START, 1, life=100), tag(INIT, 2, life=700)]
    assert [ex.receive(frame, A, 1.0, 0.5, False) for frame in frames] == [DOUBTED] * 2
    question, _ = question_of(ex)  # 200 ms are left to the second
    assert ex.receive(answer(question, True), A, 1.5) == SWALLOWED
    assert wanted(ex, 1.5) == [(frames[0], A)]
    question, about = question_of(ex)
    assert about == RUN << 32 | 2
    assert ex.receive(answer(question, False), A, 1.6) == SWALLOWED
    assert wanted(ex, 1.6) == []
    assert ex.n_expired == 1


def test_an_answer_that_is_waited_for_is_never_late():
    """It is we who know how long we wait for it; once nobody does, it is a message like any other."""
    ex = exchange()
    tagging(ex)
    question = ex.send(START, A, None, 0.0, 1.0, asks=True)
    for sure in (True, False):
        frame = any_tag(STATUS, RUN, 5 + sure, 100, question.identity)
        assert ex.receive(frame, A, 9.0, 5.0, sure) == DELIVER
    other = any_tag(STATUS, RUN, 9, 100, 5 << 32 | 6)
    assert ex.receive(other, A, 9.0, 5.0) == EXPIRED
    question.forget_answer()
    assert ex.receive(any_tag(STATUS, RUN, 10, 100, question.identity), A, 9.0, 5.0) == EXPIRED


def test_an_answer_to_a_message_that_asks_for_none_may_be_late():
    ex = exchange()
    tagging(ex)
    message = ex.send(START, A, None, 0.0, 1.0)
    assert ex.receive(any_tag(STATUS, RUN, 5, 100, message.identity), A, 9.0, 5.0) == EXPIRED


def test_on_datagrams_nothing_waits_and_no_answer_is_no_harm():
    """If it is wanted, it comes again; the answer may have been lost."""
    ex = exchange()
    frame = tag(START, 7, life=100)
    assert ex.receive(frame, A, 1.0, 0.5, False) == DOUBTED
    question, _ = question_of(ex)
    assert ex.receive(tag(STATUS, 8), A, 1.0, 0.5, False) == DELIVER
    assert run_until(ex, 2.5) == []
    assert ex.alarm == float('inf')
    assert ex.receive(answer(question, True), A, 2.6) == SWALLOWED
    assert wanted(ex, 2.6) == []
    assert ex.receive(tag(START, 7, life=50), A, 2.7) == DELIVER


def test_a_datagram_in_doubt_that_is_wanted():
    ex = exchange()
    frame = tag(START, 7, life=100)
    for _ in range(2):  # it is sent again meanwhile
        assert ex.receive(frame, A, 1.0, 0.5, False) == DOUBTED
    questions = out(ex)
    assert ex.receive(answer(questions[1], True), A, 1.1) == SWALLOWED
    assert ex.receive(answer(questions[0], True), A, 1.1) == SWALLOWED
    released = wanted(ex, 1.1)
    assert released == [(frame, A)] * 2
    assert [ex.receive(*one, 1.1, -1.0) for one in released] == [DELIVER, ECHO]


def test_doubts_are_bounded_on_datagrams():
    ex = exchange()
    for i in range(3000):
        assert ex.receive(tag(START, i + 1, life=100), A, 1.0, 0.5, False) == DOUBTED
    assert len(out(ex)) == 1024


@pytest.mark.parametrize('stream', [False, True])
def test_doubts_are_bounded_in_bytes(stream):
    ex = exchange(stream=stream)
    frame = b'[2, "%s"]' % (b'x' * 2**20)
    for i in range(20):
        assert ex.receive(tag(frame, i + 1, life=100), A, 1.0, 0.5, False) == DOUBTED
    questions = [one for one in out(ex) if is_ping(one)]
    for question in questions:
        ex.receive(answer(question, True), A, 1.01)
    assert 10 < len(wanted(ex, 1.01)) < 17


def test_a_stream_does_not_wait_for_ever_for_an_answer():
    """Its sender answers no ping; what came behind the message is delivered all the same."""
    ex = exchange(stream=True)
    assert ex.receive(tag(START, 7, life=100), A, 1.0, 0.5, False) == DOUBTED
    assert ex.receive(tag(STATUS, 8), A, 1.0) == DOUBTED
    out(ex)
    run_until(ex, 60.0)
    assert wanted(ex, 60.0) == []
    run_until(ex, 63.0)
    assert [untagged(frame) for frame, _ in wanted(ex, 63.0)] == [STATUS]
    assert ex.receive(tag(STATUS, 9), A, 63.0) == DELIVER
    assert ex.n_expired == 1


def test_a_peer_in_doubt_is_not_forgotten():
    ex = exchange(max_peers=4)
    frame = tag(START, 7, life=100)
    ex.receive(frame, A, 1.0, 0.5, False)
    question, _ = question_of(ex)
    for i in range(20):
        tagging(ex, 1.1, addr=('10.0.9.9', i), run=100 + i)
    ex.receive(answer(question, True), A, 1.2)
    assert wanted(ex, 1.2) == [(frame, A)]


def test_what_is_no_answer_decides_nothing():
    ex = exchange(stream=True)
    ex.receive(tag(START, 7, life=100), A, 1.0, 0.5, False)
    question, _ = question_of(ex)
    other = tag_answer(b'[]', read_tag(question) + 1, RUN << 32 | 7, run=OWN)
    for frame in (
        acknowledged(other),
        answer(question, True)[:-2] + b' ]',
        question,
        tag_answer(b'[]', 9, RUN << 32 | 7),
    ):
        ex.receive(frame, A, 1.1)
        assert wanted(ex, 1.1) == []
        assert ex.n_expired == 0
    assert ex.receive(answer(question, True), A, 1.2) == SWALLOWED
    assert len(wanted(ex, 1.2)) == 1


def test_the_answer_of_a_plain_peer_is_that_of_none():
    """It sends the question back as it is; nothing that it says has a life."""
    ex = exchange(stream=True)
    plain(ex)
    assert ex.receive(b'[1, "no tag"]', A, 1.0, 5.0, False) == DELIVER


# --- being asked ---


def asked(ex, about, number=77):
    """Let the other program ask whether a message is wanted; return what it is told."""
    question = tag_answer(b'[]', number, about)
    assert ex.receive(question, A, 0.5) == ECHO
    told = ex.reply
    assert is_ping(told)
    assert read_tag(told) == read_tag(acknowledged(question))
    assert len(told) == len(question)
    return read_answered(told)


def test_who_is_asked_says_whether_it_still_waits():
    ex = exchange()
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    assert asked(ex, identity(frame)) == OWN << 32 | send.number
    assert send.outcome == WAITING
    ex.cancel(send, 0.1)
    assert asked(ex, identity(frame)) == OWN << 32
    send = ex.send(START, A, None, 0.2, 1.0)
    (frame,) = out(ex)
    ex.receive(acknowledged(frame), A, 0.3)
    assert asked(ex, identity(frame)) == OWN << 32  # the answer is not needed any more
    assert out(ex) == []


def test_who_is_asked_about_messages_of_another_program_does_not_want_them():
    ex = exchange()
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    for about in (5 << 32 | send.number, OWN << 32 | (send.number + 1), OWN << 32, 0):
        assert asked(ex, about) == OWN << 32


def test_a_message_to_another_peer_is_not_wanted_from_this_one():
    ex = exchange()
    tagging(ex)
    tagging(ex, addr=B, run=5)
    send = ex.send(START, B, None, 0.0, 1.0)
    assert asked(ex, identity(send.frame)) == OWN << 32


def test_what_has_begun_before_the_numbers_came_to_their_end_is_still_wanted():
    ex = exchange(number=2**32 - 1)
    tagging(ex)
    send = ex.send(START, A, None, 0.0, 1.0)
    assert ex.run == OWN + 1
    assert asked(ex, OWN << 32 | send.number) & 0xFFFFFFFF == send.number


def test_both_ends():
    """A rig that stood still for 3 s: of three messages the last is still wanted."""
    main, rig = exchange(stream=True), exchange(run=RUN, stream=True)
    tagging(main, addr=A)
    tagging(rig, addr=B, run=OWN)
    sends = [main.send(b'[2, %d]' % i, A, None, 0.0, timeout) for i, timeout in enumerate((1.0, 2.0, 10.0))]
    frames = out(main)
    main.expire(3.0)
    assert [rig.receive(frame, B, 3.0, 3.0, False) for frame in frames] == [DOUBTED] * 3
    delivered = []
    for question in out(rig):
        assert main.receive(question, A, 3.0) == ECHO
        assert rig.receive(main.reply, B, 3.0) == SWALLOWED
    for frame, source in wanted(rig, 3.0):
        assert rig.receive(frame, source, 3.0, -1.0) == DELIVER
        delivered.append(untagged(frame))
        assert main.receive(rig.reply, A, 3.0) == CONFIRMED
    assert delivered == [b'[2, 2]']
    assert [send.outcome == CONFIRMED for send in sends] == [False, False, True]
    assert rig.n_expired == 2
