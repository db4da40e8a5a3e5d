from echorig.delivery._doubts cimport Doubts
from echorig.delivery._output cimport Output
from echorig.delivery._peer cimport Limits, Peer, Run
from echorig.delivery._transmitter cimport Transmitter
from echorig.wire._tags cimport Tag

cdef class PeerTable:
    cdef Output output
    cdef Transmitter transmitter
    cdef Doubts doubts
    cdef list settled        # those of the doubts
    cdef Limits limits
    cdef bint stream
    cdef dict peers          # {address: Peer}
    cdef dict moved          # {former address: Peer}
    cdef dict runs           # {run: Run}; none of streams
    cdef dict former         # {address: (run, restarts)} of connections that are gone
    cdef set forgotten       # the runs that were forgotten
    cdef double begun        # when it had to do with somebody for the first time; negative before
    cdef double full_until   # there is no room for strangers
    cdef unsigned long long n_forgotten, n_turned_away
    cdef object last_addr    # the peer that was looked up last
    cdef Peer last_peer
    cdef Run last_run

    cdef remove(self, Peer peer, addr)
    cdef Peer find(self, addr)
    cdef Peer get_or_add(self, addr, double now)
    cdef Peer _new_peer(self, addr, double now)
    cdef Peer find_or_admit(self, addr, double now)
    cdef bint _has_room(self, double now) except -1
    cdef Py_ssize_t _forget_idle(self) except -1
    cdef Peer sender_of(self, Tag *tag, addr, double now)
    cdef Run new_run(self, unsigned int number, double now)
    cdef Peer holder(self, Run run)
    cdef succeed(self, Peer peer, Run run)
    cdef identify(self, Peer peer, bytes frame, unsigned long long asked, double now)
    cdef move(self, Peer peer, addr, double now)
    cdef _place(self, Peer peer, addr)
    cdef _join(self, Peer peer, Peer other)
