from echorig.delivery._peer cimport Limits, Peer, Run
from echorig.wire._tags cimport Tag

cdef enum:
    # What a frame is.
    V_IGNORED = 0     # nothing to do
    V_CONFIRMED = 1   # the echo of a waiting send
    V_DELIVER = 2     # new: send `reply` back, if there is one, then deliver it
    V_NOTICE = 3      # new, but never sent back: deliver it
    V_SWALLOWED = 4   # the echo of something that nobody waits for
    V_MISMATCH = 5    # not the echo of the waiting send, though it should be
    V_STORM = 6       # the same bytes again and again: dropped, so that an endless exchange ends
    V_ECHO = 7        # a duplicate or a ping: send `reply` back, if there is one, but do not deliver it
    # How a send ended (or confirmed, mismatch).
    V_WAITING = 8
    V_TIMED_OUT = 9
    V_UNREACHABLE = 10
    V_LOST = 11
    # Again what a frame is.
    V_REFUSED = 12    # new, and there is no room for it: neither sent back nor delivered, and not remembered
    V_DAMAGED = 13    # changed on its way: as good as lost
    V_EXPIRED = 14    # nobody waits for its confirmation any more: neither sent back nor delivered
    V_DOUBTED = 15    # it may be so: its sender is asked

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
    cdef readonly unsigned int number  # 0 before it is sent
    cdef bint alone          # no other message may be under way with this one
    cdef bint flying         # it has been sent
    cdef bint tagged, taggable
    cdef bint crossed        # a message of the same event came, which may be meant as the echo
    cdef long long answered  # the message that it answers, or -1
    cdef set awaited         # the exchange's, while its answer is waited for
    cdef list pings          # (number, time) of each ping sent, if it is one
    cdef double flown        # when it was first sent
    cdef unsigned int flown_after  # the number of the next message when it was last sent
    cdef double interval     # between two repetitions
    cdef double retry_at
    cdef bint repeated, probed
    cdef int repetitions

