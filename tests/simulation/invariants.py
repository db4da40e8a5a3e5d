"""What must hold after every step, whatever the network does.

The network knows where each packet comes from; from that follows what a frame is, and this is compared with what
the rig took it for, knowing only bytes. No invariant asks how long ago something was, or how much was said since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from echorig.delivery.verdicts import Outcome, Verdict

from . import tags
from .network import MESSAGE, NEVER, PING, STORM_PACKETS, STRAY, Message, Network, Packet, Program
from .network import NOTICE as NOTICE_KIND
from .program_model import ProgramModel

if TYPE_CHECKING:
    from .actors import Node, Rig

WINDOW = 1024  # numbers of which a receiver knows whether it has received them
_LATE = 0.0021  # by how much the shell's timer may be late, in seconds
_ROUNDED = 0.0015  # by how much a life in milliseconds may be off, in seconds
_RECOVERY = 0.35  # in which all that waits is confirmed once the network is calm, but for its latency, in seconds
_DUE = 59.0  # for how long the echo of what has no tag is surely known as one, in seconds
_DELAY = 10.0  # for how long a legacy peer may be busy before it is taken for another program, in seconds
_TRUSTED = 0.1  # for how long it is believed that a message is still wanted, in seconds
_PROVEN = 55.0  # for how long a peer is surely remembered to have tags, in seconds


class ViolationError(Exception):
    """An invariant does not hold."""


def require(holds: bool, what: str) -> None:
    """Raise if an invariant does not hold; where most packets come, `what` is not even put together if it does."""
    if not holds:
        raise ViolationError(what)


class InvariantChecker:
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
        self.notes: dict[str, ProgramModel] = {}
        self.rigs: list[Rig] = []
        self.aliases = False  # some program has two addresses
        self.taken = False  # some address was another program's before
        self._places = 0
        self._last: dict[tuple[Program, str], tuple[int, int]] = {}
        self._waiting = False
        self._clash = False

    def on_start(self, rig: Rig) -> None:
        """A program of a rig starts."""
        if rig.name not in self.notes:
            self.rigs.append(rig)
        self.notes[rig.name] = ProgramModel()

    def on_flood(self, rig: Rig) -> None:
        """A rig has heard of so many strangers that it may have forgotten its peers."""
        self.notes[rig.name].on_flood(self.network.now)
        for message in rig.said:
            if not message.tagged and message.outcome is not None:
                self.mark_ambiguous(message)
        for message in [*rig.by_frame.values(), *rig.by_identity.values()]:
            if message.index < 0 and (not message.tagged or len(message.frame) > 512):
                self.mark_ambiguous(message)

    def on_move(self, taken: bool) -> None:
        """A program has another address, and its old one perhaps another program."""
        self.taken = self.taken or taken
        for notes in self.notes.values():
            notes.moved = True

    def on_refused(self, rig: Rig, dst: str) -> None:
        """The system tells a rig that nobody listens at an address."""
        self.notes[rig.name].refused[dst] = self.network.now

    # --- what is sent ---

    def on_send(self, rig: Rig, message: Message, dst: str, frame: bytes, tag: tags.Tag | None) -> None:
        """A rig sends a message, a ping or a notice, perhaps again."""
        notes, peer = self.notes[rig.name], self.owners.get(dst)
        if self.network.now < notes.begun:
            notes.begun = self.network.now
        if self.network.packets > self.network.allowance:
            self._count()
        if message.times:
            require(message.kind == MESSAGE and tag is not None, f'{rig.name} repeats what must not be sent twice')
            if dst in notes.misled:
                self.mark_ambiguous(message)
            require(
                peer is None or not peer.legacy or dst in notes.misled,
                f'{rig.name} sends a legacy peer a message again',
            )
        if message.kind == PING and dst in notes.legacy and dst not in notes.misled and notes.flooded < 0.0:
            asked = any(one.kind == PING and (one.dst == dst or self._may_be_one(rig)) for one in rig.open)
            require(asked, f'{rig.name} asks a legacy peer what it is')
        followed = message.asks or self.taken or self.aliases or notes.flooded >= 0.0 or dst not in notes.left
        if not followed:
            raise ViolationError(f'{rig.name} sends to where its peer was before')
        if tag is not None:
            self._look_at(rig, message, frame, tag)
        if message.kind == MESSAGE and not message.times:
            before = notes.in_flight.get(dst)
            if (
                before is not None
                and before.send is not None
                and before.send.outcome == Outcome.WAITING
                and not self._may_be_one(rig)
            ):
                require(
                    message.index < 0, f'{rig.name} sends message {message.index} before {before.index} is confirmed'
                )
                if tag is not None and before.identity is not None and before.identity[0] == tag.run:
                    require(tag.number - before.identity[1] < WINDOW, f'{rig.name} goes too far ahead of a message')
            if message.index >= 0:
                notes.in_flight[dst] = message

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
            require(tags.named(frame) == question.identity, f'{rig.name} does not say what it answers')

    def _count(self) -> None:
        network = self.network
        require(network.packets <= network.allowance, 'a storm: more packets than all that was said can account for')

    # --- what is received ---

    def before_classify(self, rig: Rig, packet: Packet) -> None:
        """Note what the verdict depends on."""
        root = packet.root
        self._waiting = root.outcome is None and root.send is not None and root.program == rig.program
        self._clash = False
        cut = len(packet.frame) < len(root.frame)
        plain_message = packet.damaged or root.kind == STRAY or cut or not root.tagged or rig.legacy
        if plain_message or packet.hops > 1:
            self.notes[rig.name].excused[packet.src] = self.network.now
            one = self._may_be_one(rig)
            self._clash = any(message.dst == packet.src or one for message in rig.open)

    def check_verdict(self, rig: Rig, packet: Packet, verdict: int, reply: bytes) -> None:
        """Compare what a rig takes a frame for with what it is."""
        network, root, hops, frame = self.network, packet.root, packet.hops, packet.frame
        now = network.now
        if network.log is not None:
            network.log_packet(packet, 'gets', Verdict(verdict).name)
        notes = self.notes[rig.name]
        if now < notes.begun and verdict not in (Verdict.IGNORED, Verdict.STRAY_ECHO, Verdict.DAMAGED):
            notes.begun = now
        if verdict in (Verdict.DELIVER, Verdict.RATE_LIMITED, Verdict.MISMATCH) and not tags.has_tag(frame):
            notes.record_untagged(packet.src, now)
        if verdict == Verdict.ERROR_NOTICE and frame.endswith(b'"]'):
            notes.quoting.setdefault(packet.src, network.now)
        if packet.damaged or root.kind == STRAY:
            if not rig.legacy and tags.looks_damaged(frame):
                tag = tags.read(frame)
                forgotten = notes.flooded >= 0.0 or (tag is not None and tag.flag)
                dropped = forgotten and verdict == Verdict.STRAY_ECHO
                require(
                    verdict == Verdict.DAMAGED or dropped,
                    f'{rig.name} takes a damaged frame for {Verdict(verdict).name}',
                )
            require(verdict != Verdict.CONFIRMED, f'{rig.name} takes a damaged frame for an echo')
            return
        tagged = root.tagged and not rig.legacy
        tag = tags.read(frame) if tagged else None
        if tag is not None and verdict != Verdict.IGNORED and (hops == 0 or root.program == rig.program):
            (notes.record_expired if verdict == Verdict.EXPIRED else notes.record)(packet, tag, now)
        if hops % 2:
            self._check_echo(rig, packet, verdict, tagged)
        elif hops:
            require(root.blurred, 'the echo of an echo')
        else:
            self._check_message(rig, packet, verdict, tagged)
            if verdict in (Verdict.DELIVER, Verdict.ECHO):
                self._check_reply(rig, packet, reply, tagged)
        if (
            tagged
            and root.kind != PING
            and verdict in (Verdict.DELIVER, Verdict.ECHO, Verdict.ERROR_NOTICE)
            and not hops
        ):
            key = root.program, root.identity[0]
            if root.identity[1] > notes.highest.get(key, 0):
                notes.highest[key] = root.identity[1]
        if now < root.arrived:
            root.arrived = now
        if verdict in (Verdict.MISMATCH, Verdict.RATE_LIMITED):
            root.faulted = True  # it is not echoed

    def _check_message(self, rig: Rig, packet: Packet, verdict: int, tagged: bool) -> None:
        root = packet.root
        first = not root.delivered.get(rig.program)
        below = False
        if tagged:
            below = root.identity[1] <= self.notes[rig.name].highest.get((root.program, root.identity[0]), 0) - WINDOW
        if root.kind == PING:
            allowed = (Verdict.ECHO,) if tagged else (Verdict.DELIVER, Verdict.RATE_LIMITED, Verdict.MISMATCH)
        elif below:
            allowed = (Verdict.IGNORED,)  # else it would be confirmed, and nobody has delivered it
        elif root.kind == NOTICE_KIND:
            allowed = (Verdict.ERROR_NOTICE,) if first or not tagged else (Verdict.IGNORED,)
        elif tagged:
            allowed = (Verdict.DELIVER,) if first else (Verdict.ECHO,)
        elif self._clash:
            allowed = (
                (Verdict.DELIVER, Verdict.MISMATCH, Verdict.RATE_LIMITED)
                if root.blurred
                else (Verdict.DELIVER, Verdict.MISMATCH)
            )
        elif root.blurred:
            allowed = (Verdict.DELIVER, Verdict.RATE_LIMITED)
        else:
            allowed = (Verdict.DELIVER,)
        if tagged and root.kind == MESSAGE and root.deadline:
            allowed = self._check_lifetime(rig, packet, verdict, allowed)
        if verdict not in allowed:
            again = '' if first else ' that it has'
            raise ViolationError(f'{rig.name} takes a {root.kind}{again} for {Verdict(verdict).name}')

    def _check_lifetime(self, rig: Rig, packet: Packet, verdict: int, allowed: tuple[int, ...]) -> tuple[int, ...]:
        """Look at how long a message lay here, and what that was taken for."""
        root, now, life = packet.root, self.network.now, packet.root.deadline - packet.sent
        question = root.question
        if question is not None and question.send and tags.named(packet.frame) and question.program == rig.program:
            return allowed  # how long an answer is wanted, who has asked knows best
        if rig.releasing:
            told = self.notes[rig.name].wanted.get(root.identity or (-1, -1), -NEVER)
            require(
                verdict != Verdict.DELIVER or now - told < _TRUSTED + _ROUNDED,
                f'{rig.name} runs late what nobody asked about',
            )
            return allowed
        waited, otherwise = now - packet.arrived, Verdict.EXPIRED
        if not rig.stamps:
            waited, otherwise = rig.stall_time(), Verdict.MAYBE_EXPIRED
        if waited > life - _ROUNDED:
            allowed = (*allowed, otherwise)
        if waited > life + _ROUNDED:
            require(verdict != Verdict.DELIVER, f'{rig.name} runs late what is no longer wanted')
        return allowed

    def _check_reply(self, rig: Rig, packet: Packet, reply: bytes, tagged: bool) -> None:
        frame = packet.frame
        if not tagged:
            # MATLAB waits for no echo, and would take one for a message while another message lies in its socket.
            waits = getattr(self.nodes[packet.by[0]], 'waits', True)
            require(reply == frame or not (reply or waits), f'{rig.name} echoes something else')
        elif packet.root.kind == PING:
            tag = tags.read(reply)
            require(
                tag is not None and tag.flag and tags.is_ping(reply) and tags.is_right(reply, tag)
                and tag.identity == packet.root.identity, f'{rig.name} does not answer a ping'
            )  # fmt: skip
            run, number = tags.named(reply) or (-1, 0)
            require((run - rig.run) % 2**31 <= 1, f'{rig.name} does not say who answers')
            self._check_answer(rig, packet, number)
        else:
            if not tags.is_echo(reply, frame):
                raise ViolationError(f'{rig.name} echoes something else')

    def _check_answer(self, rig: Rig, packet: Packet, number: int) -> None:
        """Tell whether a rig says truly whether a message is still wanted."""
        asked = packet.root.asks
        message = None if asked is None else rig.by_identity.get(asked)
        wanted = message is not None and message.send is not None and message.outcome is None
        if number:
            require(wanted and asked is not None and number == asked[1], f'{rig.name} wants what it does not wait for')
        else:
            require(not wanted or self._may_be_one(rig), f'{rig.name} does not want what it waits for')

    def _check_echo(self, rig: Rig, packet: Packet, verdict: int, tagged: bool) -> None:
        root = packet.root
        root.echoed = min(root.echoed, self.network.now)
        tag = tags.read(packet.frame) if tagged or root.kind == PING else None
        whole = tag is not None
        if not whole and (self.network.now - root.started > _DUE or self.notes[rig.name].flooded >= 0.0):
            self.mark_ambiguous(root)
        if root.program != rig.program:  # another program has this address, or the same one was started anew
            if tag is not None and tag.flag and not rig.legacy:
                require(
                    verdict == Verdict.STRAY_ECHO, f'{rig.name} takes the echo for another for {Verdict(verdict).name}'
                )
            else:
                self.mark_ambiguous(root)
                # A program that has just begun expects that; one that was given the address of another cannot know.
                if self.taken or self.network.now - self.notes[rig.name].begun > _DELAY:
                    self.notes[rig.name].misled.add(packet.src)
                self.notes[rig.name].restarts_known = False
                require(verdict != Verdict.CONFIRMED, f'{rig.name} takes the echo for another for its own')
        elif root.kind == PING and whole:
            require(
                verdict in (Verdict.CONFIRMED, Verdict.STRAY_ECHO),
                f'{rig.name} takes the echo of a ping for {Verdict(verdict).name}',
            )
        elif self._waiting and verdict == Verdict.CONFIRMED:
            require(
                root.outcome is None and root.send.outcome == Outcome.CONFIRMED, f'{rig.name} confirms another message'
            )
            require(bool(root.delivered.get(packet.by)), 'confirmed, but not delivered by who confirms it')
        elif self._waiting:
            require(
                self._may_be_one(rig) and verdict == Verdict.STRAY_ECHO,
                f'{rig.name} takes the echo it waits for for {Verdict(verdict).name}',
            )
        elif whole or not root.blurred:
            if verdict != Verdict.STRAY_ECHO and not (verdict == Verdict.DAMAGED and root.tagged and not whole):
                raise ViolationError(f'{rig.name} takes a late echo for {Verdict(verdict).name}')
        else:
            require(verdict != Verdict.CONFIRMED, f'{rig.name} is confirmed twice')

    def _may_be_one(self, rig: Rig) -> bool:
        """Tell whether peers at two addresses may be one program."""
        return len(self.owners) > len(self.nodes) or self.notes[rig.name].moved

    def on_deliver(self, node: Node, packet: Packet) -> None:
        """A callback runs."""
        root = packet.root
        if packet.damaged or root.kind in (PING, STRAY):
            require(root.kind != PING or not getattr(node, 'exchange', None) or node.legacy, 'a callback sees a ping')
            return
        if packet.hops:
            if root.src == node.name and root.memory != node.memory:  # another program said it
                self.mark_ambiguous(root)
            require(root.blurred, f'a callback of {node.name} sees an echo')
            return
        count = root.delivered[node.program] = root.delivered.get(node.program, 0) + 1
        if count == 1 and root.place < 0:
            self._places += 1
            root.place = self._places
        if count > 1:
            require((not root.tagged or node.legacy) and root.blurred, f'a callback of {node.name} runs twice')

    def mark_ambiguous(self, message: Message) -> None:
        """Note that nobody can tell the echo of a message from a message any more."""
        if not message.blurred:
            message.blurred = True
            self.network.allowance += STORM_PACKETS

    # --- what ends ---

    def on_cancel(self, rig: Rig, message: Message) -> None:
        """A message is no longer waited for."""
        message.ended = self.network.now
        if message.dst in self.notes[rig.name].refused:
            self.mark_ambiguous(message)

    def on_end(self, node: Node, message: Message, outcome: int) -> None:
        """A send has ended."""
        if self.network.log is not None:
            self.network.log_line(f'{node.name}: {message.kind} {message.index} has ended as {Outcome(outcome).name}')
        require(message.outcome is None, 'a send ends twice')
        message.outcome = outcome
        message.ended = self.network.now
        self._check_end(node, message, outcome)

    def _check_end(self, node: Any, message: Message, outcome: int) -> None:
        now, dst = self.network.now, message.dst
        if outcome == Outcome.CONFIRMED:
            if message.kind == MESSAGE:
                require(bool(message.delivered), 'confirmed but never delivered')
                if message.index >= 0 and not self._may_be_one(node):
                    self._in_order(message)
            return
        notes = self.notes[node.name]
        require(now <= max(message.deadline, node.still_until) + _LATE, 'a send ends long after its deadline')
        require(
            outcome in (Outcome.TIMED_OUT, Outcome.UNREACHABLE, Outcome.MISMATCH),
            f'a send ends as {Outcome(outcome).name}',
        )
        if outcome == Outcome.TIMED_OUT:
            require(now >= message.deadline, 'a send ends before its deadline')
        elif outcome == Outcome.UNREACHABLE:
            # One that waited in the queue shares the fate of the one before it.
            since = message.started if message.times else 0.0
            require(max(notes.refused.values(), default=-1.0) >= since, 'unreachable, but nobody said so')
            self.mark_ambiguous(
                message
            )  # the report may have been of another packet: no echo is expected, but one may come
        else:
            excused = (
                max(notes.excused.values(), default=-1.0) if self._may_be_one(node) else notes.excused.get(dst, -1.0)
            )
            require(excused >= message.started, 'a mismatch, but nothing wrong came')
        self._check_failure(node, message)

    def _check_failure(self, rig: Any, message: Message) -> None:
        """A message with a tag to a peer with tags may only fail if something went wrong."""
        now, dst, notes = self.network.now, message.dst, self.notes[rig.name]
        peer = self.owners.get(dst)
        untagged = message.kind == MESSAGE and message.times and not message.tagged
        if rig.legacy or peer is None or peer.legacy or peer is rig or untagged or self.taken:
            return
        present = rig.exchange.current_addr(dst)
        if present != dst and self.owners.get(present) is None:  # it has another
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
                return  # it may have to wait for a message that a legacy peer could be at work on
            # A peer not yet known is sent nothing again.
            calm = message.started if calm == message.started else now
        if message.identity is not None and self.aliases and notes.newest[1] - message.identity[1] >= WINDOW:
            return  # what went to the other address of the same program counts, too
        status = rig.exchange.statistics(dst)
        slow = 8 * (status[8] or 0.0) if status is not None else 0.0  # what it has seen of round trips
        require(
            now - calm < _RECOVERY + 30 * self.network.latency + slow,
            'not confirmed though nothing goes wrong any more',
        )

    def _in_order(self, message: Message) -> None:
        key = (message.program, message.dst)
        index, place = self._last.get(key, (-1, -1))
        require(message.index > index and message.place > place, 'confirmed messages are delivered in another order')
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

    def check_restarts(self, rig: Rig) -> None:
        """Compare how many restarts of others a rig has counted."""
        notes = self.notes[rig.name]
        if notes.restarts_known and not rig.legacy and not self.taken and not self.aliases:
            counted = sum(rig.exchange.statistics(addr)[11] for addr in rig.exchange.addresses())
            require(counted == notes.restarts, f'{rig.name} has counted {counted} restarts, not {notes.restarts}')

    def check_final_state(self) -> None:
        """Nothing happens any more."""
        for node in self.nodes.values():
            require(not getattr(node, 'open', None), f'{node.name} waits for ever')
            require(not getattr(node, 'held', None), f'{node.name} keeps messages for ever')
            if getattr(node, 'exchange', None) is not None and node.alive:
                self.check_restarts(node)
