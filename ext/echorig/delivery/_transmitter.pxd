from echorig.delivery._peer cimport Limits, Peer, Send

cdef enum:
    RUNS = 0x7FFFFFFF
    LAST_NUMBER = 0xFFFFFFFF

cdef class Transmitter:
    cdef list outbox         # (frame, address) of frames to be sent now, in order
    cdef double alarm        # when `Exchange.expire` may have something to do
    cdef Limits limits
    cdef bint stream
    cdef dict peers          # the table's
    cdef Py_ssize_t max_frame
    cdef Py_ssize_t n_waiting  # sends that have not ended
    cdef set awaited_answers  # the identities of messages whose answer is awaited
    cdef unsigned int run, first_run
    cdef unsigned int number  # of the next message
    cdef unsigned int number_run  # the run of the one before it
    cdef set own_runs        # our former runs

    cdef bint is_own(self, unsigned int run) noexcept
    cdef unsigned long long position(self, unsigned int run, unsigned int number) noexcept
    cdef unsigned int next_number(self)
    cdef bint may_tag(self, Peer peer, bytes frame)
    cdef bytes tagged_frame(self, bytes frame, unsigned int number, unsigned int lifetime, long long reply_to)
    cdef unsigned int send_ping(self, addr, long long question=?) except 0
    cdef bytes transmit_unconfirmed(self, Peer peer, bytes frame, bint taggable, long long reply_to, double now)
    cdef enqueue(self, Peer peer, Send send, double now)
    cdef bint _may_transmit(self, Peer peer, Send send, double now)
    cdef _transmit(self, Peer peer, Send send, double now)
    cdef _tag(self, Peer peer, Send send, double now)
    cdef transmit_waiting(self, Peer peer, double now)
    cdef bint _transmit_next(self, Peer peer, double now) except -1
    cdef Send _next_sendable(self, Peer peer, double now)
    cdef bint is_window_open(self, Peer peer) noexcept
    cdef bint _may_write(self, Peer peer, double now) noexcept
    cdef _on_written(self, Peer peer, bytes frame, int event, double now)
    cdef bytes pace(self, Peer peer, bytes frame, int event, double now)
    cdef _drain(self, Peer peer, double now)
    cdef void _schedule_write(self, Peer peer, double now) noexcept
    cdef confirm(self, Peer peer, Send send, unsigned int number, double now)
    cdef finish(self, Peer peer, Send send, int outcome, double now)
    cdef _schedule(self, Peer peer, Send send, double now)
    cdef retry(self, Peer peer, Send send, double now)
    cdef postpone(self, Send send, double now)
    cdef _transmit_unsent(self, Peer peer, Send send, double now)
    cdef retransmit(self, Peer peer, Send send, double now)
    cdef set_kind(self, Peer peer, int kind, double now)
    cdef on_timer(self, Peer peer, double now)
    cdef bint _needs_probe(self, Peer peer, Send send, double now) noexcept
    cdef _send_probe(self, Peer peer, double now)

cdef bint is_array(bytes frame)