cdef class Exchange:
    cdef readonly list outbox
    cdef readonly list finished
    cdef readonly bytes reply
    cdef readonly double alarm
    cdef readonly unsigned int run
    cdef readonly unsigned long long n_forgotten, n_turned_away, n_malformed, n_damaged, n_expired, n_received
    cdef dict peers          # {address: Peer}
    cdef dict moved          # {former address: Peer}
    cdef dict runs           # {run: Run}; none of streams
    cdef dict former         # {address: (run, restarts)} of connections that are gone
    cdef set own_runs        # ours, once there have been several
    cdef set awaited         # the identities of messages whose answer is waited for
    cdef set forgotten       # the runs that were forgotten
    cdef double begun        # when it had to do with somebody for the first time; negative before
    cdef double full_until   # there is no room for strangers
    cdef Limits limits
    cdef bint stream
    cdef unsigned int first_run
    cdef unsigned int number # of the next message
    cdef unsigned int number_run  # the run of the one before it
    cdef Py_ssize_t max_frame
    cdef Py_ssize_t waiting
    cdef int refusing        # the events whose messages are not accepted
    cdef Send ended          # by the last frame
    cdef long long identity  # of the last frame: its run, times 2**32, plus its number; -1 without a tag
    cdef Py_ssize_t n_doubted
    cdef list settled        # the peers that have said of a doubted message whether it is wanted
    cdef object last_addr    # the peer that was looked up last
    cdef Peer last_peer
    cdef Run last_run

    cpdef Send send(
        self, bytes frame, addr, waiter, double now, double timeout, bint taggable=?, long long answered=?, bint asks=?
    )
    cdef Send begin(
        self, bytes frame, addr, waiter, double now, double timeout, bint taggable, long long answered=?, bint asks=?
    )
    cdef int sort(self, bytes frame, addr, double now, double waited, bint sure) except -1
    cpdef int receive(self, bytes frame, addr, double now, double waited=?, bint sure=?) except -1
    cpdef void set_max_size(self, Py_ssize_t max_size) noexcept
    cdef bint is_own(self, unsigned int run) noexcept
    cdef int _echo(self, bytes frame, Tag *tag, addr, double now, double waited) except -1
    cdef int _returned(self, bytes frame, Tag *tag, addr, double now) except -1
    cdef int _message(self, bytes frame, Tag *tag, addr, double now, double waited, bint sure) except -1
    cdef int _untagged(self, bytes frame, addr, double now, bint broken) except -1
    cdef bint _is_echo_of(self, Peer peer, bytes frame)
    cdef int _damaged(self, Peer peer) noexcept
    cdef _hear(self, Peer peer, double now)
    cdef Peer _sender(self, Tag *tag, addr, double now)
    cdef unsigned long long _position(self, unsigned int run, unsigned int number) noexcept
    cdef _meet(self, Peer peer, bytes frame, unsigned long long asked, double now)
    cdef _succeed(self, Peer peer, Run run)
    cdef _know(self, Peer peer, unsigned int number, double now)
    cdef _move(self, Peer peer, addr, double now)
    cdef _place(self, Peer peer, addr)
    cdef _join(self, Peer peer, Peer other)
    cdef bint _is_wanted(self, Peer peer, long long asked)
    cdef _doubt(self, Peer peer, bytes frame, Tag *tag, addr, double now, double waited, bint ask)
    cdef _wait_for_answer(self, Peer peer)
    cdef _drop_doubted(self, Peer peer, Py_ssize_t i)
    cdef _expire_doubted(self, Peer peer, double now)
    cdef unsigned int _ask(self, addr, long long identity=?) except 0
    cdef _answered_doubt(self, Peer peer, bytes frame, unsigned int number, double now, double waited)
    cpdef next_wanted(self, double now)
    cdef _time_out(self, Peer peer, Send send, double now)
    cdef _retry(self, Peer peer, Send send, double now)
    cdef _repeat(self, Peer peer, Send send, double now)
    cdef _learn(self, Peer peer, int kind, double now)
    cdef bint _must_probe(self, Peer peer, Send send, double now) noexcept
    cdef bint _is_at_work(self, Peer peer, double now) noexcept
    cdef _probe(self, Peer peer, double now)
    cdef _stop_probing(self, Peer peer)
    cdef Peer _find_peer(self, addr)
    cdef Peer _peer(self, addr, double now)
    cdef Peer _new_peer(self, addr, double now)
    cdef Peer _met(self, addr, double now)
    cdef bint _has_room(self, double now) except -1
    cdef Py_ssize_t _forget_idle(self) except -1
    cdef Run _new_run(self, unsigned int run, double now)
    cdef Peer _holder(self, Run run)
    cdef unsigned int _next_number(self)
    cdef bint _may_tag(self, Peer peer, bytes frame)
    cdef _tag(self, Peer peer, Send send, double now)
    cdef bytes _tagged_frame(self, bytes frame, unsigned int number, unsigned int life, long long answered)
    cdef _enter(self, Peer peer, Send send, double now)
    cdef bint _may_fly(self, Peer peer, Send send, double now)
    cdef _fly(self, Peer peer, Send send, double now)
    cdef _schedule(self, Peer peer, Send send, double now)
    cdef _let_fly(self, Peer peer, double now)
    cdef bint _let_one_fly(self, Peer peer, double now) except -1
    cdef bint _may_follow(self, Peer peer, double now) noexcept
    cdef Send _next_of(self, Peer peer, double now)
    cdef bint _in_window(self, Peer peer) noexcept
    cdef bytes _unconfirmed(self, Peer peer, bytes frame, bint taggable, long long answered, double now)
    cdef _written(self, Peer peer, bytes frame, int event, double now)
    cdef bytes _pace(self, Peer peer, bytes frame, int event, double now)
    cdef void _wait_for_stream(self, Peer peer, double now) noexcept
    cdef _drain(self, Peer peer, double now)
    cdef Send _find(self, Peer peer, unsigned int number)
    cdef _confirm(self, Peer peer, Send send, unsigned int number, double now)
    cdef _end(self, Peer peer, Send send, int outcome, double now)
