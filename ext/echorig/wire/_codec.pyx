# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Encoding, decoding and comparing messages. No I/O, no clock.

1. Messages are encoded in the style of ``json.dumps`` (", " and ": ", ASCII with escapes), because MATLAB rigs compare
   bytes. Only floats may differ: 1e300 for 1e+300.
2. Everything that ``json.dumps`` and ``json.loads`` accept is accepted, with equal results.
3. orjson encodes and decodes. Messages that it would refuse or change are given to ``json``; values of types that
   ``json`` does not know are converted first (`values.py`).
4. `peek` and `compare` never raise.
"""

cimport cython

import json

import orjson

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memcmp, memcpy

from echorig.messages import ExpMessage, ExpStatus
from echorig.wire.values import to_plain

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void *PyUnicode_DATA(object text)
    object PyUnicode_DecodeASCII(const char *text, Py_ssize_t n, const char *errors)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

cdef extern from "_bytes.h":
    bint er_is_blank(const unsigned char *text) noexcept
    const char *er_skip_plain(const char *text, const char *end) noexcept
    bint er_copy_plain(char *out, const char *text, size_t n) noexcept

cdef enum:
    SMALL = 256   # bytes
    FOR_VALUES = 0  # a type that `to_plain` must convert
    FOR_JSON = 1    # orjson would refuse or change it: NaN, other keys than text, too deep
    FOR_ORJSON = 2

DIFFERENT = 0
EQUAL = 1
TRUNCATED = 2

cdef int MAX_DEPTH = 200  # orjson's own limit is 254; json takes over before that
cdef int LONG_NUMBER = 19  # the digits from which on an integer may not fit into 64 bits
cdef double INFINITE = float('inf')
cdef tuple JSON_KEYS = (int, float, bool, type(None))

cdef object _orjson_dumps = orjson.dumps
cdef object _orjson_loads = orjson.loads
cdef object _json_encode = json.JSONEncoder(default=to_plain).encode
# The enums of the protocol as plain numbers: orjson needs three times as long for an enum.
cdef dict _NUMBERS = {member: int(member) for enum in (ExpMessage, ExpStatus) for member in enum}
cdef object _ExpMessage = ExpMessage
cdef object _ExpStatus = ExpStatus


# --- encode ----------------------------------------------------------------------------------------------

cpdef bytes encode(obj):
    """Return a message as JSON in ASCII; raises what `as_bytes` does."""
    cdef bytes text = _encode_small(obj)
    if text is not None:
        return text
    cdef object plain = _enums_to_ints(obj)
    cdef int writer = _writer_of(plain, 0)
    if writer == FOR_VALUES:
        try:
            plain = to_plain(obj)
        except RecursionError:  # json has more room, and an error for a value that contains itself
            writer = FOR_JSON
        else:
            writer = _writer_of(plain, 0)
    if writer == FOR_ORJSON:
        try:
            text = _orjson_dumps(plain)
        except TypeError:  # an integer over 64 bits, a lone surrogate
            pass
        else:
            return _to_json_dumps_style(text)
    try:
        return _json_encode(plain).encode('ascii')
    except RecursionError:
        raise ValueError('The message is nested too deep to be encoded') from None


def as_bytes(data) -> bytes:
    """Encode a message.

    Parameters
    ----------
    data : Any
        Bytes are sent as they are, text is encoded as UTF-8. Everything else is encoded as JSON: anything that
        ``json.dumps`` accepts; also dates, UUIDs, data classes, enums and numpy arrays.

    Returns
    -------
    bytes
        The encoded message.

    Raises
    ------
    TypeError
        The message contains an unsupported type.
    ValueError
        The message contains itself, or is nested too deep.
    """
    if type(data) is tuple or not is_raw(data):
        return encode(data)
    return data.encode() if isinstance(data, str) else bytes(data)


cpdef bytes encode_event(data):
    """Return a list or tuple that begins with an event code as JSON; None if it is, or becomes, anything else."""
    cdef bytes frame
    if type(data) is not tuple and type(data) is not list:
        return None
    frame = encode(data)
    return frame if peek(frame) >= 0 else None


cpdef bint is_raw(data):
    """Return whether a message is sent as it is: bytes or text."""
    return isinstance(data, (str, bytes, bytearray, memoryview))


cdef bytes _encode_small(object obj):
    """Return a message of a few short words and numbers, as most are, in a fifth of the time; None for any other."""
    cdef char[SMALL] text
    cdef char *out = text
    cdef const char *word
    cdef Py_ssize_t i, n
    cdef long long number
    cdef int overflow
    if type(obj) is list and PyList_GET_SIZE(obj) <= 4:
        obj = tuple(obj)
    if type(obj) is not tuple or not 0 < PyTuple_GET_SIZE(obj) <= 4:
        return None
    out[0] = 91
    out += 1
    for i in range(PyTuple_GET_SIZE(obj)):
        item = <object>PyTuple_GET_ITEM(obj, i)
        if i:
            out[0] = 44
            out[1] = 32
            out += 2
        kind = type(item)
        if item is None:
            memcpy(out, b'null', 4)
            out += 4
        elif kind is str:
            if not PyUnicode_IS_COMPACT_ASCII(item) or out - text + PyUnicode_GET_LENGTH(item) > SMALL - 32:
                return None
            n = PyUnicode_GET_LENGTH(item)
            word = <const char *>PyUnicode_DATA(item)
            out[0] = 34
            if not er_copy_plain(out + 1, word, n):
                return None
            out[n + 1] = 34
            out += n + 2
        elif kind is int or kind is _ExpMessage or kind is _ExpStatus:
            number = PyLong_AsLongLongAndOverflow(item, &overflow)
            if overflow or not 0 <= number < 1000:
                return None
            if number >= 100:
                out[0] = <char>(48 + number // 100)
                out += 1
            if number >= 10:
                out[0] = <char>(48 + number // 10 % 10)
                out += 1
            out[0] = <char>(48 + number % 10)
            out += 1
        else:
            return None
        if out - text > SMALL - 32:
            return None
    out[0] = 93
    return PyBytes_FromStringAndSize(text, out + 1 - text)


cdef object _enums_to_ints(object obj):
    """Return a message whose event and status are plain numbers."""
    cdef list plain
    cdef Py_ssize_t i
    if type(obj) is tuple or type(obj) is list:
        plain = list(obj)
        for i in range(min(len(plain), 2)):
            if type(plain[i]) is _ExpMessage or type(plain[i]) is _ExpStatus:
                number = _NUMBERS.get(plain[i])
                if number is not None:
                    plain[i] = number
        return plain
    return obj


cdef int _writer_of(object obj, int depth) except -1:
    """Return what can write a value: orjson writes exact built-in types, text keys and finite floats as json does."""
    cdef Py_ssize_t i, pos = 0
    cdef PyObject *key
    cdef PyObject *value
    cdef double number
    cdef int writer = FOR_ORJSON
    kind = type(obj)
    if kind is str or kind is int or obj is None or kind is bool:
        return FOR_ORJSON
    if kind is float:
        number = obj
        return FOR_ORJSON if number == number and number != INFINITE and number != -INFINITE else FOR_JSON
    if depth > MAX_DEPTH:
        return FOR_JSON
    if kind is list:
        with cython.critical_section(obj):
            for i in range(PyList_GET_SIZE(obj)):
                writer = min(writer, _writer_of(<object>PyList_GET_ITEM(obj, i), depth + 1))
                if writer == FOR_VALUES:
                    break
        return writer
    if kind is tuple:
        for i in range(PyTuple_GET_SIZE(obj)):
            writer = min(writer, _writer_of(<object>PyTuple_GET_ITEM(obj, i), depth + 1))
            if writer == FOR_VALUES:
                break
        return writer
    if kind is dict:
        with cython.critical_section(obj):
            while writer != FOR_VALUES and PyDict_Next(obj, &pos, &key, &value):
                if type(<object>key) is not str:
                    writer = min(writer, FOR_JSON if type(<object>key) in JSON_KEYS else FOR_VALUES)
                writer = min(writer, _writer_of(<object>value, depth + 1))
        return writer
    return FOR_VALUES


cdef inline char _hex(unsigned int nibble) noexcept:
    return <char>(nibble + 48) if nibble < 10 else <char>(nibble + 87)


cdef inline char *_escape(char *out, unsigned int unit) noexcept:
    """Write one UTF-16 unit as \\uXXXX."""
    out[0] = 92
    out[1] = 117
    out[2] = _hex(unit >> 12)
    out[3] = _hex((unit >> 8) & 15)
    out[4] = _hex((unit >> 4) & 15)
    out[5] = _hex(unit & 15)
    return out + 6


cdef bytes _to_json_dumps_style(bytes text):
    """Return orjson's compact UTF-8 in the style of json.dumps."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(text), i = 0, extra = 0
    cdef bint in_string = False
    cdef unsigned char c
    cdef unsigned int point
    cdef bytes result
    cdef char *out
    # First pass: the additional length. A sequence of 2 or 3 bytes becomes 6, one of 4 becomes 12.
    while i < n:
        c = src[i]
        if in_string:
            if c == 92:
                i += 1
            elif c == 34:
                in_string = False
            elif c >= 0x7F:
                if c == 0x7F:
                    extra += 5
                elif c >= 0xF0:
                    extra += 8
                    i += 3
                elif c >= 0xE0:
                    extra += 3
                    i += 2
                else:
                    extra += 4
                    i += 1
        elif c == 34:
            in_string = True
        elif c == 44 or c == 58:
            extra += 1
        i += 1
    if extra == 0:
        return text
    result = PyBytes_FromStringAndSize(NULL, n + extra)
    out = PyBytes_AS_STRING(result)
    i = 0
    in_string = False
    while i < n:
        c = src[i]
        if in_string:
            if c == 92:
                out[0] = c
                i += 1
                out[1] = src[i]
                out += 2
            elif c < 0x7F:
                if c == 34:
                    in_string = False
                out[0] = c
                out += 1
            elif c == 0x7F:
                out = _escape(out, c)
            elif c >= 0xF0:
                point = ((c & 7) << 18 | (src[i + 1] & 63) << 12 | (src[i + 2] & 63) << 6 | (src[i + 3] & 63)) - 0x10000
                out = _escape(_escape(out, 0xD800 | point >> 10), 0xDC00 | point & 0x3FF)
                i += 3
            elif c >= 0xE0:
                out = _escape(out, (c & 15) << 12 | (src[i + 1] & 63) << 6 | (src[i + 2] & 63))
                i += 2
            else:
                out = _escape(out, (c & 31) << 6 | (src[i + 1] & 63))
                i += 1
        else:
            out[0] = c
            out += 1
            if c == 44 or c == 58:
                out[0] = 32
                out += 1
            elif c == 34:
                in_string = True
        i += 1
    return result


