"""What must hold after every step, whatever the network does.

The network knows where each packet comes from; from that follows what a frame is, and this is compared with what
the rig took it for, knowing only bytes. No invariant asks how long ago something was, or how much was said since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from echorig.delivery._exchange import (
    CONFIRMED,
    DAMAGED,
    DELIVER,
    DOUBTED,
    ECHO,
    EXPIRED,
    IGNORED,
    MISMATCH,
    NOTICE,
    STORM,
    SWALLOWED,
    TIMED_OUT,
    UNREACHABLE,
    WAITING,
)

from . import tags
from .network import MESSAGE, NEVER, PING, STORM_PACKETS, STRAY, Message, Network, Packet, Program
from .network import NOTICE as NOTICE_KIND
from .notes import Notes

if TYPE_CHECKING:
    from .actors import Node, Rig

NAMES = {
    IGNORED: 'IGNORED', CONFIRMED: 'CONFIRMED', DELIVER: 'DELIVER', NOTICE: 'NOTICE', SWALLOWED: 'SWALLOWED',
    MISMATCH: 'MISMATCH', STORM: 'STORM', ECHO: 'ECHO', DAMAGED: 'DAMAGED', EXPIRED: 'EXPIRED', TIMED_OUT: 'TIMED_OUT',
    UNREACHABLE: 'UNREACHABLE', DOUBTED: 'DOUBTED',
}  # fmt: skip
WINDOW = 1024  # numbers of which a receiver knows whether it has received them
_LATE = 0.0021  # by how much the shell's timer may be late, in seconds
_ROUNDED = 0.0015  # by how much a life in milliseconds may be off, in seconds
_RECOVERY = 0.35  # in which all that waits is confirmed once the network is calm, but for its latency, in seconds
_DUE = 59.0  # for how long the echo of what has no tag is surely known as one, in seconds
_DELAY = 10.0  # for how long a plain peer may be busy before it is taken for another program, in seconds
_TRUSTED = 0.1  # for how long it is believed that a message is still wanted, in seconds
_PROVEN = 55.0  # for how long a peer is surely remembered to have tags, in seconds


class ViolationError(Exception):
    """An invariant does not hold."""


def need(holds: bool, what: str) -> None:
    """Raise if an invariant does not hold; where most packets come, `what` is not even put together if it does."""
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
        self.owners: dict[str, Any] = {}  # who has an address now
        self.owned: dict[str, Any] = {}  # who has it or had it last
        self.signed_for: dict[bytes, set[Program]] = {}  # for which programs a frame was signed
        self.notes: dict[str, Notes] = {}
        self.rigs: list[Rig] = []
        self.aliases = False  # some program has two addresses
        self.taken = False  # some address was another program's before
        self._places = 0
        self._last: dict[tuple[Program, str], tuple[int, int]] = {}
        self._waiting = False
        self._clash = False

    def begins(self, rig: Rig) -> None:
        """A program of a rig starts."""
        if rig.name not in self.notes:
            self.rigs.append(rig)
        self.notes[rig.name] = Notes()

    def flooded(self, rig: Rig) -> None:
        """A rig has heard of so many strangers that it may have forgotten its peers."""
        self.notes[rig.name].flood(self.network.now)
        for message in rig.said:
            if not message.tagged and message.outcome is not None:
                self.blur(message)
        for message in [*rig.by_frame.values(), *rig.by_identity.values()]:
            if message.index < 0 and (not message.tagged or len(message.frame) > 512):
                self.blur(message)

    def moved(self, taken: bool) -> None:
        """A program has another address, and its old one perhaps another program."""
        self.taken = self.taken or taken
        for notes in self.notes.values():
            notes.moved = True

    def refused(self, rig: Rig, dst: str) -> None:
        """The system tells a rig that nobody listens at an address."""
        self.notes[rig.name].refused[dst] = self.network.now

    # --- what is sent ---

    def sends(self, rig: Rig, message: Message, dst: str, frame: bytes, tag: tags.Tag | None) -> None:
        """A rig sends a message, a ping or a notice, perhaps again."""
        notes, peer = self.notes[rig.name], self.owners.get(dst)
        if self.network.now < notes.begun:
            notes.begun = self.network.now
        if self.network.packets > self.network.allowance:
            self._count()
        if message.times:
            need(message.kind == MESSAGE and tag is not None, f'{rig.name} repeats what must not be sent twice')
            if dst in notes.misled:
                self.blur(message)
            need(
                peer is None or not peer.plain or dst in notes.misled, f'{rig.name} sends a plain peer a message again'
            )
        if message.kind == PING and dst in notes.plain and dst not in notes.misled and notes.flooded < 0.0:
            asked = any(one.kind == PING and (one.dst == dst or self._may_be_one(rig)) for one in rig.open)
            need(asked, f'{rig.name} asks a plain peer what it is')
        followed = message.asks or self.taken or self.aliases or notes.flooded >= 0.0 or dst not in notes.left
        if not followed:
            raise ViolationError(f'{rig.name} sends to where its peer was before')
        if tag is not None:
            self._look_at(rig, message, frame, tag)
        if message.kind == MESSAGE and not message.times:
            before = notes.flying.get(dst)
            if (
                before is not None
                and before.send is not None
                and before.send.outcome == WAITING
                and not self._may_be_one(rig)
            ):
                need(message.index < 0, f'{rig.name} sends message {message.index} before {before.index} is confirmed')
                if tag is not None and before.identity is not None and before.identity[0] == tag.run:
                    need(tag.number - before.identity[1] < WINDOW, f'{rig.name} goes too far ahead of a message')
            if message.index >= 0:
                notes.flying[dst] = message

    def _look_at(self, rig: Rig, message: Message, frame: bytes, tag: tags.Tag) -> None:
        notes = self.notes[rig.name]
        if tag.flag or not tags.is_right(frame, tag):
            raise ViolationError(f'{rig.name} sends a wrong tag')
        runs = (tag.run - rig.run) % 2**31
        if runs > (tag.number < rig.first):
            raise ViolationError(f'{rig.name} sends another run')
        if not message.times:
            newest = runs, tag.number
            if newest <= notes.newest:
                raise ViolationError(f'{rig.name} does not count upwards')
            notes.newest = newest
        left = message.deadline - self.network.now if message.kind == MESSAGE and message.deadline else 0.0
        if abs(tag.life / 1000 - left) >= _ROUNDED:
            raise ViolationError(f'{rig.name} sends a wrong life')
        question = message.question
        if question is not None and question.identity is not None and not notes.unproven:
            need(tags.named(frame) == question.identity, f'{rig.name} does not say what it answers')

    def _count(self) -> None:
        network = self.network
        need(network.packets <= network.allowance, 'a storm: more packets than all that was said can account for')

    # --- what is received ---

    def about_to_judge(self, rig: Rig, packet: Packet) -> None:
        """Note what the verdict depends on."""
        root = packet.root
        self._waiting = root.outcome is None and root.send is not None and root.program == rig.program
        self._clash = False
        cut = len(packet.frame) < len(root.frame)
        plain_message = packet.damaged or root.kind == STRAY or cut or not root.tagged or rig.plain
        if plain_message or packet.hops > 1:
            self.notes[rig.name].excused[packet.src] = self.network.now
            one = self._may_be_one(rig)
            self._clash = any(message.dst == packet.src or one for message in rig.open)

    def judge(self, rig: Rig, packet: Packet, verdict: int, reply: bytes) -> None:
        """Compare what a rig takes a frame for with what it is."""
        network, root, hops, frame = self.network, packet.root, packet.hops, packet.frame
        now = network.now
        if network.log is not None:
            network.tell(packet, 'gets', NAMES.get(verdict, str(verdict)))
        notes = self.notes[rig.name]
        if now < notes.begun and verdict not in (IGNORED, SWALLOWED, DAMAGED):
            notes.begun = now
        if verdict in (DELIVER, STORM, MISMATCH) and not tags.has_tag(frame):
            notes.hear_untagged(packet.src, now)
        if verdict == NOTICE and frame.endswith(b'"]'):
            notes.quoting.setdefault(packet.src, network.now)
        if packet.damaged or root.kind == STRAY:
            if not rig.plain and tags.looks_damaged(frame):
                tag = tags.read(frame)
                forgotten = notes.flooded >= 0.0 or (tag is not None and tag.flag)
                dropped = forgotten and verdict == SWALLOWED
                need(verdict == DAMAGED or dropped, f'{rig.name} takes a damaged frame for {NAMES.get(verdict)}')
            need(verdict != CONFIRMED, f'{rig.name} takes a damaged frame for an echo')
            return
        tagged = root.tagged and not rig.plain
        tag = tags.read(frame) if tagged else None
        if tag is not None and verdict != IGNORED and (hops == 0 or root.program == rig.program):
            (notes.hear_expired if verdict == EXPIRED else notes.hear)(packet, tag, now)
        if hops % 2:
            self._judge_echo(rig, packet, verdict, tagged)
        elif hops:
            need(root.blurred, 'the echo of an echo')
        else:
            self._judge_message(rig, packet, verdict, tagged)
            if verdict in (DELIVER, ECHO):
                self._judge_reply(rig, packet, reply, tagged)
        if tagged and root.kind != PING and verdict in (DELIVER, ECHO, NOTICE) and not hops:
            key = root.program, root.identity[0]
            if root.identity[1] > notes.highest.get(key, 0):
                notes.highest[key] = root.identity[1]
        if now < root.arrived:
            root.arrived = now
        if verdict in (MISMATCH, STORM):
            root.faulted = True  # it is not echoed

    def _judge_message(self, rig: Rig, packet: Packet, verdict: int, tagged: bool) -> None:
        root = packet.root
        first = not root.delivered.get(rig.program)
        below = False
        if tagged:
            below = root.identity[1] <= self.notes[rig.name].highest.get((root.program, root.identity[0]), 0) - WINDOW
        if root.kind == PING:
            allowed = (ECHO,) if tagged else (DELIVER, STORM, MISMATCH)
        elif below:
            allowed = (IGNORED,)  # else it would be confirmed, and nobody has delivered it
        elif root.kind == NOTICE_KIND:
            allowed = (NOTICE,) if first or not tagged else (IGNORED,)
        elif tagged:
            allowed = (DELIVER,) if first else (ECHO,)
        elif self._clash:
            allowed = (DELIVER, MISMATCH, STORM) if root.blurred else (DELIVER, MISMATCH)
        elif root.blurred:
            allowed = (DELIVER, STORM)
        else:
            allowed = (DELIVER,)
        if tagged and root.kind == MESSAGE and root.deadline:
            allowed = self._judge_life(rig, packet, verdict, allowed)
        if verdict not in allowed:
            again = '' if first else ' that it has'
            raise ViolationError(f'{rig.name} takes a {root.kind}{again} for {NAMES.get(verdict)}')

    def _judge_life(self, rig: Rig, packet: Packet, verdict: int, allowed: tuple[int, ...]) -> tuple[int, ...]:
        """Look at how long a message lay here, and what that was taken for."""
        root, now, life = packet.root, self.network.now, packet.root.deadline - packet.sent
        question = root.question
        if question is not None and question.send and tags.named(packet.frame) and question.program == rig.program:
            return allowed  # how long an answer is wanted, who has asked knows best
        if rig.releasing:
            told = self.notes[rig.name].wanted.get(root.identity or (-1, -1), -NEVER)
            need(
                verdict != DELIVER or now - told < _TRUSTED + _ROUNDED, f'{rig.name} runs late what nobody asked about'
            )
            return allowed
        waited, otherwise = now - packet.arrived, EXPIRED
        if not rig.stamps:
            waited, otherwise = rig.stood_still(), DOUBTED
        if waited > life - _ROUNDED:
            allowed = (*allowed, otherwise)
        if waited > life + _ROUNDED:
            need(verdict != DELIVER, f'{rig.name} runs late what is no longer wanted')
        return allowed

    def _judge_reply(self, rig: Rig, packet: Packet, reply: bytes, tagged: bool) -> None:
        frame = packet.frame
        if not tagged:
            # MATLAB waits for no echo, and would take one for a message while another message lies in its socket.
            waits = getattr(self.nodes[packet.by[0]], 'waits', True)
            need(reply == frame or not (reply or waits), f'{rig.name} echoes something else')
        elif packet.root.kind == PING:
            tag = tags.read(reply)
            need(
                tag is not None and tag.flag and tags.is_ping(reply) and tags.is_right(reply, tag)
                and tag.identity == packet.root.identity, f'{rig.name} does not answer a ping'
            )  # fmt: skip
            run, number = tags.named(reply) or (-1, 0)
            need((run - rig.run) % 2**31 <= 1, f'{rig.name} does not say who answers')
            self._judge_answer(rig, packet, number)
        else:
            if not tags.is_echo(reply, frame):
                raise ViolationError(f'{rig.name} echoes something else')

    def _judge_answer(self, rig: Rig, packet: Packet, number: int) -> None:
        """Tell whether a rig says truly whether a message is still wanted."""
        asked = packet.root.asks
        message = None if asked is None else rig.by_identity.get(asked)
        wanted = message is not None and message.send is not None and message.outcome is None
        if number:
            need(wanted and asked is not None and number == asked[1], f'{rig.name} wants what it does not wait for')
        else:
            need(not wanted or self._may_be_one(rig), f'{rig.name} does not want what it waits for')

    def _judge_echo(self, rig: Rig, packet: Packet, verdict: int, tagged: bool) -> None:
        root = packet.root
        root.echoed = min(root.echoed, self.network.now)
        tag = tags.read(packet.frame) if tagged or root.kind == PING else None
        whole = tag is not None
        if not whole and (self.network.now - root.started > _DUE or self.notes[rig.name].flooded >= 0.0):
            self.blur(root)
        if root.program != rig.program:  # another program has this address, or the same one was started anew
            if tag is not None and tag.flag and not rig.plain:
                need(verdict == SWALLOWED, f'{rig.name} takes the echo for another for {NAMES.get(verdict)}')
            else:
                self.blur(root)
                # A program that has just begun expects that; one that was given the address of another cannot know.
                if self.taken or self.network.now - self.notes[rig.name].begun > _DELAY:
                    self.notes[rig.name].misled.add(packet.src)
                self.notes[rig.name].restarts_known = False
                need(verdict != CONFIRMED, f'{rig.name} takes the echo for another for its own')
        elif root.kind == PING and whole:
            need(verdict in (CONFIRMED, SWALLOWED), f'{rig.name} takes the echo of a ping for {NAMES.get(verdict)}')
        elif self._waiting and verdict == CONFIRMED:
            need(root.outcome is None and root.send.outcome == CONFIRMED, f'{rig.name} confirms another message')
            need(bool(root.delivered.get(packet.by)), 'confirmed, but not delivered by who confirms it')
        elif self._waiting:
            need(
                self._may_be_one(rig) and verdict == SWALLOWED,
                f'{rig.name} takes the echo it waits for for {NAMES.get(verdict)}',
            )
        elif whole or not root.blurred:
            if verdict != SWALLOWED and not (verdict == DAMAGED and root.tagged and not whole):
                raise ViolationError(f'{rig.name} takes a late echo for {NAMES.get(verdict)}')
        else:
            need(verdict != CONFIRMED, f'{rig.name} is confirmed twice')

    def _may_be_one(self, rig: Rig) -> bool:
        """Tell whether peers at two addresses may be one program."""
        return len(self.owners) > len(self.nodes) or self.notes[rig.name].moved

    def delivered(self, node: Node, packet: Packet) -> None:
        """A callback runs."""
        root = packet.root
        if packet.damaged or root.kind in (PING, STRAY):
            need(root.kind != PING or not getattr(node, 'exchange', None) or node.plain, 'a callback sees a ping')
            return
        if packet.hops:
            if root.src == node.name and root.memory != node.memory:  # another program said it
                self.blur(root)
            need(root.blurred, f'a callback of {node.name} sees an echo')
            return
        count = root.delivered[node.program] = root.delivered.get(node.program, 0) + 1
        if count == 1 and root.place < 0:
            self._places += 1
            root.place = self._places
        if count > 1:
            need((not root.tagged or node.plain) and root.blurred, f'a callback of {node.name} runs twice')

    def blur(self, message: Message) -> None:
        """Note that nobody can tell the echo of a message from a message any more."""
        if not message.blurred:
            message.blurred = True
            self.network.allowance += STORM_PACKETS

    # --- what ends ---

    def cancelled(self, rig: Rig, message: Message) -> None:
        """A message is no longer waited for."""
        message.ended = self.network.now
        if message.dst in self.notes[rig.name].refused:
            self.blur(message)

    def ended(self, node: Node, message: Message, outcome: int) -> None:
        """A send has ended."""
        if self.network.log is not None:
            self.network.note(f'{node.name}: {message.kind} {message.index} has ended as {NAMES.get(outcome)}')
        need(message.outcome is None, 'a send ends twice')
        message.outcome = outcome
        message.ended = self.network.now
        self._judge_end(node, message, outcome)

    def _judge_end(self, node: Any, message: Message, outcome: int) -> None:
        now, dst = self.network.now, message.dst
        if outcome == CONFIRMED:
            if message.kind == MESSAGE:
                need(bool(message.delivered), 'confirmed but never delivered')
                if message.index >= 0 and not self._may_be_one(node):
                    self._in_order(message)
            return
        notes = self.notes[node.name]
        need(now <= max(message.deadline, node.still_until) + _LATE, 'a send ends long after its deadline')
        need(outcome in (TIMED_OUT, UNREACHABLE, MISMATCH), f'a send ends as {NAMES.get(outcome, outcome)}')
        if outcome == TIMED_OUT:
            need(now >= message.deadline, 'a send ends before its deadline')
        elif outcome == UNREACHABLE:
            # One that waited in the queue shares the fate of the one before it.
            since = message.started if message.times else 0.0
            need(max(notes.refused.values(), default=-1.0) >= since, 'unreachable, but nobody said so')
            self.blur(message)  # the report may have been of another packet: no echo is expected, but one may come
        else:
            excused = (
                max(notes.excused.values(), default=-1.0) if self._may_be_one(node) else notes.excused.get(dst, -1.0)
            )
            need(excused >= message.started, 'a mismatch, but nothing wrong came')
        self._judge_failure(node, message)

    def _judge_failure(self, rig: Any, message: Message) -> None:
        """A message with a tag to a peer with tags may only fail if something went wrong."""
        now, dst, notes = self.network.now, message.dst, self.notes[rig.name]
        peer = self.owners.get(dst)
        untagged = message.kind == MESSAGE and message.times and not message.tagged
        if rig.plain or peer is None or peer.plain or peer is rig or untagged or self.taken:
            return
        if rig.exchange.place(dst) != dst and self.owners.get(rig.exchange.place(dst)) is None:  # it has another
            return
        calm = max(self.network.calm, message.started)
        # No message waits for a ping; and of one program at two addresses, what was said later may have left first.
        one = self._may_be_one(rig)
        all_count = one or message.kind == PING
        for other in rig.said if all_count else rig.said[: message.index]:  # those before it come first
            if (other.dst == dst or one) and other is not message and other.ended > calm:
                calm = other.ended if other.ended != NEVER else now
        doubtful = self._may_be_one(rig) and bool(notes.unproven)
        if doubtful or message.started - notes.proven.get(dst, -NEVER) > _PROVEN:
            if message.kind == PING:
                return  # it may have to wait for a message that a plain peer could be at work on
            # A peer not yet known is sent nothing again.
            calm = message.started if calm == message.started else now
        if message.identity is not None and self.aliases and notes.newest[1] - message.identity[1] >= WINDOW:
            return  # what went to the other address of the same program counts, too
        status = rig.exchange.statistics(dst)
        slow = 8 * (status[8] or 0.0) if status is not None else 0.0  # what it has seen of round trips
        need(
            now - calm < _RECOVERY + 30 * self.network.latency + slow,
            'not confirmed though nothing goes wrong any more',
        )

    def _in_order(self, message: Message) -> None:
        key = (message.program, message.dst)
        index, place = self._last.get(key, (-1, -1))
        need(message.index > index and message.place > place, 'confirmed messages are delivered in another order')
        self._last[key] = (message.index, message.place)

    # --- after each step, and at the end ---

    def step(self) -> None:
        """Look at every rig."""
        if self.network.packets > self.network.allowance:
            self._count()
        for rig in self.rigs:
            if rig.alive:
                exchange, waiting = rig.exchange, len(rig.open)
                if exchange.n_waiting != waiting:
                    raise ViolationError(f'{rig.name} waits for {exchange.n_waiting} sends, not {waiting}')
                if waiting and rig.armed == NEVER:
                    raise ViolationError(f'{rig.name} waits for ever')
                if exchange.outbox or exchange.finished:
                    raise ViolationError(f'{rig.name} has left something undone')

    def restarts(self, rig: Rig) -> None:
        """Compare how many restarts of others a rig has counted."""
        notes = self.notes[rig.name]
        if notes.restarts_known and not rig.plain and not self.taken and not self.aliases:
            counted = sum(rig.exchange.statistics(addr)[11] for addr in rig.exchange.addresses())
            need(counted == notes.restarts, f'{rig.name} has counted {counted} restarts, not {notes.restarts}')

    def end(self) -> None:
        """Nothing happens any more."""
        for node in self.nodes.values():
            need(not getattr(node, 'open', None), f'{node.name} waits for ever')
            need(not getattr(node, 'held', None), f'{node.name} keeps messages for ever')
            if getattr(node, 'exchange', None) is not None and node.alive:
                self.restarts(node)
