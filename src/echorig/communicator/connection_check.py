"""`ConnectionCheck`: finds out whether a TCP connection is lost after a message or a ping that was not confirmed.

1. An echorig peer is pinged; whatever is received from it shows that it is there. A legacy peer is sent nothing.
2. The connection is lost when the system of the peer does not confirm data any more, within a second. Where the system
   does confirm data, the program may only be busy. It is given half a minute (`InternalTuning.silence_timeout`).
3. What a lost connection still had to send is dropped, since its senders have been told that it failed.
"""

from __future__ import annotations

from functools import partial
from time import monotonic

from ..stall import DelayedCall, call_later
from ..transports.connection import Connection
from ..tuning import InternalTuning
from ..uri import Address
from ._pipeline import MessagePipeline
from .sender import Sender

__all__ = ['ConnectionCheck']

_FIRST_LOOK = 0.6  # seconds after the first ping
_INTERVAL = 0.1  # seconds between two looks
_PING_INTERVAL = 1.0  # seconds


class _Check:
    """The check of one connection."""

    def __init__(self, connection: Connection, n_received: int, started: float) -> None:
        self.connection, self.n_received, self.started = connection, n_received, started
        self.pinged_at = started
        self.timer: DelayedCall | None = None


class ConnectionCheck:
    """Checks the TCP connections of one communicator."""

    def __init__(self, pipeline: MessagePipeline, sender: Sender, tuning: InternalTuning) -> None:
        self._pipeline, self._sender, self._tuning = pipeline, sender, tuning
        self._checks: dict[Connection, _Check] = {}

    def start(self, addr: Address) -> None:
        """Check a connection, unless that is being done."""
        connection = self._pipeline.connections.get(addr)
        if connection is not None and connection not in self._checks and self._is_open(connection):
            self._checks[connection] = check = _Check(connection, connection.splitter.received, monotonic())
            self._ping(check)
            self._wait(check, _FIRST_LOOK)

    def close(self) -> None:
        """Stop all checks."""
        for check in self._checks.values():
            if check.timer is not None:
                check.timer.cancel()
        self._checks.clear()

    def _is_open(self, connection: Connection) -> bool:
        transport = connection.transport
        is_used = self._pipeline.connections.get(connection.addr) is connection and not self._pipeline.closed
        return is_used and transport is not None and not transport.is_closing()

    def _is_echorig(self, addr: Address) -> bool:
        statistics = self._pipeline.exchange.statistics(addr)
        return statistics is not None and statistics[0] == 'echorig'

    def _ping(self, check: _Check) -> None:
        """Ping the peer, if that cannot do harm."""
        check.pinged_at = monotonic()
        if self._is_echorig(check.connection.addr):
            self._sender.ping_nowait(check.connection.addr, _PING_INTERVAL)

    def _wait(self, check: _Check, delay: float) -> None:
        check.timer = call_later(self._pipeline.loop, delay, partial(self._look, check))

    def _look(self, check: _Check) -> None:
        connection, now = check.connection, monotonic()
        is_echorig, path = self._is_echorig(connection.addr), connection.path_state
        if self._is_open(connection) and connection.splitter.received == check.n_received:
            if path is not None and path.is_lost:
                connection.lose(f'its computer has confirmed nothing for {path.silence:.1f} s')
            elif is_echorig and now - check.started >= self._tuning.silence_timeout:
                connection.lose(f'its program has answered no ping for {now - check.started:.1f} s')
            elif is_echorig or (path is not None and path.waits):
                if now - check.pinged_at >= _PING_INTERVAL:
                    self._ping(check)
                self._wait(check, _INTERVAL)
                return
        del self._checks[connection]
