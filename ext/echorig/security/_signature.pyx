# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The encoding of signatures in messages, and the shared key. No I/O, no clock.

1. Bits are encoded as spaces (0) and tabs (1), as in the delivery tag. JSON parsers ignore them.
2. Before the last bracket of a signed message stand the signature (128 bits), the run and number of the message that it
   answers (64 bits, zero if it answers none), and the tag (128 bits).
3. The encoding of a message with its signature is unique: no byte can be moved.
"""

import codecs
from hashlib import blake2s

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from echorig.wire._tags cimport FIELD_SIZE, TAG_SIZE, read_reply_number, set_ack, add_tag

cdef extern from "_bytes.h":
    void er_write_bits(unsigned char *out, unsigned int value) noexcept
    long long er_read_bits(const unsigned char *src) noexcept

cdef enum:
    MIN_KEY = 16  # bytes

OVERHEAD = SIGNED  # bytes that tag and signature add to a message

cdef bytes NO_ANSWER = b' ' * FIELD_SIZE


cdef bytes encode_bits(bytes value):
    """Return 16 bytes as whitespace."""
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


cdef bytes decode_bits(const unsigned char *src):
    """Return the 16 bytes that are encoded as whitespace; None if there is anything else."""
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


cdef bytes insert_signature(bytes frame, bytes signature, bint may_answer=True):
    """Return a tagged message with a signature, and with an empty reply number if it had none."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), body = n - 1 - TAG_SIZE
    cdef const char *src = PyBytes_AS_STRING(frame)
    cdef const char *answered = PyBytes_AS_STRING(NO_ANSWER)
    cdef bytes signed
    cdef char *out
    if may_answer and read_reply_number(frame) >= 0:
        body -= FIELD_SIZE
        answered = src + body
    signed = PyBytes_FromStringAndSize(NULL, body + SIGNED + 1)
    out = PyBytes_AS_STRING(signed)
    memcpy(out, src, <size_t>body)
    _write(<unsigned char *>out + body, signature)
    memcpy(out + body + SIGNATURE, answered, FIELD_SIZE)
    memcpy(out + body + SIGNATURE + FIELD_SIZE, src + n - 1 - TAG_SIZE, TAG_SIZE + 1)
    return signed


cdef bytes remove_signature(bytes frame):
    """Return a tagged message without its signature; None if it cannot have one."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), body = n - 1 - SIGNED, after
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    cdef long long first, second
    cdef bytes plain
    if body < 1:
        return None
    first = er_read_bits(src + body + SIGNATURE)
    second = er_read_bits(src + body + SIGNATURE + WORD)
    # A reply number is zero, or has its first bit set.
    if first < 0 or second < 0 or (first == 0 and second != 0) or 0 < first < 0x80000000:
        return None
    after = TAG_SIZE + 1 if first == 0 else TAG_SIZE + FIELD_SIZE + 1
    plain = PyBytes_FromStringAndSize(NULL, body + after)
    memcpy(PyBytes_AS_STRING(plain), src, <size_t>body)
    memcpy(PyBytes_AS_STRING(plain) + body, src + n - after, <size_t>after)
    return plain


cdef bytes handshake_frame(bytes random, unsigned int run, unsigned int number, bint welcome):
    """Return a hello or welcome without its signature."""
    cdef bytes frame = add_tag(b'[' + encode_bits(random) + b']', run, number, 0, -1)
    return set_ack(frame) if welcome else frame


cdef unsigned int hello_number(bytes random):
    """Return the number in the tag of a hello."""
    return int.from_bytes(random[12:], 'big')


cdef bytes mac_of(base, bytes message):
    mac = base.copy()
    mac.update(message)
    return mac.digest()


# What editors and shells of Windows put before a text; UTF-16 may also come without.
_MARKS = (
    (codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'),
    (b'', 'utf-16-le'), (b'', 'utf-16-be'),
)
_BLANK = ' \t\r\n\v\f\ufeff'


def as_key(key) -> bytes:
    """Return the 32-byte digest of a shared key as it was read from a file or an environment variable.

    The same key has the same digest as text and in a file with whitespace around it, with a byte order mark, or in
    UTF-16, as PowerShell writes it. Of other bytes the line feed at the end is ignored if the key is longer than 16
    bytes. Errors do not show the key.
    """
    if isinstance(key, str):
        key = key.strip(_BLANK).encode()
    elif isinstance(key, (bytes, bytearray)):
        key = _from_file(bytes(key))
    else:
        raise TypeError(f'A key is bytes or text, not {type(key).__name__}')
    if len(key) < MIN_KEY:
        raise ValueError(f'A key has at least {MIN_KEY} bytes, not {len(key)}: secrets.token_hex(32) makes one')
    return blake2s(key, person=b'er-key').digest()


def _from_file(bytes content) -> bytes:
    """Return the key in a file."""
    for mark, encoding in _MARKS:
        if content.startswith(mark) and (mark or (content.isascii() and 0 in content)):
            try:
                text = content.decode(encoding).strip(_BLANK)
            except UnicodeDecodeError:
                continue
            if text.isascii() and text.isprintable() and text:
                return text.encode()
    if content.isascii() and len(content.strip()) >= MIN_KEY:
        return content.strip()
    if content.endswith(b'\n') and len(content) > MIN_KEY:
        content = content[:-1]
    if content.endswith(b'\r') and len(content) > MIN_KEY:
        content = content[:-1]
    return content