# --- decode ----------------------------------------------------------------------------------------------

cpdef decode(bytes data):
    """Return the value of a JSON text, as json.loads does. ValueError: it is no JSON, no UTF-8, or nested too deep."""
    if data is None:
        raise TypeError('A message is bytes, not None')
    short = _decode_small(data)
    if short is not None:
        return short
    if not _has_long_number(data):
        try:
            return _orjson_loads(data)
        except ValueError:  # also NaN, Infinity, lone surrogates, a byte order mark
            pass
    try:
        return json.loads(data.decode('utf-8-sig'))
    except RecursionError:
        raise ValueError('The message is nested too deep to be decoded') from None


cdef list _decode_small(bytes data):
    """Return what `_encode_small` wrote, with or without a tag, in a third of the time; None for anything else."""
    cdef const char *src = PyBytes_AS_STRING(data)
    cdef const char *end = src + PyBytes_GET_SIZE(data) - 1
    cdef const char *word
    cdef int number
    cdef list message = []
    if src[0] != 91 or end[0] != 93:
        return None
    while end - src > 8 and er_is_blank(<const unsigned char *>end - 8):  # the tag
        end -= 8
    if not 2 <= end - src < SMALL:
        return None
    while True:
        src += 1
        if src[0] == 34:
            src += 1
            word = src
            src = er_skip_plain(src, end)
            if src[0] != 34:
                return None
            message.append(PyUnicode_DecodeASCII(word, src - word, NULL))
            src += 1
        elif 48 <= src[0] <= 57:
            number = src[0] - 48
            src += 1
            if number:
                while 48 <= src[0] <= 57 and number < 1000:
                    number = 10 * number + src[0] - 48
                    src += 1
            message.append(number)
        elif end - src >= 4 and memcmp(src, b'null', 4) == 0:
            message.append(None)
            src += 4
        else:
            return None
        if src[0] == 44 and src[1] == 32:
            src += 1
            continue
        while src < end and (src[0] == 32 or src[0] == 9):
            src += 1
        return message if src == end else None


