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
    cdef double initial_rto, min_rto, max_rto, memory_seconds, burst_time
    cdef Py_ssize_t max_peers, max_expected_echoes, min_truncated_echo, max_size
    cdef int message_burst, malformed_burst, retries_before_backoff

cdef class Send:
    cdef readonly bytes frame  # with its tag, once it has been sent
    cdef readonly object addr
    cdef readonly object future  # the caller's; the exchange does not use it
    cdef readonly double started, deadline
    cdef readonly int outcome  # an `Outcome`
    cdef readonly bint truncated  # the echo was truncated
    cdef readonly bytes answer  # the frame that was received instead of the echo, after a mismatch
    cdef readonly double round_trip  # from sending to the echo, in seconds; of the ping that was echoed
    cdef readonly double echoed_at   # when the echo of a ping was received
    cdef readonly long long peer_time  # of the clock of the peer when it echoed a ping, in ns since 1970; 0 if unknown
    cdef readonly unsigned int number  # 0 before it is sent
    cdef bint exclusive      # no other message may be in flight at the same time
    cdef bint in_flight      # it has been sent
    cdef bint tagged, taggable
    cdef bint has_crossed    # a message of the same event was received, which may be meant as the echo
    cdef bint probed         # the peer was pinged before it
    cdef bint retransmitted
    cdef bint unsent         # the system did not send it
    cdef int n_retransmissions
    cdef long long reply_to  # the message that it answers, or -1
    cdef set awaited_answers  # that of the transmitter, while its answer is awaited
    cdef list pings          # (number, time) of each ping sent, if it is a ping
    cdef double sent_at      # when it was first sent
    cdef unsigned int next_number_when_sent  # for the last time
    cdef double interval     # between two retransmissions
    cdef double retry_at

cdef class Run:
    cdef unsigned int run
    cdef unsigned int newest       # the highest number accepted
    cdef bint has_accepted         # there is one
    cdef unsigned int latest       # the highest number received, including those of pings
    cdef unsigned long long our_position  # of our next message when that one was received
    cdef Peer peer                 # where this program is, or was; see `PeerTable.peer_of`
    cdef double used_at
    cdef uint64_t window[WORDS]

    cdef int check(self, unsigned int number) noexcept
    cdef void accept(self, unsigned int number) noexcept

cdef class Peer:
    cdef object addr           # its present address
    cdef list in_flight        # sends that have been sent, in order
    cdef object queue          # sends that wait for their turn: a deque, made when needed
    cdef object deferred       # (frame, taggable, reply_to) of unconfirmed messages that may not be sent yet
    cdef object paced          # (frame, event) for a stream that needs a gap between frames
    cdef object unverified     # received messages that may have expired
    cdef Py_ssize_t unverified_size  # their bytes
    cdef list expected_echoes  # (frame, time) of frames whose echo may still be received without a tag
    cdef int kind
    cdef bint was_echorig      # its last known kind
    cdef unsigned int kind_since  # echoes of earlier numbers do not show its kind
    cdef Run run               # its program
    cdef Peer predecessor      # the former peer at this address: an echo from it may still be received
    cdef bint removed          # it was forgotten, disconnected or merged with another
    cdef bint seen             # something was received from it
    cdef bint quotes_messages  # in its notices, as MATLAB does
    cdef bint refused          # the system reported that nobody listens there
    cdef double active_at      # when something was last received from it or sent to it
    cdef double last_seen      # when something was last received from it
    cdef double srtt, rttvar, min_rtt
    cdef unsigned long long n_sent, n_confirmed, n_failed, n_retransmitted, n_duplicates, n_strays, n_malformed
    cdef unsigned long long n_restarts, n_damaged, n_expired
    cdef bytes unechoed        # the last message sent to it, until its echo is received
    cdef double unechoed_at    # when it was sent
    cdef list probes           # (number, time) of the pings before its first message
    cdef double probe_at, probe_until, probe_interval
    cdef double quiet_until    # when the next frame may be written to a stream
    cdef double text_until     # the same after a bare text
    cdef bint pipelines        # it sends messages without waiting for echoes
    cdef unsigned int loss_probe  # the number of the ping that detects the loss of a large message
    cdef int sent_events       # the events of all messages sent to it
    cdef uint64_t repeated[REPEATERS]
    cdef double repeated_at[REPEATERS]
    cdef int repeated_event[REPEATERS]
    cdef int repeats[REPEATERS]
    cdef bint stopped[REPEATERS]

    cdef Send find_send(self, unsigned int number)
    cdef int current_kind(self, double now, Limits limits) noexcept
    cdef bint is_busy(self) noexcept
    cdef void on_message_sent(self, bytes frame, int event, double now) noexcept
    cdef bint may_be_busy(self, double now) noexcept
    cdef void expect_echo(self, bytes frame, double now, Limits limits)
    cdef bint take_expected_echo(self, bytes frame, double now, Limits limits)
    cdef bint is_echo(self, bytes frame, Limits limits)
    cdef bint is_storm(self, bytes frame, int event, double now, Limits limits)
    cdef void update_rtt(self, double round_trip) noexcept
    cdef double retry_interval(self, Limits limits) noexcept

cdef Send newest_message(sends)
cdef unsigned int remaining_lifetime(Send send, double now) noexcept
