# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Message authentication: frames without a valid signature are dropped. No I/O, no clock.

1. `Signer.seal` signs outgoing messages; `Signer.open` checks received frames and removes their signatures.
2. A signature is 128 bytes of whitespace beside the delivery tag, one bit each, so that every peer can parse a signed
   message. It is a BLAKE2s (RFC 7693) of the message and its tag, keyed with the key of a *session*.
3. A session is for the messages of one program to another, and their echoes. Its key is derived from the shared key and
   a random number of each. So a signature for another program, or for an earlier run of this one, is not valid.
4. The run and number of a message are signed, so that the exchange recognizes a repeated message even if its address
   changed; a man in the middle can rewrite the source address. On a stream, numbers are accepted in order only.
5. Sessions are identified by the run of the sending program, which may change its address.
6. Nothing is stored for a peer that has not proven that it has the key, and every table is bounded.

A session starts with a handshake before the first message. The *hello* is a ping: an array that contains only the
random number of the sender (128 bytes of whitespace), a signature and a tag. Its echo, the *welcome*, contains the
random number of the receiver instead, and its signature covers both.
"""

cimport cython

import errno
import os
from hashlib import blake2s
from hmac import compare_digest

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport ceil

from echorig.wire._codec cimport peek
from echorig.security._signature cimport (
    SIGNATURE, SIGNED, decode_bits, handshake_frame, hello_number, insert_signature, mac_of, remove_signature,
)
from echorig.wire._tags cimport FIELD_SIZE, HELLO_SIZE, T_WHOLE, Tag, parse, read_reply_number, with_lifetime
from echorig.security._signature import as_key

cdef enum:
    MAX_PENDING = 8  # sessions of one run

# Verdicts on received frames.
GENUINE = F_GENUINE
HANDSHAKE = F_HANDSHAKE
UNSIGNED = F_UNSIGNED
REPLAYED = F_REPLAYED

cdef double NEVER = float('inf')
cdef double MAX_ECHO_TIMEOUT = 1.0  # seconds
cdef double MIN_SHORT_TIMEOUT = 0.1  # seconds, of a message with a short life
cdef object _compare_digest = compare_digest


cdef class Entry:
    """An entry of a table whose least recently used entries are evicted."""


@cython.final
cdef class Session(Entry):
    cdef bytes sign(self, bytes frame):
        return mac_of(self.mac, frame)


@cython.final
cdef class Outgoing(Entry):
    def __cinit__(self):
        self.held = []
        self.hello_sent_at = self.used_at = float('-inf')

    cdef Py_ssize_t index_of(self, unsigned int number) except -2:
        """Return the index of a held message, or -1."""
        cdef Py_ssize_t i
        for i in range(len(self.held) - 1, -1, -1):
            if self.held[i][1] == number:
                return i
        return -1


cdef list _surplus(dict table, Py_ssize_t limit):
    """Return the least recently used eighth of a full table, to be evicted for a new entry."""
    if len(table) < limit:
        return []
    return sorted(table, key=lambda key: (<Entry>table[key]).used_at)[:max(1, limit // 8)]


cdef class Signer:
    """The signatures of one communicator; raises TypeError or ValueError for an invalid key, without showing it."""

    def __init__(
        self,
        key,                                 # bytes or str of at least 16 bytes, shared by all programs
        bint stream=False,                   # no message is lost, so held messages and sessions have no time limit
        Py_ssize_t max_peers=4096,           # in each table
        double retry=0.02,                   # seconds until an unanswered hello is repeated
        Py_ssize_t max_held=2**20,           # bytes that wait for a session with one peer
        double hold_time=1.0,                # seconds that a message waits for a session
        double idle=60.0,                    # seconds after which an unused session ends
        unsigned int lifetime=0x20000000,    # numbers after which a new session is started
        random=os.urandom,                   # returns as many random bytes
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
        self.outgoing = {}
        self.sessions_by_run = {}
        self.pending = {}
        self.run_by_addr = {}

    @property
    def sizes(self) -> dict:
        """The number of entries of each table."""
        return {
            'outgoing': len(self.outgoing),
            'sessions': len(self.sessions_by_run),
            'pending': len(self.pending),
            'addresses': len(self.run_by_addr),
        }

    # --- sending ---

    cpdef bytes seal(self, bytes frame, addr, double now):
        """Return a tagged message or echo with its signature.

        Returns None if the message waits for a session, or if the session of an echo has ended. Raises ValueError if
        the frame has no tag, and OSError if on a stream too much waits for the session.
        """
        cdef Tag tag
        cdef Outgoing out
        cdef Session session
        if parse(frame, &tag) != T_WHOLE:
            raise ValueError('A message without a delivery tag cannot be signed')
        if tag.ack:
            session = self.sessions_by_run.get(tag.run)
            return None if session is None else insert_signature(frame, session.sign(frame))
        self.run = tag.run
        out = self._outgoing_to(addr)
        if out.session is None or out.failures or not self._session_usable(out, &tag, now):
            self._hold(out, frame, &tag, now)
            self._send_hello(out, addr, &tag, now)
            return None
        out.used_at = now
        if not self.stream:
            if out.hello is not None or (out.awaits_echo and now - out.awaited_since > self._echo_timeout(out, &tag)):
                # The peer may have been restarted; then it cannot verify signatures of the old session.
                self._hold(out, frame, &tag, now)
                self._send_hello(out, addr, &tag, now)
            elif not out.awaits_echo and peek(frame) != 0:  # notices are not echoed
                out.awaits_echo = True
                out.awaited_number = tag.number
                out.awaited_since = now
        return insert_signature(frame, out.session.sign(frame))

    cdef double _echo_timeout(self, Outgoing out, const Tag *tag) noexcept:
        """Return how long to wait for an echo before a hello is sent, while there is a message to send."""
        if tag.lifetime == 0:
            return out.echo_timeout
        # One slow echo after a stall must not use up the life of a message before its second attempt.
        return min(out.echo_timeout, max(MIN_SHORT_TIMEOUT, tag.lifetime / 4000.0))

    cdef bint _session_usable(self, Outgoing out, Tag *tag, double now) noexcept:
        """Return whether a message can be signed in the session of its peer."""
        if now - out.used_at > self.idle / 2:  # the peer may have forgotten it
            return False
        if tag.run != out.run:  # the numbers of our run are used up
            return False
        if tag.number > out.newest:
            if tag.number - out.first >= self.lifetime:  # bounds how much is signed with one key
                return False
            out.newest = tag.number
        return True

    cdef _hold(self, Outgoing out, bytes frame, const Tag *tag, double now):
        """Keep a message until its session starts."""
        cdef Py_ssize_t i
        cdef double end_of_life = now + tag.lifetime / 1000.0 if tag.lifetime else NEVER
        if self.stream:
            if out.held_size + len(frame) > self.max_held:
                raise OSError(errno.ENOBUFS, f'More than {self.max_held} bytes wait for the other end to prove its key')
        else:
            i = out.index_of(tag.number)
            if i >= 0:  # the same message, with another life
                out.held[i] = (out.held[i][0], tag.number, frame, end_of_life)
                return
            while out.held and (now - out.held[0][0] > self.hold_time or out.held_size + len(frame) > self.max_held):
                self._remove_held(out, 0)
        out.held.append((now, tag.number, frame, end_of_life))
        out.held_size += len(frame)
        self.n_held += 1

    cdef _remove_held(self, Outgoing out, Py_ssize_t i):
        out.held_size -= len(out.held.pop(i)[2])
        self.n_held -= 1

    cdef _send_held(self, Outgoing out, addr, double now):
        """Sign the messages that waited for the session, and put them into the outbox."""
        cdef list held = out.held
        cdef Tag tag
        self.n_held -= len(held)
        out.held = []
        out.held_size = 0
        for since, _, frame, end_of_life in held:
            if now - since <= self.hold_time and now < end_of_life:
                if end_of_life != NEVER:
                    parse(frame, &tag)
                    frame = with_lifetime(frame, &tag, <unsigned int>ceil((end_of_life - now) * 1000))
                frame = self.seal(frame, addr, now)
                if frame is not None:
                    self.outbox.append((frame, addr))

    cpdef drop(self, bytes frame, addr):
        """Remove a message given to `seal` that still waits for its session."""
        cdef Outgoing out = self.outgoing.get(addr)
        cdef Tag tag
        cdef Py_ssize_t i
        if out is not None and parse(frame, &tag) == T_WHOLE:
            i = out.index_of(tag.number)
            if i >= 0:
                self._remove_held(out, i)

    def send_failed(self, bytes frame not None, addr) -> None:
        """Note that a message given to `seal` has failed. It is not sent any more, and its session is replaced.

        The next message waits for another session, with which the peer drops this one. So a message that an attacker
        has delayed is not accepted after it. If the echo arrives late, the session is kept. On a stream no message is late.
        """
        cdef Outgoing out = self.outgoing.get(addr)
        cdef Tag tag
        self.drop(frame, addr)
        if out is not None and out.session is not None and not self.stream and parse(frame, &tag) == T_WHOLE:
            out.failures += 1
            out.failed_number = tag.number

    cdef Outgoing _outgoing_to(self, addr):
        cdef Outgoing out = self.outgoing.get(addr)
        if out is None:
            for other in _surplus(self.outgoing, self.max_peers):
                self._forget_outgoing(other)
            out = self.outgoing[addr] = Outgoing()
            out.echo_timeout = self.retry
        return out

    cdef _forget_outgoing(self, addr):
        cdef Outgoing out = self.outgoing.pop(addr, None)
        if out is not None:
            self.n_held -= len(out.held)

    def abandon(self, addr) -> None:
        """Forget the messages and the session for an address that is not used any more."""
        self._forget_outgoing(addr)

    def forget(self, addr) -> None:
        """Forget a peer whose connection was closed."""
        self._forget_outgoing(addr)
        run = self.run_by_addr.pop(addr, None)
        self.sessions_by_run.pop(run, None)
        self.pending.pop(run, None)

    # --- receiving ---

    cpdef bytes open(self, bytes frame, addr, double now):
        """Return a received frame without its signature; None if it is no message for us, see `verdict`."""
        cdef Tag tag
        cdef Py_ssize_t n = PyBytes_GET_SIZE(frame)
        cdef bytes signature, plain, random
        cdef Session session
        self.verdict = F_UNSIGNED
        if parse(frame, &tag) != T_WHOLE:
            return None
        plain = remove_signature(frame)
        if plain is None:
            return None
        signature = decode_bits(<const unsigned char *>PyBytes_AS_STRING(frame) + n - 1 - SIGNED)
        if signature is None:
            return None
        if n == HELLO_SIZE and PyBytes_AS_STRING(frame)[0] == 91:
            random = decode_bits(<const unsigned char *>PyBytes_AS_STRING(frame) + 1)
            if random is not None:
                self._handle_handshake(plain, signature, random, addr, &tag, now)
                return None
        if PyBytes_GET_SIZE(plain) == n - SIGNATURE - FIELD_SIZE and read_reply_number(plain) >= 0:
            return None  # an ambiguous encoding
        session = self._find_session(plain, signature, addr, &tag, now)
        if session is None:
            return None
        if not tag.ack:
            if tag.number > session.newest:  # a repeated message does not keep a session alive
                session.newest = tag.number
                session.used_at = now
            elif self.stream:
                self.verdict = F_REPLAYED
                return None
        self.verdict = F_GENUINE
        return plain

    cdef Session _find_session(self, bytes plain, bytes signature, addr, Tag *tag, double now):
        """Return the session in which a frame was signed, or None."""
        cdef Outgoing out
        cdef Session session
        if tag.ack:
            out = self.outgoing.get(addr)
            if out is not None:
                for session in (out.session, out.previous):
                    if session is not None and _compare_digest(session.sign(plain), signature):
                        # An echo of an older message does not prove that the peer still runs.
                        if tag.run != out.run or tag.number >= out.awaited_number:
                            out.awaits_echo = False
                        if out.failures == 1 and tag.number == out.failed_number:  # it was only late
                            out.failures = 0
                            self._send_held(out, addr, now)
                        return session
            return None
        session = self.sessions_by_run.get(tag.run)
        if session is not None:
            if now - session.used_at > self.idle:
                del self.sessions_by_run[tag.run]
            elif _compare_digest(session.sign(plain), signature):
                return session
        for session in self.pending.get(tag.run, ()):
            if _compare_digest(session.sign(plain), signature):
                # The sender has signed our random number, so it runs now.
                self._replace_session(session, addr, now)
                return session
        return None

    cdef _replace_session(self, Session session, addr, double now):
        """Replace the session of the same run, or of another run at the same address, by a pending one."""
        cdef Session before
        del self.pending[session.run]
        if session.run not in self.sessions_by_run:
            for other in _surplus(self.sessions_by_run, self.max_peers):
                del self.sessions_by_run[other]
        self.sessions_by_run[session.run] = session
        session.used_at = now
        previous_run = self.run_by_addr.get(addr)
        if previous_run is not None and previous_run != session.run:
            before = self.sessions_by_run.get(previous_run)
            if before is not None and before.addr == addr:
                del self.sessions_by_run[previous_run]
        session.addr = addr
        if len(self.run_by_addr) >= 2 * self.max_peers:  # remove those whose sessions have ended
            self.run_by_addr = {(<Session>one).addr: run for run, one in self.sessions_by_run.items()}
        self.run_by_addr[addr] = session.run

    # --- handshake ---

    cdef _send_hello(self, Outgoing out, addr, const Tag *tag, double now):
        """Send a hello; over UDP, repeat the one that was not answered in time."""
        cdef bytes frame
        if out.hello is None:
            out.hello = self.random(16)
            out.n_hellos = 0
        elif self.stream or now - out.hello_sent_at < self._echo_timeout(out, tag):
            return
        out.n_hellos += 1
        out.hello_sent_at = now
        frame = handshake_frame(out.hello, self.run, hello_number(out.hello), False)
        self.outbox.append((insert_signature(frame, mac_of(self.hello_mac, frame), False), addr))

    cdef _handle_handshake(self, bytes plain, bytes signature, bytes random, addr, Tag *tag, double now):
        """Answer a hello, or start the session of a welcome."""
        cdef Outgoing out
        if tag.ack:
            out = self.outgoing.get(addr)
            if out is None:
                return
            for hello in (out.hello, out.answered_hello):
                if hello is not None and tag.number == hello_number(hello):
                    if _compare_digest(mac_of(self.welcome_mac, hello + plain), signature):
                        self.verdict = F_HANDSHAKE
                        if hello is out.hello:  # else it is a duplicate
                            self._start_session(out, addr, random, now)
                        return
            return
        # A hello of our own run that comes back must not make us our own peer.
        if tag.run == self.run or tag.number != hello_number(random):
            return
        if _compare_digest(mac_of(self.hello_mac, plain), signature):
            self.verdict = F_HANDSHAKE
            self._send_welcome(random, tag.run, addr, now)

    cdef _send_welcome(self, bytes hello, unsigned int run, addr, double now):
        """Answer a hello; a repeated one gets the same answer."""
        cdef Session session
        cdef bytes frame
        cdef list pending = self.pending.get(run)
        for session in (self.sessions_by_run.get(run), *(pending or ())):
            if session is not None and session.hello_random == hello:
                break
        else:
            session = self._derive_session(hello, self.random(16))
            session.run = run
            session.used_at = now
            if pending is None:
                while len(self.pending) >= self.max_peers:
                    del self.pending[next(iter(self.pending))]
                pending = self.pending[run] = []
            elif len(pending) >= MAX_PENDING:  # several, so that one recorded hello cannot evict the real one
                del pending[0]
            pending.append(session)
        frame = handshake_frame(session.welcome_random, run, hello_number(hello), True)
        self.outbox.append((insert_signature(frame, mac_of(self.welcome_mac, hello + frame), False), addr))

    cdef _start_session(self, Outgoing out, addr, bytes welcome, double now):
        """Start a session, and send the messages that waited for it."""
        cdef double timeout = 4 * (now - out.hello_sent_at)
        if out.n_hellos > 1:  # the welcome may answer an earlier one
            timeout = max(timeout, 2 * out.echo_timeout)
        out.echo_timeout = max(self.retry, min(timeout, MAX_ECHO_TIMEOUT))
        if out.session is not None:
            out.previous = out.session
        out.session = self._derive_session(out.hello, welcome)
        out.answered_hello, out.hello = out.hello, None
        out.awaits_echo = False
        out.failures = 0
        out.used_at = now
        out.run = self.run
        out.first = out.newest = out.held[0][1] if out.held else out.newest
        self._send_held(out, addr, now)

    cdef Session _derive_session(self, bytes hello, bytes welcome):
        cdef Session session = Session()
        session.hello_random = hello
        session.welcome_random = welcome
        secret = self.session_key.copy()
        secret.update(hello + welcome)
        session.mac = blake2s(digest_size=16, key=secret.digest(), person=b'er-frame')
        return session
