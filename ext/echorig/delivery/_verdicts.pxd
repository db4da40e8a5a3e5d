cdef enum:
    # What a frame is.
    V_IGNORED = 0     # nothing to do
    V_CONFIRMED = 1   # the echo of a waiting send
    V_DELIVER = 2     # new: send `reply` back, if there is one, then deliver it
    V_NOTICE = 3      # new, but never sent back: deliver it
    V_SWALLOWED = 4   # the echo of something that nobody waits for
    V_MISMATCH = 5    # not the echo of the waiting send, though it should be
    V_STORM = 6       # the same bytes again and again: dropped, so that an endless exchange ends
    V_ECHO = 7        # a duplicate or a ping: send `reply` back, if there is one, but do not deliver it
    # How a send ended (or confirmed, mismatch).
    V_WAITING = 8
    V_TIMED_OUT = 9
    V_UNREACHABLE = 10
    V_LOST = 11
    # Again what a frame is.
    V_REFUSED = 12    # new, and there is no room for it: neither sent back nor delivered, and not remembered
    V_DAMAGED = 13    # changed on its way: as good as lost
    V_EXPIRED = 14    # nobody waits for its confirmation any more: neither sent back nor delivered
    V_DOUBTED = 15    # it may be so: its sender is asked
