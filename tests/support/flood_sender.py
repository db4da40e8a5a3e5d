"""Send one datagram from each of very many addresses; for test_flood and benchmarks/bench_flood.

``python flood_sender.py 127.0.0.1 11001 --sources 100000 --seconds 5 --what mixed``

1. Each source is a socket with another address of 127.0.0.0/8 and any port. It sends one datagram and closes.
2. The program prints the number of datagrams and the duration as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import time

from echorig.wire import _tags


def frames(what: str, number: int, chances: random.Random) -> bytes:
    """Return the next datagram of an attack."""
    kind = chances.choice(['message', 'plain', 'garbage', 'ping', 'notice']) if what == 'mixed' else what
    if kind == 'message':
        return _tags.add_tag(b'[32, 20]', chances.getrandbits(31), 1, 0)
    if kind == 'plain':
        return b'[64, 20, %d]' % number
    if kind == 'ping':
        return _tags.make_ping(chances.getrandbits(31), 1)
    if kind == 'notice':
        return b'[0, "%d", 2]' % number
    return chances.randbytes(chances.randrange(1, 200))


def attack(host: str, port: int, sources: int, seconds: float, what: str, rate: float | None, seed: int) -> dict:
    """Send one datagram from each source, for a limited time."""
    chances = random.Random(seed)
    begun = time.perf_counter()
    sent = refused = 0
    while sent < sources:
        if sent % 64 == 0:
            elapsed = time.perf_counter() - begun
            if elapsed > seconds:
                break
            if rate is not None and sent > rate * elapsed:
                time.sleep(sent / rate - elapsed)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((f'127.{1 + sent // 62500 % 250}.{sent // 250 % 250}.{1 + sent % 250}', 0))
                sock.sendto(frames(what, sent, chances), (host, port))
            except OSError:
                refused += 1
        sent += 1
    elapsed = time.perf_counter() - begun
    return {'sent': sent, 'refused': refused, 'seconds': elapsed, 'rate': sent / elapsed}


def entry() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description='A flood of datagrams from very many addresses.')
    parser.add_argument('host')
    parser.add_argument('port', type=int)
    parser.add_argument('--sources', type=int, default=100_000)
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--rate', type=float, help='datagrams per second, at most')
    parser.add_argument('--what', choices=['mixed', 'message', 'plain', 'garbage', 'ping', 'notice'], default='mixed')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    print(
        json.dumps(
            attack(
                options.host, options.port, options.sources, options.seconds, options.what, options.rate, options.seed
            )
        ),
        flush=True,
    )


if __name__ == '__main__':
    sys.exit(entry())
