"""One end of the target `exchange`: the exchange itself, and what must hold after every call of it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from echorig.delivery._exchange import Exchange
from echorig.delivery._peer import Send
from echorig.delivery.verdicts import Outcome, Verdict
from echorig.tuning import InternalTuning
from echorig.wire._codec import peek
from fuzz import plain_tags
from fuzz.plain_tags import WORDS, Tag
from fuzz.reader import ByteReader

ENDS = {Outcome.CONFIRMED, Outcome.MISMATCH, Outcome.TIMED_OUT, Outcome.UNREACHABLE, Outcome.LOST}
MAX_PEERS = 6
MAX_FRAME = 600
WINDOW = 1024
FIRST_NUMBERS = (1, 1000, WORDS - 12, WORDS - 40)  # from the last two on a new run begins before all is over


class End:
    """One exchange, and what is known of its sends and of what it has received."""

    def __init__(self, name: str, reader: ByteReader, run: int, honest: bool, stream: bool) -> None:
        tags = honest or reader.flag()
        self.tuning = InternalTuning(
            tags=tags,
            max_peers=MAX_PEERS,
            max_expected_echoes=4,
            min_truncated_echo=50,
            message_burst=64 if honest else 8,
            malformed_burst=4,
        )
        self.name = name
        self.first_run = run
        self.ex = Exchange(self.tuning, stream, reader.pick((65535, 60)), run, reader.pick(FIRST_NUMBERS), MAX_FRAME)
        self.sends: list[Send] = []
        self.stream = stream
        self.refusing = 0  # events
        self.contacts: set[Any] = set()  # whom the program has spoken to
        self.over: set[int] = set()
        self.cancelled: set[int] = set()
        self.asking: list[Send] = []  # those whose answers are waited for
        self.delivered: list[tuple[bytes, float]] = []  # what, and when
        self.raw: set[bytes] = set()  # what the program sends as it is
        self.numbers: dict[int, set[int]] = defaultdict(set)  # received, by run
        self.wire: list[tuple[bytes, str, float]] = []  # on its way to this end: what, from whom, and since when

    def check(self) -> list[tuple[bytes, Any]]:
        """Check what must hold after every call, and return what is to be sent."""
        ex = self.ex
        for send in ex.finished:
            place = send.future
            assert self.sends[place] is send
            assert send.outcome in ENDS
            assert place not in self.over, 'it ended twice'
            assert place not in self.cancelled, 'it was cancelled'
            self.over.add(place)
        ex.finished.clear()
        waiting = [send for send in self.sends if send.outcome == Outcome.WAITING]
        assert ex.n_waiting == len(waiting)
        assert len(waiting) + len(self.over) + len(self.cancelled) == len(self.sends)
        # The program may speak to more than there is room for. On a stream those are remembered who are connected.
        assert self.stream or ex.n_peers <= MAX_PEERS + len(self.contacts), 'a table outgrows its bound'
        assert all(ex.alarm <= send.deadline for send in waiting), 'nobody will look when its time is up'
        out = list(ex.outbox)
        ex.outbox.clear()
        for frame, addr in out:
            self.check_sent(frame)
            assert addr is not None
        return out

    def check_sent(self, frame: bytes) -> None:
        """Check something that is sent."""
        assert type(frame) is bytes
        assert frame
        tag = plain_tags.read(frame)
        assert len(frame) <= MAX_FRAME or tag is None, 'a tag made it too long'
        if self.tuning.tags and tag is not None and not tag.ack and frame not in self.raw and self.is_own(tag.run):
            assert not plain_tags.is_damaged(frame), 'its tag is wrong'
            assert tag.number > 0

    def is_own(self, run: int) -> bool:
        return run in (self.first_run, self.ex.run)

    # --- what a frame is, by the rules for tagged ones ---

    def check_verdict(self, frame: bytes, verdict: int, waited: float, sure: bool, own: bool) -> None:
        """Check what a frame was taken for, if its tag says that; `own` is whether it had a run of this end."""
        tag = plain_tags.read(frame)
        if not self.tuning.tags:
            return
        if tag is None:
            broken = plain_tags.is_damaged(frame)
            assert not broken or verdict in (Verdict.DAMAGED, Verdict.CONFIRMED, Verdict.STRAY_ECHO, Verdict.IGNORED), (
                'takes what was damaged'
            )
        elif own:
            assert verdict in (
                (Verdict.CONFIRMED, Verdict.STRAY_ECHO, Verdict.DAMAGED, Verdict.MISMATCH)
                if tag.ack
                else (Verdict.CONFIRMED, Verdict.STRAY_ECHO, Verdict.DAMAGED)
            )
        elif tag.ack:
            assert verdict == Verdict.STRAY_ECHO
        elif plain_tags.is_damaged(frame):
            assert verdict == (Verdict.ECHO if plain_tags.is_hello(frame) else Verdict.DAMAGED)
        elif plain_tags.is_ping(frame):
            assert verdict == Verdict.ECHO
        else:
            self.check_message(frame, tag, verdict, waited, sure)

    def check_message(self, frame: bytes, tag: Tag, verdict: int, waited: float, sure: bool) -> None:
        """Check what a message of another program was taken for."""
        event = peek(frame)
        numbers = self.numbers[tag.run]
        if not self.stream and numbers and tag.number <= max(numbers) - WINDOW:
            assert verdict == Verdict.IGNORED, 'delivered, and nobody knows whether it was before'
        elif not self.stream and tag.number in numbers:
            assert verdict == (Verdict.ECHO if event else Verdict.IGNORED), 'delivered twice'
        elif tag.life and waited * 1000 > tag.life and not self.is_awaited(frame):
            assert verdict == (Verdict.EXPIRED if sure else Verdict.MAYBE_EXPIRED), 'delivered too late'
        elif verdict == Verdict.MAYBE_EXPIRED:
            assert self.stream, 'nothing is overtaken'
            assert waited >= 0.0
        elif event == 0:
            assert verdict == Verdict.ERROR_NOTICE
        else:
            assert verdict == (Verdict.NO_CAPACITY if event > 0 and event & self.refusing else Verdict.DELIVER)
        if verdict in (Verdict.DELIVER, Verdict.ERROR_NOTICE):
            numbers.add(tag.number)

    def is_awaited(self, frame: bytes) -> bool:
        answered = plain_tags.answered_by(frame)
        return answered >= 0 and any(send.identity == answered for send in self.asking)
