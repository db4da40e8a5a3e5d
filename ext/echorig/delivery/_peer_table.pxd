from echorig.delivery._expiry cimport ExpiryChecks
from echorig.delivery._peer cimport Limits, Peer, Run
from echorig.delivery._transmitter cimport Transmitter
from echorig.wire._tags cimport Tag

cdef class PeerTable:
    cdef Transmitter transmitter
    cdef ExpiryChecks expiry_checks
    cdef Limits limits
    cdef bint stream
    cdef dict peers          # {address: Peer}
    cdef dict moved          # {former address: Peer}
    cdef dict runs           # {run: Run}; none of streams
    cdef dict closed_runs    # {address: (Run, restarts)} of closed connections
    cdef set forgotten_runs  # their numbers
    cdef double first_used_at  # negative before
    cdef double full_until   # there is no room for another peer
    cdef unsigned long long n_forgotten, n_turned_away
    cdef object last_addr    # of the last lookup
    cdef Peer last_peer
    cdef Run last_run

    cdef remove(self, Peer peer, addr)
    cdef inherit(self, former, addr)
    cdef Peer find(self, addr)
    cdef Peer get_or_add(self, addr, double now)
    cdef Peer _add(self, addr, double now)
    cdef Peer find_or_admit(self, addr, double now)
    cdef bint _has_room(self, double now) except -1
    cdef Py_ssize_t _forget_idle_peers(self) except -1
    cdef Peer find_sender(self, Tag *tag, addr, double now)
    cdef Run _add_run(self, unsigned int number, double now)
    cdef Py_ssize_t _forget_idle_runs(self) except -1
    cdef Peer _peer_of(self, Run run)
    cdef _set_run(self, Peer peer, Run run)
    cdef on_ping_echo(self, Peer peer, bytes frame, unsigned long long position, double now)
    cdef forget_former(self, addr)
    cdef relocate(self, before, addr, double now)
    cdef _move(self, Peer peer, addr, double now)
    cdef _merge(self, Peer peer, Peer other)
