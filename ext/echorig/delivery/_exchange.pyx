# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The rules of delivery: which send waits for what, and what a frame that comes in is. No I/O, no clock.

1. Time is an argument, in seconds of any clock that does not go back. Addresses are opaque keys.
2. Confirmed messages to one peer leave in order: on datagrams one at a time, on a stream all at once (a bare text
   alone, since nothing on a stream shows where it ends). What nobody waits for may overtake those that wait.
3. A send ends once, with one outcome, and is then in `finished`. Bytes to be sent are in `outbox`, and `alarm` says
   when `expire` has something to do. The shell looks at the three after every call.
4. A message is known by its run and number, whatever its age and address: a frame with our own run is our own message
   coming back, and `Run` says which numbers of another program were received. For that the sender does its part: while
   a message to a peer is to be confirmed, it sends this peer no number that is `WINDOW` or more above.
5. Only an echorig peer is sent a message again: a legacy one would run its callback twice. One not yet known is asked by
   pings what it is, before its first message; nothing follows a message to it that is not confirmed.
6. A peer is a program, known by its run: where its newest message comes from, there it is.
7. Every table has a bound. Of too many peers those are forgotten first that have confirmed nothing, then those idle for
   longest (a segmented LRU: Karedla, Love and Wherry, "Caching strategies to improve disk system performance", IEEE
   Computer 27(3), 1994).
"""

cimport cython

import errno

from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport ceil

from echorig.wire._codec cimport compare, peek
from echorig.delivery._peer cimport LEGACY, ECHORIG, UNKNOWN, WINDOW, Limits, Peer, Run
from echorig.wire._tags cimport (
    FIELD_SIZE, HELLO, T_BROKEN, T_WHOLE, TAG_SIZE, Tag, identity, is_echo, is_intact, is_ping, is_same, make_ping, parse,
    read_answered, reply_to_ping, set_ack, with_life, write,
)

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
DAMAGED = V_DAMAGED
EXPIRED = V_EXPIRED
DOUBTED = V_DOUBTED

KINDS = ('unknown', 'echorig', 'legacy')

cdef double NEVER = float('inf')
cdef unsigned int LAST_NUMBER = 0xFFFFFFFF
cdef unsigned int RUNS = 0x7FFFFFFF
cdef Py_ssize_t MANY = 256
cdef double SWEEP = 2e-6  # seconds between two looks at what is waited for, for each message: a tenth is spent looking
cdef double NO_ROOM = 0.01  # seconds before it is looked for again where there was none, which takes a while
cdef Py_ssize_t MAX_HELD = 1024  # messages that nobody waits for, for one peer, until they may be sent
cdef Py_ssize_t MAX_FORGOTTEN = 2**20  # runs of which only the number is kept
cdef Py_ssize_t MAX_DOUBTED = 1024  # messages of one peer over datagrams, and 16 times as many of a stream,
cdef Py_ssize_t MAX_DOUBTED_SIZE = 2**24  # which have at most so many bytes
cdef double DOUBT_TIME = 1.0  # seconds for the answer whether a message is still wanted
cdef double STREAM_DOUBT_TIME = 60.0  # seconds more on a stream, which loses neither the question nor the answer
cdef double TRUSTED = 0.1  # seconds for which such an answer is believed
cdef double STREAM_GAP = 0.1  # seconds between frames to one who may take two that arrive together for one
cdef Py_ssize_t MAX_REPLIES = 16  # that wait for such a stream
cdef double PROBE_INTERVAL = 0.010  # seconds between the first pings to a peer not yet known
cdef int QUICK_PROBES = 3  # pings before the interval begins to double
cdef double MAX_PROBE_INTERVAL = 0.100
cdef double REPEATED_PROBE = 1.0  # seconds between pings to a peer that was silent for long, while a message waits
cdef double REST = 15.0  # seconds for a peer not yet known to deal with a message, before it is pinged again
# A longer message is not sent again before the echo of a ping has overtaken its own: the link may only be slow.
cdef Py_ssize_t LARGE = 2 * (TAG_SIZE + FIELD_SIZE + 2)
# What MATLAB rigs read of a message at most; a tag must not be what makes one too long for them.
cdef Py_ssize_t[2] BUFFERS = [512, 1000]


cdef bint _is_array(bytes frame):
    """Tell whether a frame starts as an array does."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    while src[0] == 32 or src[0] == 9 or src[0] == 10 or src[0] == 13:
        src += 1
    return src[0] == 91


cdef unsigned int _life(Send send, double now) noexcept:
    """Return for how long a message is still wanted, in milliseconds; 0 is for ever."""
    cdef double left = ceil((send.deadline - now) * 1000)
    if left > 0xFFFFFFFF:
        return 0
    return <unsigned int>left if left >= 1 else 1


