from echorig.delivery._output cimport Output
from echorig.delivery._peer cimport Limits, Peer
from echorig.delivery._send cimport Send

cdef class Transmitter:
    cdef Output output
    cdef list outbox         # the output's
    cdef Limits limits
    cdef bint stream
    cdef Py_ssize_t waiting  # sends that have not ended
    cdef set awaited         # the identities of messages whose answer is waited for

    cdef bytes transmit_unconfirmed(self, Peer peer, bytes frame, bint taggable, long long answered, double now)
    cdef enqueue(self, Peer peer, Send send, double now)
    cdef bint _may_fly(self, Peer peer, Send send, double now)
    cdef _fly(self, Peer peer, Send send, double now)
    cdef _tag(self, Peer peer, Send send, double now)
    cdef transmit_waiting(self, Peer peer, double now)
    cdef bint _let_one_fly(self, Peer peer, double now) except -1
    cdef Send _next_of(self, Peer peer, double now)
    cdef bint is_in_window(self, Peer peer) noexcept
    cdef bint _may_follow(self, Peer peer, double now) noexcept
    cdef _written(self, Peer peer, bytes frame, int event, double now)
    cdef bytes pace(self, Peer peer, bytes frame, int event, double now)
    cdef drain(self, Peer peer, double now)
    cdef void _wait_for_stream(self, Peer peer, double now) noexcept
    cdef confirm(self, Peer peer, Send send, unsigned int number, double now)
    cdef end(self, Peer peer, Send send, int outcome, double now)
    cdef _schedule(self, Peer peer, Send send, double now)
    cdef retry(self, Peer peer, Send send, double now)
    cdef repeat(self, Peer peer, Send send, double now)
    cdef set_kind(self, Peer peer, int kind, double now)
    cdef resume(self, Peer peer, double now)
    cdef bint _must_probe(self, Peer peer, Send send, double now) noexcept
    cdef probe(self, Peer peer, double now)

cdef bint is_array(bytes frame)
