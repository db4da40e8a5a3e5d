"""Every limit and every timing, in one place."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['DEFAULT_TUNING', 'Tuning']


@dataclass(frozen=True)
class Tuning:
    """The limits and timings of one communicator, passed as ``tuning=`` to ``client()`` and ``server()``.

    Times are in seconds, sizes in bytes.
    """

    max_stream_message: int = 64 * 2**20
    """int: The largest message accepted over TCP, in bytes. A larger one closes the connection: no message
    of the field comes near it, and a peer must not be able to fill our memory."""

    max_peers: int = 4096
    """int: How many remote addresses a UDP communicator remembers. The ones idle for longest are forgotten."""

    max_due: int = 64
    """int: How many unanswered messages for each peer are remembered, so that a late echo is known as one."""

    due_age: float = 60.0
    """float: How long an unanswered message is remembered, in seconds. An echo that is later still is taken
    for a message."""

    min_truncated: int = 512
    """int: The shortest prefix of a message, in bytes, that is taken for its truncated echo: MATLAB reads
    512 bytes or 1,000, and a shorter prefix is more likely to be an error."""

    malformed_burst: int = 4
    """int: How many equal frames that are no message one peer may send within `burst_time` before one is not
    echoed. This ends the endless exchange that begins when two ends take each other's echo for a message."""

    burst_time: float = 1.0
    """float: The time over which a burst is counted, in seconds."""

    max_backlog: int = 1024
    """int: How many messages a server keeps for the next ``on_event`` while nobody waits for them."""

    backlog_age: float = 10.0
    """float: How long such a message is kept, in seconds: an older one belongs to another part of the experiment."""


DEFAULT_TUNING = Tuning()
