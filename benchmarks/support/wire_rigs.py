"""Rigs on plain sockets that answer EXPSTART with the time at which the kernel received it (SO_TIMESTAMPNS).

They confirm messages and pings as echorig does if the message has a delivery tag, and as iblutil does otherwise. The
answer to a message that comes again carries the time of its first copy.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
from typing import Any

from echorig.wire._tags import add_tag, is_ping, read_tag, set_ack, strip_tag

SO_TIMESTAMPNS = 35  # Linux; not in the socket module of Python 3.10 to 3.13
TIME = struct.Struct('@qq')
RUN, LIFETIME = 1, 10_000  # milliseconds


class WireRig:
    """One rig on a socket of its own."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(('127.0.0.1', 0))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)
        self.uri = 'udp://{}:{}'.format(*self.socket.getsockname())
        self._number = 0
        self._last: tuple[Any, bytes] = (None, b'')  # the last message, and the answer to it

    def read(self) -> None:
        """Confirm and answer the datagrams that are waiting."""
        while True:
            try:
                frame, extra, _, addr = self.socket.recvmsg(65536, 128)
            except BlockingIOError:
                return
            self._handle(frame, next(TIME.unpack(data) for *_, data in extra), addr)

    def _handle(self, frame: bytes, when: tuple[int, int], addr: Any) -> None:
        tag = read_tag(frame)
        if tag is None:
            if frame == self._last[1]:
                return  # iblutil confirms the answer
            self.socket.sendto(frame, addr)
            identity: Any = (addr, when)
        else:
            if tag[0]:
                return  # echorig confirms the answer
            self.socket.sendto(set_ack(frame), addr)
            if is_ping(frame):
                return
            identity = (addr, *tag[1:3])
        if identity != self._last[0]:
            self._last = (identity, self._answer(frame, tag, when))
        self.socket.sendto(self._last[1], addr)

    def _answer(self, frame: bytes, tag: tuple[bool, int, int, int] | None, when: tuple[int, int]) -> bytes:
        event, ref, *_ = json.loads(frame if tag is None else strip_tag(frame))
        self._number += 1
        answer = json.dumps([event, ref, when[0] * 10**9 + when[1]], separators=(',', ':')).encode()
        if tag is None:
            return answer
        return add_tag(answer, RUN, self._number, LIFETIME, tag[1] << 32 | tag[2])


def serve(n: int) -> None:
    """Open n rigs, print their URIs as a line of JSON, and run until stdin is closed."""
    rigs = [WireRig() for _ in range(n)]
    selector = selectors.DefaultSelector()
    for rig in rigs:
        selector.register(rig.socket, selectors.EVENT_READ, rig.read)
    selector.register(sys.stdin, selectors.EVENT_READ, sys.exit)
    print(json.dumps([rig.uri for rig in rigs]), flush=True)
    while True:
        for key, _ in selector.select():
            key.data()
