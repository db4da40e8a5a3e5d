"""`JournalLink`: connects one communicator with its journal."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING

from ..events.notifier import ConnectionEvent, Notifier
from ..threads import in_thread
from ..uri import Address
from ._pipeline import MessagePipeline
from .labels import Labels
from .peer_clocks import PeerClock

if TYPE_CHECKING:
    from ..journal.writer import Journal

__all__ = ['JournalLink']

_VARIABLE = 'ECHORIG_JOURNAL'
_CLOCK_INTERVAL = 10.0  # seconds between two lines about a clock
_MAX_PEERS = 4096


class JournalLink:
    """The journal of one communicator: what its messages and connections are noted in, if anything."""

    def __init__(self, pipeline: MessagePipeline, notifier: Notifier[ConnectionEvent], labels: Labels) -> None:
        self._pipeline, self._notifier, self._labels = pipeline, notifier, labels
        self.journal: Journal | None = None
        self._closing: Journal | None = None
        self._clocks: dict[Address, tuple[float, float]] = {}
        self._clocks_noted: dict[Address, tuple[float, float]] = {}

    async def open(self, journal: Journal | str | os.PathLike[str] | None) -> None:
        """Use a journal, a path, or by default that of the environment; raises what `acquire` raises."""
        if journal is not None or os.environ.get(_VARIABLE):
            from ..journal.sharing import acquire  # most programs have no journal

            self._use(await in_thread(acquire, journal))

    def set(self, journal: Journal | str | os.PathLike[str] | None) -> None:
        """Use another journal from now on, or none."""
        found = None
        if journal is not None:
            from ..journal.sharing import acquire

            found = acquire(journal)
        self._release()
        self._use(found)
        if found is not None:
            self.note_opened()

    def _use(self, journal: Journal | None) -> None:
        self.journal = journal
        if journal is None:
            self._pipeline.journal = self._notifier.observer = None
            return
        role = 'client' if self._labels.is_client else 'server'
        recorder = self._pipeline.journal = journal.recorder(self._labels.name, role)
        recorder.clock_of = self._clocks.get
        self._notifier.observer = self._note_connection

    def note_opened(self) -> None:
        """Note that the communicator is open, with its address."""
        self._note_state('opened')

    def close(self) -> None:
        """Note that the communicator is closed, and leave the journal."""
        self._note_state('closed')
        self._release()

    def _note_state(self, state: str) -> None:
        if (recorder := self._pipeline.journal) is not None:
            recorder.note('connection', state=state, uri=self._labels.server_uri)

    def _note_connection(self, change: ConnectionEvent) -> None:
        if (recorder := self._pipeline.journal) is not None:
            reason = None if change.error is None else str(change.error)
            recorder.note('connection', None, change.addr, state=change.state, reason=reason)

    def note_clock(self, addr: Address, clock: PeerClock) -> None:
        """Note the clock of a peer, after each ping that makes it much better known, and from time to time."""
        if (recorder := self._pipeline.journal) is None:
            return
        if addr not in self._clocks and len(self._clocks) >= _MAX_PEERS:
            self._clocks.clear()
            self._clocks_noted.clear()
        self._clocks[addr] = clock.offset, clock.error
        noted_at, error = self._clocks_noted.get(addr, (-_CLOCK_INTERVAL, 0.0))
        now = monotonic()
        if now - noted_at >= _CLOCK_INTERVAL or clock.error < error / 2:
            self._clocks_noted[addr] = now, clock.error
            recorder.note('clock', None, addr, offset=clock.offset, error=clock.error, drift=clock.drift)

    def _release(self) -> None:
        journal, self.journal = self.journal, None
        self._pipeline.journal = self._notifier.observer = None
        if journal is not None:
            from ..journal.sharing import release

            self._closing = journal if release(journal) else None

    async def wait_closed(self) -> None:
        """Wait until everything is written, if the journal was closed with this communicator."""
        if self._closing is not None:
            await in_thread(self._closing.close)
