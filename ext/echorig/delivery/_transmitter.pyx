# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`Transmitter`: which frame is sent when, under which number, and which is sent again.

1. Messages to one peer are sent in order, one at a time on datagrams. An unknown peer is pinged before the first.
2. Only echorig peers are sent a message again.
3. On a stream, frames to a peer that may take two for one are sent with a gap.
"""

from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from echorig.delivery._peer cimport ECHORIG, LEGACY, REST, UNKNOWN, WINDOW, Peer, Send, newest_message, remaining_lifetime
from echorig.delivery._verdicts cimport O_CONFIRMED
from echorig.wire._codec cimport peek
from echorig.wire._tags cimport FIELD_SIZE, TAG_SIZE, Tag, add_tag, identity, make_ping, parse, with_lifetime

cdef double NEVER = float('inf')
cdef double STREAM_GAP = 0.1  # seconds between frames to a peer that may take two that arrive together for one
cdef Py_ssize_t MAX_REPLIES = 16  # that wait for such a stream
cdef double PROBE_INTERVAL = 0.010  # seconds between the first pings to an unknown peer
cdef int QUICK_PROBES = 3  # pings before the interval begins to double
cdef double MAX_PROBE_INTERVAL = 0.100
cdef double UNSENT_INTERVAL = 0.020  # seconds until a frame that the system did not send is sent again
cdef double REPEATED_PROBE = 1.0  # seconds between pings to a peer that was silent for long, while a message waits
# A longer message is not sent again before a ping sent after it was echoed: the link may only be slow.
cdef Py_ssize_t LARGE = 2 * (TAG_SIZE + FIELD_SIZE + 2)
# The buffer sizes of MATLAB rigs; a tag must not make a message too long for them.
cdef Py_ssize_t[2] BUFFERS = [512, 1000]


cdef bint is_array(bytes frame):
    """Return whether a frame starts as an array does."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    while src[0] == 32 or src[0] == 9 or src[0] == 10 or src[0] == 13:
        src += 1
    return src[0] == 91


