"""Signatures, between two programs and somebody who puts frames together as he likes.

Nothing raises, no table outgrows its bound, and what a program believes is what was signed for it: by the other one,
since it was started, with not one byte changed; and a message is delivered only once.
"""

from __future__ import annotations

from hashlib import blake2b

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Verdict
from echorig.security._signature import OVERHEAD
from echorig.security._signing import GENUINE, Signer
from echorig.tuning import InternalTuning
from echorig.wire._tags import add_tag
from fuzz import plain_tags
from fuzz.plain_tags import FIELD, RUNS, SIZE, WORDS, Tag
from fuzz.reader import ByteReader

KEY = b'the key of the laboratory'
STEPS = 200
MAX_PEERS = 4
NAMES = ('a', 'b')
CONTENT = (b'[2, "ref", null]', b'[]', b'[0, "no", 2]', b'[64, 20, "%s"]' % (b'x' * 100), b'[1 ]')
LIVES = (0, 0, 1, 20, 1200)


class Program:
    """One of the two, in one of its lives."""

    def __init__(self, name: str, lives: int, seed: int, number: int) -> None:
        self.name = name
        self.whose, self._drawn = f'{seed} {lives} {name}', 0
        # Two runs each: the second one when the numbers come to their end.
        self.run, self.number = (seed + 2 * (2 * lives + NAMES.index(name)) + RUNS - 3) % RUNS, number
        self.signer = Signer(KEY, max_peers=MAX_PEERS, lifetime=64, max_held=1000, idle=1e9, random=self._random)
        self.exchange = Exchange(InternalTuning(), False, 65535, self.run, number, signed=True)
        self.last: bytes | None = None  # what it has said
        # What may be believed: which life of which program has signed it and, where that is known, what it was.
        self.signed_for: dict[bytes, tuple[Program, bytes | None]] = {}
        self.said: set[tuple[bytes, Tag]] = set()  # what may leave later, when its life is another
        self.delivered: set[int] = set()  # messages

    def _random(self, n: int) -> bytes:
        self._drawn += 1
        return blake2b(f'{self.whose} {self._drawn}'.encode(), digest_size=n).digest()

    def say(self, content: bytes, step: int, life: int, answered: int) -> bytes:
        """Make the next message, or the same again."""
        if step or self.last is None:
            self.number += max(step, 1)
            if self.number >= WORDS:
                self.run, self.number = (self.run + 1) % RUNS, 1
            self.last = add_tag(content, self.run, self.number, life, answered)
        return self.last


def but_for_life(plain: bytes) -> tuple[bytes, Tag]:
    """Return what a tagged message says, and of its life only whether it ends."""
    says = plain_tags.read(plain)
    return plain[: -1 - SIZE], says._replace(life=bool(says.life))


def one_input(data: bytes) -> None:
    reader = ByteReader(data)
    Scene(reader, reader.byte()).play()


