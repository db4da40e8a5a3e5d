"""The programs: what all have, and a rig, which drives an `Exchange` as the shell in `echorig` does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Verdict
from echorig.tuning import InternalTuning

from . import tags
from .invariants import InvariantChecker, ViolationError, require
from .network import MESSAGE, NEVER, PING, STRAY, Message, Network, Packet, Program
from .network import NOTICE as NOTICE_KIND

MAX_PEERS = 8
_ECHORIG, _LEGACY = InternalTuning(max_peers=MAX_PEERS), InternalTuning(max_peers=MAX_PEERS, tags=False)
_MIN_SLEEP = 0.001  # what the shell's timer waits at least
_SOCKET = 300  # datagrams that wait in a socket; what comes then is lost
_THOUGHT = (0.0, 0.0, 0.002, 0.0, 0.03, 0.4, 0.0, 1.5)  # how long an answer takes, in seconds
NOTICE_FRAME = b'[0, "ValueError: no", 2]'


class Node:
    """A program with a socket, in which what comes while it stands still waits.

    Parameters
    ----------
    name : str
        Its name, which is also its first address.
    network, checker
        Where it is, and who looks on.
    """

    legacy = True

    def __init__(self, name: str, network: Network, checker: InvariantChecker) -> None:
        self.name, self.network, self.checker = name, network, checker
        self.address = name
        self.addresses = [name]  # those that others may know
        self.memory = -1
        self.program: Program = (name, -1)  # which program runs now
        self.alive = False
        self.socket: deque[Packet] = deque()
        self.still_until = 0.0

    def start(self) -> None:
        """Begin with nothing known."""
        self.alive = True
        self.memory += 1
        self.program = self.name, self.memory
        self.socket.clear()
        self.still_until = 0.0

    def stop(self) -> None:
        """End without a word."""
        self.alive = False

    def freeze(self, seconds: float) -> None:
        """Do nothing for a while."""
        until = self.network.now + seconds
        if until > self.still_until:
            self.still_until = until
            self.network.call_at(until, self.read)

    def arrive(self, packet: Packet) -> None:
        """Take a packet into the socket, and read it if the program does not stand still."""
        packet.arrived = self.network.now
        if self.network.now >= self.still_until and not self.socket:
            self.receive(packet)
        elif len(self.socket) < _SOCKET:
            self.socket.append(packet)
        else:
            packet.root.faulted = True
            self.network.mark_disturbed(self.network.now)

    def read(self) -> None:
        """Read what lies in the socket."""
        while self.alive and self.socket and self.network.now >= self.still_until:
            self.receive(self.socket.popleft())

    def receive(self, packet: Packet) -> None:
        """Deal with a packet."""
        raise NotImplementedError

    def do(self, what: str, dst: str, how: dict[str, Any]) -> None:
        """Do what the schedule says."""
        raise NotImplementedError


class Rig(Node):
    """A program with echorig.

    Parameters
    ----------
    name : str
        Its first address.
    network, checker, rng
        Where it is, who looks on, and where its runs come from.
    legacy : bool
        Whether it does without tags.
    first : int
        The first number of its first run.
    make_exchange : callable
        Makes its `Exchange`, or one with a rule broken.
    stamps : bool
        Whether its system tells for how long a datagram lay in its socket.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        checker: InvariantChecker,
        rng: Random,
        legacy: bool = False,
        first: int = 1,
        make_exchange: Callable[..., Any] = Exchange,
        stamps: bool = True,
    ) -> None:
        super().__init__(name, network, checker)
        self.legacy = legacy
        self.first, self.stamps = first, stamps
        self._rng, self._make = rng, make_exchange
        self.start()

    def start(self) -> None:
        """Begin with nothing known."""
        super().start()
        self.open: list[Message] = []
        self.said: list[Message] = []
        self.unsent: dict[bytes, list[Message]] = {}
        self.by_frame: dict[bytes, Message] = {}
        self.by_identity: dict[tuple[int, int], Message] = {}
        self.held: set[Message] = set()  # those that wait in the exchange and that nobody waits for
        self.series: dict[Message, tuple[str, int, float]] = {}
        self.checker.on_start(self)
        self.run = self._rng.getrandbits(31)
        tuning = _LEGACY if self.legacy else _ECHORIG
        self.exchange = self._make(tuning, False, 65535, run=self.run, number=self.first)
        self.armed = NEVER
        self._timer: object = None
        self.releasing = False
        self._reading = False
        self._still_since = 0.0
        self._unverified: dict[tuple[bytes, str], Packet] = {}

    def stop(self) -> None:
        """End without a word."""
        super().stop()
        self.open = []
        self.armed = NEVER
        self._timer = None

    # --- what it does ---

    def do(self, what: str, dst: str, how: dict[str, Any]) -> None:
        """Do what the schedule says."""
        network = self.network
        if what in ('send', 'raw'):
            self.send_confirmed(dst, how['frame'], how['timeout'], what == 'send')
        elif what == 'tell':
            self.send_unconfirmed(dst, how['frame'], MESSAGE)
        elif what == 'notice':
            self.send_unconfirmed(dst, NOTICE_FRAME, NOTICE_KIND)
        elif what == 'burst':
            for i in range(min(how['number'], 8) if self.legacy else how['number']):
                self.send_unconfirmed(dst, b'[64, "%s %d"]' % (how['text'], i), MESSAGE)
        elif what == 'series':
            number = min(how['number'], 8) if self.legacy else how['number']
            self._continue(dst, how['text'], number, how['timeout'])
        elif what == 'ping':
            message = self._message(dst, PING, b'')
            self._open(message, how['timeout'])
            message.send = self.exchange.ping(dst, message, network.now, how['timeout'])
            self.flush()
        elif what == 'cancel':
            self._cancel(how['back'])
        elif what == 'flood':
            for i in range(3 * MAX_PEERS):
                self.exchange.classify(b'[32, 20]', f'stranger {i}', network.now)
                require(self.exchange.n_peers <= MAX_PEERS + len(self.open), 'too many peers are remembered')
            self.checker.on_flood(self)
            self.flush()

    def send_confirmed(
        self, dst: str, frame: bytes, timeout: float, taggable: bool = True, question: Message | None = None
    ) -> Message:
        """Send a message and wait for its echo."""
        message = self._message(dst, MESSAGE, frame, question)
        self._open(message, timeout)
        message.send = self.exchange.send(
            frame, dst, message, self.network.now, timeout, taggable, _answered(question), b'?' in frame
        )
        self.flush()
        return message

    def send_unconfirmed(self, dst: str, frame: bytes, kind: str) -> None:
        """Send a message and do not wait for its echo."""
        message = self._message(dst, kind, frame)
        self.network.allowance += 4
        try:
            out = self.exchange.send_unconfirmed(frame, dst, self.network.now, True, -1)
        except OSError:
            self.network.log_line(f'{self.name} may say no more')
            self.unsent[frame].remove(message)
            require(len(self.held) >= 1024, f'{self.name} may say no more, but only {len(self.held)} wait')
            return
        if out is None:
            self.held.add(message)
        else:
            self._transmit(out, self.exchange.current_addr(dst), message)
        self.flush()

    def _continue(self, dst: str, text: bytes, left: int, timeout: float) -> None:
        """Send the next message of a series."""
        if left:
            message = self.send_confirmed(dst, b'[64, "%s %d"]' % (text, left), timeout)
            if message.outcome is None:
                self.series[message] = dst, left - 1, timeout

    def _cancel(self, back: int) -> None:
        waiting = [message for message in self.said if message.outcome is None]
        if waiting:
            message = waiting[-1 - back % len(waiting)]
            self.open.remove(message)
            message.outcome = -1
            self._unwanted(message)
            self.checker.on_cancel(self, message)
            self._over(message.send)
            self.exchange.cancel(message.send, self.network.now)
            self.network.log_line(f'{self.name} no longer waits for message {message.index}')
            self.flush()

    def _message(self, dst: str, kind: str, frame: bytes, question: Message | None = None) -> Message:
        message = Message(self.name, dst, self.memory, kind, frame, False)
        message.question = question
        message.started = self.network.now
        if kind != PING:
            self.unsent.setdefault(frame, []).append(message)
        return message

    def _unwanted(self, message: Message) -> None:
        """Note that a message which was never sent never will be."""
        if not message.times and message.kind == MESSAGE:
            self.unsent[message.frame].remove(message)

    def _open(self, message: Message, timeout: float) -> None:
        message.index = len(self.said)
        message.deadline = self.network.now + timeout
        self.open.append(message)
        self.said.append(message)
        self.network.allowance += 6 * (8 + int(10 * timeout))

    # --- what the shell does ---

    def flush(self) -> None:
        """Send what is to be sent, and note what has ended."""
        exchange = self.exchange
        while exchange.outbox or exchange.finished:
            outbox = exchange.outbox.copy()
            exchange.outbox.clear()
            for frame, dst in outbox:
                self._transmit(frame, dst)
            finished = exchange.finished.copy()
            exchange.finished.clear()
            for send in finished:
                message = send.future
                self.open.remove(message)
                self._over(send)
                self.checker.on_end(self, message, send.outcome)
                self._unwanted(message)
                if message in self.series:
                    dst, left, timeout = self.series.pop(message)
                    self._continue(dst, message.frame.split(b'"')[1].split()[0], left, timeout)
        if exchange.alarm < self.armed:
            self.armed = exchange.alarm
            self._timer = timer = object()
            self.network.call_at(max(exchange.alarm, self.network.now + _MIN_SLEEP), self._tick, timer)

    def _tick(self, timer: object) -> None:
        if timer is not self._timer:
            return
        if self.network.now < self.still_until:
            self.network.call_at(self.still_until, self._tick, timer)  # after the socket has been read
            return
        self.armed = NEVER
        self.exchange.expire(self.network.now)
        self.flush()

    def _transmit(self, frame: bytes, dst: str, message: Message | None = None) -> None:
        tag = tags.read(frame)
        message = self._which(frame, tag, dst, message)
        self.checker.on_send(self, message, dst, frame, tag)
        message.times += 1
        self._put(frame, dst, message, 0)

    def _which(self, frame: bytes, tag: tags.Tag | None, dst: str, message: Message | None) -> Message:
        """Tell what a frame is that goes out."""
        if tag is not None:
            known = self.by_identity.get(tag.identity)
        else:
            known = None if self.unsent.get(frame) else self.by_frame.get(frame)
        if known is not None:
            return known
        if tag is not None and tags.is_ping(frame):
            message = Message(self.name, dst, self.memory, PING, frame, True)
            message.started = self.network.now
            message.asks = tags.named(frame)
            self.network.allowance += 2 if message.asks else 0
        else:
            said = self.unsent.get(tags.bare(frame), [])
            if message is None:
                waits = tag is not None and tag.life > 0
                like = said if tag is None else [one for one in said if (one.deadline > 0) == waits]
                if not like:
                    raise ViolationError(f'{self.name} sends what nobody said')
                until = self.network.now + tag.life / 1000 if tag is not None and tag.life else 0.0
                message = like[0]
                if len(like) > 1:
                    message = min(
                        like,
                        key=lambda one: (
                            one.send is None or one.send.frame != frame,
                            until and round(abs(one.deadline - until), 2),
                            one.dst != dst,
                        ),
                    )
            said.remove(message)
            message.frame = frame
            message.tagged = tag is not None
            self.held.discard(message)
        if tag is None:
            self.by_frame[frame] = message
        else:
            self.by_identity[tag.identity] = message
            message.identity = tag.identity
        return message

    def _put(self, frame: bytes, dst: str, root: Message, hops: int, src: str | None = None) -> None:
        self.network.send(src or self.address, dst, frame, root, hops, self.program)

    def _over(self, send: Any) -> None:
        """Take in that a send has ended, or is cancelled."""

    def freeze(self, seconds: float) -> None:
        if self.network.now >= self.still_until:
            self._still_since = self.network.now
        super().freeze(seconds)

    def read(self) -> None:
        self._reading = True
        super().read()
        self._reading = False

    def stall_time(self) -> float:
        """Return for how long what is being read may have lain in the socket, in seconds."""
        return self.network.now - self._still_since if self._reading else 0.0

    def receive(self, packet: Packet) -> None:
        """Take a packet as the shell does, and then what turns out to be wanted after all."""
        self._take(packet, self.network.now - packet.arrived if self.stamps else self.stall_time())
        while (wanted := self.exchange.next_verified(self.network.now)) is not None:
            self.releasing = True
            self._take(self._unverified[wanted], -1.0)
            self.releasing = False
        self.flush()

    def _take(self, packet: Packet, waited: float) -> None:
        """Take a packet: the echo goes out first, then the listeners are told."""
        checker, exchange, src = self.checker, self.exchange, packet.src
        checker.before_classify(self, packet)
        verdict = exchange.classify(packet.frame, packet.src, self.network.now, waited, self.stamps)
        reply = exchange.reply or b'' if verdict in (Verdict.DELIVER, Verdict.ECHO) else b''
        checker.check_verdict(self, packet, verdict, reply)
        if verdict == Verdict.MAYBE_EXPIRED:
            self._unverified[packet.frame, src] = packet
        if reply:
            root = packet.root
            if packet.damaged:  # the network has made it up
                root = Message(src, self.name, -1, STRAY, packet.frame, False)
            hops = 1 if packet.damaged else packet.hops + 1
            self._put(reply, src, root, hops, packet.dst if packet.dst in self.addresses else None)
        if verdict in (Verdict.DELIVER, Verdict.ERROR_NOTICE):
            checker.on_deliver(self, packet)
            if packet.hops == 0 and b'?' in packet.frame and verdict == Verdict.DELIVER and not packet.damaged:
                delay = _THOUGHT[self.network.packets % len(_THOUGHT)]
                self.network.call_at(self.network.now + delay, self._answer, self.memory, packet.root, src)
        self.flush()

    def _answer(self, memory: int, question: Message, dst: str) -> None:
        if self.alive and self.memory == memory:
            if self.network.now < self.still_until:
                self.network.call_at(self.still_until, self._answer, memory, question, dst)
            elif self.checker.owners.get(dst) is not self:
                self.send_confirmed(dst, answer_to(question.frame, self.network.packets), 0.3, question=question)

    def unreachable(self, dst: str) -> None:
        """Take in that the system reports that nobody listens there."""
        if self.alive:
            self.checker.on_refused(self, dst)
            self.exchange.on_refused(dst, self.network.now)
            self.flush()


def _answered(question: Message | None) -> int:
    if question is None or question.identity is None:
        return -1
    return question.identity[0] << 32 | question.identity[1]


def answer_to(frame: bytes, number: int) -> bytes:
    """Return what is answered to a message with a question mark; no two answers are the same."""
    return b'[%d, "yes %s %d"]' % (code(frame), frame.split(b'"')[1].split(b'?')[0], number)


def code(frame: bytes) -> int:
    """Return the event code of a frame made here, -1 if it has none."""
    digits = frame[1:].split(b',')[0].split(b']')[0].strip()
    return int(digits) if frame[:1] == b'[' and digits.isdigit() else -1
