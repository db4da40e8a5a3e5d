"""`ConnectionLimiter`: limits on TCP connections: their number, what they hold, and for how long they are silent.

1. What is bounded is the sum over all connections. What is closed is a connection of the host that has the most, or
   holds the most. An attacker at one address loses only connections of their own.
2. A connection on which a message was received is never closed for being idle: an experiment may be hours away.
3. Ordinary messages cost one addition. Only a message that is not whole yet, or a peer that does not read, is recorded.
   One timer checks everything else, while a server has connections.
4. A connection is closed for a time-out only after the sockets have been read once more, see `stall`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from time import monotonic
from typing import cast

from ..security.rejections import CUT, Rejections
from ..stall import TO_READER, Later, after_poll, call_later
from ..tuning import InternalTuning
from ..uri import Address
from ..wire._framing import FrameSplitter
from .interfaces import Closable, LimitedConnection

__all__ = ['ConnectionLimiter', 'most_connections']

_LOOKS = 4  # at each connection, within the shortest time-out
_FAIR = 256 * 1024  # bytes that are read before all connections have their turn
_AT_ONCE = 1  # connection that is read again in each turn, of those that bring very much


class ConnectionRecord:
    """What is known of one connection."""

    __slots__ = ('asked_at', 'connection', 'heard_at', 'host', 'received', 'since', 'splitter')

    def __init__(self, connection: Closable, host: str, splitter: FrameSplitter | None, now: float) -> None:
        self.connection, self.host, self.splitter = connection, host, splitter
        self.since = self.heard_at = now
        self.received = 0
        self.asked_at: float | None = None

    def activity(self, now: float) -> tuple[bool, float]:
        """Return whether a whole message was ever received, and when something was last seen to have been received."""
        if self.splitter is not None and self.splitter.received != self.received:
            self.received = self.splitter.received
            self.heard_at = now
        return bool(self.splitter is not None and self.splitter.frames), self.heard_at


def most_connections(wanted: int) -> int:
    """Return how many connections a server may have: as many as are wanted, or half of the files of the process."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft // 2))


class ByteBudget:
    """The bytes that some connections hold, of which only an upper bound is kept up to date.

    Parameters
    ----------
    limit : int
        How many bytes they may hold together.
    size : callable
        How many one of them holds.
    """

    def __init__(self, limit: int, size: Callable[[LimitedConnection], int]) -> None:
        self.limit = limit
        self.size = size
        self.holders: dict[LimitedConnection, tuple[int, float]] = {}
        self._at_most = 0

    def add(self, n: int) -> LimitedConnection | None:
        """Take in that `n` bytes more are held; if it is too much, return the connection that holds the most.

        It is one of the host whose connections hold the most together, or an attacker with many small ones could have
        the connection closed that brings a large message.
        """
        self._at_most += n
        if self._at_most <= self.limit:
            return None
        sizes = {holder: self.size(holder) for holder in self.holders}
        self._at_most = sum(sizes.values())
        if self._at_most <= self.limit:
            return None
        hosts: Counter[str] = Counter()
        for holder, held in sizes.items():
            hosts[holder.addr[0]] += held
        [(host, _)] = hosts.most_common(1)
        return max((holder for holder in sizes if holder.addr[0] == host), key=lambda holder: sizes[holder])

    def drop(self, connection: LimitedConnection) -> None:
        """Forget a connection."""
        self.holders.pop(connection, None)
        if not self.holders:
            self._at_most = 0


