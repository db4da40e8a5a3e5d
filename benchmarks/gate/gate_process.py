"""One fresh process of the gate: short bursts of the bare echo and of echorig in turn, on each loop and transport.

It prints a list of rounds for each: the CPU time in seconds of a round trip of the bare echo, of echorig, and of the
bare echo again. `gate` evaluates them.
"""

from __future__ import annotations

import gc
import json
import sys

from benchmarks.support.competitors import opened
from benchmarks.support.loops import LOOPS

ROUNDS, BURST = 800, 20


def measured(loop_name: str, transport: str) -> list[tuple[float, float, float]]:
    """Measure all rounds on one loop over one transport."""
    loop = LOOPS[loop_name]()
    echorig, bare = opened(loop, 'echorig', transport), opened(loop, 'bare', transport)
    for competitor in (echorig, bare):
        competitor.burst(20 * BURST)
    gc.collect()
    gc.freeze()
    rounds = []
    after = bare.burst(BURST)
    for _ in range(ROUNDS):
        before, own = after, echorig.burst(BURST)
        after = bare.burst(BURST)
        rounds.append((before, own, after))
    gc.unfreeze()
    for competitor in (echorig, bare):
        competitor.close()
    loop.close()
    return rounds


if __name__ == '__main__':
    names = [(loop, transport) for loop in LOOPS for transport in ('udp', 'tcp')]
    json.dump({f'{loop}-{transport}': measured(loop, transport) for loop, transport in names}, sys.stdout)
