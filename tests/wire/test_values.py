"""What labs put into messages is written the same wherever it stands, or refused with its place."""

from __future__ import annotations

import array
import dataclasses
import enum
import json
import math
import subprocess
import sys
from collections import OrderedDict, deque, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echorig import ExpMessage, ExpStatus
from echorig.wire._codec import decode, encode

numpy = pytest.importorskip('numpy')
pandas = pytest.importorskip('pandas')


@dataclasses.dataclass
class Pose:
    camera: Any
    _hidden: Any = None


@dataclasses.dataclass
class Slotted:
    __slots__ = ('x',)
    x: Any


class OwnJson:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __json__(self) -> Any:
        return {'own': self.value}


class Colour(enum.Enum):
    RED = 'red'
    PAIR = (1, 2)


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return 'something else'


Point = namedtuple('Point', 'x y')

# A value, and what json.loads(json.dumps(...)) of its plain equivalent returns.
VALUES = {
    'float': (1.5, 1.5),
    'NaN': (math.nan, math.nan),
    'infinity': (-math.inf, -math.inf),
    'big integer': (2**70, 2**70),
    'lone surrogate': ('a\ud800', 'a\ud800'),
    'int keys': ({1: 'left', None: 2, False: 3, 0.5: 4}, {'1': 'left', 'null': 2, 'false': 3, '0.5': 4}),
    'str subclass': (Text('text'), 'text'),
    'enum': (Colour.RED, 'red'),
    'enum of tuples': (Colour.PAIR, [1, 2]),
    'event': (ExpMessage.EXPEND, 4),
    'combination of events': (ExpMessage.EXPEND | ExpMessage.EXPINIT, 5),
    'status': (ExpStatus.RUNNING, 20),
    'tuple': ((1, 'a'), [1, 'a']),
    'named tuple': (Point(1, 2), [1, 2]),
    'deque': (deque([1, 2]), [1, 2]),
    'range': (range(3), [0, 1, 2]),
    'set': ({3, 1, 2}, [1, 2, 3]),
    'set of several types': (frozenset({1, 'a'}), [1, 'a']),
    'ordered dict': (OrderedDict(b=1, a=2), {'b': 1, 'a': 2}),
    'mapping': (MappingProxyType({'a': 1}), {'a': 1}),
    'array': (array.array('d', [1.5, math.nan]), [1.5, math.nan]),
    'date': (date(2026, 1, 31), '2026-01-31'),
    'datetime': (datetime(2026, 1, 31, 12, 0, 0, 5), '2026-01-31T12:00:00.000005'),
    'aware datetime': (datetime(2026, 1, 31, tzinfo=timezone.utc), '2026-01-31T00:00:00+00:00'),
    'time': (time(12, 30), '12:30:00'),
    'aware time': (time(12, 30, tzinfo=timezone.utc), '12:30:00+00:00'),
    'timedelta': (timedelta(minutes=1, milliseconds=5), 60.005),
    'decimal': (Decimal('0.10'), '0.10'),
    'uuid': (UUID(int=1), '00000000-0000-0000-0000-000000000001'),
    'path': (PurePosixPath('/data/a'), '/data/a'),
    'data class': (Pose(math.nan, 1), {'camera': math.nan, '_hidden': 1}),
    'data class with slots': (Slotted({1: 2**70}), {'x': {'1': 2**70}}),
    'object with __json__': (OwnJson({1, 2}), {'own': [1, 2]}),
    'float32': (numpy.float32('nan'), math.nan),
    'float16': (numpy.float16('inf'), math.inf),
    'float32 of many digits': (numpy.float32(0.1), float(numpy.float32(0.1))),
    'longdouble': (numpy.longdouble(1.5), 1.5),
    'int64': (numpy.int64(-5), -5),
    'uint64': (numpy.uint64(2**64 - 1), 2**64 - 1),
    'numpy bool': (numpy.bool_(True), True),
    'numpy text': (numpy.str_('a'), 'a'),
    'numpy key': ({numpy.int64(1): 2, Colour.RED: 3, date(2026, 1, 1): 4}, {'1': 2, 'red': 3, '2026-01-01': 4}),
    'NaN in an array': (numpy.array([1.5, math.nan]), [1.5, math.nan]),
    'column': (numpy.arange(6.0).reshape(2, 3)[:, 0], [0.0, 3.0]),
    'transposed': (numpy.arange(4).reshape(2, 2).T, [[0, 2], [1, 3]]),
    'reversed': (numpy.arange(3)[::-1], [2, 1, 0]),
    'big-endian': (numpy.arange(3, dtype='>i4'), [0, 1, 2]),
    'array of 0 dimensions': (numpy.array(5.0), 5.0),
    'empty array': (numpy.zeros((0, 3)), []),
    'array of bool': (numpy.array([True, False]), [True, False]),
    'array of text': (numpy.array(['a', 'b']), ['a', 'b']),
    'array of objects': (numpy.array(['a', None, numpy.float32('nan')], dtype=object), ['a', None, math.nan]),
    'masked array': (numpy.ma.masked_array([1.0, 2.0], mask=[False, True]), [1.0, None]),
    'masked': (numpy.ma.masked, None),
    'structured array': (numpy.array([(1, 'a')], dtype=[('n', 'i4'), ('t', 'U1')]), [[1, 'a']]),
    'datetime64': (numpy.datetime64('2026-01-31T00:00:00.000000001'), '2026-01-31T00:00:00.000000001'),
    'array of datetime64': (numpy.array(['2026-01-31', 'NaT'], dtype='M8[D]'), ['2026-01-31', None]),
    'timedelta64': (numpy.timedelta64(1500, 'ms'), 1.5),
    'array of timedelta64': (numpy.array([[1, 'NaT']], dtype='m8[s]'), [[1.0, None]]),
    'masked datetime64': (
        numpy.ma.masked_array(['2026-01-31', '2026-02-01'], mask=[True, False], dtype='M8[D]'),
        [None, '2026-02-01'],
    ),
    'Timestamp': (pandas.Timestamp('2026-01-31T12:00'), '2026-01-31T12:00:00'),
    'Timedelta': (pandas.Timedelta('1min'), 60.0),
    'NaT': (pandas.NaT, None),
    'NA': (pandas.NA, None),
    'Series': (pandas.Series([1.5, math.nan], index=['a', 3]), {'a': 1.5, '3': math.nan}),
    'Series with times': (pandas.Series({pandas.Timestamp('2026-01-31'): 1}), {'2026-01-31T00:00:00': 1}),
    'DataFrame': (
        pandas.DataFrame({'x': [1, 2], 'y': ['a', 'b']}),
        {'x': {'0': 1, '1': 2}, 'y': {'0': 'a', '1': 'b'}},
    ),
    'Categorical': (pandas.Categorical(['a', 'b']), ['a', 'b']),
}  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Compare by type and value; NaN is NaN."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@pytest.mark.parametrize('where', [lambda v: v, lambda v: [v], lambda v: {'a': (v, v)}, Pose, lambda v: [Slotted([v])]])
@pytest.mark.parametrize('name', VALUES)
def test_a_value_is_written_the_same_wherever_it_stands(name: str, where: Any) -> None:
    value, expected = VALUES[name]
    holder = where(expected)
    plain = json.loads(
        json.dumps(holder, default=lambda o: {f.name: getattr(o, f.name) for f in dataclasses.fields(o)})
    )
    assert same(decode(encode([where(value)]))[0], plain)


