"""Frames that the system did not send, and a server with another address: what the exchange sends again."""

from __future__ import annotations

import pytest

from echorig.delivery.verdicts import Outcome, Verdict
from echorig.wire._tags import read_tag as wire_tag
from exchanges import INIT, START, A, B, C, count, exchange, kind, meet_echorig, meet_legacy, out, run_until
from tagging import ping, set_ack, strip_tag


def test_a_frame_that_was_not_sent_is_sent_again_to_a_legacy_peer():
    """Until it is sent, and then never again."""
    ex = exchange()
    meet_legacy(ex)
    send = ex.send(START, A, None, 20.0, 1.0)
    for i in range(10):
        (frame,) = out(ex) if i == 0 else [frame for _, frame in run_until(ex, 20.0 + i / 40)]
        assert strip_tag(frame) == START
        assert frame is send.frame
        if i < 9:
            ex.on_unsent(frame, A, 20.0 + i / 40)
    assert run_until(ex, 20.9) == []
    assert ex.classify(send.frame, A, 20.95) == Verdict.CONFIRMED
    assert send.outcome == Outcome.CONFIRMED
    assert count(ex, 'retransmitted') == 0


def test_a_frame_that_is_never_sent_times_out():
    ex = exchange()
    meet_legacy(ex)
    send = ex.send(b'text', A, None, 20.0, 1.0, False)
    for i in range(60):
        for frame in [*out(ex), *(frame for _, frame in run_until(ex, 20.0 + i / 50))]:
            ex.on_unsent(frame, A, 20.0 + i / 50)
    assert send.outcome == Outcome.TIMED_OUT
    ex.ping(A, None, 21.2, 1.0)
    assert len(out(ex)) == 1  # the peer is not at work on it


def test_a_frame_that_was_sent_is_not_sent_again_for_the_error_of_another():
    ex = exchange()
    meet_legacy(ex)
    ex.send(START, A, None, 20.0, 1.0)
    (frame,) = out(ex)
    ex.on_unsent(bytes(bytearray(frame)), A, 20.0)
    ex.on_unsent(frame, B, 20.0)
    ex.hasten(A, 20.1)
    assert run_until(ex, 20.9) == []


def test_the_life_of_a_frame_that_is_sent_late():
    ex = exchange()
    meet_echorig(ex)
    ex.send(START, A, None, 0.0, 1.0)
    (frame,) = out(ex)
    ex.on_unsent(frame, A, 0.0)
    ((at, again),) = run_until(ex, 0.025)
    before, after = wire_tag(frame), wire_tag(again)
    assert after[:3] == before[:3]
    assert after[3] == pytest.approx(1000 - at * 1000, abs=2)


def test_silence():
    ex = exchange()
    assert ex.silence(A, 0.0) == 0.0
    ex.send(START, A, None, 0.0, 10.0)  # probes
    assert ex.silence(A, 0.05) == 0.0
    assert ex.silence(A, 0.1) == 0.1
    ex.classify(set_ack(out(ex)[0]), A, 0.1)
    assert kind(ex) == 'echorig'
    assert ex.silence(A, 0.2) == 0.0  # not longer than several round trips
    assert ex.silence(A, 3.0) == pytest.approx(2.9)
    assert ex.silence(B, 3.0) == 0.0


def test_silence_of_a_legacy_peer_is_no_sign():
    ex = exchange()
    meet_legacy(ex)
    ex.send(START, A, None, 20.0, 10.0)
    assert ex.silence(A, 29.0) == 0.0


@pytest.mark.parametrize('run', [7, 99], ids=['the same program', 'a restarted one'])
def test_relocation(run):
    """What waits is sent to the new address; the program there keeps its state."""
    ex = exchange()
    meet_echorig(ex, run=7)
    sends = [ex.send(frame, A, None, 0.0, 10.0) for frame in (START, INIT)]
    out(ex)
    trial = ex.ping(B, None, 0.5, 1.0, True)
    ex.classify(set_ack(ping(trial.number, run=ex.run)), B, 0.6)
    ex.classify(ping(5, run=run), B, 0.6)
    ex.relocate(A, B, 0.6)
    assert ex.addresses() == [B]
    assert ex.current_addr(A) == B
    assert count(ex, 'restarts', B) == (run != 7)
    ex.hasten(B, 0.6)
    frames = [frame for _, frame in run_until(ex, 0.61)]
    assert START in map(strip_tag, frames)
    assert ex.classify(set_ack(sends[0].frame), B, 0.62) == Verdict.CONFIRMED
    run_until(ex, 0.63)
    assert ex.classify(set_ack(sends[1].frame), B, 0.64) == Verdict.CONFIRMED
    assert ex.n_waiting == 0


def test_relocation_to_a_legacy_peer():
    """The first message waits for pings to the old address, and is sent at once to the new one."""
    ex = exchange()
    send = ex.send(START, A, None, 0.0, 10.0)
    trial = ex.ping(B, None, 0.3, 1.0, True)
    assert ex.classify(trial.frame, B, 0.31) == Verdict.CONFIRMED
    out(ex)
    ex.relocate(A, B, 0.32)
    assert kind(ex, B) == 'legacy'
    assert [(strip_tag(frame), addr) for frame, addr in ex.outbox] == [(START, B)]
    ex.outbox.clear()
    assert run_until(ex, 5.0) == []
    assert ex.classify(send.frame, B, 5.0) == Verdict.CONFIRMED


def test_relocation_there_and_back():
    ex = exchange()
    meet_echorig(ex)
    for before, after, now in ((A, B, 1.0), (B, C, 2.0), (C, A, 3.0), (A, B, 4.0)):
        trial = ex.ping(after, None, now, 1.0, True)
        assert ex.outbox[-1] == (trial.frame, after)
        ex.classify(set_ack(trial.frame), after, now + 0.1)
        ex.relocate(before, after, now + 0.2)
        assert ex.addresses() == [after]
        assert ex.current_addr(before) == after
    assert ex.statistics(C) == ex.statistics(B)
