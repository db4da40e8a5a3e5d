"""Two exchanges that talk over a bad network, or to somebody who sends anything: nothing escapes, every table keeps its
bound, a send ends once, and where nobody lies a message that is confirmed has been delivered, once.
"""

from __future__ import annotations

from echorig.delivery._exchange import (
    CONFIRMED,
    DAMAGED,
    DELIVER,
    DOUBTED,
    ECHO,
    EXPIRED,
    IGNORED,
    LOST,
    MISMATCH,
    NOTICE,
    REFUSED,
    STORM,
    SWALLOWED,
    TIMED_OUT,
    WAITING,
)
from echorig.wire._codec import encode
from fuzz.end import MAX_PEERS, End
from fuzz.reader import ByteReader
from tagging import acknowledged, identity, is_ping, read_tag, tag, tag_answer, untagged

VERDICTS = {IGNORED, CONFIRMED, DELIVER, NOTICE, SWALLOWED, MISMATCH, STORM, ECHO, REFUSED, DAMAGED, EXPIRED, DOUBTED}
STEPS = 120
TIMES = (0.0, 0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 70.0)
BODIES = ([2, 'ref', None], [1, None], [32, 20], [0, 'text', 2], [4], [128, 'u', {}], [2, 'x' * 100], [16, 'y' * 180])
RAW = (b'foo', b'[2, "ref", null]', b'{"a": 1}', b'', b'[', b' [1]', b'[0, 1]', b']', b'[2, "' + b'z' * 90 + b'"]')
STRANGERS = tuple(f'stranger {i}' for i in range(12))


def one_input(data: bytes) -> None:
    reader = ByteReader(data)
    honest = reader.flag()
    World(reader, honest, reader.flag()).run()


def _name(frame: bytes) -> object:
    """Return what a frame is known by."""
    return frame if read_tag(frame) < 0 else identity(frame)


