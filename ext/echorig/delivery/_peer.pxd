from libc.stdint cimport uint64_t

cdef enum:
    WINDOW = 1024    # numbers below the newest of which it is known whether they were received
    WORDS = 16       # of 64 bits each
    REPEATERS = 16   # untagged frames whose repetition is counted
    UNKNOWN = 0
    ECHORIG = 1
    LEGACY = 2

cdef double REST

cdef class Limits:
    cdef bint tags, signed
    cdef double initial_rto, min_rto, max_rto, due_age, burst_time
    cdef Py_ssize_t max_peers, max_due, min_truncated_echo, max_size
    cdef int message_burst, malformed_burst, retries_before_backoff

cdef class Run:
    cdef unsigned int run
    cdef unsigned int newest       # the highest number accepted
    cdef bint used                 # there is one
    cdef unsigned int latest       # the highest number received, those of pings included
    cdef unsigned long long heard_before  # which message of ours was the next when that one came
    cdef Peer peer                 # where this program is, or was: `Exchange._holder` knows
    cdef double used_at
    cdef uint64_t window[WORDS]

    cdef int judge(self, unsigned int number) noexcept
    cdef void accept(self, unsigned int number) noexcept

cdef class Peer:
    cdef object addr           # where it is now
    cdef list flying           # sends that are out, in order
    cdef object queue          # sends that wait for their turn (a deque, made when needed)
    cdef object held           # (frame, taggable, answered) of messages nobody waits for, until they may be sent
    cdef object paced          # frames for a stream that may not follow each other closely
    cdef object doubted        # messages that may not be wanted any more,
    cdef Py_ssize_t doubted_size  # and how many bytes they have
    cdef list due              # (frame, time) of untagged ones whose echo may still come
    cdef int kind
    cdef bint was_echorig      # so it was when its kind was last known
    cdef unsigned int kind_since  # echoes of earlier numbers say nothing of what it is now
    cdef Run run               # its program
    cdef Peer former           # who was at this address before: an echo from there may still come
    cdef bint gone             # it was forgotten, lost, or joined with another
    cdef bint heard            # something came from it
    cdef bint quotes           # its notices quote messages, as those of MATLAB do
    cdef bint refused          # the system says that nobody listens there
    cdef double active         # when it was last heard from or sent to
    cdef double last_seen      # when it was last heard from
    cdef double srtt, rttvar, min_rtt
    cdef unsigned long long n_sent, n_confirmed, n_failed, n_retransmitted, n_duplicates, n_strays, n_malformed
    cdef unsigned long long n_restarts, n_damaged, n_expired
    cdef bytes unechoed        # the last message sent to it, until its echo has come,
    cdef double unechoed_at    # and when it was sent
    cdef list probes           # (number, time) of the pings that ask what it is, before its first message
    cdef double probe_at, probe_until, probe_interval
    cdef double quiet_until    # when the next frame may be written to a stream,
    cdef bint pipelines        # it sends messages without waiting for the echoes of others
    cdef double bare_until     # and the same after a bare text
    cdef unsigned int asked    # the number of the ping that asks whether a large message was lost
    cdef int events            # those of the messages sent to it
    cdef uint64_t repeated[REPEATERS]
    cdef double repeated_at[REPEATERS]
    cdef int repeated_event[REPEATERS]
    cdef int repeats[REPEATERS]
    cdef bint stopped[REPEATERS]

    cdef int current_kind(self, double now, Limits limits) noexcept
    cdef bint is_busy(self) noexcept
    cdef void sent_message(self, bytes frame, int event, double now) noexcept
    cdef bint is_at_work(self, double now) noexcept
    cdef void owe(self, bytes frame, double now, Limits limits)
    cdef bint is_due(self, bytes frame, double now, Limits limits)
    cdef bint is_storm(self, bytes frame, int event, double now, Limits limits)
    cdef void measure(self, double round_trip) noexcept
    cdef double retry_interval(self, Limits limits) noexcept
