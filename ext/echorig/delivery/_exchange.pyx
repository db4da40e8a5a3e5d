# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The rules of delivery: which send waits for what, and what a received frame is. No I/O, no clock.

1. Time is an argument, in seconds of any clock that does not go back. Addresses are opaque keys.
2. Confirmed messages to one peer are sent in order: on datagrams one at a time, on a stream all at once. A bare text is
   sent alone, since nothing on a stream marks its end. Unconfirmed messages may overtake confirmed ones.
3. A send ends once, with one outcome, and is then in `finished`. Frames to be sent are in `outbox`. `alarm` is the time
   at which `expire` has something to do. The caller checks the three after every call.
4. A message is identified by its run and number, whatever its age and address. A frame with our own run is an echo.
   `Run` records which numbers of another program were received. Its window suffices, since a sender uses no number that
   is `WINDOW` or more above that of a message which is still to be confirmed.
5. Only an echorig peer is sent a message again: a legacy one would run its callback twice. An unknown peer is pinged
   before its first message, and nothing follows a message to it that is not confirmed.
6. A peer is a program, identified by its run. Its address is that from which its newest message was received.
7. Every table is bounded. Unconfirmed peers are evicted first, then the longest idle ones (a segmented LRU: Karedla,
   Love and Wherry, "Caching strategies to improve disk system performance", IEEE Computer 27(3), 1994).
