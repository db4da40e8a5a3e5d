"""Rigs in a process of their own: ``python rig_process.py echorig udp uvloop --rigs 4 --answer``.

1. It says where they listen, as one line of JSON, answers ``rss`` with its memory, and ends when its stdin does.
2. With ``--answer`` each rig answers EXPSTART with when it heard it, by CLOCK_MONOTONIC, which is one clock for all
   processes of a computer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import bare
from conftest import LOOPS

TASKS: set[asyncio.Task[None]] = set()


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def say(what: Any) -> None:
    """Tell the program that started this one something."""
    print(json.dumps(what), flush=True)


async def rig(kind: str, transport: str, name: str, options: argparse.Namespace) -> tuple[Any, str]:
    """Open one rig; return it and its URI."""
    if kind == 'bare':
        return await bare.listen(transport)
    if kind == 'iblutil':
        import incumbent

        server, uri = await incumbent.listen(transport, name)
    else:
        from echorig import EchoProtocol, Tuning

        more: dict[str, Any] = {'tuning': Tuning(max_connections=5000)}  # the clients are all at one address
        if options.busy_poll:
            more['busy_poll'] = options.busy_poll
        server = await EchoProtocol.server(f'{transport}://127.0.0.1:0', name, **more)
        uri = server.server_uri

    def answer(data: list[Any], addr: Any) -> None:
        heard = time.monotonic_ns()
        task = asyncio.ensure_future(server.confirmed_send([2, data[0], heard], addr))
        TASKS.add(task)
        task.add_done_callback(TASKS.discard)

    server.assign_callback('EXPSTART', answer if options.answer else lambda data, addr: None)
    return server, uri


async def serve(options: argparse.Namespace) -> None:
    """Open the rigs and run until stdin ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def watch() -> None:
        while line := os.read(0, 4096):
            if line == b'rss\n':
                loop.call_soon_threadsafe(lambda: say(resident()))
        loop.call_soon_threadsafe(ended.set)

    rigs = [await rig(options.kind, options.transport, f'rig {i}', options) for i in range(options.rigs)]
    threading.Thread(target=watch, daemon=True).start()
    say([uri for _, uri in rigs])
    await ended.wait()
    os._exit(0)  # what is still open need not be closed one by one


def entry() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description='Rigs for the benchmarks.')
    parser.add_argument('kind', choices=['echorig', 'bare', 'iblutil'])
    parser.add_argument('transport', choices=['udp', 'tcp'])
    parser.add_argument('loop', choices=list(LOOPS))
    parser.add_argument('--rigs', type=int, default=1)
    parser.add_argument('--answer', action='store_true')
    parser.add_argument('--busy-poll', type=float, default=0.0)
    parser.add_argument('--core', type=int, help='the only core to run on')
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    LOOPS[options.loop]().run_until_complete(serve(options))


if __name__ == '__main__':
    sys.exit(entry())
