# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Messages to bytes and back, and what can be told from the bytes alone. No I/O, no clock.

1. What is written is spelled as ``json.dumps`` spells it (", " and ": ", ASCII with escapes; only floats may
   differ, 1e300 for 1e+300): MATLAB rigs compare bytes.
2. What ``json.dumps`` accepts is accepted and what ``json.loads`` reads is read, with equal results.
3. orjson does the work. Whatever it would refuse or change goes to ``json``.
4. Peeking and comparing never raise, whatever the bytes.
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
    SHORT = 256   # bytes

DIFFERENT = 0
EQUAL = 1
TRUNCATED = 2

cdef int MAX_DEPTH = 200  # orjson's own limit is 254; json takes over before that
cdef int LONG_NUMBER = 19  # the digits from which on an integer may not fit into 64 bits
cdef double INFINITE = float('inf')

cdef object _orjson_dumps = orjson.dumps
cdef object _orjson_loads = orjson.loads
cdef int _LEAF_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
cdef object _json_encode = json.JSONEncoder(default=lambda o: _orjson_loads(_orjson_dumps(o, option=_LEAF_OPTIONS))).encode
# The enums of the protocol as plain numbers: orjson takes three times as long over an enum.
cdef dict _NUMBERS = {member: int(member) for enum in (ExpMessage, ExpStatus) for member in enum}
cdef object _ExpMessage = ExpMessage
cdef object _ExpStatus = ExpStatus


# --- encode ----------------------------------------------------------------------------------------------

cpdef bytes encode(obj):
    """Write a message as JSON.

    Parameters
    ----------
    obj : Any
        What ``json.dumps`` can write; also dates, UUIDs, data classes, enums and numpy arrays.

    Returns
    -------
    bytes
        ASCII text.

    Raises
    ------
    TypeError
        There is something in it that cannot be written.
    ValueError
        It contains itself, or is nested too deep.
    """
    cdef bytes text = _short(obj)
    if text is not None:
        return text
    cdef object plain = _with_numbers(obj)
    if _is_plain(plain, 0):
        try:
            text = _orjson_dumps(plain)
        except TypeError:  # an integer over 64 bits, a lone surrogate
            pass
        else:
            return _respell(text)
    try:
        return _json_encode(obj).encode('ascii')
    except RecursionError:
        raise ValueError('The message is nested too deep to be written') from None
    except orjson.JSONEncodeError as ex:
        raise TypeError(f'The message cannot be written as JSON: {ex}') from ex


def as_bytes(data) -> bytes:
    """Turn a message into bytes.

    Parameters
    ----------
    data : Any
        Bytes are taken as they are, text is encoded as UTF-8, everything else is written as JSON.

    Returns
    -------
    bytes
        What travels.

    Raises
    ------
    TypeError, ValueError
        It cannot be written.
    """
    if type(data) is tuple or not is_raw(data):
        return encode(data)
    return data.encode() if isinstance(data, str) else bytes(data)


cpdef bint is_raw(data):
    """Tell whether a message travels as it is: bytes or text.

    Parameters
    ----------
    data : Any
        The message.

    Returns
    -------
    bool
        False for what is written as JSON.
    """
    return isinstance(data, (str, bytes, bytearray, memoryview))


cdef bytes _short(object obj):
    """Write a message of a few short words and numbers, as most are, in a fifth of the time; None for any other."""
    cdef char[SHORT] text
    cdef char *out = text
    cdef const char *word
    cdef Py_ssize_t i, n
    cdef long long number
    cdef int overflow
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
            if not PyUnicode_IS_COMPACT_ASCII(item) or out - text + PyUnicode_GET_LENGTH(item) > SHORT - 32:
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
        if out - text > SHORT - 32:
            return None
    out[0] = 93
    return PyBytes_FromStringAndSize(text, out + 1 - text)


cdef object _with_numbers(object obj):
    """Return the message with the event and status of the protocol, at its top, as plain numbers."""
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


