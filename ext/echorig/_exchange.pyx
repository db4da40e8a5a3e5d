# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The rules of delivery: which send waits for what, and what a frame that comes in is. No I/O, no clock.

1. Time is an argument, in seconds of any clock that does not go back. Addresses are opaque keys.
2. To one peer messages leave in order: on datagrams one at a time, on a stream all at once (a bare text alone,
   since nothing on a stream shows where it ends).
3. A send ends once, with one outcome, and is then in `finished`. Bytes to be sent are in `outbox`, and `alarm` says
   when `expire` has something to do. The shell looks at the three after every call.
4. Only a tagging peer is sent a message again: a plain one would run its callback twice. To one not yet known goes
   a ping, which runs no callback, and whose echo tells what the peer is.
5. What was sent and is no longer waited for is known by its number; without a tag it is *due*, and its echo is
   swallowed once for each send.
6. Every table has a bound, and each bound is a field of `Tuning`.
7. Strangers make room for strangers: a peer that has confirmed something of ours is not forgotten for those who have
   said something once, nor is one that was heard from over some time. A segmented LRU (Karedla, Love and Wherry,
   "Caching strategies to improve disk system performance", IEEE Computer 27(3), 1994), here of three segments.
"""

cimport cython

from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc, qsort

from echorig._codec cimport (
    acknowledged, compare, is_echo, is_ping, peek, read_answered, read_tag, tag, tag_answer,
)
from echorig._peer cimport PLAIN, PROVEN, STRANGER, TAGGING, UNKNOWN, Limits, Peer, Traces

# The same for Python.
IGNORED = V_IGNORED
CONFIRMED = V_CONFIRMED
DELIVER = V_DELIVER
NOTICE = V_NOTICE
SWALLOWED = V_SWALLOWED
MISMATCH = V_MISMATCH
STORM = V_STORM
ECHO = V_ECHO
WAITING = V_WAITING
TIMED_OUT = V_TIMED_OUT
UNREACHABLE = V_UNREACHABLE
LOST = V_LOST
REFUSED = V_REFUSED

KINDS = ('unknown', 'tagging', 'plain')

cdef double NEVER = float('inf')
cdef unsigned int NUMBERS = 0x7FFFFFFF
cdef long long ACK = 0x80000000
cdef bytes PING = b'[]'
cdef Py_ssize_t MANY = 256
cdef double SWEEP = 2e-6  # seconds between two looks at what is waited for, for each message: a tenth is spent looking
cdef double NO_ROOM = 0.01  # seconds before it is looked for again where there was none, which takes a while
# What MATLAB rigs read of a message at most; a tag must not be what makes one too long for them.
cdef Py_ssize_t[2] BUFFERS = [512, 1000]


cdef bint _is_array(bytes frame):
    """Tell whether a frame starts as an array does."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    while src[0] == 32 or src[0] == 9 or src[0] == 10 or src[0] == 13:
        src += 1
    return src[0] == 91


@cython.final
@cython.freelist(16)
cdef class Send:
    """One message on its way to be confirmed.

    Attributes
    ----------
    frame : bytes
        What is sent, with its tag.
    addr : hashable
        The peer.
    waiter : Any
        What the shell wants to find again when the send has ended.
    started, deadline : float
        The times of the call and of its timeout, in seconds.
    outcome : int
        ``WAITING``, ``CONFIRMED``, ``MISMATCH``, ``TIMED_OUT``, ``UNREACHABLE`` or ``LOST``.
    truncated : bool
        Whether the echo that confirmed it was cut short.
    answer : bytes or None
        What came instead of the echo, if `outcome` is ``MISMATCH``.
    round_trip : float
        From sending to the echo, in seconds; of a ping sent more than once, of the one that was answered.
    """

    def __cinit__(self):
        self.outcome = V_WAITING
        self.retry_at = NEVER


cdef int _earlier(const void *one, const void *other) noexcept nogil:
    cdef double a = (<const double *>one)[0], b = (<const double *>other)[0]
    return (a > b) - (a < b)


cdef Send _newest(sends):
    """Return the last of some sends that is no ping, or None."""
    cdef Send send
    if sends:
        for send in reversed(sends):
            if send.pings is None:
                return send
    return None


