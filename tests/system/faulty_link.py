"""The network: ``python -m system.faulty_link FOLDER SEED NAME=PORT …``; it loses datagrams, copies them, and is late.

1. Each rig has a port of its own here; the ports are printed as one line of JSON.
2. It notes of every datagram that it hands on, and that names a message, when it came and when it left. When it came is
   what the system says, so that time in which this program itself stands still is part of the way.
3. Only Linux is asked for.
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

from .notes import Notes

LONGEST = 3.0  # seconds
_LOSS, _LATE, _COPY = 0.1, 0.02, 0.15
_HOST = '127.0.0.1'
_ID = re.compile(rb'#[\w.]+')  # the first that a frame names is its own
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct('@ll')


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((_HOST, 0))
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return sock


class Lane:
    """One way of one rig's datagrams: to the rig, or back to the main program."""

    def __init__(self, rig: str, way: str, ears: socket.socket, mouth: socket.socket, seed: str) -> None:
        self.rig, self.way, self.ears, self.mouth = rig, way, ears, mouth
        self.dice = Random(f'{seed} {rig} {way}')
        self.source: Any = None
        self.target: Any = None

    def delays(self) -> list[float]:
        """Draw when a datagram is to leave; none if it is lost."""
        if self.dice.random() < _LOSS:
            return []
        delay = 0.0002 + self.dice.expovariate(2000)
        delays = [self._long() if self.dice.random() < _LATE else delay]
        if self.dice.random() < _COPY:
            delays.append(self._long())
        return delays

    def _long(self) -> float:
        """Draw a delay of which as many are under 50 ms as over."""
        return float(LONGEST * self.dice.random() ** 6)


class Link:
    """All lanes, and what is on its way."""

    def __init__(self, notes: Notes, seed: str, rigs: dict[str, int]) -> None:
        self.notes = notes
        self.ports: dict[str, int] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._on_way: list[tuple[float, int, Lane, bytes, float]] = []
        self._numbers = itertools.count()
        for rig, port in rigs.items():
            front, back = _socket(), _socket()
            self.ports[rig] = front.getsockname()[1]
            there, home = Lane(rig, 'there', front, back, seed), Lane(rig, 'back', back, front, seed)
            there.target = _HOST, port
            for sock, lane, other in ((front, there, home), (back, home, there)):
                self._selector.register(sock, selectors.EVENT_READ, (lane, other))

    def run(self) -> None:
        """Carry datagrams until stdin ends."""
        while True:
            wait = max(0.0, self._on_way[0][0] - time.monotonic()) if self._on_way else None
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    return
                self._take(*key.data)
            while self._on_way and self._on_way[0][0] <= time.monotonic():
                self._hand_on(*heapq.heappop(self._on_way)[2:])

    def _take(self, lane: Lane, other: Lane) -> None:
        try:
            data, ancillary, _, source = lane.ears.recvmsg(65536, 128)
        except OSError:  # nobody listened where the last one went
            return
        if lane.way == 'there':
            other.target = source
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        now = time.monotonic()
        came = now - max(0.0, time.time() - seconds - nanoseconds * 1e-9)
        for delay in lane.delays():
            heapq.heappush(self._on_way, (now + delay, next(self._numbers), lane, data, came))

    def _hand_on(self, lane: Lane, data: bytes, came: float) -> None:
        try:
            lane.mouth.sendto(data, lane.target)
        except OSError:
            return
        if found := _ID.search(data):
            self.notes('copy', id=found.group().decode(), rig=lane.rig, way=lane.way, came=came, left=time.monotonic())


def run(folder: str, seed: str, *ports: str) -> None:
    """Be the network until stdin ends."""
    pairs = (pair.split('=') for pair in ports)
    link = Link(Notes(folder, 'link'), seed, {name: int(port) for name, port in pairs})
    print(json.dumps(link.ports), flush=True)
    link.run()


if __name__ == '__main__':
    run(*sys.argv[1:])
