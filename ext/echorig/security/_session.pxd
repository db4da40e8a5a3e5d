cdef class Session:
    cdef object mac
    cdef bytes asked, answered
    cdef unsigned int run     # of the program whose messages it is for
    cdef unsigned int newest  # of the numbers that have come
    cdef object addr          # where it was used last
    cdef double used_at

    cdef bytes sign(self, bytes frame)

cdef class Outgoing:
    cdef Session session, previous
    cdef unsigned int run, first, newest  # of the messages signed for the session
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
    cdef list held          # (time, number, frame, until when it is wanted) of those that wait for the session
    cdef Py_ssize_t size    # of them, in bytes
