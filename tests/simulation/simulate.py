"""One schedule, from its first step to its last."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from echorig.delivery._exchange import Exchange
from echorig.security._signing import Signer

from .actors import Node, Rig
from .invariants import InvariantChecker, ViolationError
from .legacy import Iblutil, Matlab
from .network import STORM_PACKETS, Network, Packet
from .schedule import IBLUTIL, MATLAB, NAMES, RIG, UNTAGGED, Schedule
from .signed import SIGNED, Attacker, SignedRig

_OUTER = ('restart', 'down', 'unplug', 'lose', 'stop', 'move')  # what happens to a program, and is not done by it
_STEPS = 200_000  # more than any schedule takes that ends


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
        self.checker = checker = InvariantChecker(network)
        checker.aliases = schedule.aliases
        network.arrive = self._arrive
        rng = Random(~schedule.seed)
        self.nodes: dict[str, Any] = checker.nodes
        self._unplugged: dict[Node, float] = {}
        self._refusing: set[Node] = set()
        self._moves = 0
        for name, kind in zip(NAMES, schedule.cast, strict=False):
            node: Node
            if kind == SIGNED:
                node = SignedRig(
                    name, network, checker, rng, schedule.first, make_exchange, make_signer, schedule.stamps
                )
            elif kind in (RIG, UNTAGGED):
                node = Rig(
                    name, network, checker, rng, kind == UNTAGGED, schedule.first, make_exchange, schedule.stamps
                )
                if schedule.aliases:
                    node.addresses.append(f'{name}*')
            else:
                node = {IBLUTIL: Iblutil, MATLAB: Matlab}[kind](name, network, checker, schedule.work)
            self.nodes[name] = node
            for address in node.addresses:
                checker.owners[address] = checker.owned[address] = node
        if SIGNED in schedule.cast:
            self.attacker = Attacker(network, checker, list(self.nodes), Random(~schedule.seed ^ 1 << 40))
        for when, who, what, whom, how in schedule.deeds:
            network.call_at(when, self._do, who, what, whom, how)

    def run(self) -> None:
        """Go on until nothing happens any more.

        Raises
        ------
        ViolationError
            An invariant does not hold.
        """
        if not self.network.run(self.checker.step, _STEPS):
            raise ViolationError('it never ends')
        self.checker.check_final_state()

    def _do(self, who: str, what: str, whom: str, how: dict[str, Any]) -> None:
        node, network = self.nodes[who], self.network
        if node.alive and network.now < node.still_until and what not in _OUTER:
            network.call_at(node.still_until, self._do, who, what, whom, how)
            return
        if network.log is not None:
            details = ', '.join(f'{key} {value!r}' for key, value in how.items())
            network.log_line(f'{who}: {what} (to {whom}) {details}')
        if what == 'restart':
            node.stop()
            self._up(node)
        elif what == 'down':
            if node.alive:
                node.stop()
                if how['refusing']:
                    self._refusing.add(node)
                network.mark_disturbed(network.now + how['seconds'])
                network.call_at(network.now + how['seconds'], self._up, node)
        elif what == 'unplug':
            until = max(network.now + how['seconds'], self._unplugged.get(node, 0.0))
            self._unplugged[node] = until
            network.mark_disturbed(until + network.latency)
        elif what == 'stop':
            if node.alive:
                node.freeze(how['seconds'])
                network.allowance += STORM_PACKETS  # the guard may forget meanwhile
                network.mark_disturbed(node.still_until + network.latency)
                if 'again' in how:
                    network.call_at(
                        node.still_until + how['again'], self._do, who, what, whom, {'seconds': how['seconds']}
                    )
        elif what == 'lose':
            network.losing[who] = how['packets']
        elif what == 'move':
            self._move(node, whom if how['taken'] else None)
        elif node.alive:
            if what == 'flood':
                network.allowance += STORM_PACKETS  # its peers are forgotten, and the guard begins anew
                network.mark_disturbed(network.now)
            other = self.nodes[whom]
            address = other.addresses[-how['to']]
            node.do(what, other.address if self.checker.owners.get(address) is node else address, how)

    def _up(self, node: Node) -> None:
        self._refusing.discard(node)
        self.network.allowance += STORM_PACKETS  # the guard begins anew
        self.network.mark_disturbed(self.network.now + self.network.latency)
        node.start()

    def _move(self, node: Node, other: str | None) -> None:
        """Give a rig a new address, and its old one perhaps to another rig."""
        owners = self.checker.owners
        self._moves += 1
        before, node.address = node.address, f'{node.name}{self._moves}'
        node.addresses.append(node.address)
        owners[node.address] = self.checker.owned[node.address] = node
        owners.pop(before, None)
        self.network.log_line(f'{node.name} has the address {node.address} now')
        taker = self.nodes.get(other)
        taken = taker is not None and not taker.legacy
        if taken:
            owners.pop(taker.address, None)
            taker.address = before
            taker.addresses.append(before)
            owners[before] = self.checker.owned[before] = taker
            self.network.log_line(f'{taker.name} has the address {before} now')
        self.checker.on_move(taken)
        self.network.mark_disturbed(self.network.now + self.network.latency)

    def _arrive(self, packet: Packet) -> None:
        network = self.network
        node = self.checker.owners.get(packet.dst)
        if node is None or node.name == packet.by[0]:  # who takes another's address does not hear itself
            network.log_packet(packet, 'nobody gets')
            packet.root.faulted = True
            return
        if self._unplugged and self._is_unplugged(packet, node):
            network.log_packet(packet, 'unplugged')
            packet.root.faulted = True
        elif node.alive:
            node.arrive(packet)
        else:
            packet.root.faulted = True
            if node in self._refusing:
                src = self.checker.owners.get(packet.src)
                if isinstance(src, Rig):
                    network.call_at(network.now + network.latency, src.unreachable, packet.dst)

    def _is_unplugged(self, packet: Packet, node: Node) -> bool:
        now, other = self.network.now, self.nodes[packet.by[0]]
        return max(self._unplugged.get(node, 0.0), self._unplugged.get(other, 0.0)) > now


def violation(
    schedule: Schedule,
    make_exchange: Callable[..., Any] = Exchange,
    log: list[str] | None = None,
    make_signer: Callable[..., Any] = Signer,
) -> str | None:
    """Run a schedule; return which invariant does not hold, None if all do."""
    try:
        Simulation(schedule, make_exchange, log, make_signer).run()
    except ViolationError as ex:
        return str(ex)
    return None
