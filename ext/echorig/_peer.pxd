from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SLOTS = 64       # numbers remembered, in each direction
    STRIDE = 1 << 19 # how many messages to others a program may send between two to us
    REPEATERS = 16   # untagged frames whose repetition is counted
    LINES = 1 << 15  # of the table of traces
    WAYS = 8         # traces in each, as many as the processor fetches at once
    # How well a peer is known: those below are forgotten first.
    STRANGER = 0     # it has said something
    RETURNED = 1     # it has said something again after a while
    PROVEN = 2       # it has confirmed something of ours, which nobody can who only pretends to be there
    UNKNOWN = 0
    TAGGING = 1
    PLAIN = 2

cdef class Limits:
    cdef bint tags, signed
    cdef double first_probe, first_retry, min_retry, max_retry, due_age, burst_time
    cdef Py_ssize_t max_peers, max_due, max_numbers, min_truncated, max_size
    cdef int message_burst, malformed_burst, quick_retries

cdef class Peer:
    cdef list flying           # sends that are out, in order
    cdef object queue          # sends that wait for their turn (a deque, made when needed)
    cdef list due              # (frame, time) of untagged ones whose echo may still come
    cdef int kind
    cdef bint heard            # something came from it
    cdef bint refused          # the system says that nobody listens there
    cdef bint probing          # a ping is out to learn its kind
    cdef double active         # when it was last heard from or sent to
    cdef double last_seen      # when it was last heard from
    cdef double since          # when it was first heard from or sent to
    cdef bint returned         # it was forgotten in between,
    cdef uint32_t trace        # and this is the digest of what it had said last
    cdef double srtt, rttvar, min_rtt
    cdef unsigned long long n_sent, n_confirmed, n_failed, n_retransmitted, n_duplicates, n_strays, n_malformed
    cdef unsigned long long n_restarts
    cdef unsigned int newest   # the number of its newest message
    cdef bint numbered         # there is one
    cdef unsigned int received[SLOTS]
    cdef uint64_t received_hash[SLOTS]
    cdef double received_at[SLOTS]
    cdef int n_received
    cdef unsigned int sent[SLOTS]
    cdef uint64_t sent_hash[SLOTS]
    cdef double sent_at[SLOTS]
    cdef int n_sent_noted
    cdef uint64_t repeated[REPEATERS]
    cdef double repeated_since[REPEATERS]
    cdef int repeats[REPEATERS]

    cdef int current_kind(self, double now, Limits limits) noexcept
    cdef bint knows(self, unsigned int number, bytes frame, double now, Limits limits)
    cdef bint is_known(self, unsigned int number, bytes frame, double now, Limits limits)
    cdef void follow(self, unsigned int number) noexcept
    cdef void note_sent(self, unsigned int number, bytes frame, double now, Limits limits)
    cdef bint was_sent(self, unsigned int number, bytes frame, double now, Limits limits)
    cdef double time_sent(self, unsigned int number, Limits limits) noexcept
    cdef void owe(self, bytes frame, double now, Limits limits)
    cdef bint is_due(self, bytes frame, double now, Limits limits)
    cdef bint is_storm(self, bytes frame, int burst, double now, Limits limits)
    cdef void measure(self, double round_trip) noexcept
    cdef double retry_interval(self, Limits limits) noexcept
    cdef int standing(self) noexcept
    cdef uint32_t last_heard(self, Limits limits) noexcept

cdef class Traces:
    cdef uint64_t *traces
    cdef unsigned char *oldest

    cdef void add(self, Py_hash_t addr, uint32_t last) noexcept
    cdef bint find(self, Py_hash_t addr, uint32_t *last) noexcept