cdef class Exchange:
    """The state of delivery between this communicator and its peers.

    Parameters
    ----------
    tuning : Tuning
        The limits.
    stream : bool
        Whether the transport is a stream (nothing is lost or reordered) and not datagrams.
    max_size : int
        The size in bytes of an echo that plain peers may cut a longer message down to.
    number : int
        The number of the first message, 0 to 2**31 - 1; random, so that a program started anew is not taken
        for the one before it.
    max_frame : int
        The size in bytes up to which a message may grow by its tag.
    signed : bool
        Whether all peers are known to be tagging: only they have signatures.

    Attributes
    ----------
    outbox : list of (bytes, address)
        What is to be sent now, in order.
    finished : list of Send
        The sends that have ended since the list was last emptied.
    reply : bytes
        What to send back, after ``DELIVER`` or ``ECHO``.
    alarm : float
        When `expire` may have something to do, in seconds; infinity if nothing is waited for.
    n_forgotten : int
        How many peers have been forgotten to make room for others.
    n_turned_away : int
        How many frames of strangers were ignored because all the room there is was in use.
    n_malformed : int
        How many frames were no message, also those of peers that have been forgotten.
    """

    def __init__(
        self, tuning, bint stream, Py_ssize_t max_size, unsigned int number=0, Py_ssize_t max_frame=2**62, bint signed=False,
    ):
        self.outbox = []
        self.finished = []
        self.peers = {}
        self.limits = Limits(tuning, max_size, signed)
        self.stream = stream
        self.number = number & NUMBERS
        self.max_frame = max_frame
        self.alarm = NEVER

    # --- sending ---

    cpdef Send send(
        self, bytes frame, addr, waiter, double now, double timeout, bint taggable=True, long long answered=-1
    ):
        """Begin a confirmed send.

        Parameters
        ----------
        frame : bytes
            The message.
        addr : hashable
            The peer.
        waiter : Any
            Kept in the result for the caller.
        now, timeout : float
            The time, and how long to wait for the echo, in seconds.
        taggable : bool
            Whether the message is an array that was encoded here; others travel as they are.
        answered : int
            The number of the message that this one answers; -1 if it answers none.

        Returns
        -------
        Send
            The send; it is in `finished` when it has ended.
        """
        cdef Send send = self.begin(frame, addr, waiter, now, timeout, taggable, answered)
        if send.flying:
            self.outbox.append((send.frame, addr))
        return send

    cdef Send begin(
        self, bytes frame, addr, waiter, double now, double timeout, bint taggable, long long answered=-1
    ):
        """Begin a confirmed send; the shell sends its frame at once if it is `flying` now."""
        cdef Peer peer = self._peer(addr, now)
        cdef Send send = Send()
        send.frame = frame
        send.addr = addr
        send.waiter = waiter
        send.started = now
        send.deadline = now + timeout
        send.alone = not self.stream or not _is_array(frame)
        if taggable and self._may_tag(peer, frame, now):
            self._tag(send, frame, answered if peer.kind != PLAIN else -1)
        self._enter(peer, send, now)
        return send

    def ping(self, addr, waiter, double now, double timeout) -> Send:
        """Begin a ping: an empty array, which every peer echoes and no callback sees.

        Parameters
        ----------
        addr : hashable
            The peer.
        waiter : Any
            Kept in the result for the caller.
        now, timeout : float
            The time, and how long to wait for the echo, in seconds.

        Returns
        -------
        Send
            The send; it is in `finished` when it has ended, with the `round_trip`.
        """
        cdef Peer peer = self._peer(addr, now)
        cdef Send send = Send()
        send.addr = addr
        send.waiter = waiter
        send.started = now
        send.deadline = now + timeout
        send.alone = not self.stream
        send.pings = []
        self._tag(send, PING)
        self._enter(peer, send, now)
        if send.flying:
            self.outbox.append((send.frame, addr))
        return send

    def sent(self, bytes frame not None, addr, double now, bint taggable=True, long long answered=-1) -> bytes:
        """Note a message that is sent without waiting for its echo.

        Parameters
        ----------
        frame : bytes
            The message. A notice is never echoed, so no echo of it is expected.
        addr : hashable
            The peer.
        now : float
            The time in seconds.
        taggable : bool
            Whether the message is an array that was encoded here.
        answered : int
            The number of the message that this one answers; -1 if it answers none.

        Returns
        -------
        bytes
            What to send: the message, with a tag if it may have one.
        """
        cdef Peer peer = self._peer(addr, now)
        cdef unsigned int number
        peer.n_sent += 1
        if taggable and self._may_tag(peer, frame, now):
            number = self._next_number()
            frame = self._tagged_frame(frame, number, answered if peer.kind != PLAIN else -1)
            peer.note_sent(number, frame, now, self.limits)
            if peer.kind != TAGGING and len(frame) > self.limits.min_truncated and peek(frame) != 0:
                peer.owe(frame, now, self.limits)  # its echo may come back cut short, without the tag
        elif peek(frame) != 0:
            peer.owe(frame, now, self.limits)
        return frame

    def cancel(self, Send send not None, double now) -> None:
        """Stop waiting for a send, which leaves nothing behind; it does not get into `finished`.

        Parameters
        ----------
        send : Send
            What :meth:`send` returned; nothing happens if it has already ended.
        now : float
            The time in seconds.
        """
        if send.outcome == V_WAITING:
            self._end(self.peers[send.addr], send, V_LOST, now)

    # --- receiving ---
    #
    # The first line that fits decides; docs/protocol.md has the same table in words.
    #
    #   frame                                                     verdict      sent back      where
    #   empty, or from a stranger while there is no room for one  IGNORED      -              receive
    #   ACK flag, number waited for, equal but for the flag       CONFIRMED    -              _flagged
    #   ACK flag, number waited for, other bytes                  MISMATCH     -
    #   ACK flag, else                                            SWALLOWED    -
    #   tag, our own frame, waited for                            CONFIRMED    -              _tagged
    #   tag, our own frame, else                                  SWALLOWED    -
    #   tag, a notice                                             NOTICE       -              (once)
    #   tag, a ping                                               ECHO         with the flag
    #   tag, seen before                                          ECHO         with the flag
    #   tag, of an event that is refused                          REFUSED      -
    #   tag, else                                                 DELIVER      with the flag
    #   equal to, or a long enough beginning of, a waiting send   CONFIRMED    -              _untagged
    #   equal to one that is due                                  SWALLOWED    -
    #   a notice                                                  NOTICE       -
    #   malformed, or of the event of an untagged waiting send    MISMATCH     -              (while one waits)
    #   of an event that is refused                               REFUSED      -
    #   the same bytes too often                                  STORM        -
    #   else                                                      DELIVER      as it is

    cpdef int receive(self, bytes frame, addr, double now) except -1:
        """Tell what a frame from a peer is.

        Parameters
        ----------
        frame : bytes
            What came.
        addr : hashable
            The peer.
        now : float
            The time in seconds.

        Returns
        -------
        int
            ``IGNORED``, ``CONFIRMED``, ``DELIVER``, ``NOTICE``, ``SWALLOWED``, ``MISMATCH``, ``STORM``, ``ECHO`` or
            ``REFUSED``.
        """
        cdef int verdict = self.sort(frame, addr, now)
        if self.ended is not None:
            self.finished.append(self.ended)
            self.ended = None
        return verdict

    cdef int sort(self, bytes frame, addr, double now) except -1:
        """Tell what a frame from a peer is; the send that it ended, if any, is `ended`."""
        cdef Peer peer
        cdef long long value
        if not frame:
            return V_IGNORED
        peer = self._met(addr, now)
        if peer is None:
            return V_IGNORED
        peer.heard = True
        peer.refused = False
        peer.last_seen = now
        value = read_tag(frame)
        if value >= 0 and not self.limits.tags and not self._is_own_ping(peer, frame, value, now):
            value = -1
        if value < 0:
            return self._untagged(peer, frame, now)
        if value & ACK:
            return self._flagged(peer, frame, <unsigned int>(value & NUMBERS), now)
        return self._tagged(peer, frame, <unsigned int>value, now)

    cdef bint _is_own_ping(self, Peer peer, bytes frame, long long value, double now):
        """Tell whether a frame is the echo of a ping: of tags, one who has none knows this much."""
        return is_ping(frame) and (
            value & ACK or self._find(peer, <unsigned int>value) is not None
            or peer.was_sent(<unsigned int>value, frame, now, self.limits)
        )

    cdef int _flagged(self, Peer peer, bytes frame, unsigned int number, double now):
        """A frame with the ACK flag is an echo from a tagging peer, and is never echoed."""
        cdef Send send = self._find(peer, number)
        cdef bint known
        if send is not None:
            if is_ping(frame) if send.pings is not None else is_echo(send.frame, frame):
                known = peer.kind == TAGGING
                peer.kind = TAGGING
                self._confirm(peer, send, number, now)
                if not known:
                    self._learn(peer, TAGGING, now)
                return V_CONFIRMED
            send.answer = frame
            self._end(peer, send, V_MISMATCH, now)
            self.ended = send
            return V_MISMATCH
        if peer.probing and is_ping(frame) and peer.was_sent(number, tag(PING, number), now, self.limits):
            self._learn(peer, TAGGING, now)
        peer.n_strays += 1
        return V_SWALLOWED

    cdef int _tagged(self, Peer peer, bytes frame, unsigned int number, double now):
        """A frame with a tag is our own, echoed by a plain peer; or it is a message from a tagging peer."""
        cdef int event
        cdef Send send = self._find(peer, number)
        if send is not None and (send.frame == frame or (send.pings is not None and is_ping(frame))):
            peer.kind = PLAIN
            self._confirm(peer, send, number, now)
            return V_CONFIRMED
        if peer.was_sent(number, frame, now, self.limits):
            self._learn(peer, PLAIN, now)
            peer.n_strays += 1
            return V_SWALLOWED
        # It may also be an old or damaged echo, or a ping of one who has no tags: only an answer with the flag says
        # that the peer is tagging. What was plain may have been replaced.
        if peer.kind == PLAIN:
            peer.kind = UNKNOWN
        event = peek(frame)
        if event == 0:
            if peer.is_known(number, frame, now, self.limits):
                peer.n_duplicates += 1
                return V_IGNORED
            peer.follow(number)
            return V_NOTICE
        if event > 0 and event & self.refusing and not peer.knows(number, frame, now, self.limits):
            return V_REFUSED  # the number is not noted: when it comes again, it is new
        self.reply = acknowledged(frame)
        if is_ping(frame):
            peer.follow(number)
            return V_ECHO
        if peer.is_known(number, frame, now, self.limits):
            peer.n_duplicates += 1
            return V_ECHO
        peer.follow(number)
        return V_DELIVER

    cdef int _untagged(self, Peer peer, bytes frame, double now):
        """A frame without a tag can only be told from an echo by its bytes."""
        cdef Send send
        cdef int event
        cdef Py_ssize_t i
        # A stream loses nothing: the echo that is due came first, if it equals the one waited for.
        if self.stream and peer.due and peer.is_due(frame, now, self.limits):
            peer.n_strays += 1
            return V_SWALLOWED
        for i in range(len(peer.flying)):
            send = peer.flying[i]
            event = compare(send.frame, frame, self.limits.min_truncated, self.limits.max_size)
            if event != 0:
                send.truncated = event == 2
                if send.tagged:
                    peer.kind = PLAIN  # one that cuts echoes short
                self._confirm(peer, send, send.number, now)
                return V_CONFIRMED
        if peer.due and peer.is_due(frame, now, self.limits):
            peer.n_strays += 1
            return V_SWALLOWED
        event = peek(frame)
        if event == 0:
            return V_NOTICE
        for i in range(len(peer.flying)):
            send = peer.flying[i]
            if send.pings is not None:
                continue
            if event < 0 or (event == peek(send.frame) and not send.tagged):
                send.answer = frame
                self._end(peer, send, V_MISMATCH, now)
                self.ended = send
                return V_MISMATCH
            if event == peek(send.frame):  # it crossed ours; only if no echo comes was it meant as one
                send.crossed = True
                send.answer = frame
            break
        if event > 0 and event & self.refusing:
            return V_REFUSED
        if peer.is_storm(
            frame, self.limits.malformed_burst if event < 0 else self.limits.message_burst, now, self.limits
        ):
            return V_STORM
        self.reply = frame
        return V_DELIVER

    cpdef void set_max_size(self, Py_ssize_t max_size) noexcept:
        """Set the size of a truncated echo.

        Parameters
        ----------
        max_size : int
            The size in bytes of an echo that plain peers may cut a longer message down to.
        """
        self.limits.max_size = max_size

    def refuse(self, int events) -> None:
        """Accept no new messages of some events, until told otherwise; they are neither confirmed nor delivered.

        Parameters
        ----------
        events : int
            The codes of the events, combined; 0 for none.
        """
        self.refusing = events

    def malformed(self, addr, double now) -> None:
        """Count a frame that was delivered and turned out to be no message.

        Parameters
        ----------
        addr : hashable
            The peer.
        now : float
            The time in seconds.
        """
        cdef Peer peer = self._peer(addr, now)
        peer.n_malformed += 1
        self.n_malformed += 1

    def refused(self, addr, double now, Send spared=None) -> None:
        """Take in that the system reported nobody listening at an address.

        A peer that was never heard from is not there: what is out to it ends as ``UNREACHABLE``. One that was
        may be starting again: its sends go on, and end so at their deadline.

        Parameters
        ----------
        addr : hashable
            The peer.
        now : float
            The time in seconds.
        spared : Send, optional
            A send that has only just gone out, so that it cannot be what was refused.
        """
        cdef Peer peer = self._peer(addr, now)
        cdef Send send
        peer.refused = True
        if not peer.heard:
            for send in list(peer.flying):
                if send is not spared:
                    self._end(peer, send, V_UNREACHABLE, now)
                    self.finished.append(send)

    def lost(self, addr, double now) -> None:
        """Take in that the connection to a peer is gone: its sends end as ``LOST``, and it is forgotten.

        Parameters
        ----------
        addr : hashable
            The peer.
        now : float
            The time in seconds.
        """
        cdef Peer peer = self.peers.pop(addr, None)
        cdef Send send
        self.last_addr = self.last_peer = None
        if peer is None:
            return
        for send in [*peer.flying, *(peer.queue or ())]:
            send.outcome = V_LOST
            self.waiting -= 1
            self.finished.append(send)

    def lose_all(self, double now) -> None:
        """End every send as ``LOST`` and forget every peer.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        for addr in list(self.peers):
            self.lost(addr, now)
        self.outbox.clear()

    # --- time ---

    def expire(self, double now) -> None:
        """End the sends whose time is up, repeat those that are due for it, and set the next `alarm`.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        cdef Peer peer
        cdef Send send
        self.alarm = NEVER
        if not self.waiting:
            return
        for peer in list(self.peers.values()):
            # The queue first: what is out of time must not go out only because its turn has come.
            if peer.queue:
                for send in list(peer.queue):
                    if send.deadline <= now:
                        self._time_out(peer, send, now)
            if peer.flying:
                for send in list(peer.flying):
                    if send.deadline <= now:
                        self._time_out(peer, send, now)
                    elif send.retry_at <= now:
                        self._retry(peer, send, now)
            for send in peer.flying:
                self.alarm = min(self.alarm, send.deadline, send.retry_at)
            if peer.queue:
                for send in peer.queue:
                    self.alarm = min(self.alarm, send.deadline)
        if self.waiting > MANY:  # to go through them takes a while, and there would always be one whose time has come
            self.alarm = max(self.alarm, now + self.waiting * SWEEP)

    cdef _time_out(self, Peer peer, Send send, double now):
        if send.crossed:
            self._end(peer, send, V_MISMATCH, now)
        else:
            self._end(peer, send, V_UNREACHABLE if peer.refused else V_TIMED_OUT, now)
        self.finished.append(send)

    cdef _retry(self, Peer peer, Send send, double now):
        """Send a message again, or ask a peer not yet known what it is."""
        cdef int kind = peer.current_kind(now, self.limits)
        cdef unsigned int number
        send.repetitions += 1
        if kind != TAGGING:
            send.interval = self.limits.first_probe
        elif send.repetitions > self.limits.quick_retries:
            send.interval = min(2 * send.interval, self.limits.max_retry)
        send.retry_at = now + send.interval
        if send.pings is not None:
            if kind != TAGGING and len(peer.flying) > 1:
                return  # it could be taken for the echo of what that peer sends back
            self._tag(send, PING)
            send.pings.append((send.number, now))
            peer.note_sent(send.number, send.frame, now, self.limits)
            self._repeat(peer, send)
        elif kind == TAGGING:
            self._repeat(peer, send)
        elif kind == UNKNOWN:
            peer.probing = True
            number = self._next_number()
            frame = tag(PING, number)
            peer.note_sent(number, frame, now, self.limits)
            self.outbox.append((frame, send.addr))
        # A plain peer may still turn out to have been replaced by a tagging one: the timer goes on.

    cdef _repeat(self, Peer peer, Send send):
        send.repeated = True
        peer.n_retransmitted += 1
        self.outbox.append((send.frame, send.addr))

    cdef _learn(self, Peer peer, int kind, double now):
        """Take in what a peer turns out to be; a tagging one is sent what it seems not to have got, and pings go on."""
        cdef Send send
        cdef bint probing = peer.probing
        peer.kind = kind
        peer.probing = False
        if kind == TAGGING:
            for send in peer.flying:
                if send.tagged and send.retry_at != NEVER and (probing or send.pings is not None):
                    if send.pings is None:
                        self._repeat(peer, send)
                    send.repetitions = 0
                    self._schedule(peer, send, now)

    # --- what a shell may ask ---

    def asked_at(self, addr, bytes frame not None) -> 'float | None':
        """Tell when the message was sent that a tagged message answers.

        Parameters
        ----------
        addr : hashable
            The peer that sent the answer.
        frame : bytes
            The answer.

        Returns
        -------
        float or None
            The time in seconds; not a number if it is no longer known, None if the message is no answer.
        """
        cdef long long answered = read_answered(frame)
        cdef Peer peer = self.peers.get(addr)
        if answered < 0 or peer is None:
            return None
        return peer.time_sent(<unsigned int>answered, self.limits)

    @property
    def n_waiting(self) -> int:
        """How many sends have not ended."""
        return self.waiting

    @property
    def n_peers(self) -> int:
        """How many peers are remembered."""
        return len(self.peers)

    def newest(self, addr) -> 'Send | None':
        """Return the newest message to a peer that has not ended, or None. Pings are none.

        Parameters
        ----------
        addr : hashable
            The peer.

        Returns
        -------
        Send or None
            The send.
        """
        cdef Peer peer = self.peers.get(addr)
        if peer is None:
            return None
        return _newest(peer.queue) or _newest(peer.flying)

    def is_waiting(self, addr) -> bool:
        """Tell whether a message or a ping to a peer has not ended.

        Parameters
        ----------
        addr : hashable
            The peer.

        Returns
        -------
        bool
            True while one has not.
        """
        cdef Peer peer = self.peers.get(addr)
        return peer is not None and bool(peer.flying or peer.queue)

    def waiting_for(self) -> list:
        """List the peers to which a message has not ended.

        Returns
        -------
        list of hashable
            Their addresses.
        """
        return [addr for addr in self.peers if self.newest(addr) is not None]

    def addresses(self) -> list:
        """List the peers that are remembered.

        Returns
        -------
        list of hashable
            Their addresses.
        """
        return list(self.peers)

    def statistics(self, addr) -> 'tuple | None':
        """Return what is known of a peer.

        Parameters
        ----------
        addr : hashable
            The peer.

        Returns
        -------
        tuple or None
            ``(kind, sent, confirmed, failed, retransmitted, duplicates, strays, malformed, srtt, min_rtt,
            last_seen, restarts)``; None if it is not remembered.
        """
        cdef Peer peer = self.peers.get(addr)
        if peer is None:
            return None
        return (
            KINDS[peer.kind], peer.n_sent, peer.n_confirmed, peer.n_failed, peer.n_retransmitted, peer.n_duplicates,
            peer.n_strays, peer.n_malformed, peer.srtt or None, peer.min_rtt if peer.min_rtt != NEVER else None,
            peer.last_seen if peer.heard else None, peer.n_restarts,
        )

    # --- inside ---

    cdef Peer _peer(self, addr, double now):
        """Return what is known of a peer."""
        cdef Peer peer
        cdef uint32_t trace = 0
        # Often the same object: shells keep the addresses that they give.
        if addr is self.last_addr and self.last_peer is not None:
            peer = self.last_peer
        else:
            peer = self.peers.get(addr)
            if peer is None:
                self._has_room(now)  # if not, the program waits for more peers than it may remember
                peer = self.peers[addr] = Peer()
                peer.since = now
                if self.traces is not None and self.traces.find(hash(addr), &trace):
                    peer.returned = True
                    peer.trace = trace
                if self.limits.signed:
                    peer.kind = TAGGING
            self.last_addr = addr
            self.last_peer = peer
        peer.active = now
        return peer

    cdef Peer _met(self, addr, double now):
        """Return what is known of a peer that was heard from; None if it is a stranger and there is no room for it."""
        if len(self.peers) >= self.limits.max_peers and addr not in self.peers and not self._has_room(now):
            self.n_turned_away += 1
            return None
        return self._peer(addr, now)

    cdef bint _has_room(self, double now) except -1:
        """Tell whether another peer can be remembered, and forget some so that it can."""
        if self.stream or len(self.peers) < self.limits.max_peers:
            return True
        if now < self.full_until:
            return False
        if self._forget_idle(now):
            return True
        self.full_until = now + NO_ROOM
        return False

    cdef Py_ssize_t _forget_idle(self, double now) except -1:
        """Forget about an eighth of the peers, strangers first and those idle for longest; count them."""
        cdef Py_ssize_t n = len(self.peers), room = max(1, self.limits.max_peers // 8), gone, over = 0
        cdef Py_ssize_t[3] count = [0, 0, 0], quota
        cdef double[3] limit
        cdef double *active = <double *>malloc(3 * n * sizeof(double))
        cdef Peer peer
        cdef int standing
        if active == NULL:
            raise MemoryError
        try:
            for peer in self.peers.values():
                if not peer.flying and not peer.queue:
                    standing = peer.standing()
                    active[standing * n + count[standing]] = peer.active
                    count[standing] += 1
            # An eighth of the room is for strangers, and another for those that nothing is proven of.
            quota[PROVEN] = min(max(count[PROVEN] - (self.limits.max_peers - 2 * room), 0), count[PROVEN])
            over = count[1] + count[PROVEN] - quota[PROVEN] - (self.limits.max_peers - room)
            quota[1] = min(max(over, 0), count[1])
            quota[STRANGER] = min(max(room - quota[1] - quota[PROVEN], 0), count[STRANGER])
            if not quota[STRANGER] + quota[1] + quota[PROVEN]:  # the room for strangers is in use
                quota[1] = min(max(count[1] - room, 0), room)
            for standing in range(3):
                if quota[standing]:
                    qsort(active + standing * n, count[standing], sizeof(double), _earlier)
                    limit[standing] = active[standing * n + quota[standing] - 1]
        finally:
            free(active)
        if self.traces is None:
            self.traces = Traces()
        idle = []
        for addr, peer in self.peers.items():
            if not peer.flying and not peer.queue:
                standing = peer.standing()
                if quota[standing] and peer.active <= limit[standing]:
                    quota[standing] -= 1
                    idle.append(addr)
        for addr in idle:
            peer = self.peers.pop(addr)
            self.traces.add(hash(addr), peer.last_heard(self.limits))
        self.last_addr = self.last_peer = None
        gone = len(idle)
        self.n_forgotten += gone
        return gone

    cdef unsigned int _next_number(self) noexcept:
        cdef unsigned int number = self.number
        self.number = (number + 1) & NUMBERS
        return number

    cdef bint _may_tag(self, Peer peer, bytes frame, double now):
        cdef Py_ssize_t n = len(frame), i
        if not self.limits.tags or n < 2 or n + 32 > self.max_frame or frame[0] != 91 or frame[n - 1] != 93:
            return False
        if peer.current_kind(now, self.limits) == PLAIN:
            for i in range(2):
                if n <= BUFFERS[i] < n + 32:
                    return False
        return True

    cdef _tag(self, Send send, bytes frame, long long answered=-1):
        send.number = self._next_number()
        send.frame = self._tagged_frame(frame, send.number, answered)
        send.tagged = True

    cdef bytes _tagged_frame(self, bytes frame, unsigned int number, long long answered):
        if answered < 0 or len(frame) + 64 > self.max_frame:
            return tag(frame, number)
        return tag_answer(frame, number, <unsigned int>answered)

    cdef _enter(self, Peer peer, Send send, double now):
        """Let a send fly, or queue it behind those before it."""
        self.waiting += 1
        peer.n_sent += 1
        if send.deadline < self.alarm:
            self.alarm = send.deadline
        if peer.queue or not self._may_fly(peer, send):
            if peer.queue is None:
                peer.queue = deque()
            peer.queue.append(send)
        else:
            self._fly(peer, send, now)

    cdef bint _may_fly(self, Peer peer, Send send):
        """Tell whether a send may leave now. No message waits for a ping, which may be somebody else's."""
        cdef Send other
        cdef Py_ssize_t i
        for i in range(len(peer.flying)):
            other = peer.flying[i]
            if (send.alone or other.alone) and (other.pings is None or send.pings is not None):
                return False
        return True

    cdef _fly(self, Peer peer, Send send, double now):
        send.flying = True
        send.flown = now
        peer.refused = False  # what was refused was something else
        peer.flying.append(send)
        if send.tagged:
            peer.note_sent(send.number, send.frame, now, self.limits)
            if send.pings is not None:
                send.pings.append((send.number, now))
            if not self.stream:
                peer.current_kind(now, self.limits)
                self._schedule(peer, send, now)

    cdef _schedule(self, Peer peer, Send send, double now):
        """Set when a send is repeated for the first time."""
        send.interval = peer.retry_interval(self.limits)
        send.retry_at = now + send.interval
        if send.retry_at < self.alarm:
            self.alarm = send.retry_at

    cdef Send _find(self, Peer peer, unsigned int number):
        """Return the flying send with a number, or None."""
        cdef Send send
        cdef Py_ssize_t i
        for i in range(len(peer.flying)):
            send = peer.flying[i]
            if send.tagged:
                if send.number == number:
                    return send
                if send.pings is not None:
                    for entry in send.pings:
                        if entry[0] == number:
                            return send
        return None

    cdef _confirm(self, Peer peer, Send send, unsigned int number, double now):
        cdef double flown = send.flown
        if send.pings is not None:
            for sent_number, at in send.pings:
                if sent_number == number:
                    flown = at
        send.round_trip = now - flown
        if not send.repeated or send.pings is not None:  # Karn's rule: a repetition could be the one that was answered
            peer.measure(send.round_trip)
        peer.n_confirmed += 1
        self._end(peer, send, V_CONFIRMED, now)
        self.ended = send

    cdef _end(self, Peer peer, Send send, int outcome, double now):
        """End a send, and let those fly that waited behind it."""
        send.outcome = outcome
        self.waiting -= 1
        if outcome != V_CONFIRMED:
            peer.n_failed += 1
        if send.flying:
            peer.flying.remove(send)
            # Even after a mismatch the echo proper may still come; from where nobody listens it cannot. One with a
            # tag is known by its number, unless it is cut short.
            if outcome != V_CONFIRMED and not peer.refused:
                if not send.tagged or len(send.frame) > self.limits.min_truncated:
                    peer.owe(send.frame, now, self.limits)
        else:
            peer.queue.remove(send)
        while peer.queue and self._may_fly(peer, peer.queue[0]):
            send = peer.queue.popleft()
            self._fly(peer, send, now)
            self.outbox.append((send.frame, send.addr))