class Scene:
    """The two programs, what is on its way between them or was, and the clock."""

    def __init__(self, reader: ByteReader, seed: int) -> None:
        self.reader = reader
        self.seed = seed
        self.lives = 0
        self.programs = {name: Program(name, 0, seed, WORDS - 20) for name in NAMES}
        self.frames: list[tuple[bytes, str, str]] = []  # frame, from, to
        self.now = 0.0

    def play(self) -> None:
        for _ in range(STEPS):
            if not self.reader.left:
                break
            name = self.step()
            self.flush(name)
            assert max(self.programs[name].signer.sizes.values()) <= 2 * MAX_PEERS

    def step(self) -> str:
        """Let something happen to one of the programs; return its name."""
        reader = self.reader
        kind = reader.byte() % 10
        name = reader.pick(NAMES)
        other = 'ab'['ba'.index(name)]
        program = self.programs[name]
        if kind < 2:
            step, content, life = reader.pick((1, 1, 1, 0, 70, 1500)), reader.pick(CONTENT), reader.pick(LIVES)
            frame = program.say(content, step, life, 5 if reader.flag() else -1)
            self.sent(program.signer.seal(frame, other, self.now), name, other, frame)
        elif kind < 6 and self.frames:
            self.carry(kind)
        elif kind == 6:
            self.arrives(reader.piece(), other, name)
        elif kind == 7:
            self.now += reader.pick((0.0, 0.001, 0.03, 2.0))
        elif kind == 8:
            self.lives += 1
            number = 1 + (program.number + 0x12345678 * self.lives) % (WORDS - 1)  # a program begins anywhere
            self.programs[name] = Program(name, self.lives, self.seed, number)
        elif kind == 9:
            which = reader.byte() % 3
            if which == 0:
                program.signer.forget(other)
            elif program.last is not None:
                (program.signer.drop, program.signer.send_failed)[which - 1](program.last, other)
        return name

    def carry(self, kind: int) -> None:
        """Have something arrive that was sent: as it is, changed, or elsewhere."""
        reader = self.reader
        frame, src, dst = self.frames[-1 - reader.byte() % min(len(self.frames), 200)]
        if kind == 4:
            frame = self.changed(frame)
        elif kind == 5:
            src, dst = reader.pick(((dst, src), ('c', dst), (f'd{reader.byte()}', dst)))
        if dst in self.programs:
            self.arrives(frame, src, dst)

    def sent(self, frame: bytes | None, src: str, dst: str, plain: bytes | None = None) -> None:
        """Note what a program sends, and what it was before it was signed."""
        if plain is not None:
            self.programs[src].said.add(but_for_life(plain))
        if frame is None:
            return
        self.frames.append((frame, src, dst))
        if dst in self.programs:
            self.programs[dst].signed_for[frame] = self.programs[src], plain

    def flush(self, name: str) -> None:
        """Send what a signer wants to be sent."""
        signer = self.programs[name].signer
        for frame, addr in signer.outbox:
            self.sent(frame, name, addr)
        signer.outbox.clear()

    def arrives(self, frame: bytes, src: str, dst: str) -> None:
        program = self.programs[dst]
        plain = program.signer.open(frame, src, self.now)
        assert (plain is not None) == (program.signer.verdict == GENUINE)
        self.flush(dst)
        if plain is None:
            return
        # Who is in the middle can have it come from another address, as a network does that translates them.
        assert frame in program.signed_for, 'believes what was not signed for it'
        signer, said = program.signed_for[frame]
        as_said = but_for_life(plain) in signer.said if said is None else plain == said
        assert as_said, 'believes something else than what was said'
        assert len(frame) - len(plain) in (OVERHEAD - SIZE, OVERHEAD - SIZE - FIELD)
        assert plain_tags.read(plain) == plain_tags.read(frame)
        assert not plain_tags.is_damaged(plain)
        if not plain_tags.read(plain).ack:
            self.received(program, plain, src)

    def received(self, program: Program, plain: bytes, src: str) -> None:
        """Hand what is believed to the exchange, which knows what comes again."""
        verdict = program.exchange.classify(plain, src, self.now)
        assert verdict != Verdict.DAMAGED
        if verdict == Verdict.DELIVER:
            identity = plain_tags.identity(plain)
            assert identity not in program.delivered, 'accepts a message twice'
            program.delivered.add(identity)
        if verdict in (Verdict.DELIVER, Verdict.ECHO):
            reply = program.exchange.reply
            sealed = program.signer.seal(reply, src, self.now)
            assert sealed is not None, 'cannot confirm what it believes'
            self.sent(sealed, program.name, src, reply)

    def changed(self, frame: bytes) -> bytes:
        reader = self.reader
        last = len(frame) - 1 - reader.number(2) % min(len(frame), OVERHEAD + 2)
        place = reader.byte() % len(frame) if reader.flag() else last
        kind = reader.byte() % 4
        if kind == 0:
            return frame[:place] + bytes([reader.byte()]) + frame[place + 1 :]
        if kind == 1:
            return frame[:place] + bytes([frame[place] ^ 0x29]) + frame[place + 1 :]
        if kind == 2:
            return frame[:place] + reader.pick(self.frames)[0][place:]
        return frame[:place]
