"""Exchanges with one rule broken each, to show that the simulation would see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from echorig._codec import acknowledged, peek, read_tag, tag
from echorig._exchange import CONFIRMED, DELIVER, ECHO, IGNORED, MISMATCH, NOTICE, STORM, SWALLOWED, Exchange

from .actors import has_tag, is_ping

_ACK = 0x80000000


class Mutant:
    """An exchange as it should be, for its parts to be broken; it is used as an `Exchange` is."""

    def __init__(self, tuning: Any, *args: Any) -> None:
        self.right = Exchange(tuning, *args)
        self.reply = b''

    def __getattr__(self, name: str) -> Any:
        return getattr(self.right, name)

    def receive(self, frame: bytes, addr: str, now: float) -> int:
        """Change what the true one makes of a frame."""
        verdict = self.right.receive(frame, addr, now)
        self.reply = self.right.reply or b''
        return self.instead(verdict, frame, addr, now)

    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        """Return another verdict."""
        return verdict

    def deliver(self, frame: bytes) -> int:
        """Take a frame for a new message, echoed as it is."""
        self.reply = frame
        return DELIVER


MUTATIONS: dict[str, Callable[..., Any]] = {}


def mutation(made: type[Mutant]) -> type[Mutant]:
    """Enter a mutation under its name."""
    MUTATIONS[made.__name__] = made
    return made


@mutation
class DuplicatesAreNew(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return DELIVER if verdict == ECHO and not is_ping(frame) else verdict


@mutation
class DuplicatesAreNotEchoed(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return IGNORED if verdict == ECHO and not is_ping(frame) else verdict


@mutation
class OneNumberIsRemembered(Mutant):
    def __init__(self, tuning: Any, *args: Any) -> None:
        super().__init__(replace(tuning, max_numbers=1), *args)


@mutation
class NumbersAreForgottenAtOnce(Mutant):
    def __init__(self, tuning: Any, *args: Any) -> None:
        super().__init__(replace(tuning, due_age=0.01), *args)


@mutation
class FlaggedFramesAreEchoed(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        if verdict == SWALLOWED and read_tag(frame) >= _ACK:
            self.reply = frame
            return ECHO
        return verdict


@mutation
class FlaggedFramesAreMessages(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == SWALLOWED and read_tag(frame) >= _ACK else verdict


@mutation
class LateEchoesAreMessages(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == SWALLOWED and read_tag(frame) < _ACK else verdict


@mutation
class LateUntaggedEchoesAreMessages(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == SWALLOWED and not has_tag(frame) else verdict


@mutation
class EchoesHaveNoFlag(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        self.reply = frame
        return verdict


@mutation
class PlainMessagesAreNotEchoedVerbatim(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        if verdict == DELIVER and not has_tag(frame):
            self.reply = frame.replace(b', ', b',')
        return verdict


@mutation
class NoticesAreEchoed(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == NOTICE else verdict


@mutation
class NoticesAreNotToldApart(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return NOTICE if verdict == IGNORED and frame and peek(frame) == 0 else verdict


@mutation
class PingsRunCallbacks(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return DELIVER if verdict == ECHO and is_ping(frame) else verdict


@mutation
class PingsAreNotAnswered(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return IGNORED if verdict == ECHO and is_ping(frame) else verdict


@mutation
class CrossingMessagesAreSwallowed(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return SWALLOWED if verdict == DELIVER and self.right.newest(addr) is not None else verdict


@mutation
class CrossingMessagesAreMismatches(Mutant):
    """What the incumbent does."""

    def receive(self, frame: bytes, addr: str, now: float) -> int:
        newest = self.right.newest(addr)
        if newest is not None and peek(frame) > 0 and not has_tag(frame) and frame != newest.frame:
            self.right.receive(b'nonsense', addr, now)
            return MISMATCH
        return super().receive(frame, addr, now)


@mutation
class AnyFrameConfirms(Mutant):
    def receive(self, frame: bytes, addr: str, now: float) -> int:
        newest = self.right.newest(addr)
        return super().receive(frame if newest is None else newest.frame, addr, now)


@mutation
class TheNumberAloneConfirms(Mutant):
    def receive(self, frame: bytes, addr: str, now: float) -> int:
        newest = self.right.newest(addr)
        if newest is not None and has_tag(newest.frame) and read_tag(frame) == read_tag(newest.frame) + _ACK:
            frame = acknowledged(newest.frame)
        return super().receive(frame, addr, now)


@mutation
class AnybodysEchoConfirms(Mutant):
    def receive(self, frame: bytes, addr: str, now: float) -> int:
        for other in self.right.waiting_for():
            newest = self.right.newest(other)
            if peek(newest.frame) == peek(frame) >= 0:
                self.right.receive(newest.frame, other, now)
        return super().receive(frame, addr, now)


@mutation
class StormsAreNotEnded(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == STORM else verdict


class Repeating(Mutant):
    """Has something to do with what is sent."""

    def __init__(self, tuning: Any, *args: Any) -> None:
        super().__init__(tuning, *args)
        self.seen: set[bytes] = set()

    def expire(self, now: float) -> None:
        before = len(self.right.outbox)
        self.right.expire(now)
        self.right.outbox[before:] = [pair for old in self.right.outbox[before:] for pair in self.changed(*old)]

    def changed(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        """Return what is sent in place of what the timer would have sent."""
        return [(frame, addr)]

    def send(self, frame: bytes, *args: Any) -> Any:
        send = self.right.send(frame, *args)
        self.seen.add(send.frame)
        return send


@mutation
class NothingIsSentAgain(Repeating):
    def changed(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        return []


@mutation
class PlainPeersAreSentAgain(Repeating):
    """The message goes in place of the ping."""

    def changed(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        newest = self.right.newest(addr)
        return [(newest.frame, addr)] if newest is not None and newest.frame in self.seen else [(frame, addr)]


@mutation
class RepetitionsHaveNewNumbers(Repeating):
    def changed(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        if frame in self.seen and has_tag(frame):
            frame = tag(frame[:-33] + b']', (read_tag(frame) + 1000) & 0x7FFFFFFF)
        return [(frame, addr)]


@mutation
class RepetitionsComeTenfold(Repeating):
    def changed(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        return [(frame, addr)] * 10


@mutation
class UntaggedMessagesAreSentAgain(Repeating):
    def send(self, frame: bytes, *args: Any) -> Any:
        send = super().send(frame, *args)
        if not has_tag(send.frame):
            self.right.outbox.append((send.frame, send.addr))
        return send


@mutation
class AllAreSentAtOnce(Mutant):
    """The newest goes first, whoever waits."""

    def send(self, frame: bytes, addr: str, waiter: Any, now: float, timeout: float, taggable: bool = True) -> Any:
        waiting = self.right.newest(addr)
        send = self.right.send(frame, addr, waiter, now, timeout, taggable)
        if waiting is not None:
            self.right.outbox.append((send.frame, addr))
        return send


@mutation
class CancelLeavesItWaiting(Mutant):
    def cancel(self, send: Any, now: float) -> None:
        pass


@mutation
class CancelForgetsWhatWasSent(Mutant):
    def cancel(self, send: Any, now: float) -> None:
        self.right.lost(send.addr, now)
        self.right.finished.clear()


@mutation
class TimeoutsComeTooLate(Mutant):
    def send(self, frame: bytes, addr: str, waiter: Any, now: float, timeout: float, taggable: bool = True) -> Any:
        return self.right.send(frame, addr, waiter, now, timeout + 0.1, taggable)


@mutation
class NothingTimesOut(Mutant):
    def expire(self, now: float) -> None:
        pass


@mutation
class PeersAreNeverForgotten(Mutant):
    def __init__(self, tuning: Any, *args: Any) -> None:
        super().__init__(replace(tuning, max_peers=4096), *args)


@mutation
class ConfirmsTwice(Mutant):
    def instead(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return CONFIRMED if verdict == SWALLOWED else verdict
