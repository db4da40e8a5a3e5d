"""Programs that sign, and an attacker who hears everything and sends it again, elsewhere, or put together anew.

1. The programs are rigs as in `actors`, each with a `Signer` as the shell in `echorig` has.
2. What a program believes must have been signed for it since it began.
3. All other invariants hold as they do without an attacker: once confirmed, delivered once, in order, soon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Outcome
from echorig.security._signing import Signer

from . import tags
from .actors import MAX_PEERS, Rig
from .invariants import InvariantChecker, require
from .network import STRAY, Message, Network, Packet
from .schedule import Schedule, make

SIGNED = 'signed rig'
HANDSHAKE = 'handshake'
SIGNATURE = 128  # bytes of white space
_KEY = b'the key of the laboratory'
_ATTACK_LATENESS = (0.0, 0.0004, 0.003, 0.02, 0.15, 0.6, 62.0, 5000.0)


def make_signed(seed: int) -> Schedule:
    """Make the schedule of a seed, for programs that sign."""
    schedule = make(seed)
    deeds = tuple(
        (when, who, 'send' if what == 'raw' else what, whom, how | {'taken': False} if what == 'move' else how)
        for when, who, what, whom, how in schedule.deeds
    )
    return replace(schedule, cast=(SIGNED,) * len(schedule.cast), deeds=deeds, first=1, aliases=False)


class SignedRig(Rig):
    """A program with echorig and a key."""

    def __init__(
        self,
        name: str,
        network: Network,
        checker: InvariantChecker,
        rng: Random,
        first: int = 1,
        make_exchange: Callable[..., Any] = Exchange,
        make_signer: Callable[..., Any] = Signer,
        stamps: bool = True,
    ) -> None:
        self._make_signer = make_signer
        super().__init__(
            name,
            network,
            checker,
            rng,
            False,
            first,
            lambda *args, **kw: make_exchange(*args, signed=True, **kw),
            stamps,
        )

    def start(self) -> None:
        super().start()
        self.signer = self._make_signer(_KEY, max_peers=MAX_PEERS, random=self._rng.randbytes)

    def _put(self, frame: bytes, dst: str, root: Message, hops: int, src: str | None = None) -> None:
        sealed = self.signer.seal(frame, dst, self.network.now)
        self._flush_signer()
        if sealed is not None:
            self._send_sealed(sealed, dst, root, hops)

    def _flush_signer(self) -> None:
        for sealed, dst in self.signer.outbox:
            tag = tags.read(sealed)
            root = None if tag is None else self.by_identity.get(tag.identity)
            if root is None:
                self.network.allowance += 2
                root = Message(self.name, dst, self.memory, HANDSHAKE, sealed, True)
            self._send_sealed(sealed, dst, root, 0)
        self.signer.outbox.clear()

    def _send_sealed(self, sealed: bytes, dst: str, root: Message, hops: int) -> None:
        owner = self.checker.owned.get(dst)
        if owner is not None:  # else an attacker has invented it
            self.checker.signed_for.setdefault(sealed, set()).add(owner.program)
            self.network.send(self.address, dst, sealed, root, hops, self.program)

    def receive(self, packet: Packet) -> None:
        plain = self.signer.open(packet.frame, packet.src, self.network.now)
        self._flush_signer()
        if plain is None:
            if self.network.log is not None:
                what = ('', 'a HANDSHAKE', 'what is UNSIGNED', 'what is REPLAYED')[self.signer.verdict]
                self.network.log_packet(packet, 'gets', what)
            self.flush()
            return
        signed = self.program in self.checker.signed_for.get(packet.frame, ())
        require(signed, f'{self.name} believes what was not signed for it')
        opened = Packet(packet.src, packet.dst, plain, packet.root, packet.hops, packet.by, packet.number, packet.sent)
        opened.arrived = packet.arrived
        super().receive(opened)

    def _over(self, send: Any) -> None:
        (self.signer.drop if send.outcome == Outcome.CONFIRMED else self.signer.send_failed)(send.frame, send.addr)


class Attacker:
    """Somebody on the same network, who hears everything.

    Parameters
    ----------
    network, checker
        The network, and who looks on.
    names : list of str
        Who is there.
    rng : random.Random
        What he decides by.
    """

    def __init__(self, network: Network, checker: InvariantChecker, names: list[str], rng: Random) -> None:
        self.network, self.checker, self.names, self.rng = network, checker, names, rng
        self._recorded: list[Packet] = []
        self._arrive = network.arrive
        network.arrive = self._overhear
        self.attacks = 0

    def _overhear(self, packet: Packet) -> None:
        self._recorded.append(packet)
        if self.rng.random() < 0.3 and self.attacks < 200:
            self._attack(self.rng.choice(self._recorded))
        self._arrive(packet)

    def _attack(self, packet: Packet) -> None:
        rng, network = self.rng, self.network
        self.attacks += 1
        src, dst, frame = packet.src, packet.dst, packet.frame
        way = rng.choice(('again', 'again', 'back', 'elsewhere', 'as another', 'flag', 'mixed'))
        if way == 'back':
            src, dst = dst, src
        elif way == 'elsewhere':
            dst = rng.choice(self.names)
        elif way == 'as another':
            src = rng.choice([*self.names, 'nobody'])
            self.checker.taken = True  # it may be believed that the program is there now
        elif way == 'flag':
            at = -tags.TAG - 1
            frame = frame[:at] + (b' ' if frame[at : at + 1] == b'\t' else b'\t') + frame[at + 1 :]
        elif way == 'mixed':
            at = -SIGNATURE - tags.FIELD - tags.TAG - 1
            other = rng.choice(self._recorded)
            frame = frame[:at] + other.frame[at:]
            if frame == other.frame:  # two copies of one message
                packet = other
        forged = Packet(src, dst, frame, packet.root, packet.hops, packet.by, packet.number, packet.sent)
        if frame != packet.frame:
            forged.root = Message(src, dst, -1, STRAY, frame, True)
            forged.damaged = True
        network.allowance += 6
        network.call_at(network.now + rng.choice(_ATTACK_LATENESS), self._inject, forged)

    def _inject(self, packet: Packet) -> None:
        self.network.log_packet(packet, 'attack')
        if packet.src != packet.dst:
            self._arrive(packet)
