"""Cost of signatures: CPU time with a key and without, in interleaved rounds.

One process signs and checks each message and its echo.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest

from benchmarks.support.competitors import REF, Competitor
from benchmarks.support.measure import interleave, medians, messages, ratios, record, repeated, rounds
from echorig import EchoProtocol
from echorig.security._signing import Signer
from echorig.wire._tags import add_tag

KEY = b'the key of the laboratory'


async def pair(transport: str, **kwargs: Any) -> tuple[Any, Any]:
    server = await EchoProtocol.server(f'{transport}://127.0.0.1:0', 'server', **kwargs)
    server.assign_callback('EXPSTART', lambda data, addr: None)
    client = await EchoProtocol.client(server.server_uri, 'client', **kwargs)
    return [lambda: client.start(REF)], lambda: (client.close(), server.close())


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize('transport', ['udp', 'tcp'])
def bench_cost(benchmark: Any, stack: Any, loop: Any, loop_name: str, transport: str) -> None:
    burst = messages(300)
    signed, plain = (Competitor(loop, *loop.run_until_complete(pair(transport, **kw))) for kw in ({'key': KEY}, {}))
    stack.callback(signed.close)
    stack.callback(plain.close)
    measures = {'signed': lambda: signed.burst(burst), 'without a key': lambda: plain.burst(burst)}
    times = interleave(benchmark, measures, rounds(40))
    differences = [a - b for a, b in zip(times['signed'], times['without a key'], strict=True)]
    benchmark.group = f'signing {transport} {loop_name}'
    record(
        benchmark,
        signed.latencies,
        burst,
        cpu_us=medians(times),
        ratio=ratios(times),
        cost_us=round(statistics.median(differences) * 1e6, 3),
    )


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize('size', [33, 1000, 60_000])
def bench_sign_and_check(benchmark: Any, size: int) -> None:
    """One message, signed at one end and checked at the other."""
    frame = add_tag(b'[2, "%s", null]' % (b'x' * (size - 13)), 7, 1)
    a, b = Signer(KEY), Signer(KEY)
    a.seal(frame, 'b', 0.0)
    for _ in range(2):
        for source, one, other in (('a', a, b), ('b', b, a)):
            for out, _addr in one.outbox:
                other.open(out, source, 0.0)
            one.outbox.clear()

    def both() -> None:
        b.open(a.seal(frame, 'b', 0.0), 'a', 0.0)

    benchmark.group = 'signing'
    n = messages(max(20, 2_000_000 // (size + 1000)))
    times = interleave(benchmark, {f'{size} bytes': repeated(both, n=n)}, rounds(20))
    record(benchmark, next(iter(times.values())), n, cpu_us=medians(times))
