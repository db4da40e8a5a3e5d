"""The event logs of all programs, combined into runs and messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
NEVER = float('inf')


@dataclass
class Run:
    """One run of a program.

    Attributes
    ----------
    stops : list of (float, float, float)
        The times of SIGSTOP, of the confirmed stop, and of SIGCONT.
    stalls : list of (float, float)
        The stalls that it detected, stops included.
    blocks : list of (float, float)
        The times of blocking calls.
    """

    began: float = -NEVER
    killed: float = NEVER
    last: float = -NEVER
    stops: list[tuple[float, float, float]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    blocks: list[tuple[float, float]] = field(default_factory=list)

    def stalled(self, since: float, until: float) -> float:
        """Return the seconds of a time for which the machine, and not a stop, stalled it."""
        total = 0.0
        for begin, end in self.stalls:
            begin, end = max(begin, since), min(end, until)
            total += max(0.0, end - begin)
            total -= sum(max(0.0, min(end, on) - max(begin, off)) for _, off, on in self.stops)
        return max(0.0, total)

    def stood_after(self, arrival: float, until: float) -> float:
        """Return an upper limit of the stalls between reading the data that arrived then, and `until`.

        Data that arrived during a stop is read after the stop, so that stop does not count.
        """
        stops = sum(on - begin for begin, off, on in self.stops if off >= arrival and begin <= until)
        return stops + self.stalled(arrival, until)

    def stood_before(self, moment: float, within: float) -> float:
        """Return the duration of the stalls directly before a datagram was sent."""
        stops = sum(on - begin for begin, _, on in self.stops if moment - within <= on and begin <= moment)
        return stops + self.stalled(moment - within - 1.0, moment)

    def was_at_work(self, since: float, until: float) -> bool:
        """Return whether it ran without a stall during a time and was not killed."""
        halts = [(begin, on) for begin, _, on in self.stops] + self.stalls + self.blocks
        return self.killed > until and not any(begin <= until and end >= since for begin, end in halts)


@dataclass
class Message:
    """One message to one program; a call of a set is one message to each of its rigs.

    Attributes
    ----------
    copies, echoes : list of (float, float)
        The times at which its datagrams, and those of its echo, reached and left the link.
    delivered : list of records
        The deliveries.
    """

    sent: Record
    end: Record | None = None
    copies: list[tuple[float, float]] = field(default_factory=list)
    echoes: list[tuple[float, float]] = field(default_factory=list)
    delivered: list[Record] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.sent['kind'])

    @property
    def outcome(self) -> str:
        return 'unknown' if self.end is None else str(self.end['outcome'])

    @property
    def sender(self) -> str:
        return str(self.sent['by'])

    @property
    def receiver(self) -> str:
        return str(self.sent['to'])

    @property
    def rig(self) -> str:
        """The rig at one end of it."""
        return name_of(self.sender if self.receiver == 'main' else self.receiver)

    @property
    def is_udp(self) -> bool:
        return self.rig.startswith('udp')

    @property
    def deadline(self) -> float:
        """The time at which its time-out expires."""
        return float(self.sent['t'] + self.sent.get('timeout', NEVER))

    @property
    def ended(self) -> float:
        """The time at which the sender got the outcome."""
        return NEVER if self.end is None else float(self.end['t'])

    def records(self) -> list[Record]:
        """Return all records about it."""
        copies = [{'copy': copy} for copy in self.copies] + [{'echo': echo} for echo in self.echoes]
        return [self.sent, *filter(None, [self.end]), *self.delivered, *copies]


def name_of(run: str) -> str:
    """Return the name of the program of a run."""
    return run.partition('.')[0]


class History:
    """All runs and messages of a test."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.runs: dict[str, Run] = defaultdict(Run)
        self.messages: dict[tuple[str, str], Message] = {}
        self.unsent: list[Record] = []
        self.escaped: list[Record] = []
        self.dropped: list[Record] = []
        self.ports: dict[int, str] = {}  # of a rig, and of its client in the main program: the name of the rig
        rest = []
        for record in records:
            if record['what'] == 'send':
                self.messages[record['id'], record['to']] = Message(record)
            else:
                rest.append(record)
        for record in rest:
            getattr(self, '_' + record['what'].replace(' ', '_'))(record)

    def runs_of(self, name: str) -> Iterator[Run]:
        """Return the runs of a program."""
        return (run for by, run in self.runs.items() if name_of(by) == name)

    # --- one kind of record each ---

    def _end(self, record: Record) -> None:
        self.messages[record['id'], record['to']].end = record

    def _delivered(self, record: Record) -> None:
        self.runs[record['by']].last = record['t']
        message = self.messages.get((record['id'], name_of(record['by'])))
        if message is None:
            self.unsent.append(record)
        else:
            message.delivered.append(record)

    def _copy(self, record: Record) -> None:
        sender = name_of(record['id'][1:])
        mine = 'there' if sender == 'main' else 'back'
        message = self.messages.get((record['id'], record['rig'] if sender == 'main' else 'main'))
        if message is not None:
            (message.copies if record['way'] == mine else message.echoes).append((record['came'], record['left']))

    def _start(self, record: Record) -> None:
        self.runs[record['run']].began = record['t']
        self.ports[record['port']] = name_of(record['run'])

    def _killed(self, record: Record) -> None:
        self.runs[record['run']].killed = record['t']

    def _stopped(self, record: Record) -> None:
        # A program that is killed during a stop never continues.
        self.runs[record['run']].stops.append((record['since'], record['t'], NEVER))

    def _goes_on(self, record: Record) -> None:
        begin, off, _ = self.runs[record['run']].stops.pop()
        self.runs[record['run']].stops.append((begin, off, record['t']))

    def _stood(self, record: Record) -> None:
        self.runs[record['by']].stalls.append((record['since'], record['until']))

    def _blocked(self, record: Record) -> None:
        self.runs[record['by']].blocks.append((record['since'], record['until']))

    def _began(self, record: Record) -> None:
        pass

    def _port(self, record: Record) -> None:
        self.ports[record['port']] = record['rig']

    def _dropped(self, record: Record) -> None:
        self.dropped.append(record)

    def _escaped(self, record: Record) -> None:
        self.escaped.append(record)
