"""`Crowd`: how many TCP connections a communicator has, what they hold, and which is closed when it is too much.

1. What is bounded is the sum over all connections; what is closed is a connection of the host that has the most, or
   holds the most. An attacker at one address loses only connections of their own.
2. A connection that has ever said anything is never closed for silence: an experiment may be hours away.
3. Ordinary messages cost nothing: only a message that is not whole yet, or a peer that does not read, brings anybody
   here, and one timer looks at everything else, while a server has connections.
4. Whoever is late is closed only after the sockets have been read once more, see `stall`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..security.rejections import CUT
from ..stall import TO_READER, Later, after_poll, call_later
from ..uri import Address

if TYPE_CHECKING:
    from ..communicator.link import Link
    from .connection import Connection

__all__ = ['Crowd', 'most_connections']

_LOOKS = 4  # at each connection, within the shortest time-out
_AT_ONCE = 1  # connection that is read again in each turn, of those that bring very much


class Guest(Protocol):
    """A connection, or one whose handshake is not over."""

    addr: Address

    def cut(self, why: str) -> None:
        """Break it off, for a reason."""

    def abort(self) -> None:
        """Break it off."""


class Member:
    """What is known of one connection."""

    __slots__ = ('asked_at', 'guest', 'heard_at', 'host', 'received', 'since', 'splitter')

    def __init__(self, guest: Guest, host: str, splitter: Any, now: float) -> None:
        self.guest, self.host, self.splitter = guest, host, splitter
        self.since = self.heard_at = now
        self.received = 0
        self.asked_at: float | None = None

    def look(self, now: float) -> tuple[bool, float]:
        """Return whether it has ever said anything whole, and when it was last seen to have said anything."""
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


class Heap:
    """The bytes that some connections hold, of which only an upper bound is kept up to date.

    Parameters
    ----------
    limit : int
        How many bytes they may hold together.
    size : callable
        How many one of them holds.
    """

    def __init__(self, limit: int, size: Callable[[Connection], int]) -> None:
        self.limit = limit
        self.size = size
        self.holders: dict[Connection, tuple[int, float]] = {}
        self._at_most = 0

    def add(self, n: int) -> Connection | None:
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

    def drop(self, connection: Connection) -> None:
        """Forget a connection."""
        self.holders.pop(connection, None)
        if not self.holders:
            self._at_most = 0


class Crowd:
    """The connections of one communicator.

    Parameters
    ----------
    owner : Link
        The communicator.

    Attributes
    ----------
    limit : int
        How many connections there may be.
    ended_inside : int
        How many have ended inside a message.
    """

    def __init__(self, owner: Link) -> None:
        tuning = owner.tuning
        self._owner = owner
        self._is_server = owner.role == 'server'
        self._members: dict[Guest, Member] = {}
        self._hosts: dict[str, dict[Guest, Member]] = {}
        self.limit = most_connections(tuning.max_connections)
        self.ended_inside = 0
        self._unfinished = Heap(tuning.max_unfinished, lambda connection: connection.unfinished)
        self._unsent = Heap(tuning.max_unsent, lambda connection: connection.unsent)
        self._interval = min(tuning.message_timeout / _LOOKS, tuning.idle_timeout / 2 / _LOOKS)
        self._timer: Later | None = None
        self._resting: deque[Connection] = deque()

    def __len__(self) -> int:
        return len(self._members)

    # --- coming and going ---

    def enter(self, guest: Guest, host: str, splitter: Any = None) -> bool:
        """Take up a connection, for which another may have to make room.

        Parameters
        ----------
        guest : Guest
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
        if len(self._members) >= self.limit and not self._make_room(host):
            return False
        self._members[guest] = self._hosts.setdefault(host, {})[guest] = Member(guest, host, splitter, monotonic())
        if self._timer is None:
            self._timer = call_later(self._owner._loop, self._interval, self._look_around)
        return True

    def leave(self, guest: Guest) -> None:
        """Forget a connection that is gone."""
        member = self._members.pop(guest, None)
        if member is not None:
            mates = self._hosts[member.host]
            del mates[guest]
            if not mates:
                del self._hosts[member.host]

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is gone, and what it held."""
        self.leave(connection)
        self._unfinished.drop(connection)
        self.reads_again(connection)

    def _make_room(self, host: str) -> bool:
        """Close the connection that is missed least, among those of the host that has the most."""
        now = monotonic()
        most = max(map(len, self._hosts.values()))
        crowd = [member for mates in self._hosts.values() if len(mates) == most for member in mates.values()]
        victim = min(crowd, key=lambda member: member.look(now))
        why = f'there are more than {self.limit} connections (Tuning.max_connections), most of them from there'
        if victim.look(now)[0] and victim.host != host and most <= len(self._hosts.get(host, ())) + 1:
            self.tell(host, why)  # nobody who has spoken goes for one who has no better claim
            return False
        self.leave(victim.guest)
        victim.guest.cut(why)
        return True

    def tell(self, host: str, why: str) -> None:
        """Count and log that a connection was closed."""
        self._owner._rejections.note(host, CUT, 'A connection of %s is closed: %s', host, why)

    def close(self) -> None:
        """Stop watching, and close what has not become a connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for member in list(self._members.values()):
            if member.splitter is None:
                self.leave(member.guest)
                member.guest.abort()

    # --- what they hold ---

    def holds(self, connection: Connection, n: int) -> None:
        """Take in that a message has not come to its end with the last `n` bytes."""
        frames = connection._splitter.frames
        entry = self._unfinished.holders.get(connection)
        if entry is None or entry[0] != frames:
            self._unfinished.holders[connection] = frames, monotonic()
        while (most := self._unfinished.add(n)) is not None:
            self._unfinished.drop(most)
            most.cut(f'it held most of the unfinished {self._unfinished.limit} bytes (Tuning.max_unfinished)')
            n = 0

    def reads_slowly(self, connection: Connection) -> None:
        """Take in that much waits to be sent to a peer."""
        self._unsent.holders[connection] = 0, 0.0
        self._owner._delivery.slow = len(self._unsent.holders)
        self.wrote(connection.unsent)

    def reads_again(self, connection: Connection) -> None:
        """Take in that little waits to be sent to a peer, or that it is gone."""
        self._unsent.drop(connection)
        self._owner._delivery.slow = len(self._unsent.holders)

    def wrote(self, n: int) -> None:
        """Take in that `n` bytes more may wait to be sent; the connection with the most is closed if it is too much."""
        while (most := self._unsent.add(n)) is not None:
            self.reads_again(most)
            most.cut(f'it does not read, and more than {self._unsent.limit} bytes wait to be sent (Tuning.max_unsent)')
            n = 0

    # --- by turns ---
    # The loops read all that there is from each connection, up to 8 MiB at once, before any other gets its turn.

    def rest(self, connection: Connection) -> None:
        """Read nothing more from a connection before the others have had their turn."""
        if connection.pause():
            self._resting.append(connection)
            if len(self._resting) == 1:
                self._owner._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._owner._delivery.taken = 0
        for _ in range(min(_AT_ONCE, len(self._resting))):
            self._resting.popleft().resume()
        if self._resting:
            self._owner._loop.call_soon(self._go_on)

    # --- as time goes by ---

    def _look_around(self) -> None:
        late = self._late()
        if late:
            received = lambda: [connection._splitter.received for connection, _ in late]  # noqa: E731
            self._timer = after_poll(self._owner._loop, self._close_late, received, TO_READER)
        else:
            self._sleep()

    def _close_late(self) -> None:
        for connection, why in self._late():
            self._unfinished.drop(connection)
            connection.cut(why)
        self._sleep()

    def _sleep(self) -> None:
        self._timer = call_later(self._owner._loop, self._interval, self._look_around) if self._members else None

    def _late(self) -> list[tuple[Connection, str]]:
        """Return which connections are late, and with what; ask those of which nothing has been heard for long."""
        now, tuning = monotonic(), self._owner.tuning
        late: list[tuple[Connection, str]] = []
        for connection, (frames, since) in list(self._unfinished.holders.items()):
            if not connection.unfinished or connection._splitter.frames != frames:
                self._unfinished.drop(connection)
            elif now - since >= tuning.message_timeout:
                why = f'a message was not over within {tuning.message_timeout:g} s (Tuning.message_timeout)'
                late.append((connection, why))
        for member in list(self._members.values()):
            member.look(now)
            if member.splitter is None or member.received:
                continue
            if member.asked_at is None:
                if now - member.since >= tuning.idle_timeout / 2:
                    member.asked_at = now
                    self._owner._delivery.ask(member.guest.addr, tuning.idle_timeout / 2)
            elif now - member.asked_at >= tuning.idle_timeout / 2:
                why = f'nothing came within {tuning.idle_timeout:g} s (Tuning.idle_timeout)'
                late.append((cast('Connection', member.guest), why))
        return late
