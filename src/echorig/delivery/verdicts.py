"""What a received frame is, and how a confirmed send ended.

The compiled code has the same numbers in `_verdicts.pxd`.
"""

from enum import IntEnum

__all__ = ['Outcome', 'Verdict']


class Verdict(IntEnum):
    """What a received frame is."""

    IGNORED = 0  # nothing to do
    CONFIRMED = 1  # the echo of a send
    DELIVER = 2  # a new message: send the reply, if there is one, then deliver the message
    ERROR_NOTICE = 3  # a new notice: deliver it; a notice is never echoed
    STRAY_ECHO = 4  # an echo for which no send waits
    MISMATCH = 5  # not the echo of the waiting send, although it should be
    RATE_LIMITED = 6  # the same bytes too often: dropped, to end an endless exchange
    ECHO = 7  # a duplicate or a ping: send the reply, if there is one, but deliver nothing
    NO_CAPACITY = 8  # a new message for which there is no room: neither echoed nor delivered nor remembered
    DAMAGED = 9  # changed on its way: treated as lost
    EXPIRED = 10  # a message whose sender does not wait any more: neither echoed nor delivered
    MAYBE_EXPIRED = 11  # a message that may have expired: kept until its sender has answered


class Outcome(IntEnum):
    """How a confirmed send ended."""

    WAITING = 0
    CONFIRMED = 1
    MISMATCH = 2
    TIMED_OUT = 3
    UNREACHABLE = 4
    LOST = 5
