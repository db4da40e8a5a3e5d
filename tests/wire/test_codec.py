"""The codec against `json`, which is what every existing rig reads and writes with."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echorig import ExpMessage, ExpStatus
from echorig.wire._codec import DIFFERENT, EQUAL, TRUNCATED, compare, decode, encode, peek

text = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too
keys = st.one_of(text, st.integers(), st.booleans(), st.none(), st.floats())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=5)
    ),
    max_leaves=20,
)


def same(one: object, other: object) -> bool:
    """Compare what JSON can tell apart: types, -0.0 and NaN included."""
    return repr(one) == repr(other)


@given(values)
@example(['\x7f', '\u2028', 'é', '😀', '"\\/\b\f\n\r\t\x00\x1f'])
@example([2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
@example({'a': (1, [2.5, {'b': None}])})
@example([math.nan, math.inf, -math.inf])
@example(['\ud800', '\udfff\ud800', '\ud83d\ude00'])
@example({1: 1, None: 2, False: 3, 2.5: 4})
def test_encode_is_read_as_what_json_writes(value):
    encoded = encode(value)
    assert encoded.isascii()
    assert same(json.loads(encoded), json.loads(json.dumps(value)))


no_floats = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), text),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(text, inner, max_size=5)),
    max_leaves=20,
)


@given(no_floats)
def test_encode_spells_as_json_does(value):
    assert encode(value) == json.dumps(value).encode()


@given(values, st.booleans())
def test_decode_reads_what_json_reads(value, ascii_only):
    data = json.dumps(value, ensure_ascii=ascii_only).encode('utf-8', 'replace')
    assert same(decode(data), json.loads(data))


@given(st.binary(max_size=60))
@example(b'\xef\xbb\xbf[1]')
@example(b'[1, 123456789012345678901234567890]')
@example(b'["1234567890123456789"]')
@example(b'-0')
@example(b'1e400')
@example(b'[1]\x00')
@example(b'')
def test_decode_reads_or_refuses_like_json(data):
    try:
        expected = json.loads(data.decode('utf-8-sig'))
    except ValueError:
        with pytest.raises(ValueError):
            decode(data)
    else:
        assert same(decode(data), expected)


@given(st.integers(-(10**40), 10**40), st.integers(0, 40))
def test_integers_stay_integers_wherever_they_stand(number, pad):
    data = json.dumps(['x' * pad, number, {'n': number}]).encode()
    assert same(decode(data), json.loads(data))


def test_a_message_is_written_as_every_rig_writes_it():
    assert encode((ExpMessage.EXPSTART, '2022-01-01_1_subject', None)) == b'[2, "2022-01-01_1_subject", null]'
    assert encode([ExpMessage.EXPSTATUS, ExpStatus.RUNNING]) == b'[32, 20]'
    assert encode([ExpMessage.EXPINIT | ExpMessage.EXPEND, 1]) == b'[5, 1]'
    assert encode([64, ExpStatus.RUNNING, {'status': ExpStatus.RUNNING, 'é': [1.5, 'ü']}]) == (
        b'[64, 20, {"status": 20, "\\u00e9": [1.5, "\\u00fc"]}]'
    )


class Colour(enum.Enum):
    RED = 'red'


class Level(enum.IntEnum):
    LOW = 3


class Text(str):
    pass


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ([Level.LOW], '[3]'),
        ([Text('a')], '["a"]'),
        ([datetime.date(2022, 1, 1)], '["2022-01-01"]'),
        ([uuid.UUID(int=0)], '["00000000-0000-0000-0000-000000000000"]'),
        ([Colour.RED], '["red"]'),
        ([Point(1), math.nan], '[{"x": 1}, NaN]'),
    ],
)
def test_what_either_library_writes_is_written(value, expected):
    assert encode(value).decode() == expected


def test_numpy_arrays_are_written():
    numpy = pytest.importorskip('numpy')
    assert encode([numpy.arange(3), numpy.float64(1.5)]) == b'[[0, 1, 2], 1.5]'


@pytest.mark.parametrize('value', [object(), [object()], {'a': 2j}, [b'bytes'], {(1, 2): 3}, [lambda: 0]])
def test_what_nobody_can_write_is_refused(value):
    with pytest.raises(TypeError):
        encode(value)


def test_what_contains_itself_or_is_too_deep_is_refused():
    circle: list = []
    circle.append(circle)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(ValueError):
            encode(value)
    while deep:  # freeing it recursively would be another test
        deep = deep.pop()


def test_deep_but_possible_messages_go_both_ways():
    value: list = []
    for _ in range(400):
        value = [value]
    assert decode(encode(value)) == value


@pytest.mark.parametrize('data', [b'[' * 60_000, b'{"a":' * 10_000, b'[' * 2000 + b']' * 1999])
def test_too_deep_is_no_message(data):
    with pytest.raises(ValueError):
        decode(data)


# --- peek ---


@given(st.integers(0, 999_999_999), st.sampled_from(['', ' ', '\t ', '\r\n']), st.sampled_from([',1]', ']', ' ]']))
def test_peek_tells_the_code(code, space, rest):
    assert peek(f'{space}[{space}{code}{space}{rest}'.encode()) == code


@given(st.binary(max_size=30))
@example(b'[0')
@example(b'[01]')
@example(b'["0"]')
@example(b'[0.0, 1]')
@example(b'[-1]')
@example(b'[1e3]')
@example(b'[true]')
@example(b'{"0": 1}')
@example(b'0')
def test_peek_agrees_with_json(data):
    code = peek(data)
    try:
        value = json.loads(data)
    except ValueError:
        return
    if isinstance(value, list) and value and type(value[0]) is int and 0 <= value[0] < 10**9:
        # -0 is a number that json reads as 0, but no code
        assert code == value[0] or (data.lstrip().startswith(b'[') and b'-0' in data)
    else:
        assert code == -1


# --- compare ---


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(1, 100), st.integers(1, 300))
def test_compare(sent, received, min_truncated, max_size):
    outcome = compare(sent, received, min_truncated, max_size)
    if sent == received and sent:
        assert outcome == EQUAL
    elif received and sent.startswith(received) and (len(received) >= min_truncated or len(received) == max_size):
        assert outcome == TRUNCATED
    else:
        assert outcome == DIFFERENT


@given(st.binary(min_size=1, max_size=200), st.integers(0, 250))
def test_compare_prefixes(sent, length):
    received = sent[:length]
    expected = EQUAL if length >= len(sent) else TRUNCATED if length >= 100 or length == 7 else DIFFERENT
    assert compare(sent, received, 100, 7) == (expected if received else DIFFERENT)
