# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`Doubts`: messages that lay unread for so long that their senders are asked whether they are still wanted."""

from collections import deque

from echorig.delivery._output cimport Output
from echorig.delivery._peer cimport Peer
from echorig.wire._tags cimport Tag, read_answered

cdef double NEVER = float('inf')
cdef unsigned int LAST_NUMBER = 0xFFFFFFFF
cdef Py_ssize_t MAX_DOUBTED = 1024  # messages of one peer over datagrams, and 16 times as many of a stream,
cdef Py_ssize_t MAX_DOUBTED_SIZE = 2**24  # which have at most so many bytes
cdef double DOUBT_TIME = 1.0  # seconds for the answer whether a message is still wanted
cdef double STREAM_DOUBT_TIME = 60.0  # seconds more on a stream, which loses neither the question nor the answer
cdef double TRUSTED = 0.1  # seconds for which such an answer is believed


cdef class Doubts:
    """The messages that wait for such an answer, and those that are wanted."""

    def __init__(self, Output output not None, bint stream):
        self.output = output
        self.stream = stream
        self.settled = []

    cdef add(self, Peer peer, bytes frame, Tag *tag, addr, double now, double waited, bint ask):
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
            question = self.output.ask(addr, <long long>tag.run << 32 | tag.number)
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
        if until < self.output.alarm:
            self.output.alarm = until

    cdef _drop_doubted(self, Peer peer, Py_ssize_t i):
        """Take a message out of those that may not be wanted any more."""
        peer.doubted_size -= len(peer.doubted[i][4])
        self.n_doubted -= 1
        del peer.doubted[i]

    cdef expire(self, Peer peer, double now):
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

    cdef answer(self, Peer peer, bytes frame, unsigned int number, double now, double waited):
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

    cdef next_wanted(self, double now):
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
                    peer.doubted[i] = (self.output.ask(addr, identity), identity, now + DOUBT_TIME, NEVER, frame, addr)
                    self._wait_for_answer(peer)
                if self.stream:
                    break
            self.settled.pop(0)
        return None
