"""The rules of delivery alone: one message sent, received, echoed and confirmed, without a socket or a loop.

Held constant: the message and the clock, which is an argument. Also measured: the same two ends without tags.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from benchmarks.support.measure import Measure, interleave, medians, ratios, record, repeated, rounds
from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Verdict
from echorig.tuning import InternalTuning
from echorig.wire._codec import encode

CONFIRMED, DELIVER, ECHO = int(Verdict.CONFIRMED), int(Verdict.DELIVER), int(Verdict.ECHO)
MESSAGE = encode([2, '2022-01-01_1_subject', None])
MAIN = ('10.0.0.1', 11001)
BURST = 2**30  # no limit: without tags, thousands of equal messages in a second count as a storm
LARGEST = 65507  # bytes that a datagram carries


def conversation(tags: bool, rigs: int = 1) -> Measure:
    """Return a measure of one message, sent to `rigs` rigs in turn."""
    tuning = InternalTuning(tags=tags, message_burst=BURST)
    main = Exchange(tuning, False, 65535, 1, 1, LARGEST)
    ends = [(Exchange(tuning, False, 65535, 2 + i, 1, LARGEST), ('10.0.0.2', 11001 + i)) for i in range(rigs)]
    now = 0.0
    for rig, addr in ends if tags else ():  # else each first message would wait for this probe
        main.ping(addr, None, now, 1.0)
        frame, _ = main.outbox.pop()
        assert rig.classify(frame, MAIN, now) == ECHO
        assert main.classify(rig.reply or frame, addr, now) == CONFIRMED
        main.finished.clear()

    def send() -> None:
        nonlocal now
        for rig, addr in ends:
            now += 1e-4
            main.send(MESSAGE, addr, None, now, 1.0)
            frame, _ = main.outbox.pop()
            assert rig.classify(frame, MAIN, now) == DELIVER
            assert main.classify(rig.reply or frame, addr, now) == CONFIRMED
            main.finished.clear()

    measure = repeated(send, n=max(1, 1000 // rigs))
    return lambda: measure() / rigs


@pytest.mark.benchmark(timer=time.process_time)
def bench_exchange(benchmark: Any) -> None:
    measures = {
        'echorig': conversation(tags=True),
        'without tags': conversation(tags=False),
        '1,000 rigs': conversation(tags=True, rigs=1000),
    }
    times = interleave(benchmark, measures, rounds(60))
    benchmark.group = 'exchange'
    record(benchmark, times['echorig'], 1, cpu_us=medians(times), ratio=ratios(times))
