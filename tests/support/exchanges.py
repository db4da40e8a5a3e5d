"""What the tests of the exchange share: an exchange, and the peers that a test plays for it."""

from __future__ import annotations

from typing import Any

from echorig.delivery._exchange import CONFIRMED, DELIVER, ECHO, SWALLOWED, Exchange
from echorig.tuning import InternalTuning
from tagging import acknowledged, ping

A, B, C = ('10.0.0.1', 11001), ('10.0.0.2', 11001), ('10.0.0.3', 11001)
START, INIT, STATUS = b'[2, "ref", null]', b'[1, null]', b'[32, 20]'
NOTICE_FRAME = b'[0, "ValueError: no", 2]'
OWN = 0x0BADCAFE
"""int: The run of the exchange that is tested."""
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
    """Return what is in a list, and empty it."""
    taken = list(items)
    items.clear()
    return taken


def out(ex: Exchange) -> list[bytes]:
    """Return the frames that are to be sent."""
    return [frame for frame, _ in emptied(ex.outbox)]


def kind(ex: Exchange, addr: Any = A) -> str:
    """Return what a peer is taken for."""
    return str(ex.statistics(addr)[0])


def count(ex: Exchange, what: str, addr: Any = A) -> int:
    """Return one of the counts of a peer."""
    return int(ex.statistics(addr)[COUNTS.index(what)])


def tagging(ex: Exchange, now: float = 0.0, addr: Any = A, **kwargs: Any) -> None:
    """Let a peer show that it is a tagging one: it sets the flag on something of ours."""
    assert ex.receive(ping(1, **kwargs), addr, now) == ECHO
    assert ex.receive(acknowledged(ping(2**32 - 1, ex.run)), addr, now) == SWALLOWED
    assert kind(ex, addr) == 'echorig'


def plain(ex: Exchange, now: float = 0.0, addr: Any = A) -> None:
    """Let a peer show that it is a plain one."""
    assert ex.receive(b'[64, 20, "I am plain"]', addr, now) == DELIVER
    assert kind(ex, addr) == 'legacy'


def confirmed(ex: Exchange, frame: bytes, addr: Any = A, now: float = 0.0, flagged: bool = True) -> bytes:
    """Send a message to a peer that is known, which confirms it; return what was sent."""
    send = ex.send(frame, addr, None, now, 1.0)
    (said,) = out(ex)
    assert ex.receive(acknowledged(said) if flagged else said, addr, now) == CONFIRMED
    assert emptied(ex.finished)[-1] is send
    return said


def run_until(ex: Exchange, end: float) -> list[tuple[float, bytes]]:
    """Let time pass from alarm to alarm; return what is sent meanwhile, and when."""
    said = [(float('-inf'), frame) for frame in out(ex)]
    for _ in range(10_000):
        now = min(ex.alarm, end)
        ex.expire(now)
        said += [(round(now, 6), frame) for frame in out(ex)]
        if now == end:
            return said
    raise AssertionError('the alarm goes off for ever')
