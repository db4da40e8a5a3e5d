"""A flood of strangers and the exchange: who is forgotten, what is left of it, and who is not let in."""

from __future__ import annotations

import pytest

from echorig.delivery._exchange import Exchange
from echorig.delivery.statistics import Peers
from echorig.delivery.verdicts import Verdict
from echorig.tuning import InternalTuning
from exchanges import INIT, OWN, START, STATUS, A, meet_echorig, out, run_until
from exchanges import confirmed as confirm
from tagging import ping, set_ack, tag

ROOM = 64
PROGRAMS = 16 * ROOM  # that are remembered, beyond the peers


def exchange(max_peers=ROOM, stream=False, **tuning) -> Exchange:
    return Exchange(InternalTuning(max_peers=max_peers, **tuning), stream, 65535, OWN, 5)


def flood(ex, n=10 * ROOM, now=100.0, frame=STATUS, first=0, step=1e-5):
    """Let n strangers, each another program, say something once, which carries on for a moment; return the time."""
    for i in range(n):
        ex.classify(tag(frame, 1, run=first + i), ('spoofed', first + i), now + i * step)
        assert ex.n_peers <= ROOM
    return now + n * step


def confirmed(ex, addr, now, run=0):
    """Send a peer something, which it confirms."""
    meet_echorig(ex, now, addr, run=run or 2**30 + hash(addr) % 2**30)
    confirm(ex, INIT, addr, now)


def test_who_has_confirmed_something_outlives_strangers():
    ex = exchange()
    confirmed(ex, A, 0.0)
    flood(ex)
    assert Peers(ex).forgotten == ex.n_forgotten > 8 * ROOM
    assert ex.statistics(A)[1:3] == (1, 1)
    flood(ex, 100 * ROOM, first=10**6)
    assert A in ex.addresses()


