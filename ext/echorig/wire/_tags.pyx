# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Delivery tags: the identity of a message, in the white space of its JSON. No I/O, no clock.

1. A tag is 128 bytes directly before the final ``]``, each a space (0) or a tab (1), the most significant bit first:
   the ACK flag and the run (31 bits), the number, the lifetime in milliseconds, the check (32 bits each).
2. The check is the CRC-32C (RFC 3720, appendix B.4) of all bytes before the tag and of the first three words, each in
   four bytes, the most significant first. The flag is at a fixed distance from the end and a CRC is linear, so that the
   flag changes the check by exclusive or with a constant.
3. An answer has 64 bytes more before its tag: a tab, then the run and the number of the message that it answers.
4. A time is 64 bytes before that: a space, then nanoseconds since 1970 in UTC (63 bits). In a message it is when its
   callbacks shall run, in the answer when they ran, both on the clock of the rig.
5. A ping is an array of nothing but such a time, such a field and a tag. The time is 0 in a ping; an echorig peer
   echoes it with the time of its clock.
6. Nothing here raises on bytes from the network.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

cdef extern from "_crc.h":
    void er_crc_init() noexcept
    int er_crc_supported() noexcept
    uint32_t er_crc_by_table(uint32_t crc, const unsigned char *data, size_t n) noexcept
    uint32_t er_crc_by_processor(uint32_t crc, const unsigned char *data, size_t n) noexcept
    void er_write_bits(unsigned char *out, unsigned int value) noexcept
    long long er_read_bits(const unsigned char *src) noexcept

cdef enum:
    WORD = 32            # bytes of white space for 32 bits
    MANY_BLANKS = 112    # of those 128 bytes show a damaged tag
    PING_SIZE = TAG_SIZE + FIELD_SIZE + 2
    CLOCK_PING_SIZE = PING_SIZE + FIELD_SIZE + 1  # one more, since a signed ping must not be as long as a hello

cdef unsigned int FLAG = 0x80000000
cdef bytes EMPTY_PING = b'[' + b' ' * (2 * FIELD_SIZE + 1) + b']'

er_crc_init()
# The change of the check by the flag, which is 12 bytes before the end.
cdef uint32_t FLAG_IN_CHECK = er_crc_by_table(0, b'\x80' + b'\0' * 11, 12)
cdef bint _has_instruction = er_crc_supported()


cdef inline uint32_t _crc(uint32_t crc, const unsigned char *data, Py_ssize_t n) noexcept:
    if _has_instruction:
        return er_crc_by_processor(crc, data, <size_t>n)
    return er_crc_by_table(crc, data, <size_t>n)


cdef inline void _put_uint32(unsigned char *out, unsigned int value) noexcept:
    out[0] = <unsigned char>(value >> 24)
    out[1] = <unsigned char>(value >> 16)
    out[2] = <unsigned char>(value >> 8)
    out[3] = <unsigned char>value


cdef uint32_t _check(const unsigned char *body, Py_ssize_t n, unsigned int run, unsigned int number, unsigned int lifetime) noexcept:
    cdef unsigned char values[12]
    _put_uint32(values, run)  # with the flag, where there is one
    _put_uint32(values + 4, number)
    _put_uint32(values + 8, lifetime)
    return ~_crc(_crc(0xFFFFFFFF, body, n), values, 12)


cdef inline void _write_tag(unsigned char *out, uint32_t check, unsigned int run, unsigned int number, unsigned int lifetime) noexcept:
    er_write_bits(out, run)
    er_write_bits(out + WORD, number)
    er_write_bits(out + 2 * WORD, lifetime)
    er_write_bits(out + 3 * WORD, check)
    out[TAG_SIZE] = 93


cdef inline bint _is_blank(unsigned char c) noexcept:
    return c == 32 or c == 9


# --- reading ---

