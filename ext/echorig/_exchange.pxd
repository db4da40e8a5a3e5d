from echorig._peer cimport Limits, Peer, Traces

cdef enum:
    # What a frame is.
    V_IGNORED = 0     # nothing to do
    V_CONFIRMED = 1   # the echo of a waiting send
    V_DELIVER = 2     # new: send `reply` back, then deliver it
    V_NOTICE = 3      # new, but never sent back: deliver it
    V_SWALLOWED = 4   # the echo of something that nobody waits for
    V_MISMATCH = 5    # not the echo of the waiting send, though it should be
    V_STORM = 6       # the same bytes again and again: dropped, so that an endless exchange ends
    V_ECHO = 7        # a duplicate or a ping: send `reply` back, but do not deliver it
    # How a send ended (or confirmed, mismatch).
    V_WAITING = 8
    V_TIMED_OUT = 9
    V_UNREACHABLE = 10
    V_LOST = 11
    # Again what a frame is.
    V_REFUSED = 12    # new, and there is no room for it: neither sent back nor delivered, and not remembered

cdef class Send:
    cdef readonly bytes frame
    cdef readonly object addr
    cdef readonly object waiter
    cdef readonly double started
    cdef readonly double deadline
    cdef readonly int outcome
    cdef readonly bint truncated
    cdef readonly bytes answer
    cdef readonly double round_trip
    cdef bint alone          # no other message may be under way with this one
    cdef bint flying         # it has been sent
    cdef bint tagged
    cdef bint crossed        # a message of the same event came, which may be meant as the echo
    cdef unsigned int number
    cdef list pings          # (number, time) of each ping sent, if it is one
    cdef double flown        # when it was first sent
    cdef double interval     # between two repetitions
    cdef double retry_at
    cdef bint repeated
    cdef int repetitions

cdef class Exchange:
    cdef readonly list outbox
    cdef readonly list finished
    cdef readonly bytes reply
    cdef readonly double alarm
    cdef readonly unsigned long long n_forgotten, n_turned_away, n_malformed
    cdef dict peers
    cdef Traces traces       # of those that were forgotten, once there are any
    cdef double full_until   # there is no room for strangers
    cdef Limits limits
    cdef bint stream
    cdef unsigned int number
    cdef Py_ssize_t max_frame
    cdef Py_ssize_t waiting
    cdef int refusing        # the events whose messages are not accepted
    cdef Send ended          # by the last frame
    cdef object last_addr    # the peer that was looked up last
    cdef Peer last_peer

    cpdef Send send(self, bytes frame, addr, waiter, double now, double timeout, bint taggable=?, long long answered=?)
    cdef Send begin(
        self, bytes frame, addr, waiter, double now, double timeout, bint taggable, long long answered=?
    )
    cdef int sort(self, bytes frame, addr, double now) except -1
    cpdef int receive(self, bytes frame, addr, double now) except -1
    cpdef void set_max_size(self, Py_ssize_t max_size) noexcept
    cdef bint _is_own_ping(self, Peer peer, bytes frame, long long value, double now)
    cdef int _flagged(self, Peer peer, bytes frame, unsigned int number, double now)
    cdef int _tagged(self, Peer peer, bytes frame, unsigned int number, double now)
    cdef int _untagged(self, Peer peer, bytes frame, double now)
    cdef _time_out(self, Peer peer, Send send, double now)
    cdef _retry(self, Peer peer, Send send, double now)
    cdef _repeat(self, Peer peer, Send send)
    cdef _learn(self, Peer peer, int kind, double now)
    cdef Peer _peer(self, addr, double now)
    cdef Peer _met(self, addr, double now)
    cdef bint _has_room(self, double now) except -1
    cdef Py_ssize_t _forget_idle(self, double now) except -1
    cdef unsigned int _next_number(self) noexcept
    cdef bint _may_tag(self, Peer peer, bytes frame, double now)
    cdef _tag(self, Send send, bytes frame, long long answered=?)
    cdef bytes _tagged_frame(self, bytes frame, unsigned int number, long long answered)
    cdef _enter(self, Peer peer, Send send, double now)
    cdef bint _may_fly(self, Peer peer, Send send)
    cdef _fly(self, Peer peer, Send send, double now)
    cdef _schedule(self, Peer peer, Send send, double now)
    cdef Send _find(self, Peer peer, unsigned int number)
    cdef _confirm(self, Peer peer, Send send, unsigned int number, double now)
    cdef _end(self, Peer peer, Send send, int outcome, double now)