class ConnectionLimiter:
    """The limits on the TCP connections of one communicator.

    Parameters
    ----------
    tuning : InternalTuning
        The limits.
    loop : asyncio.AbstractEventLoop
        The event loop.
    rejections : Rejections
        Where connections that were closed are counted.
    is_server : bool
        Whether others connect to this communicator. A client has one connection, which is not limited.
    ask : callable
        Sends a ping to a silent peer; called with its address and with how long to wait for the echo, in seconds.
    set_paused : callable
        Called with the number of peers that do not read.

    Attributes
    ----------
    limit : int
        How many connections there may be.
    ended_inside : int
        How many have ended inside a message.
    """

    def __init__(
        self,
        tuning: InternalTuning,
        loop: asyncio.AbstractEventLoop,
        rejections: Rejections,
        is_server: bool,
        ask: Callable[[Address, float], None],
        set_paused: Callable[[int], None],
    ) -> None:
        self._tuning, self._loop, self._rejections, self._is_server = tuning, loop, rejections, is_server
        self._ask, self._set_paused = ask, set_paused
        self._records: dict[Closable, ConnectionRecord] = {}
        self._hosts: dict[str, dict[Closable, ConnectionRecord]] = {}
        self.limit = most_connections(tuning.max_connections)
        self.ended_inside = 0
        self._unfinished = ByteBudget(tuning.max_receive_buffer, lambda connection: connection.splitter.pending)
        self._unsent = ByteBudget(tuning.max_send_buffer, lambda connection: connection.unsent)
        self._interval = min(tuning.message_timeout / _LOOKS, tuning.idle_timeout / 2 / _LOOKS)
        self._timer: Later | None = None
        self._throttled: deque[LimitedConnection] = deque()
        self._read = 0  # bytes since all connections had their turn

    def __len__(self) -> int:
        return len(self._records)

    # --- coming and going ---

    def register(self, connection: Closable, host: str, splitter: FrameSplitter | None = None) -> bool:
        """Take up a connection, for which another may have to make room.

        Parameters
        ----------
        connection : Closable
            The connection, or the TLS layer before its handshake is over.
        host : str
            Where it comes from.
        splitter : FrameSplitter, optional
            What counts its messages.

        Returns
        -------
        bool
            False if there is no room for it.
        """
        if not self._is_server:
            return True
        if len(self._records) >= self.limit and not self._make_room(host):
            return False
        record = ConnectionRecord(connection, host, splitter, monotonic())
        self._records[connection] = self._hosts.setdefault(host, {})[connection] = record
        if self._timer is None:
            self._timer = call_later(self._loop, self._interval, self._check_timeouts)
        return True

    def unregister(self, connection: Closable) -> None:
        """Forget a connection that is gone."""
        record = self._records.pop(connection, None)
        if record is not None:
            others = self._hosts[record.host]
            del others[connection]
            if not others:
                del self._hosts[record.host]

    def release(self, connection: LimitedConnection) -> None:
        """Forget a connection that is gone, and what it held."""
        self.unregister(connection)
        self._unfinished.drop(connection)
        self.on_resume_writing(connection)

    def _make_room(self, host: str) -> bool:
        """Close the connection that is missed least, among those of the host that has the most."""
        now = monotonic()
        most = max(map(len, self._hosts.values()))
        candidates = [record for own in self._hosts.values() if len(own) == most for record in own.values()]
        victim = min(candidates, key=lambda record: record.activity(now))
        why = f'there are more than {self.limit} connections (Tuning.max_connections), most of them from there'
        if victim.activity(now)[0] and victim.host != host and most <= len(self._hosts.get(host, ())) + 1:
            # An active connection is not closed for a new one of a host that has as many.
            self.reject(host, why)
            return False
        self.unregister(victim.connection)
        victim.connection.cut(why)
        return True

    def reject(self, host: str, why: str) -> None:
        """Count and log that a connection was closed."""
        self._rejections.note(host, CUT, 'A connection of %s is closed: %s', host, why)

    def close(self) -> None:
        """Stop watching, and close what has not become a connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for record in list(self._records.values()):
            if record.splitter is None:
                self.unregister(record.connection)
                record.connection.abort()

    # --- what they hold ---

    def on_partial_message(self, connection: LimitedConnection, n: int) -> None:
        """Take in that a message has not come to its end with the last `n` bytes."""
        frames = connection.splitter.frames
        entry = self._unfinished.holders.get(connection)
        if entry is None or entry[0] != frames:
            self._unfinished.holders[connection] = frames, monotonic()
        while (most := self._unfinished.add(n)) is not None:
            self._unfinished.drop(most)
            most.cut(f'it held most of the unfinished {self._unfinished.limit} bytes (Tuning.max_receive_buffer)')
            n = 0

    def on_pause_writing(self, connection: LimitedConnection) -> None:
        """Take in that much waits to be sent to a peer."""
        self._unsent.holders[connection] = 0, 0.0
        self._set_paused(len(self._unsent.holders))
        self.on_write(connection.unsent)

    def on_resume_writing(self, connection: LimitedConnection) -> None:
        """Take in that little waits to be sent to a peer, or that it is gone."""
        self._unsent.drop(connection)
        self._set_paused(len(self._unsent.holders))

    def on_write(self, n: int) -> None:
        """Take in that `n` bytes more may wait to be sent; the connection with the most is closed if it is too much."""
        while (most := self._unsent.add(n)) is not None:
            self.on_resume_writing(most)
            most.cut(
                f'it does not read, and more than {self._unsent.limit} bytes wait to be sent (Tuning.max_send_buffer)'
            )
            n = 0

    # --- by turns ---
    # The loops read all that there is from each connection, up to 8 MiB at once, before any other gets its turn.

    def on_read(self, connection: LimitedConnection, n: int) -> None:
        """Take in that `n` bytes were read; after very many, the other connections have their turn first."""
        self._read += n
        if self._read > _FAIR:
            self.throttle(connection)

    def throttle(self, connection: LimitedConnection) -> None:
        """Read nothing more from a connection before the others have had their turn."""
        if connection.pause():
            self._throttled.append(connection)
            if len(self._throttled) == 1:
                self._loop.call_soon(self._resume_next)

    def _resume_next(self) -> None:
        self._read = 0
        for _ in range(min(_AT_ONCE, len(self._throttled))):
            self._throttled.popleft().resume()
        if self._throttled:
            self._loop.call_soon(self._resume_next)

    # --- as time goes by ---

    def _check_timeouts(self) -> None:
        late = self._late()
        if late:
            received = lambda: [connection.splitter.received for connection, _ in late]  # noqa: E731
            self._timer = after_poll(self._loop, self._close_late, received, TO_READER)
        else:
            self._sleep()

    def _close_late(self) -> None:
        for connection, why in self._late():
            self._unfinished.drop(connection)
            connection.cut(why)
        self._sleep()

    def _sleep(self) -> None:
        self._timer = call_later(self._loop, self._interval, self._check_timeouts) if self._records else None

    def _late(self) -> list[tuple[LimitedConnection, str]]:
        """Return which connections are late, and with what; ask those of which nothing has been heard for long."""
        now, tuning = monotonic(), self._tuning
        late: list[tuple[LimitedConnection, str]] = []
        for connection, (frames, since) in list(self._unfinished.holders.items()):
            if not connection.splitter.pending or connection.splitter.frames != frames:
                self._unfinished.drop(connection)
            elif now - since >= tuning.message_timeout:
                why = f'a message was not over within {tuning.message_timeout:g} s'
                late.append((connection, why))
        for record in list(self._records.values()):
            record.activity(now)
            if record.splitter is None or record.received:
                continue
            if record.asked_at is None:
                if now - record.since >= tuning.idle_timeout / 2:
                    record.asked_at = now
                    self._ask(record.connection.addr, tuning.idle_timeout / 2)
            elif now - record.asked_at >= tuning.idle_timeout / 2:
                why = f'nothing came within {tuning.idle_timeout:g} s (Tuning.idle_timeout)'
                late.append((cast('LimitedConnection', record.connection), why))
        return late
