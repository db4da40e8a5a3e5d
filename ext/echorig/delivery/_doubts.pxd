from echorig.delivery._output cimport Output
from echorig.delivery._peer cimport Peer
from echorig.wire._tags cimport Tag

cdef class Doubts:
    cdef Output output
    cdef bint stream
    cdef Py_ssize_t n_doubted
    cdef unsigned long long n_expired
    cdef list settled        # the peers that have said of a doubted message whether it is wanted

    cdef add(self, Peer peer, bytes frame, Tag *tag, addr, double now, double waited, bint ask)
    cdef _wait_for_answer(self, Peer peer)
    cdef _drop_doubted(self, Peer peer, Py_ssize_t i)
    cdef expire(self, Peer peer, double now)
    cdef answer(self, Peer peer, bytes frame, unsigned int number, double now, double waited)
    cdef next_wanted(self, double now)
