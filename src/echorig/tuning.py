"""The limits and timings of a communicator: `Tuning` for users, `InternalTuning` for the package and its tests."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .checks import flag, number_of, seconds

__all__ = ['DEFAULT_TUNING', 'InternalTuning', 'Tuning']


@dataclass(frozen=True)
class Tuning:
    """The limits and times of one communicator, passed as ``tuning=`` to ``client()`` and ``server()``.

    Times are in seconds, sizes in bytes.

    Raises
    ------
    TypeError
        There is no such field, or a value is of another type than its field.
    ValueError
        A value is out of its range.
    """

    tags: bool = True
    """bool: Whether messages carry delivery tags. Without them the communicator is a legacy peer: lost messages are not
    sent again, and duplicates are not recognized."""

    max_peers: int = 4096
    """int: How many remote addresses a UDP communicator remembers, at 4 KiB each. Beyond this limit, the peers that
    have confirmed nothing are forgotten first, the longest idle first. The runs of 16 times as many programs are
    remembered. While a send waits for every peer, frames from new addresses are ignored."""

    max_stream_message: int = 64 * 2**20
    """int: The size of the largest message accepted over TCP. A larger one closes its connection, so that a peer cannot
    fill the memory."""

    max_connections: int = 512
    """int: How many TCP connections a server has at most, and never more than half of the files that the system
    allows the process. For one more, a connection of the host that has the most is closed: the longest idle one,
    first among those that have never sent a message. A lab has a few dozen computers."""

    max_receive_buffer: int = 128 * 2**20
    """int: How many bytes of incomplete messages are held, over all TCP connections: two of the largest messages.
    Beyond this limit, the connection that holds the most is closed, of the host that holds the most."""

    max_send_buffer: int = 128 * 2**20
    """int: How many bytes may wait to be sent, over all TCP connections: two of the largest messages. Beyond this
    limit, the connection with the most waiting bytes is closed, of the host with the most waiting bytes: its peer does
    not read. Less than 64 KiB for a connection is not counted."""

    idle_timeout: float = 600.0
    """float: How long a TCP connection to a server may be open before the first byte is received, and up to a quarter
    more. After half of it a ping is sent, which every live peer echoes. A connection on which a byte was received is
    never closed for being idle; the system checks whether the other computer still exists (TCP keepalive)."""

    handshake_timeout: float = 5.0
    """float: How long a TLS handshake may take. Prevents hanging on servers that do not speak TLS and on clients that
    never start the handshake."""

    max_backlog: int = 1024
    """int: How many messages a server keeps for the next ``on_event`` while no task waits for them. While it keeps this
    many, further messages are not confirmed. Also the default limit of a stream."""

    max_reconnect_delay: float = 5.0
    """float: The longest time between two attempts of a TCP client to reconnect. The delay starts at 0.1 s and doubles
    up to this value. It starts at 0.1 s again after a connection that lasted longer than this value."""

    min_truncated_echo: int = 512
    """int: The shortest prefix of a message that is accepted as its truncated echo. MATLAB reads 512 or 1,000 bytes; a
    shorter prefix is more likely to be an error."""

    log_burst: int = 10
    """int: How many warnings of one kind that peers cause, such as bytes that are no message, are logged within
    `log_interval`. The others are counted and summarized in one line. For failures that peers report and for failing
    callbacks the limit is ten times as high."""

    log_interval: float = 10.0
    """float: The time over which such warnings are counted."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, what = getattr(self, field.name), f'{type(self).__name__}.{field.name}'
            if field.type == 'int':  # the compiled modules have 32 bits for counts, 64 for sizes
                default: Any = field.default
                value = number_of(value, what, 2**62 if default >= 2**20 else 2**31 - 1)
            else:
                value = (flag if field.type == 'bool' else seconds)(value, what)
            object.__setattr__(self, field.name, value)  # a built-in number, also for one of numpy


@dataclass(frozen=True)
class InternalTuning(Tuning):
    """The values of `Tuning`, and those that users need not set.

    A communicator extends its `Tuning` once, with `of`. Tests pass an `InternalTuning` as ``tuning=`` to shorten a time
    or to lower a limit.
    """

    initial_rto: float = 0.020
    """float: The retransmission time-out (RTO, RFC 6298) of a message to an echorig peer without a known round-trip
    time: many times the round-trip time of a local network, and too short for people to notice."""

    min_rto: float = 0.010
    """float: The shortest RTO. Peers are programs that may be busy, and needless repetitions cost both ends."""

    retries_before_backoff: int = 3
    """int: How many repetitions follow each other at the first interval before it begins to double. If a fifth of all
    packets is lost in each direction, the 99th percentile depends on the first five tries."""

    max_rto: float = 0.100
    """float: The longest interval, unless round trips take longer. So a dead peer costs 10 packets a second."""

    max_expected_echoes: int = 1024
    """int: How many messages without a tag are remembered for each peer while their echo is due and no send waits
    for it, so that a late echo is recognized."""

    memory_seconds: float = 60.0
    """float: How long those are remembered. After this time without traffic a peer is asked again whether it has tags,
    and a session of signatures ends."""

    message_burst: int = 64
    """int: How many equal messages without a tag one peer may send within `burst_time` before one is dropped.
    This ends the endless exchange that begins when two ends take each other's echo for a message."""

    malformed_burst: int = 4
    """int: The same for frames that are no message, which no program has a reason to repeat."""

    burst_time: float = 1.0
    """float: The time over which a burst is counted."""

    message_timeout: float = 60.0
    """float: The longest time between the first and the last byte of a message over TCP, and up to a quarter more.
    The largest message over a slow wireless network takes a third of it."""

    close_grace: float = 1.0
    """float: How long a closed TCP connection may take to send its remaining bytes."""

    first_reconnect_delay: float = 0.1
    """float: The first delay of a TCP client that reconnects, plus or minus a quarter, but at most
    `max_reconnect_delay`. The program of a rig takes about as long to start again."""

    path_timeout: float = 15.0
    """float: How long the system of a TCP peer may not confirm data, or the probes of an idle connection, before the
    connection is lost. Minutes are the limit of the systems. A break of Wi-Fi is shorter."""

    silence_timeout: float = 30.0
    """float: How long an echorig peer over TCP may leave pings unanswered, after a message that it did not confirm,
    while its system confirms data. A program that blocks for so long is rare, and a proxy may be in between."""

    reconnect_timeout: float = 10.0
    """float: How long one attempt to reconnect may take. The limit of the system is minutes."""

    max_backlog_bytes: int = 64 * 2**20
    """int: How many bytes on the wire the messages of a backlog, or of a stream, may have together: as many as 1,024
    datagrams can have. The last one may exceed it. In memory a message of brackets takes 25 times its bytes."""

    backlog_age: float = 10.0
    """float: How long a message is kept while the program waits for other events."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_rto <= self.max_rto:
            raise ValueError(f'min_rto ({self.min_rto} s) is over max_rto ({self.max_rto} s)')

    @classmethod
    def of(cls, tuning: Tuning) -> InternalTuning:
        """Return a `Tuning` with the internal values added; an `InternalTuning` is returned as it is."""
        if isinstance(tuning, cls):
            return tuning
        return cls(**{field.name: getattr(tuning, field.name) for field in fields(Tuning)})


DEFAULT_TUNING = Tuning()
