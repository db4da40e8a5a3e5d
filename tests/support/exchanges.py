"""Helpers for tests of `Exchange`: an exchange, and simulated peers."""

from __future__ import annotations

from typing import Any

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Verdict
from echorig.tuning import InternalTuning
from tagging import ping, set_ack

A, B, C = ('10.0.0.1', 11001), ('10.0.0.2', 11001), ('10.0.0.3', 11001)
START, INIT, STATUS = b'[2, "ref", null]', b'[1, null]', b'[32, 20]'
NOTICE_FRAME = b'[0, "ValueError: no", 2]'
OWN = 0x0BADCAFE
"""int: The run of the exchange under test."""
COUNTS = (
    *('kind', 'sent', 'confirmed', 'failed', 'retransmitted', 'duplicates', 'strays', 'malformed'),
    *('srtt', 'min_rtt', 'last_seen', 'restarts', 'damaged', 'expired'),
)


def exchange(
    number: int = 1000,
    stream: bool = False,
    max_size: int = 65535,
    max_frame: int = 65507,
    run: int = OWN,
    signed: bool = False,
    **tuning: Any,
) -> Exchange:
    """Return an exchange whose first message has a given number."""
    return Exchange(InternalTuning(**tuning), stream, max_size, run, number, max_frame, signed)


def emptied(items: list[Any]) -> list[Any]:
    """Return the items of a list, and empty it."""
    taken = list(items)
    items.clear()
    return taken


def out(ex: Exchange) -> list[bytes]:
    """Return the frames in the outbox, and empty it."""
    return [frame for frame, _ in emptied(ex.outbox)]


def kind(ex: Exchange, addr: Any = A) -> str:
    """Return the detected kind of a peer."""
    return str(ex.statistics(addr)[0])


def count(ex: Exchange, what: str, addr: Any = A) -> int:
    """Return one of the counts of a peer."""
    return int(ex.statistics(addr)[COUNTS.index(what)])


def meet_echorig(ex: Exchange, now: float = 0.0, addr: Any = A, **kwargs: Any) -> None:
    """Make a peer known as echorig: it acknowledges a frame with the ACK flag."""
    assert ex.classify(ping(1, **kwargs), addr, now) == Verdict.ECHO
    assert ex.classify(set_ack(ping(2**32 - 1, ex.run)), addr, now) == Verdict.STRAY_ECHO
    assert kind(ex, addr) == 'echorig'


def meet_legacy(ex: Exchange, now: float = 0.0, addr: Any = A) -> None:
    """Make a peer known as legacy: it sends a message without a tag."""
    assert ex.classify(b'[64, 20, "I am plain"]', addr, now) == Verdict.DELIVER
    assert kind(ex, addr) == 'legacy'


def confirmed(ex: Exchange, frame: bytes, addr: Any = A, now: float = 0.0, flagged: bool = True) -> bytes:
    """Send a message to a known peer, which confirms it; return the sent frame."""
    send = ex.send(frame, addr, None, now, 1.0)
    (said,) = out(ex)
    assert ex.classify(set_ack(said) if flagged else said, addr, now) == Verdict.CONFIRMED
    assert emptied(ex.finished)[-1] is send
    return said


def run_until(ex: Exchange, end: float) -> list[tuple[float, bytes]]:
    """Advance the time from alarm to alarm; return the sent frames with their times."""
    said = [(float('-inf'), frame) for frame in out(ex)]
    for _ in range(10_000):
        now = min(ex.alarm, end)
        ex.expire(now)
        said += [(round(now, 6), frame) for frame in out(ex)]
        if now == end:
            return said
    raise AssertionError('the alarm never stops')
