"""The tag functions of the codec, against what wire.md says of a tag in a few lines of Python."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echorig._codec import encode
from tagging import acknowledged, is_echo, is_ping, read_tag, tag, untagged

ACK = 2**31
numbers = st.integers(0, ACK - 1)
blank = st.text(' \t\n\r', max_size=80).map(str.encode)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=10,
)
messages = st.lists(values, max_size=5).map(encode)


def written(value: int) -> bytes:
    """The 32 bytes of a tag, by the definition."""
    return f'{value:032b}'.replace('0', ' ').replace('1', '\t').encode()


def slow_read(frame: bytes) -> int:
    """The value of the tag, by the definition."""
    last = frame[-33:-1]
    if len(frame) < 34 or frame[-1:] != b']' or last.strip(b' \t'):
        return -1
    return int(last.replace(b' ', b'0').replace(b'\t', b'1'), 2)


@given(messages, numbers)
@example(b'[]', 0)
@example(b'[2, "ref", null]', ACK - 1)
def test_round_trip(frame, number):
    tagged = tag(frame, number)
    assert tagged == frame[:-1] + written(number) + b']'
    assert read_tag(tagged) == number
    assert untagged(tagged) == frame
    assert json.loads(tagged) == json.loads(frame)


@given(messages, numbers)
def test_acknowledged(frame, number):
    tagged = tag(frame, number)
    echo = acknowledged(tagged)
    assert echo == tag(frame, number + ACK)
    assert read_tag(echo) == number + ACK
    assert read_tag(tagged) == number  # the original is not touched
    assert acknowledged(echo) == echo
    assert untagged(echo) == frame
    assert json.loads(echo) == json.loads(frame)
    assert is_echo(tagged, echo)
    assert is_echo(echo, tagged)
    assert is_echo(tagged, tagged)


@given(messages, numbers, st.data())
def test_one_changed_byte_is_no_echo(frame, number, data):
    tagged = tag(frame, number)
    echo = bytearray(acknowledged(tagged))
    place = data.draw(st.integers(0, len(echo) - 1).filter(lambda i: i != len(echo) - 33))
    echo[place] ^= data.draw(st.integers(1, 255))
    assert not is_echo(tagged, bytes(echo))


@given(messages, messages, numbers, numbers)
def test_echo_of_another(one, other, number, other_number):
    alike = (one, number) == (other, other_number)
    assert is_echo(tag(one, number), acknowledged(tag(other, other_number))) is alike


@given(messages, numbers)
def test_an_echo_of_another_length(frame, number):
    tagged = tag(frame, number)
    for other in (tagged[:-1], tagged + b']', tagged[1:], b' ' + tagged, b''):
        assert not is_echo(tagged, other)
        assert not is_echo(other, tagged)


@given(
    st.one_of(
        st.binary(max_size=100), st.tuples(st.binary(max_size=40), blank, st.sampled_from([b']', b'', b'] ']))
    ).map(lambda parts: parts if isinstance(parts, bytes) else b''.join(parts))
)
@example(b'')
@example(b']')
@example(b' ' * 32 + b']')
@example(b'[' + b' ' * 31 + b']')
@example(b'[' + b' ' * 32 + b']')
@example(b'[' + b' ' * 32)
def test_any_bytes(frame):
    assert read_tag(frame) == slow_read(frame)
    expected = frame if slow_read(frame) < 0 else frame[:-33] + b']'
    assert untagged(frame) == expected
    is_ping(frame), is_echo(frame, frame), is_echo(frame, b'')


@given(messages, numbers, st.text(' \t', min_size=1, max_size=40))
def test_blanks_before_the_tag(frame, number, more):
    """Of more than 32 blanks the last 32 are the tag; the others belong to the message."""
    spaced = frame[:-1] + more.encode() + b']'
    tagged = tag(spaced, number)
    assert read_tag(tagged) == number
    assert untagged(tagged) == spaced
    assert json.loads(tagged) == json.loads(frame)


@given(messages, numbers, st.integers(0, 31), st.sampled_from(b'\n\r\x00\x0b\x0c\xa0"x'))
def test_another_byte_among_the_blanks(frame, number, place, byte):
    """A line feed is white space to JSON, but never part of a tag."""
    tagged = bytearray(tag(frame, number))
    tagged[len(tagged) - 33 + place] = byte
    assert read_tag(bytes(tagged)) == -1
    assert untagged(bytes(tagged)) == bytes(tagged)


@given(messages, numbers, st.integers(0, 31))
def test_too_few_blanks(frame, number, n):
    short = frame[:-1] + written(number)[:n] + b']'
    assert read_tag(short) == slow_read(short) == -1
    assert untagged(short) == short


@given(messages, st.sampled_from([b' ', b'\n', b'\t']))
def test_blank_behind_the_message(frame, blank):
    assert read_tag(tag(frame, 1) + blank) == -1


@given(messages, numbers)
def test_ping(frame, number):
    assert is_ping(tag(frame, number)) is (frame == b'[]')
    assert is_ping(acknowledged(tag(b'[]', number)))
    assert json.loads(tag(b'[]', number)) == []


@pytest.mark.parametrize('number', [0, 1, ACK - 1, 0x55555555, 0x2AAAAAAA])
def test_numbers_at_the_ends(number):
    assert read_tag(tag(b'[1]', number)) == number


@pytest.mark.parametrize('number', [-1, 2**32])
def test_no_number_of_32_bits(number):
    with pytest.raises(OverflowError):
        tag(b'[1]', number)


def test_nested_and_quoted_ends():
    """What looks like a tag, but is inside of a text or of an inner array, is none."""
    inside = '[1, "' + ' ' * 32 + ']"]'
    inner = '[1, [' + ' ' * 32 + '], 2]'
    for text in (inside, inner):
        assert read_tag(text.encode()) == -1
    # At the very end, it is one: an inner array of blanks has its own bracket before the last.
    assert read_tag(('[1, [' + ' ' * 32 + ']]').encode()) == -1