cdef bint _is_plain(object obj, int depth) except -1:
    """Tell whether orjson writes this as json does: exact built-in types, text keys, finite floats."""
    cdef Py_ssize_t i, pos = 0
    cdef PyObject *key
    cdef PyObject *value
    cdef double number
    kind = type(obj)
    if kind is str or kind is int or obj is None or kind is bool:
        return True
    if kind is float:
        number = obj
        return number == number and number != INFINITE and number != -INFINITE
    if depth > MAX_DEPTH:
        return False
    if kind is list:
        with cython.critical_section(obj):
            for i in range(PyList_GET_SIZE(obj)):
                if not _is_plain(<object>PyList_GET_ITEM(obj, i), depth + 1):
                    return False
        return True
    if kind is tuple:
        for i in range(PyTuple_GET_SIZE(obj)):
            if not _is_plain(<object>PyTuple_GET_ITEM(obj, i), depth + 1):
                return False
        return True
    if kind is dict:
        with cython.critical_section(obj):
            while PyDict_Next(obj, &pos, &key, &value):
                if type(<object>key) is not str or not _is_plain(<object>value, depth + 1):
                    return False
        return True
    return False


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


cdef bytes _respell(bytes text):
    """Turn orjson's compact UTF-8 into the spelling of json.dumps."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(text)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(text), i = 0, extra = 0
    cdef bint quoted = False
    cdef unsigned char c
    cdef unsigned int point
    cdef bytes result
    cdef char *out
    # First pass: how much longer it becomes. A sequence of 2 or 3 bytes becomes 6, one of 4 becomes 12.
    while i < n:
        c = src[i]
        if quoted:
            if c == 92:
                i += 1
            elif c == 34:
                quoted = False
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
            quoted = True
        elif c == 44 or c == 58:
            extra += 1
        i += 1
    if extra == 0:
        return text
    result = PyBytes_FromStringAndSize(NULL, n + extra)
    out = PyBytes_AS_STRING(result)
    i = 0
    quoted = False
    while i < n:
        c = src[i]
        if quoted:
            if c == 92:
                out[0] = c
                i += 1
                out[1] = src[i]
                out += 2
            elif c < 0x7F:
                if c == 34:
                    quoted = False
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
                quoted = True
        i += 1
    return result


# --- decode ----------------------------------------------------------------------------------------------

cpdef decode(bytes data):
    """Read a JSON text.

    Parameters
    ----------
    data : bytes
        UTF-8 text.

    Returns
    -------
    Any
        What ``json.loads`` returns.

    Raises
    ------
    ValueError
        It is no JSON, no UTF-8, or nested too deep.
    """
    if data is None:
        raise TypeError('A message is bytes, not None')
    short = _read_short(data)
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
        raise ValueError('The message is nested too deep to be read') from None


cdef list _read_short(bytes data):
    """Read what `_short` wrote, with or without a tag, in a third of the time; None for anything else."""
    cdef const char *src = PyBytes_AS_STRING(data)
    cdef const char *end = src + PyBytes_GET_SIZE(data) - 1
    cdef const char *word
    cdef int number
    cdef list message = []
    if src[0] != 91 or end[0] != 93:
        return None
    while end - src > 8 and er_is_blank(<const unsigned char *>end - 8):  # the tag
        end -= 8
    if not 2 <= end - src < SHORT:
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
    """Tell whether there are so many digits in a row that orjson might make a float of an integer."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data), i = LONG_NUMBER - 1, back
    # A run of 19 digits has one at every 19th place: look there first, and around it only if it is one.
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
    """Tell the event code of a message without decoding it.

    Parameters
    ----------
    frame : bytes
        Any bytes.

    Returns
    -------
    int
        The number that the array starts with, 0 for a notice; -1 if the bytes do not start an array whose
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
    """Compare what came back with what was sent.

    Parameters
    ----------
    sent, received : bytes
        The message and its supposed echo.
    min_truncated : int
        The size in bytes from which on a prefix is taken for a truncated echo.
    max_size : int
        The size in bytes of the largest message that the peers are known to read; a prefix of just this size
        is a truncated echo too.

    Returns
    -------
    int
        ``EQUAL``, ``TRUNCATED`` or ``DIFFERENT``.
    """
    if sent is None or received is None:
        return 0
    cdef Py_ssize_t n = PyBytes_GET_SIZE(sent), m = PyBytes_GET_SIZE(received)
    if m > n or m == 0 or (m < n and m < min_truncated and m != max_size):
        return 0
    if memcmp(PyBytes_AS_STRING(sent), PyBytes_AS_STRING(received), <size_t>m) != 0:
        return 0
    return 1 if m == n else 2
