# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Signed messages: who has not the key is not heard. No I/O, no clock.

1. `seal` signs what goes out, `open` checks what comes in and takes the signature off: nobody above sees one.
2. A signature is 128 bytes of whitespace beside the delivery tag, one bit each, so that every peer understands a
   signed message. It is a BLAKE2s (RFC 7693) of the message and its tag, keyed with the key of a *session*.
3. A session is for the messages of one program to another, and their echoes. Its key comes from the shared key and a
   random number of each: what was signed for another program, or for one that ran there before, is worth nothing.
4. The run and number of a message are signed, so that the exchange knows what comes again, whatever its address. On a
   stream, where nothing is overtaken, numbers are accepted in order only.
5. Sessions are known by the run of the program whose messages they are for: who moves to another address goes on.
6. Nothing is remembered of whoever has not shown that it has the key, and every table has a bound.

The session begins with a ping, sent before the first message: the *hello* is an array of nothing but the sender's
random number (128 bytes of whitespace), a signature and a tag. Its echo, the *welcome*, has the receiver's in its place,
and its signature covers both.
"""

import errno
import os
from hashlib import blake2s
from hmac import compare_digest

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport ceil

from echorig.wire._codec cimport peek
from echorig.security._session cimport Outgoing, Session
from echorig.security._signature cimport (
    SIGNATURE, SIGNED, last_word, mac_of, number_frame, read_value, with_signature, without_signature,
)
from echorig.wire._tags cimport FIELD_SIZE, HELLO, T_WHOLE, Tag, parse, read_answered, with_life
from echorig.security._signature import as_key

cdef enum:
    PENDING = 8  # sessions with one address of which the first message is still to come

# Whether a frame is signed.
GENUINE = F_GENUINE
HANDSHAKE = F_HANDSHAKE
UNSIGNED = F_UNSIGNED
REPLAYED = F_REPLAYED

cdef double NEVER = float('inf')
cdef double LONGEST_PATIENCE = 1.0  # seconds
cdef double SHORT_PATIENCE = 0.1    # seconds
cdef object _compare_digest = compare_digest


cdef _make_room(dict table, Py_ssize_t limit, addr):
    """Forget, for a new entry, an eighth of the others: those that were not used for longest."""
    if len(table) < limit or addr in table:
        return
    for other in sorted(table, key=lambda one: (<Session>table[one]).used_at)[:max(1, limit // 8)]:
        del table[other]


cdef class Signer:
    """The signatures of one communicator.

    Parameters
    ----------
    key : bytes or str
        What all programs have that may talk to each other, 16 bytes or more. Whitespace around it does not count.
    stream : bool
        Whether nothing is lost on the transport, so that whatever waits for a session is kept for as long.
    max_peers : int
        How many peers are remembered, of each sort.
    retry : float
        How soon an unanswered hello is repeated, in seconds, if there is something to send.
    max_held : int
        How much may wait for a session with one peer, in bytes.
    hold_time : float
        How long it may wait where `stream` is false, in seconds.
    idle : float
        How long a session may be unused, in seconds; also only where `stream` is false.
    lifetime : int
        How many numbers may go by before a new session is begun.
    random : callable
        Returns so many random bytes.

    Attributes
    ----------
    outbox : list of (bytes, address)
        What is to be sent now, as it is.
    holding : int
        How many messages wait for a session.
    verdict : int
        What it was: ``GENUINE``, ``HANDSHAKE``, ``UNSIGNED`` or ``REPLAYED``.

    Raises
    ------
    TypeError, ValueError
        The key is neither, or too short. The error does not show it.
    """

    def __init__(
        self, key, bint stream=False, Py_ssize_t max_peers=4096, double retry=0.02, Py_ssize_t max_held=2**20,
        double hold_time=1.0, double idle=60.0, unsigned int lifetime=0x20000000, random=os.urandom,
    ):
        key = as_key(key)
        self.hello_mac = blake2s(digest_size=16, key=key, person=b'er-hello')
        self.welcome_mac = blake2s(digest_size=16, key=key, person=b'er-welcm')
        self.session_key = blake2s(digest_size=32, key=key, person=b'er-sessn')
        self.stream = stream
        self.max_peers = max_peers
        self.retry = retry
        self.max_held = max_held
        self.hold_time = NEVER if stream else hold_time
        self.idle = NEVER if stream else idle
        self.lifetime = lifetime
        self.random = random
        self.outbox = []
        self.sending = {}
        self.places = {}
        self.receiving = {}
        self.pending = {}

    # --- going out ---

    cpdef bytes seal(self, bytes frame, addr, double now):
        """Sign a tagged message.

        Parameters
        ----------
        frame : bytes
            A message with its tag; an echo, where the tag has the ACK flag.
        addr : hashable
            The peer.
        now : float
            The time in seconds.

        Returns
        -------
        bytes or None
            What to send; None if the message waits for a session, or the session of an echo is gone.

        Raises
        ------
        ValueError
            The message has no tag.
        OSError
            On a stream, too much waits for the session.
        """
        cdef Tag tag
        cdef Outgoing out
        cdef Session session
        if parse(frame, &tag) != T_WHOLE:
            raise ValueError('A message without a delivery tag cannot be signed')
        if tag.ack:
            session = self.receiving.get(tag.run)
            return None if session is None else with_signature(frame, session.sign(frame))
        self.run = tag.run
        out = self._outgoing(addr)
        if out.session is None or out.failures or not self._serves(out, &tag, now):
            self._hold(out, frame, &tag, now)
            self._ask(out, addr, &tag, now)
            return None
        out.used_at = now
        if not self.stream:
            if out.hello is not None or (out.unanswered and now - out.since > self._patience(out, &tag)):
                # It may be another program by now, which cannot tell what is signed for the one before it.
                self._hold(out, frame, &tag, now)
                self._ask(out, addr, &tag, now)
            elif not out.unanswered and peek(frame) != 0:  # nobody answers a notice
                out.unanswered = True
                out.awaited = tag.number
                out.since = now
        return with_signature(frame, out.session.sign(frame))

    cdef double _patience(self, Outgoing out, const Tag *tag) noexcept:
        """Return how long to wait for an answer while a message is to be sent, in seconds."""
        if tag.life == 0:
            return out.patience
        # One slow answer, when somebody stood still, must not leave a message without a second try.
        return min(out.patience, max(SHORT_PATIENCE, tag.life / 4000.0))

    cdef bint _serves(self, Outgoing out, Tag *tag, double now) noexcept:
        """Tell whether the session of a peer will do for a message."""
        if now - out.used_at > self.idle / 2:  # the peer may have forgotten it
            return False
        if tag.run != out.run:  # the numbers have come to their end and begun again
            return False
        if tag.number > out.newest:
            # A session ends long before so much is signed for it that its key wears out.
            if tag.number - out.first >= self.lifetime:
                return False
            out.newest = tag.number
        return True

    cdef _hold(self, Outgoing out, bytes frame, const Tag *tag, double now):
        """Keep a message for the session that is to come."""
        cdef Py_ssize_t i
        cdef double wanted_until = now + tag.life / 1000.0 if tag.life else NEVER
        if self.stream:
            if out.size + len(frame) > self.max_held:
                raise OSError(errno.ENOBUFS, f'More than {self.max_held} bytes wait for the other end to prove its key')
        else:
            for i in range(len(out.held) - 1, -1, -1):
                if out.held[i][1] == tag.number:  # the same message, with another life
                    out.held[i] = (out.held[i][0], tag.number, frame, wanted_until)
                    return
            while out.held and (now - out.held[0][0] > self.hold_time or out.size + len(frame) > self.max_held):
                self._take(out, 0)
        out.held.append((now, tag.number, frame, wanted_until))
        out.size += len(frame)
        self.holding += 1

    cdef _take(self, Outgoing out, Py_ssize_t i):
        out.size -= len(out.held.pop(i)[2])
        self.holding -= 1

    cpdef drop(self, bytes frame, addr):
        """Take back a message that waits for a session, if it does: it has failed, or was confirmed already.

        Parameters
        ----------
        frame : bytes
            What was given to `seal`.
        addr : hashable
            The peer.
        """
        cdef Outgoing out = self.sending.get(addr)
        cdef Tag tag
        cdef Py_ssize_t i
        if out is not None and parse(frame, &tag) == T_WHOLE:
            for i in range(len(out.held) - 1, -1, -1):
                if out.held[i][1] == tag.number:
                    self._take(out, i)
                    return

    cdef Outgoing _outgoing(self, addr):
        cdef Outgoing out = self.sending.get(addr)
        if out is None:
            if len(self.sending) >= self.max_peers:
                for other in sorted(self.sending, key=lambda one: (<Outgoing>self.sending[one]).used_at)[
                    :max(1, self.max_peers // 8)
                ]:
                    self._leave(other)
            out = self.sending[addr] = Outgoing()
            out.patience = self.retry
        return out

    cdef _leave(self, addr):
        cdef Outgoing out = self.sending.pop(addr, None)
        if out is not None:
            self.holding -= len(out.held)

    cdef _ask(self, Outgoing out, addr, const Tag *tag, double now):
        """Send a hello, or the same one again."""
        cdef bytes frame
        if out.hello is None:
            out.hello = self.random(16)
            out.asked = 0
        elif self.stream or now - out.asked_at < self._patience(out, tag):
            return
        out.asked += 1
        out.asked_at = now
        frame = number_frame(out.hello, self.run, last_word(out.hello), False)
        self.outbox.append((with_signature(frame, mac_of(self.hello_mac, frame), False), addr))

    # --- coming in ---

    cpdef bytes open(self, bytes frame, addr, double now):
        """Check a frame and take its signature off.

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
        bytes or None
            The message with its tag, or None if it is none for us, and `verdict` says why.
        """
        cdef Tag tag
        cdef Py_ssize_t n = PyBytes_GET_SIZE(frame)
        cdef bytes signature, plain, random
        cdef Session session
        self.verdict = F_UNSIGNED
        if parse(frame, &tag) != T_WHOLE:
            return None
        plain = without_signature(frame)
        if plain is None:
            return None
        signature = read_value(<const unsigned char *>PyBytes_AS_STRING(frame) + n - 1 - SIGNED)
        if signature is None:
            return None
        if n == HELLO and PyBytes_AS_STRING(frame)[0] == 91:
            random = read_value(<const unsigned char *>PyBytes_AS_STRING(frame) + 1)
            if random is not None:
                self._shake(plain, signature, random, addr, &tag, now)
                return None
        if PyBytes_GET_SIZE(plain) == n - SIGNATURE - FIELD_SIZE and read_answered(plain) >= 0:
            return None  # the same could be written in two ways
        session = self._session_of(plain, signature, addr, &tag, now)
        if session is None:
            return None
        if not tag.ack:
            if tag.number > session.newest:  # what is said again does not keep a session alive
                session.newest = tag.number
                session.used_at = now
            elif self.stream:
                self.verdict = F_REPLAYED
                return None
        self.verdict = F_GENUINE
        return plain

    cdef Session _session_of(self, bytes plain, bytes signature, addr, Tag *tag, double now):
        """Return the session for which a frame is signed, or None."""
        cdef Outgoing out
        cdef Session session
        if tag.ack:
            out = self.sending.get(addr)
            if out is not None:
                for session in (out.session, out.previous):
                    if session is not None and _compare_digest(session.sign(plain), signature):
                        # An older one says nothing of whether the peer is still the same program.
                        if tag.run != out.run or tag.number >= out.awaited:
                            out.unanswered = False
                        if out.failures == 1 and tag.number == out.failed:  # it was only late
                            out.failures = 0
                            self._release(out, addr, now)
                        return session
            return None
        session = self.receiving.get(tag.run)
        if session is not None:
            if now - session.used_at > self.idle:
                del self.receiving[tag.run]
            elif _compare_digest(session.sign(plain), signature):
                return session
        for session in self.pending.get(tag.run, ()):
            if _compare_digest(session.sign(plain), signature):
                # Its sender has signed our random number, so it is there now.
                self._promote(session, addr, now)
                return session
        return None

    cdef _promote(self, Session session, addr, double now):
        """Let a session take the place of the one before it, be that of the same program or of one at its address."""
        cdef Session before
        del self.pending[session.run]
        _make_room(self.receiving, self.max_peers, session.run)
        self.receiving[session.run] = session
        session.used_at = now
        place = self.places.get(addr)
        if place is not None and place != session.run:
            before = self.receiving.get(place)
            if before is not None and before.addr == addr:
                del self.receiving[place]
        session.addr = addr
        if len(self.places) >= 2 * self.max_peers:  # of some the session is long gone
            self.places = {(<Session>one).addr: run for run, one in self.receiving.items()}
        self.places[addr] = session.run

    cdef _shake(self, bytes plain, bytes signature, bytes random, addr, Tag *tag, double now):
        """Take in a hello or a welcome."""
        cdef Outgoing out
        if tag.ack:
            out = self.sending.get(addr)
            if out is None:
                return
            for asked in (out.hello, out.welcomed):
                if asked is not None and tag.number == last_word(asked):
                    if _compare_digest(mac_of(self.welcome_mac, asked + plain), signature):
                        self.verdict = F_HANDSHAKE
                        if asked is out.hello:  # else it comes again
                            self._begin(out, addr, random, now)
                        return
            return
        # Our own hello, sent back, must not make us our own peer.
        if tag.run == self.run or tag.number != last_word(random):
            return
        if _compare_digest(mac_of(self.hello_mac, plain), signature):
            self.verdict = F_HANDSHAKE
            self._welcome(random, tag.run, addr, now)

    cdef _welcome(self, bytes asked, unsigned int run, addr, double now):
        """Answer a hello; one that comes again is answered the same."""
        cdef Session session
        cdef bytes frame
        cdef list pending = self.pending.get(run)
        for session in (self.receiving.get(run), *(pending or ())):
            if session is not None and session.asked == asked:
                break
        else:
            session = self._session(asked, self.random(16))
            session.run = run
            session.used_at = now
            if pending is None:
                while len(self.pending) >= self.max_peers:
                    del self.pending[next(iter(self.pending))]
                pending = self.pending[run] = []
            elif len(pending) >= PENDING:  # a recorded hello must not be enough to push out the true one
                del pending[0]
            pending.append(session)
        frame = number_frame(session.answered, run, last_word(asked), True)
        self.outbox.append((with_signature(frame, mac_of(self.welcome_mac, asked + frame), False), addr))

    cdef _begin(self, Outgoing out, addr, bytes answered, double now):
        """Begin a session, and send what has waited for it."""
        cdef double round_trip = 4 * (now - out.asked_at)
        if out.asked > 1:  # it may be the answer to one before
            round_trip = max(round_trip, 2 * out.patience)
        out.patience = max(self.retry, min(round_trip, LONGEST_PATIENCE))
        if out.session is not None:
            out.previous = out.session
        out.session = self._session(out.hello, answered)
        out.welcomed, out.hello = out.hello, None
        out.unanswered = False
        out.failures = 0
        out.used_at = now
        out.run = self.run
        out.first = out.newest = out.held[0][1] if out.held else out.newest
        self._release(out, addr, now)

    cdef _release(self, Outgoing out, addr, double now):
        """Send what has waited."""
        cdef list held = out.held
        cdef Tag tag
        self.holding -= len(held)
        out.held = []
        out.size = 0
        for since, _, frame, wanted_until in held:
            if now - since <= self.hold_time and now < wanted_until:
                if wanted_until != NEVER:
                    parse(frame, &tag)
                    frame = with_life(frame, &tag, <unsigned int>ceil((wanted_until - now) * 1000))
                frame = self.seal(frame, addr, now)
                if frame is not None:
                    self.outbox.append((frame, addr))

    cdef Session _session(self, bytes asked, bytes answered):
        cdef Session session = Session()
        session.asked = asked
        session.answered = answered
        secret = self.session_key.copy()
        secret.update(asked + answered)
        session.mac = blake2s(digest_size=16, key=secret.digest(), person=b'er-frame')
        return session

    # --- peers ---

    def forget(self, addr) -> None:
        """Forget a peer whose connection is gone.

        Parameters
        ----------
        addr : hashable
            The peer.
        """
        self._leave(addr)
        run = self.places.pop(addr, None)
        self.receiving.pop(run, None)
        self.pending.pop(run, None)

    def failed(self, bytes frame not None, addr) -> None:
        """Take in that a message has failed; it is not sent any more, and begins the end of its session.

        The next one waits for another session, with which the peer drops this one: what somebody has held back on the way
        is not accepted after it. If the echo comes after all, nothing was held back. On a stream nothing is accepted late.

        Parameters
        ----------
        frame : bytes
            What was given to `seal`.
        addr : hashable
            The peer.
        """
        cdef Outgoing out = self.sending.get(addr)
        cdef Tag tag
        self.drop(frame, addr)
        if out is not None and out.session is not None and not self.stream and parse(frame, &tag) == T_WHOLE:
            out.failures += 1
            out.failed = tag.number

    @property
    def sizes(self) -> dict:
        """How many entries each table has, by its name."""
        return {name: len(table) for name, table in (
            ('sending', self.sending), ('receiving', self.receiving), ('pending', self.pending), ('places', self.places),
        )}
