# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`Send`: one message on its way to be confirmed, and how it ended."""

cimport cython

from libc.math cimport ceil

from echorig.delivery._peer cimport Peer
from echorig.delivery._verdicts cimport V_CONFIRMED, V_WAITING
from echorig.wire._tags cimport identity

cdef double NEVER = float('inf')


@cython.final
@cython.freelist(16)
cdef class Send:
    """One message on its way to be confirmed.

    Attributes
    ----------
    frame : bytes
        What is sent; with its tag, once it has been sent.
    addr : hashable
        The peer.
    waiter : Any
        What the shell wants to find again when the send has ended.
    started, deadline : float
        The times of the call and of its timeout, in seconds.
    outcome : int
        ``WAITING``, ``CONFIRMED``, ``MISMATCH``, ``TIMED_OUT``, ``UNREACHABLE`` or ``LOST``.
    truncated : bool
        Whether the echo that confirmed it was cut short.
    answer : bytes or None
        What came instead of the echo, if `outcome` is ``MISMATCH``.
    round_trip : float
        From sending to the echo, in seconds; of a ping sent more than once, of the one that was answered.
    number : int
        Its number; 0 before it is sent.
    """

    def __cinit__(self):
        self.outcome = V_WAITING
        self.retry_at = NEVER
        self.answered = -1

    @property
    def is_confirmed(self) -> bool:
        """bool: Whether its echo has come."""
        return self.outcome == V_CONFIRMED

    @property
    def identity(self) -> int:
        """int: Its run, times 2**32, plus its number; -1 before it is sent, and without a tag."""
        return -1 if self.number == 0 else identity(self.frame)

    def forget_answer(self) -> None:
        """Note that its answer is not waited for any more."""
        if self.awaited is not None:
            if self.number:
                self.awaited.discard(identity(self.frame))
            self.awaited = None


cdef Send newest_message(sends):
    """Return the last of some sends that is no ping, or None."""
    cdef Send send
    if sends:
        for send in reversed(sends):
            if send.pings is None:
                return send
    return None


cdef Send find_send(Peer peer, unsigned int number):
    """Return the flying send with a number, or None."""
    cdef Send send
    cdef Py_ssize_t i
    for i in range(len(peer.flying)):
        send = peer.flying[i]
        if send.tagged:
            if send.number == number:
                return send
            if send.pings is not None:
                for entry in send.pings:
                    if entry[0] == number:
                        return send
    return None


cdef unsigned int remaining_life(Send send, double now) noexcept:
    """Return for how long a message is still wanted, in milliseconds; 0 is for ever."""
    cdef double left = ceil((send.deadline - now) * 1000)
    if left > 0xFFFFFFFF:
        return 0
    return <unsigned int>left if left >= 1 else 1
