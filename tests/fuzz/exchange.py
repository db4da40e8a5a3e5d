"""Two exchanges that talk over a bad network, or to somebody who sends anything: nothing escapes, every table keeps its
bound, a send ends once, what a tag says is what its frame is taken for, and where nobody lies a message that is
confirmed has been delivered, once, and while somebody waited for it.
"""

from __future__ import annotations

from echorig.delivery.verdicts import Outcome, Verdict
from echorig.wire._codec import encode
from echorig.wire._tags import add_tag, make_ping, set_ack
from fuzz import plain_tags
from fuzz.end import MAX_FRAME, MAX_PEERS, End
from fuzz.plain_tags import HELLO, RUNS, WORDS
from fuzz.reader import ByteReader

STEPS = 120
TIMES = (0.0, 0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 70.0)
BODIES = ([2, 'ref', None], [1, None], [32, 20], [0, 'text', 2], [4], [128, 'u', {}], [2, 'x' * 400], [16, 'y' * 500])
RAW = (b'foo', b'[2, "ref", null]', b'{"a": 1}', b'', b'[', b' [1]', b'[0, 1]', b']', b'[2, "' + b'z' * 90 + b'"]')
STRANGERS = tuple(f'stranger {i}' for i in range(12))
X_RUN, Y_RUN = 5, 2**30
INJECTED_RUNS = (77, 0, RUNS - 1, X_RUN, Y_RUN, X_RUN + 1)
LIVES = (0, 1, 1000, WORDS - 1)
TIMEOUTS = (1.0, 0.05, 5.0, 1e5)
TRUSTED = 0.11  # seconds for which it is believed that a message is wanted, and what the milliseconds of its life lose


def one_input(data: bytes) -> None:
    reader = ByteReader(data)
    honest = reader.flag()
    World(reader, honest, reader.flag()).run()


