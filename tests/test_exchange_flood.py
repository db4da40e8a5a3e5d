"""A flood of strangers and the exchange: who is forgotten, what is left of it, and who is not let in."""

from __future__ import annotations

import pytest

from echorig import Tuning
from echorig._exchange import CONFIRMED, DELIVER, ECHO, IGNORED, Exchange
from echorig.peers import Peers
from tagging import acknowledged, tag

ROOM = 64
A = ('10.0.0.1', 11001)
INIT, STATUS = b'[1, null]', b'[32, 20]'


def exchange(max_peers=ROOM, stream=False, **tuning) -> Exchange:
    return Exchange(Tuning(max_peers=max_peers, **tuning), stream, 65535, 5)


def flood(ex, n=10 * ROOM, now=100.0, frame=STATUS, first=0, step=1e-5):
    """Let n strangers say something once each, which carries on for a moment; return the time."""
    for i in range(n):
        ex.receive(tag(frame, first + i), ('spoofed', first + i), now + i * step)
        assert ex.n_peers <= ROOM
    return now + n * step


def confirmed(ex, addr, now):
    """Send a peer something, which it confirms."""
    send = ex.send(INIT, addr, None, now, 1.0)
    ex.outbox.clear()
    assert ex.receive(acknowledged(send.frame), addr, now) == CONFIRMED
    ex.finished.clear()


def test_who_has_confirmed_something_outlives_strangers():
    ex = exchange()
    confirmed(ex, A, 0.0)
    assert ex.receive(tag(STATUS, 7), A, 1.0) == DELIVER
    flood(ex)
    assert Peers(ex).forgotten == ex.n_forgotten > 8 * ROOM
    assert ex.statistics(A)[:3] == ('tagging', 1, 1)
    assert ex.receive(tag(STATUS, 7), A, 30.0) == ECHO  # its numbers are still known


def test_who_was_heard_over_some_time_outlives_those_heard_once():
    ex = exchange()
    for i in range(3):
        assert ex.receive(tag(STATUS, i), A, 97.0 + i) == DELIVER
    flood(ex)
    assert A in ex.addresses()
    for i in range(3):
        assert ex.receive(tag(STATUS, i), A, 101.0) == ECHO


def test_who_comes_back_is_no_stranger():
    """One that is heard too seldom to stay is remembered once it comes back."""
    ex = exchange()
    ex.receive(tag(STATUS, 1), A, 99.0)
    now = flood(ex)
    assert A not in ex.addresses()
    assert ex.receive(tag(STATUS, 2), A, now) == DELIVER
    flood(ex, now=now, first=100_000)
    assert A in ex.addresses()


def test_what_was_said_last_is_not_new_again():
    """A message whose echo was lost comes again, when the flood has made its sender be forgotten."""
    ex = exchange()
    for i in range(20):
        assert ex.receive(tag(STATUS, 700 + i), A, 99.0 + 0.01 * i) == DELIVER
    now = flood(ex, 2000)
    assert A not in ex.addresses()
    assert ex.receive(tag(STATUS, 719), A, now) == ECHO
    assert ex.receive(tag(STATUS, 719), A, now) == ECHO
    assert ex.statistics(A)[5] == 2  # duplicates
    assert ex.receive(tag(STATUS, 720), A, now) == DELIVER
    assert ex.receive(tag(INIT, 719), A, now) == DELIVER  # other bytes


@pytest.mark.parametrize('n', [1, 1000, 100_000])
def test_exactly_once_for_all_of_a_crowd(n):
    """Each of many says something, and says it again when all have spoken: within what the traces hold."""
    ex = exchange(4096)
    told = [ex.receive(tag(STATUS, i), ('10.0.0.2', i), i * 1e-5) for i in range(n)]
    assert told == [DELIVER] * n
    again = [ex.receive(tag(STATUS, i), ('10.0.0.2', i), 1.0 + i * 1e-5) for i in range(n)]
    assert again.count(DELIVER) <= 0.02 * n if n > 50_000 else again == [ECHO] * n


