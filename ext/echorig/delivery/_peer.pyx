# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""What is remembered of one remote program and its address. No I/O, no clock.

1. `Run` is a program: which of its numbers were received. It needs no address and no age.
2. `Peer` is one end of a conversation: what is on its way there, what it is, round-trip times, counts.
3. Nothing here decides what a frame is; `Exchange` asks and decides.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memset

from echorig.wire._codec cimport compare

cdef extern from "_bytes.h":
    uint64_t er_mix(const unsigned char *data, size_t n) noexcept


cdef inline uint64_t mix(bytes frame) noexcept:
    return er_mix(<const unsigned char *>PyBytes_AS_STRING(frame), <size_t>PyBytes_GET_SIZE(frame))


# Seconds; a round trip seems longer if this program stood still. RFC 6298 allows such a limit, of 60 s or more.
cdef double LONGEST_RTO = 10.0
# Seconds for a peer not yet known to deal with a message, before it is pinged again.
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
        self.max_due = tuning.max_due
        self.due_age = tuning.due_age
        self.min_truncated_echo = tuning.min_truncated_echo
        self.max_size = max_size
        self.message_burst = tuning.message_burst
        self.malformed_burst = tuning.malformed_burst
        self.burst_time = tuning.burst_time


cdef class Run:
    """One remote program, and which of its messages were received: the anti-replay window of RFC 4303, section 3.4.3.

    Bit i of `window` stands for the number `newest` - i. What is below the window is not wanted any more: its sender sends
    nothing that far ahead of a message which is still to be confirmed.
    """

    cdef int judge(self, unsigned int number) noexcept:
        """Tell whether a number is new (1), was received (0), or is below the window (-1)."""
        cdef unsigned int behind
        if not self.used or number > self.newest:
            return 1
        behind = self.newest - number
        if behind >= WINDOW:
            return -1
        return not self.window[behind >> 6] >> (behind & 63) & 1

    cdef void accept(self, unsigned int number) noexcept:
        """Note that a number was received."""
        cdef unsigned int ahead, words, bits, behind = 0
        cdef int i
        if not self.used:
            self.used = True
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


cdef class Peer:
    """One end of a conversation."""

    def __cinit__(self):
        self.flying = []
        self.min_rtt = float('inf')
        self.last_seen = float('-inf')
        self.unechoed_at = float('-inf')

    cdef int current_kind(self, double now, Limits limits) noexcept:
        """Return the kind of the peer; an echorig one that was silent for long may have been replaced."""
        if self.kind == ECHORIG and now - self.last_seen > limits.due_age and not limits.signed:
            self.kind = UNKNOWN
        return self.kind

    cdef bint is_busy(self) noexcept:
        """Tell whether anything waits to be sent or confirmed."""
        return bool(self.flying) or bool(self.queue) or bool(self.held) or bool(self.paced) or bool(self.doubted)

    cdef void sent_message(self, bytes frame, int event, double now) noexcept:
        """Take in that a message, not a notice, is sent now."""
        cdef int i
        self.unechoed = frame
        self.unechoed_at = now
        if event > 0 and self.kind != ECHORIG:
            self.events |= event
            for i in range(REPEATERS):  # another message may be answered with the same bytes
                if self.repeated_event[i] == event and not self.stopped[i]:
                    self.repeats[i] = 0

    cdef bint is_at_work(self, double now) noexcept:
        """Tell whether the peer may be dealing with a message.

        A ping behind it would make a legacy one take our next echo for a message.
        """
        return self.unechoed is not None and now < self.unechoed_at + REST

    # --- untagged frames whose echo is due ---

    cdef void owe(self, bytes frame, double now, Limits limits):
        """Remember a frame that nobody waits for, but whose echo may still come without a tag."""
        if self.due is None:
            self.due = []
        elif len(self.due) >= limits.max_due:
            del self.due[0]
        self.due.append((frame, now))

    cdef bint is_due(self, bytes frame, double now, Limits limits):
        """Tell whether this is the echo of a frame that nobody waits for, and strike that frame off."""
        cdef Py_ssize_t i
        while self.due and now - <double>self.due[0][1] > limits.due_age:
            del self.due[0]
        for i in range(len(self.due)):
            if compare(self.due[i][0], frame, limits.min_truncated_echo, limits.max_size) != 0:
                if self.due[i][0] is self.unechoed:
                    self.unechoed = None
                del self.due[i]
                return True
        return False

    # --- repetitions ---

    cdef bint is_storm(self, bytes frame, int event, double now, Limits limits):
        """Count an untagged frame; tell whether it must not be echoed, to end an exchange that would never end.

        A legacy peer that takes our echo for a message echoes it, and so on. What looks like an answer to a message of
        ours is echoed twice; more often than that it is no answer. It stays so until it has not come for a while.
        """
        cdef uint64_t digest = mix(frame)
        cdef int i, place = 0, burst
        if event > 0:
            burst = 2 if event & self.events else limits.message_burst
        else:
            burst = limits.malformed_burst
        for i in range(REPEATERS):
            if self.repeats[i] and self.repeated[i] == digest:
                if now - self.repeated_at[i] > limits.burst_time:
                    place = i
                    break
                self.repeats[i] += 1
                if event > 0 and event & self.events:
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

    cdef void measure(self, double round_trip) noexcept:
        """Take in a round-trip time, as RFC 6298 section 2 does."""
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
        """Return how long to wait before the first repetition, in seconds."""
        if self.srtt == 0.0:
            return limits.initial_rto
        return min(max(self.srtt + 4 * self.rttvar, limits.min_rto), LONGEST_RTO)
