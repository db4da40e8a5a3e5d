"""Models of the peers that know nothing of tags, as a reference: the incumbent's rules and MATLAB's."""

from __future__ import annotations

import json
from typing import Any

from echorig._exchange import CONFIRMED

from .actors import NOTICE_FRAME, answer_to, code
from .invariants import Watch
from .network import MESSAGE, NOTICE, STORM, STRAY, Message, Network, Packet

_BUFFER = 512  # bytes that MATLAB reads of a datagram


class _Plain:
    """What both have in common: they take a frame for what its bytes say, and echo it as it is."""

    plain = True

    def __init__(self, name: str, network: Network, watch: Watch) -> None:
        self.name, self.network, self.watch = name, network, watch
        self.memory = -1
        self.start()

    def start(self) -> None:
        """Begin with nothing known."""
        self.alive = True
        self.memory += 1
        self.waiting: dict[str, Message] = {}
        self.last = b''

    def stop(self) -> None:
        """End without a word."""
        self.alive = False

    def _say(self, dst: str, frame: bytes, kind: str) -> Message:
        message = Message(self.name, dst, self.memory, kind, frame, False, code(frame))
        message.started = self.network.now
        self.network.allowance += 4
        self.network.send(self.name, dst, frame, message, 0)
        return message

    def _root(self, packet: Packet) -> tuple[Message, int]:
        """Return what an echo of a packet comes from, and how many hops it will have made."""
        if packet.damaged:
            return Message(packet.src, self.name, -1, STRAY, packet.frame, False, code(packet.frame)), 1
        return packet.root, packet.hops + 1


class Iblutil(_Plain):
    """The incumbent: while it waits, all that comes from there is the echo or an error, and an error is its end."""

    def do(self, what: str, dst: str, how: dict[str, Any]) -> None:
        """Do what the schedule says; one thing at a time, since a second send would overwrite the first."""
        if what == 'send' and dst not in self.waiting:
            message = self._say(dst, how['frame'], MESSAGE)
            self.waiting[dst] = message
            self.network.at(self.network.now + how['timeout'], self._time_out, message)
        elif what == 'tell':  # it takes our echo for a message, and so on: only the guard ends this
            self.network.allowance += STORM
            self._say(dst, how['frame'], MESSAGE).blurred = True
        elif what == 'notice':
            self._say(dst, NOTICE_FRAME, NOTICE)

    def _time_out(self, message: Message) -> None:
        if self.alive and self.waiting.get(message.dst) is message:
            self.network.note(f'{self.name} closes: no echo in time')
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
                self.watch.ended(self, message, CONFIRMED)
            else:
                self.network.note(f'{self.name} closes: this is not the echo of {message.frame!r}')
                self.watch.plain_failed(packet, message)
                self.stop()
            return
        if len(text) < 2:
            return
        if text[1] != '0':
            self.network.send(self.name, src, frame, *self._root(packet))
        try:
            data = json.loads(text)
        except ValueError:
            return
        if isinstance(data, list) and len(data) > 1:
            self.watch.delivered(self, packet)
            if '?' in text and packet.hops == 0 and not packet.damaged and self.alive:
                self.do('send', src, {'frame': answer_to(frame, self.network.packets), 'timeout': 0.3})


class Matlab(_Plain):
    """MATLAB: it takes what equals its own last message for an echo, and reads and echoes 512 bytes at most."""

    def do(self, what: str, dst: str, how: dict[str, Any]) -> None:
        """Do what the schedule says; nothing new while it waits, and what it has given up it no longer knows."""
        if any(message.deadline > self.network.now for message in self.waiting.values()):
            return
        for message in self.waiting.values():
            message.blurred = True  # should the echo still come, it is taken for a message
            self.network.allowance += STORM
        self.waiting.clear()
        self.last = NOTICE_FRAME if what == 'notice' else how['frame']
        message = self._say(dst, self.last, NOTICE if what == 'notice' else MESSAGE)
        if what != 'notice':
            message.deadline = self.network.now + how.get('timeout', 0.3)
            self.waiting[dst] = message

    def receive(self, packet: Packet) -> None:
        """Ignore an echo; else echo, and run the callback."""
        read = packet.frame[:_BUFFER]
        if read == self.last[:_BUFFER]:
            message = self.waiting.get(packet.src)
            if message is packet.root and not packet.damaged:
                del self.waiting[packet.src]
                message.deadline = 0.0
                self.watch.ended(self, message, CONFIRMED)
            return
        if code(read) != 0:
            self.network.send(self.name, packet.src, read, *self._root(packet))
        if code(read) >= 0:
            self.watch.delivered(self, packet)
            if b'?' in read and packet.hops == 0 and not packet.damaged:
                self.do('send', packet.src, {'frame': answer_to(read, self.network.packets)})