def test_those_who_are_proven_cannot_be_driven_out_by_those_who_speak_twice():
    ex = exchange()
    confirmed(ex, A, 0.0)
    for turn in range(4):
        flood(ex, 5 * ROOM, now=100.0 + turn)  # from the same addresses again
    assert A in ex.addresses()


def test_even_proven_peers_make_room_for_a_newcomer():
    """The room for strangers is never used up by others, and of those the one idle for longest is forgotten."""
    ex = exchange()
    for i in range(3 * ROOM):
        confirmed(ex, ('10.0.0.3', i), float(i))
        assert ex.n_peers <= ROOM
    assert ex.receive(STATUS, A, 1e3) == DELIVER
    kept = [addr[1] for addr in ex.addresses() if addr != A]
    assert min(kept) >= 3 * ROOM - len(kept) - ROOM // 8
    assert len(kept) >= ROOM - 2 * ROOM // 8 - 1


def test_when_all_are_waited_for_a_stranger_is_not_let_in():
    """A program that answers everybody is kept busy by a flood: its own sends bound what it remembers."""
    ex = exchange()
    for i in range(ROOM):
        ex.receive(STATUS, ('spoofed', i), 0.0)
        ex.send(STATUS, ('spoofed', i), None, 0.0, 1.0)
    assert ex.receive(STATUS, A, 0.1) == IGNORED
    assert (ex.n_turned_away, ex.n_peers) == (1, ROOM)
    assert (Peers(ex).turned_away, Peers(ex).forgotten) == (1, 0)
    assert ex.receive(STATUS, A, 0.1) == IGNORED  # it is not looked for room again so soon
    sent = ex.send(INIT, A, None, 0.2, 5.0)  # but what the program says itself goes out
    assert ex.outbox[-1] == (sent.frame, A)
    ex.expire(1.5)
    assert ex.receive(STATUS, ('new', 1), 1.5) == DELIVER
    assert ex.n_peers <= ROOM + 1
    assert ex.receive(acknowledged(sent.frame), A, 1.6) == CONFIRMED


def test_who_is_known_stays_when_strangers_are_waited_for():
    ex = exchange()
    ex.receive(tag(STATUS, 1), A, 0.0)
    ex.receive(tag(STATUS, 2), A, 5.0)
    for i in range(3 * ROOM):
        if ex.receive(STATUS, ('spoofed', i), 6.0 + i) != IGNORED:
            ex.send(STATUS, ('spoofed', i), None, 6.0 + i, 1e9)
    assert ex.n_turned_away == 2 * ROOM + 1
    assert ex.receive(tag(STATUS, 2), A, 7.0) == ECHO
    assert ex.receive(tag(STATUS, 3), A, 300.0) == DELIVER


def test_very_many_sends_are_not_looked_at_all_the_time():
    """One loop that waits for thousands has other things to do than to look whose time has come."""
    ex = exchange(4096)
    for i in range(4000):
        ex.send(STATUS, ('spoofed', i), None, i * 1e-4, 1.0)
    now, looks = 0.4, 0
    while ex.n_waiting:
        now = ex.alarm
        ex.expire(now)
        ex.outbox.clear()
        looks += 1
        assert looks < 500
    assert now == pytest.approx(1.4, abs=0.01)
    assert len(ex.finished) == 4000


def test_connections_are_never_turned_away():
    ex = exchange(stream=True)
    for i in range(ROOM):
        ex.send(STATUS, ('client', i), None, 0.0, 1.0)
    assert ex.receive(STATUS, A, 0.1) == DELIVER


def test_the_smallest_room():
    ex = exchange(1)
    for i in range(10):
        assert ex.receive(tag(STATUS, i), ('10.0.0.2', i), float(i)) == DELIVER
        confirmed(ex, ('10.0.0.2', i), float(i))
        assert ex.n_peers == 1
