"""What exchanges with a broken rule are made of: the true one, and places to break it."""

from __future__ import annotations

from typing import Any

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Verdict
from echorig.wire._codec import peek

from . import tags
from .invariants import WINDOW


class Mutant:
    """An exchange as it should be, for its parts to be broken; it is used as an `Exchange` is."""

    def __init__(self, tuning: Any, *args: Any, run: int, number: int) -> None:
        self.real = Exchange(tuning, *args, run=run, number=number)
        self.reply = b''
        self.number = number
        self._outbox: list[tuple[bytes, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def classify(self, frame: bytes, addr: str, now: float, waited: float = 0.0, sure: bool = True) -> int:
        """Change what the true one makes of a frame."""
        verdict = self.real.classify(self.change_frame(frame, addr), addr, now, waited, sure)
        self.reply = self.real.reply or b''
        return self.change_verdict(verdict, frame, addr, now)

    @property
    def outbox(self) -> list[tuple[bytes, str]]:
        """What is to be sent."""
        for frame, addr in self.real.outbox:
            self._outbox += self.change_output(frame, addr)
        self.real.outbox.clear()
        return self._outbox

    def change_output(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        """Return what is sent in place of a frame."""
        return [(frame, addr)]

    def change_frame(self, frame: bytes, addr: str) -> bytes:
        """Return another frame."""
        return frame

    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        """Return another verdict."""
        return verdict

    def is_own(self, frame: bytes) -> bool:
        """Tell whether a frame has our run."""
        tag = tags.read(frame)
        return tag is not None and (tag.run - self.real.run) % 2**31 in (0, 2**31 - 1)

    def deliver(self, frame: bytes) -> int:
        """Take a frame for a new message."""
        self.reply = tags.echoed(frame) if tags.has_tag(frame) else frame
        return Verdict.DELIVER


class NarrowWindow(Mutant):
    """Knows what was received of so many numbers only."""

    width = WINDOW

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.highest: dict[int, int] = {}

    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        tag = tags.read(frame)
        if tag is None or tag.flag or tags.is_ping(frame) or self.is_own(frame):
            return verdict
        before = self.highest.get(tag.run, 0)
        if verdict in (Verdict.DELIVER, Verdict.ECHO, Verdict.ERROR_NOTICE):
            self.highest[tag.run] = max(before, tag.number)
        if verdict in (Verdict.ECHO, Verdict.IGNORED) and peek(frame) > 0 and tag.number <= before - self.width:
            return self.forgotten(frame)
        return verdict

    def forgotten(self, frame: bytes) -> int:
        """Return what is made of a frame of which it does not know."""
        return self.deliver(frame)


class OtherRuns(Mutant):
    """Sees other runs than those that are there."""

    def change_run(self, run: int, addr: str) -> int:
        """Return which run it sees."""
        return run

    def change_frame(self, frame: bytes, addr: str) -> bytes:
        tag = tags.read(frame)
        if tag is None or not tags.is_right(frame, tag):
            return frame
        named = tags.named(frame)
        if tag.flag and self.is_own(frame) and tags.is_ping(frame) and named is not None:  # it says who has answered
            who = tags.field(self.change_run(named[0], addr), named[1])
            return tags.written(b'[' + who, tag.run, tag.number, tag.life, True)
        return frame if tag.flag or self.is_own(frame) else with_run(frame, self.change_run(tag.run, addr))

    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        tag = tags.read(frame)
        if self.reply and tag is not None and tags.has_tag(self.reply):
            self.reply = with_run(self.reply, tag.run)
        return verdict


class OtherNumbers(Mutant):
    """Writes other numbers than those that the true one counts."""

    def change_number(self, number: int) -> int:
        """Return which number is written."""
        return number

    def restore_number(self, number: int) -> int | None:
        """Return which number was meant, None if none was."""
        return number

    def change_output(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        tag = tags.read(frame)
        return [
            (frame if tag is None or self.number != 1 else with_number(frame, self.change_number(tag.number)), addr)
        ]

    def send_unconfirmed(self, frame: bytes, addr: str, *args: Any) -> bytes | None:
        out = self.real.send_unconfirmed(frame, addr, *args)
        return None if out is None else self.change_output(out, addr)[0][0]

    def change_frame(self, frame: bytes, addr: str) -> bytes:
        tag = tags.read(frame)
        if tag is None or not self.is_own(frame) or self.number != 1 or not tags.is_right(frame, tag):
            return frame
        number = self.restore_number(tag.number)
        return b'' if number is None else with_number(frame, number)

    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return Verdict.STRAY_ECHO if verdict == Verdict.IGNORED and self.is_own(frame) else verdict


def is_flagged(frame: bytes) -> bool:
    """Tell whether a frame has the ACK flag."""
    tag = tags.read(frame)
    return tag is not None and tag.flag


class ChangedRetransmissions(Mutant):
    """Has something to do with what the timer sends."""

    def expire(self, now: float) -> None:
        before = len(self.real.outbox)
        self.real.expire(now)
        self.real.outbox[before:] = [
            pair for old in self.real.outbox[before:] for pair in self.change_retransmission(*old)
        ]

    def change_retransmission(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        """Return what is sent in place of what the timer would have sent."""
        return [(frame, addr)]


class PingsBehind(OtherNumbers):
    """Uses every second number for pings of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last = 0

    def change_number(self, number: int) -> int:
        self.last = max(self.last, 2 * number)
        return 2 * number

    def restore_number(self, number: int) -> int | None:
        return None if number % 2 else number // 2

    def ask(self, addr: str) -> list[tuple[bytes, str]]:
        """Return a ping."""
        if self.number != 1 or self.last % 2:
            return []
        self.last += 1
        return [(tags.written(b'[' + b' ' * tags.FIELD, self.real.run, self.last, 0), addr)]


def with_run(frame: bytes, run: int) -> bytes:
    """Return a frame with another run."""
    tag = tags.read(frame)
    assert tag is not None
    return tags.written(frame[: -tags.TAG - 1], run, tag.number, tag.life, tag.flag)


def with_number(frame: bytes, number: int) -> bytes:
    """Return a frame with another number."""
    tag = tags.read(frame)
    assert tag is not None
    return tags.written(frame[: -tags.TAG - 1], tag.run, number, tag.life, tag.flag)
