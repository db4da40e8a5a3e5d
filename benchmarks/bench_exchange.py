"""The rules of delivery alone: one message sent, received, echoed and confirmed, without a socket or a loop.

Held constant: the message, and the clock, which both ends are told. Beside it, the same two ends without tags.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from echorig.delivery._exchange import CONFIRMED, DELIVER, ECHO, Exchange
from echorig.tuning import InternalTuning
from echorig.wire._codec import encode
from measure import Measure, interleave, medians, ratios, record, repeated, rounds

MESSAGE = encode([2, '2022-01-01_1_subject', None])
MAIN = ('10.0.0.1', 11001)
STORM = 2**30  # without tags, thousands of equal messages in a second are a storm; here they are meant
LARGEST = 65507  # bytes that a datagram carries


def conversation(tags: bool, rigs: int = 1) -> Measure:
    """Return a measure of one message, said to `rigs` rigs in turn."""
    tuning = InternalTuning(tags=tags, message_burst=STORM)
    main = Exchange(tuning, False, 65535, 1, 1, LARGEST)
    ends = [(Exchange(tuning, False, 65535, 2 + i, 1, LARGEST), ('10.0.0.2', 11001 + i)) for i in range(rigs)]
    now = 0.0
    for rig, addr in ends if tags else ():  # else each first message would wait for this
        main.ping(addr, None, now, 1.0)
        frame, _ = main.outbox.pop()
        assert rig.receive(frame, MAIN, now) == ECHO
        assert main.receive(rig.reply or frame, addr, now) == CONFIRMED
        main.finished.clear()

    def say() -> None:
        nonlocal now
        for rig, addr in ends:
            now += 1e-4
            main.send(MESSAGE, addr, None, now, 1.0)
            frame, _ = main.outbox.pop()
            assert rig.receive(frame, MAIN, now) == DELIVER
            assert main.receive(rig.reply or frame, addr, now) == CONFIRMED
            main.finished.clear()

    measure = repeated(say, n=max(1, 1000 // rigs))
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