cdef int parse(bytes frame, Tag *tag) noexcept:
    """Read the tag of a frame; return `T_WHOLE`, `T_BROKEN` or `T_NONE`."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), i
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    cdef const unsigned char *at = src + n - 1 - TAG_SIZE
    cdef long long first, number, lifetime, check
    cdef int blanks = 0
    if n < TAG_SIZE + 2:
        return T_NONE
    if src[n - 1] == 93:
        first = er_read_bits(at)
        number = er_read_bits(at + WORD)
        lifetime = er_read_bits(at + 2 * WORD)
        check = er_read_bits(at + 3 * WORD)
        if (first | number | lifetime | check) >= 0:
            tag.ack = (first & FLAG) != 0
            tag.run = <unsigned int>(first & ~FLAG)
            tag.number = <unsigned int>number
            tag.lifetime = <unsigned int>lifetime
            tag.check = <unsigned int>check
            return T_WHOLE
    if src[0] != 91 or src[n - 2] == 34:  # a text may end with many spaces
        return T_NONE
    for i in range(TAG_SIZE):
        blanks += _is_blank(at[i])
    return T_BROKEN if blanks >= MANY_BLANKS else T_NONE


cdef bint is_intact(bytes frame, const Tag *tag) noexcept:
    """Return whether the check of a tagged frame is right."""
    cdef Py_ssize_t body = PyBytes_GET_SIZE(frame) - 1 - TAG_SIZE
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    return tag.check == _check(src, body, tag.run | FLAG if tag.ack else tag.run, tag.number, tag.lifetime)


cdef long long identity(bytes frame) noexcept:
    """Return the run, times 2**32, plus the number of a tagged frame; -1 if it has no tag."""
    cdef Tag tag
    if parse(frame, &tag) != T_WHOLE:
        return -1
    return <long long>tag.run << 32 | tag.number


cpdef long long read_reply_number(bytes frame) except -2:
    """Return which message a tagged message answers: its run, times 2**32, plus its number; -1 for none."""
    cdef Py_ssize_t at = PyBytes_GET_SIZE(frame) - 1 - TAG_SIZE - FIELD_SIZE
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    cdef long long run, number
    if at < 1 or src[at] != 9:
        return -1
    run = er_read_bits(src + at)
    number = er_read_bits(src + at + WORD)
    if run < 0 or number < 0:
        return -1
    return (run & ~FLAG) << 32 | number


cpdef long long read_time(bytes frame) noexcept:
    """Return the time in a tagged frame, in nanoseconds since 1970 in UTC; 0 without one."""
    cdef Py_ssize_t at = PyBytes_GET_SIZE(frame) - 1 - TAG_SIZE
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    cdef long long high, low
    if at >= FIELD_SIZE and src[at - FIELD_SIZE] == 9:
        at -= FIELD_SIZE
    at -= FIELD_SIZE
    if at < 1 or src[at] != 32:
        return 0
    high = er_read_bits(src + at)
    low = er_read_bits(src + at + WORD)
    return high << 32 | low if (high | low) >= 0 else 0


cpdef bint is_same(bytes sent, bytes received) noexcept:
    """Return whether two tagged frames are copies of one message, whatever their flag, lifetime and check."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(sent), flag = n - 1 - TAG_SIZE
    cdef const char *a = PyBytes_AS_STRING(sent)
    cdef const char *b = PyBytes_AS_STRING(received)
    if n != PyBytes_GET_SIZE(received) or flag < 1:
        return False
    return memcmp(a, b, <size_t>flag) == 0 and memcmp(a + flag + 1, b + flag + 1, 2 * WORD - 1) == 0


cpdef bint is_echo(bytes sent, bytes received) noexcept:
    """Return whether two tagged frames are equal but for the flag."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(sent), flag = n - 1 - TAG_SIZE
    cdef const char *a = PyBytes_AS_STRING(sent)
    cdef const char *b = PyBytes_AS_STRING(received)
    cdef long long checks
    if n != PyBytes_GET_SIZE(received) or flag < 1:
        return False
    if memcmp(a, b, <size_t>flag) != 0 or memcmp(a + flag + 1, b + flag + 1, 3 * WORD - 1) != 0 or b[n - 1] != 93:
        return False
    checks = er_read_bits(<const unsigned char *>a + flag + 3 * WORD) ^ er_read_bits(<const unsigned char *>b + flag + 3 * WORD)
    return checks == (0 if a[flag] == b[flag] else FLAG_IN_CHECK)


cpdef bint is_ping(bytes frame) noexcept:
    """Return whether a tagged message is a ping: an empty array, which every peer echoes and no callback receives."""
    cdef Py_ssize_t i, n = PyBytes_GET_SIZE(frame) - 1 - TAG_SIZE
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    if n < 1 or src[0] != 91:
        return False
    for i in range(1, n):
        if not _is_blank(src[i]):
            return False
    return True


# --- writing ---

cpdef bytes add_tag(
    bytes frame, unsigned int run, unsigned int number, unsigned int lifetime=0, long long reply_to=-1
):
    """Return a message with a tag, and with the name of the message that it answers, if `reply_to` is not negative."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), body = n - 1
    cdef bytes tagged
    cdef unsigned char *out
    if n < 2:
        raise ValueError(f'A message is an array, not {frame!r}')
    run &= ~FLAG
    if reply_to >= 0:
        body += FIELD_SIZE
    tagged = PyBytes_FromStringAndSize(NULL, body + TAG_SIZE + 1)
    out = <unsigned char *>PyBytes_AS_STRING(tagged)
    memcpy(out, PyBytes_AS_STRING(frame), <size_t>(n - 1))
    if reply_to >= 0:
        er_write_bits(out + n - 1, <unsigned int>(reply_to >> 32) | FLAG)
        er_write_bits(out + n - 1 + WORD, <unsigned int>(reply_to & 0xFFFFFFFF))
    _write_tag(out + body, _check(out, body, run, number, lifetime), run, number, lifetime)
    return tagged


