"""Models of the peers that know nothing of tags, as a reference: iblutil's rules and MATLAB's.

1. A legacy peer may be busy for seconds; what comes meanwhile waits in its socket. It echoes before it works.
2. MATLAB keeps every message, answer and notice that it sends as its last one. A frame equal to that one is an echo;
   all else is echoed and executed. It cannot read an empty array, and sends a notice that quotes it.
3. iblutil takes what comes from a peer while it waits for the echo of that peer for this echo, and closes for good if
   it is not.
4. What we do must not make it execute a message twice, execute its own message, or close. What the network does to a
   packet, what it does itself, and a message of a program that crosses its own may.
"""

from __future__ import annotations

import json
from typing import Any

from echorig.delivery.verdicts import Outcome

from .actors import NOTICE_FRAME, Node, answer_to, code
from .invariants import InvariantChecker, require
from .network import MESSAGE, NEVER, NOTICE, STORM_PACKETS, STRAY, Message, Network, Packet

_PAUSE = 0.3  # seconds between what MATLAB does by itself
_LONG = 14.0  # seconds after which a message is not expected to be unread any more
_BUFFER = 512  # bytes that MATLAB reads of a datagram


class _Legacy(Node):
    """What both have in common: they take a frame for what its bytes say, and echo it as it is."""

    waits = True  # for echoes

    def __init__(self, name: str, network: Network, checker: InvariantChecker, work: float) -> None:
        super().__init__(name, network, checker)
        self.work = work  # how long it is busy with each message, in seconds
        self.start()

    def start(self) -> None:
        """Begin with nothing known."""
        super().start()
        self.waiting: dict[str, Message] = {}
        self.last = b''
        self.last_message: Message | None = None

    def _say(self, dst: str, frame: bytes, kind: str) -> Message:
        message = Message(self.name, dst, self.memory, kind, frame, False)
        message.started = self.network.now
        self.network.allowance += 4
        self.network.send(self.address, dst, frame, message, 0, self.program)
        return message

    def _echo(self, packet: Packet, frame: bytes) -> None:
        root, hops = packet.root, packet.hops + 1
        if packet.damaged:
            root, hops = Message(packet.src, self.name, -1, STRAY, frame, False), 1
        self.network.send(self.address, packet.src, frame, root, hops, self.program)

    def _execute(self, packet: Packet, frame: bytes) -> None:
        """Run the callback, which takes a while, and answer."""
        self.checker.on_deliver(self, packet)
        answers = b'?' in frame and packet.hops == 0 and not packet.damaged
        if self.work and packet.hops == 0:  # if it were as slow with echoes of echoes, they would never end
            if answers:  # before it reads again
                self.network.call_at(self.network.now + self.work, self._answer, self.memory, packet, frame)
            self.freeze(self.work)
        elif answers:
            self._answer(self.memory, packet, frame)

    def _answer(self, memory: int, packet: Packet, frame: bytes) -> None:
        if self.alive and self.memory == memory:
            self.do('send', packet.src, {'frame': answer_to(frame, self.network.packets), 'timeout': 0.3})

    def _is_excused(self, message: Message, packet: Packet) -> bool:
        """Tell whether what a packet does to a message of this program is nobody's fault."""
        root = packet.root
        if packet.damaged or message.faulted or message.blurred or message.memory != self.memory:
            return True
        if root.faulted or root.blurred or root.src == self.name:
            return True
        return packet.hops == 0 and root.times == 1 and packet.sent <= message.arrived  # they crossed


