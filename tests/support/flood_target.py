"""The rig that is flooded: ``python flood_target.py [--answer] [--max-peers N] [--loop asyncio]``.

It prints its URI. It answers each line on stdin with a line of JSON: the counts of received EXPINFO messages with a
name and a number, and the resource usage. It ends when stdin is closed. Warnings go to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import sys
import threading
from collections import Counter
from typing import Any

import internals
from echorig import EchoProtocol, Tuning


def resident() -> int:
    """Return the resident memory of this process in bytes, or its peak on systems without /proc."""
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    heard: dict[str, Counter[int]] = {}
    others = 0
    tasks: set[asyncio.Task[None]] = set()

    async def answer(addr: Any) -> None:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await rig.confirmed_send([32, 10], addr)

    def hear(data: list[Any], addr: Any, event: Any) -> None:
        nonlocal others
        if len(data) == 2 and isinstance(data[1], list):
            name, number = data[1]
            heard.setdefault(name, Counter())[number] += 1
            return
        others += 1
        if options.answer:
            task = loop.create_task(answer(addr))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def report() -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        state = {
            'resident': resident(),
            'cpu': usage.ru_utime + usage.ru_stime,
            'peers': len(rig.peers),
            'forgotten': internals.exchange(rig).n_forgotten,
            'turned_away': internals.exchange(rig).n_turned_away,
            'suppressed': internals.log_limit(rig).suppressed,
            'others': others,
            'heard': {name: [len(counts), sum(counts.values())] for name, counts in heard.items()},
        }
        print(json.dumps(state), flush=True)

    def watch() -> None:
        while os.read(0, 4096):
            loop.call_soon_threadsafe(report)
        loop.call_soon_threadsafe(ended.set)

    async with await EchoProtocol.server(
        'udp://127.0.0.1:0',
        'rig',
        tuning=Tuning(max_peers=options.max_peers),
        busy_poll=options.busy_poll,
        allow=options.allow,
        key=options.key,
    ) as rig:
        rig.assign_callback(255, hear)
        threading.Thread(target=watch, daemon=True).start()
        print(json.dumps(rig.server_uri), flush=True)
        await ended.wait()
    for task in tasks:
        task.cancel()


def entry() -> None:
    parser = argparse.ArgumentParser(description='The rig that is flooded.')
    parser.add_argument('--answer', action='store_true', help='answer every message')
    parser.add_argument('--allow', help='allowed peers')
    parser.add_argument('--key', help='the key of signed messages')
    parser.add_argument('--max-peers', type=int, default=Tuning().max_peers)
    parser.add_argument('--loop', choices=['uvloop', 'asyncio'], default='uvloop')
    parser.add_argument('--busy-poll', type=float, default=0.0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.loop == 'uvloop':
        import uvloop

        uvloop.new_event_loop().run_until_complete(serve(options))
    else:
        asyncio.SelectorEventLoop().run_until_complete(serve(options))


if __name__ == '__main__':
    sys.exit(entry())