cdef class Transmitter:
    """Sends messages to peers in their turn, and again while they are not confirmed."""

    def __init__(self, Limits limits, dict peers, bint stream, unsigned int run, unsigned int number, Py_ssize_t max_frame):
        self.outbox = []
        self.alarm = NEVER
        self.limits = limits
        self.stream = stream
        self.peers = peers
        self.max_frame = max_frame
        self.awaited_answers = set()
        self.run = self.first_run = run & RUNS
        self.number = max(number, 1)
        self.own_runs = set()

    # --- runs, numbers and tags ---

    cdef bint is_own(self, unsigned int run) noexcept:
        """Return whether a run is or was ours."""
        return run == self.run or (bool(self.own_runs) and run in self.own_runs)

    cdef unsigned long long position(self, unsigned int run, unsigned int number) noexcept:
        """Return the position of a message of ours among all that were ever sent."""
        return <unsigned long long>((run - self.first_run) & RUNS) << 32 | number

    cdef unsigned int next_number(self):
        """Return the next number, which belongs to `number_run`."""
        cdef unsigned int number = self.number
        cdef Peer peer
        self.number_run = self.run
        if number == LAST_NUMBER:  # the next run number shows that it is the same program
            self.own_runs.add(self.run)
            self.run = (self.run + 1) & RUNS
            self.number = 1
            for peer in self.peers.values():
                peer.kind_since = peer.loss_probe = 0
                for send in peer.in_flight:
                    (<Send>send).next_number_when_sent = 0
        else:
            self.number = number + 1
        return number

    cdef bint may_tag(self, Peer peer, bytes frame):
        """Return whether a message to a peer may have a tag."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(frame), i
        if not self.limits.tags or n < 2 or n + TAG_SIZE > self.max_frame or frame[0] != 91 or frame[n - 1] != 93:
            return False
        if peer.kind == LEGACY:
            for i in range(2):
                if n <= BUFFERS[i] < n + TAG_SIZE:
                    return False
        return True

    cdef bytes tagged_frame(self, bytes frame, unsigned int number, unsigned int lifetime, long long reply_to):
        """Return a message with a tag."""
        if reply_to >= 0 and PyBytes_GET_SIZE(frame) + TAG_SIZE + FIELD_SIZE > self.max_frame:
            reply_to = -1
        return add_tag(frame, self.number_run, number, lifetime, reply_to)

    cdef unsigned int send_ping(self, addr, long long question=-1) except 0:
        """Send a ping, which may ask whether a message is still wanted; return its number."""
        cdef unsigned int number = self.next_number()
        self.outbox.append((make_ping(self.number_run, number, question), addr))
        return number

    # --- sending ---

    cdef bytes transmit_unconfirmed(self, Peer peer, bytes frame, bint taggable, long long reply_to, double now):
        """Return the frame of an unconfirmed message; None if it must wait for the stream."""
        cdef int event = peek(frame)
        peer.n_sent += 1
        if not self.stream:
            peer.current_kind(now, self.limits)
        if taggable and self.may_tag(peer, frame):
            frame = self.tagged_frame(frame, self.next_number(), 0, reply_to if peer.kind != LEGACY else -1)
            if peer.kind != ECHORIG and PyBytes_GET_SIZE(frame) > self.limits.min_truncated_echo and event != 0:
                peer.expect_echo(frame, now, self.limits)  # its echo may be truncated, without the tag
        elif event != 0:
            peer.expect_echo(frame, now, self.limits)
        if self.stream:
            return self.pace(peer, frame, event, now)
        if peer.kind == ECHORIG:
            return frame
        if event != 0:
            peer.on_message_sent(frame, event, now)
        return frame

    cdef enqueue(self, Peer peer, Send send, double now):
        """Send a message, or queue it behind earlier ones."""
        self.n_waiting += 1
        peer.n_sent += 1
        if send.deadline < self.alarm:
            self.alarm = send.deadline
        if (peer.queue and newest_message(peer.queue) is not None) or not self._may_transmit(peer, send, now):
            if peer.queue is None:
                peer.queue = deque()
            peer.queue.append(send)
            self._schedule_write(peer, now)
            if send.pings is not None and peer.may_be_busy(now):
                self.alarm = min(self.alarm, peer.unechoed_at + REST)
        else:
            self._transmit(peer, send, now)

    cdef bint _may_transmit(self, Peer peer, Send send, double now):
        """Return whether a send may be sent now. No message waits for a ping."""
        cdef Send other
        cdef Py_ssize_t i
        if peer.probes is not None:
            return False
        for i in range(len(peer.in_flight)):
            other = peer.in_flight[i]
            if (send.exclusive or other.exclusive) and (other.pings is None or send.pings is not None):
                return False
        if self.stream:
            return self._may_write(peer, now)
        if peer.current_kind(now, self.limits) == ECHORIG:
            return True
        if send.pings is not None and peer.may_be_busy(now):
            return False
        if self._needs_probe(peer, send, now):
            send.probed = True
            peer.probes = []
            peer.probe_interval = PROBE_INTERVAL
            peer.probe_until = now + min((send.deadline - now) / 2, REST)
            self._send_probe(peer, now)
            return False
        return True

    cdef _transmit(self, Peer peer, Send send, double now):
        """Send a message for the first time; the caller sends its frame."""
        send.in_flight = True
        send.sent_at = now
        peer.refused = False  # an earlier frame was refused
        self._tag(peer, send, now)
        send.next_number_when_sent = self.number
        peer.in_flight.append(send)
        if send.pings is None and peer.kind != ECHORIG:
            peer.on_message_sent(send.frame, peek(send.frame), now)
        if self.stream:
            if peer.kind != ECHORIG:
                peer.quiet_until = now + STREAM_GAP
            if send.exclusive:
                peer.text_until = now + STREAM_GAP
        elif send.tagged:
            peer.current_kind(now, self.limits)
            self._schedule(peer, send, now)

    cdef _tag(self, Peer peer, Send send, double now):
        """Add a number and a tag to a message, if it may have them."""
        if send.pings is not None:
            send.number = self.next_number()
            send.frame = make_ping(self.number_run, send.number)
            send.pings.append((send.number, now))
            send.tagged = True
        elif send.taggable and self.may_tag(peer, send.frame):
            send.number = self.next_number()
            send.frame = self.tagged_frame(
                send.frame, send.number, remaining_lifetime(send, now), send.reply_to if peer.kind != LEGACY else -1
            )
            send.tagged = True
            if send.awaited_answers is not None:
                self.awaited_answers.add(identity(send.frame))

    cdef transmit_waiting(self, Peer peer, double now):
        """Send the messages whose turn has come."""
        if self.stream and (peer.paced or peer.queue):
            self._drain(peer, now)
            return
        if peer.probes is not None:
            return
        if peer.queue and peer.deferred and (<Send>peer.queue[0]).probed:  # the deferred ones are later
            self._transmit_next(peer, now)
        while peer.deferred and self.is_window_open(peer):
            frame, taggable, reply_to = peer.deferred.popleft()
            self.outbox.append((self.transmit_unconfirmed(peer, frame, taggable, reply_to, now), peer.addr))
        while peer.queue and self._transmit_next(peer, now):
            pass

    cdef bint _transmit_next(self, Peer peer, double now) except -1:
        """Send the next message of the queue, if it may be sent now; return whether it was."""
        cdef Send send = self._next_sendable(peer, now)
        if send is None:
            return False
        peer.queue.remove(send)
        self._transmit(peer, send, now)
        self.outbox.append((send.frame, send.addr))
        return True

    cdef Send _next_sendable(self, Peer peer, double now):
        """Return the next send of the queue that may be sent now, or None. Messages pass a ping that may not."""
        cdef Send send
        for send in peer.queue:
            if send.deadline <= now:  # this program stood still; `expire` ends it
                return None
            if self._may_transmit(peer, send, now):
                return send
            if send.pings is None:
                return None
        return None

    cdef bint is_window_open(self, Peer peer) noexcept:
        """Return whether the next number keeps the unconfirmed messages within the window of the peer."""
        cdef Send send
        cdef Py_ssize_t i
        if self.stream:
            return True
        for i in range(len(peer.in_flight)):
            send = peer.in_flight[i]
            if send.tagged and send.pings is None and self.number - send.number >= WINDOW:
                return False
        return True

    # --- streams to peers that may take two frames which arrive together for one ---

    cdef bint _may_write(self, Peer peer, double now) noexcept:
        """Return whether a frame may be written to a stream now. Nothing marks the end of a bare text."""
        return not peer.paced and now >= peer.quiet_until and now >= peer.text_until

    cdef _on_written(self, Peer peer, bytes frame, int event, double now):
        """Record that a frame is written to a stream now."""
        if peer.kind != ECHORIG:
            if not peer.pipelines:
                peer.quiet_until = now + STREAM_GAP
            if event != 0:
                peer.on_message_sent(frame, event, now)
        if not is_array(frame):
            peer.text_until = now + STREAM_GAP

    cdef bytes pace(self, Peer peer, bytes frame, int event, double now):
        """Return a frame that may be written to a stream now; None if it is put into `outbox` later.

        The event is that of a message; 0 for a frame that is not echoed.
        """
        if self._may_write(peer, now):
            self._on_written(peer, frame, event, now)
            return frame
        if peer.paced is None:
            peer.paced = deque()
        peer.paced.append((frame, event))
        if event == 0 and len(peer.paced) > MAX_REPLIES:  # a peer that sends so many without reading can separate frames
            peer.pipelines = True
            peer.quiet_until = now
            self._drain(peer, now)
        else:
            self._schedule_write(peer, now)
        return None

    cdef _drain(self, Peer peer, double now):
        """Send the frames and messages that may be written to a stream now."""
        while peer.paced and now >= max(peer.quiet_until, peer.text_until):
            frame, event = peer.paced.popleft()
            self.outbox.append((frame, peer.addr))
            self._on_written(peer, frame, event, now)
        while peer.queue and not peer.paced and self._transmit_next(peer, now):
            pass
        if peer.paced or peer.queue:
            self._schedule_write(peer, now)

    cdef void _schedule_write(self, Peer peer, double now) noexcept:
        """Set the alarm for the next time that a frame may be written."""
        cdef double at = max(peer.quiet_until, peer.text_until)
        if now < at < self.alarm:
            self.alarm = at

    cdef confirm(self, Peer peer, Send send, unsigned int number, double now):
        """Finish a send whose echo was received, of a ping with that number."""
        cdef double sent_at = send.sent_at
        if send.pings is not None:
            for sent_number, at in send.pings:
                if sent_number == number:
                    sent_at = at
        send.round_trip = now - sent_at
        if not send.retransmitted or send.pings is not None:  # Karn's rule: the echo may be that of a retransmission
            peer.update_rtt(send.round_trip)
        peer.n_confirmed += 1
        peer.loss_probe = 0
        if peer.unechoed is send.frame:  # else a later one was sent
            peer.unechoed = None
        if self.stream:  # the peer has read everything up to this
            peer.quiet_until = now
            if send.exclusive:
                peer.text_until = now
        self.finish(peer, send, O_CONFIRMED, now)

    cdef finish(self, Peer peer, Send send, int outcome, double now):
        """Finish a send, and send the messages behind it."""
        send.outcome = outcome
        self.n_waiting -= 1
        if outcome != O_CONFIRMED:
            peer.n_failed += 1
        if send.in_flight:
            if len(peer.in_flight) == 1:  # as over UDP
                del peer.in_flight[0]
            else:
                peer.in_flight.remove(send)
            # The right echo may still be received, even after a mismatch, unless nobody listens. An echo with a tag is
            # recognized by its number, unless it is truncated.
            if outcome != O_CONFIRMED and not peer.refused:
                if not send.tagged or (peer.kind != ECHORIG and PyBytes_GET_SIZE(send.frame) > self.limits.min_truncated_echo):
                    peer.expect_echo(send.frame, now, self.limits)
        else:
            peer.queue.remove(send)
        if not peer.queue:
            peer.probes = None
        if peer.queue or peer.deferred or peer.paced:
            self.transmit_waiting(peer, now)

    cdef _schedule(self, Peer peer, Send send, double now):
        """Set the time of the first retransmission."""
        # One slow round trip, while this program stood still, must not leave a message without a second try.
        send.interval = min(peer.retry_interval(self.limits), max(self.limits.max_rto, (send.deadline - now) / 4))
        send.retry_at = now + send.interval
        if send.retry_at < self.alarm:
            self.alarm = send.retry_at

    cdef retry(self, Peer peer, Send send, double now):
        """Send a message or a ping again, or a ping that shows whether the message was lost."""
        cdef bint tags = peer.current_kind(now, self.limits) == ECHORIG
        if send.unsent:
            self._transmit_unsent(peer, send, now)
            return
        send.n_retransmissions += 1
        if send.n_retransmissions > self.limits.retries_before_backoff:
            send.interval = min(2 * send.interval, max(self.limits.max_rto, peer.retry_interval(self.limits)))
        send.retry_at = now + send.interval
        if send.pings is not None:
            # Another ping could disturb a message in flight; a legacy peer is sent nothing again.
            if tags or (peer.kind == UNKNOWN and len(peer.in_flight) == 1 and not peer.may_be_busy(now)):
                send.number = self.next_number()
                send.frame = make_ping(self.number_run, send.number)
                send.pings.append((send.number, now))
                send.retransmitted = True
                peer.n_retransmitted += 1
                self.outbox.append((send.frame, send.addr))
        elif tags:
            if PyBytes_GET_SIZE(send.frame) <= LARGE or peer.srtt == 0.0:
                self.retransmit(peer, send, now)
            else:
                peer.loss_probe = self.send_ping(send.addr)
        elif peer.was_echorig and peer.kind == UNKNOWN and not peer.refused and not peer.may_be_busy(now):
            self.send_ping(send.addr)  # it was silent for so long that another program may be there
            send.retry_at = now + REPEATED_PROBE

    cdef postpone(self, Send send, double now):
        """Send a frame later, which the system did not send now."""
        send.unsent = True
        send.retry_at = now + UNSENT_INTERVAL
        self.alarm = min(self.alarm, send.retry_at)

    cdef _transmit_unsent(self, Peer peer, Send send, double now):
        """Send a frame that the system did not send before."""
        cdef Tag tag
        send.unsent = False
        send.sent_at = now
        send.next_number_when_sent = self.number
        send.retry_at = NEVER
        if send.tagged and send.pings is None:
            parse(send.frame, &tag)
            send.frame = with_lifetime(send.frame, &tag, remaining_lifetime(send, now))
        if send.pings is None and peer.kind != ECHORIG:
            peer.on_message_sent(send.frame, peek(send.frame), now)
        if send.tagged:
            self._schedule(peer, send, now)
        self.outbox.append((send.frame, send.addr))

    cdef retransmit(self, Peer peer, Send send, double now):
        """Send a message again, with the lifetime that is left."""
        cdef Tag tag
        send.retransmitted = True
        parse(send.frame, &tag)
        send.frame = with_lifetime(send.frame, &tag, remaining_lifetime(send, now))
        send.next_number_when_sent = self.number
        peer.n_retransmitted += 1
        self.outbox.append((send.frame, send.addr))

    cdef set_kind(self, Peer peer, int kind, double now):
        """Set the kind of a peer; schedule retransmissions to an echorig one."""
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
                for send in peer.in_flight:
                    if send.tagged:
                        send.n_retransmissions = 0
                        self._schedule(peer, send, now)
        peer.probes = None
        self.transmit_waiting(peer, now)

    cdef on_timer(self, Peer peer, double now):
        """Send the frames and messages that are due, and set the alarm for the others."""
        cdef Send send
        if peer.probes is not None:
            if now >= peer.probe_until or not peer.queue:
                if peer.queue:
                    (<Send>peer.queue[0]).probed = True
                peer.probes = None
                self.transmit_waiting(peer, now)
            else:
                if now >= peer.probe_at:
                    self._send_probe(peer, now)
                self.alarm = min(self.alarm, peer.probe_at, peer.probe_until)
        if self.stream and (peer.paced or peer.queue):
            self._drain(peer, now)
        if peer.queue and not self.stream and peer.unechoed is not None:  # a ping may be due
            if peer.may_be_busy(now):
                self.alarm = min(self.alarm, peer.unechoed_at + REST)
            else:
                self.transmit_waiting(peer, now)
        for send in peer.in_flight:
            self.alarm = min(self.alarm, send.deadline, send.retry_at)
        if peer.queue:
            for send in peer.queue:
                self.alarm = min(self.alarm, send.deadline)

    # --- probing an unknown peer before its first message ---

    cdef bint _needs_probe(self, Peer peer, Send send, double now) noexcept:
        """Return whether a message waits until the kind of the peer is known."""
        if self.stream or send.probed or send.pings is not None or not send.taggable or not self.limits.tags:
            return False
        if peer.current_kind(now, self.limits) != UNKNOWN or peer.in_flight:
            return False
        return not peer.may_be_busy(now)

    cdef _send_probe(self, Peer peer, double now):
        """Send a ping whose echo shows the kind of the peer."""
        peer.probes.append((self.send_ping(peer.addr), now))
        if len(peer.probes) >= QUICK_PROBES:
            peer.probe_interval = min(2 * peer.probe_interval, MAX_PROBE_INTERVAL)
        peer.probe_at = now + peer.probe_interval
        self.alarm = min(self.alarm, peer.probe_at, peer.probe_until)
