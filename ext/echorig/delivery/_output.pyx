# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`Output`: the frames that leave, with the run and the numbers of this program; and the time of the next alarm."""

from cpython.bytes cimport PyBytes_GET_SIZE

from echorig.delivery._peer cimport LEGACY, Limits, Peer
from echorig.delivery._send cimport Send
from echorig.wire._tags cimport FIELD_SIZE, TAG_SIZE, make_ping, write

cdef double NEVER = float('inf')
cdef unsigned int LAST_NUMBER = 0xFFFFFFFF
# What MATLAB rigs read of a message at most; a tag must not be what makes one too long for them.
cdef Py_ssize_t[2] BUFFERS = [512, 1000]


cdef class Output:
    """What leaves, under which number, and when to look again."""

    def __init__(self, Limits limits, dict peers, unsigned int run, unsigned int number, Py_ssize_t max_frame):
        self.outbox = []
        self.alarm = NEVER
        self.limits = limits
        self.peers = peers
        self.max_frame = max_frame
        self.run = self.first_run = run & RUNS
        self.number = max(number, 1)
        self.own_runs = set()

    cdef bint is_own(self, unsigned int run) noexcept:
        """Tell whether a run is or was ours."""
        return run == self.run or (bool(self.own_runs) and run in self.own_runs)

    cdef unsigned long long position(self, unsigned int run, unsigned int number) noexcept:
        """Return the place of a message of ours among all that were ever sent."""
        return <unsigned long long>((run - self.first_run) & RUNS) << 32 | number

    cdef unsigned int next_number(self):
        """Return the next number, which belongs to `number_run`."""
        cdef unsigned int number = self.number
        cdef Peer peer
        self.number_run = self.run
        if number == LAST_NUMBER:  # the next one begins another run, which shows that it is the next of this program
            self.own_runs.add(self.run)
            self.run = (self.run + 1) & RUNS
            self.number = 1
            for peer in self.peers.values():
                peer.kind_since = peer.asked = 0
                for send in peer.flying:
                    (<Send>send).flown_after = 0
        else:
            self.number = number + 1
        return number

    cdef bint may_tag(self, Peer peer, bytes frame):
        cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), i
        if not self.limits.tags or n < 2 or n + TAG_SIZE > self.max_frame or frame[0] != 91 or frame[n - 1] != 93:
            return False
        if peer.kind == LEGACY:
            for i in range(2):
                if n <= BUFFERS[i] < n + TAG_SIZE:
                    return False
        return True

    cdef bytes tagged_frame(self, bytes frame, unsigned int number, unsigned int life, long long answered):
        if answered >= 0 and PyBytes_GET_SIZE(frame) + TAG_SIZE + FIELD_SIZE > self.max_frame:
            answered = -1
        return write(frame, self.number_run, number, life, answered)

    cdef unsigned int ask(self, addr, long long identity=-1) except 0:
        """Send a ping, which may ask whether a message is still wanted; return its number."""
        cdef unsigned int number = self.next_number()
        self.outbox.append((make_ping(self.number_run, number, identity), addr))
        return number
