# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The state of one peer: its program, its sends, its round-trip times and its counters.

1. `Run` is a program: it knows which numbers were received, whatever their address and age.
2. `Send` is one confirmed message.
3. `Peer` is one end of a conversation. `Exchange` and `Transmitter` decide; nothing here does.
"""

cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport ceil
from libc.stdint cimport uint64_t
from libc.string cimport memset

from echorig.delivery._verdicts cimport O_CONFIRMED, O_WAITING
from echorig.wire._codec cimport compare
from echorig.wire._tags cimport identity

cdef extern from "_bytes.h":
    uint64_t er_mix(const unsigned char *data, size_t n) noexcept


cdef inline uint64_t hash_frame(bytes frame) noexcept:
    return er_mix(<const unsigned char *>PyBytes_AS_STRING(frame), <size_t>PyBytes_GET_SIZE(frame))


cdef double NEVER = float('inf')
# Seconds. A round trip seems longer if this program stood still. RFC 6298 allows such a limit, of 60 s or more.
cdef double LONGEST_RTO = 10.0
# Seconds that an unknown peer may need for a message before it is pinged again.
cdef double REST = 15.0


cdef class Limits:
    """The limits that the compiled core uses, as C values."""

    def __init__(self, tuning, Py_ssize_t max_size, bint signed):
        self.tags = tuning.tags
        self.signed = signed
        self.initial_rto = tuning.initial_rto
        self.min_rto = tuning.min_rto
        self.max_rto = tuning.max_rto
        self.retries_before_backoff = tuning.retries_before_backoff
        self.max_peers = tuning.max_peers
        self.max_expected_echoes = tuning.max_expected_echoes
        self.memory_seconds = tuning.memory_seconds
        self.min_truncated_echo = tuning.min_truncated_echo
        self.max_size = max_size
        self.message_burst = tuning.message_burst
        self.malformed_burst = tuning.malformed_burst
        self.burst_time = tuning.burst_time


# --- sends ---

@cython.final
@cython.freelist(16)
cdef class Send:
    """One confirmed message, and how it ended."""

    def __cinit__(self):
        self.outcome = O_WAITING
        self.retry_at = NEVER
        self.reply_to = -1

    @property
    def is_confirmed(self) -> bool:
        """bool: Whether its echo was received."""
        return self.outcome == O_CONFIRMED

    @property
    def identity(self) -> int:
        """int: Its run, times 2**32, plus its number; -1 before it is sent, and without a tag."""
        return -1 if self.number == 0 else identity(self.frame)

    def forget_answer(self) -> None:
        """Stop waiting for its answer."""
        if self.awaited_answers is not None:
            if self.number:
                self.awaited_answers.discard(identity(self.frame))
            self.awaited_answers = None


cdef Send newest_message(sends):
    """Return the last of some sends that is no ping, or None."""
    cdef Send send
    if sends:
        for send in reversed(sends):
            if send.pings is None:
                return send
    return None


cdef unsigned int remaining_lifetime(Send send, double now) noexcept:
    """Return how long a message is still wanted, in milliseconds; 0 is no limit."""
    cdef double left = ceil((send.deadline - now) * 1000)
    if left > 0xFFFFFFFF:
        return 0
    return <unsigned int>left if left >= 1 else 1


# --- programs ---

cdef class Run:
    """One remote program, and which of its messages were received: the anti-replay window of RFC 4303, section 3.4.3.

    Bit i of `window` stands for the number `newest` - i. Numbers below the window are not accepted: the sender sends no
    number that far above a message that is still to be confirmed.
    """

    cdef int check(self, unsigned int number) noexcept:
        """Return 1 for a new number, 0 for one that was accepted, -1 for one below the window."""
        cdef unsigned int behind
        if not self.has_accepted or number > self.newest:
            return 1
        behind = self.newest - number
        if behind >= WINDOW:
            return -1
        return not self.window[behind >> 6] >> (behind & 63) & 1

    cdef void accept(self, unsigned int number) noexcept:
        """Record that a number was received."""
        cdef unsigned int ahead, words, bits, behind = 0
        cdef int i
        if not self.has_accepted:
            self.has_accepted = True
            self.newest = number
        elif number > self.newest:
            ahead = number - self.newest
            if ahead >= WINDOW:
                memset(self.window, 0, sizeof(self.window))
            else:
                words = ahead >> 6
                bits = ahead & 63
                for i in range(WORDS - 1, -1, -1):
                    self.window[i] = self.window[i - <int>words] if i >= <int>words else 0
                if bits:
                    for i in range(WORDS - 1, -1, -1):
                        self.window[i] = self.window[i] << bits | (self.window[i - 1] >> (64 - bits) if i else 0)
            self.newest = number
        else:
            behind = self.newest - number
        if behind < WINDOW:
            self.window[behind >> 6] |= <uint64_t>1 << (behind & 63)


# --- peers ---

cdef class Peer:
    """One end of a conversation."""

    def __cinit__(self):
        self.in_flight = []
        self.min_rtt = NEVER
        self.last_seen = -NEVER
        self.unechoed_at = -NEVER

    cdef Send find_send(self, unsigned int number):
        """Return the send in flight that has a number, or None."""
        cdef Send send
        cdef Py_ssize_t i
        for i in range(len(self.in_flight)):
            send = self.in_flight[i]
            if send.tagged:
                if send.number == number:
                    return send
                if send.pings is not None:
                    for entry in send.pings:
                        if entry[0] == number:
                            return send
        return None

    cdef int current_kind(self, double now, Limits limits) noexcept:
        """Return the kind of the peer. An echorig one that was silent for long may have been replaced."""
        if self.kind == ECHORIG and now - self.last_seen > limits.memory_seconds and not limits.signed:
            self.kind = UNKNOWN
        return self.kind

    cdef bint is_busy(self) noexcept:
        """Return whether anything waits to be sent, confirmed or verified."""
        return bool(self.in_flight) or bool(self.queue) or bool(self.deferred) or bool(self.paced) or bool(self.unverified)

    cdef void on_message_sent(self, bytes frame, int event, double now) noexcept:
        """Record that a message, not a notice, is sent now."""
        cdef int i
        self.unechoed = frame
        self.unechoed_at = now
        if event > 0 and self.kind != ECHORIG:
            self.sent_events |= event
            for i in range(REPEATERS):  # another message may be answered with the same bytes
                if self.repeated_event[i] == event and not self.stopped[i]:
                    self.repeats[i] = 0

    cdef bint may_be_busy(self, double now) noexcept:
        """Return whether the peer may still be processing a message.

        A legacy peer that receives a ping behind it would take our next echo for a message.
        """
        return self.unechoed is not None and now < self.unechoed_at + REST

    # --- untagged frames whose echo is expected ---

    cdef void expect_echo(self, bytes frame, double now, Limits limits):
        """Remember a frame for which no send waits, but whose echo may be received without a tag."""
        if self.expected_echoes is None:
            self.expected_echoes = []
        elif len(self.expected_echoes) >= limits.max_expected_echoes:
            del self.expected_echoes[0]
        self.expected_echoes.append((frame, now))

    cdef bint take_expected_echo(self, bytes frame, double now, Limits limits):
        """Return whether a frame is an expected echo, and remove that one."""
        cdef Py_ssize_t i
        while self.expected_echoes and now - <double>self.expected_echoes[0][1] > limits.memory_seconds:
            del self.expected_echoes[0]
        for i in range(len(self.expected_echoes)):
            if compare(self.expected_echoes[i][0], frame, limits.min_truncated_echo, limits.max_size) != 0:
                if self.expected_echoes[i][0] is self.unechoed:
                    self.unechoed = None
                del self.expected_echoes[i]
                return True
        return False

    cdef bint is_echo(self, bytes frame, Limits limits):
        """Return whether a frame without a tag is the echo of a frame that was sent to this peer."""
        cdef Send send
        for send in self.in_flight:
            if compare(send.frame, frame, limits.min_truncated_echo, limits.max_size) != 0:
                return True
        for sent, _ in self.expected_echoes or ():
            if compare(sent, frame, limits.min_truncated_echo, limits.max_size) != 0:
                return True
        return False

    # --- repetitions ---

    cdef bint is_storm(self, bytes frame, int event, double now, Limits limits):
        """Count an untagged frame; return whether it must not be echoed, to end an endless exchange.

        A legacy peer that takes our echo for a message echoes it, and so on. A frame that may be the answer to a message
        of ours is echoed twice; further repetitions are no answer. It is dropped until it has been absent for a while.
        """
        cdef uint64_t digest = hash_frame(frame)
        cdef int i, place = 0, burst
        if event > 0:
            burst = 2 if event & self.sent_events else limits.message_burst
        else:
            burst = limits.malformed_burst
        for i in range(REPEATERS):
            if self.repeats[i] and self.repeated[i] == digest:
                if now - self.repeated_at[i] > limits.burst_time:
                    place = i
                    break
                self.repeats[i] += 1
                if event > 0 and event & self.sent_events:
                    self.repeated_at[i] = now
                if self.repeats[i] > burst:
                    self.stopped[i] = burst == 2
                    if not self.stopped[i]:
                        self.repeats[i] = 0
                    return True
                return False
            if self.repeats[i] == 0 or (self.repeats[place] and self.repeated_at[i] < self.repeated_at[place]):
                place = i
        self.repeated[place] = digest
        self.repeated_at[place] = now
        self.repeated_event[place] = event
        self.repeats[place] = 1
        self.stopped[place] = False
        return False

    # --- round-trip time ---

    cdef void update_rtt(self, double round_trip) noexcept:
        """Update the smoothed round-trip time, as RFC 6298 section 2 does."""
        cdef double deviation
        if self.min_rtt > round_trip:
            self.min_rtt = round_trip
        if self.srtt == 0.0:
            self.srtt = round_trip
            self.rttvar = round_trip / 2
            return
        deviation = self.srtt - round_trip
        self.rttvar += ((deviation if deviation > 0 else -deviation) - self.rttvar) / 4
        self.srtt -= deviation / 8

    cdef double retry_interval(self, Limits limits) noexcept:
        """Return the retransmission time-out, in seconds."""
        if self.srtt == 0.0:
            return limits.initial_rto
        return min(max(self.srtt + 4 * self.rttvar, limits.min_rto), LONGEST_RTO)
