from libc.stdint cimport uint64_t

cdef enum:
    # Whether a frame is signed.
    F_GENUINE = 0     # by who has the key, for this program
    F_HANDSHAKE = 1   # what begins a session
    F_UNSIGNED = 2    # not, or wrongly
    F_REPLAYED = 3    # too old to tell whether it was accepted before
    WORDS = 16        # of 64 numbers each, in the window of a session

cdef class Session:
    cdef object mac
    cdef bytes asked, answered
    cdef unsigned int first, newest
    cdef Session before
    cdef double used_at
    cdef bint used
    cdef uint64_t window[WORDS]

    cdef bytes sign(self, bytes frame)
    cdef int judge(self, unsigned int number) noexcept
    cdef bint is_next(self, unsigned int number) noexcept
    cdef bint has(self, unsigned int number) noexcept
    cdef void accept(self, unsigned int number) noexcept

cdef class Outgoing:
    cdef Session session, previous
    cdef unsigned int newest
    cdef double used_at
    cdef bint failed        # a message has, since the session began
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

cdef class Signer:
    cdef readonly list outbox
    cdef public bint seen
    cdef readonly int verdict
    cdef readonly Py_ssize_t holding
    cdef object hello_mac, welcome_mac, session_key, random
    cdef bint stream
    cdef Py_ssize_t max_peers, max_held
    cdef double retry, hold_time, idle
    cdef unsigned int lifetime
    cdef dict sending       # {address: Outgoing}
    cdef dict hellos        # {random number: address} of those that are out
    cdef dict receiving     # {address: Session} of messages to us
    cdef dict pending       # {address: [Session]} of those who have not shown that they are there now

    cpdef bytes seal(self, bytes frame, addr, double now)
    cpdef bytes open(self, bytes frame, addr, double now)
    cpdef bint accepted(self, bytes frame, addr) except -1
    cpdef drop(self, bytes frame, addr)
    cdef bint _serves(self, Outgoing out, unsigned int number, double now) noexcept
    cdef _hold(self, Outgoing out, bytes frame, double now)
    cdef _take(self, Outgoing out, Py_ssize_t i)
    cdef Session _session_of(self, bytes plain, bytes signature, addr, long long number, double now)
    cdef _shake(self, bytes plain, bytes signature, bytes random, addr, long long number, double now)
    cdef Outgoing _outgoing(self, addr)
    cdef _leave(self, addr)
    cdef _ask(self, Outgoing out, addr, double now)
    cdef _welcome(self, bytes asked, addr, double now)
    cdef _begin(self, Outgoing out, addr, bytes answered, double now)
    cdef Session _session(self, bytes asked, bytes answered)