@cython.final
@cython.freelist(16)
cdef class Send:
    """One message on its way to be confirmed.

    Attributes
    ----------
    frame : bytes
        What is sent; with its tag, once it has been sent.
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
    number : int
        Its number; 0 before it is sent.
    """

    def __cinit__(self):
        self.outcome = V_WAITING
        self.retry_at = NEVER
        self.answered = -1

    @property
    def is_confirmed(self) -> bool:
        """bool: Whether its echo has come."""
        return self.outcome == V_CONFIRMED

    @property
    def identity(self) -> int:
        """int: Its run, times 2**32, plus its number; -1 before it is sent, and without a tag."""
        return -1 if self.number == 0 else identity(self.frame)

    def forget_answer(self) -> None:
        """Note that its answer is not waited for any more."""
        if self.awaited is not None:
            if self.number:
                self.awaited.discard(identity(self.frame))
            self.awaited = None


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
    tuning : InternalTuning
        The limits.
    stream : bool
        Whether the transport is a stream (nothing is lost or reordered) and not datagrams.
    max_size : int
        The size in bytes of an echo that legacy peers may cut a longer message down to.
    run : int
        The run, 0 to 2**31 - 1; random, so that no two programs have the same.
    number : int
        The number of the first message, 1 to 2**32 - 1.
    max_frame : int
        The size in bytes up to which a message may grow by its tag.
    signed : bool
        Whether all peers are known to run echorig: only they have signatures.

    Attributes
    ----------
    outbox : list of (bytes, address)
        What is to be sent now, in order.
    finished : list of Send
        The sends that have ended since the list was last emptied.
    reply : bytes or None
        What to send back, after ``DELIVER`` or ``ECHO``; None if that is left for later.
    alarm : float
        When `expire` may have something to do, in seconds; infinity if nothing is waited for.
    run : int
        The present run.
    n_forgotten : int
        How many peers have been forgotten to make room for others.
    n_turned_away : int
        How many frames of strangers were ignored because all the room there is was in use.
    n_malformed, n_damaged, n_expired : int
        How many frames were no message, were changed on their way, or were not wanted any more, also those of peers that
        have been forgotten.
    n_received : int
        How many frames have come.
    """

    def __init__(
        self, tuning, bint stream, Py_ssize_t max_size, unsigned int run=0, unsigned int number=1,
        Py_ssize_t max_frame=2**62, bint signed=False,
    ):
        self.outbox = []
        self.finished = []
        self.settled = []
        self.peers = {}
        self.moved = {}
        self.runs = {}
        self.former = {}
        self.own_runs = set()
        self.forgotten = set()
        self.awaited = set()
        self.limits = Limits(tuning, max_size, signed)
        self.stream = stream
        self.run = self.first_run = run & RUNS
        self.number = max(number, 1)
        self.max_frame = max_frame
        self.alarm = NEVER
        self.begun = -1.0

    # --- sending ---

    cpdef Send send(
        self, bytes frame, addr, waiter, double now, double timeout, bint taggable=True, long long answered=-1,
        bint asks=False
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
            The message that this one answers: its run, times 2**32, plus its number; -1 if it answers none.
        asks : bool
            Whether its answer is waited for, until :meth:`Send.forget_answer`: only this end knows for how long the
            answer is wanted.

        Returns
        -------
        Send
            The send; it is in `finished` when it has ended.
        """
        cdef Send send = self.begin(frame, addr, waiter, now, timeout, taggable, answered, asks)
        if send.flying:
            self.outbox.append((send.frame, send.addr))
        return send

    cdef Send begin(
        self, bytes frame, addr, waiter, double now, double timeout, bint taggable, long long answered=-1,
        bint asks=False
    ):
        """Begin a confirmed send; the shell sends its frame at once if it is `flying` now."""
        cdef Peer peer = self._peer(addr, now)
        cdef Send send = Send()
        send.frame = frame
        send.addr = peer.addr
        send.waiter = waiter
        send.started = now
        send.deadline = now + timeout
        send.alone = not self.stream or not _is_array(frame)
        send.taggable = taggable
        send.answered = answered
        if asks:
            send.awaited = self.awaited
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
        send.frame = b'[]'
        send.addr = peer.addr
        send.waiter = waiter
        send.started = now
        send.deadline = now + timeout
        send.alone = not self.stream
        send.taggable = True
        send.pings = []
        self._enter(peer, send, now)
        if send.flying:
            self.outbox.append((send.frame, send.addr))
        return send

    def sent(self, bytes frame not None, addr, double now, bint taggable=True, long long answered=-1) -> 'bytes | None':
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
            The message that this one answers, as for `send`; -1 if it answers none.

        Returns
        -------
        bytes or None
            What to send to `place`: the message, with a tag if it may have one. None if it must wait; it gets into
            `outbox` later.

        Raises
        ------
        OSError
            So many messages wait for this peer that this one was not accepted.
        """
        cdef Peer peer = self._peer(addr, now)
        if len(peer.held or peer.paced or ()) >= MAX_HELD:
            reason = 'may take two that arrive together for one' if self.stream else 'has not confirmed an earlier one yet'
            raise OSError(errno.ENOBUFS, f'{MAX_HELD} messages wait to be sent, since {addr} {reason}: send fewer at a time')
        if peer.held or peer.probes is not None or not self._in_window(peer):
            if peer.held is None:
                peer.held = deque()
            peer.held.append((frame, taggable, answered))
            return None
        return self._unconfirmed(peer, frame, taggable, answered, now)

    cdef bytes _unconfirmed(self, Peer peer, bytes frame, bint taggable, long long answered, double now):
        """Return what is sent of a message that nobody waits for; None if it must wait for the stream."""
        cdef int event = peek(frame)
        peer.n_sent += 1
        if not self.stream:
            peer.current_kind(now, self.limits)
        if taggable and self._may_tag(peer, frame):
            frame = self._tagged_frame(frame, self._next_number(), 0, answered if peer.kind != LEGACY else -1)
            if peer.kind != ECHORIG and PyBytes_GET_SIZE(frame) > self.limits.min_truncated_echo and event != 0:
                peer.owe(frame, now, self.limits)  # its echo may come back cut short, without the tag
        elif event != 0:
            peer.owe(frame, now, self.limits)
        if self.stream:
            return self._pace(peer, frame, event, now)
        if peer.kind == ECHORIG:
            return frame
        if event != 0:
            peer.sent_message(frame, event, now)
        return frame

    def place(self, addr):
        """Return where the program is now that was at an address.

        Parameters
        ----------
        addr : hashable
            Where it was.

        Returns
        -------
        hashable
            The same, unless its messages have come from elsewhere since.
        """
        cdef Peer peer
        if self.moved and addr not in self.peers:
            peer = self.moved.get(addr)
            if peer is not None:
                return peer.addr
        return addr

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
            self._end(self._find_peer(send.addr), send, V_LOST, now)

    # --- receiving ---
    #
    # The first line that fits decides; docs/protocol.md has the same table in words.
    #
    #   frame                                                     verdict      sent back      where
    #   empty, or from a stranger while there is no room for one  IGNORED      -              sort, _met
    #   ACK flag, another run than ours                           SWALLOWED    -              sort
    #   ACK flag, number waited for, equal but for the flag       CONFIRMED    -              _echo
    #   ACK flag, number waited for, other bytes                  MISMATCH     -
    #   ACK flag, else                                            SWALLOWED    -
    #   our run, waited for, our bytes                            CONFIRMED    -              _returned
    #   our run, else                                             SWALLOWED    -
    #   another run, the check is wrong                           DAMAGED      -              _message
    #   another run, a ping                                       ECHO         with the flag
    #   another run, it lay in the socket for longer than wanted  EXPIRED      -
    #   another run, that may be so                               DOUBTED      -
    #   another run, received before                              ECHO         with the flag
    #   another run, too old to say                               IGNORED      -
    #   another run, a notice                                     NOTICE       -              (once)
    #   another run, of an event that is refused                  REFUSED      -
    #   another run, else                                         DELIVER      with the flag
    #   equal to, or a long enough beginning of, a waiting send   CONFIRMED    -              _untagged
    #   equal to one that is due                                  SWALLOWED    -
    #   a tag that was damaged                                    DAMAGED      -
    #   a notice                                                  NOTICE       -
    #   malformed, or of the event of an untagged waiting send    MISMATCH     -              (while one waits)
    #   of an event that is refused                               REFUSED      -
    #   the same bytes too often                                  STORM        -
    #   else                                                      DELIVER      as it is

    cpdef int receive(self, bytes frame, addr, double now, double waited=0.0, bint sure=True) except -1:
        """Tell what a frame from a peer is.

        Parameters
        ----------
        frame : bytes
            What came.
        addr : hashable
            The peer.
        now : float
            The time in seconds.
        waited : float
            For how long it lay here before it was read, in seconds; negative if it has not just been read.
        sure : bool
            Whether that is known, and not only the longest time that it can be.

        Returns
        -------
        int
            ``IGNORED``, ``CONFIRMED``, ``DELIVER``, ``NOTICE``, ``SWALLOWED``, ``MISMATCH``, ``STORM``, ``ECHO``,
            ``REFUSED``, ``DAMAGED``, ``EXPIRED`` or ``DOUBTED``.
        """
        cdef int verdict = self.sort(frame, addr, now, waited, sure)
        if self.ended is not None:
            self.finished.append(self.ended)
            self.ended = None
        return verdict

    cdef int sort(self, bytes frame, addr, double now, double waited, bint sure) except -1:
        """Tell what a frame from a peer is; the send that it ended, if any, is `ended`."""
        cdef Tag tag
        cdef int state
        if not frame:
            return V_IGNORED
        self.n_received += 1
        self.identity = -1
        state = parse(frame, &tag)
        if state != T_WHOLE:
            return self._untagged(frame, addr, now, state == T_BROKEN)
        if self.is_own(tag.run):
            if tag.ack:
                return self._echo(frame, &tag, addr, now, waited)
            if self.limits.tags or is_ping(frame):
                return self._returned(frame, &tag, addr, now)
        elif tag.ack and self.limits.tags:
            return V_SWALLOWED
        if not self.limits.tags:
            return self._untagged(frame, addr, now, False)
        return self._message(frame, &tag, addr, now, waited, sure)

    cdef bint is_own(self, unsigned int run) noexcept:
        """Tell whether a run is or was ours."""
        return run == self.run or (bool(self.own_runs) and run in self.own_runs)

    cdef int _damaged(self, Peer peer) noexcept:
        self.n_damaged += 1
        if peer is not None:
            peer.n_damaged += 1
        return V_DAMAGED

    cdef _hear(self, Peer peer, double now):
        """Note that something came from a peer."""
        peer.heard = True
        peer.refused = False
        peer.last_seen = now
        peer.active = now

    cdef int _echo(self, bytes frame, Tag *tag, addr, double now, double waited) except -1:
        """A frame of ours with the ACK flag: an echo by an echorig peer, which is never echoed."""
        cdef Peer peer = self._find_peer(addr)
        cdef Send send
        if peer is None:
            return V_SWALLOWED
        send = self._find(peer, tag.number)
        if send is None and peer.former is not None and not peer.former.gone:  # it was sent before that one moved
            send = self._find(peer.former, tag.number)
            if send is not None:
                peer = peer.former
        if (send is None or send.pings is not None or not is_echo(send.frame, frame)) and not is_intact(frame, tag):
            return self._damaged(peer)
        self._hear(peer, now)
        if send is not None:
            if is_ping(frame) if send.pings is not None else is_same(send.frame, frame):
                self._know(peer, tag.number, now)  # before the next one leaves
                self._confirm(peer, send, tag.number, now)
                if send.pings is not None and peer.addr == addr:
                    self._meet(peer, frame, self._position(tag.run, tag.number), now)
                return V_CONFIRMED
            send.answer = frame
            self._end(peer, send, V_MISMATCH, now)
            self.ended = send
            return V_MISMATCH
        self._know(peer, tag.number, now)
        if is_ping(frame):
            if peer.doubted:
                self._answered_doubt(peer, frame, tag.number, now, waited)
            if peer.addr == addr:  # else another program may be where it was
                self._meet(peer, frame, self._position(tag.run, tag.number), now)
            if peer.asked and tag.number >= peer.asked:
                for send in peer.flying:
                    if send.tagged and send.pings is None and send.flown_after <= tag.number and send.deadline > now:
                        self._repeat(peer, send, now)
        peer.n_strays += 1
        return V_SWALLOWED

    cdef _know(self, Peer peer, unsigned int number, double now):
        """Take in that a peer has set the flag on an echo, as only echorig ones do."""
        if peer.kind != ECHORIG and number >= peer.kind_since:
            if peer.probes is not None:
                for probe, at in peer.probes:
                    if probe == number:
                        peer.measure(now - at)
            self._learn(peer, ECHORIG, now)

    cdef unsigned long long _position(self, unsigned int run, unsigned int number) noexcept:
        """Return the place of a message of ours among all that were ever sent."""
        return <unsigned long long>((run - self.first_run) & RUNS) << 32 | number

    cdef _meet(self, Peer peer, bytes frame, unsigned long long asked, double now):
        """Take in which program has answered the ping of a position."""
        cdef long long program = read_answered(frame)
        cdef unsigned int number
        cdef Peer holder
        cdef Run run
        if program < 0 or self.is_own(<unsigned int>(program >> 32)):
            return
        number = <unsigned int>(program >> 32)
        run = self.runs.get(number)
        if run is None:
            # A late echo says who was there when its ping came.
            if peer.run is None or (peer.run.run != number and asked >= peer.run.heard_before):
                run = self._new_run(number, now)
                if run is not None:
                    run.heard_before = asked + 1
                    self._succeed(peer, run)
            return
        holder = self._holder(run)
        if holder is None:
            if peer.run is None:
                peer.run = run
                run.peer = peer
        elif holder is not peer and asked >= run.heard_before:  # else it may have moved on since
            self._move(holder, peer.addr, now)
        if asked >= run.heard_before:
            run.heard_before = asked + 1

    cdef Peer _holder(self, Run run):
        """Return the peer that a program is; None once that is gone, or another program has taken its place.

        The peer has this run, or one beside it: the numbers of a program come to their end, and its next run begins.
        """
        cdef Peer peer = run.peer
        if peer is not None and (peer.gone or peer.run is None or (peer.run.run - run.run + 1) & RUNS > 2):
            run.peer = peer = None
        return peer

    cdef _succeed(self, Peer peer, Run run):
        """Take in that a program is where another was, or none."""
        cdef Run before = peer.run
        if before is not None:
            if before.run == (run.run + 1) & RUNS:  # a late one of those before its numbers came to their end
                return
            before.peer = None
            if run.run != (before.run + 1) & RUNS:  # else the numbers of the same program have come to their end
                peer.n_restarts += 1
        peer.run = run
        run.peer = peer

    cdef int _returned(self, bytes frame, Tag *tag, addr, double now) except -1:
        """A frame of ours without the flag: sent back by a legacy peer, or by the network."""
        cdef Peer peer = self._find_peer(addr)
        cdef Send send
        if peer is None:
            return V_SWALLOWED
        send = self._find(peer, tag.number)
        if (send is None or send.frame != frame) and not is_intact(frame, tag):
            return self._damaged(peer)
        if send is not None and not (is_ping(frame) if send.pings is not None else is_same(send.frame, frame)):
            send = None
        self._hear(peer, now)
        if send is not None:
            self._learn(peer, LEGACY, now)
            self._confirm(peer, send, tag.number, now)
            return V_CONFIRMED
        if tag.number >= peer.kind_since:
            self._learn(peer, LEGACY, now)
        if peer.unechoed is not None and peer.unechoed == frame:
            peer.unechoed = None
            peer.quiet_until = now
            self._let_fly(peer, now)
        peer.n_strays += 1
        return V_SWALLOWED

    cdef Peer _sender(self, Tag *tag, addr, double now):
        """Return the peer that a message of another program is from; None if there is no room for a stranger."""
        cdef Peer peer
        cdef Run run
        if self.stream:
            peer = self._met(addr, now)
            if peer.run is None or peer.run.run != tag.run:
                self._succeed(peer, self._new_run(tag.run, now))
            self.last_run = peer.run
            self.last_run.latest = tag.number
            return peer
        run = self.last_run
        if run is None or run.run != tag.run:
            run = self.runs.get(tag.run)
        if run is None:
            run = self._new_run(tag.run, now)
            peer = None if run is None else self._met(addr, now)
            if peer is None:
                if run is None:
                    self.n_turned_away += 1
                else:
                    del self.runs[tag.run]
                return None
            self._succeed(peer, run)
        elif self._holder(run) is None:
            # Where another program is by now, or was, this is a late message; else its peer was forgotten.
            peer = self._find_peer(addr) if tag.number <= run.latest else None
            if peer is None:
                peer = self._met(addr, now)
                if peer is None:
                    return None
            if peer.run is None:
                peer.run = run
                run.peer = peer
        else:
            peer = run.peer
            if peer.addr != addr and tag.number > run.latest:
                self._move(peer, addr, now)
        if tag.number > run.latest:
            run.latest = tag.number
            run.heard_before = self._position(self.run, self.number)
        run.used_at = now
        self.last_run = run
        return peer

    cdef _move(self, Peer peer, addr, double now):
        """Take in that a program has another address; who was there is gone, or the same program."""
        cdef Peer other = self.peers.pop(addr, None)
        before = peer.addr
        del self.peers[before]
        self.moved.pop(addr, None)
        self.last_addr = self.last_peer = None
        self._place(peer, addr)
        peer.quotes = other is not None and other.quotes  # of who is there, since what quotes has no run
        if len(self.moved) >= self.limits.max_peers:
            del self.moved[next(iter(self.moved))]
        self.moved[before] = peer
        if other is not None:
            self._join(peer, other)
            self._let_fly(peer, now)

    cdef _place(self, Peer peer, addr):
        cdef Send send
        peer.addr = addr
        self.peers[addr] = peer
        for send in [*peer.flying, *(peer.queue or ())]:
            send.addr = addr

    cdef _join(self, Peer peer, Peer other):
        """Take over what is on its way to a peer that was at the same address."""
        cdef Send send
        other.gone = True
        peer.flying += other.flying
        if other.queue:
            peer.queue = deque(sorted([*(peer.queue or ()), *other.queue], key=_started))
        if other.held:
            peer.held = deque([*(peer.held or ()), *other.held])
        if other.due:
            peer.due = [*(peer.due or ()), *other.due][-self.limits.max_due:]
        if other.doubted:
            peer.doubted = deque([*(peer.doubted or ()), *other.doubted])
            peer.doubted_size += other.doubted_size
            other.doubted = None
            if other in self.settled and peer not in self.settled:
                self.settled.append(peer)
        if other.unechoed_at > peer.unechoed_at:
            peer.unechoed = other.unechoed
            peer.unechoed_at = other.unechoed_at
        if other.last_seen > peer.last_seen:
            peer.last_seen = other.last_seen
            peer.heard = True
            if other.kind != UNKNOWN:
                peer.kind = other.kind
                peer.kind_since = other.kind_since
        if peer.kind == UNKNOWN and other.kind == UNKNOWN:
            peer.kind_since = min(peer.kind_since, other.kind_since)  # the echo of an earlier ping counts, too
        if peer.kind == ECHORIG and peer.probes is not None:
            self._stop_probing(peer)
        if peer.srtt == 0.0:
            peer.srtt = other.srtt
            peer.rttvar = other.rttvar
        peer.min_rtt = min(peer.min_rtt, other.min_rtt)
        peer.n_sent += other.n_sent
        peer.n_confirmed += other.n_confirmed
        peer.n_failed += other.n_failed
        peer.n_retransmitted += other.n_retransmitted
        peer.n_duplicates += other.n_duplicates
        peer.n_strays += other.n_strays
        peer.n_malformed += other.n_malformed
        peer.n_restarts += other.n_restarts
        peer.n_damaged += other.n_damaged
        peer.n_expired += other.n_expired
        if other.run is not None:
            if (other.run.run - peer.run.run + 1) & RUNS > 2:  # of another program, which this one has replaced
                peer.n_restarts += 1
            else:
                other.run.peer = peer
        for addr, moved in self.moved.items():
            if moved is other:
                self.moved[addr] = peer

    cdef int _message(self, bytes frame, Tag *tag, addr, double now, double waited, bint sure) except -1:
        """A frame of another program: a message or a ping."""
        cdef Peer peer
        cdef Run run
        cdef bytes reply
        cdef int event, state
        cdef long long asked
        cdef bint new
        if not is_intact(frame, tag):
            if PyBytes_GET_SIZE(frame) == HELLO and is_ping(frame):  # it is sent back, to say that there is no key here
                peer = self._met(addr, now)
                if peer is None:
                    return V_IGNORED
                self._hear(peer, now)
                self.reply = set_ack(frame)
                return V_ECHO
            return self._damaged(self._find_peer(addr))
        peer = self._sender(tag, addr, now)
        if peer is None:
            return V_IGNORED
        run = self.last_run
        self.identity = <long long>tag.run << 32 | tag.number
        self._hear(peer, now)
        if is_ping(frame):  # of which those who have no tags send some too
            asked = read_answered(frame)
            if asked >= 0 and self._is_wanted(peer, asked):
                reply = reply_to_ping(frame, tag, self.run, <unsigned int>(asked & LAST_NUMBER))
            else:
                reply = reply_to_ping(frame, tag, self.run, 0)
            self.reply = self._pace(peer, reply, 0, now) if self.stream else reply
            return V_ECHO
        # A late one says what it was. Soon after this program has begun it may also be what a legacy peer sends back to the
        # one that was here before.
        if peer.kind != ECHORIG and run.peer is peer and tag.number == run.latest and (
            self.stream or now - self.begun >= REST
        ):
            self._learn(peer, ECHORIG, now)
        event = peek(frame)
        state = 1 if self.stream else run.judge(tag.number)
        new = state == 1
        if new:
            if tag.life and waited * 1000 > tag.life and read_answered(frame) not in self.awaited:
                if not sure:
                    self._doubt(peer, frame, tag, addr, now, waited, True)
                    return V_DOUBTED
                peer.n_expired += 1
                self.n_expired += 1
                return V_EXPIRED
            if peer.doubted and self.stream and waited >= 0.0:  # it must not overtake those before it
                self._doubt(peer, frame, tag, addr, now, waited, False)
                return V_DOUBTED
        if event == 0:
            if not new:
                peer.n_duplicates += 1
                return V_IGNORED
            if not self.stream:
                run.accept(tag.number)
            return V_NOTICE
        if not new:
            peer.n_duplicates += 1
            if state < 0:  # to confirm it would say that it was delivered, which nobody knows
                return V_IGNORED
            self.reply = set_ack(frame)
            return V_ECHO
        if event > 0 and event & self.refusing:
            return V_REFUSED  # the number is not noted: when it comes again, it is new
        if not self.stream:
            run.accept(tag.number)
        reply = set_ack(frame)
        self.reply = self._pace(peer, reply, 0, now) if self.stream else reply
        return V_DELIVER

    # --- messages that may not be wanted any more ---

    cdef bint _is_wanted(self, Peer peer, long long asked):
        """Tell whether the confirmation of a message, of a run and number, is waited for."""
        cdef Send send = self._find(peer, <unsigned int>(asked & LAST_NUMBER))
        return send is not None and identity(send.frame) == asked

    cdef _doubt(self, Peer peer, bytes frame, Tag *tag, addr, double now, double waited, bint ask):
        """Keep a message until its sender has said whether it is still wanted, or behind others that are kept."""
        cdef unsigned int question = 0
        cdef double wanted_until = now - waited + tag.life / 1000.0 if tag.life else NEVER
        if peer.doubted is None:
            peer.doubted = deque()
        # Neither delivered nor confirmed: a datagram comes again, and nobody fills a stream with so many and waits.
        if (
            len(peer.doubted) >= (16 * MAX_DOUBTED if self.stream else MAX_DOUBTED)
            or peer.doubted_size + len(frame) > MAX_DOUBTED_SIZE
        ) and peer.doubted:
            return
        if ask:
            question = self._ask(addr, <long long>tag.run << 32 | tag.number)
        peer.doubted.append((question, <long long>tag.run << 32 | tag.number, now + DOUBT_TIME, wanted_until, frame, addr))
        self.n_doubted += 1
        peer.doubted_size += len(frame)
        self._wait_for_answer(peer)

    cdef _wait_for_answer(self, Peer peer):
        """Set the alarm for when the first message is dropped about which nothing was answered."""
        cdef double until
        if self.stream:
            until = peer.doubted[0][2] + STREAM_DOUBT_TIME if peer.doubted[0][0] else NEVER
        else:
            until = peer.doubted[0][2]
        if until < self.alarm:
            self.alarm = until

    cdef _drop_doubted(self, Peer peer, Py_ssize_t i):
        """Take a message out of those that may not be wanted any more."""
        peer.doubted_size -= len(peer.doubted[i][4])
        self.n_doubted -= 1
        del peer.doubted[i]

    cdef _expire_doubted(self, Peer peer, double now):
        """Drop the messages about which nothing was answered; datagrams come again if they are wanted."""
        if self.stream:
            while peer.doubted and peer.doubted[0][0] and peer.doubted[0][2] + STREAM_DOUBT_TIME <= now:
                self._drop_doubted(peer, 0)
                peer.n_expired += 1
                self.n_expired += 1
                if peer not in self.settled:
                    self.settled.append(peer)
        else:
            while peer.doubted and peer.doubted[0][2] <= now:
                self._drop_doubted(peer, 0)
        if peer.doubted:
            self._wait_for_answer(peer)

    cdef unsigned int _ask(self, addr, long long identity=-1) except 0:
        """Send a ping, which may ask whether a message is still wanted; return its number."""
        cdef unsigned int number = self._next_number()
        self.outbox.append((make_ping(self.number_run, number, identity), addr))
        return number

    cdef _answered_doubt(self, Peer peer, bytes frame, unsigned int number, double now, double waited):
        """Take in the answer whether a message is still wanted."""
        cdef long long answer = read_answered(frame)
        cdef double given
        cdef Py_ssize_t i
        for i in range(len(peer.doubted)):
            question, identity, until, _, message, addr = peer.doubted[i]
            if question == number:
                if answer >= 0 and answer & LAST_NUMBER == identity & LAST_NUMBER:
                    given = max(now - max(waited, 0.0), until - DOUBT_TIME)  # not before it was asked for
                    peer.doubted[i] = (0, identity, until, given + TRUSTED, message, addr)
                else:
                    self._drop_doubted(peer, i)
                    peer.n_expired += 1
                    self.n_expired += 1
                if peer not in self.settled:
                    self.settled.append(peer)
                break

    cpdef next_wanted(self, double now):
        """Return the next message that was ``DOUBTED`` and is wanted: it is to be received, as one not just read.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        tuple of (bytes, address) or None
            The message and where it came from; None if there is none.
        """
        cdef Peer peer
        cdef Py_ssize_t i
        while self.settled:
            peer = self.settled[0]
            for i in range(len(peer.doubted or ())):
                question, identity, _, wanted_until, frame, addr = peer.doubted[i]
                if not question and now <= wanted_until:
                    self._drop_doubted(peer, i)
                    return frame, addr
                if not question:  # it has waited for those before it, or for a callback
                    peer.doubted[i] = (self._ask(addr, identity), identity, now + DOUBT_TIME, NEVER, frame, addr)
                    self._wait_for_answer(peer)
                if self.stream:
                    break
            self.settled.pop(0)
        return None

    cdef int _untagged(self, bytes frame, addr, double now, bint broken) except -1:
        """A frame without a tag can only be told from an echo by its bytes."""
        cdef Peer peer
        cdef Send send
        cdef int event
        cdef Py_ssize_t i
        peer = self._find_peer(addr)
        if broken and peer is None and self.limits.tags:
            return self._damaged(None)
        if peer is None or (peer.addr != addr and not self._is_echo_of(peer, frame)):
            peer = self._met(addr, now)
            if peer is None:
                return V_IGNORED
        elif peer.former is not None and not peer.former.gone and self._is_echo_of(peer.former, frame):
            peer = peer.former
        # A stream loses nothing: the echo that is due came first, if it equals the one waited for.
        if self.stream and peer.due and peer.is_due(frame, now, self.limits):
            self._hear(peer, now)
            peer.n_strays += 1
            return V_SWALLOWED
        for i in range(len(peer.flying)):
            send = peer.flying[i]
            event = compare(send.frame, frame, self.limits.min_truncated_echo, self.limits.max_size)
            if event != 0:
                self._hear(peer, now)
                send.truncated = event == 2
                if send.tagged and self.limits.tags:
                    self._learn(peer, LEGACY, now)  # one that cuts echoes short
                self._confirm(peer, send, send.number, now)
                return V_CONFIRMED
        if peer.due and peer.is_due(frame, now, self.limits):
            self._hear(peer, now)
            peer.n_strays += 1
            self._let_fly(peer, now)  # a ping may have waited for that
            return V_SWALLOWED
        if broken and self.limits.tags:
            return self._damaged(peer)
        self._hear(peer, now)
        event = peek(frame)
        if event == 0:
            peer.quotes = peer.quotes or frame.endswith(b'"]')
            return V_NOTICE
        if event > 0 and peer.kind != LEGACY and self.limits.tags and not self.limits.signed:
            if peer.kind == ECHORIG:  # it may send bytes as they are, or be another program by now
                peer.kind = UNKNOWN
                peer.kind_since = self.number
            else:
                self._learn(peer, LEGACY, now)
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
        if peer.is_storm(frame, event, now, self.limits):
            return V_STORM
        if self.stream:
            self.reply = self._pace(peer, frame, 0, now)
        elif peer.quotes and self._is_at_work(peer, now):
            # It waits for no echo, but takes one for a message once it has answered what is on its way to it.
            self.reply = None
        else:
            self.reply = frame
        return V_DELIVER

    cdef bint _is_echo_of(self, Peer peer, bytes frame):
        """Tell whether a frame without a tag is the echo of something that was sent to a peer."""
        cdef Send send
        for send in peer.flying:
            if compare(send.frame, frame, self.limits.min_truncated_echo, self.limits.max_size) != 0:
                return True
        for sent, _ in peer.due or ():
            if compare(sent, frame, self.limits.min_truncated_echo, self.limits.max_size) != 0:
                return True
        return False

    cpdef void set_max_size(self, Py_ssize_t max_size) noexcept:
        """Set the size of a truncated echo.

        Parameters
        ----------
        max_size : int
            The size in bytes of an echo that legacy peers may cut a longer message down to.
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
        peer.unechoed = None  # nobody is there to deal with it
        if not peer.heard:
            if peer.probes is not None and len(peer.probes) > 1:  # of one ping, it may have been something earlier
                self._stop_probing(peer)
                refused = list(peer.queue or ())
                if refused:
                    peer.queue.clear()
                for send in refused:
                    send.outcome = V_UNREACHABLE
                    self.waiting -= 1
                    peer.n_failed += 1
                    self.finished.append(send)
                self._let_fly(peer, now)
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
        cdef Peer peer = self._find_peer(addr)
        cdef Send send
        if peer is None:
            return
        self.last_addr = self.last_peer = None
        del self.peers[peer.addr]
        peer.gone = True
        for former in [former for former, moved in self.moved.items() if moved is peer]:
            del self.moved[former]
        if peer.run is not None and self.stream:  # the next connection to the same address shows whether it was restarted
            if len(self.former) >= MANY:
                self.former.clear()
            self.former[addr] = peer.run, peer.n_restarts
        if peer.doubted:
            self.n_doubted -= len(peer.doubted)
            peer.doubted = None
        for send in [*peer.flying, *(peer.queue or ())]:
            send.outcome = V_LOST
            self.waiting -= 1
            self.finished.append(send)

    def write_all(self) -> None:
        """Put into `outbox` what waits for streams: there will be no other time for it."""
        cdef Peer peer
        for peer in self.peers.values():
            while peer.paced:
                self.outbox.append((peer.paced.popleft()[0], peer.addr))

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
        self.alarm = NEVER

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
        for peer in list(self.peers.values()):
            if not peer.is_busy():
                continue
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
            if peer.probes is not None:
                if now >= peer.probe_until or not peer.queue:
                    if peer.queue:
                        (<Send>peer.queue[0]).probed = True
                    self._stop_probing(peer)
                    self._let_fly(peer, now)
                else:
                    if now >= peer.probe_at:
                        self._probe(peer, now)
                    self.alarm = min(self.alarm, peer.probe_at, peer.probe_until)
            if peer.doubted:
                self._expire_doubted(peer, now)
            if self.stream and (peer.paced or peer.queue):
                self._drain(peer, now)
            if peer.queue and not self.stream and peer.unechoed is not None:  # a ping may have waited for long enough
                if self._is_at_work(peer, now):
                    self.alarm = min(self.alarm, peer.unechoed_at + REST)
                else:
                    self._let_fly(peer, now)
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
        """Send a message again to an echorig peer, or ask by a ping whether it was lost; or send another ping."""
        cdef bint tags = peer.current_kind(now, self.limits) == ECHORIG
        send.repetitions += 1
        if send.repetitions > self.limits.retries_before_backoff:
            send.interval = min(2 * send.interval, max(self.limits.max_rto, peer.retry_interval(self.limits)))
        send.retry_at = now + send.interval
        if send.pings is not None:
            # To others it could hurt what is on its way, and a legacy one is sent nothing again.
            if tags or (peer.kind == UNKNOWN and len(peer.flying) == 1 and not self._is_at_work(peer, now)):
                send.number = self._next_number()
                send.frame = make_ping(self.number_run, send.number)
                send.pings.append((send.number, now))
                send.repeated = True
                peer.n_retransmitted += 1
                self.outbox.append((send.frame, send.addr))
        elif tags:
            if PyBytes_GET_SIZE(send.frame) <= LARGE or peer.srtt == 0.0:
                self._repeat(peer, send, now)
            else:
                peer.asked = self._ask(send.addr)
        elif peer.was_echorig and peer.kind == UNKNOWN and not peer.refused and not self._is_at_work(peer, now):
            self._ask(send.addr)  # it was silent for so long that another may have taken its place
            send.retry_at = now + REPEATED_PROBE

    cdef _repeat(self, Peer peer, Send send, double now):
        cdef Tag tag
        send.repeated = True
        parse(send.frame, &tag)
        send.frame = with_life(send.frame, &tag, _life(send, now))
        send.flown_after = self.number
        peer.n_retransmitted += 1
        self.outbox.append((send.frame, send.addr))

    cdef _learn(self, Peer peer, int kind, double now):
        """Take in what a peer turns out to be; an echorig one is sent again what it seems not to have got."""
        cdef Send send
        if kind == LEGACY:
            peer.kind_since = self.number
        if peer.kind == kind and peer.probes is None:
            return
        peer.kind = kind
        peer.was_echorig = kind == ECHORIG
        if kind == ECHORIG:
            peer.unechoed = None
            if self.stream:
                peer.quiet_until = now
            else:
                for send in peer.flying:
                    if send.tagged:
                        send.repetitions = 0
                        self._schedule(peer, send, now)
        if peer.probes is not None:
            self._stop_probing(peer)
        self._let_fly(peer, now)

    # --- asking a peer not yet known what it is, before its first message ---

    cdef bint _must_probe(self, Peer peer, Send send, double now) noexcept:
        """Tell whether a message waits until a peer has shown what it is."""
        if self.stream or send.probed or send.pings is not None or not send.taggable or not self.limits.tags:
            return False
        if peer.current_kind(now, self.limits) != UNKNOWN or peer.flying:
            return False
        return not self._is_at_work(peer, now)

    cdef bint _is_at_work(self, Peer peer, double now) noexcept:
        """Tell whether a peer may be dealing with a message.

        A ping behind it would make a legacy one take our next echo for a message.
        """
        return peer.unechoed is not None and now < peer.unechoed_at + REST

    cdef _probe(self, Peer peer, double now):
        """Send a ping that asks a peer what it is."""
        cdef unsigned int number = self._next_number()
        peer.probes.append((number, now))
        if len(peer.probes) >= QUICK_PROBES:
            peer.probe_interval = min(2 * peer.probe_interval, MAX_PROBE_INTERVAL)
        peer.probe_at = now + peer.probe_interval
        self.alarm = min(self.alarm, peer.probe_at, peer.probe_until)
        self.outbox.append((make_ping(self.number_run, number), peer.addr))

    cdef _stop_probing(self, Peer peer):
        peer.probes = None

    # --- what a shell may ask ---

    @property
    def n_waiting(self) -> int:
        """How many sends have not ended."""
        return self.waiting

    @property
    def n_held(self) -> int:
        """How many messages that nobody waits for could not be sent yet."""
        cdef Peer peer
        cdef Py_ssize_t n = 0
        for peer in self.peers.values():
            n += len(peer.held or ())
        return n

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
        cdef Peer peer = self._find_peer(addr)
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
        cdef Peer peer = self._find_peer(addr)
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
            last_seen, restarts, damaged, expired)``; None if it is not remembered.
        """
        cdef Peer peer = self._find_peer(addr)
        if peer is None:
            return None
        return (
            KINDS[peer.kind], peer.n_sent, peer.n_confirmed, peer.n_failed, peer.n_retransmitted, peer.n_duplicates,
            peer.n_strays, peer.n_malformed, peer.srtt or None, peer.min_rtt if peer.min_rtt != NEVER else None,
            peer.last_seen if peer.heard else None, peer.n_restarts, peer.n_damaged, peer.n_expired,
        )

    # --- inside ---

    cdef Peer _find_peer(self, addr):
        """Return the peer at an address, or the one that was there and has moved; None if there is neither."""
        cdef Peer peer
        # Often the same object: shells keep the addresses that they give.
        if addr is self.last_addr and self.last_peer is not None:
            return self.last_peer
        peer = self.peers.get(addr)
        if peer is None and self.moved:
            peer = self.moved.get(addr)
        if peer is not None:
            self.last_addr = addr
            self.last_peer = peer
        return peer

    cdef Peer _peer(self, addr, double now):
        """Return the peer at an address, to which something is sent."""
        cdef Peer peer = self._find_peer(addr)
        if peer is None:
            self._has_room(now)  # if not, the program waits for more peers than it may remember
            peer = self._new_peer(addr, now)
        peer.active = now
        return peer

    cdef Peer _new_peer(self, addr, double now):
        cdef Peer peer = Peer()
        self.peers[addr] = peer
        if self.begun < 0.0:
            self.begun = now
        peer.addr = addr
        peer.active = now
        peer.kind_since = self.number
        if self.limits.signed:
            peer.kind = ECHORIG
        if self.former:
            before = self.former.pop(addr, None)
            if before is not None:
                peer.run, peer.n_restarts = before
                peer.run.peer = peer
        self.last_addr = addr
        self.last_peer = peer
        return peer

    cdef Peer _met(self, addr, double now):
        """Return the peer at an address from which something came; None if it is a stranger and there is no room."""
        cdef Peer peer
        if addr is self.last_addr and self.last_peer is not None and self.last_peer.addr == addr:
            return self.last_peer
        peer = self.peers.get(addr)
        if peer is None:
            if not self._has_room(now):
                self.n_turned_away += 1
                return None
            former = self.moved.pop(addr, None)  # another program is there now
            peer = self._new_peer(addr, now)
            peer.former = former
            return peer
        self.last_addr = addr
        self.last_peer = peer
        return peer

    cdef bint _has_room(self, double now) except -1:
        """Tell whether another peer can be remembered, and forget some so that it can."""
        if self.stream or len(self.peers) < self.limits.max_peers:
            return True
        if now < self.full_until:
            return False
        if self._forget_idle():
            return True
        self.full_until = now + NO_ROOM
        return False

    cdef Py_ssize_t _forget_idle(self) except -1:
        """Forget about an eighth of the peers, those first that have confirmed nothing; count them."""
        cdef Py_ssize_t room = max(1, self.limits.max_peers // 8), n_confirmed = 0
        cdef Peer peer
        strangers = []
        confirmed = []
        for addr, peer in self.peers.items():
            if peer.n_confirmed:
                n_confirmed += 1
            if not peer.is_busy():
                (confirmed if peer.n_confirmed else strangers).append((peer.active, len(strangers), addr))
        strangers.sort()
        gone = strangers[:room]
        if n_confirmed > self.limits.max_peers - room:  # strangers need some room too
            confirmed.sort()
            gone += confirmed[:n_confirmed - (self.limits.max_peers - room)]
        for _, _, addr in gone:
            peer = self.peers.pop(addr)
            peer.gone = True
        if gone:
            self.moved = {addr: peer for addr, peer in self.moved.items() if (<Peer>peer).addr in self.peers}
        self.last_addr = self.last_peer = None
        self.n_forgotten += len(gone)
        return len(gone)

    cdef Run _new_run(self, unsigned int number, double now):
        """Return a program that was not met before, and forget others if there are too many.

        Of a program whose messages were received the run stays: nobody knows any more which these were, so none is accepted.
        None is returned for such a one, and for any other when so many were forgotten.
        """
        cdef Run run
        cdef Peer peer
        cdef Py_ssize_t limit = 16 * self.limits.max_peers
        if not self.stream and self.forgotten and (number in self.forgotten or len(self.forgotten) >= MAX_FORGOTTEN):
            return None
        run = Run()
        run.run = number
        run.used_at = now
        if self.stream:
            return run
        if len(self.runs) >= limit:
            idle = []
            for one in self.runs.values():
                peer = self._holder(one)
                if peer is None or not peer.n_confirmed:
                    idle.append(one)
            idle.sort(key=_used_at)
            for one in idle[:max(1, limit // 8)]:
                number = (<Run>one).run
                del self.runs[number]
                if (<Run>one).used:
                    self.forgotten.add(number)
                peer = (<Run>one).peer
                if peer is not None and peer.run is one:
                    peer.run = None
            self.last_run = None
        self.runs[run.run] = run
        return run

    cdef unsigned int _next_number(self):
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

    cdef bint _may_tag(self, Peer peer, bytes frame):
        cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), i
        if not self.limits.tags or n < 2 or n + TAG_SIZE > self.max_frame or frame[0] != 91 or frame[n - 1] != 93:
            return False
        if peer.kind == LEGACY:
            for i in range(2):
                if n <= BUFFERS[i] < n + TAG_SIZE:
                    return False
        return True

    cdef _tag(self, Peer peer, Send send, double now):
        """Give a message its number, and a tag if it may have one."""
        if send.pings is not None:
            send.number = self._next_number()
            send.frame = make_ping(self.number_run, send.number)
            send.pings.append((send.number, now))
            send.tagged = True
        elif send.taggable and self._may_tag(peer, send.frame):
            send.number = self._next_number()
            send.frame = self._tagged_frame(
                send.frame, send.number, _life(send, now), send.answered if peer.kind != LEGACY else -1
            )
            send.tagged = True
            if send.awaited is not None:
                self.awaited.add(identity(send.frame))

    cdef bytes _tagged_frame(self, bytes frame, unsigned int number, unsigned int life, long long answered):
        if answered >= 0 and PyBytes_GET_SIZE(frame) + TAG_SIZE + FIELD_SIZE > self.max_frame:
            answered = -1
        return write(frame, self.number_run, number, life, answered)

    cdef _enter(self, Peer peer, Send send, double now):
        """Let a send fly, or queue it behind those before it."""
        self.waiting += 1
        peer.n_sent += 1
        if send.deadline < self.alarm:
            self.alarm = send.deadline
        if (peer.queue and _newest(peer.queue) is not None) or not self._may_fly(peer, send, now):
            if peer.queue is None:
                peer.queue = deque()
            peer.queue.append(send)
            self._wait_for_stream(peer, now)
            if send.pings is not None and self._is_at_work(peer, now):
                self.alarm = min(self.alarm, peer.unechoed_at + REST)
        else:
            self._fly(peer, send, now)

    cdef bint _may_fly(self, Peer peer, Send send, double now):
        """Tell whether a send may leave now. No message waits for a ping, which may be somebody else's."""
        cdef Send other
        cdef Py_ssize_t i
        if peer.probes is not None:
            return False
        for i in range(len(peer.flying)):
            other = peer.flying[i]
            if (send.alone or other.alone) and (other.pings is None or send.pings is not None):
                return False
        if self.stream:
            return self._may_follow(peer, now)
        if peer.current_kind(now, self.limits) == ECHORIG:
            return True
        if send.pings is not None and self._is_at_work(peer, now):
            return False
        if self._must_probe(peer, send, now):
            send.probed = True
            peer.probes = []
            peer.probe_interval = PROBE_INTERVAL
            peer.probe_until = now + min((send.deadline - now) / 2, REST)
            self._probe(peer, now)
            return False
        return True

    cdef _fly(self, Peer peer, Send send, double now):
        send.flying = True
        send.flown = now
        peer.refused = False  # what was refused was something else
        self._tag(peer, send, now)
        send.flown_after = self.number
        peer.flying.append(send)
        if send.pings is None and peer.kind != ECHORIG:
            peer.sent_message(send.frame, peek(send.frame), now)
        if self.stream:
            if peer.kind != ECHORIG:
                peer.quiet_until = now + STREAM_GAP
            if send.alone:
                peer.bare_until = now + STREAM_GAP
        elif send.tagged:
            peer.current_kind(now, self.limits)
            self._schedule(peer, send, now)

    cdef _schedule(self, Peer peer, Send send, double now):
        """Set when a send is repeated for the first time."""
        # One slow round trip, when this program stood still, must not leave a message without a second try.
        send.interval = min(peer.retry_interval(self.limits), max(self.limits.max_rto, (send.deadline - now) / 4))
        send.retry_at = now + send.interval
        if send.retry_at < self.alarm:
            self.alarm = send.retry_at

    cdef _let_fly(self, Peer peer, double now):
        """Send what has waited for its turn."""
        if self.stream and (peer.paced or peer.queue):
            self._drain(peer, now)
            return
        if peer.probes is not None:
            return
        if peer.queue and peer.held and (<Send>peer.queue[0]).probed:  # those that are held came after it
            self._let_one_fly(peer, now)
        while peer.held and self._in_window(peer):
            frame, taggable, answered = peer.held.popleft()
            self.outbox.append((self._unconfirmed(peer, frame, taggable, answered, now), peer.addr))
        while peer.queue and self._let_one_fly(peer, now):
            pass

    cdef bint _let_one_fly(self, Peer peer, double now) except -1:
        """Send the next of those that wait for their turn, if there is one that may leave now."""
        cdef Send send = self._next_of(peer, now)
        if send is None:
            return False
        peer.queue.remove(send)
        self._fly(peer, send, now)
        self.outbox.append((send.frame, send.addr))
        return True

    cdef Send _next_of(self, Peer peer, double now):
        """Return the first that may leave of those that wait for their turn, or None. A ping that may not stops nobody."""
        cdef Send send
        for send in peer.queue:
            if send.deadline <= now:  # this program stood still; `expire` ends it
                return None
            if self._may_fly(peer, send, now):
                return send
            if send.pings is None:
                return None
        return None

    cdef bint _in_window(self, Peer peer) noexcept:
        """Tell whether the next number may be sent to a peer: what is to be confirmed must not fall out of its window."""
        cdef Send send
        cdef Py_ssize_t i
        if self.stream:
            return True
        for i in range(len(peer.flying)):
            send = peer.flying[i]
            if send.tagged and send.pings is None and self.number - send.number >= WINDOW:
                return False
        return True

    # --- streams to peers that may take two frames which arrive together for one ---

    cdef bint _may_follow(self, Peer peer, double now) noexcept:
        """Tell whether another frame may be written to a stream now. Nothing shows where a bare text ends."""
        return not peer.paced and now >= peer.quiet_until and now >= peer.bare_until

    cdef _written(self, Peer peer, bytes frame, int event, double now):
        """Take in that a frame is written to a stream now."""
        if peer.kind != ECHORIG:
            if not peer.pipelines:
                peer.quiet_until = now + STREAM_GAP
            if event != 0:
                peer.sent_message(frame, event, now)
        if not _is_array(frame):
            peer.bare_until = now + STREAM_GAP

    cdef bytes _pace(self, Peer peer, bytes frame, int event, double now):
        """Return a frame that may be written to a stream now; None if it gets into `outbox` later.

        The event is that of a message whose echo will show that it was read; 0 for what is not echoed.
        """
        if self._may_follow(peer, now):
            self._written(peer, frame, event, now)
            return frame
        if peer.paced is None:
            peer.paced = deque()
        peer.paced.append((frame, event))
        if event == 0 and len(peer.paced) > MAX_REPLIES:  # who sends so many without reading can tell them apart
            peer.pipelines = True
            peer.quiet_until = now
            self._drain(peer, now)
        else:
            self._wait_for_stream(peer, now)
        return None

    cdef _drain(self, Peer peer, double now):
        """Send what has waited for a stream, as far as it may leave now."""
        while peer.paced and now >= max(peer.quiet_until, peer.bare_until):
            frame, event = peer.paced.popleft()
            self.outbox.append((frame, peer.addr))
            self._written(peer, frame, event, now)
        while peer.queue and not peer.paced and self._let_one_fly(peer, now):
            pass
        if peer.paced or peer.queue:
            self._wait_for_stream(peer, now)

    cdef void _wait_for_stream(self, Peer peer, double now) noexcept:
        """Set the alarm for when the next frame may be written."""
        cdef double at = max(peer.quiet_until, peer.bare_until)
        if now < at < self.alarm:
            self.alarm = at

    # --- sends ---

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
        peer.asked = 0
        if peer.unechoed is send.frame:  # else another has left since
            peer.unechoed = None
        if self.stream:  # it has read everything up to this
            peer.quiet_until = now
            if send.alone:
                peer.bare_until = now
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
                if not send.tagged or (
                    peer.kind != ECHORIG and PyBytes_GET_SIZE(send.frame) > self.limits.min_truncated_echo
                ):
                    peer.owe(send.frame, now, self.limits)
        else:
            peer.queue.remove(send)
        if peer.queue or peer.held or peer.paced:
            if peer.probes is not None and not peer.queue:
                self._stop_probing(peer)
            self._let_fly(peer, now)
        elif peer.probes is not None:
            self._stop_probing(peer)


def _used_at(Run run):
    return run.used_at


def _started(Send send):
    return send.started
