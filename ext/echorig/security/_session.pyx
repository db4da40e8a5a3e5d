# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""What two programs have agreed on. No I/O, no clock.

A session is for the messages of one program to another, and their echoes. Which messages were received is not its
concern: their runs and numbers are signed, and the exchange remembers those.
"""

cimport cython


@cython.final
cdef class Session:
    """What two programs have agreed on for the messages of the first to the second.

    `asked` and `answered` are the random numbers of the two.
    """

    cdef bytes sign(self, bytes frame):
        mac = self.mac.copy()
        mac.update(frame)
        return mac.digest()


@cython.final
cdef class Outgoing:
    """Our messages to one peer: the session they are signed for, and those that wait for one."""

    def __cinit__(self):
        self.held = []
        self.asked_at = self.used_at = float('-inf')
