"""Delivery tags, against what their definition says in a few lines of Python."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from echorig.wire._codec import encode
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
from reference_tags import RUNS, TAG, bits, slow_crc, slow_damaged, slow_read, slow_tag

FIELD = 64  # bytes
WORDS = 2**32
runs, words = st.integers(0, RUNS - 1), st.integers(0, WORDS - 1)
answered = st.one_of(st.just(-1), st.integers(0, RUNS * WORDS - 1))
blank = st.text(' \t\n\r', max_size=200).map(str.encode)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=10,
)
messages = st.lists(values, max_size=5).map(encode)


# --- the check ---

READ_COMMAND = '01c00000' + 12 * '00' + '14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000'
VECTORS = [  # RFC 3720, appendix B.4; this is how the numbers there stand in memory, the least significant byte first
    (bytes(32), 0x8A9136AA),
    (b'\xff' * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (bytes.fromhex(READ_COMMAND), 0xD9963A56),
    (b'', 0),
]


@pytest.mark.parametrize(('data', 'expected'), VECTORS)
@pytest.mark.parametrize('by_table', [False, True])
def test_the_check_is_that_of_the_standard(data, expected, by_table):
    assert crc32c(data, by_table) == slow_crc(data) == expected


@given(st.binary(max_size=200))
def test_with_the_instruction_and_without_it_is_the_same(data):
    assert crc32c(data) == crc32c(data, True) == slow_crc(data)


# --- writing and reading ---


@given(messages, runs, words, words, answered)
@example(b'[]', 0, 0, 0, -1)
@example(b'[2, "ref", null]', RUNS - 1, WORDS - 1, WORDS - 1, RUNS * WORDS - 1)
@example(b'[2, "ref", null]', 0, 1, 1200, 0)
def test_a_tag_is_what_its_definition_says(frame, run, number, life, answered):
    tagged = add_tag(frame, run, number, life, answered)
    assert tagged == slow_tag(frame, run, number, life, answered)
    assert read_tag(tagged) == slow_read(tagged) == (False, run, number, life)
    assert read_reply_number(tagged) == answered
    assert not is_damaged(tagged)
    assert strip_tag(tagged) == frame
    assert json.loads(tagged) == json.loads(frame)


@given(messages, runs, words, words, answered)
def test_an_echo_has_the_flag_and_its_check(frame, run, number, life, answered):
    tagged = add_tag(frame, run, number, life, answered)
    echo = set_ack(tagged)
    assert echo == slow_tag(frame, run, number, life, answered, ack=True)
    assert read_tag(echo) == (True, run, number, life)
    assert read_tag(tagged) == (False, run, number, life)  # the original is not touched
    assert set_ack(echo) == echo
    assert strip_tag(echo) == frame
    assert json.loads(echo) == json.loads(frame)
    assert not is_damaged(echo)
    assert is_echo(tagged, echo)
    assert is_echo(echo, tagged)
    assert is_echo(tagged, tagged)


@given(messages, runs, words, words, words, answered)
def test_a_repetition_differs_in_its_life_and_check_only(frame, run, number, life, later, answered):
    tagged, again = (add_tag(frame, run, number, left, answered) for left in (life, later))
    assert is_same(tagged, again)
    assert is_same(tagged, set_ack(again))
    assert is_echo(tagged, set_ack(again)) is (life == later)
    assert read_tag(again) == (False, run, number, later)
    assert not is_same(tagged, add_tag(frame, run ^ 1, number, later, answered))
    assert not is_same(tagged, add_tag(frame, run, number ^ 1, later, answered))
    assert not is_same(tagged, add_tag(frame + b']', run, number, later, answered))


@given(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(st.binary(max_size=40), blank, st.sampled_from([b']', b'', b'] '])).map(b''.join),
        st.tuples(
            st.binary(max_size=20), st.text(' \tx', min_size=126, max_size=200).map(str.encode), st.just(b']')
        ).map(lambda parts: b'[' + b''.join(parts)),
    )
)
@example(b'')
@example(b']')
@example(b' ' * TAG + b']')
@example(b'[' + b' ' * (TAG - 1) + b']')
@example(b'[' + b' ' * TAG + b']')
@example(b'[' + b' ' * TAG)
@example(b'[' + b' ' * 112 + b'x' * 16 + b']')
@example(b'[' + b' ' * 111 + b'x' * 17 + b']')
def test_any_bytes(frame):
    found = slow_read(frame)
    assert read_tag(frame) == found
    assert is_damaged(frame) is slow_damaged(frame)
    if found is None:
        assert strip_tag(frame) == frame
    else:
        shown = strip_tag(frame)
        assert shown.endswith(b']')
        assert frame.startswith(shown[:-1])
        assert is_echo(frame, frame)
    assert is_echo(frame, b'') is is_same(b'', frame) is False
    assert is_same(frame, frame) is (len(frame) >= TAG + 2)
    read_reply_number(frame), is_ping(frame)


# --- damage ---


@given(messages, runs, words, words, answered, st.booleans(), st.data())
@example(b'[]', 0, 0, 0, -1, False, None)
@example(b'[1]', 5, 6, 7, 8, True, None)
def test_every_changed_byte_is_found(frame, run, number, life, answered, ack, data):
    whole = slow_tag(frame, run, number, life, answered, ack)
    flag = len(whole) - 1 - TAG
    places = range(len(whole)) if data is None else [data.draw(st.integers(0, len(whole) - 1))]
    for place in places:
        for other in {whole[place] ^ 0x29, whole[place] ^ 1, whole[place] ^ 128, 10, 13} - {whole[place]}:
            changed = whole[:place] + bytes([other]) + whole[place + 1 :]
            assert is_damaged(changed), place
            assert not is_echo(whole, changed)
            assert not is_echo(set_ack(whole), changed) or place == flag  # one that is not even a tag


@given(messages, runs, words, st.booleans(), st.data())
def test_a_few_changed_bytes_are_found(frame, run, number, ack, data):
    """However they are changed, the frame is no message that could be believed, with a tag or without."""
    whole = slow_tag(frame, run, number, 0, ack=ack)
    changed = bytearray(whole)
    changes = data.draw(st.dictionaries(st.integers(0, len(whole) - 1), st.integers(0, 255), min_size=1, max_size=8))
    for place, byte in changes.items():
        changed[place] = byte
    assume(changed != whole)
    # If the first byte is changed too, it is not even the beginning of a message.
    assert is_damaged(bytes(changed)) or changed[0] != ord('[')
    assert not is_echo(whole, bytes(changed))


@given(messages, runs, words, st.integers(0, TAG))
def test_a_cut_tag_is_a_damaged_one(frame, run, number, n):
    cut = frame[:-1] + add_tag(frame, run, number)[-1 - TAG :][:n] + b']'
    assert read_tag(cut) == slow_read(cut)
    assert strip_tag(cut) == cut if n < TAG else strip_tag(cut) == frame
    if 112 <= n < TAG and len(cut) >= TAG + 2:
        assert is_damaged(cut)
    short = add_tag(frame, run, number)[: -1 - n]
    if n < 16 and len(short) >= TAG + 2:
        assert is_damaged(short)


@given(messages, st.sampled_from([b' ', b'\n', b'\t']))
def test_a_blank_behind_the_message(frame, blank):
    """It is no tag at this place, but it was one."""
    frame = add_tag(frame, 5, 1) + blank
    assert read_tag(frame) is None
    assert is_damaged(frame)


@pytest.mark.parametrize(
    'frame',
    [
        b'',
        b'[]',
        b'[2, "ref", null]',
        b'text',
        b'[' + b' ' * 63 + b']',
        b'x' + b' ' * 200,
        b'[1, "' + b'x' * 500 + b'"]',
        b'[64, 20, "' + b' ' * 30 + b'table   of   columns' + b' ' * 60 + b'"]',
        b'[0, "no", "[2, null'
        + add_tag(b'[]', 0x2AAAAAAA, 0x55555555, 0x33333333)[1:-1].replace(b'\t', rb'\t')
        + b']"]',
    ],
    ids=range(9),
)
def test_what_never_had_a_tag_is_not_damaged(frame):
    """Neither a text with many spaces, nor the notice of a MATLAB rig, which quotes one."""
    assert not is_damaged(frame)
    assert read_tag(frame) is None


# --- echoes ---


@given(messages, messages, words, words)
def test_an_echo_of_another_message(one, other, number, other_number):
    alike = (one, number) == (other, other_number)
    assert is_echo(add_tag(one, 7, number), set_ack(add_tag(other, 7, other_number))) is alike
    assert is_same(add_tag(one, 7, number), set_ack(add_tag(other, 7, other_number, 9))) is alike


@given(messages, words)
def test_an_echo_of_another_length(frame, number):
    tagged = add_tag(frame, 7, number)
    for other in (tagged[:-1], tagged + b']', tagged[1:], b' ' + tagged, b''):
        assert not is_echo(tagged, other)
        assert not is_echo(other, tagged)
        assert not is_same(tagged, other)


# --- blanks that are no tag ---


@given(messages, words, st.text(' \t', min_size=1, max_size=63))
def test_blanks_before_the_tag(frame, number, more):
    """Of more than 128 blanks the last 128 are the tag; the others belong to the message."""
    spaced = frame[:-1] + more.encode() + b']'
    tagged = add_tag(spaced, 7, number)
    assert read_tag(tagged) == (False, 7, number, 0)
    assert read_reply_number(tagged) == -1
    assert strip_tag(tagged) == (b'[]' if frame == b'[]' else spaced)  # of a ping there is nothing to be shown
    assert json.loads(tagged) == json.loads(frame)


@given(messages, words, st.integers(0, TAG - 1), st.sampled_from(b'\n\r\x00\x0b\x0c\xa0"x'))
def test_another_byte_among_the_blanks(frame, number, place, byte):
    """A line feed is white space to JSON, but never part of a tag."""
    tagged = bytearray(add_tag(frame, 7, number))
    tagged[len(tagged) - 1 - TAG + place] = byte
    assert read_tag(bytes(tagged)) is None
    assert is_damaged(bytes(tagged))
    assert strip_tag(bytes(tagged)) == bytes(tagged)


def test_nested_and_quoted_ends():
    """What looks like a tag, but is inside of a text or of an inner array, is none."""
    inside = '[1, "' + ' ' * TAG + ']"]'
    inner = '[1, [' + ' ' * TAG + '], 2]'
    # At the very end, too: an inner array of blanks has its own bracket before the last.
    last = '[1, [' + ' ' * TAG + ']]'
    for text in (inside, inner, last):
        assert read_tag(text.encode()) is None


# --- what it answers ---


@given(messages, words, st.integers(0, FIELD - 1), st.sampled_from(b'x\n'))
def test_an_answer_names_its_question_in_whole_or_not_at_all(frame, number, place, byte):
    whole = add_tag(frame, 7, number, 0, 5 << 32 | 6)
    assert read_reply_number(whole) == 5 << 32 | 6
    field = len(whole) - 1 - TAG - FIELD
    assert whole[field : field + FIELD] == b'\t' + bits(5, 31) + bits(6, 32)
    changed = whole[: field + place] + bytes([byte]) + whole[field + place + 1 :]
    assert read_reply_number(changed) == -1
    assert is_damaged(changed)
    assert read_reply_number(add_tag(frame, 7, number)) == read_reply_number(b'') == read_reply_number(frame) == -1


# --- times ---


@given(messages, st.integers(1, 2**63 - 1), answered)
def test_a_message_may_have_a_time(frame, time, reply_to):
    timed = add_time(frame, time)
    assert timed == frame[:-1] + b' ' + bits(time, 63) + b']'
    whole = add_tag(timed, 7, 8, 9, reply_to)
    assert read_time(whole) == time
    assert read_reply_number(whole) == reply_to
    assert json.loads(whole) == json.loads(frame)
    assert strip_tag(whole) == frame
    assert read_time(set_ack(whole)) == time
    assert read_time(add_tag(frame, 7, 8, 9, reply_to)) == 0


@given(messages, st.integers(0, FIELD - 1), st.sampled_from(b'x\n'))
def test_a_time_is_read_in_whole_or_not_at_all(frame, place, byte):
    whole = add_tag(add_time(frame, 5), 7, 8)
    at = len(whole) - 1 - TAG - FIELD + place
    assert read_time(whole[:at] + bytes([byte]) + whole[at + 1 :]) == 0


def test_what_is_no_time_is_refused():
    for frame, time in ((b'[', 1), (b'', 1), (b'[]', -1)):
        with pytest.raises(ValueError, match='since 1970'):
            add_time(frame, time)
    for frame in (b'', b'[]', b'[' + b' ' * FIELD + b']'):
        assert read_time(frame) == 0


# --- pings ---


@given(runs, words, answered)
def test_pings(run, number, question):
    ping = make_ping(run, number, question)
    assert json.loads(ping) == []
    assert len(ping) == TAG + FIELD + 2 + (FIELD + 1) * (question < 0)
    assert is_ping(ping)
    assert is_ping(set_ack(ping))
    assert read_tag(ping) == (False, run, number, 0)
    assert read_reply_number(ping) == question
    assert not is_damaged(ping)
    frame = b'[' + b' ' * (2 * FIELD + 1) + b']' if question < 0 else b'[]'
    assert read_time(ping) == 0
    assert ping == slow_tag(frame, run, number, 0, question)


@given(messages, words)
def test_messages_are_no_pings(frame, number):
    """That is asked of frames with a tag only: the bytes of the tag are not looked at."""
    assert is_ping(add_tag(frame, 7, number)) is (frame == b'[]')
    assert is_ping(b'') is is_ping(frame[:TAG]) is is_ping(b'{' + b' ' * TAG + b']') is False


# --- what is no tag, run or number ---


def test_a_run_has_31_bits():
    assert read_tag(add_tag(b'[1]', RUNS | 5, 1)) == (False, 5, 1, 0)


@pytest.mark.parametrize('wrong', [-1, WORDS])
@pytest.mark.parametrize('place', [1, 2, 3])
def test_numbers_over_32_bits_are_refused(wrong, place):
    arguments = [b'[1]', 1, 1, 1]
    arguments[place] = wrong
    with pytest.raises(OverflowError):
        add_tag(*arguments)


def test_what_cannot_have_a_tag_is_refused():
    for frame in (b'', b'['):
        with pytest.raises(ValueError, match='array'):
            add_tag(frame, 1, 1)
    for frame in (b'', b'[]', add_tag(b'[]', 1, 1)[1:-1]):
        with pytest.raises(ValueError, match='tag'):
            set_ack(frame)
    for function in (read_tag, is_damaged, strip_tag, crc32c):
        with pytest.raises(TypeError):
            function(None)
