"""The delivery tag, written down anew from docs/protocol.md: nothing here calls the code under test."""

from __future__ import annotations

from functools import lru_cache, partial
from struct import Struct
from typing import NamedTuple

TAG, FIELD = 128, 64  # bytes of white space
_BITS = b'?' * 9 + b'1' + b'?' * 22 + b'0' + b'?' * 223  # of tabs and spaces; nothing else is a bit
_BLANKS = bytes.maketrans(b'01', b' \t')
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
_WORDS, _CHECKED_WORDS = Struct('>4I'), Struct('>3I')


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = [_entry(value) for value in range(256)]


class Tag(NamedTuple):
    """What stands in the white space."""

    flag: bool
    run: int
    number: int
    life: int  # milliseconds; 0 is no limit
    check: int
    identity: tuple[int, int]  # the run and the number


_make_tag = partial(tuple.__new__, Tag)  # quicker than `Tag`


def _shifted(value: int, data: bytes) -> int:
    table = _TABLE
    for byte in data:
        value = value >> 8 ^ table[value & 255 ^ byte]
    return value


@lru_cache(256)  # a message and its echo are the same up to the tag
def _before_tag(data: bytes) -> int:
    return _shifted(0xFFFFFFFF, data)


def has_tag(frame: bytes) -> bool:
    """Tell whether there are 128 spaces or tabs before the final bracket."""
    return read(frame) is not None


@lru_cache(256)  # the sender, the receiver and who looks on all read the same frame
def read(frame: bytes) -> Tag | None:
    """Read a tag; None if there is none."""
    if len(frame) < TAG + 2 or frame[-1:] != b']':
        return None
    try:
        value = int(frame[-TAG - 1 : -1].translate(_BITS), 2)
    except ValueError:
        return None
    first, number, life, check = _WORDS.unpack(value.to_bytes(16, 'big'))
    run = first & 0x7FFFFFFF
    return _make_tag((first > run, run, number, life, check, (run, number)))


def check(before: bytes, flag: bool, run: int, number: int, life: int) -> int:
    """Return the check of a tag that follows some bytes: the checksum of RFC 3720, appendix B.4."""
    words = _CHECKED_WORDS.pack(flag << 31 | run, number, life)
    return _shifted(_before_tag(before), words) ^ 0xFFFFFFFF


# The check is linear: the flag changes the same bits of it in every message.
_FLAGGED = check(b'', True, 0, 0, 0) ^ check(b'', False, 0, 0, 0)


def is_right(frame: bytes, tag: Tag) -> bool:
    """Tell whether the check of a tag fits."""
    return tag.check == check(frame[: -TAG - 1], tag.flag, tag.run, tag.number, tag.life)


def looks_damaged(frame: bytes) -> bool:
    """Tell whether a frame had a tag and is not what was sent."""
    tag = read(frame)
    if tag is not None:
        return not is_right(frame, tag)
    part = frame[-TAG - 1 : -1]
    return frame[:1] == b'[' and len(frame) >= TAG + 2 and part.count(b' ') + part.count(b'\t') >= 112


def written(before: bytes, run: int, number: int, life: int, flag: bool = False) -> bytes:
    """Put a tag and a bracket behind some bytes."""
    value = flag << 127 | run << 96 | number << 64 | life << 32 | check(before, flag, run, number, life)
    return before + f'{value:0128b}'.encode().translate(_BLANKS) + b']'


def is_echo(frame: bytes, of: bytes) -> bool:
    """Tell whether a frame is what `echoed` makes of one whose check is right."""
    tag, echo = read(of), read(frame)
    assert tag is not None
    return (
        echo is not None
        and echo.flag
        and not tag.flag
        and echo.identity == tag.identity
        and echo.life == tag.life
        and echo.check == tag.check ^ _FLAGGED
        and frame[: -TAG - 1] == of[: -TAG - 1]
    )


def echoed(frame: bytes) -> bytes:
    """Set the ACK flag."""
    tag = read(frame)
    assert tag is not None
    return written(frame[: -TAG - 1], tag.run, tag.number, tag.life, True)


def named(frame: bytes) -> tuple[int, int] | None:
    """Return which message the field before the tag names, as run and number; None if there is no such field."""
    if len(frame) < TAG + FIELD + 2:
        return None
    field = frame[-TAG - FIELD - 1 : -TAG - 1]
    if field[:1] != b'\t' or field.strip(b' \t'):
        return None
    value = int(field.translate(_BITS), 2)
    return value >> 32 & 0x7FFFFFFF, value & 0xFFFFFFFF


def field(run: int, number: int) -> bytes:
    """Write the field that names a message."""
    return f'{1 << 63 | run << 32 | number:064b}'.encode().translate(_BLANKS)


def bare(frame: bytes) -> bytes:
    """Return a message without its tag and without the field before it."""
    if read(frame) is None:
        return frame
    return frame[: -TAG - 1 - (0 if named(frame) is None else FIELD)] + b']'


def is_ping(frame: bytes) -> bool:
    """Tell whether it is a tagged array of nothing but white space."""
    return frame[:1] == b'[' and not frame[1 : -TAG - 1].strip(b' \t') and has_tag(frame)