def _pairs(children: Any) -> Any:
    return st.one_of(
        st.lists(children, max_size=3).map(lambda pairs: ([v for v, _ in pairs], [p for _, p in pairs])),
        st.lists(children, max_size=3).map(lambda pairs: (tuple(v for v, _ in pairs), [p for _, p in pairs])),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 9)), children, max_size=3).map(
            lambda pairs: ({k: v for k, (v, _) in pairs.items()}, {str(k): p for k, (_, p) in pairs.items()})
        ),
        children.map(lambda pair: (Pose(pair[0]), {'camera': pair[1], '_hidden': None})),
        children.map(lambda pair: (OwnJson(pair[0]), {'own': pair[1]})),
        children.map(lambda pair: (_objects(pair[0]), [pair[1]])),
    )


def _objects(value: Any) -> Any:
    array = numpy.empty(1, dtype=object)
    array[0] = value
    return array


NUMBERS = st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=5))
LEAVES = st.one_of(st.sampled_from([*VALUES.values()]), NUMBERS.map(lambda value: (value, value)))


@given(st.recursive(LEAVES, _pairs, max_leaves=15))
def test_what_is_read_is_the_plain_equivalent(pair: tuple[Any, Any]) -> None:
    value, plain = pair
    assert same(decode(encode([value]))[0], json.loads(json.dumps(plain)))


