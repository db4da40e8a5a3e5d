"""The way to a TCP peer: options with which the system detects that it is lost, and what the system knows of it.

1. An idle connection is probed (keepalive). Data that the other system does not confirm ends the connection
   (TCP_USER_TIMEOUT of Linux, RFC 5482, and its equivalents), unless the peer only does not read.
2. `path_state` distinguishes a lost way from a program that stands still: its system confirms data for it.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from typing import Any, NamedTuple

from ..tuning import InternalTuning

__all__ = ['PathState', 'path_state', 'reset_on_close', 'set_options', 'set_user_timeout']

_PROBES = 3  # of an idle connection that may be lost
_LONGEST = 32_767.0  # seconds, of Linux
# The option that limits how long sent data may be unconfirmed, and its units per second.
_USER_TIMEOUT = {'linux': (getattr(socket, 'TCP_USER_TIMEOUT', 18), 1000), 'win32': (5, 1), 'darwin': (0x80, 1)}
_LINGER = struct.Struct('hh' if sys.platform == 'win32' else 'ii')
# Fields of `struct tcp_info` of Linux: window probes without a reply, the back-off of retransmissions, segments not
# confirmed, the times since data were last sent and received and a confirmation was received (milliseconds), the
# round-trip time (microseconds).
_TCP_INFO = struct.Struct('=3xBB19xI16xI4xII8xI')
_LOST_SILENCE = 0.6  # seconds in which nothing is received on a way that is lost
_LOST_SENDS = 2  # retransmissions or window probes without a reply
_REPLY_TIME = 0.2  # seconds for the reply to the last of them
_REPLY_ROUND_TRIPS = 4
_CLOCK = 0.01  # seconds; the resolution of these times is that of the kernel's timer


def set_options(sock: Any, tuning: InternalTuning) -> None:
    """Turn off Nagle's algorithm, and let the system detect a lost way.

    With Nagle's algorithm (RFC 896) an answer behind an echo waits 40 ms for its acknowledgement. The loops turn it off
    too, but not on every socket that was passed to them.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # An idle connection is lost after as long: on Linux the limit for unconfirmed data ends the probing, too.
    limit = min(tuning.path_timeout, _LONGEST)
    interval = max(1, int(limit / (_PROBES + 2)))
    first = max(1, int(min(tuning.idle_timeout, limit - _PROBES * interval)))
    for option, value in (
        ('TCP_KEEPIDLE', first),
        ('TCP_KEEPALIVE', first),  # on macOS
        ('TCP_KEEPINTVL', interval),
        ('TCP_KEEPCNT', _PROBES),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    set_user_timeout(sock, limit)


def set_user_timeout(sock: Any, seconds: float) -> None:
    """Limit how long sent data may be unconfirmed; 0 is the limit of the system, usually minutes."""
    if sys.platform in _USER_TIMEOUT:
        option, units = _USER_TIMEOUT[sys.platform]
        with suppress(OSError):  # an older system, or a socket that is closed
            sock.setsockopt(socket.IPPROTO_TCP, option, int(min(seconds, _LONGEST) * units))


class PathState(NamedTuple):
    """What the system knows of the way to a TCP peer."""

    silence: float  # seconds since anything was last received from the system of the peer
    waits: bool  # for a confirmation by that system
    is_lost: bool  # nothing of what was sent in that time was confirmed


def path_state(sock: Any) -> PathState | None:
    """Return what the system knows of the way to the peer; None where it does not say.

    A peer that does not read replies to each retransmission and each probe of its window, however rare they are.
    """
    if sys.platform != 'linux':
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        probes, backoff, unconfirmed, *ages, round_trip = _TCP_INFO.unpack(info)
    except (OSError, ValueError, struct.error):  # it is closed, or no kernel of Linux answers
        return None
    since_sent, since_data, since_confirmation = (age / 1000 for age in ages)
    silence, reply_time = min(since_data, since_confirmation), _REPLY_ROUND_TRIPS * round_trip / 1e6
    if unconfirmed:
        is_ignored = backoff >= _LOST_SENDS and silence - since_sent > _CLOCK
        is_ignored = is_ignored and since_sent >= max(_REPLY_TIME, reply_time)
    else:
        is_ignored = probes > _LOST_SENDS
    return PathState(silence, bool(unconfirmed or probes), is_ignored and silence >= max(_LOST_SILENCE, reply_time))


def reset_on_close(sock: Any) -> None:
    """Let the system drop the data that were not sent when the socket is closed: their senders have been told so."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, 0))
