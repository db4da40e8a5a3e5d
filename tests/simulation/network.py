"""The virtual clock and the network: packets that are lost, doubled, late, overtaken or damaged, as told.

1. Faults are listed by the number of the packet, so that a schedule can be made smaller fault by fault.
2. A packet carries its origin: the message that it is or echoes, and how often it was echoed. No program sees this.
3. Programs have addresses, which may change; what goes to an address arrives at the program that has it then.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from . import tags

LOSE, DOUBLE, DELAY, DAMAGE = 'lose', 'double', 'delay', 'damage'
PING, NOTICE, MESSAGE, STRAY = 'ping', 'notice', 'message', 'stray'
NEVER = float('inf')
STORM_PACKETS = (
    200  # packets that one untagged copy too many may cause before the guard ends it: 2 * 65, and some at the ends
)
Program = tuple[str, int]  # the name, and how often it was started before


class Message:
    """What a program says, and what became of it. The programs know nothing of this.

    Attributes
    ----------
    src : str
        Who says it.
    dst : str
        The address that it is for.
    memory : int
        Which start of the sender it belongs to: a program started anew does not know it.
    kind : str
        ``PING``, ``NOTICE``, ``MESSAGE``, or ``STRAY`` for what nobody said: damaged bytes.
    identity : tuple of int or None
        The run and the number of its tag, once it has been sent.
    program : Program
        Who said it: `src` and `memory`.
    asks : tuple of int or None
        Of which message it asks whether it is still wanted, if it is such a ping.
    delivered : dict of Program to int
        How often it was delivered to each program.
    arrived : float
        When it was first read by the program that it was for; infinity if not yet.
    blurred : bool
        Whether nobody can tell it from another message: without a tag, two packets are two messages.
    faulted : bool
        Whether the network did anything wrong to a packet of it.
    """

    __slots__ = (
        'arrived',
        'asks',
        'blurred',
        'deadline',
        'delivered',
        'dst',
        'echoed',
        'ended',
        'faulted',
        'frame',
        'identity',
        'index',
        'kind',
        'memory',
        'outcome',
        'overwritten',
        'place',
        'program',
        'question',
        'send',
        'src',
        'started',
        'tagged',
        'times',
    )

    def __init__(self, src: str, dst: str, memory: int, kind: str, frame: bytes, tagged: bool) -> None:
        self.src, self.dst, self.memory, self.kind, self.frame = src, dst, memory, kind, frame
        self.tagged = tagged
        self.program: Program = (src, memory)
        self.index = self.place = -1
        self.started = self.deadline = 0.0
        self.arrived = self.echoed = self.ended = NEVER
        self.send: Any = None
        self.outcome: int | None = None
        self.identity: tuple[int, int] | None = None
        self.asks: tuple[int, int] | None = None
        self.question: Message | None = None
        self.overwritten: Any = None
        self.delivered: dict[Program, int] = {}
        self.times = 0
        self.blurred = kind == STRAY
        self.faulted = False


class Packet:
    """Bytes on their way.

    Attributes
    ----------
    src, dst : str
        The addresses.
    root : Message
        What they come from.
    hops : int
        0 for the message itself, 1 for its echo, 2 for the echo of that.
    by : Program
        Who has sent this packet.
    damaged : bool
        Whether the network changed them.
    sent, arrived : float
        When it was sent, and when it came to the socket of the program.
    """

    __slots__ = ('arrived', 'by', 'damaged', 'dst', 'frame', 'hops', 'number', 'root', 'sent', 'src')

    def __init__(
        self, src: str, dst: str, frame: bytes, root: Message, hops: int, by: Program, number: int, sent: float
    ) -> None:
        self.src, self.dst, self.frame, self.root, self.hops, self.by = src, dst, frame, root, hops, by
        self.number, self.sent, self.arrived = number, sent, NEVER
        self.damaged = False


class Network:
    """Time, and packets between addresses.

    Parameters
    ----------
    faults : dict of int to tuple
        What happens to the packet of each number: ``(LOSE,)``, ``(DOUBLE, seconds)`` after the first,
        ``(DELAY, seconds)``, ``(DAMAGE, place, byte)``.
    latency : float
        How long a packet takes, in seconds.
    log : list of str or None
        Where to tell what happens.

    Attributes
    ----------
    calm : float
        From when on nothing has gone wrong, in seconds.
    allowance : int
        How many packets there may have been by now.
    """

    def __init__(self, faults: dict[int, tuple[Any, ...]], latency: float, log: list[str] | None) -> None:
        self.now = 0.0
        self.calm = 0.0
        self.packets = 0
        self.allowance = 0
        self.latency = latency
        self.log = log
        self.losing: dict[str, int] = {}  # how many of the next packets of a program are lost
        self.arrive: Callable[[Packet], None]
        self._faults = faults
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def call_at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        """Have something done at a time; what is put in first is done first."""
        self._order += 1
        heappush(self._heap, (when, self._order, what, args))

    def step(self) -> bool:
        """Do what comes next; False if there is nothing left."""
        if not self._heap:
            return False
        self.now, _, what, args = heappop(self._heap)
        what(*args)
        return True

    def run(self, look: Callable[[], None], most: int) -> bool:
        """Process all events and check after each step; return False if some are left after so many."""
        heap = self._heap
        for _ in range(most):
            if not heap:
                return True
            self.now, _, what, args = heappop(heap)
            what(*args)
            look()
        return False

    def mark_disturbed(self, until: float) -> None:
        """Note that something goes wrong until a time."""
        if until > self.calm:
            self.calm = until

    def send(self, src: str, dst: str, frame: bytes, root: Message, hops: int, by: Program) -> None:
        """Put a packet on its way."""
        number = self.packets
        self.packets += 1
        packet = Packet(src, dst, frame, root, hops, by, number, self.now)
        due = self.now + self.latency
        fault = self._faults.get(number)
        if self.losing and self.losing.get(by[0], 0) > 0:
            self.losing[by[0]] -= 1
            fault = (LOSE,)
        if self.log is not None:
            self.log_packet(packet, 'sends', ' '.join(map(str, fault)) if fault else '')
        if fault is None:
            self.call_at(due, self.arrive, packet)
            return
        self.mark_disturbed(due)
        root.faulted = True
        if fault[0] == LOSE:
            return
        if fault[0] == DELAY:
            due += fault[1]
            if packet.hops > 1:
                self.allowance += STORM_PACKETS  # the guard counts over a second, and may begin anew meanwhile
        elif fault[0] == DOUBLE:
            root.blurred = True
            self.allowance += STORM_PACKETS
            copy = Packet(src, dst, frame, root, hops, by, number, self.now)
            self.call_at(due + fault[1], self.arrive, copy)
        elif fault[0] == DAMAGE and not (root.kind == STRAY and hops):  # a second damage might undo the first
            place = fault[1] % len(frame)
            packet.frame = frame[:place] + fault[2] + frame[place + 1 :]
            packet.damaged = packet.frame != frame
            self.allowance += STORM_PACKETS
        self.call_at(due, self.arrive, packet)

    def log_packet(self, packet: Packet, does: str, remark: str = '') -> None:
        """Write down what happens to a packet."""
        if self.log is not None:
            what = ('', 'echo of ', 'echo of the echo of ')[min(packet.hops, 2)] + packet.root.kind
            text = f'{packet.src} -> {packet.dst}, packet {packet.number}: {what} {shown(packet.frame)}  {remark}'
            self.log_line(f'{does}: {text}'.rstrip())

    def log_line(self, text: str) -> None:
        """Write down a line with the time."""
        if self.log is not None:
            self.log.append(f'{self.now * 1000:10.3f} ms  {text}')


def shown(frame: bytes) -> str:
    """Show a frame to people: what its tag says, and no more than 40 bytes of it."""
    tag = tags.read(frame)
    if tag is not None:
        signed = frame[-tags.TAG - 321 + tags.TAG : -1]
        if len(signed) == 320 and not signed.strip(b' \t') and not tags.is_right(frame, tag):
            rest = frame[-193:] if frame[-193:-129].strip(b' ') else frame[-129:]
            return f'{shown(frame[:-321] + rest)} signed'
        named = tags.named(frame)
        about = '' if named is None else f' for {named[0] & 0xFFFF:x}:{named[1]}'
        life = f', {tag.life} ms' if tag.life else ''
        wrong = '' if tags.is_right(frame, tag) else ' DAMAGED'
        flag = ' ACK' if tag.flag else ''
        return f'{shown(tags.bare(frame))} <{tag.run & 0xFFFF:x}:{tag.number}{flag}{about}{life}{wrong}>'
    text = frame.decode('latin-1')
    return text if len(text) <= 40 else f'{text[:36]}... ({len(text)} bytes)'
