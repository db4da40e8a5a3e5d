# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`Transmitter`: which message may leave when, and which is sent again.

1. Messages to one peer leave in order, one at a time on datagrams; a peer that is not known is pinged before the first.
2. Only echorig peers are sent a message again.
3. On a stream, frames to a peer that may take two for one are sent apart.
"""

from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from echorig.delivery._output cimport Output
from echorig.delivery._peer cimport ECHORIG, LEGACY, REST, UNKNOWN, WINDOW, Peer
from echorig.delivery._send cimport Send, newest_message, remaining_life
from echorig.delivery._verdicts cimport V_CONFIRMED
from echorig.wire._codec cimport peek
from echorig.wire._tags cimport FIELD_SIZE, TAG_SIZE, Tag, identity, make_ping, parse, with_life

cdef double STREAM_GAP = 0.1  # seconds between frames to one who may take two that arrive together for one
cdef Py_ssize_t MAX_REPLIES = 16  # that wait for such a stream
cdef double PROBE_INTERVAL = 0.010  # seconds between the first pings to a peer not yet known
cdef int QUICK_PROBES = 3  # pings before the interval begins to double
cdef double MAX_PROBE_INTERVAL = 0.100
cdef double REPEATED_PROBE = 1.0  # seconds between pings to a peer that was silent for long, while a message waits
# A longer message is not sent again before the echo of a ping has overtaken its own: the link may only be slow.
cdef Py_ssize_t LARGE = 2 * (TAG_SIZE + FIELD_SIZE + 2)


cdef bint is_array(bytes frame):
    """Tell whether a frame starts as an array does."""
    cdef const unsigned char *src = <const unsigned char *>PyBytes_AS_STRING(frame)
    while src[0] == 32 or src[0] == 9 or src[0] == 10 or src[0] == 13:
        src += 1
    return src[0] == 91


cdef class Transmitter:
    """Sends messages to peers in their turn, and again while they are not confirmed."""

    def __init__(self, Output output not None, bint stream):
        self.output = output
        self.outbox = output.outbox
        self.limits = output.limits
        self.stream = stream
        self.awaited = set()

    cdef bytes transmit_unconfirmed(self, Peer peer, bytes frame, bint taggable, long long answered, double now):
        """Return what is sent of a message that nobody waits for; None if it must wait for the stream."""
        cdef int event = peek(frame)
        peer.n_sent += 1
        if not self.stream:
            peer.current_kind(now, self.limits)
        if taggable and self.output.may_tag(peer, frame):
            frame = self.output.tagged_frame(frame, self.output.next_number(), 0, answered if peer.kind != LEGACY else -1)
            if peer.kind != ECHORIG and PyBytes_GET_SIZE(frame) > self.limits.min_truncated_echo and event != 0:
                peer.owe(frame, now, self.limits)  # its echo may come back cut short, without the tag
        elif event != 0:
            peer.owe(frame, now, self.limits)
        if self.stream:
            return self.pace(peer, frame, event, now)
        if peer.kind == ECHORIG:
            return frame
        if event != 0:
            peer.sent_message(frame, event, now)
        return frame

    cdef enqueue(self, Peer peer, Send send, double now):
        """Let a send fly, or queue it behind those before it."""
        self.waiting += 1
        peer.n_sent += 1
        if send.deadline < self.output.alarm:
            self.output.alarm = send.deadline
        if (peer.queue and newest_message(peer.queue) is not None) or not self._may_fly(peer, send, now):
            if peer.queue is None:
                peer.queue = deque()
            peer.queue.append(send)
            self._wait_for_stream(peer, now)
            if send.pings is not None and peer.is_at_work(now):
                self.output.alarm = min(self.output.alarm, peer.unechoed_at + REST)
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
        if send.pings is not None and peer.is_at_work(now):
            return False
        if self._must_probe(peer, send, now):
            send.probed = True
            peer.probes = []
            peer.probe_interval = PROBE_INTERVAL
            peer.probe_until = now + min((send.deadline - now) / 2, REST)
            self.probe(peer, now)
            return False
        return True

    cdef _fly(self, Peer peer, Send send, double now):
        send.flying = True
        send.flown = now
        peer.refused = False  # what was refused was something else
        self._tag(peer, send, now)
        send.flown_after = self.output.number
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

    cdef _tag(self, Peer peer, Send send, double now):
        """Give a message its number, and a tag if it may have one."""
        if send.pings is not None:
            send.number = self.output.next_number()
            send.frame = make_ping(self.output.number_run, send.number)
            send.pings.append((send.number, now))
            send.tagged = True
        elif send.taggable and self.output.may_tag(peer, send.frame):
            send.number = self.output.next_number()
            send.frame = self.output.tagged_frame(
                send.frame, send.number, remaining_life(send, now), send.answered if peer.kind != LEGACY else -1
            )
            send.tagged = True
            if send.awaited is not None:
                self.awaited.add(identity(send.frame))

    cdef transmit_waiting(self, Peer peer, double now):
        """Send what has waited for its turn."""
        if self.stream and (peer.paced or peer.queue):
            self.drain(peer, now)
            return
        if peer.probes is not None:
            return
        if peer.queue and peer.held and (<Send>peer.queue[0]).probed:  # those that are held came after it
            self._let_one_fly(peer, now)
        while peer.held and self.is_in_window(peer):
            frame, taggable, answered = peer.held.popleft()
            self.outbox.append((self.transmit_unconfirmed(peer, frame, taggable, answered, now), peer.addr))
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

    cdef bint is_in_window(self, Peer peer) noexcept:
        """Tell whether the next number may be sent to a peer: what is to be confirmed must not fall out of its window."""
        cdef Send send
        cdef Py_ssize_t i
        if self.stream:
            return True
        for i in range(len(peer.flying)):
            send = peer.flying[i]
            if send.tagged and send.pings is None and self.output.number - send.number >= WINDOW:
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
        if not is_array(frame):
            peer.bare_until = now + STREAM_GAP

    cdef bytes pace(self, Peer peer, bytes frame, int event, double now):
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
            self.drain(peer, now)
        else:
            self._wait_for_stream(peer, now)
        return None

    cdef drain(self, Peer peer, double now):
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
        if now < at < self.output.alarm:
            self.output.alarm = at

    cdef confirm(self, Peer peer, Send send, unsigned int number, double now):
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
        self.end(peer, send, V_CONFIRMED, now)

    cdef end(self, Peer peer, Send send, int outcome, double now):
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
                if not send.tagged or (peer.kind != ECHORIG and PyBytes_GET_SIZE(send.frame) > self.limits.min_truncated_echo):
                    peer.owe(send.frame, now, self.limits)
        else:
            peer.queue.remove(send)
        if peer.queue or peer.held or peer.paced:
            if peer.probes is not None and not peer.queue:
                peer.probes = None
            self.transmit_waiting(peer, now)
        elif peer.probes is not None:
            peer.probes = None

    cdef _schedule(self, Peer peer, Send send, double now):
        """Set when a send is repeated for the first time."""
        # One slow round trip, when this program stood still, must not leave a message without a second try.
        send.interval = min(peer.retry_interval(self.limits), max(self.limits.max_rto, (send.deadline - now) / 4))
        send.retry_at = now + send.interval
        if send.retry_at < self.output.alarm:
            self.output.alarm = send.retry_at

    cdef retry(self, Peer peer, Send send, double now):
        """Send a message again to an echorig peer, or ask by a ping whether it was lost; or send another ping."""
        cdef bint tags = peer.current_kind(now, self.limits) == ECHORIG
        send.repetitions += 1
        if send.repetitions > self.limits.retries_before_backoff:
            send.interval = min(2 * send.interval, max(self.limits.max_rto, peer.retry_interval(self.limits)))
        send.retry_at = now + send.interval
        if send.pings is not None:
            # To others it could hurt what is on its way, and a legacy one is sent nothing again.
            if tags or (peer.kind == UNKNOWN and len(peer.flying) == 1 and not peer.is_at_work(now)):
                send.number = self.output.next_number()
                send.frame = make_ping(self.output.number_run, send.number)
                send.pings.append((send.number, now))
                send.repeated = True
                peer.n_retransmitted += 1
                self.outbox.append((send.frame, send.addr))
        elif tags:
            if PyBytes_GET_SIZE(send.frame) <= LARGE or peer.srtt == 0.0:
                self.repeat(peer, send, now)
            else:
                peer.asked = self.output.ask(send.addr)
        elif peer.was_echorig and peer.kind == UNKNOWN and not peer.refused and not peer.is_at_work(now):
            self.output.ask(send.addr)  # it was silent for so long that another may have taken its place
            send.retry_at = now + REPEATED_PROBE

    cdef repeat(self, Peer peer, Send send, double now):
        cdef Tag tag
        send.repeated = True
        parse(send.frame, &tag)
        send.frame = with_life(send.frame, &tag, remaining_life(send, now))
        send.flown_after = self.output.number
        peer.n_retransmitted += 1
        self.outbox.append((send.frame, send.addr))

    cdef set_kind(self, Peer peer, int kind, double now):
        """Take in what a peer turns out to be; an echorig one is sent again what it seems not to have got."""
        cdef Send send
        if kind == LEGACY:
            peer.kind_since = self.output.number
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
            peer.probes = None
        self.transmit_waiting(peer, now)

    cdef resume(self, Peer peer, double now):
        """Send what the time allows by now, and set the alarm for what waits."""
        cdef Send send
        if peer.probes is not None:
            if now >= peer.probe_until or not peer.queue:
                if peer.queue:
                    (<Send>peer.queue[0]).probed = True
                peer.probes = None
                self.transmit_waiting(peer, now)
            else:
                if now >= peer.probe_at:
                    self.probe(peer, now)
                self.output.alarm = min(self.output.alarm, peer.probe_at, peer.probe_until)
        if self.stream and (peer.paced or peer.queue):
            self.drain(peer, now)
        if peer.queue and not self.stream and peer.unechoed is not None:  # a ping may have waited for long enough
            if peer.is_at_work(now):
                self.output.alarm = min(self.output.alarm, peer.unechoed_at + REST)
            else:
                self.transmit_waiting(peer, now)
        for send in peer.flying:
            self.output.alarm = min(self.output.alarm, send.deadline, send.retry_at)
        if peer.queue:
            for send in peer.queue:
                self.output.alarm = min(self.output.alarm, send.deadline)

    # --- asking a peer not yet known what it is, before its first message ---

    cdef bint _must_probe(self, Peer peer, Send send, double now) noexcept:
        """Tell whether a message waits until a peer has shown what it is."""
        if self.stream or send.probed or send.pings is not None or not send.taggable or not self.limits.tags:
            return False
        if peer.current_kind(now, self.limits) != UNKNOWN or peer.flying:
            return False
        return not peer.is_at_work(now)

    cdef probe(self, Peer peer, double now):
        """Send a ping that asks a peer what it is."""
        cdef unsigned int number = self.output.next_number()
        peer.probes.append((number, now))
        if len(peer.probes) >= QUICK_PROBES:
            peer.probe_interval = min(2 * peer.probe_interval, MAX_PROBE_INTERVAL)
        peer.probe_at = now + peer.probe_interval
        self.output.alarm = min(self.output.alarm, peer.probe_at, peer.probe_until)
        self.outbox.append((make_ping(self.output.number_run, number), peer.addr))
