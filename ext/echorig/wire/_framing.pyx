# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Whole messages out of a stream of bytes. No I/O, no clock.

1. A frame is a JSON array, found by its brackets, its strings and its escapes; whitespace between is skipped.
2. Every byte is looked at once, however the stream is cut: the splitter remembers where it stopped.
3. A chunk that starts, between frames, with anything but ``[`` is one bare text frame to the chunk's end.
4. The limit is checked before anything is kept: no more than `limit` bytes are ever held.
5. Nothing is raised: a stream with a message over the limit makes no sense any more, and `overflow` says so.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

# What a byte means outside of strings and inside of them.
cdef extern from "_bytes.h":
    bint er_is_blank(const unsigned char *text) noexcept

cdef enum:
    NOTHING = 0
    OPEN = 1
    CLOSE = 2
    QUOTE = 3

cdef unsigned char KINDS[256]
cdef Py_ssize_t _code
for _code in range(256):
    KINDS[_code] = NOTHING
KINDS[91] = KINDS[123] = OPEN    # [ {
KINDS[93] = KINDS[125] = CLOSE   # ] }
KINDS[34] = QUOTE


cdef class FrameSplitter:
    """Cuts a stream into messages.

    Parameters
    ----------
    limit : int
        The largest message, in bytes.

    Attributes
    ----------
    overflow : bool
        A message was larger than the limit, or it was stopped. Nothing more comes out of this splitter.
    frames, received : int
        How many messages have come out of it, and how many bytes have gone into it.
    """

    def __init__(self, Py_ssize_t limit):
        if limit < 1:
            raise ValueError(f'The limit must be at least 1 byte, not {limit}')
        self.limit = limit
        self.kept = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished message are held."""
        return len(self.kept)

    cpdef list feed(self, bytes chunk):
        """Take the next bytes of the stream.

        Parameters
        ----------
        chunk : bytes
            Any number of bytes.

        Returns
        -------
        list of bytes
            The messages that are complete now, in order; those before the one that set `overflow`.
        """
        cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(chunk)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(chunk), i = 0, start = 0, depth = self.depth
        cdef bint quoted = self.quoted, escaped = self.escaped
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
                        return self._refuse(frames)
                    frames.append(chunk[i:])
                    i = n
                    break
                depth = 1
                i += 1
            # Inside a frame, to its end or the chunk's.
            while i < n:
                c = src[i]
                i += 1
                if quoted:
                    if escaped:
                        escaped = False
                    elif c == 92:
                        escaped = True
                    elif c == 34:
                        quoted = False
                    continue
                kind = KINDS[c]
                if kind == NOTHING:
                    if c == 32 or c == 9:  # a tag is many of them
                        while n - i > 8 and er_is_blank(src + i):
                            i += 8
                    continue
                if kind == QUOTE:
                    quoted = True
                elif kind == OPEN:
                    depth += 1
                else:
                    depth -= 1
                    if depth == 0:
                        break
            if depth == 0:
                if len(self.kept) + i - start > self.limit:
                    return self._refuse(frames)
                if self.kept:
                    self.kept += chunk[:i]
                    frames.append(bytes(self.kept))
                    self.kept = bytearray()
                elif start == 0 and i == n:
                    frames.append(chunk)
                else:
                    frames.append(PyBytes_FromStringAndSize(<const char *>src + start, i - start))
                start = i
        if depth:
            if len(self.kept) + n - start > self.limit:
                return self._refuse(frames)
            self.kept += chunk[start:]
        self.depth, self.quoted, self.escaped = depth, quoted, escaped
        self.frames += len(frames)
        return frames

    cpdef void stop(self):
        """Forget what is held; nothing more comes out."""
        self.overflow = True
        self.kept = bytearray()

    cdef list _refuse(self, list frames):
        self.stop()
        return frames
