from libc.stdint cimport uint64_t

cdef enum:
    WORDS = 16       # of 64 numbers each, in the window of a session

cdef class Session:
    cdef object mac
    cdef bytes asked, answered
    cdef unsigned int first, newest
    cdef double used_at
    cdef bint used
    cdef uint64_t window[WORDS]

    cdef bytes sign(self, bytes frame)
    cdef int judge(self, unsigned int number) noexcept
    cdef bint is_next(self, unsigned int number) noexcept
    cdef void follow(self, Session before) noexcept
    cdef void accept(self, unsigned int number) noexcept

cdef class Outgoing:
    cdef Session session, previous
    cdef unsigned int newest
    cdef double used_at
    cdef int failures       # messages that have failed since the session began
    cdef unsigned int failed  # the number of the last
    cdef bytes hello        # the random number of the hello that is out,
    cdef bytes welcomed     # and of the one before it
    cdef int asked          # how often it was sent,
    cdef double asked_at    # and when for the last time
    cdef double patience    # how long an echo may take before the peer is asked whether it is still the same program
    cdef bint unanswered    # nothing has answered
    cdef unsigned int awaited  # the message of this number
    cdef double since       # since it was signed
    cdef list held          # (time, frame) of those that wait for the session
    cdef Py_ssize_t size    # of them, in bytes
