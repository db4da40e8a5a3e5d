"""Delivery tags in the plainest way, by their definition: what the targets compare the compiled ones with."""

from __future__ import annotations

from typing import NamedTuple

SIZE = 128  # bytes of a tag,
FIELD = 64  # of what a message answers, before it,
SIGNED = 320  # and of both and a signature,
HELLO = 450  # and of a message that begins a session with one who has a key
RUNS, WORDS = 2**31, 2**32
POLYNOMIAL = 0x82F63B78


class Tag(NamedTuple):
    """What a tag says."""

    ack: bool
    run: int
    number: int
    life: int


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


TABLE = [_entry(byte) for byte in range(256)]


def crc(data: bytes) -> int:
    """Return the CRC-32C, one byte at a time."""
    value = WORDS - 1
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 255]
    return value ^ (WORDS - 1)


def blanks(value: int, n: int) -> bytes:
    """Return a number as white space."""
    return f'{value:0{n}b}'.replace('0', ' ').replace('1', '\t').encode()


def number_of(space: bytes) -> int:
    """Return the number that is written as white space."""
    return int(space.replace(b' ', b'0').replace(b'\t', b'1'), 2)


def check_of(body: bytes, tag: Tag) -> int:
    """Return the check of a tag that stands behind some bytes."""
    words = tag.ack * RUNS + tag.run, tag.number, tag.life
    return crc(body + b''.join(word.to_bytes(4, 'big') for word in words))


def written(frame: bytes, tag: Tag, answered: int = -1) -> bytes:
    """Return a message with a tag."""
    body = frame[:-1] + (b'\t' + blanks(answered, 63) if answered >= 0 else b'')
    words = tag.ack * RUNS + tag.run, tag.number, tag.life, check_of(body, tag)
    return body + b''.join(blanks(word, 32) for word in words) + b']'


def read(frame: bytes) -> Tag | None:
    """Return the tag of a frame, whether its check is right or not."""
    last = frame[-1 - SIZE : -1]
    if len(frame) < SIZE + 2 or frame[-1:] != b']' or last.strip(b' \t'):
        return None
    run, number, life = (number_of(last[at : at + 32]) for at in (0, 32, 64))
    return Tag(run >= RUNS, run % RUNS, number, life)


def answered_by(frame: bytes) -> int:
    """Return which message a tagged one answers, -1 for none."""
    field = frame[-1 - SIZE - FIELD : -1 - SIZE]
    if len(frame) < SIZE + FIELD + 2 or field[:1] != b'\t' or field.strip(b' \t'):
        return -1
    return number_of(field) - 2**63


def time_of(frame: bytes) -> int:
    """Return the time in a tagged message, 0 for none."""
    end = len(frame) - 1 - SIZE - (FIELD if frame[-1 - SIZE - FIELD : -SIZE - FIELD] == b'\t' else 0)
    field = frame[max(0, end - FIELD) : max(0, end)]
    if end - FIELD < 1 or field[:1] != b' ' or field.strip(b' \t'):
        return 0
    return number_of(field)


def is_damaged(frame: bytes) -> bool:
    """Tell whether a tag was damaged, or its check is wrong."""
    tag = read(frame)
    if tag is not None:
        return number_of(frame[-33:-1]) != check_of(frame[: -1 - SIZE], tag)
    if len(frame) < SIZE + 2 or frame[:1] != b'[' or frame[-2:-1] == b'"':
        return False
    return sum(byte in b' \t' for byte in frame[-1 - SIZE : -1]) >= 112


def is_ping(frame: bytes) -> bool:
    """Tell whether a tagged frame is an empty array."""
    return frame[:1] == b'[' and not frame[1 : -1 - SIZE].strip(b' \t')


def is_hello(frame: bytes) -> bool:
    """Tell whether a tagged frame, whose check is wrong, begins a session."""
    return len(frame) == HELLO and is_ping(frame)


def stripped(frame: bytes) -> bytes:
    """Return a frame without its tag and what belongs to it."""
    if read(frame) is None:
        return frame
    if is_ping(frame):
        return b'[]'
    size = SIZE + FIELD * ((answered_by(frame) >= 0) + (time_of(frame) > 0))
    if len(frame) > SIGNED + 1 and not frame[-1 - SIGNED : -1].strip(b' \t'):
        size = SIGNED
    return frame[: -1 - size] + b']'


def identity(frame: bytes) -> int:
    """Return the run of a tagged frame, times 2**32, plus its number; -1 without a tag."""
    tag = read(frame)
    return -1 if tag is None else tag.run * WORDS + tag.number
