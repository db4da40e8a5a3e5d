# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The rules of delivery: which send waits for what, and what a frame that comes in is. No I/O, no clock.

1. Time is an argument, in seconds of any clock that does not go back. Addresses are opaque keys.
2. To one peer messages leave in order: on datagrams one at a time, on a stream all at once (a bare text alone,
   since nothing on a stream shows where it ends).
3. A send ends once, with one outcome, and is then in `finished`. Bytes to be sent are in `outbox`.
   The shell empties both after every call.
4. What was sent and is no longer waited for (timed out, cancelled, sent without confirmation) is *due*: its
   echo is swallowed when it comes, once for each send.
5. Every table has a bound, and each bound is a field of `Tuning`.
"""

from collections import deque

from echorig._codec cimport compare, peek

# What a frame is.
IGNORED = 0      # nothing to do
CONFIRMED = 1    # the echo of a waiting send
DELIVER = 2      # new: send it back, then deliver it
NOTICE = 3       # new, but never sent back: deliver it
SWALLOWED = 4    # the echo of a send that nobody waits for any more
MISMATCH = 5     # not the echo of the waiting send, though it should be
STORM = 6        # the same malformed bytes again and again: dropped, so that an endless exchange ends

# How a send ended (or CONFIRMED, MISMATCH).
WAITING = 7
TIMED_OUT = 8
UNREACHABLE = 9
LOST = 10

cdef double NEVER = float('inf')


cdef class Send:
    """One message on its way to be confirmed.

    Attributes
    ----------
    frame : bytes
        What is sent.
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
    """

    cdef readonly bytes frame
    cdef readonly object addr
    cdef readonly object waiter
    cdef readonly double started
    cdef readonly double deadline
    cdef readonly int outcome
    cdef readonly bint truncated
    cdef readonly bytes answer
    cdef bint alone       # no other message may be under way with this one
    cdef bint flying      # it has been sent

    def __cinit__(self):
        self.outcome = 7


cdef class _Peer:
    """What is remembered of one remote address."""

    cdef list flying           # sends that are out, in order
    cdef object queue          # sends that wait for their turn (a deque, made when needed)
    cdef list due              # (frame, time) of those whose echo may still come
    cdef bint heard            # something came from it
    cdef bint refused          # the system says that nobody listens there
    cdef double seen           # when it was last heard from or sent to
    cdef bytes malformed       # the last malformed frame,
    cdef int repeats           # how often it came
    cdef double since          # since when

    def __cinit__(self):
        self.flying = []


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

    Attributes
    ----------
    outbox : list of (bytes, address)
        What is to be sent now, in order.
    finished : list of Send
        The sends that have ended since the list was last emptied.
    """

    cdef readonly list outbox
    cdef readonly list finished
    cdef dict peers
    cdef bint stream
    cdef Py_ssize_t max_size, min_truncated
    cdef Py_ssize_t max_peers, max_due
    cdef double due_age, burst_time
    cdef int malformed_burst
    cdef Py_ssize_t waiting

    def __init__(self, tuning, bint stream, Py_ssize_t max_size):
        self.outbox = []
        self.finished = []
        self.peers = {}
        self.stream = stream
        self.max_size = max_size
        self.min_truncated = tuning.min_truncated
        self.max_peers = tuning.max_peers
        self.max_due = tuning.max_due
        self.due_age = tuning.due_age
        self.burst_time = tuning.burst_time
        self.malformed_burst = tuning.malformed_burst

    # --- sending ---

    def send(self, bytes frame not None, addr, waiter, double now, double timeout) -> Send:
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

        Returns
        -------
        Send
            The send; it is in `finished` when it has ended.
        """
        cdef _Peer peer = self._peer(addr, now)
        cdef Send send = Send()
        send.frame = frame
        send.addr = addr
        send.waiter = waiter
        send.started = now
        send.deadline = now + timeout
        send.alone = not self.stream or not frame.lstrip().startswith(b'[')
        self.waiting += 1
        if not self._may_fly(peer, send) or peer.queue:
            if peer.queue is None:
                peer.queue = deque()
            peer.queue.append(send)
        else:
            self._fly(peer, send)
        return send

    def sent(self, bytes frame not None, addr, double now) -> None:
        """Note a message that was sent without waiting for its echo.

        Parameters
        ----------
        frame : bytes
            The message. A notice is never echoed, so it is not noted.
        addr : hashable
            The peer.
        now : float
            The time in seconds.
        """
        if peek(frame) != 0:
            self._owe(self._peer(addr, now), frame, now)

    def cancel(self, Send send not None, double now) -> None:
        """Stop waiting for a send, which leaves nothing behind; it does not get into `finished`.

        Parameters
        ----------
        send : Send
            What :meth:`send` returned; nothing happens if it has already ended.
        now : float
            The time in seconds.
        """
        if send.outcome == 7:
            self._end(self.peers[send.addr], send, 10, now, False)

    # --- receiving ---

    def receive(self, bytes frame not None, addr, double now) -> int:
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
            ``IGNORED``, ``CONFIRMED``, ``DELIVER``, ``NOTICE``, ``SWALLOWED``, ``MISMATCH`` or ``STORM``.
        """
        cdef _Peer peer
        cdef Send send
        cdef int verdict, event
        cdef Py_ssize_t i
        if not frame:
            return 0
        peer = self._peer(addr, now)
        peer.heard = True
        peer.refused = False
        # A stream loses nothing: the echo that is due came first, if it equals the one waited for.
        if self.stream and peer.due and self._is_due(peer, frame, now):
            return 4
        for i in range(len(peer.flying)):
            send = peer.flying[i]
            verdict = compare(send.frame, frame, self.min_truncated, self.max_size)
            if verdict != 0:
                send.truncated = verdict == 2
                self._end(peer, send, 1, now, True)
                return 1
        if peer.due and self._is_due(peer, frame, now):
            return 4
        event = peek(frame)
        if event == 0:
            return 3
        if peer.flying:
            send = peer.flying[0]
            if event < 0 or event == peek(send.frame):
                send.answer = frame
                self._end(peer, send, 5, now, True)
                return 5
        if event < 0 and self._is_storm(peer, frame, now):
            return 6
        return 2

    def refused(self, addr, double now) -> None:
        """Take in that the system reported nobody listening at an address.

        A peer that was never heard from is not there: what is out to it ends as ``UNREACHABLE``. One that was
        may be starting again: its sends go on, and end so at their deadline.

        Parameters
        ----------
        addr : hashable
            The peer.
        now : float
            The time in seconds.
        """
        cdef _Peer peer = self._peer(addr, now)
        cdef Send send
        peer.refused = True
        if not peer.heard:
            for send in list(peer.flying):
                self._end(peer, send, 9, now, True)

    def lost(self, addr, double now) -> None:
        """Take in that the connection to a peer is gone: its sends end as ``LOST``, and it is forgotten.

        Parameters
        ----------
        addr : hashable
            The peer.
        now : float
            The time in seconds.
        """
        cdef _Peer peer = self.peers.pop(addr, None)
        cdef Send send
        if peer is None:
            return
        for send in [*peer.flying, *(peer.queue or ())]:
            send.outcome = 10
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

    def next_time(self) -> float:
        """Tell when :meth:`expire` has something to do.

        Returns
        -------
        float
            A time in seconds; infinity if nothing is waited for.
        """
        cdef double first = NEVER
        cdef _Peer peer
        cdef Send send
        if self.waiting:
            for peer in self.peers.values():
                for send in peer.flying:
                    first = min(first, send.deadline)
                if peer.queue:
                    for send in peer.queue:
                        first = min(first, send.deadline)
        return first

    def expire(self, double now) -> None:
        """End the sends whose time is up.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        cdef _Peer peer
        cdef Send send
        if not self.waiting:
            return
        for peer in list(self.peers.values()):
            # The queue first: what is out of time must not go out only because its turn has come.
            if peer.queue:
                for send in [send for send in peer.queue if (<Send>send).deadline <= now]:
                    self._end(peer, send, 9 if peer.refused else 8, now, True)
            if peer.flying:
                for send in [send for send in peer.flying if (<Send>send).deadline <= now]:
                    self._end(peer, send, 9 if peer.refused else 8, now, True)

    # --- what a shell may ask ---

    @property
    def n_waiting(self) -> int:
        """How many sends have not ended."""
        return self.waiting

    @property
    def n_peers(self) -> int:
        """How many peers are remembered."""
        return len(self.peers)

    def newest(self, addr) -> 'Send | None':
        """Return the newest send to a peer that has not ended, or None.

        Parameters
        ----------
        addr : hashable
            The peer.

        Returns
        -------
        Send or None
            The send.
        """
        cdef _Peer peer = self.peers.get(addr)
        if peer is None:
            return None
        if peer.queue:
            return peer.queue[-1]
        return peer.flying[-1] if peer.flying else None

    def waiting_for(self) -> list:
        """List the peers to which a send has not ended.

        Returns
        -------
        list of hashable
            Their addresses.
        """
        return [addr for addr, peer in self.peers.items() if (<_Peer>peer).flying or (<_Peer>peer).queue]

    # --- inside ---

    cdef _Peer _peer(self, addr, double now):
        cdef _Peer peer = self.peers.get(addr)
        if peer is None:
            if len(self.peers) >= self.max_peers:
                self._forget_idle()
            peer = self.peers[addr] = _Peer()
        peer.seen = now
        return peer

    cdef _forget_idle(self):
        """Make room: forget the eighth of the peers that has been idle for longest."""
        idle = sorted(
            ((<_Peer>peer).seen, i, addr)
            for i, (addr, peer) in enumerate(self.peers.items())
            if not (<_Peer>peer).flying and not (<_Peer>peer).queue
        )
        for _, _, addr in idle[:max(1, self.max_peers // 8)]:
            del self.peers[addr]

    cdef bint _may_fly(self, _Peer peer, Send send):
        return not peer.flying or not (send.alone or (<Send>peer.flying[-1]).alone)

    cdef _fly(self, _Peer peer, Send send):
        send.flying = True
        peer.flying.append(send)
        self.outbox.append((send.frame, send.addr))

    cdef _end(self, _Peer peer, Send send, int outcome, double now, bint tell):
        """End a send, and let those fly that waited behind it."""
        send.outcome = outcome
        self.waiting -= 1
        if send.flying:
            peer.flying.remove(send)
            if outcome != 1 and not peer.refused:
                # Even after a mismatch the echo proper may still come; from where nobody listens it cannot.
                self._owe(peer, send.frame, now)
        else:
            peer.queue.remove(send)
        if tell:
            self.finished.append(send)
        while peer.queue and self._may_fly(peer, peer.queue[0]):
            self._fly(peer, peer.queue.popleft())

    cdef _owe(self, _Peer peer, bytes frame, double now):
        if peer.due is None:
            peer.due = []
        elif len(peer.due) >= self.max_due:
            del peer.due[0]
        peer.due.append((frame, now))

    cdef bint _is_due(self, _Peer peer, bytes frame, double now):
        """Tell whether this is the echo of a send that nobody waits for, and strike that send off."""
        cdef Py_ssize_t i
        while peer.due and now - <double>peer.due[0][1] > self.due_age:
            del peer.due[0]
        for i in range(len(peer.due)):
            if compare(peer.due[i][0], frame, self.min_truncated, self.max_size) != 0:
                del peer.due[i]
                return True
        return False

    cdef bint _is_storm(self, _Peer peer, bytes frame, double now):
        if peer.malformed != frame or now - peer.since > self.burst_time:
            peer.malformed = frame
            peer.repeats = 0
            peer.since = now
        peer.repeats += 1
        if peer.repeats > self.malformed_burst:
            peer.repeats = 0
            return True
        return False