class Iblutil(_Legacy):
    """iblutil: while it waits, all that comes from there is the echo or an error, and an error is its end."""

    def do(self, what: str, dst: str, how: dict[str, Any]) -> None:
        """Do what the schedule says; one thing at a time, since a second send would overwrite the first."""
        if what == 'send' and dst not in self.waiting:
            message = self._say(dst, how['frame'], MESSAGE)
            self.waiting[dst] = message
            self.network.call_at(self.network.now + how['timeout'], self._time_out, message)
        elif what == 'tell':  # it takes our echo for a message, and so on: only the guard ends this
            self.network.allowance += STORM_PACKETS
            self._say(dst, how['frame'], MESSAGE).blurred = True
        elif what == 'notice':
            self._say(dst, NOTICE_FRAME, NOTICE)

    def _time_out(self, message: Message) -> None:
        if self.network.now < self.still_until:
            self.network.call_at(self.still_until, self._time_out, message)  # after the socket has been read
        elif self.alive and self.waiting.get(message.dst) is message:
            self.network.log_line(f'{self.name} closes: no echo in time')
            self.stop()

    def receive(self, packet: Packet) -> None:
        """Compare, if it waits; else echo, unless it looks like a notice, and run the callback."""
        frame, src = packet.frame, packet.src
        try:
            text = frame.decode()
        except UnicodeDecodeError:
            return
        message = self.waiting.get(src)
        if message is not None:
            if frame == message.frame:
                del self.waiting[src]
                self.checker.on_end(self, message, Outcome.CONFIRMED)
            else:
                self.network.log_line(f'{self.name} closes: this is not the echo of {message.frame!r}')
                require(self._is_excused(message, packet), f'{self.name} is made to close by a {packet.root.kind}')
                self.stop()
            return
        if len(text) < 2:
            return
        if text[1] != '0':
            self._echo(packet, frame)
        try:
            data = json.loads(text)
        except ValueError:
            return
        if isinstance(data, list) and len(data) > 1:
            self._execute(packet, frame)


class Matlab(_Legacy):
    """MATLAB: it takes what equals its own last message for an echo, and reads and echoes 512 bytes at most."""

    waits = False  # for echoes

    def do(self, what: str, dst: str, how: dict[str, Any]) -> None:
        """Do what the schedule says, but not twice at a time."""
        if self.network.now - self.said_at > _PAUSE:
            frame = NOTICE_FRAME if what == 'notice' else how['frame']
            self._keep(self._say(dst, frame, NOTICE if what == 'notice' else MESSAGE), None)

    def start(self) -> None:
        super().start()
        self.said_at = -_PAUSE

    def _answer(self, memory: int, packet: Packet, frame: bytes) -> None:
        if self.alive and self.memory == memory:
            self._keep(self._say(packet.src, answer_to(frame, self.network.packets), MESSAGE), packet)

    def _keep(self, message: Message, because: Packet | None) -> None:
        """Keep a message as the last one; the echo of the one before it will not be known."""
        before, self.last_message, self.last = self.last_message, message, message.frame
        self.said_at = self.network.now
        if before is None or before.outcome == Outcome.CONFIRMED or before.overwritten is not None:
            return
        before.overwritten = because
        if because is None or because.root.faulted or because.root.blurred or because.damaged:
            self.checker.mark_ambiguous(before)

    def receive(self, packet: Packet) -> None:
        """Ignore an echo; else echo, and run the callback."""
        read, root = packet.frame[:_BUFFER], packet.root
        if read == self.last[:_BUFFER]:
            if root is self.last_message and root.kind == MESSAGE and root.outcome is None and not packet.damaged:
                self.checker.on_end(self, root, Outcome.CONFIRMED)
            return
        if packet.hops % 2 and root.program == self.program and not root.blurred and root.overwritten is not None:
            self._excuse(root, root.overwritten, packet)
        if code(read) == 0:
            self.checker.on_deliver(self, packet)
            return
        self._echo(packet, read)
        if code(read) > 0:
            self._execute(packet, read)
        else:
            self.network.log_line(f'{self.name} cannot read this, and sends a notice')
            text = json.dumps([0, 'Error using jsondecode', read.decode('latin-1')])
            self._keep(self._say(packet.src, text.encode(), NOTICE), packet)

    def _excuse(self, message: Message, because: Packet, echo: Packet) -> None:
        """It executes its own message, since something that came before the echo made it send another: whose fault?"""
        excused = self._is_excused(message, because) or echo.damaged
        overtaken = message.faulted or because.root.faulted
        if because.root.kind == MESSAGE and because.sent <= message.arrived < because.root.echoed and not overtaken:
            # A rig that knows MATLAB by its notices sends no echo while a message to it is unread. Of one whose echo
            # has come it cannot know that it will still be answered.
            known = self.checker.notes[because.by[0]].quoting.get(self.address, NEVER) < message.arrived
            excused = excused and (not known or message.arrived - because.sent > _LONG or because.src != echo.src)
        if excused:
            self.checker.mark_ambiguous(message)
