from echorig.security._session cimport Outgoing, Session
from echorig.wire._tags cimport Tag

cdef enum:
    # Whether a frame is signed.
    F_GENUINE = 0     # by who has the key, for this program
    F_HANDSHAKE = 1   # what begins a session
    F_UNSIGNED = 2    # not, or wrongly
    F_REPLAYED = 3    # too old to tell whether it was accepted before

cdef class Signer:
    cdef readonly list outbox
    cdef readonly int verdict
    cdef readonly Py_ssize_t holding
    cdef object hello_mac, welcome_mac, session_key, random
    cdef bint stream
    cdef Py_ssize_t max_peers, max_held
    cdef double retry, hold_time, idle
    cdef unsigned int lifetime
    cdef dict sending       # {address: Outgoing}
    cdef unsigned int run   # ours
    cdef dict places        # {address: run of the program that was there last}
    cdef dict receiving     # {run: Session} of messages to us
    cdef dict pending       # {run: [Session]} of those who have not shown that they are there now

    cpdef bytes seal(self, bytes frame, addr, double now)
    cpdef bytes open(self, bytes frame, addr, double now)
    cpdef drop(self, bytes frame, addr)
    cdef double _patience(self, Outgoing out, const Tag *tag) noexcept
    cdef bint _serves(self, Outgoing out, Tag *tag, double now) noexcept
    cdef _hold(self, Outgoing out, bytes frame, const Tag *tag, double now)
    cdef _take(self, Outgoing out, Py_ssize_t i)
    cdef Session _session_of(self, bytes plain, bytes signature, addr, Tag *tag, double now)
    cdef _promote(self, Session session, addr, double now)
    cdef _shake(self, bytes plain, bytes signature, bytes random, addr, Tag *tag, double now)
    cdef Outgoing _outgoing(self, addr)
    cdef _leave(self, addr)
    cdef _ask(self, Outgoing out, addr, const Tag *tag, double now)
    cdef _welcome(self, bytes asked, unsigned int run, addr, double now)
    cdef _release(self, Outgoing out, addr, double now)
    cdef _begin(self, Outgoing out, addr, bytes answered, double now)
    cdef Session _session(self, bytes asked, bytes answered)
