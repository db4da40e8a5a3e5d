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

import errno

from collections import deque

from echorig.delivery._doubts cimport Doubts
from echorig.delivery._output cimport Output
from echorig.delivery._peer cimport ECHORIG, LEGACY, REST, UNKNOWN, Limits, Peer, Run
from echorig.delivery._peer_table cimport PeerTable
from echorig.delivery._send cimport Send, find_send, newest_message
from echorig.delivery._transmitter cimport Transmitter, is_array
from echorig.delivery._verdicts cimport (
    V_CONFIRMED, V_DAMAGED, V_DELIVER, V_DOUBTED, V_ECHO, V_EXPIRED, V_IGNORED, V_LOST, V_MISMATCH, V_NOTICE, V_REFUSED,
    V_STORM, V_SWALLOWED, V_TIMED_OUT, V_UNREACHABLE, V_WAITING,
)
from cpython.bytes cimport PyBytes_GET_SIZE
from echorig.wire._codec cimport compare, peek
from echorig.wire._tags cimport (
    HELLO, T_BROKEN, T_WHOLE, Tag, identity, is_echo, is_intact, is_ping, is_same, parse, read_answered, reply_to_ping,
    set_ack,
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
cdef Py_ssize_t MANY = 256
cdef double SWEEP = 2e-6  # seconds between two looks at what is waited for, for each message: a tenth is spent looking
cdef Py_ssize_t MAX_HELD = 1024  # messages that nobody waits for, for one peer, until they may be sent


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
        self.finished = []
        self.peers = {}
        self.limits = Limits(tuning, max_size, signed)
        self.stream = stream
        self.output = Output(self.limits, self.peers, run, number, max_frame)
        self.outbox = self.output.outbox
        self.transmitter = Transmitter(self.output, stream)
        self.doubts = Doubts(self.output, stream)
        self.settled = self.doubts.settled
        self.table = PeerTable(self.output, self.transmitter, self.doubts)

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
        cdef Peer peer = self.table.get_or_add(addr, now)
        cdef Send send = Send.__new__(Send)  # faster than a call of the class
        send.frame = frame
        send.addr = peer.addr
        send.waiter = waiter
        send.started = now
        send.deadline = now + timeout
        send.alone = not self.stream or not is_array(frame)
        send.taggable = taggable
        send.answered = answered
        if asks:
            send.awaited = self.transmitter.awaited
        self.transmitter.enqueue(peer, send, now)
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
        cdef Peer peer = self.table.get_or_add(addr, now)
        cdef Send send = Send.__new__(Send)  # faster than a call of the class
        send.frame = b'[]'
        send.addr = peer.addr
        send.waiter = waiter
        send.started = now
        send.deadline = now + timeout
        send.alone = not self.stream
        send.taggable = True
        send.pings = []
        self.transmitter.enqueue(peer, send, now)
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
        cdef Peer peer = self.table.get_or_add(addr, now)
        if len(peer.held or peer.paced or ()) >= MAX_HELD:
            reason = 'may take two that arrive together for one' if self.stream else 'has not confirmed an earlier one yet'
            raise OSError(errno.ENOBUFS, f'{MAX_HELD} messages wait to be sent, since {addr} {reason}: send fewer at a time')
        if peer.held or peer.probes is not None or not self.transmitter.is_in_window(peer):
            if peer.held is None:
                peer.held = deque()
            peer.held.append((frame, taggable, answered))
            return None
        return self.transmitter.transmit_unconfirmed(peer, frame, taggable, answered, now)

    def place(self, addr):
        """Return where the program is now that was at an address."""
        cdef Peer peer
        if self.table.moved and addr not in self.peers:
            peer = self.table.moved.get(addr)
            if peer is not None:
                return peer.addr
        return addr

    def cancel(self, Send send not None, double now) -> None:
        """Stop waiting for a send, which leaves nothing behind; it does not get into `finished`."""
        if send.outcome == V_WAITING:
            self.transmitter.end(self.table.find(send.addr), send, V_LOST, now)

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
        if self.output.is_own(tag.run):
            if tag.ack:
                return self._echo(frame, &tag, addr, now, waited)
            if self.limits.tags or is_ping(frame):
                return self._returned(frame, &tag, addr, now)
        elif tag.ack and self.limits.tags:
            return V_SWALLOWED
        if not self.limits.tags:
            return self._untagged(frame, addr, now, False)
        return self._message(frame, &tag, addr, now, waited, sure)

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
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        if peer is None:
            return V_SWALLOWED
        send = find_send(peer, tag.number)
        if send is None and peer.former is not None and not peer.former.gone:  # it was sent before that one moved
            send = find_send(peer.former, tag.number)
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
                    self.table.identify(peer, frame, self.output.position(tag.run, tag.number), now)
                return V_CONFIRMED
            send.answer = frame
            self.transmitter.end(peer, send, V_MISMATCH, now)
            self.ended = send
            return V_MISMATCH
        self._know(peer, tag.number, now)
        if is_ping(frame):
            if peer.doubted:
                self.doubts.answer(peer, frame, tag.number, now, waited)
            if peer.addr == addr:  # else another program may be where it was
                self.table.identify(peer, frame, self.output.position(tag.run, tag.number), now)
            if peer.asked and tag.number >= peer.asked:
                for send in peer.flying:
                    if send.tagged and send.pings is None and send.flown_after <= tag.number and send.deadline > now:
                        self.transmitter.repeat(peer, send, now)
        peer.n_strays += 1
        return V_SWALLOWED

    cdef _confirm(self, Peer peer, Send send, unsigned int number, double now):
        self.transmitter.confirm(peer, send, number, now)
        self.ended = send

    cdef _know(self, Peer peer, unsigned int number, double now):
        """Take in that a peer has set the flag on an echo, as only echorig ones do."""
        if peer.kind != ECHORIG and number >= peer.kind_since:
            if peer.probes is not None:
                for probe, at in peer.probes:
                    if probe == number:
                        peer.measure(now - at)
            self.transmitter.set_kind(peer, ECHORIG, now)

    cdef int _returned(self, bytes frame, Tag *tag, addr, double now) except -1:
        """A frame of ours without the flag: sent back by a legacy peer, or by the network."""
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        if peer is None:
            return V_SWALLOWED
        send = find_send(peer, tag.number)
        if (send is None or send.frame != frame) and not is_intact(frame, tag):
            return self._damaged(peer)
        if send is not None and not (is_ping(frame) if send.pings is not None else is_same(send.frame, frame)):
            send = None
        self._hear(peer, now)
        if send is not None:
            self.transmitter.set_kind(peer, LEGACY, now)
            self._confirm(peer, send, tag.number, now)
            return V_CONFIRMED
        if tag.number >= peer.kind_since:
            self.transmitter.set_kind(peer, LEGACY, now)
        if peer.unechoed is not None and peer.unechoed == frame:
            peer.unechoed = None
            peer.quiet_until = now
            self.transmitter.transmit_waiting(peer, now)
        peer.n_strays += 1
        return V_SWALLOWED

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
                peer = self.table.find_or_admit(addr, now)
                if peer is None:
                    return V_IGNORED
                self._hear(peer, now)
                self.reply = set_ack(frame)
                return V_ECHO
            return self._damaged(self.table.find(addr))
        peer = self.table.sender_of(tag, addr, now)
        if peer is None:
            return V_IGNORED
        run = self.table.last_run
        self.identity = <long long>tag.run << 32 | tag.number
        self._hear(peer, now)
        if is_ping(frame):  # of which those who have no tags send some too
            asked = read_answered(frame)
            if asked >= 0 and self._is_wanted(peer, asked):
                reply = reply_to_ping(frame, tag, self.output.run, <unsigned int>(asked & LAST_NUMBER))
            else:
                reply = reply_to_ping(frame, tag, self.output.run, 0)
            self.reply = self.transmitter.pace(peer, reply, 0, now) if self.stream else reply
            return V_ECHO
        # A late one says what it was. Soon after this program has begun it may also be what a legacy peer sends back to the
        # one that was here before.
        if peer.kind != ECHORIG and run.peer is peer and tag.number == run.latest and (
            self.stream or now - self.table.begun >= REST
        ):
            self.transmitter.set_kind(peer, ECHORIG, now)
        event = peek(frame)
        state = 1 if self.stream else run.judge(tag.number)
        new = state == 1
        if new:
            if tag.life and waited * 1000 > tag.life and read_answered(frame) not in self.transmitter.awaited:
                if not sure:
                    self.doubts.add(peer, frame, tag, addr, now, waited, True)
                    return V_DOUBTED
                peer.n_expired += 1
                self.doubts.n_expired += 1
                return V_EXPIRED
            if peer.doubted and self.stream and waited >= 0.0:  # it must not overtake those before it
                self.doubts.add(peer, frame, tag, addr, now, waited, False)
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
        self.reply = self.transmitter.pace(peer, reply, 0, now) if self.stream else reply
        return V_DELIVER

    # --- messages that may not be wanted any more ---

    cdef bint _is_wanted(self, Peer peer, long long asked):
        """Tell whether the confirmation of a message, of a run and number, is waited for."""
        cdef Send send = find_send(peer, <unsigned int>(asked & LAST_NUMBER))
        return send is not None and identity(send.frame) == asked

    cdef int _untagged(self, bytes frame, addr, double now, bint broken) except -1:
        """A frame without a tag can only be told from an echo by its bytes."""
        cdef Peer peer
        cdef Send send
        cdef int event
        cdef Py_ssize_t i
        peer = self.table.find(addr)
        if broken and peer is None and self.limits.tags:
            return self._damaged(None)
        if peer is None or (peer.addr != addr and not self._is_echo_of(peer, frame)):
            peer = self.table.find_or_admit(addr, now)
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
                    self.transmitter.set_kind(peer, LEGACY, now)  # one that cuts echoes short
                self._confirm(peer, send, send.number, now)
                return V_CONFIRMED
        if peer.due and peer.is_due(frame, now, self.limits):
            self._hear(peer, now)
            peer.n_strays += 1
            self.transmitter.transmit_waiting(peer, now)  # a ping may have waited for that
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
                peer.kind_since = self.output.number
            else:
                self.transmitter.set_kind(peer, LEGACY, now)
        for i in range(len(peer.flying)):
            send = peer.flying[i]
            if send.pings is not None:
                continue
            if event < 0 or (event == peek(send.frame) and not send.tagged):
                send.answer = frame
                self.transmitter.end(peer, send, V_MISMATCH, now)
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
            self.reply = self.transmitter.pace(peer, frame, 0, now)
        elif peer.quotes and peer.is_at_work(now):
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
        """Set the size of a truncated echo."""
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
        """Count a frame that was delivered and turned out to be no message."""
        cdef Peer peer = self.table.get_or_add(addr, now)
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
        cdef Peer peer = self.table.get_or_add(addr, now)
        cdef Send send
        peer.refused = True
        peer.unechoed = None  # nobody is there to deal with it
        if not peer.heard:
            if peer.probes is not None and len(peer.probes) > 1:  # of one ping, it may have been something earlier
                peer.probes = None
                refused = list(peer.queue or ())
                if refused:
                    peer.queue.clear()
                for send in refused:
                    send.outcome = V_UNREACHABLE
                    self.transmitter.waiting -= 1
                    peer.n_failed += 1
                    self.finished.append(send)
                self.transmitter.transmit_waiting(peer, now)
            for send in list(peer.flying):
                if send is not spared:
                    self.transmitter.end(peer, send, V_UNREACHABLE, now)
                    self.finished.append(send)

    def lost(self, addr, double now) -> None:
        """Take in that the connection to a peer is gone: its sends end as ``LOST``, and it is forgotten."""
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        if peer is None:
            return
        self.table.remove(peer, addr)
        if peer.doubted:
            self.doubts.n_doubted -= len(peer.doubted)
            peer.doubted = None
        for send in [*peer.flying, *(peer.queue or ())]:
            send.outcome = V_LOST
            self.transmitter.waiting -= 1
            self.finished.append(send)

    def write_all(self) -> None:
        """Put into `outbox` what waits for streams: there will be no other time for it."""
        cdef Peer peer
        for peer in self.peers.values():
            while peer.paced:
                self.outbox.append((peer.paced.popleft()[0], peer.addr))

    def lose_all(self, double now) -> None:
        """End every send as ``LOST`` and forget every peer."""
        for addr in list(self.peers):
            self.lost(addr, now)
        self.outbox.clear()
        self.output.alarm = NEVER

    # --- time ---

    def expire(self, double now) -> None:
        """End the sends whose time is up, repeat those that are due for it, and set the next `alarm`."""
        cdef Peer peer
        cdef Send send
        self.output.alarm = NEVER
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
                        self.transmitter.retry(peer, send, now)
            if peer.doubted:
                self.doubts.expire(peer, now)
            self.transmitter.resume(peer, now)
        if self.transmitter.waiting > MANY:  # a look at all takes a while, and one would always be due
            self.output.alarm = max(self.output.alarm, now + self.transmitter.waiting * SWEEP)

    cdef _time_out(self, Peer peer, Send send, double now):
        if send.crossed:
            self.transmitter.end(peer, send, V_MISMATCH, now)
        else:
            self.transmitter.end(peer, send, V_UNREACHABLE if peer.refused else V_TIMED_OUT, now)
        self.finished.append(send)

    def next_wanted(self, double now):
        """Return the next message that was ``DOUBTED`` and is wanted: it is to be received, as one not just read."""
        return self.doubts.next_wanted(now)

    # --- what a shell may ask ---

    @property
    def alarm(self) -> float:
        return self.output.alarm

    @property
    def run(self) -> int:
        return self.output.run

    @property
    def n_forgotten(self) -> int:
        return self.table.n_forgotten

    @property
    def n_turned_away(self) -> int:
        return self.table.n_turned_away

    @property
    def n_expired(self) -> int:
        return self.doubts.n_expired

    @property
    def n_waiting(self) -> int:
        """How many sends have not ended."""
        return self.transmitter.waiting

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
        """Return the newest message to a peer that has not ended, or None. Pings are none."""
        cdef Peer peer = self.table.find(addr)
        if peer is None:
            return None
        return newest_message(peer.queue) or newest_message(peer.flying)

    def is_waiting(self, addr) -> bool:
        """Tell whether a message or a ping to a peer has not ended."""
        cdef Peer peer = self.table.find(addr)
        return peer is not None and bool(peer.flying or peer.queue)

    def waiting_for(self) -> list:
        """List the peers to which a message has not ended."""
        return [addr for addr in self.peers if self.newest(addr) is not None]

    def addresses(self) -> list:
        """List the peers that are remembered."""
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
        cdef Peer peer = self.table.find(addr)
        if peer is None:
            return None
        return (
            KINDS[peer.kind], peer.n_sent, peer.n_confirmed, peer.n_failed, peer.n_retransmitted, peer.n_duplicates,
            peer.n_strays, peer.n_malformed, peer.srtt or None, peer.min_rtt if peer.min_rtt != NEVER else None,
            peer.last_seen if peer.heard else None, peer.n_restarts, peer.n_damaged, peer.n_expired,
        )
