"""The programs: a rig, which drives an `Exchange` as the shell in `echorig` does."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from echorig import Tuning
from echorig._exchange import DELIVER, ECHO, NOTICE, Exchange

from .invariants import Watch, need
from .network import MESSAGE, NEVER, PING, STRAY, Message, Network, Packet
from .network import NOTICE as NOTICE_KIND

MAX_PEERS = 8
_TAGGING, _PLAIN = Tuning(max_peers=MAX_PEERS), Tuning(max_peers=MAX_PEERS, tags=False)
_MIN_SLEEP = 0.001  # what the shell's timer waits at least
NOTICE_FRAME = b'[0, "ValueError: no", 2]'


class Node(Protocol):
    """What all programs have."""

    name: str
    plain: bool
    memory: int
    alive: bool

    def do(self, what: str, dst: str, how: dict[str, Any]) -> None: ...
    def receive(self, packet: Packet) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Rig:
    """A program with echorig.

    Parameters
    ----------
    name : str
        Its address.
    network, watch, rng
        Where it is, who looks on, and where its first numbers come from.
    plain : bool
        Whether it does without tags.
    make_exchange : callable
        Makes its `Exchange`, or one with a rule broken.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        watch: Watch,
        rng: Random,
        plain: bool = False,
        make_exchange: Callable[..., Any] = Exchange,
    ) -> None:
        self.name, self.plain, self.network, self.watch = name, plain, network, watch
        self._rng, self._make = rng, make_exchange
        self.memory = -1
        self.excused: dict[str, float] = {}  # when something last came from a peer that may be taken for a wrong echo
        self.refused: dict[str, float] = {}  # when the system last said that nobody listens there
        self.misled: set[str] = set()  # peers whose old echoes came to a program that cannot know them
        self.start()

    def start(self) -> None:
        """Begin with nothing known."""
        self.alive = True
        self.memory += 1
        self.born = self.memory
        self.flooded = -1.0
        self.open: list[Message] = []
        self.said: list[Message] = []
        self.by_frame: dict[bytes, Message] = {}
        tuning = _PLAIN if self.plain else _TAGGING
        self.exchange = self._make(tuning, False, 65535, self._rng.getrandbits(31))
        self.armed = NEVER
        self._timer: object = None

    def stop(self) -> None:
        """End without a word."""
        self.alive = False
        self.open = []
        self.armed = NEVER
        self._timer = None

    # --- what it does ---

    def do(self, what: str, dst: str, how: dict[str, Any]) -> None:
        """Do what the schedule says."""
        network = self.network
        if what in ('send', 'raw'):
            self.say(dst, how['frame'], how['timeout'], what == 'send')
        elif what in ('tell', 'notice'):
            frame = self.exchange.sent(how.get('frame', NOTICE_FRAME), dst, network.now)
            message = self._message(dst, MESSAGE if what == 'tell' else NOTICE_KIND, frame)
            network.allowance += 4
            self._transmit(frame, dst, message)
        elif what == 'ping':
            message = self._message(dst, PING, b'')
            self._open(message, self.exchange.ping(dst, message, network.now, how['timeout']), how['timeout'])
        elif what == 'cancel':
            waiting = [message for message in self.said if message.outcome is None]
            if waiting:
                message = waiting[-1 - how['back'] % len(waiting)]
                self.open.remove(message)
                message.outcome = -1
                self.watch.forget(self, message)
                if message.dst in self.refused:
                    self.watch.blur(message)
                self._over(message.send)
                self.exchange.cancel(message.send, network.now)
                network.note(f'{self.name} no longer waits for message {message.index}')
                self.flush()
        elif what == 'flood':
            for i in range(3 * MAX_PEERS):
                self.exchange.receive(b'[32, 20]', f'stranger {i}', network.now)
                need(self.exchange.n_peers <= MAX_PEERS + len(self.open), 'too many peers are remembered')
            self.flooded = network.now
            self.memory += 1  # whom it did not wait for it has forgotten
            for message in self.open:
                message.memory = self.memory

    def say(self, dst: str, frame: bytes, timeout: float, taggable: bool = True) -> None:
        """Send a message and wait for its echo."""
        message = self._message(dst, MESSAGE, frame)
        self._open(message, self.exchange.send(frame, dst, message, self.network.now, timeout, taggable), timeout)

    def _message(self, dst: str, kind: str, frame: bytes) -> Message:
        message = Message(self.name, dst, self.memory, kind, frame, has_tag(frame) and not self.plain, code(frame))
        self.by_frame[frame] = message
        return message

    def _open(self, message: Message, send: Any, timeout: float) -> None:
        message.send = send
        message.index = len(self.said)
        message.started, message.deadline = self.network.now, self.network.now + timeout
        if message.kind == MESSAGE:
            message.frame = send.frame
            message.tagged = has_tag(send.frame) and not self.plain
            self.by_frame[send.frame] = message
        self.open.append(message)
        self.said.append(message)
        self.network.allowance += 6 * (8 + int(10 * timeout))
        self.flush()

    # --- what the shell does ---

    def flush(self) -> None:
        """Send what is to be sent, and note what has ended."""
        exchange = self.exchange
        while exchange.outbox or exchange.finished:
            outbox = exchange.outbox.copy()
            exchange.outbox.clear()
            for frame, dst in outbox:
                message = self.by_frame.get(frame)
                if message is None:
                    need(is_ping(frame), f'{self.name} sends what nobody said')
                    message = Message(self.name, dst, self.memory, PING, frame, True, -1)
                    self.by_frame[frame] = message
                self._transmit(frame, dst, message)
            finished = exchange.finished.copy()
            exchange.finished.clear()
            for send in finished:
                self.open.remove(send.waiter)
                self._over(send)
                self.watch.ended(self, send.waiter, send.outcome)
        if exchange.alarm < self.armed:
            self.armed = exchange.alarm
            self._timer = timer = object()
            self.network.at(max(exchange.alarm, self.network.now + _MIN_SLEEP), self._tick, timer)

    def _tick(self, timer: object) -> None:
        if timer is self._timer:
            self.armed = NEVER
            self.exchange.expire(self.network.now)
            self.flush()

    def _transmit(self, frame: bytes, dst: str, message: Message) -> None:
        message.times += 1
        self.watch.sends(self, message, dst)
        self._put(frame, dst, message, 0)

    def _put(self, frame: bytes, dst: str, root: Message, hops: int) -> None:
        self.network.send(self.name, dst, frame, root, hops)

    def _over(self, send: Any) -> None:
        """Take in that a send has ended, or is cancelled."""

    def _sort(self, packet: Packet) -> int:
        return self.exchange.receive(packet.frame, packet.src, self.network.now)

    def receive(self, packet: Packet) -> None:
        """Take a packet as the shell does: the echo goes out first, then the listeners are told."""
        watch, exchange, src = self.watch, self.exchange, packet.src
        watch.about_to_judge(self, packet)
        verdict = self._sort(packet)
        reply = exchange.reply if verdict in (DELIVER, ECHO) else b''
        watch.judge(self, packet, verdict, reply)
        if reply:
            root = packet.root
            if packet.damaged:  # the network has made it up
                root = Message(src, self.name, -1, STRAY, packet.frame, has_tag(packet.frame), code(packet.frame))
            self._put(reply, src, root, 1 if packet.damaged else packet.hops + 1)
        if verdict in (DELIVER, NOTICE):
            watch.delivered(self, packet)
            if packet.hops == 0 and b'?' in packet.frame and verdict == DELIVER and not packet.damaged:
                self.say(src, answer_to(packet.frame, self.network.packets), 0.3)
        else:
            self.flush()

    def unreachable(self, dst: str) -> None:
        """Take in that the system reports that nobody listens there."""
        if self.alive:
            self.refused[dst] = self.network.now
            self.exchange.refused(dst, self.network.now)
            self.flush()


def has_tag(frame: bytes) -> bool:
    """Tell whether there are 32 spaces or tabs before the final bracket; written down anew, to check the other."""
    return len(frame) >= 34 and frame[-1:] == b']' and not frame[-33:-1].strip(b' \t')


def is_ping(frame: bytes) -> bool:
    """Tell whether it is a tagged empty array."""
    return has_tag(frame) and frame[:-33] == b'['


def answer_to(frame: bytes, number: int) -> bytes:
    """Return what is answered to a message with a question mark; no two answers are the same."""
    return b'[%d, "yes %s %d"]' % (code(frame), frame.split(b'"')[1].split(b'?')[0], number)


def code(frame: bytes) -> int:
    """Return the event code of a frame made here, -1 if it has none."""
    digits = frame[1:].split(b',')[0].split(b']')[0].strip()
    return int(digits) if frame[:1] == b'[' and digits.isdigit() else -1
