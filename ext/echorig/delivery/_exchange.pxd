from echorig.delivery._doubts cimport Doubts
from echorig.delivery._output cimport Output
from echorig.delivery._peer cimport Limits, Peer
from echorig.delivery._peer_table cimport PeerTable
from echorig.delivery._send cimport Send
from echorig.delivery._transmitter cimport Transmitter
from echorig.wire._tags cimport Tag

cdef class Exchange:
    cdef readonly list outbox    # the output's
    cdef readonly list finished
    cdef readonly bytes reply
    cdef readonly unsigned long long n_malformed, n_damaged, n_received
    cdef Output output
    cdef Transmitter transmitter
    cdef Doubts doubts
    cdef PeerTable table
    cdef dict peers          # the table's
    cdef list settled        # those of the doubts
    cdef Limits limits
    cdef bint stream
    cdef int refusing        # the events whose messages are not accepted
    cdef Send ended          # by the last frame
    cdef long long identity  # of the last frame: its run, times 2**32, plus its number; -1 without a tag

    cdef _confirm(self, Peer peer, Send send, unsigned int number, double now)
    cpdef Send send(self, bytes frame, addr, waiter, double now, double timeout, bint taggable=?, long long answered=?, bint asks=?)
    cdef Send begin(self, bytes frame, addr, waiter, double now, double timeout, bint taggable, long long answered=?, bint asks=?)
    cpdef int receive(self, bytes frame, addr, double now, double waited=?, bint sure=?) except -1
    cdef int sort(self, bytes frame, addr, double now, double waited, bint sure) except -1
    cdef int _damaged(self, Peer peer) noexcept
    cdef _hear(self, Peer peer, double now)
    cdef int _echo(self, bytes frame, Tag *tag, addr, double now, double waited) except -1
    cdef _know(self, Peer peer, unsigned int number, double now)
    cdef int _returned(self, bytes frame, Tag *tag, addr, double now) except -1
    cdef int _message(self, bytes frame, Tag *tag, addr, double now, double waited, bint sure) except -1
    cdef bint _is_wanted(self, Peer peer, long long asked)
    cdef int _untagged(self, bytes frame, addr, double now, bint broken) except -1
    cdef bint _is_echo_of(self, Peer peer, bytes frame)
    cpdef void set_max_size(self, Py_ssize_t max_size) noexcept
    cdef _time_out(self, Peer peer, Send send, double now)
