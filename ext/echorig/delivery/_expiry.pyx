# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`ExpiryChecks`: messages that lay unread for so long that their senders are asked whether they are still wanted."""

from collections import deque

from echorig.delivery._peer cimport Peer
from echorig.delivery._transmitter cimport LAST_NUMBER, Transmitter
from echorig.wire._tags cimport Tag, read_reply_number

cdef double NEVER = float('inf')
cdef Py_ssize_t MAX_UNVERIFIED = 1024  # messages of one peer over datagrams, and 16 times as many of a stream,
cdef Py_ssize_t MAX_UNVERIFIED_SIZE = 2**24  # with at most so many bytes
cdef double ANSWER_TIME = 1.0  # seconds for the answer whether a message is still wanted
cdef double STREAM_ANSWER_TIME = 60.0  # seconds more on a stream, which loses neither the question nor the answer
cdef double ANSWER_VALID_TIME = 0.1  # seconds


cdef class Unverified:
    """A received message that may have expired, or that is behind such a message on a stream."""


cdef class ExpiryChecks:
    """Keeps such messages and asks their senders."""

    def __init__(self, Transmitter transmitter not None):
        self.transmitter = transmitter
        self.stream = transmitter.stream
        self.answered_peers = []

    cdef add(self, Peer peer, bytes frame, Tag *tag, addr, double now, double waited, bint ask):
        """Keep a message until its sender has answered, or behind other messages that are kept."""
        cdef Unverified message
        if peer.unverified is None:
            peer.unverified = deque()
        # Too many are neither delivered nor confirmed. A datagram is sent again; no peer fills a stream with so many.
        if (
            len(peer.unverified) >= (16 * MAX_UNVERIFIED if self.stream else MAX_UNVERIFIED)
            or peer.unverified_size + len(frame) > MAX_UNVERIFIED_SIZE
        ) and peer.unverified:
            return
        message = Unverified()
        message.frame = frame
        message.addr = addr
        message.identity = <long long>tag.run << 32 | tag.number
        message.answer_until = now + ANSWER_TIME
        message.wanted_until = now - waited + tag.lifetime / 1000.0 if tag.lifetime else NEVER
        if ask:
            message.question = self.transmitter.send_ping(addr, message.identity)
        peer.unverified.append(message)
        self.n_unverified += 1
        peer.unverified_size += len(frame)
        self._schedule(peer)

    cdef _schedule(self, Peer peer):
        """Set the alarm for when the first unanswered message is dropped."""
        cdef Unverified message = peer.unverified[0]
        cdef double until = message.answer_until
        if self.stream:
            until = until + STREAM_ANSWER_TIME if message.question else NEVER
        if until < self.transmitter.alarm:
            self.transmitter.alarm = until

    cdef _drop(self, Peer peer, Py_ssize_t i):
        """Remove a message."""
        peer.unverified_size -= len((<Unverified>peer.unverified[i]).frame)
        self.n_unverified -= 1
        del peer.unverified[i]

    cdef _expired(self, Peer peer, Py_ssize_t i):
        """Remove a message that is not wanted."""
        self._drop(peer, i)
        peer.n_expired += 1
        self.n_expired += 1

    cdef _note_answer(self, Peer peer):
        if peer not in self.answered_peers:
            self.answered_peers.append(peer)

    cdef on_timer(self, Peer peer, double now):
        """Drop the messages whose senders did not answer; a datagram is sent again if it is wanted."""
        cdef Unverified first
        while peer.unverified:
            first = peer.unverified[0]
            if not self.stream and first.answer_until <= now:
                self._drop(peer, 0)
            elif self.stream and first.question and first.answer_until + STREAM_ANSWER_TIME <= now:
                self._expired(peer, 0)
                self._note_answer(peer)
            else:
                self._schedule(peer)
                break

    cdef on_answer(self, Peer peer, bytes frame, unsigned int number, double now, double waited):
        """Process the echo of a ping that may be the answer whether a message is still wanted."""
        cdef long long answer = read_reply_number(frame)
        cdef Unverified message
        cdef double answered_at
        cdef Py_ssize_t i
        for i in range(len(peer.unverified)):
            message = peer.unverified[i]
            if message.question == number:
                if answer >= 0 and answer & LAST_NUMBER == message.identity & LAST_NUMBER:
                    answered_at = max(now - max(waited, 0.0), message.answer_until - ANSWER_TIME)  # not before the question
                    message.question = 0
                    message.wanted_until = answered_at + ANSWER_VALID_TIME
                else:
                    self._expired(peer, i)
                self._note_answer(peer)
                break

    cdef next_verified(self, double now):
        """Return (frame, address) of the next message that is wanted, or None; the caller classifies it again."""
        cdef Peer peer
        cdef Unverified message
        cdef Py_ssize_t i
        while self.answered_peers:
            peer = self.answered_peers[0]
            for i in range(len(peer.unverified or ())):
                message = peer.unverified[i]
                if not message.question:
                    if now <= message.wanted_until:
                        self._drop(peer, i)
                        return message.frame, message.addr
                    # It has waited for earlier messages, or for a callback.
                    message.question = self.transmitter.send_ping(message.addr, message.identity)
                    message.answer_until = now + ANSWER_TIME
                    message.wanted_until = NEVER
                    self._schedule(peer)
                if self.stream:
                    break
            self.answered_peers.pop(0)
        return None

    cdef disconnect(self, Peer peer):
        """Drop the messages of a peer."""
        if peer.unverified:
            self.n_unverified -= len(peer.unverified)
            peer.unverified = None

    cdef merge(self, Peer peer, Peer other):
        """Move the messages of one peer to another."""
        if other.unverified:
            peer.unverified = deque([*(peer.unverified or ()), *other.unverified])
            peer.unverified_size += other.unverified_size
            other.unverified = None
            if other in self.answered_peers:
                self._note_answer(peer)
