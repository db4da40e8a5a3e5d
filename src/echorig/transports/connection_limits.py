"""`ConnectionLimiter`: limits on TCP connections: number, buffered bytes, idle time.

1. The limits are on the sum over all connections. Where one is exceeded, a connection of the host with the most
   connections or bytes is closed. So an attacker at one address loses only connections of their own.
2. A connection that has sent a message is never closed for being idle: an experiment may be hours away.
3. A complete message costs one addition. Only incomplete messages and peers that do not read are recorded. One timer
   checks the rest, while a server has connections.
4. An expired connection is closed only after the sockets were read once more, see `stall`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, cast

from ..security.rejections import CONNECTION_CLOSED, Rejections
from ..stall import READER_TURNS, DelayedCall, after_poll, call_later
from ..tuning import InternalTuning
from ..uri import Address
from ..wire._framing import FrameSplitter

__all__ = ['ConnectionLimiter', 'max_connections']

_CHECKS = 4  # of each connection within the shortest time-out
_FAIR_SHARE = 256 * 1024  # bytes read before all other connections have their turn
_RESUMED_PER_TURN = 1  # throttled connections


class Closable(Protocol):
    """A connection, or one whose TLS handshake is not complete."""

    addr: Address

    def cut(self, reason: str) -> None:
        """Abort it and log the reason."""

    def abort(self) -> None:
        """Abort it."""


class LimitedConnection(Closable, Protocol):
    """A connection, as far as the limits use it."""

    splitter: FrameSplitter

    @property
    def unsent(self) -> int:
        """int: The number of bytes that wait to be sent."""

    def pause(self) -> bool:
        """Stop reading; return whether the connection was being read."""

    def resume(self) -> None:
        """Read again."""


class ConnectionRecord:
    """The activity of one connection; `splitter` is None before its handshake is complete."""

    __slots__ = ('connection', 'host', 'last_activity', 'n_received', 'opened_at', 'pinged_at', 'splitter')

    def __init__(self, connection: Closable, splitter: FrameSplitter | None) -> None:
        self.connection, self.splitter = connection, splitter
        self.host = connection.addr[0]
        self.opened_at = self.last_activity = monotonic()
        self.pinged_at: float | None = None
        self.n_received = 0

    def activity(self, now: float) -> tuple[bool, float]:
        """Return whether a whole message was ever received, and when bytes were last seen to have been received."""
        if self.splitter is None:
            return False, self.last_activity
        if self.splitter.received != self.n_received:
            self.n_received = self.splitter.received
            self.last_activity = now
        return bool(self.splitter.frames), self.last_activity


def max_connections(wanted: int) -> int:
    """Return how many connections a server may have: at most half of the files that the process may open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    limits: Any = resource  # type checkers for Windows know none
    soft, _ = limits.getrlimit(limits.RLIMIT_NOFILE)
    return wanted if soft == limits.RLIM_INFINITY else max(1, min(wanted, soft // 2))


class ByteBudget:
    """The bytes that some connections hold together; between counts only an upper bound is known."""

    def __init__(self, limit: int, size: Callable[[LimitedConnection], int]) -> None:
        self.limit = limit
        self.holders: dict[LimitedConnection, tuple[int, float]] = {}
        self._size = size
        self._upper_bound = 0

    def add(self, n: int) -> LimitedConnection | None:
        """Count `n` bytes more; if the limit is exceeded, return the connection to close.

        It is the largest of the host that holds the most. Otherwise an attacker with many small connections could
        close the connection with one large message.
        """
        self._upper_bound += n
        if self._upper_bound <= self.limit:
            return None
        sizes = {holder: self._size(holder) for holder in self.holders}
        self._upper_bound = sum(sizes.values())
        if self._upper_bound <= self.limit:
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
            self._upper_bound = 0


class ConnectionLimiter:
    """The limits on the TCP connections of one communicator; number and times are limited on servers only.

    `ping` sends a ping to an idle peer, whose echo may take a number of seconds. `set_paused` is called with the number
    of peers that do not read.
    """

    def __init__(
        self,
        tuning: InternalTuning,
        loop: asyncio.AbstractEventLoop,
        rejections: Rejections,
        is_server: bool,
        ping: Callable[[Address, float], None],
        set_paused: Callable[[int], None],
    ) -> None:
        self._tuning, self._loop, self._rejections, self._is_server = tuning, loop, rejections, is_server
        self._ping, self._set_paused = ping, set_paused
        self._records: dict[Closable, ConnectionRecord] = {}
        self._hosts: dict[str, dict[Closable, ConnectionRecord]] = {}
        self.limit = max_connections(tuning.max_connections)
        self._unfinished = ByteBudget(tuning.max_receive_buffer, lambda connection: connection.splitter.pending)
        self._unsent = ByteBudget(tuning.max_send_buffer, lambda connection: connection.unsent)
        self._check_interval = min(tuning.message_timeout, tuning.idle_timeout / 2) / _CHECKS
        self._timer: DelayedCall | None = None
        self._throttled: deque[LimitedConnection] = deque()
        self._n_read = 0  # bytes since all connections had their turn

    def __len__(self) -> int:
        return len(self._records)

    # --- number of connections ---

    def register(self, connection: Closable, splitter: FrameSplitter | None = None) -> bool:
        """Add a connection, for which another one may be closed; return False if it must be refused."""
        if not self._is_server:
            return True
        if len(self._records) >= self.limit and not self._make_room(connection.addr[0]):
            return False
        record = ConnectionRecord(connection, splitter)
        self._records[connection] = self._hosts.setdefault(record.host, {})[connection] = record
        if self._timer is None:
            self._schedule_check()
        return True

    def unregister(self, connection: Closable) -> None:
        """Remove a connection."""
        record = self._records.pop(connection, None)
        if record is not None:
            others = self._hosts[record.host]
            del others[connection]
            if not others:
                del self._hosts[record.host]

    def release(self, connection: LimitedConnection) -> None:
        """Remove a connection and the bytes that it held."""
        self.unregister(connection)
        self._unfinished.drop(connection)
        self.on_resume_writing(connection)

    def _make_room(self, host: str) -> bool:
        """Close the least active connection of the host that has the most; return False if none may be closed."""
        now = monotonic()
        most = max(map(len, self._hosts.values()))
        candidates = [record for own in self._hosts.values() if len(own) == most for record in own.values()]
        victim = min(candidates, key=lambda record: record.activity(now))
        reason = f'there are more than {self.limit} connections (Tuning.max_connections), most of them from there'
        if victim.activity(now)[0] and victim.host != host and most <= len(self._hosts.get(host, ())) + 1:
            # Never evict an active connection for a newcomer from an equally greedy host.
            self.reject(host, reason)
            return False
        self.unregister(victim.connection)
        victim.connection.cut(reason)
        return True

    def reject(self, host: str, reason: str) -> None:
        """Count and log that a connection was closed."""
        self._rejections.count(host, CONNECTION_CLOSED, 'A connection of %s is closed: %s', host, reason)

    def close(self) -> None:
        """Stop the timer, and abort connections whose handshake is not complete."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for record in list(self._records.values()):
            if record.splitter is None:
                self.unregister(record.connection)
                record.connection.abort()

    # --- buffered bytes ---

    def on_partial_message(self, connection: LimitedConnection, n: int) -> None:
        """Count `n` bytes that were received of an incomplete message."""
        frames = connection.splitter.frames
        entry = self._unfinished.holders.get(connection)
        if entry is None or entry[0] != frames:
            self._unfinished.holders[connection] = frames, monotonic()
        while (largest := self._unfinished.add(n)) is not None:
            self._unfinished.drop(largest)
            largest.cut(f'it held most of the unfinished {self._unfinished.limit} bytes (Tuning.max_receive_buffer)')
            n = 0

    def on_pause_writing(self, connection: LimitedConnection) -> None:
        """Start to count the unsent bytes of a connection."""
        self._unsent.holders[connection] = 0, 0.0
        self._set_paused(len(self._unsent.holders))
        self.on_write(connection.unsent)

    def on_resume_writing(self, connection: LimitedConnection) -> None:
        """Stop to count the unsent bytes of a connection."""
        self._unsent.drop(connection)
        self._set_paused(len(self._unsent.holders))

    def on_write(self, n: int) -> None:
        """Count `n` bytes that may be unsent."""
        while (largest := self._unsent.add(n)) is not None:
            self.on_resume_writing(largest)
            limit = self._unsent.limit
            largest.cut(f'it does not read, and more than {limit} bytes wait to be sent (Tuning.max_send_buffer)')
            n = 0

    # --- fairness ---
    # The loops read all available bytes of a connection, up to 8 MiB at once, before they read the next one.

    def on_read(self, connection: LimitedConnection, n: int) -> None:
        """Count `n` bytes that were read; throttle the connection if the others wait for their turn."""
        self._n_read += n
        if self._n_read > _FAIR_SHARE:
            self.throttle(connection)

    def throttle(self, connection: LimitedConnection) -> None:
        """Stop reading a connection until the others have had their turn."""
        if connection.pause():
            self._throttled.append(connection)
            if len(self._throttled) == 1:
                self._loop.call_soon(self._resume_next)

    def _resume_next(self) -> None:
        self._n_read = 0
        for _ in range(min(_RESUMED_PER_TURN, len(self._throttled))):
            self._throttled.popleft().resume()
        if self._throttled:
            self._loop.call_soon(self._resume_next)

    # --- time-outs ---

    def _schedule_check(self) -> None:
        self._timer = call_later(self._loop, self._check_interval, self._check_timeouts) if self._records else None

    def _check_timeouts(self) -> None:
        expired = [connection for connection, _ in self._expired()]
        if expired:
            received = lambda: [connection.splitter.received for connection in expired]  # noqa: E731
            self._timer = after_poll(self._loop, self._close_expired, received, READER_TURNS)
        else:
            self._schedule_check()

    def _close_expired(self) -> None:
        for connection, reason in self._expired():
            self._unfinished.drop(connection)
            connection.cut(reason)
        self._schedule_check()

    def _expired(self) -> list[tuple[LimitedConnection, str]]:
        """Return the expired connections and the reasons; ping those that have been idle for half of the time."""
        now, tuning = monotonic(), self._tuning
        expired: list[tuple[LimitedConnection, str]] = []
        for connection, (frames, since) in list(self._unfinished.holders.items()):
            if not connection.splitter.pending or connection.splitter.frames != frames:
                self._unfinished.drop(connection)
            elif now - since >= tuning.message_timeout:
                expired.append((connection, f'a message was not complete within {tuning.message_timeout:g} s'))
        for record in list(self._records.values()):
            record.activity(now)
            if record.splitter is None or record.n_received:
                continue
            if record.pinged_at is None:
                if now - record.opened_at >= tuning.idle_timeout / 2:
                    record.pinged_at = now
                    self._ping(record.connection.addr, tuning.idle_timeout / 2)
            elif now - record.pinged_at >= tuning.idle_timeout / 2:
                reason = f'nothing was received within {tuning.idle_timeout:g} s (Tuning.idle_timeout)'
                expired.append((cast('LimitedConnection', record.connection), reason))
        return expired
