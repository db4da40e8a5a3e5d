# The C values of `Verdict` and `Outcome` in `verdicts.py`, which says what each one means.

cdef enum:
    V_IGNORED = 0
    V_CONFIRMED = 1
    V_DELIVER = 2
    V_ERROR_NOTICE = 3
    V_STRAY_ECHO = 4
    V_MISMATCH = 5
    V_RATE_LIMITED = 6
    V_ECHO = 7
    V_NO_CAPACITY = 8
    V_DAMAGED = 9
    V_EXPIRED = 10
    V_MAYBE_EXPIRED = 11

cdef enum:
    O_WAITING = 0
    O_CONFIRMED = 1
    O_MISMATCH = 2
    O_TIMED_OUT = 3
    O_UNREACHABLE = 4
    O_LOST = 5
