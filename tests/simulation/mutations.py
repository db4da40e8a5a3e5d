"""Exchanges with one rule broken each, to show that the simulation would see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from echorig.delivery.verdicts import Outcome, Verdict
from echorig.wire._codec import peek

from . import tags
from .mutant import (
    ChangedRetransmissions,
    Mutant,
    NarrowWindow,
    OtherNumbers,
    OtherRuns,
    PingsBehind,
    is_flagged,
    with_number,
)

MUTATIONS: dict[str, Callable[..., Any]] = {}
HEAVY: set[str] = set()  # those that need thousands of messages


def mutation(made: type[Mutant]) -> type[Mutant]:
    """Enter a mutation under its name."""
    MUTATIONS[made.__name__] = made
    return made


def heavy_mutation(made: type[Mutant]) -> type[Mutant]:
    """Enter a mutation that few messages do not show."""
    HEAVY.add(made.__name__)
    return mutation(made)


# --- runs and windows ---


@mutation
class DuplicatesAreNew(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return Verdict.DELIVER if verdict == Verdict.ECHO and not tags.is_ping(frame) else verdict


@mutation
class DuplicatesAreNotEchoed(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return Verdict.IGNORED if verdict == Verdict.ECHO and not tags.is_ping(frame) else verdict


@heavy_mutation
class WindowIsOf64(NarrowWindow):
    width = 64


@heavy_mutation
class BelowTheWindowIsNew(NarrowWindow):
    pass


@heavy_mutation
class BelowTheWindowIsConfirmed(NarrowWindow):
    def forgotten(self, frame: bytes) -> int:
        self.reply = tags.echoed(frame)
        return Verdict.ECHO


@mutation
class OwnRunIsNotKnown(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        own = verdict == Verdict.STRAY_ECHO and self.is_own(frame) and not tags.read(frame).flag  # type: ignore[union-attr]
        return self.deliver(frame) if own else verdict


@mutation
class RunsAreNotCompared(OtherRuns):
    def change_run(self, run: int, addr: str) -> int:
        return sum(addr[:1].encode()) + 5


@mutation
class IdentityIsTheAddress(OtherRuns):
    def change_run(self, run: int, addr: str) -> int:
        return run ^ sum(addr.encode())


@mutation
class ChecksAreNotVerified(Mutant):
    def change_frame(self, frame: bytes, addr: str) -> bytes:
        tag = tags.read(frame)
        return frame if tag is None else tags.written(frame[: -tags.TAG - 1], *tag[:4][1:], flag=tag.flag)


@mutation
class RestartsAreNotCounted(Mutant):
    def statistics(self, addr: str) -> Any:
        found = self.real.statistics(addr)
        return found and (*found[:11], 0, *found[12:])


@heavy_mutation
class TheLimitIsFourfold(OtherNumbers):
    """It sends numbers of which the peer forgets some before they are confirmed."""

    def change_number(self, number: int) -> int:
        return 4 * number

    def restore_number(self, number: int) -> int | None:
        return number // 4


@mutation
class NumbersAreOutOfOrder(OtherNumbers):
    def change_number(self, number: int) -> int:
        return (number + 1) ^ 1

    def restore_number(self, number: int) -> int | None:
        return (number ^ 1) - 1


@mutation
class AnswersNameTheLastOfTheirEvent(Mutant):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.questions: dict[tuple[str, int], int] = {}

    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        tag = tags.read(frame)
        if verdict == Verdict.DELIVER and tag is not None:
            self.questions[addr, peek(frame)] = tag.run << 32 | tag.number
        return verdict

    def send(
        self,
        frame: bytes,
        addr: str,
        waiter: Any,
        now: float,
        timeout: float,
        taggable: bool,
        answered: int,
        *args: Any,
    ) -> Any:
        if answered >= 0:
            answered = self.questions.get((addr, peek(frame)), answered)
        return self.real.send(frame, addr, waiter, now, timeout, taggable, answered, *args)


# --- echoes ---


@mutation
class FlaggedFramesAreEchoed(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        if verdict == Verdict.STRAY_ECHO and is_flagged(frame):
            self.reply = frame
            return Verdict.ECHO
        return verdict


@mutation
class FlaggedFramesAreMessages(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == Verdict.STRAY_ECHO and is_flagged(frame) else verdict


@mutation
class LateUntaggedEchoesAreMessages(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == Verdict.STRAY_ECHO and not tags.has_tag(frame) else verdict


@mutation
class EchoesHaveNoFlag(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        self.reply = frame
        return verdict


@mutation
class LegacyMessagesAreNotEchoedVerbatim(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        if verdict == Verdict.DELIVER and not tags.has_tag(frame):
            self.reply = frame.replace(b', ', b',')
        return verdict


@mutation
class NoticesAreEchoed(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == Verdict.ERROR_NOTICE else verdict


@mutation
class RepeatedNoticesAreNew(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return Verdict.ERROR_NOTICE if verdict == Verdict.IGNORED and frame and peek(frame) == 0 else verdict


@mutation
class PingsRunCallbacks(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return Verdict.DELIVER if verdict == Verdict.ECHO and tags.is_ping(frame) else verdict


@mutation
class PingsAreNotAnswered(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return Verdict.IGNORED if verdict == Verdict.ECHO and tags.is_ping(frame) else verdict


@mutation
class PingEchoesNameNoProgram(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        if verdict == Verdict.ECHO and tags.is_ping(frame):
            self.reply = tags.echoed(frame)
        return verdict


@mutation
class CrossingMessagesAreDropped(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return Verdict.STRAY_ECHO if verdict == Verdict.DELIVER and self.real.newest_send(addr) is not None else verdict


@mutation
class CrossingMessagesAreMismatches(Mutant):
    """What iblutil does."""

    def classify(self, frame: bytes, addr: str, now: float, waited: float = 0.0, sure: bool = True) -> int:
        newest = self.real.newest_send(addr)
        if newest is not None and peek(frame) > 0 and not tags.has_tag(frame) and frame != newest.frame:
            self.real.classify(b'nonsense', addr, now)
            return Verdict.MISMATCH
        return super().classify(frame, addr, now, waited, sure)


@mutation
class AnyFrameConfirms(Mutant):
    def change_frame(self, frame: bytes, addr: str) -> bytes:
        newest = self.real.newest_send(addr)
        return frame if newest is None else newest.frame


@mutation
class EchoesOfOtherPeersConfirm(Mutant):
    def classify(self, frame: bytes, addr: str, now: float, waited: float = 0.0, sure: bool = True) -> int:
        for other in self.real.waiting_peers():
            newest = self.real.newest_send(other)
            if peek(newest.frame) == peek(frame) >= 0:
                self.real.classify(newest.frame, other, now)
        return super().classify(frame, addr, now, waited, sure)


@mutation
class ConfirmsTwice(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return Verdict.CONFIRMED if verdict == Verdict.STRAY_ECHO else verdict


# --- how long a message is wanted ---


@mutation
class LifetimeIsIgnored(Mutant):
    def classify(self, frame: bytes, addr: str, now: float, waited: float = 0.0, sure: bool = True) -> int:
        return super().classify(frame, addr, now, min(waited, 0.0), sure)


@mutation
class LifetimeIsTooShort(Mutant):
    def classify(self, frame: bytes, addr: str, now: float, waited: float = 0.0, sure: bool = True) -> int:
        return super().classify(frame, addr, now, 2 * waited, sure)


@mutation
class SendersAreNotAsked(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == Verdict.MAYBE_EXPIRED else verdict


@mutation
class EverySendIsPending(Mutant):
    """Who asks whether a message is still wanted is told so."""

    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        tag, asked = tags.read(frame), tags.named(frame)
        if verdict == Verdict.ECHO and tag is not None and asked is not None and tags.is_ping(frame):
            answer = tags.field(self.real.run, asked[1])
            self.reply = tags.written(b'[' + answer, tag.run, tag.number, 0, True)
        return verdict


@mutation
class AnswersAreValidForever(Mutant):
    """That a message is wanted may have been said long ago, and lain in the socket."""

    def classify(self, frame: bytes, addr: str, now: float, waited: float = 0.0, sure: bool = True) -> int:
        return super().classify(frame, addr, now, 0.0 if is_flagged(frame) else waited, sure)


@mutation
class RetransmissionsKeepTheirLifetime(Mutant):
    """They say how long the message was wanted at first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lives: dict[tuple[int, int], int] = {}

    def change_output(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        tag = tags.read(frame)
        if tag is not None:
            life = self.lives.setdefault(tag.identity, tag.life)
            frame = tags.written(frame[: -tags.TAG - 1], tag.run, tag.number, life)
        return [(frame, addr)]


# --- legacy peers ---


@mutation
class NothingIsRetransmitted(ChangedRetransmissions):
    def change_retransmission(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        return []


@mutation
class RetransmissionsHaveNewNumbers(ChangedRetransmissions):
    def change_retransmission(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        tag = tags.read(frame)
        if tag is not None and not tags.is_ping(frame):
            frame = with_number(frame, tag.number + 1000 & 0xFFFFFFFF)
        return [(frame, addr)]


@mutation
class RetransmissionsAreTenfold(ChangedRetransmissions):
    def change_retransmission(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        return [(frame, addr)] * 10


@mutation
class LegacyPeersAreSentAgain(Mutant):
    def expire(self, now: float) -> None:
        waiting = [self.real.newest_send(addr) for addr in self.real.waiting_peers()]
        self.real.expire(now)
        for send in waiting:
            if send.outcome not in (Outcome.CONFIRMED, Outcome.MISMATCH) and send.number and send.deadline > now:
                tag = tags.read(send.frame)
                if tag is not None and self.real.statistics(send.addr)[0] == 'legacy':
                    life = max(1, -int((now - send.deadline) * 1000 // 1))
                    frame = tags.written(send.frame[: -tags.TAG - 1], tag.run, tag.number, life)
                    self.real.outbox.append((frame, send.addr))


@mutation
class UntaggedMessagesAreSentAgain(Mutant):
    def send(self, frame: bytes, *args: Any) -> Any:
        send = self.real.send(frame, *args)
        if send.frame in [out for out, _ in self.real.outbox] and not tags.has_tag(send.frame):
            self.real.outbox.append((send.frame, send.addr))
        return send


@mutation
class PingsFollowMessages(PingsBehind):
    """A peer not yet proven to have tags is asked after its message was sent."""

    def change_output(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        out = super().change_output(frame, addr)
        if not tags.is_ping(frame) and self.real.statistics(addr)[0] == 'unknown':
            out += self.ask(addr)
        return out


@mutation
class LegacyPeersArePingedAgain(PingsBehind):
    """What a peer is is forgotten after a while."""

    def send(self, frame: bytes, addr: str, waiter: Any, now: float, *args: Any) -> Any:
        found = self.real.statistics(addr)
        if found is not None and found[0] == 'legacy' and found[10] is not None and now - found[10] > 60:
            self._outbox += self.ask(addr)
        return self.real.send(frame, addr, waiter, now, *args)


@mutation
class MatlabIsAlwaysEchoed(Mutant):
    """Even while a message to it is unread, whose answer makes it forget what it has said."""

    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        if verdict == Verdict.DELIVER and not self.reply:
            self.reply = frame
        return verdict


@mutation
class StormsAreNotEnded(Mutant):
    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        return self.deliver(frame) if verdict == Verdict.RATE_LIMITED else verdict


@mutation
class StormsGoOn(Mutant):
    """One frame in 65 is dropped, and then it begins anew."""

    storms = 0

    def change_verdict(self, verdict: int, frame: bytes, addr: str, now: float) -> int:
        if verdict == Verdict.RATE_LIMITED:
            self.storms += 1
            return verdict if self.storms % 65 == 0 else self.deliver(frame)
        return verdict


# --- the rest ---


@mutation
class AllAreSentAtOnce(Mutant):
    """Nobody waits for anybody."""

    def send(
        self,
        frame: bytes,
        addr: str,
        waiter: Any,
        now: float,
        timeout: float,
        taggable: bool,
        answered: int,
        asks: bool,
    ) -> Any:
        before = self.real.newest_send(addr)
        send = self.real.send(
            frame, addr, waiter, now, timeout, False if before is not None else taggable, answered, asks
        )
        if before is not None and not send.number:
            self.real.outbox.append((send.frame, send.addr))
        return send


@mutation
class CancelLeavesItWaiting(Mutant):
    def cancel(self, send: Any, now: float) -> None:
        pass


@mutation
class TimeoutsComeTooLate(Mutant):
    def send(self, frame: bytes, addr: str, waiter: Any, now: float, timeout: float, *args: Any) -> Any:
        return self.real.send(frame, addr, waiter, now, timeout + 0.1, *args)


@mutation
class NothingTimesOut(Mutant):
    def expire(self, now: float) -> None:
        pass


@mutation
class PeersAreNeverForgotten(Mutant):
    def __init__(self, tuning: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(replace(tuning, max_peers=4096), *args, **kwargs)


@mutation
class AddressChangesAreIgnored(Mutant):
    """What is sent goes to where it was asked to go."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: dict[Any, str] = {}

    def current_addr(self, addr: str) -> str:
        return addr

    def send(self, frame: bytes, addr: str, *args: Any) -> Any:
        send = self.real.send(frame, addr, *args)
        self.asked[send] = addr
        return send

    def change_output(self, frame: bytes, addr: str) -> list[tuple[bytes, str]]:
        tag = tags.read(frame)
        numbers = {send.number: asked for send, asked in self.asked.items()}
        return [(frame, addr if tag is None else numbers.get(tag.number, addr))]
