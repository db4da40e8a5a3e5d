# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Signed messages: who has not the key is not heard. No I/O, no clock.

1. `seal` signs what goes out, `open` checks what comes in and takes the signature off: nobody above sees one.
2. A signature is 128 bytes of whitespace beside the delivery tag, one bit each, so that every peer understands a
   signed message. It is a BLAKE2s (RFC 7693) of the message and its tag, keyed with the key of a *session*.
3. A session is for the messages of one program to another, and their echoes. Its key comes from the shared key and a
   random number of each: what was signed for another program, or for one that ran there before, is worth nothing.
4. Within a session a number is accepted once (the sliding window of RFC 4303, section 3.4.3); on a stream, where nothing
   is overtaken, only in order. The next session of the same program goes on where it ended, whatever its address: who
   is in the middle can have a message come from another.
5. Nothing is remembered of whoever has not shown that it has the key, and every table has a bound.

The session begins with a ping, sent before the first message: the *hello* is an array of nothing but the sender's
random number (128 bytes of whitespace, of which the first half is the same in a whole run of its program), a signature
and a tag. Its echo, the *welcome*, has the receiver's in its
place, and its signature covers both.
"""

import errno
import os
from hashlib import blake2s
from hmac import compare_digest

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from echorig._codec cimport peek, read_answered, read_tag
from echorig._session cimport Outgoing, Session
from echorig._signature cimport (
    FIELD, HELLO, SIGNATURE, SIGNED, last_word, mac_of, number_frame, read_value, with_signature, without_signature,
)
from echorig._signature import as_key

cdef enum:
    PENDING = 8  # sessions with one address of which the first message is still to come

# Whether a frame is signed.
GENUINE = F_GENUINE
HANDSHAKE = F_HANDSHAKE
UNSIGNED = F_UNSIGNED
REPLAYED = F_REPLAYED

cdef unsigned int NUMBERS = 0x7FFFFFFF
cdef unsigned int HALF = 0x40000000
cdef long long ACK = 0x80000000
cdef double NEVER = float('inf')
cdef double LONGEST_PATIENCE = 1.0  # seconds
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
        How many numbers may go by before a new session is begun, at most 2**29: a quarter of those there are.
    random : callable
        Returns so many random bytes.

    Attributes
    ----------
    outbox : list of (bytes, address)
        What is to be sent now, as it is.
    holding : int
        How many messages wait for a session.
    seen : bool
        Whether the frame that was opened last had been accepted before.
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
        self.run = random(8)
        self.runs = {}
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
        cdef long long number = read_tag(frame)
        cdef Outgoing out
        cdef Session session
        if number < 0:
            raise ValueError('A message without a delivery tag cannot be signed')
        if number & ACK:
            session = self.receiving.get(addr)
            return None if session is None else with_signature(frame, session.sign(frame))
        out = self._outgoing(addr)
        if out.session is None or out.failures or not self._serves(out, <unsigned int>number, now):
            self._hold(out, frame, now)
            self._ask(out, addr, now)
            return None
        out.used_at = now
        if not self.stream:
            if out.hello is not None or (out.unanswered and now - out.since > out.patience):
                # It may be another program by now, which cannot tell what is signed for the one before it.
                self._hold(out, frame, now)
                self._ask(out, addr, now)
            elif not out.unanswered and peek(frame) != 0:  # nobody answers a notice
                out.unanswered = True
                out.awaited = <unsigned int>number
                out.since = now
        return with_signature(frame, out.session.sign(frame))

    cdef bint _serves(self, Outgoing out, unsigned int number, double now) noexcept:
        """Tell whether the session of a peer will do for a number."""
        cdef unsigned int behind = (out.newest - number) & NUMBERS
        if now - out.used_at > self.idle / 2:  # the peer may have forgotten it
            return False
        if behind and behind < HALF:
            return True
        # A session ends long before its numbers come again.
        if (number - out.session.first) & NUMBERS >= self.lifetime:
            return False
        out.newest = number
        return True

    cdef _hold(self, Outgoing out, bytes frame, double now):
        """Keep a message for the session that is to come."""
        cdef Py_ssize_t i
        if self.stream:
            if out.size + len(frame) > self.max_held:
                raise OSError(errno.ENOBUFS, f'More than {self.max_held} bytes wait for the other end to prove its key')
        else:
            for i in range(len(out.held) - 1, -1, -1):
                if out.held[i][1] == frame:
                    return
            while out.held and (now - out.held[0][0] > self.hold_time or out.size + len(frame) > self.max_held):
                self._take(out, 0)
        out.held.append((now, frame))
        out.size += len(frame)
        self.holding += 1

    cdef _take(self, Outgoing out, Py_ssize_t i):
        out.size -= len(out.held.pop(i)[1])
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
        cdef Py_ssize_t i
        if out is not None:
            for i in range(len(out.held) - 1, -1, -1):
                if out.held[i][1] == frame:
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

    cdef _ask(self, Outgoing out, addr, double now):
        """Send a hello, or the same one again."""
        cdef bytes frame
        if out.hello is None:
            out.hello = self.run + self.random(8)
            out.asked = 0
        elif self.stream or now - out.asked_at < out.patience:
            return
        out.asked += 1
        out.asked_at = now
        frame = number_frame(out.hello, last_word(out.hello), False)
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
        cdef long long number = read_tag(frame)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(frame)
        cdef bytes signature, plain, random
        cdef Session session
        cdef int state
        self.seen = False
        self.verdict = F_UNSIGNED
        if number < 0:
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
                self._shake(plain, signature, random, addr, number, now)
                return None
        if PyBytes_GET_SIZE(plain) == n - SIGNATURE - FIELD and read_answered(plain) >= 0:
            return None  # the same could be written in two ways
        session = self._session_of(plain, signature, addr, number, now)
        if session is None:
            return None
        if not number & ACK:
            state = session.judge(<unsigned int>number)
            if state < 0 or (self.stream and session.used and not session.is_next(<unsigned int>number)):
                self.verdict = F_REPLAYED
                return None
            if self.stream:
                session.accept(<unsigned int>number)
            self.seen = state == 0
            if state:
                session.used_at = now  # what is said again does not keep it alive
        self.verdict = F_GENUINE
        return plain

    cdef Session _session_of(self, bytes plain, bytes signature, addr, long long number, double now):
        """Return the session for which a frame is signed, or None."""
        cdef Outgoing out
        cdef Session session
        if number & ACK:
            out = self.sending.get(addr)
            if out is not None:
                for session in (out.session, out.previous):
                    if session is not None and _compare_digest(session.sign(plain), signature):
                        # An older one says nothing of whether the peer is still the same program.
                        if ((<unsigned int>number & NUMBERS) - out.awaited) & NUMBERS < HALF:
                            out.unanswered = False
                        if out.failures == 1 and <unsigned int>number & NUMBERS == out.failed:  # it was only late
                            out.failures = 0
                            self._release(out, addr, now)
                        return session
            return None
        session = self.receiving.get(addr)
        if session is not None:
            if now - session.used_at > self.idle:
                del self.receiving[addr]
            elif _compare_digest(session.sign(plain), signature):
                return session
        for session in self.pending.get(addr, ()):
            if _compare_digest(session.sign(plain), signature):
                # Its sender has signed our random number, so it is there now.
                del self.pending[addr]
                _make_room(self.receiving, self.max_peers, addr)
                self._retire(session, addr)
                self.receiving[addr] = session
                session.used_at = now
                return session
        return None

    cdef _retire(self, Session session, addr):
        """Let a session go on where the one before it of the same program ends, which may have come from elsewhere."""
        cdef bytes run = session.asked[:8]
        cdef Session before
        place = self.runs.get(run, addr)
        before = self.receiving.get(place)
        if before is not None and before.asked[:8] == run:
            session.follow(before)
            del self.receiving[place]
        if len(self.runs) >= 2 * self.max_peers:  # of some the session is long gone
            self.runs = {(<Session>one).asked[:8]: where for where, one in self.receiving.items()}
        self.runs[run] = addr

    cpdef bint accepted(self, bytes frame, addr) except -1:
        """Take in that a message was accepted, so that it is not a second time.

        Parameters
        ----------
        frame : bytes
            What `open` returned.
        addr : hashable
            The peer.

        Returns
        -------
        bool
            False if it was accepted before; it must not be delivered again.
        """
        cdef Session session = self.receiving.get(addr)
        cdef long long number = read_tag(frame)
        if self.stream or session is None or number < 0 or number & ACK:
            return True
        if session.judge(<unsigned int>number) <= 0:
            return False
        session.accept(<unsigned int>number)
        return True

    cdef _shake(self, bytes plain, bytes signature, bytes random, addr, long long number, double now):
        """Take in a hello or a welcome."""
        cdef Outgoing out
        if number & ACK:
            out = self.sending.get(addr)
            if out is None:
                return
            for asked in (out.hello, out.welcomed):
                if asked is not None and number & NUMBERS == last_word(asked):
                    if _compare_digest(mac_of(self.welcome_mac, asked + plain), signature):
                        self.verdict = F_HANDSHAKE
                        if asked is out.hello:  # else it comes again
                            self._begin(out, addr, random, now)
                        return
            return
        # Our own hello, sent back, must not make us our own peer.
        if random[:8] == self.run or number != last_word(random):
            return
        if _compare_digest(mac_of(self.hello_mac, plain), signature):
            self.verdict = F_HANDSHAKE
            self._welcome(random, addr, now)

    cdef _welcome(self, bytes asked, addr, double now):
        """Answer a hello; one that comes again is answered the same."""
        cdef Session session
        cdef bytes frame
        cdef list pending = self.pending.get(addr)
        for session in (self.receiving.get(addr), *(pending or ())):
            if session is not None and session.asked == asked:
                break
        else:
            session = self._session(asked, self.random(16))
            session.used_at = now
            if pending is None:
                while len(self.pending) >= self.max_peers:
                    del self.pending[next(iter(self.pending))]
                pending = self.pending[addr] = []
            elif len(pending) >= PENDING:  # a recorded hello must not be enough to push out the true one
                del pending[0]
            pending.append(session)
        frame = number_frame(session.answered, last_word(asked), True)
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
        if out.held:
            out.newest = <unsigned int>(read_tag(out.held[0][1]) & NUMBERS)
        out.session.first = out.newest
        self._release(out, addr, now)

    cdef _release(self, Outgoing out, addr, double now):
        """Send what has waited."""
        cdef list held = out.held
        self.holding -= len(held)
        out.held = []
        out.size = 0
        for since, frame in held:
            if now - since <= self.hold_time:
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
        self.receiving.pop(addr, None)
        self.pending.pop(addr, None)

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
        self.drop(frame, addr)
        if out is not None and out.session is not None and not self.stream:
            out.failures += 1
            out.failed = <unsigned int>(read_tag(frame) & NUMBERS)

    @property
    def sizes(self) -> dict:
        """How many entries each table has, by its name."""
        return {name: len(table) for name, table in (
            ('sending', self.sending), ('receiving', self.receiving), ('pending', self.pending), ('runs', self.runs),
        )}
