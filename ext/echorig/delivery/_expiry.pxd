from echorig.delivery._peer cimport Peer
from echorig.delivery._transmitter cimport Transmitter
from echorig.wire._tags cimport Tag

cdef class Unverified:
    cdef bytes frame
    cdef object addr
    cdef long long identity
    cdef unsigned int question   # the number of the ping that asks about it; 0 once that is answered
    cdef double answer_until     # when the answer is due
    cdef double wanted_until     # when the message expires, by what is known of it

cdef class ExpiryChecks:
    cdef Transmitter transmitter
    cdef bint stream
    cdef Py_ssize_t n_unverified
    cdef unsigned long long n_expired
    cdef list answered_peers     # the peers whose unverified messages may be delivered or asked about again

    cdef add(self, Peer peer, bytes frame, Tag *tag, addr, double now, double waited, bint ask)
    cdef _schedule(self, Peer peer)
    cdef _drop(self, Peer peer, Py_ssize_t i)
    cdef _expired(self, Peer peer, Py_ssize_t i)
    cdef _note_answer(self, Peer peer)
    cdef on_timer(self, Peer peer, double now)
    cdef on_answer(self, Peer peer, bytes frame, unsigned int number, double now, double waited)
    cdef next_verified(self, double now)
    cdef disconnect(self, Peer peer)
    cdef merge(self, Peer peer, Peer other)
