from echorig.delivery._peer cimport Peer

cdef class Send:
    cdef readonly bytes frame
    cdef readonly object addr
    cdef readonly object waiter
    cdef readonly double started
    cdef readonly double deadline
    cdef readonly int outcome
    cdef readonly bint truncated
    cdef readonly bytes answer
    cdef readonly double round_trip
    cdef readonly unsigned int number  # 0 before it is sent
    cdef bint alone          # no other message may be under way with this one
    cdef bint flying         # it has been sent
    cdef bint tagged, taggable
    cdef bint crossed        # a message of the same event came, which may be meant as the echo
    cdef long long answered  # the message that it answers, or -1
    cdef set awaited         # the exchange's, while its answer is waited for
    cdef list pings          # (number, time) of each ping sent, if it is one
    cdef double flown        # when it was first sent
    cdef unsigned int flown_after  # the number of the next message when it was last sent
    cdef double interval     # between two repetitions
    cdef double retry_at
    cdef bint repeated, probed
    cdef int repetitions

cdef Send newest_message(sends)
cdef Send find_send(Peer peer, unsigned int number)
cdef unsigned int remaining_life(Send send, double now) noexcept
