"""The codec against `json`: what is written, what is read, what is told from the bytes alone, and the tags."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

from echorig.wire._codec import as_bytes, compare, decode, encode, peek
from echorig.wire._tags import (
    add_tag,
    add_time,
    crc32c,
    is_damaged,
    is_echo,
    is_ping,
    is_same,
    make_ping,
    read_reply_number,
    read_tag,
    read_time,
    set_ack,
    strip_tag,
)
from fuzz import plain_tags
from fuzz.plain_tags import RUNS, SIZE, WORDS, Tag
from fuzz.reader import ByteReader

NOTHING = object()
DEEPEST = 8  # of the values made here; depth is tried by the texts


def one_input(data: bytes) -> None:
    reader = ByteReader(data)
    kind = reader.byte() % 4
    if kind == 0:
        check_text(reader.rest())
    elif kind == 1:
        check_value(value(reader, 0))
    elif kind == 2:
        check_tags(reader)
    else:
        check_compare(reader)


# --- texts ---


def check_text(text: bytes) -> None:
    """Check that a text is read as json reads it, or refused as it refuses it."""
    expected, possible = by_json(text)
    try:
        found = decode(text)
    except ValueError:
        assert expected is NOTHING, 'json reads it'
    else:
        assert expected is not NOTHING or possible, 'json does not read it'
        if expected is not NOTHING:
            assert repr(found) == repr(expected)
            check_value(found)
    check_peek(text, expected, possible)
    check_any_frame(text)


def by_json(text: bytes) -> tuple[Any, bool]:
    """Return what json reads, or that it reads nothing; and whether it could with a deeper stack or longer numbers."""
    try:
        return json.loads(text.decode('utf-8-sig')), False
    except RecursionError:
        return NOTHING, True
    except ValueError:
        return NOTHING, False


def check_peek(text: bytes, expected: Any, possible: bool) -> None:
    code = peek(text)
    assert -1 <= code < 10**9
    if possible or expected is NOTHING or text.startswith(b'\xef\xbb\xbf'):
        return
    if type(expected) is list and expected and type(expected[0]) is int and 0 <= expected[0] < 10**9:
        minus = text.lstrip(b' \t\r\n[').startswith(b'-')  # -0 is a number that is 0, but no code
        assert code == (-1 if minus else expected[0])
    else:
        assert code == -1


# --- values ---


def value(reader: ByteReader, depth: int) -> Any:
    """Make a value of the kinds that programs put into messages, and of some that nobody can write."""
    kind = reader.byte() % 16
    if kind >= 10 and depth < DEEPEST:
        n = reader.byte() % 6
        if kind < 13:
            return [value(reader, depth + 1) for _ in range(n)]
        if kind < 14:
            return tuple(value(reader, depth + 1) for _ in range(n))
        return {key(reader): value(reader, depth + 1) for _ in range(n)}
    if kind < 2:
        return reader.byte()
    if kind == 2:
        size = reader.byte() % 20
        return reader.number(size) - (reader.byte() & 1) * 256**size
    if kind == 3:
        return struct.unpack('>d', reader.take(8).ljust(8, b'\0'))[0]
    if kind == 4:
        return reader.pick((None, True, False))
    if kind == 5:
        return reader.pick((b'bytes', {1, 2}, object, Any))
    return text_of(reader)


def key(reader: ByteReader) -> Any:
    kind = reader.byte() % 8
    if kind == 0:
        return reader.byte()
    if kind == 1:
        return reader.pick((None, True, 2.5, (1, 2)))
    return text_of(reader)


def text_of(reader: ByteReader) -> str:
    kind, piece = reader.byte() % 4, reader.piece()
    if kind == 0:
        return piece.decode('utf-8', 'replace')
    if kind == 1:  # any two bytes are a character: lone surrogates, which json takes, are among them
        return ''.join(chr(256 * high + low) for high, low in zip(piece[::2], piece[1::2], strict=False))
    if kind == 2:
        return ''.join(
            chr(0x10000 + 256 * (high % 16) + low) for high, low in zip(piece[::2], piece[1::2], strict=False)
        )
    return piece.decode('latin-1')


def check_value(message: Any) -> None:
    """Check that a value is written as json writes it."""
    try:
        expected = json.dumps(message)
    except (TypeError, ValueError, RecursionError):
        with contextlib.suppress(TypeError, ValueError):
            encode(message)  # orjson may know it
        return
    written = encode(message)
    assert type(written) is bytes
    assert written.isascii()
    assert repr(json.loads(written)) == repr(json.loads(expected))
    assert repr(decode(written)) == repr(json.loads(expected))
    if not has_floats(message):
        assert written == expected.encode()
    if not isinstance(message, str):
        assert as_bytes(message) == written


def has_floats(message: Any) -> bool:
    if isinstance(message, (list, tuple)):
        return any(map(has_floats, message))
    if isinstance(message, dict):
        return any(map(has_floats, message)) or any(map(has_floats, message.values()))
    return isinstance(message, float)


# --- tags ---


def check_any_frame(frame: bytes) -> None:
    """Check what is told of bytes that may have a tag."""
    found = plain_tags.read(frame)
    assert read_tag(frame) == found
    assert is_damaged(frame) == plain_tags.is_damaged(frame)
    assert strip_tag(frame) == plain_tags.stripped(frame)
    assert read_reply_number(frame) == plain_tags.answered_by(frame)
    assert crc32c(frame) == crc32c(frame, True) == plain_tags.crc(frame)
    if found is not None:
        assert is_ping(frame) == plain_tags.is_ping(frame)
        assert read_time(frame) == plain_tags.time_of(frame)
        check_echo(frame, found)
    else:
        is_ping(frame), is_echo(frame, frame), is_same(frame, frame)


def check_echo(frame: bytes, found: Tag) -> None:
    """Check the echo of a tagged frame, whose check may be wrong."""
    echo = set_ack(frame)
    assert read_tag(echo) == found._replace(ack=True)
    assert is_damaged(echo) == is_damaged(frame)
    assert is_echo(frame, echo)
    assert is_same(frame, echo)
    assert set_ack(echo) == echo
    if not is_damaged(frame):
        assert echo == plain_tags.written(frame[: -1 - SIZE] + b']', found._replace(ack=True))


def check_tags(reader: ByteReader) -> None:
    run, number, life = reader.number(4) % RUNS, reader.number(4), reader.number(4)
    answered, place, mask = reader.number(8) % (RUNS * WORDS), reader.number(2), reader.byte()
    frame = b'[' + reader.rest() + b']'
    says = Tag(False, run, number, life)
    tagged = add_tag(frame, run, number, life)
    assert tagged == plain_tags.written(frame, says)
    assert not is_damaged(tagged)
    check_any_frame(tagged)
    answer = add_tag(frame, run, number, life, answered)
    assert answer == plain_tags.written(frame, says, answered)
    assert (read_tag(answer), read_reply_number(answer)) == (says, answered)
    check_any_frame(answer)
    assert make_ping(run, number) == plain_tags.written(b'[' + b' ' * 129 + b']', says._replace(life=0))
    assert make_ping(run, number, answered) == plain_tags.written(b'[]', says._replace(life=0), answered)
    timed = add_tag(add_time(frame, answered), run, number, life)
    assert timed == plain_tags.written(frame[:-1] + plain_tags.blanks(answered, 64) + b']', says)
    assert read_time(timed) == answered
    check_any_frame(timed)
    check_copies(tagged, add_tag(frame, run, number, life ^ answered % WORDS), life ^ answered % WORDS == life)
    check_changed(tagged, place, mask)


def check_copies(tagged: bytes, other: bytes, equal: bool) -> None:
    """Check that copies of one message are known as such whatever their life, and as echoes only with the same."""
    assert is_same(tagged, other)
    assert is_same(tagged, set_ack(other))
    assert is_echo(tagged, other) == is_echo(tagged, set_ack(other)) == equal


def check_changed(tagged: bytes, place: int, mask: int) -> None:
    """Check that an echo of which some bits of one byte were changed is not taken for one."""
    echo = bytearray(set_ack(tagged))
    place %= len(echo)
    echo[place] ^= mask
    changed = bytes(echo)
    if mask == 0:
        assert is_echo(tagged, changed)
    elif plain_tags.read(changed) is not None:
        assert is_damaged(changed)
        assert not is_echo(tagged, changed)
    elif place != len(echo) - 1 - SIZE:  # who looks at the flag has found a tag before
        assert not is_echo(tagged, changed)
    in_life_or_check = len(echo) - 1 - SIZE // 2 <= place < len(echo) - 1
    assert is_same(tagged, changed) == (mask == 0 or in_life_or_check or place in (len(echo) - 1, len(echo) - 1 - SIZE))
    check_any_frame(changed)


# --- echoes ---


def check_compare(reader: ByteReader) -> None:
    min_truncated, max_size, place, mask = reader.byte(), reader.byte(), reader.number(2), reader.byte()
    sent = reader.rest()
    received = bytearray(sent[: place % (len(sent) + 2)])
    if received:
        received[place % len(received)] ^= mask & -(mask & 1)  # every other time it stays as it is
    outcome = compare(sent, bytes(received), min_truncated, max_size)
    if not received or not sent.startswith(received):
        assert outcome == 0
    elif len(received) == len(sent):
        assert outcome == 1
    else:
        assert outcome == (2 if len(received) >= min_truncated or len(received) == max_size else 0)
