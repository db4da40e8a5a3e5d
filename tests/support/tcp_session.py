"""One end of a session over TCP between two computers, as a program; it prints a line of JSON for each event.

``tcp_session.py rig URI`` prints its URI, its log, and at the end of its input the numbers that it received.
``tcp_session.py main URI`` sends numbers until the end of its input. It prints what was confirmed and what failed, with
the URI of the server at that time, and changes of the connection and of the watch.

With LEGACY the rig has no tags; with QUIET the main PC sends nothing after its first message; without WATCH it has no
watch.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time

import echorig
from echorig.tuning import InternalTuning

TIMEOUT = 1.0  # seconds
QUICK = InternalTuning(max_reconnect_delay=0.5, reconnect_timeout=2.0, path_timeout=5.0)


def say(*what: object) -> None:
    print(json.dumps([time.monotonic(), *what]), flush=True)


async def end_of_input() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def rig(uri: str) -> None:
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: say('log', record.getMessage())  # type: ignore[method-assign]
    logging.getLogger('rig').addHandler(handler)
    tuning = InternalTuning(tags=False) if 'LEGACY' in os.environ else QUICK
    com = await echorig.EchoProtocol.server(uri, 'rig', tuning=tuning)
    received: list[int] = []
    com.assign_callback('EXPINFO', lambda data, addr: received.append(data[1]))
    com.assign_connection_callback(lambda change: say('rig', change.state, str(change.error)))
    say('uri', com.server_uri)
    await end_of_input()
    say('received', received)
    com.close()
    await com.wait_closed()


async def main(uri: str) -> None:
    com = await echorig.EchoProtocol.client(uri, 'main', tuning=QUICK)
    com.assign_connection_callback(lambda change: say(change.state, str(change.error)))
    ending = asyncio.ensure_future(end_of_input())
    rigs = echorig.Services([com])
    watch = rigs.watch(0.5)
    watch.assign_callback(lambda change: say('watch', change.state))
    if 'WATCH' in os.environ:
        await watch.__aenter__()
    number = 0
    while not ending.done():
        try:
            await com.confirmed_send([64, 20, number], timeout=TIMEOUT)
        except echorig.EchoError as ex:
            say('failed', number, type(ex).__name__, str(ex))
        else:
            say('confirmed', number, com.server_uri)
        number += 1
        await asyncio.wait([ending], timeout=0.02 if 'QUIET' not in os.environ else None)
    rigs.close()
    await asyncio.gather(*(rig.wait_closed() for rig in rigs.values()))


if __name__ == '__main__':
    logging.getLogger().addHandler(logging.NullHandler())
    echorig.run({'rig': rig, 'main': main}[sys.argv[1]](*sys.argv[2:]))
