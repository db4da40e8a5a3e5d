from echorig.delivery._expiry cimport ExpiryChecks
from echorig.delivery._peer cimport Limits, Peer, Send
from echorig.delivery._peer_table cimport PeerTable
from echorig.delivery._transmitter cimport Transmitter
from echorig.wire._tags cimport Tag

cdef class Exchange:
    cdef readonly list outbox    # the transmitter's
    cdef readonly list finished
    cdef readonly bytes reply
    cdef public object wall_clock  # returns the time in ns since 1970, for the echoes of pings, unless None
    cdef readonly unsigned long long n_malformed, n_damaged, n_received, n_echoes
    cdef Transmitter transmitter
    cdef ExpiryChecks expiry_checks
    cdef PeerTable table
    cdef dict peers          # the table's
    cdef Limits limits
    cdef bint stream
    cdef int refused_events  # whose messages are not accepted
    cdef long long identity  # of the last frame: its run, times 2**32, plus its number; -1 without a tag

    cdef Send _new_send(self, Peer peer, bytes frame, future, double now, double timeout)
    cdef Send start_send(self, bytes frame, addr, future, double now, double timeout, bint taggable, long long reply_to=?, bint expects_answer=?)
    cpdef int classify(self, bytes frame, addr, double now, double waited=?, bint sure=?) except -1
    cdef int _count_damaged(self, Peer peer) noexcept
    cdef _mark_seen(self, Peer peer, double now)
    cdef int _classify_echo(self, bytes frame, Tag *tag, addr, double now, double waited) except -1
    cdef _confirm(self, Peer peer, Send send, unsigned int number, double now)
    cdef int _mismatch(self, Peer peer, Send send, bytes frame, double now) except -1
    cdef _learn_echorig(self, Peer peer, unsigned int number, double now)
    cdef int _classify_returned(self, bytes frame, Tag *tag, addr, double now) except -1
    cdef int _classify_message(self, bytes frame, Tag *tag, addr, double now, double waited, bint sure) except -1
    cdef int _classify_untagged(self, bytes frame, addr, double now, bint broken) except -1
    cdef _end(self, Peer peer, Send send, int outcome)
    cpdef void set_max_size(self, Py_ssize_t max_size) noexcept
    cdef double next_due(self)
    cdef _time_out(self, Peer peer, Send send, double now)
