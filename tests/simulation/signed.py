"""Programs that sign, and an attacker who hears everything and sends it again, elsewhere, or put together anew.

1. The programs are rigs as in `actors`, each with a `Signer` as the shell in `echorig` has.
2. What a program believes must have been signed for it, by who is named as its sender, since it began.
3. All other invariants hold as they do without an attacker: once confirmed, delivered once, in order, soon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from echorig._exchange import CONFIRMED, DELIVER, ECHO, IGNORED, NOTICE, Exchange
from echorig._signing import Signer

from .actors import MAX_PEERS, Rig, code
from .invariants import Watch, need
from .network import STRAY, Message, Network, Packet
from .schedule import Schedule, make

SIGNED = 'signed rig'
HANDSHAKE = 'handshake'
_KEY = b'the key of the laboratory'
_EXTRA = 160  # what a signature adds to a message that answers nothing
_ATTACK_LATENESS = (0.0, 0.0004, 0.003, 0.02, 0.15, 0.6, 62.0)


def make_signed(seed: int) -> Schedule:
    """Make the schedule of a seed, for programs that sign."""
    schedule = make(seed)
    deeds = tuple(
        (when, who, 'send' if what == 'raw' else what, whom, how) for when, who, what, whom, how in schedule.deeds
    )
    return replace(schedule, cast=(SIGNED,) * len(schedule.cast), deeds=deeds)


class SignedRig(Rig):
    """A program with echorig and a key."""

    def __init__(
        self,
        name: str,
        network: Network,
        watch: Watch,
        rng: Random,
        make_exchange: Callable[..., Any] = Exchange,
        make_signer: Callable[..., Any] = Signer,
    ) -> None:
        self._make_signer = make_signer
        super().__init__(name, network, watch, rng, make_exchange=lambda *args: make_exchange(*args, signed=True))

    def start(self) -> None:
        super().start()
        self.signer = self._make_signer(_KEY, max_peers=MAX_PEERS, random=self._rng.randbytes)

    def _put(self, frame: bytes, dst: str, root: Message, hops: int) -> None:
        sealed = self.signer.seal(frame, dst, self.network.now)
        self._flush_signer()
        if sealed is not None:
            self._send_sealed(sealed, dst, root, hops)

    def _flush_signer(self) -> None:
        for sealed, dst in self.signer.outbox:
            plain = sealed[:-193] + sealed[-33:] if sealed[-65:-33] == b' ' * 32 else sealed[:-193] + sealed[-65:]
            root = self.by_frame.get(plain)
            if root is None:
                self.network.allowance += 2
                root = Message(self.name, dst, self.memory, HANDSHAKE, sealed, True, -1)
            self._send_sealed(sealed, dst, root, 0)
        self.signer.outbox.clear()

    def _send_sealed(self, sealed: bytes, dst: str, root: Message, hops: int) -> None:
        if dst not in self.watch.nodes:  # an attacker's invention
            return
        self.watch.signed_for.setdefault(sealed, (self.name, dst, self.watch.nodes[dst].born))
        self.network.send(self.name, dst, sealed, root, hops)

    def receive(self, packet: Packet) -> None:
        plain = self.signer.open(packet.frame, packet.src, self.network.now)
        self._flush_signer()
        if plain is None:
            if self.network.log is not None:
                self.network.tell(
                    packet, 'gets', ('', 'a HANDSHAKE', 'what is UNSIGNED', 'what is REPLAYED')[self.signer.verdict]
                )
            self.flush()
            return
        need(
            self.watch.signed_for.get(packet.frame, ())[1:] == (self.name, self.born),
            f'{self.name} believes what was not signed for it',
        )
        opened = Packet(packet.src, packet.dst, plain, packet.root, packet.hops, packet.number)
        super().receive(opened)

    def _sort(self, packet: Packet) -> int:
        verdict = super()._sort(packet)
        if verdict in (DELIVER, ECHO, NOTICE) and not self.signer.accepted(packet.frame, packet.src):
            return IGNORED if verdict == NOTICE else ECHO
        return verdict

    def _over(self, send: Any) -> None:
        (self.signer.drop if send.outcome == CONFIRMED else self.signer.failed)(send.frame, send.addr)


class Attacker:
    """Somebody on the same network, who hears everything.

    Parameters
    ----------
    network : Network
        The network.
    names : list of str
        Who is there.
    rng : random.Random
        What he decides by.
    """

    def __init__(self, network: Network, names: list[str], rng: Random) -> None:
        self.network, self.names, self.rng = network, names, rng
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
        root, hops = packet.root, packet.hops
        way = rng.choice(('again', 'again', 'back', 'elsewhere', 'as another', 'flag', 'mixed'))
        if way == 'back':
            src, dst = dst, src
        elif way == 'elsewhere':
            dst = rng.choice(self.names)
        elif way == 'as another':
            src = rng.choice([*self.names, 'nobody'])
        elif way == 'flag':
            frame = frame[:-33] + (b' ' if frame[-33:-32] == b'\t' else b'\t') + frame[-32:]
        elif way == 'mixed':
            other = rng.choice(self._recorded).frame
            frame = frame[:-193] + other[-193:]
        forged = Packet(src, dst, frame, root, hops, -1)
        if (src, dst, frame) != (packet.src, packet.dst, packet.frame):
            forged.root = Message(src, dst, -1, STRAY, frame, True, code(frame))
            forged.damaged = True
        network.allowance += 6
        late = rng.choice(_ATTACK_LATENESS)
        network.calm = max(network.calm, network.now + late)
        network.at(network.now + late, self._inject, forged)

    def _inject(self, packet: Packet) -> None:
        self.network.tell(packet, 'sends', 'ATTACK')
        if packet.src != packet.dst:
            self._arrive(packet)
