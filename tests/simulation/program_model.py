"""What a rig can know of the programs it has to do with, worked out anew from the packets that it has received."""

from __future__ import annotations

from . import tags
from .network import NEVER, PING, Message, Packet, Program

_REST = 16.0  # after which messages of others show that they have tags, in seconds


class ProgramModel:
    """What is known of one program of a rig, to judge it by.

    Attributes
    ----------
    begun : float
        When it first had to do with somebody.
    flooded : float
        When there were so many strangers that peers may have been forgotten; negative if never.
    excused, refused : dict of str to float
        When something last came from an address that may be taken for a wrong echo; when the system last said that
        nobody listens there.
    in_flight : dict of str to Message
        The newest confirmed message that was sent to each address.
    newest : tuple of int
        How often the numbers have come to their end, and the last one that was sent.
    highest : dict
        The highest number received of each run of a program.
    proven, unproven : dict of str to float
        When what is at an address last proved to have tags, and last seemed to have none.
    legacy : set of str
        Who has sent back our own tag, so that nobody needs to ask what it is.
    quoting : dict of str to float
        Since when it is known of an address that notices from there quote messages, as those of MATLAB do.
    misled : set of str
        From where an echo came for the program that was here before.
    at : dict of str to Program
        Who was last heard from each address; `left` are addresses of those that are elsewhere now.
    restarts : int
        How many programs have taken the place of others; `restarts_known` is whether that is certain.
    wanted : dict
        When it was last told that a message is still wanted, by its run and number.
    moved : bool
        Whether some program has changed its address.
    """

    def __init__(self) -> None:
        self.begun = NEVER
        self.flooded = -1.0
        self.excused: dict[str, float] = {}
        self.refused: dict[str, float] = {}
        self.in_flight: dict[str, Message] = {}
        self.newest = (-1, -1)
        self.highest: dict[tuple[Program, int], int] = {}
        self.proven: dict[str, float] = {}
        self.unproven: dict[str, float] = {}
        self.legacy: set[str] = set()
        self.quoting: dict[str, float] = {}
        self.misled: set[str] = set()
        self.at: dict[str, Program] = {}
        self.left: set[str] = set()
        self.restarts = 0
        self.restarts_known = True
        self.wanted: dict[tuple[int, int], float] = {}
        self.moved = False
        self._heard: set[Program] = set()  # with tags
        self._runs: set[tuple[Program, int]] = set()  # of each program
        self._latest: dict[Program, tuple[int, int]] = {}  # the highest identity of each program
        self._latest_at: dict[Program, float] = {}  # and when it came
        self._asked_at: dict[Program, float] = {}  # when the newest ping that it has answered was sent

    def on_flood(self, now: float) -> None:
        """There were so many strangers that peers may have been forgotten."""
        self.flooded = now
        self.restarts_known = False
        self.proven.clear()
        self.legacy.clear()
        self.left.clear()

    def record_untagged(self, src: str, now: float) -> None:
        """Something without a tag, which is no echo, came from an address."""
        self.proven.pop(src, None)
        self.left.discard(src)  # somebody seems to be there
        self.unproven[src] = now

    def record_expired(self, packet: Packet, tag: tags.Tag, now: float) -> None:
        """A message came that lay too long: whether its sender has spoken is a question."""
        self.restarts_known = False
        self._record_program(packet, tag, tag.run, now)

    def record(self, packet: Packet, tag: tags.Tag, now: float) -> None:
        """A frame with a tag came: a message, or an echo of what this program has sent."""
        src, asked = packet.src, packet.hops % 2 and packet.root.kind == PING
        if packet.hops % 2 and not tag.flag:
            self.legacy.add(src)
            return
        self.legacy.discard(src)
        if packet.hops == 0 or asked:
            named = tags.named(packet.frame) if asked else None
            self._record_program(packet, tag, tag.run if packet.hops == 0 else (named or (-1, 0))[0], now)
            if packet.root.asks is not None and named is not None and named[1]:
                self.wanted[packet.root.asks] = packet.arrived
        newest = tag.identity == self._latest.get(packet.by)
        known = tag.flag or (packet.root.kind != PING and newest and now - self.begun > _REST)
        started = packet.root.started
        if known and started > self.flooded and started > self.unproven.get(src, -1.0):  # a late one says what it was
            self.proven[src] = now

    def _record_program(self, packet: Packet, tag: tags.Tag, run: int, now: float) -> None:
        """Take in which program is where."""
        who, src = packet.by, packet.src
        there = self.at.get(src)
        if packet.hops and who not in self._heard and there is not None and there != who:
            newest = max(self._latest_at.get(there, 0.0), self._asked_at.get(there, 0.0))
            if packet.root.started <= newest:  # a late echo says who was there when its ping came
                self.restarts_known = self.restarts_known and packet.root.started < newest
                return
        late = (who, run) not in self._runs and (
            (who in self._heard and self.at.get(src) != who)
            or any(name == who[0] and memory > who[1] for name, memory in self._heard)
        )
        if late or (who, (run + 1) % 2**31) in self._runs:
            self.restarts_known = False  # very late, and of a run that was not heard in its time
        self._runs.add((who, run))
        if who not in self._heard:
            self._heard.add(who)
            self.restarts += src in self.at
            news = True
        elif packet.hops == 0:
            news = (run, tag.number) > self._latest.get(who, (-1, -1))
        else:
            newest = max(self._latest_at.get(who, 0.0), self._asked_at.get(who, 0.0))
            news = packet.root.started > newest
            if packet.root.started == newest:  # the numbers have an order, the times have none
                self.restarts_known = False
                self.left.discard(src)
        self._count(packet, tag, now)
        if packet.hops:
            self._asked_at[who] = max(packet.root.started, self._asked_at.get(who, 0.0))
        if news:  # that is where it is
            if there is not None and there[0] == who[0] and there[1] > who[1]:
                self.restarts_known = False  # a late message of a former program, from where the next one is
            if there != who:  # else it is nowhere else
                for other in [addr for addr, program in self.at.items() if program == who]:
                    del self.at[other]
                    self.left.add(other)
                self.at[src] = who
            self.left.discard(src)

    def _count(self, packet: Packet, tag: tags.Tag, now: float) -> None:
        if packet.hops == 0 and tag.identity > self._latest.get(packet.by, (-1, -1)):
            self._latest[packet.by] = tag.identity
            self._latest_at[packet.by] = now
