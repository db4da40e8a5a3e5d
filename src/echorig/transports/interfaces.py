"""What the transports know of their user and of each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..uri import Address
from ..wire._framing import FrameSplitter

__all__ = ['Closable', 'ConnectionUser', 'LimitedConnection']


class Closable(Protocol):
    """A connection, or one whose handshake is not over."""

    addr: Address

    def cut(self, why: str) -> None:
        """Break it off, for a reason."""

    def abort(self) -> None:
        """Break it off."""


class LimitedConnection(Closable, Protocol):
    """What the limits need to know of a connection."""

    splitter: Any

    @property
    def unsent(self) -> int:
        """int: How many bytes wait to be sent."""

    def pause(self) -> bool:
        """Read nothing for now; return whether it was being read."""

    def resume(self) -> None:
        """Read again."""


@dataclass(frozen=True, slots=True)
class ConnectionUser:
    """The communicator, as its TCP connections see it."""

    stream_received: Callable[[FrameSplitter, bytes, Address], bool]
    """callable: Takes a piece of a stream; tells whether the connection needs attention."""
    peer_connected: Callable[[Any], None]
    """callable: Takes a new connection."""
    peer_lost: Callable[[Any, BaseException | None], None]
    """callable: Drops a connection that is gone, for a reason."""
    peer_ended: Callable[[], None]
    """callable: Notes that a peer has ended its side of a connection."""
    describe: Callable[[Address], str]
    """callable: Names a peer for people."""
    admits: Callable[[str], bool]
    """callable: Tells whether a host may connect; one that may not is counted."""
    is_closed: Callable[[], bool]
    """callable: Tells whether the communicator is closed."""
    has_connection: Callable[[], bool]
    """callable: Tells whether the connection of a client is there."""
    attempt_failed: Callable[[BaseException], None]
    """callable: Notes why a client cannot reach its server, where somebody must put that right."""
