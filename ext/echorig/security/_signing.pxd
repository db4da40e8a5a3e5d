from echorig.wire._tags cimport Tag

cdef enum:
    # Verdicts on received frames.
    F_GENUINE = 0     # signed with the key, for this program
    F_HANDSHAKE = 1   # a valid hello or welcome
    F_UNSIGNED = 2    # no signature, or a wrong one
    F_REPLAYED = 3    # on a stream: received before

cdef class Entry:
    cdef double used_at

cdef class Session(Entry):
    """The messages of one program to another, and their echoes. `Exchange` knows which messages were received."""
    cdef object mac
    cdef bytes hello_random, welcome_random
    cdef unsigned int run     # of the program that sends the messages
    cdef unsigned int newest  # the highest number received
    cdef object addr          # where it was used last

    cdef bytes sign(self, bytes frame)

cdef class Outgoing(Entry):
    """Our messages to one peer: their session, and the messages that wait for one."""
    cdef Session session, previous
    cdef unsigned int run, first, newest  # of the messages signed in the session
    cdef int failures                     # messages that have failed in the session
    cdef unsigned int failed_number       # the number of the last one
    cdef bytes hello                      # the random number of the hello that is not answered yet
    cdef bytes answered_hello             # that of the hello before it
    cdef int n_hellos                     # how often the hello was sent
    cdef double hello_sent_at
    cdef double echo_timeout              # seconds without an echo until a new hello is sent
    cdef bint awaits_echo                 # of the message with the number below, or a later one
    cdef unsigned int awaited_number
    cdef double awaited_since
    cdef list held                        # (time, number, frame, end of its life) of the waiting messages
    cdef Py_ssize_t held_size             # bytes

    cdef Py_ssize_t index_of(self, unsigned int number) except -2

cdef class Signer:
    cdef readonly list outbox         # (frame, address) of handshakes and released messages: to be sent at once
    cdef readonly int verdict         # on the frame that was opened last
    cdef readonly Py_ssize_t n_held   # messages that wait for a session
    cdef object hello_mac, welcome_mac, session_key, random
    cdef bint stream
    cdef Py_ssize_t max_peers, max_held
    cdef double retry, hold_time, idle
    cdef unsigned int lifetime
    cdef unsigned int run             # of this program
    cdef dict outgoing                # {address: Outgoing}
    cdef dict sessions_by_run         # {run: Session} of messages to us
    cdef dict pending                 # {run: [Session]} in which no message was received yet
    cdef dict run_by_addr             # {address: run of the program that was there last}

    cpdef bytes seal(self, bytes frame, addr, double now)
    cpdef bytes open(self, bytes frame, addr, double now)
    cpdef drop(self, bytes frame, addr)
    cdef double _echo_timeout(self, Outgoing out, const Tag *tag) noexcept
    cdef bint _session_usable(self, Outgoing out, Tag *tag, double now) noexcept
    cdef _hold(self, Outgoing out, bytes frame, const Tag *tag, double now)
    cdef _remove_held(self, Outgoing out, Py_ssize_t i)
    cdef _send_held(self, Outgoing out, addr, double now)
    cdef Outgoing _outgoing_to(self, addr)
    cdef _forget_outgoing(self, addr)
    cdef Session _find_session(self, bytes plain, bytes signature, addr, Tag *tag, double now)
    cdef _replace_session(self, Session session, addr, double now)
    cdef _send_hello(self, Outgoing out, addr, const Tag *tag, double now)
    cdef _handle_handshake(self, bytes plain, bytes signature, bytes random, addr, Tag *tag, double now)
    cdef _send_welcome(self, bytes hello, unsigned int run, addr, double now)
    cdef _start_session(self, Outgoing out, addr, bytes welcome, double now)
    cdef Session _derive_session(self, bytes hello, bytes welcome)
