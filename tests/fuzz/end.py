"""One end of the target `exchange`: the exchange itself, and what must hold after every call of it."""

from __future__ import annotations

from typing import Any

from echorig import Tuning
from echorig.delivery._exchange import CONFIRMED, LOST, MISMATCH, TIMED_OUT, UNREACHABLE, WAITING, Exchange, Send
from fuzz.reader import ByteReader
from tagging import read_tag

ENDS = {CONFIRMED, MISMATCH, TIMED_OUT, UNREACHABLE, LOST}
MAX_PEERS = 6
MAX_FRAME = 420


class End:
    """One exchange, and what is known of its sends."""

    def __init__(self, name: str, reader: ByteReader, run: int, honest: bool, stream: bool) -> None:
        tags = honest or reader.flag()
        self.tuning = Tuning(
            tags=tags,
            max_peers=MAX_PEERS,
            max_due=4,
            min_truncated=50,
            message_burst=64 if honest else 8,
            malformed_burst=4,
        )
        self.name = name
        self.ex = Exchange(self.tuning, stream, reader.pick((65535, 60)), run, reader.pick((1, 2**32 - 3)), MAX_FRAME)
        self.sends: list[Send] = []
        self.stream = stream
        self.contacts: set[Any] = set()  # whom the program has spoken to
        self.over: set[int] = set()
        self.cancelled: set[int] = set()
        self.delivered: list[object] = []
        self.wire: list[tuple[bytes, str]] = []  # on its way to this end: what, and from whom

    def check(self) -> list[tuple[bytes, Any]]:
        """Check what must hold after every call, and return what is to be sent."""
        ex = self.ex
        for send in ex.finished:
            place = send.waiter
            assert self.sends[place] is send
            assert send.outcome in ENDS
            assert place not in self.over, 'it ended twice'
            assert place not in self.cancelled, 'it was cancelled'
            self.over.add(place)
        ex.finished.clear()
        waiting = [send for send in self.sends if send.outcome == WAITING]
        assert ex.n_waiting == len(waiting)
        assert len(waiting) + len(self.over) + len(self.cancelled) == len(self.sends)
        # The program may speak to more than there is room for. On a stream those are remembered who are connected.
        assert self.stream or ex.n_peers <= MAX_PEERS + len(self.contacts), 'a table outgrows its bound'
        assert all(ex.alarm <= send.deadline for send in waiting), 'nobody will look when its time is up'
        out = list(ex.outbox)
        ex.outbox.clear()
        for frame, addr in out:
            assert type(frame) is bytes
            assert frame
            assert len(frame) <= MAX_FRAME or read_tag(frame) < 0, 'a tag made it too long'
            assert addr is not None
        return out
