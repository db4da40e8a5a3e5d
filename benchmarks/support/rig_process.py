"""Rigs in a process of their own: ``python -m benchmarks.support.rig_process echorig udp uvloop --rigs 4 --answer``.

1. The program prints the URIs as one line of JSON, answers ``rss`` with its memory, and ends when its stdin is closed.
2. With ``--answer`` each rig answers EXPSTART with the time of its receipt by CLOCK_MONOTONIC, which all processes of a
   computer share.
3. Rigs of the kind ``wire`` answer with the time of the kernel, see `wire_rigs`.
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

from benchmarks.support import asyncio_echo, wire_rigs
from benchmarks.support.loops import LOOPS
from benchmarks.support.processes import allow_sockets

TASKS: set[asyncio.Task[None]] = set()


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def report(value: Any) -> None:
    """Print a value as a line of JSON for the parent process."""
    print(json.dumps(value), flush=True)


async def responder(broker: str, subject: str) -> tuple[Any, str]:
    """Open a rig of nats-py, which sends each request back."""
    import nats

    client = await nats.connect(broker)

    async def answer(message: Any) -> None:
        await client.publish(message.reply, message.data)

    await client.subscribe(subject, cb=answer)
    await client.flush()
    return client, f'{broker}/{subject}'


async def rig(kind: str, transport: str, name: str, options: argparse.Namespace) -> tuple[Any, str]:
    """Open one rig; return it and its URI."""
    if kind == 'nats-py':
        return await responder(options.broker, name.replace(' ', '_'))
    if kind == 'bare':
        return await asyncio_echo.listen(transport)
    if kind == 'iblutil':
        from benchmarks.support import iblutil_rigs

        server, uri = await iblutil_rigs.listen(transport, name)
    else:
        from echorig import EchoProtocol, Tuning

        more: dict[str, Any] = {'tuning': Tuning(max_connections=20_000, max_peers=20_000)}  # clients at one address
        if options.busy_poll:
            more['busy_poll'] = options.busy_poll
        listen = f'{transport}://127.0.0.1:0'
        if transport == 'nats':
            listen = f'{options.broker}/{name.replace(" ", "_")}'
            more['inbox_prefix'] = f'_INBOX.{name.replace(" ", "_")}'  # each has a connection of its own
        server = await EchoProtocol.server(listen, name, **more)
        uri = server.server_uri

    if transport == 'nats':
        server.default_echo_timeout = 30.0  # a thousand rigs share one core here

    def answer(data: list[Any], addr: Any) -> None:
        received = time.monotonic_ns()
        task = asyncio.ensure_future(server.confirmed_send([2, data[0], received], addr))
        TASKS.add(task)
        task.add_done_callback(TASKS.discard)

    server.assign_callback('EXPSTART', answer if options.answer else lambda data, addr: None)
    return server, uri


async def serve(options: argparse.Namespace) -> None:
    """Open the rigs and run until stdin is closed."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def watch() -> None:
        while line := os.read(0, 4096):
            if line == b'rss\n':
                loop.call_soon_threadsafe(lambda: report(resident()))
        loop.call_soon_threadsafe(ended.set)

    rigs = [await rig(options.kind, options.transport, f'rig {i}', options) for i in range(options.rigs)]
    threading.Thread(target=watch, daemon=True).start()
    report([uri for _, uri in rigs])
    await ended.wait()
    os._exit(0)  # closing thousands of sockets one by one would take long


def entry() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description='Rigs for the benchmarks.')
    parser.add_argument('kind', choices=['echorig', 'bare', 'iblutil', 'nats-py', 'wire'])
    parser.add_argument('transport', choices=['udp', 'tcp', 'nats'])
    parser.add_argument('loop', choices=list(LOOPS))
    parser.add_argument('--rigs', type=int, default=1)
    parser.add_argument('--broker', help='the URI of a NATS broker')
    parser.add_argument('--answer', action='store_true')
    parser.add_argument('--busy-poll', type=float, default=0.0)
    parser.add_argument('--core', type=int, help='the only core to run on')
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    allow_sockets()
    if options.kind == 'wire':
        wire_rigs.serve(options.rigs)
    LOOPS[options.loop]().run_until_complete(serve(options))


if __name__ == '__main__':
    sys.exit(entry())
