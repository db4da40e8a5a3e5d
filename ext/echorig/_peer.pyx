# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""What is remembered of one remote address. No I/O, no clock.

1. Everything has a bound and an age: numbers, frames and times live in rings of fixed size.
2. Of frames with a tag only the number and a digest are kept, so that a peer costs a few kilobytes.
3. Nothing here decides what a frame is; `Exchange` asks and decides.
4. Of a peer that is forgotten a trace of eight bytes stays for a while, so that what it had said last is not new again.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport NAN
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from echorig._codec cimport compare

cdef extern from "_bytes.h":
    uint64_t er_mix(const unsigned char *data, size_t n) noexcept


cdef inline uint64_t mix(bytes frame) noexcept:
    return er_mix(<const unsigned char *>PyBytes_AS_STRING(frame), <size_t>PyBytes_GET_SIZE(frame))


cdef inline bint has(const unsigned int *numbers, Py_ssize_t n, unsigned int number) noexcept:
    # No way out of the loop before its end, so that the compiler compares many at a time.
    cdef unsigned int found = 0
    cdef Py_ssize_t i
    for i in range(n):
        found |= numbers[i] == number
    return found != 0


cdef double A_WHILE = 1.0  # seconds; a flood has forgotten its first addresses by then
cdef uint64_t GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio, which spreads what is close (Knuth)


cdef class Limits:
    """The fields of `Tuning` that the compiled core uses, as C values."""

    def __init__(self, tuning, Py_ssize_t max_size, bint signed):
        self.tags = tuning.tags
        self.signed = signed
        self.first_probe = tuning.first_probe
        self.first_retry = tuning.first_retry
        self.min_retry = tuning.min_retry
        self.max_retry = tuning.max_retry
        self.quick_retries = tuning.quick_retries
        self.max_peers = tuning.max_peers
        self.max_due = tuning.max_due
        self.max_numbers = tuning.max_numbers
        self.due_age = tuning.due_age
        self.min_truncated = tuning.min_truncated
        self.max_size = max_size
        self.message_burst = tuning.message_burst
        self.malformed_burst = tuning.malformed_burst
        self.burst_time = tuning.burst_time


