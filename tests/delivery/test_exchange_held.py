"""What waits while a message to a peer is not confirmed: numbers that would push that one out of its window."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Outcome, Verdict
from exchanges import (
    NOTICE_FRAME,
    OWN,
    START,
    STATUS,
    A,
    B,
    confirmed,
    exchange,
    meet_echorig,
    meet_legacy,
    out,
    run_until,
)
from tagging import RUN, is_ping, ping, read_tag, set_ack, strip_tag

WINDOW = 1024
ROOM = 1024  # messages that wait for one peer


def number(i: int) -> bytes:
    return b'[64, 20, %d]' % i


def waiting(ex: Exchange, now: float = 0.0, timeout: float = 100.0):
    """Begin a confirmed send to a tagging peer; return it."""
    meet_echorig(ex, now)
    send = ex.send(START, A, None, now, timeout)
    assert out(ex) == [send.frame]
    return send


def test_no_number_is_sent_that_is_more_than_1023_above():
    ex = exchange(number=1000)
    waiting(ex)
    sent = [ex.send_unconfirmed(number(i), A, 0.0) for i in range(1, 1100)]
    assert [read_tag(frame) for frame in sent[:1023]] == list(range(1001, 2024))
    assert sent[1023:] == [None] * 76
    assert ex.n_deferred == 76
    assert out(ex) == []


def test_what_waits_leaves_in_order_once_the_message_is_confirmed():
    ex = exchange(number=1)
    send = waiting(ex)
    for i in range(1500):
        ex.send_unconfirmed(number(i), A, 0.0)
    assert ex.n_deferred == 1500 - 1023
    assert ex.classify(set_ack(send.frame), A, 1.0) == Verdict.CONFIRMED
    assert [strip_tag(frame) for frame in out(ex)] == [number(i) for i in range(1023, 1500)]
    assert ex.n_deferred == 0
    assert strip_tag(ex.send_unconfirmed(number(1500), A, 1.0)) == number(1500)


def test_what_waits_leaves_when_the_message_has_failed_or_is_given_up():
    for end in ('time', 'cancel'):
        ex = exchange()
        send = waiting(ex, timeout=1.0)
        for i in range(1030):
            ex.send_unconfirmed(number(i), A, 0.0)
        if end == 'time':
            said = [strip_tag(frame) for _, frame in run_until(ex, 1.0) if strip_tag(frame) != START]
            assert send.outcome == Outcome.TIMED_OUT
        else:
            ex.cancel(send, 0.01)
            said = [strip_tag(frame) for frame in out(ex)]
        assert said == [number(i) for i in range(1023, 1030)]


def test_there_is_room_for_1024_and_then_it_is_said():
    ex = exchange()
    send = waiting(ex)
    for i in range(1023 + ROOM):
        ex.send_unconfirmed(number(i), A, 0.0)
    for _ in range(2):
        with pytest.raises(OSError, match=r'1024 messages wait .*10\.0\.0\.1') as raised:
            ex.send_unconfirmed(STATUS, A, 0.0)
        assert raised.value.errno == errno.ENOBUFS
    assert ex.n_deferred == ROOM
    ex.classify(set_ack(send.frame), A, 1.0)
    assert len(out(ex)) == ROOM
    assert ex.send_unconfirmed(STATUS, A, 1.0) is not None


def test_what_is_sent_to_others_counts_and_does_not_wait():
    """All peers share one counter, but what waits for one keeps no other waiting."""
    ex = exchange(number=1)
    waiting(ex)
    meet_echorig(ex, addr=B, run=5)
    for i in range(3000):
        assert ex.send_unconfirmed(number(i), B, 0.0) is not None
    assert ex.send_unconfirmed(STATUS, A, 0.0) is None
    assert confirmed(ex, STATUS, B)
    assert ex.n_deferred == 1


def test_pings_and_repetitions_are_not_kept_waiting():
    """Pings have no place in the window, and a repetition has its number already."""
    ex = exchange()
    meet_echorig(ex)
    ex.ping(A, None, 0.0, 1.0)
    send = ex.send(START, A, None, 0.0, 1.0)
    assert len(out(ex)) == 2
    for i in range(2000):
        ex.send_unconfirmed(number(i), A, 0.0)
    said = run_until(ex, 0.5)
    assert {read_tag(frame) for _, frame in said if not is_ping(frame)} == {send.number}
    assert min(read_tag(frame) for _, frame in said if is_ping(frame)) >= send.number + WINDOW
    assert ex.classify(ping(9), A, 0.5) == Verdict.ECHO


def test_the_next_confirmed_message_waits_behind_the_first_in_any_case():
    ex = exchange(number=1)
    first = waiting(ex)
    second = ex.send(STATUS, A, None, 0.0, 100.0)
    for i in range(1100):
        ex.send_unconfirmed(number(i), A, 0.0)
    assert ex.classify(set_ack(first.frame), A, 1.0) == Verdict.CONFIRMED
    said = out(ex)
    assert len(said) == 1100 - 1023 + 1
    assert second.frame in said
    assert abs(max(map(read_tag, said)) - second.number) < WINDOW


def test_a_message_that_failed_keeps_nothing_waiting():
    ex = exchange(number=1)
    send = waiting(ex, timeout=1.0)
    run_until(ex, 1.0)
    assert send.outcome == Outcome.TIMED_OUT
    for i in range(3000):
        assert ex.send_unconfirmed(number(i), A, 1.0) is not None


def test_unconfirmed_messages_keep_nothing_waiting():
    """They are never sent again, so that nothing can be taken for a copy of them."""
    ex = exchange()
    meet_echorig(ex)
    sent = [ex.send_unconfirmed(number(i), A, 0.0) for i in range(5000)]
    assert None not in sent


def test_to_a_plain_peer_too():
    ex = exchange()
    meet_legacy(ex)
    send = ex.send(START, A, None, 0.0, 10.0)
    out(ex)
    sent = [ex.send_unconfirmed(number(i), A, 0.0) for i in range(1030)]
    assert sent[1023:] == [None] * 7
    assert ex.classify(send.frame, A, 1.0) == Verdict.CONFIRMED
    assert len(out(ex)) == 7


def test_a_message_without_a_tag_has_no_number_to_wait_for():
    ex = exchange()
    meet_echorig(ex)
    ex.send(b'text', A, None, 0.0, 10.0, False)
    out(ex)
    assert None not in [ex.send_unconfirmed(number(i), A, 0.0) for i in range(3000)]


def test_a_stream_keeps_nothing_waiting():
    ex = exchange(stream=True)
    waiting(ex)
    assert None not in [ex.send_unconfirmed(number(i), A, 0.0) for i in range(3000)]


def test_notices_wait_as_well():
    ex = exchange()
    waiting(ex)
    for _ in range(1024):
        ex.send_unconfirmed(NOTICE_FRAME, A, 0.0)
    assert ex.n_deferred == 1


def test_answers_keep_naming_their_question():
    ex = exchange()
    send = waiting(ex)
    for _ in range(1024):
        ex.send_unconfirmed(STATUS, A, 0.0)
    ex.send_unconfirmed(STATUS, A, 0.0, True, 5 << 32 | 6)
    assert ex.n_deferred == 2
    ex.classify(set_ack(send.frame), A, 0.0)
    assert [len(frame) for frame in out(ex)] == [len(STATUS) + 128, len(STATUS) + 192]


def test_beyond_the_end_of_the_numbers():
    ex = exchange(number=2**32 - 500)
    send = waiting(ex)
    sent = [ex.send_unconfirmed(number(i), A, 0.0) for i in range(1030)]
    assert sent.count(None) == 8  # there is no number 0
    assert ex.classify(set_ack(send.frame), A, 0.1) == Verdict.CONFIRMED
    assert len(out(ex)) == 8


def test_who_is_kept_waiting_is_not_forgotten():
    ex = exchange(max_peers=4)
    waiting(ex)
    for i in range(1030):
        ex.send_unconfirmed(number(i), A, 0.0)
    for i in range(20):
        meet_echorig(ex, float(i), addr=('10.0.9.9', i), run=100 + i)
    assert A in ex.addresses()
    assert ex.n_deferred == 7


@settings(max_examples=100)
@given(st.data())
def test_a_message_is_delivered_once_beside_any_number_of_others(data):
    """Two ends over a network that loses, doubles and holds up, while one sends bursts to this peer and to another."""
    draw = data.draw
    ex, rig = exchange(number=draw(st.sampled_from([1, 2**32 - 1500]))), exchange(run=RUN)
    for end, addr, run in ((ex, A, RUN), (rig, B, OWN)):
        meet_echorig(end, addr=addr, run=run)
    meet_echorig(ex, addr=B, run=5)
    now = 0.0
    wires: dict[str, list[bytes]] = {'rig': [], 'main': []}
    delivered: list[bytes] = []
    sends = []

    def settle() -> None:
        for frame, addr in ex.outbox:
            if addr == A:
                wires['rig'].append(frame)
        ex.outbox.clear()

    def arrive(frame: bytes) -> None:
        verdict = rig.classify(frame, B, now)
        if verdict == Verdict.DELIVER:
            delivered.append(strip_tag(frame))
        if verdict in (Verdict.DELIVER, Verdict.ECHO):
            wires['main'].append(rig.reply)

    for i in range(draw(st.integers(1, 40))):
        what = draw(st.sampled_from(['send', 'burst', 'elsewhere', 'rig', 'rig', 'main', 'lose', 'copy', 'time']))
        if what == 'send':
            sends.append(ex.send(b'[2, %d]' % i, A, None, now, 1e6))
        elif what == 'burst':
            for j in range(draw(st.sampled_from([1, 500, 1000]))):
                if ex.n_deferred < ROOM and (frame := ex.send_unconfirmed(b'[64, %d, %d]' % (i, j), A, now)):
                    wires['rig'].append(frame)
        elif what == 'elsewhere':
            for _ in range(draw(st.sampled_from([1, 1000, 5000]))):
                ex.send_unconfirmed(STATUS, B, now)
        elif wires.get(what):
            n = draw(st.sampled_from([1, 1, 100, 5000]))
            taken = [wires[what].pop(draw(st.integers(0, len(wires[what]) - 1)) if n == 1 else -1)]
            if n > 1:
                taken += wires[what][-n:][::-1]
                del wires[what][-n:]
            for frame in taken:
                if what == 'rig':
                    arrive(frame)
                else:
                    assert ex.classify(frame, A, now) in (Verdict.CONFIRMED, Verdict.STRAY_ECHO)
        elif what == 'lose' and wires['rig']:
            del wires['rig'][draw(st.integers(0, len(wires['rig']) - 1))]
        elif what == 'copy' and wires['rig']:
            wires['rig'].append(wires['rig'][draw(st.integers(0, len(wires['rig']) - 1))])
        elif what == 'time':
            now += draw(st.sampled_from([0.01, 0.3, 50.0]))
            ex.expire(now)
        settle()
    for _ in range(1000):  # from here on nothing is lost any more
        now = max(ex.alarm, now) if sends and ex.n_waiting else now
        ex.expire(now)
        settle()
        while wires['rig'] or wires['main']:
            while wires['rig']:
                arrive(wires['rig'].pop())
            while wires['main']:
                ex.classify(wires['main'].pop(0), A, now)
            settle()
        if not ex.n_waiting:
            break
    assert [send.outcome for send in sends] == [Outcome.CONFIRMED] * len(sends)
    assert all(delivered.count(strip_tag(send.frame)) == 1 for send in sends)
    assert len(set(delivered)) == len(delivered)
