"""The network: ``python -m system.faulty_link FOLDER SEED NAME=PORT …`` loses, duplicates and delays datagrams.

1. Each rig has a port of its own here. The ports are printed as one line of JSON.
2. The link logs the time of arrival and of departure of each forwarded datagram with a message. The time of arrival is
   that of the kernel, so that a stall of this program counts as delay.
3. It needs Linux.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
import selectors
import socket
import struct
import sys
import time
from random import Random
from typing import Any

from .event_log import EventLog

LONGEST = 3.0  # seconds
_LOSS, _LATE, _COPY = 0.1, 0.02, 0.15
_HOST = '127.0.0.1'
_ID = re.compile(rb'#[\w.]+')  # the first match in a frame is its own id
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct('@ll')


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((_HOST, 0))
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return sock


class Direction:
    """One direction of the datagrams of a rig: to the rig, or to the main program."""

    def __init__(self, rig: str, way: str, receiver: socket.socket, sender: socket.socket, seed: str) -> None:
        self.rig, self.way, self.receiver, self.sender = rig, way, receiver, sender
        self.random = Random(f'{seed} {rig} {way}')
        self.source: Any = None
        self.target: Any = None

    def delays(self) -> list[float]:
        """Return the delay of each copy of a datagram; none if it is lost."""
        if self.random.random() < _LOSS:
            return []
        delay = 0.0002 + self.random.expovariate(2000)
        delays = [self._long() if self.random.random() < _LATE else delay]
        if self.random.random() < _COPY:
            delays.append(self._long())
        return delays

    def _long(self) -> float:
        """Return a long delay; the median is 50 ms."""
        return float(LONGEST * self.random.random() ** 6)


class Link:
    """All directions, and the datagrams in flight."""

    def __init__(self, log: EventLog, seed: str, rigs: dict[str, int]) -> None:
        self.log = log
        self.ports: dict[str, int] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._in_flight: list[tuple[float, int, Direction, bytes, float]] = []
        self._numbers = itertools.count()
        for rig, port in rigs.items():
            front, back = _socket(), _socket()
            self.ports[rig] = front.getsockname()[1]
            there, home = Direction(rig, 'there', front, back, seed), Direction(rig, 'back', back, front, seed)
            there.target = _HOST, port
            for sock, direction, other in ((front, there, home), (back, home, there)):
                self._selector.register(sock, selectors.EVENT_READ, (direction, other))

    def run(self) -> None:
        """Forward datagrams until stdin is closed."""
        while True:
            wait = max(0.0, self._in_flight[0][0] - time.monotonic()) if self._in_flight else None
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    return
                self._receive(*key.data)
            while self._in_flight and self._in_flight[0][0] <= time.monotonic():
                self._forward(*heapq.heappop(self._in_flight)[2:])

    def _receive(self, direction: Direction, other: Direction) -> None:
        try:
            data, ancillary, _, source = direction.receiver.recvmsg(65536, 128)
        except OSError:  # an ICMP error of the last datagram sent
            return
        if direction.way == 'there':
            other.target = source
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        now = time.monotonic()
        came = now - max(0.0, time.time() - seconds - nanoseconds * 1e-9)
        for delay in direction.delays():
            heapq.heappush(self._in_flight, (now + delay, next(self._numbers), direction, data, came))

    def _forward(self, direction: Direction, data: bytes, came: float) -> None:
        try:
            direction.sender.sendto(data, direction.target)
        except OSError:
            return
        if found := _ID.search(data):
            self.log(
                'copy',
                id=found.group().decode(),
                rig=direction.rig,
                way=direction.way,
                came=came,
                left=time.monotonic(),
            )


def run(folder: str, seed: str, *ports: str) -> None:
    """Run the network until stdin is closed."""
    pairs = (pair.split('=') for pair in ports)
    link = Link(EventLog(folder, 'link'), seed, {name: int(port) for name, port in pairs})
    print(json.dumps(link.ports), flush=True)
    link.run()


if __name__ == '__main__':
    run(*sys.argv[1:])