cdef class Peer:
    """One remote address."""

    def __cinit__(self):
        self.flying = []
        self.min_rtt = float('inf')
        self.last_seen = float('-inf')

    cdef int current_kind(self, double now, Limits limits) noexcept:
        """Return the kind of the peer; what was not heard of for long may be another program by now."""
        if self.kind != UNKNOWN and now - self.last_seen > limits.due_age and not limits.signed:
            self.kind = UNKNOWN
        return self.kind

    # --- numbers received ---

    cdef bint knows(self, unsigned int number, bytes frame, double now, Limits limits):
        """Tell whether a frame was received before.

        A frame with a known number but other bytes is new: the one before it was damaged, or this one is.
        """
        cdef uint64_t digest
        cdef Py_ssize_t i, filled = min(<Py_ssize_t>self.n_received, limits.max_numbers)
        if has(self.received, filled, number):
            digest = mix(frame)
            for i in range(filled):
                if self.received[i] == number and self.received_hash[i] == digest:
                    if now - self.received_at[i] <= limits.due_age:
                        return True
        return self.returned and <uint32_t>mix(frame) == self.trace

    cdef bint is_known(self, unsigned int number, bytes frame, double now, Limits limits):
        """Tell whether a frame was received before, and note it if not."""
        cdef Py_ssize_t i
        if self.knows(number, frame, now, limits):
            return True
        i = self.n_received % limits.max_numbers
        self.received[i] = number
        self.received_hash[i] = mix(frame)
        self.received_at[i] = now
        self.n_received += 1
        if self.n_received >= 2 * limits.max_numbers:  # the ring is full, and the counter must not overflow
            self.n_received -= <int>limits.max_numbers
        return False

    cdef void follow(self, unsigned int number) noexcept:
        """Take in the number of a new message: one far from those before it means that its program began anew.

        Numbers begin anywhere, so that one in 2,000 restarts is not noticed.
        """
        cdef unsigned int ahead = (number - self.newest) & 0x7FFFFFFF
        if not self.numbered or ahead < STRIDE:
            self.newest = number
        elif ahead <= 0x7FFFFFFF - STRIDE:
            self.newest = number
            self.n_restarts += 1
        self.numbered = True

    # --- tagged frames sent ---

    cdef void note_sent(self, unsigned int number, bytes frame, double now, Limits limits):
        """Remember a tagged frame, whose verbatim echo tells a plain peer."""
        cdef Py_ssize_t i = self.n_sent_noted % limits.max_numbers
        self.sent[i] = number
        self.sent_hash[i] = mix(frame)
        self.sent_at[i] = now
        self.n_sent_noted += 1
        if self.n_sent_noted >= 2 * limits.max_numbers:
            self.n_sent_noted -= <int>limits.max_numbers

    cdef bint was_sent(self, unsigned int number, bytes frame, double now, Limits limits):
        """Tell whether a tagged frame is one that was sent to this peer."""
        cdef Py_ssize_t i, filled = min(<Py_ssize_t>self.n_sent_noted, limits.max_numbers)
        if has(self.sent, filled, number):
            for i in range(filled):
                if self.sent[i] == number and now - self.sent_at[i] <= limits.due_age:
                    return self.sent_hash[i] == mix(frame)
        return False

    cdef double time_sent(self, unsigned int number, Limits limits) noexcept:
        """Tell when a tagged frame was sent; not a number if that is not remembered."""
        cdef Py_ssize_t i
        for i in range(min(<Py_ssize_t>self.n_sent_noted, limits.max_numbers)):
            if self.sent[i] == number:
                return self.sent_at[i]
        return NAN

    # --- untagged frames whose echo is due ---

    cdef void owe(self, bytes frame, double now, Limits limits):
        """Remember an untagged frame that nobody waits for, but whose echo may still come."""
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
            if compare(self.due[i][0], frame, limits.min_truncated, limits.max_size) != 0:
                del self.due[i]
                return True
        return False

    # --- repetitions ---

    cdef bint is_storm(self, bytes frame, int burst, double now, Limits limits):
        """Count an untagged frame; tell whether it came once too often within the burst time."""
        cdef uint64_t digest = mix(frame)
        cdef int i, place = 0
        for i in range(REPEATERS):
            if self.repeats[i] and self.repeated[i] == digest and now - self.repeated_since[i] <= limits.burst_time:
                self.repeats[i] += 1
                if self.repeats[i] > burst:
                    self.repeats[i] = 0
                    return True
                return False
            if self.repeats[i] == 0 or (self.repeats[place] and self.repeated_since[i] < self.repeated_since[place]):
                place = i
        self.repeated[place] = digest
        self.repeated_since[place] = now
        self.repeats[place] = 1
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
        """Return how long to wait before the first repetition, or before asking a peer what it is."""
        if self.kind != TAGGING:
            return limits.first_probe
        if self.srtt == 0.0:
            return limits.first_retry
        return min(max(self.srtt + 4 * self.rttvar, limits.min_retry), limits.max_retry)

    # --- being forgotten ---

    cdef int standing(self) noexcept:
        """Tell how well the peer is known."""
        if self.n_confirmed:
            return PROVEN
        return RETURNED if self.returned or self.last_seen - self.since >= A_WHILE else STRANGER

    cdef uint32_t last_heard(self, Limits limits) noexcept:
        """Return the digest of the newest message with a tag that came; 0 if there was none."""
        if self.n_received:
            return <uint32_t>self.received_hash[(self.n_received - 1) % limits.max_numbers]
        return self.trace


cdef class Traces:
    """What is left of peers that were forgotten: that they were there, and what they had said last.

    Eight bytes for each, in a table of 2 MiB; of those that meet in one line of it the newest eight stay. Two peers are
    taken for one with a chance of 1 in 2**29, and two messages of theirs with 1 in 2**32 of that.
    """

    def __cinit__(self):
        self.traces = <uint64_t *>calloc(LINES * WAYS, sizeof(uint64_t))
        self.oldest = <unsigned char *>calloc(LINES, 1)
        if self.traces == NULL or self.oldest == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.traces)
        free(self.oldest)

    cdef void add(self, Py_hash_t addr, uint32_t last) noexcept:
        """Keep the trace of a peer."""
        cdef uint64_t key = <uint64_t>addr * GOLDEN
        cdef uint64_t line = key % LINES
        self.traces[line * WAYS + self.oldest[line]] = (key & <uint64_t>0xFFFFFFFF00000000) | last
        self.oldest[line] = (self.oldest[line] + 1) % WAYS

    cdef bint find(self, Py_hash_t addr, uint32_t *last) noexcept:
        """Tell whether there is a trace of a peer, and what it had said last."""
        cdef uint64_t key = <uint64_t>addr * GOLDEN
        cdef uint64_t *line = self.traces + (key % LINES) * WAYS
        cdef int i
        for i in range(WAYS):
            if line[i] and (line[i] ^ key) >> 32 == 0:
                last[0] = <uint32_t>line[i]
                line[i] = 0  # it is remembered again
                return True
        return False