class World:
    """Two ends, the wires between them, and the clock."""

    def __init__(self, reader: ByteReader, honest: bool, stream: bool) -> None:
        self.reader = reader
        self.honest = honest
        self.stream = stream
        self.now = 1.0
        # Numbers of their own: ends that happen to count alike may take a message for their own echo.
        self.ends = {'X': End('X', reader, 5, honest, stream), 'Y': End('Y', reader, 2**30, honest, stream)}

    def run(self) -> None:
        for _ in range(STEPS):
            if not self.reader.left:
                break
            self.step()
        for end in self.ends.values():
            self.settle(end)
            self.now += 1e6
            end.ex.expire(self.now)
            self.settle(end)
            assert end.ex.n_waiting == 0, 'something waits for ever'
            assert end.ex.waiting_for() == []
            end.ex.lose_all(self.now)
            assert (end.ex.n_peers, end.ex.outbox) == (0, [])
        if self.honest:
            self.check_honest()

    def step(self) -> None:
        reader = self.reader
        choice = reader.byte()
        end = self.ends['XY'[choice & 1]]
        kind = choice >> 1 & 15
        if kind < 3:
            self.send(end)
        elif kind == 3:
            self.ping(end)
        elif kind == 4:
            self.say(end)
        elif kind == 5:
            self.cancel(end)
        elif kind < 10:
            self.receive(end)
        elif kind == 10:
            self.disturb(end)
        elif kind == 11:
            self.now += reader.pick(TIMES)
            end.ex.expire(self.now)
        elif self.honest:
            end.ex.expire(self.now)
        elif kind < 14:
            self.inject(end)
        else:
            self.upset(end)
        self.settle(end)
        for one in self.ends.values():
            if one.ex.alarm < self.now:
                one.ex.expire(self.now)
                self.settle(one)

    # --- what programs do ---

    def frame(self, end: End) -> tuple[bytes, bool]:
        kind = self.reader.byte()
        if self.honest:  # texts, and equal bytes in both directions, cannot be told from echoes
            return encode([2 ** (kind % 7), end.name, 'x' * (kind >> 3)]), True
        if kind & 1:
            raw = self.reader.pick((*RAW, self.reader.piece()))
            return raw, False
        return encode(BODIES[(kind >> 1) % len(BODIES)]), True

    def addr(self, end: End) -> str:
        choice = self.reader.byte()
        if self.honest or choice < 200:
            return 'Y' if end.name == 'X' else 'X'
        return STRANGERS[choice % len(STRANGERS)]

    def contact(self, end: End) -> str:
        addr = self.addr(end)
        end.contacts.add(addr)
        return addr

    def send(self, end: End) -> None:
        frame, taggable = self.frame(end)
        if frame:
            timeout = self.reader.pick((1.0, 0.05, 5.0, 1e5))
            answered = -1 if self.honest else self.reader.pick((-1, 0, 7, 2**63 - 1))
            args = frame, self.contact(end), len(end.sends), self.now, timeout, taggable, answered
            end.sends.append(end.ex.send(*args))

    def ping(self, end: End) -> None:
        end.sends.append(end.ex.ping(self.contact(end), len(end.sends), self.now, self.reader.pick((1.0, 0.05))))

    def say(self, end: End) -> None:
        frame, taggable = self.frame(end)
        addr = self.contact(end)
        out = end.ex.sent(frame, addr, self.now, taggable)
        if out is None:  # it comes later
            return
        assert untagged(out) == untagged(frame)
        if addr in self.ends:
            self.ends[addr].wire.append((out, end.name))

    def cancel(self, end: End) -> None:
        if end.sends:
            send = end.sends[self.reader.byte() % len(end.sends)]
            was_waiting = send.outcome == WAITING
            end.ex.cancel(send, self.now)
            if was_waiting:
                end.cancelled.add(send.waiter)

    # --- the network ---

    def settle(self, end: End) -> None:
        while out := end.check():
            for frame, addr in out:
                if addr in self.ends:
                    self.ends[addr].wire.append((frame, end.name))
        assert len(end.wire) < 5000, 'a storm'

    def receive(self, end: End) -> None:
        if end.wire:
            place = 0 if self.stream else self.reader.byte() % len(end.wire)
            self.take(end, *end.wire.pop(place))

    def disturb(self, end: End) -> None:
        """Lose, double or hold up a frame; on a stream nothing is."""
        if end.wire and not self.stream:
            what = self.reader.byte() % 3
            frame = end.wire.pop(0)
            end.wire.extend([frame] * what)

    def take(self, end: End, frame: bytes, source: str) -> None:
        before = [send.outcome for send in end.sends]
        room = max(end.ex.n_peers, MAX_PEERS)
        verdict = end.ex.receive(frame, source, self.now)
        assert verdict in VERDICTS
        assert self.stream or end.ex.n_peers <= room, 'strangers make a table grow'
        ended = [send for send, outcome in zip(end.sends, before, strict=True) if send.outcome != outcome]
        assert len(ended) == (verdict in (CONFIRMED, MISMATCH))
        assert all(send.outcome == verdict and (send.addr == source or not self.honest) for send in ended)
        if verdict in (DELIVER, ECHO) and end.ex.reply is not None:
            reply = end.ex.reply
            assert untagged(reply) == untagged(frame)
            assert len(reply) == len(frame)
            if source in self.ends:
                self.ends[source].wire.append((reply, end.name))
        if verdict == DELIVER:
            assert not is_ping(frame) or read_tag(frame) < 0 or not end.tuning.tags
            end.delivered.append(_name(frame))

    # --- what only an enemy does, and the system ---

    def inject(self, end: End) -> None:
        reader = self.reader
        kind = reader.byte() % 8
        frames = [send.frame for send in end.sends] or [b'[1]']
        known = frames[-1 - reader.byte() % len(frames)]
        if kind == 0:
            frame = reader.piece()
        elif kind == 1:
            frame = tag(encode(reader.pick(BODIES)), reader.number(1))
        elif kind == 2:
            frame = tag_answer(encode(reader.pick(BODIES)), reader.number(4), reader.number(1))
        elif kind == 3:
            frame = known
        elif kind == 4:
            frame = acknowledged(known) if len(known) >= 130 else known
        elif kind == 5:
            frame = known[: reader.byte()]
        elif kind == 6:
            damaged = bytearray(known)
            damaged[reader.byte() % len(damaged)] ^= reader.byte()
            frame = bytes(damaged)
        else:
            frame = acknowledged(tag(b'[]', reader.number(1)))
        self.take(end, frame, self.addr(end))

    def upset(self, end: End) -> None:
        kind = self.reader.byte() % 6
        addr = self.contact(end)
        if kind == 0:
            end.ex.refused(addr, self.now)
        elif kind == 1:
            end.ex.lost(addr, self.now)
        elif kind == 2:
            end.ex.refuse(self.reader.byte())
        elif kind == 3:
            end.ex.malformed(addr, self.now)
        elif kind == 4:
            end.ex.set_max_size(1 + self.reader.number(2))
        else:
            for addr in (*end.ex.addresses(), 'nobody'):
                end.ex.statistics(addr), end.ex.newest(addr), end.ex.is_waiting(addr), end.ex.place(addr)

    # --- the end ---

    def check_honest(self) -> None:
        """Check that what was confirmed was delivered, once, however old it was."""
        for end, other in (('X', 'Y'), ('Y', 'X')):
            delivered = self.ends[other].delivered
            assert len(set(delivered)) == len(delivered), 'delivered twice'
            for send in self.ends[end].sends:
                assert send.outcome != CONFIRMED or is_ping(send.frame) or _name(send.frame) in delivered, (
                    'never delivered'
                )
                assert send.outcome in (CONFIRMED, TIMED_OUT, LOST), 'nobody lied'
