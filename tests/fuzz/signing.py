"""Signatures, between two programs and somebody who puts frames together as he likes.

Nothing raises, no table outgrows its bound, and what a program believes is what was signed for it: by the other one,
since it was started, with not one byte changed. That a message counts once is a matter of its run and number, which are
signed, and so of the exchange.
"""

from __future__ import annotations

from hashlib import blake2b

from echorig.security._signature import OVERHEAD
from echorig.security._signing import Signer
from echorig.wire._tags import read_tag, set_ack, tag
from fuzz.reader import ByteReader

KEY = b'the key of the laboratory'
STEPS = 200
MAX_PEERS = 4
NAMES = ('a', 'b')
CONTENT = (b'[2, "ref", null]', b'[]', b'[0, "no", 2]', b'[64, 20, "%s"]' % (b'x' * 100), b'[1 ]')


class Program:
    """One of the two, in one of its lives."""

    def __init__(self, name: str, lives: int, seed: int) -> None:
        self.name = name
        self.whose, self._drawn = f'{seed} {lives} {name}', 0
        self.signer = Signer(KEY, max_peers=MAX_PEERS, lifetime=64, max_held=1000, idle=1e9, random=self._random)
        self.signed_for: dict[bytes, str] = {}  # what may be believed, and which life of which program has signed it
        self.run = int.from_bytes(self._random(4), 'big') % 2**31

    def _random(self, n: int) -> bytes:
        self._drawn += 1
        return blake2b(f'{self.whose} {self._drawn}'.encode(), digest_size=n).digest()


def one_input(data: bytes) -> None:
    reader = ByteReader(data)
    seed = reader.byte()
    lives = 0
    programs = {name: Program(name, 0, seed) for name in NAMES}
    frames: list[tuple[bytes, str, str]] = []  # what is on its way or was: (frame, from, to)
    now = 0.0
    number = dict.fromkeys(NAMES, 1)
    last: dict[str, bytes] = {}
    for _ in range(STEPS):
        if not reader.left:
            break
        kind = reader.byte() % 10
        name = reader.pick(NAMES)
        other = 'ab'['ba'.index(name)]
        program = programs[name]
        if kind < 2:
            step = reader.pick((1, 1, 1, 0, 70, 1500))
            if step or name not in last:  # else the same message again
                number[name] += step
                last[name] = tag(reader.pick(CONTENT), program.run, number[name], 0, 5 if reader.flag() else -1)
            sealed = program.signer.seal(last[name], other, now)
            if sealed is not None:
                _sent(programs, frames, sealed, name, other)
        elif kind < 6 and frames:
            frame, src, dst = frames[-1 - reader.byte() % min(len(frames), 200)]
            if kind == 4:
                frame = _changed(reader, frame, frames)
            elif kind == 5:
                src, dst = reader.pick(((dst, src), ('c', dst), (f'd{reader.byte()}', dst)))
            if dst in programs:
                _arrives(programs, frames, frame, src, dst, now)
        elif kind == 6:
            _arrives(programs, frames, reader.piece(), other, name, now)
        elif kind == 7:
            now += reader.pick((0.0, 0.001, 0.03, 2.0))
        elif kind == 8:
            lives += 1
            programs[name] = Program(name, lives, seed)
            number[name] = 1
            last.pop(name, None)
        else:
            which = reader.byte() % 3
            if which == 0:
                program.signer.forget(other)
            elif name in last:
                (program.signer.drop, program.signer.failed)[which - 1](last[name], other)
        for addr_frame, addr in program.signer.outbox:
            _sent(programs, frames, addr_frame, name, addr)
        program.signer.outbox.clear()
        assert max(program.signer.sizes.values()) <= 2 * MAX_PEERS


def _sent(programs: dict[str, Program], frames: list, frame: bytes, src: str, dst: str) -> None:
    frames.append((frame, src, dst))
    if dst in programs:
        programs[dst].signed_for[frame] = programs[src].whose


def _arrives(programs: dict[str, Program], frames: list, frame: bytes, src: str, dst: str, now: float) -> None:
    program = programs[dst]
    plain = program.signer.open(frame, src, now)
    for out, addr in program.signer.outbox:
        _sent(programs, frames, out, dst, addr)
    program.signer.outbox.clear()
    if plain is None:
        return
    # Who is in the middle can have it come from another address, as a network does that translates them.
    assert frame in program.signed_for, 'believes what was not signed for it'
    assert len(frame) - len(plain) in (OVERHEAD - 128, OVERHEAD - 192)
    assert read_tag(plain) == read_tag(frame)
    ack, run, *_ = read_tag(plain)
    if ack:
        return
    assert program.signed_for[frame] in [other.whose for other in programs.values() if other.run == run] or run not in [
        other.run for other in programs.values()
    ], 'takes it for a message of another program'
    reply = program.signer.seal(set_ack(plain), src, now)
    assert reply is not None
    _sent(programs, frames, reply, dst, src)


def _changed(reader: ByteReader, frame: bytes, frames: list) -> bytes:
    place = reader.byte() % len(frame) if reader.flag() else len(frame) - 1 - reader.byte() % min(len(frame), 322)
    kind = reader.byte() % 4
    if kind == 0:
        return frame[:place] + bytes([reader.byte()]) + frame[place + 1 :]
    if kind == 1:
        return frame[:place] + bytes([frame[place] ^ 0x29]) + frame[place + 1 :]
    if kind == 2:
        return frame[:place] + reader.pick(frames)[0][place:]
    return frame[:place]