cpdef bytes add_time(bytes frame, long long time):
    """Return an array with a time, in nanoseconds since 1970 in UTC; `add_tag` comes after it."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame)
    cdef bytes timed
    cdef unsigned char *out
    if n < 2 or time < 0:
        raise ValueError(f'An array and a time since 1970 are needed, not {frame!r} and {time}')
    timed = PyBytes_FromStringAndSize(NULL, n + FIELD_SIZE)
    out = <unsigned char *>PyBytes_AS_STRING(timed)
    memcpy(out, PyBytes_AS_STRING(frame), <size_t>(n - 1))
    er_write_bits(out + n - 1, <unsigned int>(time >> 32))
    er_write_bits(out + n - 1 + WORD, <unsigned int>(time & 0xFFFFFFFF))
    out[n - 1 + FIELD_SIZE] = 93
    return timed


cdef bytes with_lifetime(bytes frame, const Tag *tag, unsigned int lifetime):
    """Return a copy of a tagged message with another lifetime."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), body = n - 1 - TAG_SIZE
    cdef bytes copy = PyBytes_FromStringAndSize(PyBytes_AS_STRING(frame), n)
    cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(copy)
    _write_tag(out + body, _check(out, body, tag.run, tag.number, lifetime), tag.run, tag.number, lifetime)
    return copy


cpdef bytes set_ack(bytes frame):
    """Return a copy of a tagged message with the ACK flag set: the echo that echorig sends."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame)
    cdef bytes copy
    cdef unsigned char *out
    if n < TAG_SIZE + 2:
        raise ValueError(f'{frame!r} has no tag')
    copy = PyBytes_FromStringAndSize(PyBytes_AS_STRING(frame), n)
    out = <unsigned char *>PyBytes_AS_STRING(copy) + n - 1 - TAG_SIZE
    if out[0] != 9:
        out[0] = 9
        er_write_bits(out + 3 * WORD, <unsigned int>er_read_bits(out + 3 * WORD) ^ FLAG_IN_CHECK)
    return copy


cpdef bytes make_ping(unsigned int run, unsigned int number, long long question=-1):
    """Return a ping; `question` is the message of the receiver that it asks about, as in `read_reply_number`."""
    if question >= 0:
        return add_tag(b'[]', run, number, 0, question)
    return add_tag(EMPTY_PING, run, number, 0, -1)


cdef bytes reply_to_ping(bytes frame, const Tag *tag, unsigned int run, unsigned int wanted, long long time):
    """Return the echo of a ping, with our time, our run and the number of the message asked about if still wanted."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(frame)
    if n != PING_SIZE and n != CLOCK_PING_SIZE:
        return set_ack(frame)
    return set_ack(add_tag(b'[]' if n == PING_SIZE else add_time(b'[ ]', time), tag.run, tag.number, tag.lifetime, <long long>run << 32 | wanted))


# --- the same for Python ---

def read_tag(bytes frame not None) -> 'tuple | None':
    """Return the ACK flag, the run, the number and the lifetime in a tag, even if its check is wrong; None without a tag."""
    cdef Tag found
    if parse(frame, &found) != T_WHOLE:
        return None
    return bool(found.ack), found.run, found.number, found.lifetime


def is_damaged(bytes frame not None) -> bool:
    """Return whether a frame has a broken tag, or one whose check is wrong."""
    cdef Tag found
    cdef int state = parse(frame, &found)
    return state == T_BROKEN or (state == T_WHOLE and not is_intact(frame, &found))


def strip_tag(bytes frame not None) -> bytes:
    """Return a message without its tag and signature."""
    cdef Tag found
    if parse(frame, &found) != T_WHOLE:
        return frame
    if is_ping(frame):
        return b'[]'
    if len(frame) > SIGNED_SIZE + 1 and not frame[-1 - SIGNED_SIZE:-1].strip(b' \t'):
        return frame[:-1 - SIGNED_SIZE] + b']'
    fields = (read_reply_number(frame) >= 0) + (read_time(frame) > 0)
    return frame[:-1 - TAG_SIZE - fields * FIELD_SIZE] + b']'


def crc32c(bytes data not None, bint by_table=False) -> int:
    """Return the CRC-32C of bytes (RFC 3720, appendix B.4); by table, as without the processor's instruction."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(data)
    if by_table:
        return ~er_crc_by_table(0xFFFFFFFF, src, <size_t>len(data)) & 0xFFFFFFFF
    return ~_crc(0xFFFFFFFF, src, len(data)) & 0xFFFFFFFF
