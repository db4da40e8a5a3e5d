"""What the notes say, in an order in which it can be asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Note = dict[str, Any]
NEVER = float('inf')


@dataclass
class Run:
    """One run of a program.

    Attributes
    ----------
    stops : list of (float, float, float)
        When it was told to stop, when it had stopped for sure, and when it went on.
    stalls : list of (float, float)
        When it found that it stood still, stops included.
    blocks : list of (float, float)
        When it was busy with something else.
    """

    began: float = -NEVER
    killed: float = NEVER
    last: float = -NEVER
    stops: list[tuple[float, float, float]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    blocks: list[tuple[float, float]] = field(default_factory=list)

    def stalled(self, since: float, until: float) -> float:
        """Return for how long of a time it stood still because of the machine, and not because it was stopped."""
        total = 0.0
        for begin, end in self.stalls:
            begin, end = max(begin, since), min(end, until)
            total += max(0.0, end - begin)
            total -= sum(max(0.0, min(end, on) - max(begin, off)) for _, off, on in self.stops)
        return max(0.0, total)

    def stood_after(self, arrival: float, until: float) -> float:
        """Return for how long at most it stood still between its reading of what arrived then, and `until`.

        What arrived while it was stopped has not been read before it went on, so that stop does not count.
        """
        stops = sum(on - begin for begin, off, on in self.stops if off >= arrival and begin <= until)
        return stops + self.stalled(arrival, until)

    def stood_before(self, moment: float, within: float) -> float:
        """Return for how long it stood still right before something left it."""
        stops = sum(on - begin for begin, _, on in self.stops if moment - within <= on and begin <= moment)
        return stops + self.stalled(moment - within - 1.0, moment)

    def was_at_work(self, since: float, until: float) -> bool:
        """Tell whether nothing kept it from its work during a time, and it lived on."""
        halts = [(begin, on) for begin, _, on in self.stops] + self.stalls + self.blocks
        return self.killed > until and not any(begin <= until and end >= since for begin, end in halts)


@dataclass
class Message:
    """One message to one program; a call of a set is one message to each of its rigs.

    Attributes
    ----------
    copies, echoes : list of (float, float)
        When the datagrams of it, and of its echo, came to the link and left it.
    delivered : list of notes
        Each delivery.
    """

    sent: Note
    end: Note | None = None
    copies: list[tuple[float, float]] = field(default_factory=list)
    echoes: list[tuple[float, float]] = field(default_factory=list)
    delivered: list[Note] = field(default_factory=list)

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
        """When its time was up."""
        return float(self.sent['t'] + self.sent.get('timeout', NEVER))

    @property
    def ended(self) -> float:
        """When its sender was told what became of it."""
        return NEVER if self.end is None else float(self.end['t'])

    def notes(self) -> list[Note]:
        """Return what there is about it."""
        copies = [{'copy': copy} for copy in self.copies] + [{'echo': echo} for echo in self.echoes]
        return [self.sent, *filter(None, [self.end]), *self.delivered, *copies]


def name_of(run: str) -> str:
    """Return the name of the program that this is a run of."""
    return run.partition('.')[0]


class Facts:
    """What the notes of all programs say together."""

    def __init__(self, notes: Iterable[Note]) -> None:
        self.runs: dict[str, Run] = defaultdict(Run)
        self.messages: dict[tuple[str, str], Message] = {}
        self.unsent: list[Note] = []
        self.escaped: list[Note] = []
        self.dropped: list[Note] = []
        self.ports: dict[int, str] = {}  # of a rig, and of what the main program has for it: the name of the rig
        rest = []
        for note in notes:
            if note['what'] == 'send':
                self.messages[note['id'], note['to']] = Message(note)
            else:
                rest.append(note)
        for note in rest:
            getattr(self, '_' + note['what'].replace(' ', '_'))(note)

    def runs_of(self, name: str) -> Iterator[Run]:
        """Return the runs of a program."""
        return (run for by, run in self.runs.items() if name_of(by) == name)

    # --- one kind of note each ---

    def _end(self, note: Note) -> None:
        self.messages[note['id'], note['to']].end = note

    def _delivered(self, note: Note) -> None:
        self.runs[note['by']].last = note['t']
        message = self.messages.get((note['id'], name_of(note['by'])))
        if message is None:
            self.unsent.append(note)
        else:
            message.delivered.append(note)

    def _copy(self, note: Note) -> None:
        sender = name_of(note['id'][1:])
        mine = 'there' if sender == 'main' else 'back'
        message = self.messages.get((note['id'], note['rig'] if sender == 'main' else 'main'))
        if message is not None:
            (message.copies if note['way'] == mine else message.echoes).append((note['came'], note['left']))

    def _start(self, note: Note) -> None:
        self.runs[note['run']].began = note['t']
        self.ports[note['port']] = name_of(note['run'])

    def _killed(self, note: Note) -> None:
        self.runs[note['run']].killed = note['t']

    def _stopped(self, note: Note) -> None:
        # One that dies while it is stopped never goes on.
        self.runs[note['run']].stops.append((note['since'], note['t'], NEVER))

    def _goes_on(self, note: Note) -> None:
        begin, off, _ = self.runs[note['run']].stops.pop()
        self.runs[note['run']].stops.append((begin, off, note['t']))

    def _stood(self, note: Note) -> None:
        self.runs[note['by']].stalls.append((note['since'], note['until']))

    def _blocked(self, note: Note) -> None:
        self.runs[note['by']].blocks.append((note['since'], note['until']))

    def _began(self, note: Note) -> None:
        pass

    def _port(self, note: Note) -> None:
        self.ports[note['port']] = note['rig']

    def _dropped(self, note: Note) -> None:
        self.dropped.append(note)

    def _escaped(self, note: Note) -> None:
        self.escaped.append(note)
