# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""What two programs have agreed on, and which numbers were accepted. No I/O, no clock.

1. A session is for the messages of one program to another, and their echoes.
2. A number is accepted once: the sliding window of RFC 4303, section 3.4.3, of 1,024 numbers.
"""

cimport cython

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

cdef unsigned int NUMBERS = 0x7FFFFFFF
cdef unsigned int HALF = 0x40000000


@cython.final
cdef class Session:
    """What two programs have agreed on for the messages of the first to the second.

    `asked` and `answered` are the random numbers of the two. The window says which numbers were accepted: bit i of
    `window` is number `newest` - i.
    """

    cdef bytes sign(self, bytes frame):
        mac = self.mac.copy()
        mac.update(frame)
        return mac.digest()

    cdef int judge(self, unsigned int number) noexcept:
        """Tell whether a number is new (1), was accepted (0), or is too old to say (-1)."""
        cdef unsigned int behind = (self.newest - number) & NUMBERS
        if not self.used or behind >= HALF:
            return 1
        if behind >= 64 * WORDS:
            return -1
        return 0 if self.window[behind >> 6] >> (behind & 63) & 1 else 1

    cdef bint is_next(self, unsigned int number) noexcept:
        """Tell whether a number is newer than all that were accepted."""
        return (self.newest - number) & NUMBERS >= HALF

    cdef void follow(self, Session before) noexcept:
        """Take over what an earlier session of the same program has accepted."""
        memcpy(self.window, before.window, sizeof(self.window))
        self.newest = before.newest
        self.used = before.used

    cdef void accept(self, unsigned int number) noexcept:
        cdef unsigned int ahead = (number - self.newest) & NUMBERS, behind = (self.newest - number) & NUMBERS
        cdef int i, words, bits
        if not self.used:
            memset(self.window, 0, sizeof(self.window))
            self.used = True
            self.newest = number
            behind = 0
        elif 0 < ahead <= HALF:
            words = <int>min(ahead >> 6, <unsigned int>WORDS)
            bits = <int>(ahead & 63)
            for i in range(WORDS - 1, -1, -1):
                self.window[i] = self.window[i - words] if i >= words else 0
            if bits:
                for i in range(WORDS - 1, -1, -1):
                    self.window[i] = self.window[i] << bits | (self.window[i - 1] >> (64 - bits) if i else 0)
            self.newest = number
            behind = 0
        if behind < 64 * WORDS:
            self.window[behind >> 6] |= <uint64_t>1 << (behind & 63)


@cython.final
cdef class Outgoing:
    """Our messages to one peer: the session they are signed for, and those that wait for one."""

    def __cinit__(self):
        self.held = []
        self.asked_at = self.used_at = float('-inf')
