"""Every limit and every timing, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .checks import flag, number_of, seconds

__all__ = ['DEFAULT_TUNING', 'Tuning']


@dataclass(frozen=True)
class Tuning:
    """The limits and timings of one communicator, passed as ``tuning=`` to ``client()`` and ``server()``.

    Times are in seconds, sizes in bytes.

    Raises
    ------
    TypeError
        A value is of another type than its field.
    ValueError
        A value is out of its range.
    """

    tags: bool = True
    """bool: Whether messages carry delivery tags. Without them the communicator is a legacy peer: it confirms and
    is confirmed, but lost messages are not sent again and duplicates are not recognized."""

    fast_datagrams: bool = True
    """bool: Whether datagrams go through the compiled transport, where there is one, and not through the event loop's.
    The environment variable ``ECHORIG_DATAGRAM=loop`` says no for a whole program."""

    first_retry: float = 0.020
    """float: When a message is sent again to an echorig peer while no round-trip time is known, in seconds: many
    times that of a local network, and short against what people notice."""

    min_retry: float = 0.010
    """float: The shortest time before a message is sent again, in seconds: peers are programs that may be busy,
    and each needless repetition costs both ends."""

    quick_retries: int = 3
    """int: How many repetitions follow each other at the first interval before it begins to double. Where a fifth of
    all packets is lost each way, one round trip in three fails: the first five tries are what makes the 99th
    percentile, and they should not be spread over a tenth of a second."""

    max_retry: float = 0.100
    """float: The longest time between two repetitions, in seconds, where round trips take no longer. The interval
    doubles up to it, so that a dead peer costs 10 packets a second."""

    max_stream_message: int = 64 * 2**20
    """int: The largest message accepted over TCP, in bytes. A larger one closes the connection: no message
    of the field comes near it, and a peer must not be able to fill our memory."""

    max_unfinished: int = 128 * 2**20
    """int: How much may be held of messages that are not whole yet, over all TCP connections, in bytes: two of the
    largest at the same time. Over it the largest is dropped, with its connection, of the host that holds the most."""

    max_unsent: int = 128 * 2**20
    """int: How much may wait to be sent over all TCP connections, in bytes: two of the largest messages. Over it the
    connection for which the most waits is closed, of the host for which the most waits: it does not read. What is
    under 64 KiB for a connection is not counted."""

    max_connections: int = 512
    """int: How many TCP connections a server has at most, and never more than half of the files that the system
    allows the process. For one more, a connection of the host that has the most is closed: the one silent for longest,
    first among those that have never sent a message. A lab has a few dozen computers."""

    message_timeout: float = 60.0
    """float: How long a message may take from its first byte over TCP to its last, in seconds, and up to a quarter
    more: the largest one over a slow wireless network takes a third of it. Then its connection is closed."""

    idle_timeout: float = 600.0
    """float: How long a TCP connection to a server may be there before anything comes, in seconds, and up to a quarter
    more. After half of it the peer is sent a ping, which every one answers. A connection that has ever brought
    anything is never closed for silence; after this time without traffic the system begins to find out whether the
    other computer is still there."""

    handshake_timeout: float = 5.0
    """float: How long a TLS handshake may take, in seconds: two round trips and some arithmetic. Without a limit a
    server that does not speak TLS is waited for, and whoever connects and says nothing costs memory, for ever."""

    close_grace: float = 1.0
    """float: How long a closed TCP connection has for what is on its way, in seconds."""

    first_reconnect: float = 0.1
    """float: How long after its loss a TCP client tries to get its connection back, in seconds, give or take a
    quarter; a rig's program needs about that long to start again."""

    max_reconnect: float = 5.0
    """float: The longest time between two such attempts, in seconds. The interval doubles up to it, and begins anew
    after a connection that has lasted for longer."""

    reconnect_timeout: float = 10.0
    """float: How long one attempt may take, in seconds: the system's own limit is minutes."""

    max_peers: int = 4096
    """int: How many remote addresses a UDP communicator remembers, at 4 KiB each. Of more, those are forgotten first
    that have confirmed nothing of ours, then those that have; of each kind the ones idle for longest. The runs of 16
    times as many programs are remembered. While all are waited for, frames from new addresses are ignored."""

    max_due: int = 1024
    """int: How many messages without a tag are remembered for each peer whose echo nobody waits for, so that it is
    known as one."""

    due_age: float = 60.0
    """float: How long those are remembered, in seconds. After as much silence it is found out again whether a peer has
    tags, and a session of signatures ends."""

    min_truncated: int = 512
    """int: The shortest prefix of a message, in bytes, that is taken for its truncated echo: MATLAB reads
    512 bytes or 1,000, and a shorter prefix is more likely to be an error."""

    message_burst: int = 64
    """int: How many equal messages without a tag one peer may send within `burst_time` before one is dropped.
    This ends the endless exchange that begins when two ends take each other's echo for a message."""

    malformed_burst: int = 4
    """int: The same for frames that are no message, which nobody has a reason to repeat."""

    burst_time: float = 1.0
    """float: The time over which a burst is counted, in seconds."""

    max_backlog: int = 1024
    """int: How many messages a server keeps for the next ``on_event`` while nobody waits for them; while there are so
    many, others are not confirmed. Also how many wait in a stream, unless it has a limit of its own."""

    max_backlog_bytes: int = 64 * 2**20
    """int: How many bytes such messages may have had on their way, together: what 1,024 datagrams can
    bring. The last one may exceed it. The same holds for what is held back meanwhile, and for each stream. In memory a
    message may take 25 times its bytes, where it is all brackets."""

    backlog_age: float = 10.0
    """float: How long such a message is kept that is passed over, because the program waits for other events, in
    seconds: an older one belongs to another part of the experiment."""

    log_burst: int = 10
    """int: How many warnings of one kind that peers cause, such as bytes that are no message, are logged within
    `log_interval`; the others are counted, and summed up in one line. Of failures that peers report, and of failing
    callbacks, ten times as many are."""

    log_interval: float = 10.0
    """float: The time over which such warnings are counted, in seconds."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, what = getattr(self, field.name), f'Tuning.{field.name}'
            if field.type == 'int':  # numbers of things have 32 bits where they are compiled, sizes 64
                default: Any = field.default
                value = number_of(value, what, 2**62 if default >= 2**20 else 2**31 - 1)
            else:
                value = (flag if field.type == 'bool' else seconds)(value, what)
            object.__setattr__(self, field.name, value)  # as a plain number, where it was one of numpy
        if not self.min_retry <= self.max_retry:
            raise ValueError(f'Tuning.min_retry ({self.min_retry} s) is over Tuning.max_retry ({self.max_retry} s)')
        if not self.first_reconnect <= self.max_reconnect:
            raise ValueError(f'Tuning.first_reconnect is over Tuning.max_reconnect ({self.max_reconnect} s)')


DEFAULT_TUNING = Tuning()
