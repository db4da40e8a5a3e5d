"""The codec against `json`: what is written, what is read, what is told from the bytes alone, and the tags."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

from echorig.wire._codec import as_bytes, compare, decode, encode, peek
from echorig.wire._tags import is_damaged, is_echo, is_ping, read_answered, read_tag, set_ack, strip_tag, tag
from fuzz.reader import ByteReader

FLAG = 2**31
TAG, FIELD, SIGNED = 128, 64, 320  # bytes
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


def written(number: int) -> bytes:
    return f'{number:032b}'.replace('0', ' ').replace('1', '\t').encode()


def slow_crc(data: bytes) -> int:
    """Return the CRC-32C, bit by bit, by its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def slow_words(frame: bytes, n: int) -> list[int] | None:
    """Return the last words before the bracket, if they are blanks."""
    last = frame[-1 - 32 * n : -1]
    if len(frame) < 32 * n + 2 or frame[-1:] != b']' or last.strip(b' \t'):
        return None
    bits = last.replace(b' ', b'0').replace(b'\t', b'1')
    return [int(bits[at : at + 32], 2) for at in range(0, 32 * n, 32)]


def slow_check(body: bytes, first: int, number: int, life: int) -> int:
    return slow_crc(body + b''.join(word.to_bytes(4, 'big') for word in (first, number, life)))


def slow_answered(frame: bytes) -> int:
    before = slow_words(frame[: -1 - TAG] + b']', 2)
    if before is None or before[0] < FLAG:
        return -1
    return (before[0] - FLAG) << 32 | before[1]


def slow_stripped(frame: bytes) -> bytes:
    """Return a tagged frame without its signature, what it answers, and its tag, as far as it has them."""
    if frame[:1] == b'[' and not frame[1 : -1 - TAG].strip(b' \t'):
        return b'[]'
    if len(frame) > SIGNED + 1 and not frame[-1 - SIGNED : -1].strip(b' \t'):
        return frame[: -1 - SIGNED] + b']'
    return frame[: -1 - (TAG if slow_answered(frame) < 0 else TAG + FIELD)] + b']'


def check_any_frame(frame: bytes) -> None:
    """Check what is told of bytes that may have a tag."""
    words = slow_words(frame, 4)
    if words is None:
        assert read_tag(frame) is None
        assert strip_tag(frame) == frame
        assert read_answered(frame) >= -1
        is_ping(frame), is_echo(frame, frame), is_damaged(frame)
        return
    first, number, life, check = words
    intact = check == slow_check(frame[: -1 - TAG], first, number, life)
    assert read_tag(frame) == (first >= FLAG, first % FLAG, number, life)
    assert is_damaged(frame) == (not intact)
    assert read_answered(frame) == slow_answered(frame)
    assert strip_tag(frame) == slow_stripped(frame)
    assert is_ping(frame) == (frame[:1] == b'[' and not frame[1 : -1 - TAG].strip(b' \t'))
    echo = set_ack(frame)
    assert read_tag(echo) == (True, first % FLAG, number, life)
    assert is_damaged(echo) == (not intact)
    assert is_echo(frame, echo)


def check_tags(reader: ByteReader) -> None:
    number, answered, place, mask = reader.number(4), reader.number(4), reader.number(2), reader.byte()
    run, life = reader.number(4) % FLAG, reader.number(2)
    frame = b'[' + reader.rest() + b']'
    tagged = tag(frame, run, number, life)
    words = (run, number, life, slow_check(frame[:-1], run, number, life))
    assert tagged == frame[:-1] + b''.join(map(written, words)) + b']'
    check_any_frame(tagged)
    answer = tag(frame, run, number, life, run << 32 | answered)
    assert answer[: -1 - TAG] == frame[:-1] + written(run + FLAG) + written(answered)
    assert (read_tag(answer), read_answered(answer)) == ((False, run, number, life), run << 32 | answered)
    check_any_frame(answer)
    echo = bytearray(set_ack(tagged))
    place %= len(echo)
    echo[place] ^= mask
    assert is_echo(tagged, bytes(echo)) == (mask == 0)
    check_any_frame(bytes(echo))


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