cdef bint _has_long_number(bytes data) noexcept:
    """Return whether there are so many digits in a row that orjson might make a float of an integer."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data), i = LONG_NUMBER - 1, back
    # A sequence of 19 digits has one at every 19th place: test these first, then their neighbours.
    while i < n:
        back = 0
        while back < LONG_NUMBER and 48 <= src[i - back] <= 57:
            back += 1
        if back == LONG_NUMBER:
            return True
        i += LONG_NUMBER - back
    return False


# --- peek ------------------------------------------------------------------------------------------------

cpdef int peek(bytes frame) noexcept:
    """Return the event code of a message without decoding it.

    The code is the number that the array starts with, 0 for a notice. It is -1 if the bytes do not start an array whose
    first element is a whole number of at most 9 digits.
    """
    if frame is None:
        return -1
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), i = 0, start
    cdef int code = 0
    while i < n and _is_space(src[i]):
        i += 1
    if i == n or src[i] != 91:
        return -1
    i += 1
    while i < n and _is_space(src[i]):
        i += 1
    start = i
    while i < n and i - start < 9 and 48 <= src[i] <= 57:
        code = code * 10 + (src[i] - 48)
        i += 1
    if i == start or i == n or (src[start] == 48 and i - start > 1):
        return -1
    if src[i] == 44 or src[i] == 93 or _is_space(src[i]):
        return code
    return -1


cdef inline bint _is_space(unsigned char c) noexcept:
    return c == 32 or c == 9 or c == 10 or c == 13


# --- compare ---------------------------------------------------------------------------------------------

cpdef int compare(bytes sent, bytes received, Py_ssize_t min_truncated, Py_ssize_t max_size) noexcept:
    """Compare a sent frame with a received one; return EQUAL, TRUNCATED or DIFFERENT.

    A prefix is a truncated echo from `min_truncated` bytes on, or at exactly `max_size` bytes, the buffer size of the peer.
    """
    if sent is None or received is None:
        return 0
    cdef Py_ssize_t n = PyBytes_GET_SIZE(sent), m = PyBytes_GET_SIZE(received)
    if m > n or m == 0 or (m < n and m < min_truncated and m != max_size):
        return 0
    if memcmp(PyBytes_AS_STRING(sent), PyBytes_AS_STRING(received), <size_t>m) != 0:
        return 0
    return 1 if m == n else 2