"""

import errno

from collections import deque

from cpython.bytes cimport PyBytes_GET_SIZE

from echorig.delivery._expiry cimport ExpiryChecks
from echorig.delivery._peer cimport ECHORIG, LEGACY, REST, UNKNOWN, Limits, Peer, Run, Send, newest_message
from echorig.delivery._peer_table cimport PeerTable
from echorig.delivery._transmitter cimport LAST_NUMBER, Transmitter, is_array
from echorig.delivery._verdicts cimport (
    O_LOST, O_MISMATCH, O_TIMED_OUT, O_UNREACHABLE, O_WAITING, V_CONFIRMED, V_DAMAGED, V_DELIVER, V_ECHO, V_ERROR_NOTICE,
    V_EXPIRED, V_IGNORED, V_MAYBE_EXPIRED, V_MISMATCH, V_NO_CAPACITY, V_RATE_LIMITED, V_STRAY_ECHO,
)
from echorig.wire._codec cimport compare, peek
from echorig.wire._tags cimport (
    HELLO_SIZE, T_BROKEN, T_WHOLE, Tag, identity, is_echo, is_intact, is_ping, is_same, parse, read_reply_number,
    read_time, reply_to_ping, set_ack,
)

KINDS = ('unknown', 'echorig', 'legacy')

cdef double NEVER = float('inf')
cdef Py_ssize_t MANY_SENDS = 256
cdef double SWEEP = 2e-6  # seconds for each send between two runs of `expire`: these take a tenth of the time
cdef double SILENT_ROUND_TRIPS = 4.0  # without any frame, after which a peer is called silent
cdef Py_ssize_t MAX_DEFERRED = 1024  # unconfirmed messages to one peer that may not be sent yet


cdef class Exchange:
    """The state of delivery between this communicator and its peers.

    `max_size` is the size to which legacy peers may truncate an echo, `max_frame` the largest size of a tagged message, in
    bytes. `run` is a random number of 31 bits, so that no two programs have the same; `number` is that of the first
    message. `signed` means that all peers run echorig, since only they have signatures.

    After each call, `outbox` has the (frame, address) pairs to be sent now, in order; `finished` has the sends that ended;
    `reply` is the frame to be sent back after ``DELIVER`` or ``ECHO``, None if it is sent later or never.
    """

    def __init__(
        self, tuning, bint stream, Py_ssize_t max_size, unsigned int run=0, unsigned int number=1,
        Py_ssize_t max_frame=2**62, bint signed=False,
    ):
        self.finished = []
        self.peers = {}
        self.limits = Limits(tuning, max_size, signed)
        self.stream = stream
        self.transmitter = Transmitter(self.limits, self.peers, stream, run, number, max_frame)
        self.outbox = self.transmitter.outbox
        self.expiry_checks = ExpiryChecks(self.transmitter)
        self.table = PeerTable(self.transmitter, self.expiry_checks)

    # --- sending ---

    def send(
        self, bytes frame, addr, future, double now, double timeout, bint taggable=True, long long reply_to=-1,
        bint expects_answer=False
    ) -> Send:
        """Start a confirmed send, and put its frame into `outbox` if it is sent now; see `start_send`."""
        cdef Send send = self.start_send(frame, addr, future, now, timeout, taggable, reply_to, expects_answer)
        if send.in_flight:
            self.outbox.append((send.frame, send.addr))
        return send

    cdef Send start_send(
        self, bytes frame, addr, future, double now, double timeout, bint taggable, long long reply_to=-1,
        bint expects_answer=False
    ):
        """Start a confirmed send; the caller sends its frame now if it is `in_flight`.

        `taggable` is true for an array that was encoded here. `reply_to` is the message that this one answers: its run,
        times 2**32, plus its number; -1 for none. `expects_answer` means that its answer is awaited until
        `Send.forget_answer`: only this end knows how long the answer is wanted.
        """
        cdef Peer peer = self.table.get_or_add(addr, now)
        cdef Send send = self._new_send(peer, frame, future, now, timeout)
        send.exclusive = not self.stream or not is_array(frame)
        send.taggable = taggable
        send.reply_to = reply_to
        if expects_answer:
            send.awaited_answers = self.transmitter.awaited_answers
        self.transmitter.enqueue(peer, send, now)
        return send

    cdef Send _new_send(self, Peer peer, bytes frame, future, double now, double timeout):
        cdef Send send = Send.__new__(Send)  # faster than a call of the class
        send.frame = frame
        send.addr = peer.addr
        send.future = future
        send.started = now
        send.deadline = now + timeout
        return send

    def ping(self, addr, future, double now, double timeout, bint anew=False) -> Send:
        """Start a ping: an empty array, which every peer echoes and no callback receives.

        With `anew` it is sent to the address itself, not to a peer that has moved from there.
        """
        if anew:
            self.table.forget_former(addr)
        cdef Peer peer = self.table.get_or_add(addr, now)
        cdef Send send = self._new_send(peer, b'[]', future, now, timeout)
        send.exclusive = not self.stream
        send.taggable = True
        send.pings = []
        self.transmitter.enqueue(peer, send, now)
        if send.in_flight:
            self.outbox.append((send.frame, send.addr))
        return send

    def send_unconfirmed(
        self, bytes frame not None, addr, double now, bint taggable=True, long long reply_to=-1
    ) -> 'bytes | None':
        """Return the frame of an unconfirmed message, to be sent to `current_addr`; None if it is put into `outbox` later.

        `taggable` and `reply_to` are those of `start_send`. OSError is raised if too many messages to this peer wait.
        """
        cdef Peer peer = self.table.get_or_add(addr, now)
        if len(peer.deferred or peer.paced or ()) >= MAX_DEFERRED:
            reason = 'may take two that arrive together for one' if self.stream else 'has not confirmed an earlier one yet'
            raise OSError(
                errno.ENOBUFS, f'{MAX_DEFERRED} messages wait to be sent, since {addr} {reason}: send fewer at a time'
            )
        if peer.deferred or peer.probes is not None or not self.transmitter.is_window_open(peer):
            if peer.deferred is None:
                peer.deferred = deque()
            peer.deferred.append((frame, taggable, reply_to))
            return None
        return self.transmitter.transmit_unconfirmed(peer, frame, taggable, reply_to, now)

    def current_addr(self, addr):
        """Return the present address of the peer that was at an address."""
        cdef Peer peer = self.table.find(addr) if self.table.moved else None
        return addr if peer is None else peer.addr

    def cancel(self, Send send not None, double now) -> None:
        """Cancel a send that has not ended; it is not put into `finished`."""
        if send.outcome == O_WAITING:
            self.transmitter.finish(self.table.find(send.addr), send, O_LOST, now)

    # --- receiving ---
    #
    # The first line that applies decides; docs/protocol.md has the same table in words.
    #
    #   frame                                                     verdict         sent back      where
    #   empty, or from a new address while there is no room       IGNORED         -              find_or_admit
    #   ACK flag, another run than ours                           STRAY_ECHO      -              classify
    #   ACK flag, number in flight, equal but for the flag        CONFIRMED       -              _classify_echo
    #   ACK flag, number in flight, other bytes                   MISMATCH        -
    #   ACK flag, else                                            STRAY_ECHO      -
    #   our run, in flight, our bytes                             CONFIRMED       -              _classify_returned
    #   our run, else                                             STRAY_ECHO      -
    #   another run, the check is wrong                           DAMAGED         -              _classify_message
    #   another run, a ping                                       ECHO            with the flag
    #   another run, a notice without lifetime                    ERROR_NOTICE    -              (once)
    #   another run, new, lay in the socket beyond its lifetime   EXPIRED         -
    #   another run, new, may have done so                        MAYBE_EXPIRED   -
    #   another run, received before                              ECHO            with the flag
    #   another run, below the window                             IGNORED         -
    #   another run, of an event that is refused                  NO_CAPACITY     -
    #   another run, a notice                                     ERROR_NOTICE    with the flag
    #   another run, else                                         DELIVER         with the flag
    #   equal to, or a long enough prefix of, a send in flight    CONFIRMED       -              _classify_untagged
    #   equal to an expected echo                                 STRAY_ECHO      -
    #   a damaged tag                                             DAMAGED         -
    #   a notice                                                  ERROR_NOTICE    -
    #   malformed, or of the event of an untagged send in flight  MISMATCH        -              (while there is one)
    #   of an event that is refused                               NO_CAPACITY     -
    #   the same bytes too often                                  RATE_LIMITED    -
    #   else                                                      DELIVER         as it is

    cpdef int classify(self, bytes frame, addr, double now, double waited=0.0, bint sure=True) except -1:
        """Return the `Verdict` on a frame that was received from an address.

        `waited` is how long the frame lay here before it was read, in seconds; negative if it has not just been read. It is
        exact if `sure`, otherwise an upper bound.
        """
        cdef Tag tag
        cdef int state
        if not frame:
            return V_IGNORED
        self.n_received += 1
        self.identity = -1
        state = parse(frame, &tag)
        if state != T_WHOLE:
            return self._classify_untagged(frame, addr, now, state == T_BROKEN)
        if self.transmitter.is_own(tag.run):
            if tag.ack:
                return self._classify_echo(frame, &tag, addr, now, waited)
            if self.limits.tags or is_ping(frame):
                return self._classify_returned(frame, &tag, addr, now)
        elif tag.ack and self.limits.tags:
            return V_STRAY_ECHO
        if not self.limits.tags:
            return self._classify_untagged(frame, addr, now, False)
        return self._classify_message(frame, &tag, addr, now, waited, sure)

    cdef int _count_damaged(self, Peer peer) noexcept:
        self.n_damaged += 1
        if peer is not None:
            peer.n_damaged += 1
        return V_DAMAGED

    cdef _mark_seen(self, Peer peer, double now):
        """Record that a frame was received from a peer."""
        peer.seen = True
        peer.refused = False
        peer.last_seen = now
        peer.active_at = now

    cdef int _classify_echo(self, bytes frame, Tag *tag, addr, double now, double waited) except -1:
        """Classify a frame of ours with the ACK flag: an echo by an echorig peer."""
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        if peer is None:
            return V_STRAY_ECHO
        send = peer.find_send(tag.number)
        if send is None and peer.predecessor is not None and not peer.predecessor.removed:  # sent before that peer moved
            send = peer.predecessor.find_send(tag.number)
            if send is not None:
                peer = peer.predecessor
        if (send is None or send.pings is not None or not is_echo(send.frame, frame)) and not is_intact(frame, tag):
            return self._count_damaged(peer)
        self._mark_seen(peer, now)
        self.n_echoes += 1
        if send is not None:
            if is_ping(frame) if send.pings is not None else is_same(send.frame, frame):
                if send.pings is not None:
                    send.peer_time = read_time(frame)
                    send.echoed_at = now
                self._learn_echorig(peer, tag.number, now)  # before the next one leaves
                self._confirm(peer, send, tag.number, now)
                if send.pings is not None and peer.addr == addr:
                    self.table.on_ping_echo(peer, frame, self.transmitter.position(tag.run, tag.number), now)
                return V_CONFIRMED
            return self._mismatch(peer, send, frame, now)
        self._learn_echorig(peer, tag.number, now)
        if is_ping(frame):
            if peer.unverified:
                self.expiry_checks.on_answer(peer, frame, tag.number, now, waited)
            if peer.addr == addr:  # else another program may be where it was
                self.table.on_ping_echo(peer, frame, self.transmitter.position(tag.run, tag.number), now)
            if peer.loss_probe and tag.number >= peer.loss_probe:
                for send in peer.in_flight:
                    if send.tagged and send.pings is None and send.next_number_when_sent <= tag.number and send.deadline > now:
                        self.transmitter.retransmit(peer, send, now)
        peer.n_strays += 1
        return V_STRAY_ECHO

    cdef _confirm(self, Peer peer, Send send, unsigned int number, double now):
        self.transmitter.confirm(peer, send, number, now)
        self.finished.append(send)

    cdef int _mismatch(self, Peer peer, Send send, bytes frame, double now) except -1:
        send.answer = frame
        self.transmitter.finish(peer, send, O_MISMATCH, now)
        self.finished.append(send)
        return V_MISMATCH

    cdef _learn_echorig(self, Peer peer, unsigned int number, double now):
        """Record that a peer has set the ACK flag, which only echorig does."""
        if peer.kind != ECHORIG and number >= peer.kind_since:
            if peer.probes is not None:
                for probe, at in peer.probes:
                    if probe == number:
                        peer.update_rtt(now - at)
            self.transmitter.set_kind(peer, ECHORIG, now)

    cdef int _classify_returned(self, bytes frame, Tag *tag, addr, double now) except -1:
        """Classify a frame of ours without the ACK flag: an echo by a legacy peer, or a copy made by the network."""
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        if peer is None:
            return V_STRAY_ECHO
        send = peer.find_send(tag.number)
        if (send is None or send.frame != frame) and not is_intact(frame, tag):
            return self._count_damaged(peer)
        if send is not None and not (is_ping(frame) if send.pings is not None else is_same(send.frame, frame)):
            send = None
        self._mark_seen(peer, now)
        self.n_echoes += 1
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
        return V_STRAY_ECHO

    cdef int _classify_message(self, bytes frame, Tag *tag, addr, double now, double waited, bint sure) except -1:
        """Classify a frame of another program: a message or a ping."""
        cdef Peer peer
        cdef Run run
        cdef bytes reply
        cdef Send send
        cdef int event, state
        cdef unsigned int number
        cdef long long question
        cdef bint new
        if not is_intact(frame, tag):
            if PyBytes_GET_SIZE(frame) == HELLO_SIZE and is_ping(frame):  # the echo shows that there is no key here
                peer = self.table.find_or_admit(addr, now)
                if peer is None:
                    return V_IGNORED
                self._mark_seen(peer, now)
                self.reply = set_ack(frame)
                return V_ECHO
            return self._count_damaged(self.table.find(addr))
        peer = self.table.find_sender(tag, addr, now)
        if peer is None:
            return V_IGNORED
        run = self.table.last_run
        self.identity = <long long>tag.run << 32 | tag.number
        self._mark_seen(peer, now)
        if is_ping(frame):  # a peer without tags sends pings too
            question = read_reply_number(frame)  # which asks whether the confirmation of that message is awaited
            send = peer.find_send(<unsigned int>(question & LAST_NUMBER)) if question >= 0 else None
            number = send.number if send is not None and identity(send.frame) == question else 0
            time = 0 if self.wall_clock is None else self.wall_clock()
            reply = reply_to_ping(frame, tag, self.transmitter.run, number, time)
            if self.stream and not peer.pipelines:  # only echorig sends pings, and it separates frames
                peer.pipelines = True
                peer.quiet_until = now
                self.transmitter.transmit_waiting(peer, now)
            self.reply = self.transmitter.pace(peer, reply, 0, now) if self.stream else reply
            return V_ECHO
        # A late message shows a former kind. Soon after our start the message may also be one of our predecessor, sent
        # back by a legacy peer.
        if peer.kind != ECHORIG and run.peer is peer and tag.number == run.latest and (
            self.stream or now - self.table.first_used_at >= REST
        ):
            self.transmitter.set_kind(peer, ECHORIG, now)
        event = peek(frame)
        state = 1 if self.stream else run.check(tag.number)
        new = state == 1
        if new:
            if tag.lifetime and waited * 1000 > tag.lifetime and read_reply_number(frame) not in self.transmitter.awaited_answers:
                if not sure:
                    self.expiry_checks.add(peer, frame, tag, addr, now, waited, True)
                    return V_MAYBE_EXPIRED
                peer.n_expired += 1
                self.expiry_checks.n_expired += 1
                return V_EXPIRED
            if peer.unverified and self.stream and waited >= 0.0:  # it must not overtake earlier ones
                self.expiry_checks.add(peer, frame, tag, addr, now, waited, False)
                return V_MAYBE_EXPIRED
        if event == 0 and not tag.lifetime:  # its sender does not wait for an echo
            if not new:
                peer.n_duplicates += 1
                return V_IGNORED
            if not self.stream:
                run.accept(tag.number)
            self.reply = None
            return V_ERROR_NOTICE
        if not new:
            peer.n_duplicates += 1
            if state < 0:  # an echo would confirm a delivery that may not have taken place
                return V_IGNORED
            self.reply = set_ack(frame)
            return V_ECHO
        if event > 0 and event & self.refused_events:
            return V_NO_CAPACITY  # the number is not recorded: a retransmission is new
        if not self.stream:
            run.accept(tag.number)
        reply = set_ack(frame)
        self.reply = self.transmitter.pace(peer, reply, 0, now) if self.stream else reply
        return V_DELIVER if event else V_ERROR_NOTICE

    cdef int _classify_untagged(self, bytes frame, addr, double now, bint broken) except -1:
        """Classify a frame without a tag: only its bytes show whether it is an echo."""
        cdef Peer peer
        cdef Send send
        cdef int event
        cdef Py_ssize_t i
        peer = self.table.find(addr)
        if broken and peer is None and self.limits.tags:
            return self._count_damaged(None)
        if peer is None or (peer.addr != addr and not peer.is_echo(frame, self.limits)):
            peer = self.table.find_or_admit(addr, now)
            if peer is None:
                return V_IGNORED
        elif peer.predecessor is not None and not peer.predecessor.removed and peer.predecessor.is_echo(frame, self.limits):
            peer = peer.predecessor
        # A stream loses and reorders nothing: of two equal echoes, the expected one of an earlier frame is first.
        if self.stream and peer.expected_echoes and peer.take_expected_echo(frame, now, self.limits):
            self._mark_seen(peer, now)
            peer.n_strays += 1
            return V_STRAY_ECHO
        for i in range(len(peer.in_flight)):
            send = peer.in_flight[i]
            event = compare(send.frame, frame, self.limits.min_truncated_echo, self.limits.max_size)
            if event != 0:
                self._mark_seen(peer, now)
                send.truncated = event == 2
                if send.tagged and self.limits.tags:
                    self.transmitter.set_kind(peer, LEGACY, now)  # which truncates echoes
                self._confirm(peer, send, send.number, now)
                return V_CONFIRMED
        if peer.expected_echoes and peer.take_expected_echo(frame, now, self.limits):
            self._mark_seen(peer, now)
            peer.n_strays += 1
            self.transmitter.transmit_waiting(peer, now)  # a ping may have waited for this echo
            return V_STRAY_ECHO
        if broken and self.limits.tags:
            return self._count_damaged(peer)
        self._mark_seen(peer, now)
        event = peek(frame)
        if event == 0:
            peer.quotes_messages = peer.quotes_messages or frame.endswith(b'"]')
            self.reply = None
            return V_ERROR_NOTICE
        if event > 0 and peer.kind != LEGACY and self.limits.tags and not self.limits.signed:
            if peer.kind == ECHORIG:  # it may send text, or another program is there now
                peer.kind = UNKNOWN
                peer.kind_since = self.transmitter.number
            else:
                self.transmitter.set_kind(peer, LEGACY, now)
        for i in range(len(peer.in_flight)):
            send = peer.in_flight[i]
            if send.pings is not None:
                continue
            if event < 0 or (event == peek(send.frame) and not send.tagged):
                return self._mismatch(peer, send, frame, now)
            if event == peek(send.frame):  # it crossed ours; it was meant as the echo only if no other is received
                send.has_crossed = True
                send.answer = frame
            break
        if event > 0 and event & self.refused_events:
            return V_NO_CAPACITY
        if peer.is_storm(frame, event, now, self.limits):
            return V_RATE_LIMITED
        if self.stream:
            self.reply = self.transmitter.pace(peer, frame, 0, now)
        elif peer.quotes_messages and peer.may_be_busy(now):
            # MATLAB waits for no echo. After it has answered the message in flight, it would take an echo for a message.
            self.reply = None
        else:
            self.reply = frame
        return V_DELIVER

    cpdef void set_max_size(self, Py_ssize_t max_size) noexcept:
        """Set the size of a truncated echo."""
        self.limits.max_size = max_size

    def refuse_events(self, int events) -> None:
        """Refuse new messages of some events from now on: the codes of the events, combined; 0 for none."""
        self.refused_events = events

    def count_malformed(self, addr, double now) -> None:
        """Count a frame that was delivered and could not be decoded."""
        cdef Peer peer = self.table.get_or_add(addr, now)
        peer.n_malformed += 1
        self.n_malformed += 1

    # --- errors of the transport ---

    def on_refused(self, addr, double now, Send spared=None) -> None:
        """Handle the report of the system that nobody listens at an address.

        The sends to a peer from which nothing was ever received end as ``UNREACHABLE``, except `spared`, which was sent
        only just now. Another peer may be restarting: its sends go on, and end so at their deadline.
        """
        cdef Peer peer = self.table.get_or_add(addr, now)
        cdef Send send
        peer.refused = True
        peer.unechoed = None  # nobody is there to process it
        if not peer.seen:
            if peer.probes is not None and len(peer.probes) > 1:  # if there was one ping, an earlier frame may be meant
                peer.probes = None
                for send in list(peer.queue or ()):
                    self._end(peer, send, O_UNREACHABLE)
                    peer.n_failed += 1
                if peer.queue:
                    peer.queue.clear()
                self.transmitter.transmit_waiting(peer, now)
            for send in list(peer.in_flight):
                if send is not spared:
                    self.transmitter.finish(peer, send, O_UNREACHABLE, now)
                    self.finished.append(send)

    def inherit(self, former, addr) -> None:
        """Let the next connection to an address count as one to the former address of the same server."""
        self.table.inherit(former, addr)

    def on_unsent(self, bytes frame not None, addr, double now) -> None:
        """Handle the report of the system that it did not send a frame.

        The frame has not reached the peer. So it is sent again until its deadline, to a legacy peer as well.
        """
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        if peer is None:
            return
        if peer.unechoed is frame:
            peer.unechoed = None
        for send in peer.in_flight:
            if send.frame is frame:
                self.transmitter.postpone(send, now)

    def hasten(self, addr, double now) -> None:
        """Send again at once what waits for a peer, since the way to it has changed."""
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        if peer is not None:
            for send in peer.in_flight:
                if send.unsent or peer.kind == ECHORIG:
                    send.retry_at = now
            peer.probe_at = now
            self.transmitter.alarm = min(self.transmitter.alarm, now)

    def relocate(self, before, addr, double now) -> None:
        """Send to another address what waits for a peer: a ping to that address was echoed."""
        self.table.relocate(before, addr, now)

    def silence(self, addr, double now) -> float:
        """Return how long a send has waited while nothing was received from a peer, in seconds.

        It is 0 while that is not longer than several round trips, and for a legacy peer: it may be busy.
        """
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        cdef double since = NEVER
        if peer is None or peer.kind == LEGACY:
            return 0.0
        for send in peer.in_flight:
            since = min(since, send.sent_at)
        if peer.probes:
            since = min(since, <double>peer.probes[0][1])
        since = now - max(since, peer.last_seen)
        return since if since >= SILENT_ROUND_TRIPS * peer.retry_interval(self.limits) else 0.0

    def kind(self, addr) -> str:
        """Return the kind of a peer."""
        cdef Peer peer = self.table.find(addr)
        return KINDS[UNKNOWN if peer is None else peer.kind]

    def was_seen(self, addr) -> bool:
        """Return whether something was received from a peer."""
        cdef Peer peer = self.table.find(addr)
        return peer is not None and peer.seen

    def disconnect(self, addr, double now) -> None:
        """End the sends to a peer whose connection is closed as ``LOST``, and forget the peer."""
        cdef Peer peer = self.table.find(addr)
        cdef Send send
        if peer is None:
            return
        self.table.remove(peer, addr)
        self.expiry_checks.disconnect(peer)
        for send in [*peer.in_flight, *(peer.queue or ())]:
            self._end(peer, send, O_LOST)

    cdef _end(self, Peer peer, Send send, int outcome):
        """End a send whose peer is cleared by the caller."""
        send.outcome = outcome
        self.transmitter.n_waiting -= 1
        self.finished.append(send)

    def release_paced(self) -> None:
        """Put the frames that wait for streams into `outbox`, since the streams are about to be closed."""
        cdef Peer peer
        for peer in self.peers.values():
            while peer.paced:
                self.outbox.append((peer.paced.popleft()[0], peer.addr))

    def disconnect_all(self, double now) -> None:
        """End every send as ``LOST`` and forget every peer."""
        for addr in list(self.peers):
            self.disconnect(addr, now)
        self.outbox.clear()
        self.transmitter.alarm = NEVER

    # --- time ---

    def expire(self, double now, double read_until=NEVER) -> None:
        """End the sends that have timed out, retransmit others, and set the next `alarm`.

        Frames that arrived after `read_until` may be unread: what ends later than that waits for the next call.
        """
        cdef Peer peer
        cdef Send send
        read_until = min(now, read_until)
        self.transmitter.alarm = NEVER
        for peer in list(self.peers.values()):
            if not peer.is_busy():
                continue
            # The queue first: a message that has timed out must not be sent when its turn comes.
            if peer.queue:
                for send in list(peer.queue):
                    if send.deadline <= read_until:
                        self._time_out(peer, send, now)
            if peer.in_flight:
                for send in list(peer.in_flight):
                    if send.deadline <= read_until:
                        self._time_out(peer, send, now)
                    elif send.retry_at <= now < send.deadline:
                        self.transmitter.retry(peer, send, now)
            self.expiry_checks.on_timer(peer, read_until)
            self.transmitter.on_timer(peer, now)
        if self.transmitter.n_waiting > MANY_SENDS:  # else a run of `expire`, which takes a while, would always be due
            self.transmitter.alarm = max(self.transmitter.alarm, now + self.transmitter.n_waiting * SWEEP)

    cdef double next_due(self):
        """Return when a message in flight times out or is sent again; -infinity if `expire` must find out.

        Mostly the messages for which the alarm was set have been confirmed, and the next ones are not due yet.
        """
        cdef Peer peer
        cdef Send send
        cdef double due = NEVER
        if self.stream or self.expiry_checks.n_unverified or self.transmitter.n_waiting > MANY_SENDS:
            return -NEVER
        for peer in self.peers.values():
            if peer.queue or peer.deferred or peer.probes is not None:
                return -NEVER
            for send in peer.in_flight:
                due = min(due, send.deadline, send.retry_at)
        return due

    cdef _time_out(self, Peer peer, Send send, double now):
        cdef int outcome = O_UNREACHABLE if peer.refused else O_TIMED_OUT
        self.transmitter.finish(peer, send, O_MISMATCH if send.has_crossed else outcome, now)
        self.finished.append(send)

    def next_verified(self, double now):
        """Return (frame, address) of the next kept message that is wanted, or None.

        The caller classifies it again, with a negative `waited`.
        """
        return self.expiry_checks.next_verified(now)

    # --- state ---

    @property
    def alarm(self) -> float:
        """float: When `expire` has something to do, in seconds; infinity for never."""
        return self.transmitter.alarm

    @property
    def run(self) -> int:
        """int: The present run."""
        return self.transmitter.run

    @property
    def n_forgotten(self) -> int:
        """int: How many peers were forgotten to make room for others."""
        return self.table.n_forgotten

    @property
    def n_turned_away(self) -> int:
        """int: How many frames of new peers were ignored because there was no room."""
        return self.table.n_turned_away

    @property
    def n_expired(self) -> int:
        """int: How many messages had expired, including those of forgotten peers."""
        return self.expiry_checks.n_expired

    @property
    def n_waiting(self) -> int:
        """int: How many sends have not ended."""
        return self.transmitter.n_waiting

    @property
    def n_deferred(self) -> int:
        """int: How many unconfirmed messages could not be sent yet."""
        cdef Peer peer
        cdef Py_ssize_t n = 0
        for peer in self.peers.values():
            n += len(peer.deferred or ())
        return n

    @property
    def n_peers(self) -> int:
        """int: How many peers are remembered."""
        return len(self.peers)

    def newest_send(self, addr) -> 'Send | None':
        """Return the newest send to a peer that has not ended, or None; pings are ignored."""
        cdef Peer peer = self.table.find(addr)
        if peer is None:
            return None
        return newest_message(peer.queue) or newest_message(peer.in_flight)

    def is_waiting(self, addr) -> bool:
        """Return whether a message or a ping to a peer has not ended."""
        cdef Peer peer = self.table.find(addr)
        return peer is not None and bool(peer.in_flight or peer.queue)

    def waiting_peers(self) -> list:
        """Return the addresses of the peers to which a message has not ended."""
        return [addr for addr in self.peers if self.newest_send(addr) is not None]

    def addresses(self) -> list:
        """Return the addresses of all peers."""
        return list(self.peers)

    def statistics(self, addr) -> 'tuple | None':
        """Return the values of the fields of `PeerStatistics`; None if the peer is not remembered."""
        cdef Peer peer = self.table.find(addr)
        if peer is None:
            return None
        return (
            KINDS[peer.kind], peer.n_sent, peer.n_confirmed, peer.n_failed, peer.n_retransmitted, peer.n_duplicates,
            peer.n_strays, peer.n_malformed, peer.srtt or None, peer.min_rtt if peer.min_rtt != NEVER else None,
            peer.last_seen if peer.seen else None, peer.n_restarts, peer.n_damaged, peer.n_expired,
        )
