"""The virtual clock and the network: packets that are lost, doubled, late, overtaken or damaged, as told.

1. Faults are listed by the number of the packet, so that a schedule can be made smaller fault by fault.
2. A packet carries its origin: the message that it is or echoes, and how often it was echoed. No program sees this.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

LOSE, DOUBLE, DELAY, DAMAGE = 'lose', 'double', 'delay', 'damage'
PING, NOTICE, MESSAGE, STRAY = 'ping', 'notice', 'message', 'stray'
NEVER = float('inf')
STORM = 200  # packets that one untagged copy too many may cause before the guard ends it: 2 * 65, and some at the ends


class Message:
    """What a program says, and what became of it. The programs know nothing of this.

    Attributes
    ----------
    src, dst : str
        From whom to whom.
    memory : int
        Which memory of the sender it belongs to: a program started anew does not know it.
    kind : str
        ``PING``, ``NOTICE``, ``MESSAGE``, or ``STRAY`` for what nobody said: damaged bytes.
    delivered : dict of int to int
        How often it was delivered in each memory of the receiver.
    blurred : bool
        Whether the network itself made two of a packet of it.
    """

    __slots__ = (
        'blurred',
        'deadline',
        'delivered',
        'dst',
        'event',
        'frame',
        'index',
        'kind',
        'memory',
        'outcome',
        'place',
        'send',
        'src',
        'started',
        'tagged',
        'times',
    )

    def __init__(self, src: str, dst: str, memory: int, kind: str, frame: bytes, tagged: bool, event: int) -> None:
        self.src, self.dst, self.memory, self.kind, self.frame = src, dst, memory, kind, frame
        self.tagged, self.event = tagged, event
        self.index = self.place = -1
        self.started = self.deadline = 0.0
        self.send: Any = None
        self.outcome: int | None = None
        self.delivered: dict[int, int] = {}
        self.times = 0
        self.blurred = kind == STRAY


class Packet:
    """Bytes on their way.

    Attributes
    ----------
    root : Message
        What they come from.
    hops : int
        0 for the message itself, 1 for its echo, 2 for the echo of that.
    damaged : bool
        Whether the network changed them.
    """

    __slots__ = ('damaged', 'dst', 'frame', 'hops', 'number', 'root', 'src')

    def __init__(self, src: str, dst: str, frame: bytes, root: Message, hops: int, number: int) -> None:
        self.src, self.dst, self.frame, self.root, self.hops, self.number = src, dst, frame, root, hops, number
        self.damaged = False


class Network:
    """Time, and packets between programs.

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
        self.arrive: Callable[[Packet], None]
        self._faults = faults
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, when: float, what: Callable[..., None], *args: Any) -> None:
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

    def send(self, src: str, dst: str, frame: bytes, root: Message, hops: int) -> None:
        """Put a packet on its way."""
        number = self.packets
        self.packets += 1
        packet = Packet(src, dst, frame, root, hops, number)
        due = self.now + self.latency
        fault = self._faults.get(number)
        if self.log is not None:
            self.tell(packet, 'sends', ' '.join(map(str, fault)) if fault else '')
        if fault is None:
            self.at(due, self.arrive, packet)
            return
        self.calm = max(self.calm, due)
        if fault[0] == LOSE:
            return
        if fault[0] == DELAY:
            due += fault[1]
        elif fault[0] == DOUBLE:
            root.blurred = True
            self.allowance += STORM
            self.at(due + fault[1], self.arrive, packet)
        elif fault[0] == DAMAGE:
            place = fault[1] % len(frame)
            packet.frame = frame[:place] + fault[2] + frame[place + 1 :]
            packet.damaged = packet.frame != frame
            self.allowance += STORM
        self.calm = max(self.calm, due + (fault[1] if fault[0] == DOUBLE else 0.0))
        self.at(due, self.arrive, packet)

    def tell(self, packet: Packet, does: str, remark: str = '') -> None:
        """Write down what happens to a packet."""
        if self.log is not None:
            what = ('', 'echo of ', 'echo of the echo of ')[min(packet.hops, 2)] + packet.root.kind
            there = f'-> {packet.dst}' if does == 'sends' else f'<- {packet.src}'
            who = packet.src if does == 'sends' else packet.dst
            self.note(f'{who} {does} {there} packet {packet.number}: {what} {shown(packet.frame)}  {remark}'.rstrip())

    def note(self, text: str) -> None:
        """Write down a line with the time."""
        if self.log is not None:
            self.log.append(f'{self.now * 1000:10.3f} ms  {text}')


def shown(frame: bytes) -> str:
    """Show a frame to people: the flag and the number of its tag, and no more than 40 bytes of it."""
    tag = frame[-33:-1]
    if len(frame) >= 34 and not tag.strip(b' \t'):
        value = int(tag.replace(b' ', b'0').replace(b'\t', b'1'), 2)
        flag = ' ACK' if value >> 31 else ''
        return f'{shown(frame[:-33] + frame[-1:])} #{value & 0x7FFFFFFF:x}{flag}'
    text = frame.decode('latin-1')
    return text if len(text) <= 40 else f'{text[:36]}... ({len(text)} bytes)'
