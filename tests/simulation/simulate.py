"""One schedule, from its first step to its last."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from echorig._exchange import Exchange
from echorig._signing import Signer

from .actors import Rig
from .invariants import ViolationError, Watch
from .network import Network, Packet
from .plain import Iblutil, Matlab
from .schedule import IBLUTIL, MATLAB, NAMES, RIG, UNTAGGED, Schedule
from .signed import SIGNED, Attacker, SignedRig

_STEPS = 20_000  # more than any schedule takes that ends


class Simulation:
    """The programs of a schedule, the network between them, and who looks on.

    Parameters
    ----------
    schedule : Schedule
        What happens.
    make_exchange : callable
        Makes the exchanges of the rigs, or ones with a rule broken.
    log : list of str, optional
        Where to tell what happens.
    make_signer : callable
        Makes the signatures of the programs that sign, or ones with a rule broken.
    """

    def __init__(
        self,
        schedule: Schedule,
        make_exchange: Callable[..., Any] = Exchange,
        log: list[str] | None = None,
        make_signer: Callable[..., Any] = Signer,
    ) -> None:
        self.network = network = Network(schedule.faults, schedule.latency, log)
        self.watch = watch = Watch(network)
        network.arrive = self._arrive
        rng = Random(~schedule.seed)
        self.nodes = nodes = watch.nodes
        self._unplugged: dict[str, float] = {}
        self._refusing: set[str] = set()
        for name, kind in zip(NAMES, schedule.cast, strict=False):
            if kind == SIGNED:
                nodes[name] = SignedRig(name, network, watch, rng, make_exchange, make_signer)
            elif kind in (RIG, UNTAGGED):
                nodes[name] = Rig(name, network, watch, rng, kind == UNTAGGED, make_exchange)
            else:
                nodes[name] = {IBLUTIL: Iblutil, MATLAB: Matlab}[kind](name, network, watch)
        if SIGNED in schedule.cast:
            self.attacker = Attacker(network, list(nodes), Random(~schedule.seed ^ 1 << 40))
        for when, who, what, whom, how in schedule.deeds:
            network.at(when, self._do, who, what, whom, how)

    def run(self) -> None:
        """Go on until nothing happens any more.

        Raises
        ------
        ViolationError
            An invariant does not hold.
        """
        step, look = self.network.step, self.watch.step
        for _ in range(_STEPS):
            if not step():
                self.watch.end()
                return
            look()
        raise ViolationError('it never ends')

    def _do(self, who: str, what: str, whom: str, how: dict[str, Any]) -> None:
        node, network = self.nodes[who], self.network
        if network.log is not None:
            details = ', '.join(f'{key} {value!r}' for key, value in how.items())
            network.note(f'{who}: {what} (to {whom}) {details}')
        if what == 'restart':
            node.stop()
            self._up(who)
        elif what == 'down':
            if node.alive:
                node.stop()
                if how['refusing']:
                    self._refusing.add(who)
                network.at(network.now + how['seconds'], self._up, who)
        elif what == 'unplug':
            until = max(network.now + how['seconds'], self._unplugged.get(who, 0.0))
            self._unplugged[who] = until
            network.calm = max(network.calm, until + network.latency)
        elif node.alive:
            if what == 'flood':
                network.calm = max(network.calm, network.now)
            node.do(what, whom, how)

    def _up(self, who: str) -> None:
        self._refusing.discard(who)
        self.network.calm = max(self.network.calm, self.network.now + self.network.latency)
        self.nodes[who].start()

    def _arrive(self, packet: Packet) -> None:
        node, network = self.nodes[packet.dst], self.network
        if self._unplugged:
            now = network.now
            if max(self._unplugged.get(packet.dst, 0.0), self._unplugged.get(packet.src, 0.0)) > now:
                network.tell(packet, 'misses')
                return
        if node.alive:
            node.receive(packet)
        elif packet.dst in self._refusing and isinstance(self.nodes.get(packet.src), Rig):
            network.at(network.now + network.latency, self.nodes[packet.src].unreachable, packet.dst)


def violation(
    schedule: Schedule,
    make_exchange: Callable[..., Any] = Exchange,
    log: list[str] | None = None,
    make_signer: Callable[..., Any] = Signer,
) -> str | None:
    """Run a schedule; return which invariant does not hold, None if all do."""
    simulation = Simulation(schedule, make_exchange, log, make_signer)
    try:
        simulation.run()
    except ViolationError as ex:
        return str(ex)
    return None
