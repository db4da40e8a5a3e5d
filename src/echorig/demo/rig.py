"""One rig of the demo, as a program of its own: ``python -m echorig.demo.rig --name camera``.

1. It listens on a port that the system chooses and says where, as one JSON line on stdout.
2. It answers every event with the same event. To EXPSTART it adds when it was told: on one computer all
   processes read the same clock, so the answers tell how far apart the rigs started.
3. It ends when its stdin does, so it never outlives the program that started it, and says what it heard.
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

CLOCK = time.perf_counter_ns if sys.platform == 'win32' else time.monotonic_ns
"""callable: The time in nanoseconds, the same for all processes of one computer (on Windows monotonic_ns ticks
only every 16 ms before Python 3.13)."""


class Rig:
    """Answers what it hears, and counts.

    Parameters
    ----------
    com : EchoProtocol
        A server, echorig's or iblutil's.
    events : iterable of ExpMessage
        What to listen to, one by one.
    """

    def __init__(self, com: Any, events: Any) -> None:
        self.com = com
        self.heard: Counter[str] = Counter()
        self.unconfirmed = 0
        self.tasks: set[asyncio.Task[None]] = set()
        # iblutil forgets an answer that is still unconfirmed when it begins the next one.
        self.turn = asyncio.Lock()
        for event in events:
            com.assign_callback(event, functools.partial(self.hear, event))

    def hear(self, event: Any, data: list[Any], addr: tuple[str, int]) -> None:
        """Take a message; it has been confirmed already."""
        now = CLOCK()
        self.heard[event.name] += 1
        if event.name == 'ALYX':
            return  # a token handed over is confirmed, but not answered
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


async def serve(transport: str, name: str, incumbent: bool) -> None:
    """Run a rig until stdin ends.

    Parameters
    ----------
    transport : {'udp', 'tcp'}
        How it is reached.
    name : str
        Its label.
    incumbent : bool
        Whether it is made of iblutil.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        # Not sys.stdin: a thread that waits in its lock would keep the interpreter from ending.
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(ended.set)

    if incumbent:
        from iblutil.io.net.app import EchoProtocol
        from iblutil.io.net.base import ExpMessage

        # The pings that ask it what it is, which are empty arrays.
        warnings.filterwarnings('ignore', r'Expected list, got \[\]', RuntimeWarning)
        com = await _incumbent(EchoProtocol, name)
    else:
        from ..communicator.protocol import EchoProtocol
        from ..loop import loop_name
        from ..messages import ExpMessage

        com = await EchoProtocol.server(f'{transport}://127.0.0.1:0', name)
    events = [event for event in ExpMessage.__members__.values() if event.value]
    rig = Rig(com, events)
    threading.Thread(target=watch, daemon=True).start()
    say({'uri': com.server_uri, 'pid': os.getpid(), 'loop': 'asyncio' if incumbent else loop_name()})
    await ended.wait()
    await asyncio.gather(*rig.tasks)
    com.close()
    say({'heard': rig.heard, 'unconfirmed': rig.unconfirmed})


async def _incumbent(protocol: Any, name: str) -> Any:
    """Open an iblutil server. It does not take port 0, so a free port is looked for before."""
    for attempt in range(10):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(('127.0.0.1', 0))
            port = sock.getsockname()[1]
        try:
            # Without a logger given, it would write its log to stdout.
            return await protocol.server(f'udp://127.0.0.1:{port}', name, log=logging.getLogger(name))
        except OSError:  # another program was faster
            if attempt == 9:
                raise
    return None


def say(what: dict[str, Any]) -> None:
    """Tell the program that started this one something, as one line of JSON."""
    print(json.dumps(what), flush=True)


def entry() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog='python -m echorig.demo.rig', description='One rig of the demo.')
    parser.add_argument('--name', required=True)
    parser.add_argument('--transport', choices=['udp', 'tcp'], default='udp')
    parser.add_argument('--incumbent', action='store_true', help='make it of iblutil (over UDP)')
    options = parser.parse_args()
    # Ctrl-C reaches all processes of a terminal; the one that began the session ends it, in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve(options.transport, options.name, options.incumbent))


if __name__ == '__main__':
    entry()
