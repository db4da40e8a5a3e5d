"""What a received frame is, compared with the ping that was sent."""

from __future__ import annotations

from enum import Enum

from ..wire._codec import peek
from ..wire._tags import is_damaged, is_echo, is_ping, make_ping, read_tag

__all__ = ['USUAL', 'Kind', 'classify']

USUAL = len(make_ping(0, 1))  # bytes, of a ping of echorig
_LEAST_CUT = 16  # bytes of an echo that is cut


class Kind(Enum):
    """What a received frame is."""

    ACKNOWLEDGED = 'the echo of echorig, with the ACK flag'
    VERBATIM = 'the same bytes, as iblutil and MATLAB send them'
    CUT = 'the beginning of the ping'
    CHANGED = 'the ping with other bytes'
    OTHER_PING = 'a ping of the rig, or the echo of another one'
    NOTICE = 'an error message of a rig program'
    FOREIGN = 'anything else'


def classify(sent: bytes, received: bytes) -> Kind:
    """Return what a received frame is, of which `sent` may be the ping."""
    if received == sent:
        return Kind.VERBATIM
    if _LEAST_CUT <= len(received) < len(sent) and sent.startswith(received):
        return Kind.CUT
    tag, own = read_tag(received), read_tag(sent)
    if tag is not None and is_ping(received) and not is_damaged(received):
        if own is None or tag[1:3] != own[1:3]:
            return Kind.OTHER_PING
        # The echo of a usual ping has other values in its fields.
        is_usual = len(sent) == USUAL and tag[0]
        return Kind.ACKNOWLEDGED if is_echo(sent, received) or is_usual else Kind.CHANGED
    if sent and _is_empty_array(received):  # the blanks were changed
        return Kind.CHANGED
    return Kind.NOTICE if received[:1] == b'[' and peek(received) == 0 else Kind.FOREIGN


def _is_empty_array(received: bytes) -> bool:
    return len(received) >= 2 and received[:1] == b'[' and received[-1:] == b']' and not received[1:-1].strip()