class World:
    """Two ends, the wires between them, and the clock."""

    def __init__(self, reader: ByteReader, honest: bool, stream: bool) -> None:
        self.reader = reader
        self.honest = honest
        self.stream = stream
        self.now = 1.0
        self.ends = {'X': End('X', reader, X_RUN, honest, stream), 'Y': End('Y', reader, Y_RUN, honest, stream)}
        # Where what is on its way is: on the network, or in the socket of who does not read it.
        self.unread = reader.flag()

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
            assert end.ex.waiting_peers() == []
            assert end.ex.n_deferred == 0, 'a message is held for ever'
            end.ex.disconnect_all(self.now)
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
            return encode([2 ** (kind % 7), end.name, 'x' * 12 * (kind >> 3)]), True
        if kind & 1:
            raw = self.reader.pick((*RAW, self.reader.piece()[:MAX_FRAME]))
            end.raw.add(raw)
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
            choice = self.reader.byte()
            timeout, asks = TIMEOUTS[choice % len(TIMEOUTS)], bool(choice & 64)
            args = frame, self.contact(end), len(end.sends), self.now, timeout, taggable, self.answered(end), asks
            end.sends.append(end.ex.send(*args))
            if asks:
                end.asking.append(end.sends[-1])

    def answered(self, end: End) -> int:
        """Choose what a message of an end answers."""
        if self.honest:
            return -1
        received = [plain_tags.identity(frame) for frame, _ in end.delivered[-1:]]
        return self.reader.pick((-1, 0, 7 * WORDS + 7, RUNS * WORDS - 1, *received))

    def ping(self, end: End) -> None:
        end.sends.append(end.ex.ping(self.contact(end), len(end.sends), self.now, self.reader.pick((1.0, 0.05))))

    def say(self, end: End) -> None:
        frame, taggable = self.frame(end)
        addr = self.contact(end)
        if not frame:
            return
        out = end.ex.send_unconfirmed(frame, addr, self.now, taggable, self.answered(end))
        if out is not None:
            assert plain_tags.stripped(out) == plain_tags.stripped(frame)
            self.put(end, out, end.ex.current_addr(addr))

    def cancel(self, end: End) -> None:
        if end.sends:
            send = end.sends[self.reader.byte() % len(end.sends)]
            was_waiting = send.outcome == Outcome.WAITING
            end.ex.cancel(send, self.now)
            if send in end.asking:
                send.forget_answer()
                end.asking.remove(send)
            if was_waiting:
                end.cancelled.add(send.future)

    # --- the network ---

    def put(self, end: End, frame: bytes, addr: object) -> None:
        """Send a frame of an end."""
        if addr in self.ends:
            self.ends[addr].wire.append((frame, end.name, self.now))

    def settle(self, end: End) -> None:
        while out := end.check():
            for frame, addr in out:
                self.put(end, frame, addr)
        assert len(end.wire) < 5000, 'a storm'

    def receive(self, end: End) -> None:
        if end.wire:
            place = 0 if self.stream else self.reader.byte() % len(end.wire)
            frame, source, since = end.wire.pop(place)
            self.take(end, frame, source, self.waited(since), self.reader.flag())

    def waited(self, since: float) -> float:
        """Tell for how long a frame lay where it was not read."""
        if self.honest:
            return self.now - since if self.unread else 0.0
        return self.reader.pick((0.0, 0.0, 0.05, 3.0, -1.0))

    def disturb(self, end: End) -> None:
        """Lose, double or hold up a frame; on a stream nothing is."""
        if end.wire and not self.stream:
            what = self.reader.byte() % 3
            frame = end.wire.pop(0)
            end.wire.extend([frame] * what)

    def take(self, end: End, frame: bytes, source: str, waited: float, sure: bool) -> None:
        self.take_one(end, frame, source, waited, sure)
        while (wanted := end.ex.next_verified(self.now)) is not None:
            self.take_one(end, *wanted, -1.0, True)

    def take_one(self, end: End, frame: bytes, source: str, waited: float, sure: bool) -> None:
        before = [send.outcome for send in end.sends]
        room, turned_away = max(end.ex.n_peers, MAX_PEERS), end.ex.n_turned_away
        says = plain_tags.read(frame)
        own = says is not None and end.is_own(says.run)
        verdict = end.ex.classify(frame, source, self.now, waited, sure)
        assert verdict in set(Verdict)
        assert self.stream or end.ex.n_peers <= room, 'strangers make a table grow'
        if end.ex.n_turned_away > turned_away:
            assert verdict == Verdict.IGNORED
            return
        end.check_verdict(frame, verdict, waited, sure, own)
        ended = [send for send, outcome in zip(end.sends, before, strict=True) if send.outcome != outcome]
        assert len(ended) == (verdict in (Verdict.CONFIRMED, Verdict.MISMATCH))
        assert all(Outcome(send.outcome).name == Verdict(verdict).name for send in ended)
        # Without a tag it may be the late echo of a program that was there before another one.
        elsewhere = says is None and not self.honest
        assert all(send.addr == end.ex.current_addr(source) or elsewhere for send in ended)
        if verdict in (Verdict.DELIVER, Verdict.ECHO) and end.ex.reply is not None:  # else it comes later
            reply = end.ex.reply
            assert plain_tags.stripped(reply) == plain_tags.stripped(frame)
            assert len(reply) == len(frame)
            self.put(end, reply, source)
        if verdict == Verdict.DELIVER:
            end.delivered.append((frame, self.now))

    # --- what only an enemy does, and the system ---

    def inject(self, end: End) -> None:
        reader = self.reader
        kind = reader.byte() % 8
        frames = [send.frame for send in end.sends] or [b'[1]']
        known = frames[-1 - reader.byte() % len(frames)]
        if kind == 0:
            frame = reader.piece()[:MAX_FRAME]
        elif kind == 1:
            frame = add_tag(encode(reader.pick(BODIES[:6])), *self.tag_values())
        elif kind == 2:
            frame = add_tag(encode(reader.pick(BODIES[:6])), *self.tag_values(), self.question(known))
        elif kind == 3:
            frame = known
        elif kind == 4:
            frame = set_ack(known) if plain_tags.read(known) else known
        elif kind == 5:
            frame = known[: reader.byte()]
        elif kind == 6:
            damaged = bytearray(known)
            damaged[-1 - reader.number(2) % len(damaged)] ^= reader.byte()
            frame = bytes(damaged)
        else:
            run, number, life = self.tag_values()
            if life == 1:  # of which pings have none
                frame = b'[' + plain_tags.blanks(number * RUNS + run, HELLO - 2) + b']'
            else:
                frame = make_ping(run, number, self.question(known) if reader.flag() else -1)
            frame = set_ack(frame) if reader.flag() else frame
        self.take(end, frame, self.addr(end), self.waited(self.now), reader.flag())

    def tag_values(self) -> tuple[int, int, int]:
        """Make what a tag says: a run, a number and a life."""
        reader = self.reader
        number = reader.pick((0, 1000, 2**31, WORDS - 300)) + reader.byte()
        return reader.pick(INJECTED_RUNS), number, reader.pick(LIVES)

    def question(self, known: bytes) -> int:
        """Choose a message that a frame names."""
        return self.reader.pick((max(plain_tags.identity(known), 0), 0, 77 * WORDS, RUNS * WORDS - 1))

    def upset(self, end: End) -> None:
        kind = self.reader.byte() % 6
        addr = self.contact(end)
        if kind == 0:
            end.ex.on_refused(addr, self.now)
        elif kind == 1:
            end.ex.disconnect(addr, self.now)
        elif kind == 2:
            end.refusing = self.reader.byte()
            end.ex.refuse_events(end.refusing)
        elif kind == 3:
            end.ex.count_malformed(addr, self.now)
        elif kind == 4:
            end.ex.set_max_size(1 + self.reader.number(2))
        else:
            for addr in (*end.ex.addresses(), 'nobody'):
                end.ex.statistics(addr), end.ex.newest_send(addr), end.ex.is_waiting(addr), end.ex.current_addr(addr)

    # --- the end ---

    def check_honest(self) -> None:
        """Check that what was confirmed was delivered, once, and nothing that its sender had given up."""
        for end, other in (('X', 'Y'), ('Y', 'X')):
            delivered = {plain_tags.identity(frame): when for frame, when in self.ends[other].delivered}
            assert -1 not in delivered
            assert len(delivered) == len(self.ends[other].delivered), 'delivered twice'
            for send in self.ends[end].sends:
                assert send.outcome in (Outcome.CONFIRMED, Outcome.TIMED_OUT, Outcome.LOST), 'nobody lied'
                if plain_tags.read(send.frame) is None or plain_tags.is_ping(send.frame):
                    continue  # never sent, or nothing to deliver
                when = delivered.get(plain_tags.identity(send.frame))
                assert send.outcome != Outcome.CONFIRMED or when is not None, 'never delivered'
                assert not self.unread or when is None or when < send.deadline + TRUSTED, 'delivered after its time'
