# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""How a signature is written into a message, and the key that it is made with. No I/O, no clock.

1. Bits are spaces (0) and tabs (1), as in the delivery tag: JSON does not see them.
2. Before the last bracket of a signed message stand the signature (128 bits), the run and number of the message that it
   answers (64, all spaces if it answers none), and the tag (128).
3. There is one way to write a message with its signature: no byte can be moved.
"""

from hashlib import blake2s

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from echorig.wire._tags cimport FIELD_SIZE, TAG_SIZE, read_answered, set_ack, write

cdef extern from "_bytes.h":
    void er_write_bits(unsigned char *out, unsigned int value) noexcept
    long long er_read_bits(const unsigned char *src) noexcept

cdef enum:
    MIN_KEY = 16  # bytes

OVERHEAD = SIGNED
"""int: What tag and signature add to a message, in bytes."""

cdef bytes NO_ANSWER = b' ' * FIELD_SIZE


cdef bytes written(bytes value):
    """Write 16 bytes as whitespace."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, SIGNATURE)
    _write(<unsigned char *>PyBytes_AS_STRING(out), value)
    return out


cdef inline void _write(unsigned char *out, bytes value) noexcept:
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(value)
    cdef int i
    for i in range(4):
        er_write_bits(
            out + WORD * i,
            <unsigned int>src[4 * i] << 24 | <unsigned int>src[4 * i + 1] << 16
            | <unsigned int>src[4 * i + 2] << 8 | <unsigned int>src[4 * i + 3],
        )


cdef bytes read_value(const unsigned char *src):
    """Read 16 bytes written as whitespace; None if they are something else."""
    cdef unsigned char value[16]
    cdef long long word
    cdef int i
    for i in range(4):
        word = er_read_bits(src + WORD * i)
        if word < 0:
            return None
        value[4 * i] = <unsigned char>(word >> 24)
        value[4 * i + 1] = <unsigned char>(word >> 16)
        value[4 * i + 2] = <unsigned char>(word >> 8)
        value[4 * i + 3] = <unsigned char>word
    return PyBytes_FromStringAndSize(<const char *>value, 16)


cdef bytes with_signature(bytes frame, bytes signature, bint may_answer=True):
    """Put a signature into a tagged message, and make room for what it answers where it answers nothing."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), body = n - 1 - TAG_SIZE
    cdef const char *src = PyBytes_AS_STRING(frame)
    cdef const char *answered = PyBytes_AS_STRING(NO_ANSWER)
    cdef bytes signed
    cdef char *out
    if may_answer and read_answered(frame) >= 0:
        body -= FIELD_SIZE
        answered = src + body
    signed = PyBytes_FromStringAndSize(NULL, body + SIGNED + 1)
    out = PyBytes_AS_STRING(signed)
    memcpy(out, src, <size_t>body)
    _write(<unsigned char *>out + body, signature)
    memcpy(out + body + SIGNATURE, answered, FIELD_SIZE)
    memcpy(out + body + SIGNATURE + FIELD_SIZE, src + n - 1 - TAG_SIZE, TAG_SIZE + 1)
    return signed


cdef bytes without_signature(bytes frame):
    """Take the signature out of a message of which it is known that it has a tag; None if it cannot have one."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), body = n - 1 - SIGNED, after
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    cdef long long first, second
    cdef bytes plain
    if body < 1:
        return None
    first = er_read_bits(src + body + SIGNATURE)
    second = er_read_bits(src + body + SIGNATURE + WORD)
    # It is nothing, or has its first bit set.
    if first < 0 or second < 0 or (first == 0 and second != 0) or 0 < first < 0x80000000:
        return None
    after = TAG_SIZE + 1 if first == 0 else TAG_SIZE + FIELD_SIZE + 1
    plain = PyBytes_FromStringAndSize(NULL, body + after)
    memcpy(PyBytes_AS_STRING(plain), src, <size_t>body)
    memcpy(PyBytes_AS_STRING(plain) + body, src + n - after, <size_t>after)
    return plain


cdef bytes number_frame(bytes random, unsigned int run, unsigned int number, bint welcome):
    """Return a hello or welcome without its signature."""
    cdef bytes frame = write(b'[' + written(random) + b']', run, number, 0, -1)
    return set_ack(frame) if welcome else frame


cdef unsigned int last_word(bytes number):
    """Return the number that a hello has in its tag."""
    return int.from_bytes(number[12:], 'big')


cdef bytes mac_of(base, bytes message):
    mac = base.copy()
    mac.update(message)
    return mac.digest()


def as_key(key) -> bytes:
    """Return the 32 bytes that a shared key stands for.

    Parameters
    ----------
    key : bytes or str
        The key as it was read from a file or an environment variable. Whitespace around text does not count, nor does
        a line feed after more than 16 bytes, with which files end.

    Returns
    -------
    bytes
        Its digest.

    Raises
    ------
    TypeError, ValueError
        The key is neither, or too short. The error does not show it.
    """
    if isinstance(key, str):
        key = key.strip().encode()
    elif not isinstance(key, (bytes, bytearray)):
        raise TypeError(f'A key is bytes or text, not {type(key).__name__}')
    if key.endswith(b'\n') and len(key) > MIN_KEY:
        key = key[:-1]
    if key.endswith(b'\r') and len(key) > MIN_KEY:
        key = key[:-1]
    if len(key) < MIN_KEY:
        raise ValueError(f'A key has at least {MIN_KEY} bytes, this one has {len(key)}: secrets.token_hex(32) makes one')
    return blake2s(key, person=b'er-key').digest()
