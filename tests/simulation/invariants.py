"""What must hold after every step, whatever the network does.

The network knows where each packet comes from; from that follows what a frame is, and this is compared with what
the rig took it for, knowing only bytes. See wire.md, sections 4 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from echorig._exchange import (
    CONFIRMED,
    DELIVER,
    ECHO,
    IGNORED,
    MISMATCH,
    NOTICE,
    STORM,
    SWALLOWED,
    TIMED_OUT,
    UNREACHABLE,
)

from .network import MESSAGE, PING, STRAY, Message, Network, Packet
from .network import NOTICE as NOTICE_KIND
from .network import STORM as STORM_PACKETS

if TYPE_CHECKING:
    from .actors import Node, Rig

NAMES = dict(
    enumerate(
        'IGNORED CONFIRMED DELIVER NOTICE SWALLOWED MISMATCH STORM ECHO WAITING TIMED_OUT UNREACHABLE LOST '
        'REFUSED'.split()
    )
)
_LATE = 0.0021  # by how much the shell's timer may be late, in seconds
_RECOVERY = 0.35  # in which all that waits is confirmed once the network is calm, but for its latency, in seconds


class ViolationError(Exception):
    """An invariant does not hold."""


def need(holds: bool, what: str) -> None:
    """Raise if an invariant does not hold."""
    if not holds:
        raise ViolationError(what)


class Watch:
    """Looks on.

    Parameters
    ----------
    network : Network
        Where it all happens.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: dict[str, Any] = {}
        self.signed_for: dict[bytes, tuple[str, str, int]] = {}  # who signed a frame, for which program of whom
        self._places = 0
        self._last: dict[tuple[str, int, str], tuple[int, int]] = {}
        self._waiting = False
        self._clash = False

    # --- what is sent ---

    def sends(self, rig: Rig, message: Message, dst: str) -> None:
        """A rig sends a message, a ping or a notice, perhaps again."""
        network = self.network
        need(network.packets <= network.allowance, 'a storm: more packets than all that was said can account for')
        if message.times > 1:
            need(message.kind == MESSAGE and message.tagged, f'{rig.name} repeats what must not be sent twice')
            need(not self.nodes[dst].plain or dst in rig.misled, f'{rig.name} sends a plain peer a message again')

    # --- what is received ---

    def about_to_judge(self, rig: Rig, packet: Packet) -> None:
        """Note what the verdict depends on."""
        root = packet.root
        self._waiting = root.outcome is None and root.send is not None and root.memory == rig.memory
        self._clash = False
        cut = len(packet.frame) < len(root.frame)
        plain_message = packet.damaged or root.kind == STRAY or cut or not root.tagged or rig.plain
        if plain_message or packet.hops > 1:
            rig.excused[packet.src] = self.network.now
            self._clash = any(message.dst == packet.src for message in rig.open)

    def judge(self, rig: Rig, packet: Packet, verdict: int, reply: bytes) -> None:
        """Compare what a rig takes a frame for with what it is."""
        network, root, hops, frame = self.network, packet.root, packet.hops, packet.frame
        if network.log is not None:
            network.tell(packet, 'gets', NAMES[verdict])
        if packet.damaged or root.kind == STRAY:
            need(verdict != CONFIRMED, f'{rig.name} takes a damaged frame for an echo')
            return
        tagged = root.tagged and not rig.plain
        if hops % 2:
            self._judge_echo(rig, packet, verdict, tagged)
            return
        if hops:
            need(root.blurred, 'the echo of an echo')
            return
        first = not root.delivered.get(rig.memory)
        forgotten = first and any(memory >= rig.born for memory in root.delivered)
        if root.kind == PING:
            allowed = (ECHO,) if tagged else (DELIVER, STORM, MISMATCH)
        elif root.kind == NOTICE_KIND:
            allowed = (NOTICE, IGNORED) if forgotten else (NOTICE,) if first or not tagged else (IGNORED,)
        elif tagged:
            allowed = (DELIVER, ECHO) if forgotten else (DELIVER,) if first else (ECHO,)
        elif self._clash:
            allowed = (DELIVER, MISMATCH)
        elif root.blurred:
            allowed = (DELIVER, STORM)
        else:
            allowed = (DELIVER,)
        need(
            verdict in allowed,
            f'{rig.name} takes a {root.kind}{"" if first else " that it has"} for {NAMES[verdict]}',
        )
        if verdict in (DELIVER, ECHO):
            echo = frame[:-33] + b'\t' + frame[-32:] if tagged else frame
            need(reply == echo, f'{rig.name} echoes something else')

    def _judge_echo(self, rig: Rig, packet: Packet, verdict: int, tagged: bool) -> None:
        root = packet.root
        flagged = tagged and packet.frame[-33:-32] == b'\t'
        if root.kind == PING and (flagged or root.memory == rig.memory):
            need(verdict in (CONFIRMED, SWALLOWED), f'{rig.name} takes the echo of a ping for {NAMES[verdict]}')
        elif root.memory != rig.memory:  # it cannot know, but for the flag
            if not flagged:
                rig.misled.add(packet.src)
                self.blur(root)
            need(not flagged or verdict == SWALLOWED, f'{rig.name} takes an old echo for {NAMES[verdict]}')
        elif self._waiting:
            need(
                verdict == CONFIRMED and root.outcome is None and root.send.outcome == CONFIRMED,
                f'{rig.name} takes the echo it waits for for {NAMES[verdict]}',
            )
        elif not root.blurred or (tagged and len(packet.frame) == len(root.frame or packet.frame)):  # not cut short
            need(verdict == SWALLOWED, f'{rig.name} takes a late echo for {NAMES[verdict]}')
        else:
            need(verdict != CONFIRMED, f'{rig.name} is confirmed twice')

    def delivered(self, node: Node, packet: Packet) -> None:
        """A callback runs."""
        root = packet.root
        if packet.damaged or root.kind in (PING, STRAY):
            return
        if packet.hops:
            if root.src == node.name and root.memory != node.memory:  # another program said it
                self.blur(root)
            need(root.blurred, f'a callback of {node.name} sees an echo')
            return
        count = root.delivered[node.memory] = root.delivered.get(node.memory, 0) + 1
        if count == 1 and root.place < 0:
            self._places += 1
            root.place = self._places
        if count > 1:
            misled = node.name in getattr(self.nodes[root.src], 'misled', ())
            may = (not root.tagged or node.plain) and (root.blurred or misled)
            need(may, f'a callback of {node.name} runs twice')

    def forget(self, node: Any, message: Message) -> None:
        """Note that a peer which is no longer waited for may be forgotten, if there were many others since."""
        if message.started <= node.flooded:
            message.memory = -1

    def blur(self, message: Message) -> None:
        """Note that nobody can tell the echo of a message from a message any more."""
        message.blurred = True
        self.network.allowance += STORM_PACKETS

    # --- what ends ---

    def ended(self, node: Node, message: Message, outcome: int) -> None:
        """A send has ended."""
        self.network.note(f'{node.name}: {message.kind} {message.index} has ended as {NAMES[outcome]}')
        need(message.outcome is None, 'a send ends twice')
        message.outcome = outcome
        self._judge_end(node, message, outcome)
        if message.send is not None:
            self.forget(node, message)

    def _judge_end(self, node: Any, message: Message, outcome: int) -> None:
        now, dst = self.network.now, message.dst
        if message.deadline:
            need(now <= message.deadline + _LATE, 'a send ends long after its deadline')
        if outcome == CONFIRMED:
            if message.kind == MESSAGE:
                need(bool(message.delivered), 'confirmed but never delivered')
                if message.index >= 0:
                    self._in_order(message)
            return
        need(outcome in (TIMED_OUT, UNREACHABLE, MISMATCH), f'a send ends as {NAMES.get(outcome)}')
        rig: Any = node
        if outcome == TIMED_OUT:
            need(now >= message.deadline, 'a send ends before its deadline')
        elif outcome == UNREACHABLE:
            # One that waited in the queue shares the fate of the one before it.
            since = message.started if message.times else 0.0
            need(rig.refused.get(dst, -1.0) >= since, 'unreachable, but nobody said so')
            self.blur(message)  # the report may have been of another packet: no echo is expected, but one may come
        else:
            need(rig.excused.get(dst, -1.0) >= message.started, 'a mismatch, but nothing wrong came')
        peer = self.nodes[dst]
        # Only a message without a tag, which is not repeated, may hold up those behind it.
        if (message.tagged or message.kind == PING) and not rig.plain and not peer.plain:
            calm = max(self.network.calm, message.started)
            # A ping to a peer not known to have tags is not repeated while a message waits, which it might hurt.
            for other in rig.said if message.kind == PING else rig.said[: message.index]:
                if other.dst == dst and not other.tagged and other.kind == MESSAGE:
                    calm = max(calm, other.deadline)
            need(now - calm < _RECOVERY + 30 * self.network.latency, 'not confirmed though nothing goes wrong any more')

    def _in_order(self, message: Message) -> None:
        key = (message.src, message.memory, message.dst)
        index, place = self._last.get(key, (-1, -1))
        need(message.index > index and message.place > place, 'confirmed messages are delivered in another order')
        self._last[key] = (message.index, message.place)

    def plain_failed(self, packet: Packet, message: Message) -> None:
        """A plain peer got something else than the echo: its own fate if we crossed it, ours if we said too much."""
        root = packet.root
        older = root.src == message.src and root.memory != message.memory
        need(packet.hops == 0 or packet.damaged or root.blurred or older, 'an echo too many ends a plain peer')
        if packet.hops == 0 and root.kind == MESSAGE:
            need(root.times == 1 or root.blurred, 'a repetition ends a plain peer')

    # --- after each step, and at the end ---

    def step(self) -> None:
        """Look at every rig."""
        network = self.network
        need(network.packets <= network.allowance, 'a storm: more packets than all that was said can account for')
        for node in self.nodes.values():
            exchange = getattr(node, 'exchange', None)
            if exchange is not None and node.alive:
                waiting = len(node.open)
                need(exchange.n_waiting == waiting, f'{node.name} waits for {exchange.n_waiting} sends, not {waiting}')
                need(not waiting or node.armed < float('inf'), f'{node.name} waits for ever')
                need(not exchange.outbox and not exchange.finished, f'{node.name} has left something undone')

    def end(self) -> None:
        """Nothing happens any more."""
        for node in self.nodes.values():
            need(not getattr(node, 'open', None), f'{node.name} waits for ever')