def test_of_strangers_those_go_first_that_were_silent_for_longest():
    ex = exchange()
    for i in range(ROOM):
        ex.classify(tag(STATUS, 1, run=i), ('early', i), float(i))
    for i in range(0, ROOM, 2):
        ex.classify(tag(STATUS, 2, run=i), ('early', i), 100.0 + i)
    flood(ex, ROOM // 2, now=300.0, first=10**6)
    kept = [addr[1] for addr in ex.addresses() if addr[0] == 'early']
    assert kept == list(range(0, ROOM, 2))


def test_what_was_said_is_not_new_again():
    """A message whose echo was lost comes again, when the flood has made the address of its sender be forgotten."""
    ex = exchange()
    for i in range(20):
        assert ex.classify(tag(STATUS, 700 + i), A, 99.0 + 0.01 * i) == Verdict.DELIVER
    now = flood(ex, PROGRAMS // 2)
    assert A not in ex.addresses()
    assert ex.classify(tag(STATUS, 719), A, now) == Verdict.ECHO
    assert ex.classify(tag(STATUS, 700), A, now) == Verdict.ECHO
    assert ex.statistics(A)[5] == 2  # duplicates
    assert ex.statistics(A)[11] == 0  # and it was not restarted
    assert ex.classify(tag(STATUS, 720), A, now) == Verdict.DELIVER


def test_16_programs_are_remembered_for_each_peer():
    ex = exchange()
    told = [ex.classify(tag(STATUS, 1, run=i), ('10.0.0.2', i), i * 1e-5) for i in range(PROGRAMS)]
    assert told == [Verdict.DELIVER] * PROGRAMS
    again = [ex.classify(tag(STATUS, 1, run=i), ('10.0.0.2', i), 1.0 + i * 1e-5) for i in range(PROGRAMS)]
    assert again == [Verdict.ECHO] * PROGRAMS


def test_of_more_those_are_forgotten_that_were_silent_for_longest():
    """What a forgotten program says is neither delivered nor confirmed: nobody knows whether it was received."""
    ex = exchange()
    for i in range(PROGRAMS):
        ex.classify(tag(STATUS, 1, run=i), ('10.0.0.2', i), float(i))
    for i in range(0, 100, 2):
        ex.classify(tag(STATUS, 1, run=i), ('10.0.0.2', i), 1e4 + i)
    flood(ex, 50, now=2e4, first=10**6)
    again = [ex.classify(tag(STATUS, 1, run=i), ('10.0.0.2', i), 3e4 + i) for i in range(100)]
    assert again[::2] == [Verdict.ECHO] * 50
    assert again[1::2] == [Verdict.IGNORED] * 50
    assert ex.classify(tag(STATUS, 2, run=1), ('10.0.0.2', 1), 4e4) == Verdict.IGNORED
    assert ex.n_turned_away == 51


def test_a_program_that_has_only_pinged_can_be_forgotten_without_a_trace():
    ex = exchange()
    ex.classify(ping(1, run=5), A, 0.0)
    flood(ex, 2 * PROGRAMS, now=1.0, first=10**6)
    assert ex.classify(tag(STATUS, 2, run=5), A, 1e5) == Verdict.DELIVER


def test_a_program_that_has_confirmed_something_is_never_forgotten():
    ex = exchange()
    confirmed(ex, A, 0.0, run=7)
    assert ex.classify(tag(START, 9, run=7), A, 0.0) == Verdict.DELIVER
    flood(ex, 4 * PROGRAMS, first=10**6)
    assert ex.classify(tag(START, 9, run=7), A, 1e5) == Verdict.ECHO


@pytest.mark.parametrize('n', [1, 1000, 65_536])
def test_exactly_once_for_all_of_a_crowd(n):
    """Each of many says something, and says it again when all have spoken."""
    ex = exchange(4096)
    told = [ex.classify(tag(STATUS, 1, run=i), ('10.0.0.2', i), i * 1e-5) for i in range(n)]
    assert told == [Verdict.DELIVER] * n
    again = [ex.classify(tag(STATUS, 1, run=i), ('10.0.0.2', i), 1.0 + i * 1e-5) for i in range(n)]
    assert again == [Verdict.ECHO] * n


def test_pings_of_strangers_make_no_more_be_remembered():
    ex = exchange()
    for i in range(4 * PROGRAMS):
        assert ex.classify(ping(1, run=i), ('10.0.0.2', i), i * 1e-5) == Verdict.ECHO
        assert ex.n_peers <= ROOM


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
        confirmed(ex, ('10.0.0.3', i), float(i), run=i + 1)
        assert ex.n_peers <= ROOM
    assert ex.classify(STATUS, A, 1e3) == Verdict.DELIVER
    kept = [addr[1] for addr in ex.addresses() if addr != A]
    assert min(kept) >= 3 * ROOM - len(kept) - ROOM // 8
    assert len(kept) >= ROOM - 2 * ROOM // 8 - 1


def test_when_all_are_waited_for_a_stranger_is_not_let_in():
    """A program that answers everybody is kept busy by a flood: its own sends bound what it remembers."""
    ex = exchange()
    for i in range(ROOM):
        ex.classify(STATUS, ('spoofed', i), 0.0)
        ex.send(STATUS, ('spoofed', i), None, 0.0, 1.0)
    assert ex.classify(STATUS, A, 0.1) == Verdict.IGNORED
    assert (ex.n_turned_away, ex.n_peers) == (1, ROOM)
    assert (Peers(ex).turned_away, Peers(ex).forgotten) == (1, 0)
    for frame in (STATUS, tag(STATUS, 1), ping(2)):
        assert ex.classify(frame, A, 0.1) == Verdict.IGNORED  # it is not looked for room again so soon
    assert ex.n_turned_away == 4
    sent = ex.send(INIT, A, None, 0.2, 5.0)  # but what the program says itself goes out
    probe, addr = ex.outbox[-1]
    assert addr == A
    ex.expire(1.5)
    assert ex.classify(STATUS, ('new', 1), 1.5) == Verdict.DELIVER
    assert ex.n_peers <= ROOM + 1
    ex.classify(set_ack(probe), A, 1.6)
    assert ex.outbox[-1] == (sent.frame, A)
    assert ex.classify(set_ack(sent.frame), A, 1.6) == Verdict.CONFIRMED


def test_who_was_turned_away_was_not_heard():
    """Its message is new when there is room for it."""
    ex = exchange(1)
    ex.send(STATUS, ('busy', 1), None, 0.0, 1.0)
    frame = tag(START, 7)
    assert ex.classify(frame, A, 0.1) == Verdict.IGNORED
    assert ex.classify(frame, A, 0.2) == Verdict.IGNORED
    run_until(ex, 1.0)
    assert ex.classify(frame, A, 1.1) == Verdict.DELIVER


def test_who_is_known_stays_when_strangers_are_waited_for():
    ex = exchange()
    confirmed(ex, A, 0.0, run=7)
    ex.classify(tag(STATUS, 2, run=7), A, 5.0)
    for i in range(3 * ROOM):
        if ex.classify(STATUS, ('spoofed', i), 6.0 + i) != Verdict.IGNORED:
            ex.send(STATUS, ('spoofed', i), None, 6.0 + i, 1e9)
    assert ex.n_turned_away == 2 * ROOM + 1
    assert ex.classify(tag(STATUS, 2, run=7), A, 7.0) == Verdict.ECHO
    assert ex.classify(tag(STATUS, 3, run=7), A, 300.0) == Verdict.DELIVER


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
        assert looks < 256 + 400  # the last 256 one by one
    assert now == pytest.approx(1.4, abs=0.01)
    assert len(ex.finished) == 4000


def test_connections_are_never_turned_away():
    ex = exchange(stream=True)
    for i in range(ROOM):
        ex.send(STATUS, ('client', i), None, 0.0, 1.0)
    assert ex.classify(STATUS, A, 0.1) == Verdict.DELIVER


def test_of_connections_that_are_gone_little_is_remembered():
    ex = exchange(stream=True)
    for i in range(2000):
        ex.classify(tag(STATUS, 1, run=i), ('client', i), 0.0)
        ex.disconnect(('client', i), 0.0)
    assert ex.n_peers == 0


def test_the_smallest_room():
    ex = exchange(1)
    for i in range(10):
        addr = ('10.0.0.2', i)
        assert ex.classify(tag(STATUS, i + 1, run=i + 1), addr, float(i)) == Verdict.DELIVER
        ex.send(INIT, addr, None, float(i), 1.0)
        (probe,) = out(ex)
        ex.classify(set_ack(probe), addr, float(i))
        (frame,) = out(ex)
        assert ex.classify(set_ack(frame), addr, float(i)) == Verdict.CONFIRMED
        assert ex.n_peers == 1
