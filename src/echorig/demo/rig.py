"""One rig of the demo, as a program: ``python -m echorig.demo.rig --name camera``.

1. It listens on a free port and prints the address, as one line of JSON.
2. It answers every event but ALYX with the same event. The answer to EXPSTART contains the time of receipt: all
   processes of one computer have the same clock, so the answers show how far apart the rigs started.
3. It ends at the end of its stdin, so it never outlives the program that started it, and prints a report.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter
from typing import Any

ECHO_TIMEOUT = 10.0  # seconds; a computer that runs all the processes of the demo may be busy


class Rig:
    """Answers the messages that a communicator (of echorig or iblutil) receives, and counts them."""

    def __init__(self, com: Any, events: Any) -> None:
        self.com = com
        self.received: Counter[str] = Counter()
        self.unconfirmed = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.turn = asyncio.Lock()  # iblutil can wait for one confirmation at a time
        for event in events:
            com.assign_callback(event, functools.partial(self.on_event, event))

    def on_event(self, event: Any, data: list[Any], addr: tuple[str, int]) -> None:
        """Count a message and start the answer."""
        now = time.perf_counter_ns()
        self.received[event.name] += 1
        if event.name == 'ALYX':
            return
        if event.name == 'EXPSTART':
            data = [data[0], {'received_ns': now}]
        task = asyncio.ensure_future(self.answer([int(event), *data], addr))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def answer(self, message: list[Any], addr: tuple[str, int]) -> None:
        """Send an answer and wait for its confirmation."""
        try:
            async with self.turn:
                await self.com.confirmed_send(message, addr)
        except Exception as ex:
            self.unconfirmed += 1
            print(f'{self.com.name}: {type(ex).__name__}: {ex}', file=sys.stderr)


async def serve(transport: str, name: str, iblutil: bool) -> None:
    """Run a rig until the end of stdin."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read_stdin() -> None:
        # Not sys.stdin: a thread that waits in its lock would keep the interpreter from ending.
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(ended.set)

    if iblutil:
        from iblutil.io.net.base import ExpMessage

        warnings.filterwarnings('ignore', r'Expected list, got \[\]', RuntimeWarning)  # pings are empty lists
        com = await _iblutil_server(name)
    else:
        from ..communicator.protocol import EchoProtocol
        from ..messages import ExpMessage

        com = await EchoProtocol.server(f'{transport}://127.0.0.1:0', name)
        com.default_echo_timeout = ECHO_TIMEOUT
    rig = Rig(com, [event for event in ExpMessage.__members__.values() if event.value])
    threading.Thread(target=read_stdin, daemon=True).start()
    print(json.dumps({'uri': com.server_uri}), flush=True)
    await ended.wait()
    await asyncio.gather(*rig.tasks)
    com.close()
    print(json.dumps({'received': rig.received, 'unconfirmed': rig.unconfirmed}), flush=True)


async def _iblutil_server(name: str) -> Any:
    """Open an iblutil server on a free port, which must be known before: it does not accept port 0."""
    from iblutil.io.net.app import EchoProtocol

    for attempt in range(10):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(('127.0.0.1', 0))
            port = sock.getsockname()[1]
        try:
            # Without a logger it would write its log to stdout.
            return await EchoProtocol.server(f'udp://127.0.0.1:{port}', name, log=logging.getLogger(name))
        except OSError:  # another program has taken the port
            if attempt == 9:
                raise
    return None


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog='python -m echorig.demo.rig', description='One rig of the demo.')
    parser.add_argument('--name', required=True)
    parser.add_argument('--transport', choices=['udp', 'tcp'], default='udp')
    parser.add_argument('--iblutil', action='store_true', help='run iblutil (over UDP)')
    options = parser.parse_args()
    # Ctrl-C reaches all processes of a terminal; the parent ends this one in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(options.transport, options.name, options.iblutil))


if __name__ == '__main__':
    main()
