# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Splitting a stream into frames. No I/O, no clock.

1. A frame is a JSON array, found by its brackets, strings and escapes. White space between frames is skipped.
2. Every byte is read once, however the stream is split: the splitter keeps its state.
3. A chunk that starts between frames with anything but ``[`` is a bare text frame, up to the end of the chunk.
4. The limit is checked before anything is kept: no more than `limit` bytes are held.
5. Nothing is raised. After a message over the limit, `overflow` is set and no more frames are returned.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cdef extern from "_bytes.h":
    bint er_is_blank(const unsigned char *text) noexcept

cdef enum:
    NOTHING = 0
    OPEN = 1
    CLOSE = 2
    QUOTE = 3

cdef unsigned char KINDS[256]  # of bytes outside of strings
cdef Py_ssize_t _code
for _code in range(256):
    KINDS[_code] = NOTHING
KINDS[91] = KINDS[123] = OPEN    # [ {
KINDS[93] = KINDS[125] = CLOSE   # ] }
KINDS[34] = QUOTE


cdef class FrameSplitter:
    """Splits a stream into messages of at most `limit` bytes.

    Attributes
    ----------
    overflow : bool
        Whether a message was larger than the limit, or the splitter was stopped.
    frames, received : int
        How many messages it has returned, and how many bytes it was given.
    """

    def __init__(self, Py_ssize_t limit):
        if limit < 1:
            raise ValueError(f'The limit must be at least 1 byte, not {limit}')
        self.limit = limit
        self.buffer = bytearray()

    @property
    def pending(self) -> int:
        """int: How many bytes of an incomplete message are held."""
        return len(self.buffer)

    @property
    def is_inside(self) -> bool:
        """bool: Whether a message is incomplete."""
        return self.depth != 0

    cpdef list feed(self, bytes chunk):
        """Return the messages that are complete after a chunk, in order; those before the one that set `overflow`."""
        cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(chunk)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(chunk), i = 0, start = 0, depth = self.depth
        cdef bint in_string = self.in_string, escaped = self.escaped
        cdef unsigned char c, kind
        cdef list frames = []
        self.received += n
        if self.overflow:
            return frames
        while i < n:
            if depth == 0:
                while i < n and (src[i] == 32 or src[i] == 9 or src[i] == 10 or src[i] == 13):
                    i += 1
                if i == n:
                    break
                start = i
                if src[i] != 91:
                    if n - i > self.limit:
                        return self._overflow(frames)
                    frames.append(chunk[i:])
                    i = n
                    break
                depth = 1
                i += 1
            # Inside a frame, to its end or that of the chunk.
            while i < n:
                c = src[i]
                i += 1
                if in_string:
                    if escaped:
                        escaped = False
                    elif c == 92:
                        escaped = True
                    elif c == 34:
                        in_string = False
                    continue
                kind = KINDS[c]
                if kind == NOTHING:
                    if c == 32 or c == 9:  # a tag is many of them
                        while n - i > 8 and er_is_blank(src + i):
                            i += 8
                    continue
                if kind == QUOTE:
                    in_string = True
                elif kind == OPEN:
                    depth += 1
                else:
                    depth -= 1
                    if depth == 0:
                        break
            if depth == 0:
                if len(self.buffer) + i - start > self.limit:
                    return self._overflow(frames)
                if self.buffer:
                    self.buffer += chunk[:i]
                    frames.append(bytes(self.buffer))
                    self.buffer = bytearray()
                elif start == 0 and i == n:
                    frames.append(chunk)
                else:
                    frames.append(PyBytes_FromStringAndSize(<const char *>src + start, i - start))
                start = i
        if depth:
            if len(self.buffer) + n - start > self.limit:
                return self._overflow(frames)
            self.buffer += chunk[start:]
        self.depth, self.in_string, self.escaped = depth, in_string, escaped
        self.frames += len(frames)
        return frames

    cpdef void stop(self):
        """Drop the incomplete message; no more messages are returned."""
        self.overflow = True
        self.buffer = bytearray()

    cdef list _overflow(self, list frames):
        self.stop()
        return frames