@pytest.mark.parametrize(
    ('message', 'text'),
    [
        (
            {'pose': [0, 1, 2, Pose(object())]},
            r"data\['pose'\]\[3\]\.camera: cannot be written as JSON: <class 'object'>",
        ),
        ((ExpMessage.EXPINFO, ExpStatus.RUNNING, {'a': b'x'}), r"data\['a'\]: .*<class 'bytes'>; write bytes as text"),
        ((ExpMessage.EXPINIT, 2j), r"data: .*<class 'complex'>; send the real"),
        ((ExpMessage.EXPSTART, object(), None), r"message\[1\]: .*<class 'object'>"),
        ([numpy.array([1j])], r'data\[0\]: .*dtype complex128'),
        ([numpy.array([1, Fraction(1)], dtype=object)], r"data\[0\]\[1\]: .*<class 'fractions.Fraction'>"),
        ([numpy.longdouble('0.1')], r'data\[0\]: .*convert it with .astype\(float\)'),
        ({(1, 2): 3}, r"data\[\(1, 2\)\]: .*<class 'tuple'> as a key"),
        ({b'a': 3}, r"data\[b'a'\]: .*<class 'bytes'> as a key"),
        ({1, OwnJson}, r'data\[.*OwnJson.*\]: '),
        (pandas.Series([1, 2], index=['a', 'a']), r'data: .*index has a label twice'),
        (Pose, r"data: .*<class 'type'>"),
        ([lambda: 1], r"data\[0\]: .*<class 'function'>"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(message: Any, text: str) -> None:
    with pytest.raises(TypeError, match=f'^{text}'):
        encode(message)


def test_an_error_of_the_value_itself_is_named() -> None:
    class Broken:
        def __json__(self) -> Any:
            raise RuntimeError('not calibrated')

    with pytest.raises(TypeError, match=r'data\[0\]\.camera: .*Broken.* raised RuntimeError: not calibrated') as caught:
        encode([Pose(Broken())])
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_attribute_that_is_not_set_is_named() -> None:
    pose = Pose(1)
    del pose.camera
    with pytest.raises(TypeError, match=r'data: .*Pose.* raised AttributeError'):
        encode(pose)


def test_a_value_that_contains_itself_is_refused() -> None:
    pose = Pose(None)
    pose.camera = [pose]
    for value in (pose, [{1: pose}]):
        with pytest.raises(ValueError, match=r'nested too deep|Circular'):
            encode(value)


def test_attrs_and_pydantic_objects_are_dicts() -> None:
    attrs = pytest.importorskip('attrs')
    pydantic = pytest.importorskip('pydantic')
    settings = attrs.make_class('Settings', ['gain', 'pose'])(math.nan, {1: Pose(2)})
    assert same(decode(encode(settings)), {'gain': math.nan, 'pose': {'1': {'camera': 2, '_hidden': None}}})
    model = pydantic.create_model('Model', gain=(float, ...), when=(date, ...))(gain=math.inf, when='2026-01-31')
    assert decode(encode([model])) == [{'gain': math.inf, 'when': '2026-01-31'}]


def test_numpy_and_pandas_are_never_imported() -> None:
    code = (
        'import sys; from echorig.wire._codec import encode; encode([{1, 2}]); '
        'assert not {"numpy", "pandas"} & set(sys.modules), "imported"'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
