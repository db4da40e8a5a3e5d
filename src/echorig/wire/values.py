"""Values that labs put into messages, turned into what JSON has: `to_plain`.

1. A value becomes the same wherever it stands: alone, in a list, in a dict, in a data class, in an array.
2. Nothing is changed silently: a value that JSON cannot hold is a `TypeError` that names its place.
3. numpy and pandas are used if the program has imported them, and never imported here.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Mapping, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import ModuleType
from typing import Any, TypeAlias
from uuid import UUID

from ..messages import ExpMessage

__all__ = ['to_plain']

Plain: TypeAlias = bool | int | float | str | list[Any] | dict[Any, Any] | None

_PLAIN_KEYS = (str, int, float, bool, type(None))
_ADVICE: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((bytes, bytearray, memoryview), 'write bytes as text, such as base64.b64encode(data).decode()'),
    (complex, 'send the real and the imaginary part'),
)


class _Unwritable(Exception):
    """A value that JSON cannot hold; each container on the way out adds its part of the place.

    Parameters
    ----------
    reason : str
        Why the value cannot be written.
    *place : str
        Where it is, innermost part first.
    """

    def __init__(self, reason: str, *place: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = list(place)


def to_plain(value: Any) -> Plain:
    """Return a value as `None`, `bool`, `int`, `float`, `str`, `list` and `dict`.

    Parameters
    ----------
    value : Any
        The value. Sets become sorted lists, dates and times ISO 8601 text, durations seconds, `decimal.Decimal`,
        `uuid.UUID` and paths text, enum members their values; data classes, attrs and pydantic objects dicts; numpy
        and pandas objects what their `tolist` and `to_dict` return; an object with `__json__` what that returns.

    Returns
    -------
    None, bool, int, float, str, list or dict
        The value. NaN, infinity, integers of any size and lone surrogates are kept.

    Raises
    ------
    TypeError
        A part of it cannot be written as JSON; the text names its place, such as ``data['pose'][3].camera``.
    RecursionError
        It contains itself, or is nested too deep.
    """
    if type(value) is tuple and value and isinstance(value[0], ExpMessage):
        *head, data = value
        return [*(_root(f'message[{i}]', item) for i, item in enumerate(head)), _root('data', data)]
    return _root('data', value)


def _root(name: str, value: Any) -> Plain:
    try:
        return _plain(value)
    except _Unwritable as ex:
        place = name + ''.join(reversed(ex.place))
        raise TypeError(f'{place}: cannot be written as JSON: {ex.reason}') from ex.__cause__


def _plain(value: Any) -> Plain:
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value  # type: ignore[no-any-return]
    if kind is list or kind is tuple:
        return _items(value)
    if kind is dict:
        return _mapping(value)
    try:
        for convert in (_by_own_method, _by_numpy, _by_pandas, _by_type):
            converted = convert(value)
            if converted is not None:
                return converted[0]
    except (_Unwritable, RecursionError):
        raise
    except Exception as ex:  # of a method of the value
        raise _Unwritable(f'{kind} raised {type(ex).__name__}: {ex}') from ex
    advice = next((f'; {advice}' for base, advice in _ADVICE if isinstance(value, base)), '')
    raise _Unwritable(f'{kind}{advice}')


def _inside(part: str, value: Any) -> Plain:
    """Convert a part of a container; if it cannot be written, add the name of the part to the place."""
    try:
        return _plain(value)
    except _Unwritable as ex:
        ex.place.append(part)
        raise


def _items(values: Any) -> list[Plain]:
    return [_inside(f'[{i}]', value) for i, value in enumerate(values)]


def _mapping(values: Mapping[Any, Any]) -> dict[Any, Plain]:
    plain: dict[Any, Plain] = {}
    for key, value in values.items():
        part = f'[{key!r:.80}]'
        plain[_key(key, part)] = _inside(part, value)
    return plain


def _key(key: Any, part: str) -> Any:
    """Return a key that `json` accepts."""
    if type(key) in _PLAIN_KEYS:
        return key
    try:
        plain = _plain(key)
    except _Unwritable:
        plain = []
    if isinstance(plain, (list, dict)):
        raise _Unwritable(f'{type(key)} as a key', part)
    return plain


def _attributes(value: Any, names: list[str]) -> dict[str, Plain]:
    return {name: _inside(f'.{name}', getattr(value, name)) for name in names}


def _by_own_method(value: Any) -> tuple[Plain] | None:
    """Convert objects that say themselves how: `__json__`, data classes, attrs, pydantic."""
    kind = type(value)
    if isinstance(value, type):
        return None
    if callable(getattr(kind, '__json__', None)):
        return (_plain(value.__json__()),)
    if isinstance(value, Enum):
        return (_plain(value.value),)
    if callable(getattr(kind, 'model_dump', None)):  # pydantic
        return (_plain(value.model_dump()),)
    if dataclasses.is_dataclass(kind):
        return (_attributes(value, [field.name for field in dataclasses.fields(value)]),)
    if hasattr(kind, '__attrs_attrs__'):
        return (_attributes(value, [field.name for field in kind.__attrs_attrs__]),)
    return None


def _by_numpy(value: Any) -> tuple[Plain] | None:
    numpy = sys.modules.get('numpy')
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    kind = value.dtype.kind
    if kind == 'M':  # as text: Python's own datetime has no nanoseconds
        return (_times(numpy, value),)
    if kind == 'm':
        return (_durations(numpy, value),)
    if kind == 'f' and value.dtype.itemsize > 8:
        if not numpy.array_equal(value.astype(float), value, equal_nan=True):
            raise _Unwritable(f'{value.dtype} with digits that a float does not have; convert it with .astype(float)')
        value = value.astype(float)
    if kind in 'SVc' and value.dtype.names is None:
        raise _Unwritable(f'{type(value)} of dtype {value.dtype}')
    plain = value.tolist()
    return (plain if kind in 'biuf' else _plain(plain),)


def _times(numpy: ModuleType, value: Any) -> Any:
    text = numpy.datetime_as_string(value).tolist()
    return _without(text, 'NaT', getattr(value, 'mask', False))


def _durations(numpy: ModuleType, value: Any) -> Any:
    seconds = (value / numpy.timedelta64(1, 's')).tolist()
    return _without(seconds, None, getattr(value, 'mask', False))


def _without(values: Any, missing: Any, mask: Any) -> Any:
    """Replace missing times, and masked ones, by None."""
    if isinstance(values, list):
        masks = mask if getattr(mask, 'ndim', 0) else [mask] * len(values)
        return [_without(value, missing, mask) for value, mask in zip(values, masks, strict=True)]
    return None if bool(mask) or values == missing or values != values else values


def _by_pandas(value: Any) -> tuple[Plain] | None:
    pandas = sys.modules.get('pandas')
    if pandas is None:
        return None
    if value is pandas.NaT or value is pandas.NA:
        return (None,)
    if isinstance(value, (pandas.Series, pandas.DataFrame)):
        for axis, labels in (('index', value.index), ('columns', getattr(value, 'columns', None))):
            if labels is not None and not labels.is_unique:
                raise _Unwritable(f'{type(value)} whose {axis} has a label twice; use .reset_index() or .to_dict(...)')
        return (_mapping(value.to_dict()),)
    if isinstance(value, (pandas.Index, pandas.api.extensions.ExtensionArray)):
        return (_items(value.tolist()),)
    if isinstance(value, (pandas.Period, pandas.Interval)):
        return (str(value),)
    return None


def _by_type(value: Any) -> tuple[Plain] | None:
    for base, convert in _BY_TYPE:
        if isinstance(value, base):
            return (convert(value),)
    tolist = getattr(type(value), 'tolist', None)  # array.array, tensors
    return (_plain(value.tolist()),) if callable(tolist) and not isinstance(value, memoryview) else None


def _sorted(values: Set[Any]) -> list[Plain]:
    plain = [_inside(f'[{value!r:.80}]', value) for value in values]
    try:
        return sorted(plain)  # type: ignore[type-var]
    except TypeError:  # of several types, or dicts: the order is by type, so that it is the same in each program
        return sorted(plain, key=lambda item: (type(item).__name__, repr(item)))


# The first that fits; subclasses before their bases.
_BY_TYPE: tuple[tuple[type | tuple[type, ...], Callable[[Any], Plain]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    ((list, tuple, deque, range), _items),
    (Mapping, _mapping),
    (Set, _sorted),
    (datetime, datetime.isoformat),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, timedelta.total_seconds),
    ((Decimal, UUID, PurePath), str),
)
