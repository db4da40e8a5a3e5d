"""The rules of delivery of a plain peer, without tags, and the exchange against a slow model of them.

What tags add to the rules is in the files test_exchange_*.py, and tried against bad networks in tests/simulation.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from echorig.delivery.verdicts import Outcome, Verdict
from exchanges import INIT, START, STATUS, A, B, emptied
from exchanges import exchange as any_exchange


def exchange(**kwargs):
    return any_exchange(tags=False, **kwargs)


def test_an_echo_confirms():
    ex = exchange()
    send = ex.send(START, A, 'waiter', 0.0, 1.0)
    assert emptied(ex.outbox) == [(START, A)]
    assert (send.frame, send.addr, send.future, send.deadline, send.outcome) == (
        START,
        A,
        'waiter',
        1.0,
        Outcome.WAITING,
    )
    assert ex.classify(START, B, 0.1) == Verdict.DELIVER  # from somebody else it is a message
    assert ex.classify(START, A, 0.1) == Verdict.CONFIRMED
    assert emptied(ex.finished) == [send]
    assert send.outcome == Outcome.CONFIRMED
    assert ex.n_waiting == 0
    assert ex.classify(START, A, 0.2) == Verdict.DELIVER  # the answer, which may have the same bytes


def test_datagrams_to_one_peer_go_one_at_a_time_and_in_order():
    ex = exchange()
    first, second, other = (ex.send(f, a, None, 0.0, 1.0) for f, a in ((START, A), (INIT, A), (STATUS, B)))
    assert emptied(ex.outbox) == [(START, A), (STATUS, B)]
    assert ex.classify(START, A, 0.1) == Verdict.CONFIRMED
    assert emptied(ex.outbox) == [(INIT, A)]
    assert ex.classify(INIT, A, 0.2) == Verdict.CONFIRMED
    assert ex.classify(STATUS, B, 0.3) == Verdict.CONFIRMED
    assert emptied(ex.finished) == [first, second, other]


def test_identical_sends_are_each_confirmed_once():
    ex = exchange()
    sends = [ex.send(START, A, None, 0.0, 1.0) for _ in range(3)]
    for i in range(3):
        assert emptied(ex.outbox) == [(START, A)]
        assert ex.classify(START, A, 0.1) == Verdict.CONFIRMED
        assert emptied(ex.finished) == [sends[i]]


def test_on_a_stream_bare_text_goes_alone():
    """Nothing on a stream shows where it ends."""
    ex = exchange(stream=True)
    for i, frame in enumerate((START, INIT, b'bare', STATUS)):
        ex.send(frame, A, None, float(i), 10.0)
    ex.expire(4.0)
    assert emptied(ex.outbox) == [(START, A), (INIT, A)]
    assert [ex.classify(frame, A, 4.5) for frame in (START, INIT)] == [Verdict.CONFIRMED] * 2
    assert emptied(ex.outbox) == [(b'bare', A)]
    ex.expire(5.5)
    assert emptied(ex.outbox) == []
    assert ex.classify(b'bare', A, 6.0) == Verdict.CONFIRMED
    assert emptied(ex.outbox) == [(STATUS, A)]


def test_the_time_counts_from_the_call_and_a_late_echo_is_swallowed():
    ex = exchange()
    first, second = ex.send(START, A, None, 0.0, 1.0), ex.send(INIT, A, None, 0.5, 1.0)
    assert ex.alarm == 1.0
    ex.expire(0.99)
    assert not ex.finished
    ex.expire(1.0)
    assert emptied(ex.finished) == [first]
    assert first.outcome == Outcome.TIMED_OUT
    assert emptied(ex.outbox) == [(START, A), (INIT, A)]
    assert ex.classify(START, A, 1.1) == Verdict.STRAY_ECHO
    assert ex.classify(START, A, 1.1) == Verdict.DELIVER  # only once
    assert ex.classify(INIT, A, 1.2) == Verdict.CONFIRMED
    assert second.outcome == Outcome.CONFIRMED
    ex.expire(1.5)
    assert ex.alarm == float('inf')


def test_what_has_waited_too_long_in_the_queue_is_never_sent():
    ex = exchange()
    ex.send(START, A, None, 0.0, 1.0)
    queued = ex.send(INIT, A, None, 0.0, 0.5)
    ex.expire(2.0)
    assert emptied(ex.outbox) == [(START, A)]
    assert queued.outcome == Outcome.TIMED_OUT
    assert ex.classify(INIT, A, 2.1) == Verdict.DELIVER  # it was never sent, so this is no echo of it


def test_a_cancelled_send_leaves_nothing_behind():
    ex = exchange()
    out, queued = ex.send(START, A, None, 0.0, 1.0), ex.send(INIT, A, None, 0.0, 1.0)
    ex.cancel(out, 0.1)
    ex.cancel(out, 0.1)
    assert emptied(ex.outbox) == [(START, A), (INIT, A)]
    ex.cancel(queued, 0.1)
    assert (ex.n_waiting, ex.finished) == (0, [])
    assert ex.classify(START, A, 0.2) == Verdict.STRAY_ECHO
    assert ex.classify(STATUS, A, 0.2) == Verdict.DELIVER


def test_a_late_echo_does_not_mismatch_the_next_message_of_its_event():
    ex = exchange()
    ex.send(b'[2, "one", null]', A, None, 0.0, 1.0)
    ex.expire(1.0)
    ex.send(b'[2, "two", null]', A, None, 1.0, 1.0)
    assert ex.classify(b'[2, "one", null]', A, 1.1) == Verdict.STRAY_ECHO
    assert ex.classify(b'[2, "two", null]', A, 1.2) == Verdict.CONFIRMED


def test_an_echo_that_is_due_for_a_minute_is_forgotten():
    ex = exchange(memory_seconds=60.0)
    ex.send_unconfirmed(START, A, 0.0)
    assert ex.classify(START, A, 60.1) == Verdict.DELIVER


def test_unconfirmed_sends_are_swallowed_once_each_and_notices_never():
    ex = exchange()
    for frame in (START, START, b'[0, "text", 2]'):
        ex.send_unconfirmed(frame, A, 0.0)
    kinds = [ex.classify(frame, A, 0.1) for frame in (START, START, START, b'[0, "text", 2]')]
    assert kinds == [Verdict.STRAY_ECHO, Verdict.STRAY_ECHO, Verdict.DELIVER, Verdict.ERROR_NOTICE]


def test_a_message_of_another_event_crosses_and_anything_else_mismatches():
    ex = exchange()
    ex.send(START, A, None, 0.0, 1.0)
    assert ex.classify(STATUS, A, 0.1) == Verdict.DELIVER
    assert ex.classify(b'[0, "text", 2]', A, 0.1) == Verdict.ERROR_NOTICE
    for wrong in (b'[2, "other", null]', b'nonsense', b'{"a": 1}'):
        send = ex.newest_send(A) or ex.send(START, A, None, 0.0, 1.0)
        assert ex.classify(wrong, A, 0.1) == Verdict.MISMATCH
        assert (send.outcome, send.answer) == (Outcome.MISMATCH, wrong)


def test_a_truncated_echo_confirms_if_it_is_long_enough():
    long = b'[2, "' + b'x' * 1000 + b'"]'
    for length, kind in ((512, Verdict.CONFIRMED), (1000, Verdict.CONFIRMED), (511, Verdict.MISMATCH)):
        ex = exchange()
        send = ex.send(long, A, None, 0.0, 1.0)
        assert ex.classify(long[:length], A, 0.1) == kind
        assert send.truncated is (kind == Verdict.CONFIRMED)
    ex = exchange(max_size=100)
    ex.send(long, A, None, 0.0, 1.0)
    assert ex.classify(long[:100], A, 0.1) == Verdict.CONFIRMED


def test_refused_by_the_system():
    ex = exchange()
    never = ex.send(START, A, None, 0.0, 1.0)
    ex.on_refused(A, 0.1)
    assert never.outcome == Outcome.UNREACHABLE
    assert ex.classify(START, A, 0.2) == Verdict.DELIVER  # it never arrived, so no echo is due
    known = ex.send(INIT, A, None, 1.0, 1.0)
    ex.on_refused(A, 1.1)
    assert known.outcome == Outcome.WAITING  # it may be starting again
    ex.expire(2.0)
    assert known.outcome == Outcome.UNREACHABLE


def test_a_lost_connection_ends_its_sends_only():
    ex = exchange(stream=True)
    sends = [ex.send(START, A, None, 0.0, 1.0), ex.send(b'bare', A, None, 0.0, 1.0)]
    other = ex.send(START, B, None, 0.0, 1.0)
    ex.disconnect(A, 0.1)
    assert emptied(ex.finished) == sends
    assert {send.outcome for send in sends} == {Outcome.LOST}
    assert other.outcome == Outcome.WAITING
    ex.disconnect_all(0.2)
    assert (other.outcome, ex.n_waiting, ex.n_peers) == (Outcome.LOST, 0, 0)


def test_malformed_frames_that_keep_coming_back_are_dropped():
    ex = exchange(malformed_burst=4, burst_time=1.0)
    assert [ex.classify(b'foo', A, 0.1) for _ in range(6)] == [Verdict.DELIVER] * 4 + [
        Verdict.RATE_LIMITED,
        Verdict.DELIVER,
    ]
    assert [ex.classify(b'bar', A, 2 * i) for i in range(10)] == [Verdict.DELIVER] * 10
    ex = exchange(message_burst=64)
    assert [ex.classify(START, A, 0.01 * i) for i in range(66)] == [Verdict.DELIVER] * 64 + [
        Verdict.RATE_LIMITED,
        Verdict.DELIVER,
    ]
    ex = exchange(message_burst=64)  # also if two of them take turns
    kinds = [ex.classify(frame, A, 0.001 * i) for i in range(66) for frame in (START, b'foo', INIT)]
    assert kinds.count(Verdict.RATE_LIMITED) == 2 + 66 // 5
    assert ex.classify(b'', A, 0.0) == Verdict.IGNORED


def test_tables_stay_within_their_bounds():
    ex = exchange(max_peers=100, max_expected_echoes=8)
    busy = ex.send(START, ('busy', 1), None, 0.0, 1e9)
    for port in range(1000):
        ex.classify(STATUS, ('spoofed', port), float(port))
        assert ex.n_peers <= 100
    assert ex.newest_send(('busy', 1)) is busy
    frames = [b'[64, 20, %d]' % i for i in range(100)]
    for frame in frames:
        ex.send_unconfirmed(frame, A, 2000.0)
    kinds = [ex.classify(frame, A, 2000.0) for frame in frames]
    assert (
        kinds == [Verdict.DELIVER] * 92 + [Verdict.STRAY_ECHO] * 8
    )  # of the oldest it is not known any more that they are ours


def test_newest_and_waiting_for():
    ex = exchange()
    assert ex.newest_send(A) is None
    ex.send(START, A, None, 0.0, 1.0)
    newest = ex.send(INIT, A, None, 0.0, 1.0)
    assert ex.newest_send(A) is newest
    assert ex.waiting_peers() == [A]


@given(st.lists(st.binary(max_size=8), max_size=30), st.booleans())
def test_any_bytes_get_a_verdict(frames, stream):
    ex = exchange(stream=stream)
    for i, frame in enumerate(frames):
        if i % 3 == 0 and frame:
            ex.send(frame, A, None, float(i), 1.0)
        ex.classify(frame, A, float(i))
        ex.expire(float(i))
    ex.expire(1e6)
    assert ex.n_waiting == 0


class PlainPeerModel(RuleBasedStateMachine):
    """Sends to a peer that echoes everything, some of it late or never; nothing is confirmed without an echo."""

    def __init__(self) -> None:
        super().__init__()
        self.ex = exchange()
        self.now = 0.0
        self.echoes: list[bytes] = []  # on their way back, in order
        self.sent_out: list[int] = []
        self.ended: dict[int, int] = {}
        self.n = 0

    sends = Bundle('sends')

    def settle(self) -> None:
        for frame, _ in emptied(self.ex.outbox):
            self.sent_out.append(int(frame[4:-1]))
            self.echoes.append(frame)
        for send in emptied(self.ex.finished):
            assert send.future not in self.ended, 'ended twice'
            self.ended[send.future] = send.outcome

    @rule(target=sends, timeout=st.sampled_from([0.5, 1.0, 5.0]))
    def send(self, timeout):
        self.n += 1
        send = self.ex.send(b'[2, %d]' % self.n, A, self.n, self.now, timeout)
        self.settle()
        return send

    @rule()
    def echo_arrives(self):
        if self.echoes:
            frame = self.echoes.pop(0)
            waiting = self.ex.newest_send(A) is not None
            kind = self.ex.classify(frame, A, self.now)
            assert kind in (Verdict.CONFIRMED, Verdict.STRAY_ECHO), 'an echo was taken for a message'
            assert waiting or kind == Verdict.STRAY_ECHO
            self.settle()

    @rule()
    def echo_is_lost(self):
        if self.echoes:
            self.echoes.pop(0)

    @rule(code=st.sampled_from([b'[4, null]', b'[0, "x", 2]']))
    def message_crosses(self, code):
        assert self.ex.classify(code, A, self.now) == (Verdict.ERROR_NOTICE if code[1:2] == b'0' else Verdict.DELIVER)

    @rule(send=sends)
    def cancel(self, send):
        before = send.outcome
        self.ex.cancel(send, self.now)
        if before == Outcome.WAITING:
            self.ended[send.future] = Outcome.LOST
        self.settle()

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.ex.expire(self.now)
        self.settle()

    @invariant()
    def in_order_and_nothing_pending_for_ever(self):
        assert self.sent_out == sorted(self.sent_out)
        assert self.ex.n_waiting == self.n - len(self.ended)
        assert self.ex.alarm > self.now
        assert self.ex.n_waiting == 0 or self.ex.alarm < float('inf')


TestPlainPeerModel = PlainPeerModel.TestCase
