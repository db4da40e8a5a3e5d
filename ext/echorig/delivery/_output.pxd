from echorig.delivery._peer cimport Limits, Peer

cdef enum:
    RUNS = 0x7FFFFFFF

cdef class Output:
    cdef list outbox         # (frame, address) of what is to be sent now, in order
    cdef double alarm        # when `Exchange.expire` may have something to do
    cdef Limits limits
    cdef dict peers          # the table's
    cdef Py_ssize_t max_frame
    cdef unsigned int run, first_run
    cdef unsigned int number # of the next message
    cdef unsigned int number_run  # the run of the one before it
    cdef set own_runs        # ours, once there have been several

    cdef bint is_own(self, unsigned int run) noexcept
    cdef unsigned long long position(self, unsigned int run, unsigned int number) noexcept
    cdef unsigned int next_number(self)
    cdef bint may_tag(self, Peer peer, bytes frame)
    cdef bytes tagged_frame(self, bytes frame, unsigned int number, unsigned int life, long long answered)
    cdef unsigned int ask(self, addr, long long identity=?) except 0
