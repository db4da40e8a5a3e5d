"""A rig process whose clock differs: ``python clock_rig.py OFFSET URI``, with OFFSET in nanoseconds.

It prints its URI, and the true time in nanoseconds of each message.
"""

from __future__ import annotations

import sys
import time

TRUE_TIME = time.time_ns
OFFSET = int(sys.argv[1])
time.time_ns = lambda: TRUE_TIME() + OFFSET

import asyncio  # noqa: E402

import echorig  # noqa: E402


async def main() -> None:
    com = await echorig.EchoProtocol.server(sys.argv[2], 'rig')

    def answer(data, addr, event) -> None:
        print(event.name, TRUE_TIME(), flush=True)
        com.send([event, *data], addr)

    com.assign_callback(echorig.ExpMessage.any(), answer)
    print(com.server_uri, flush=True)
    await asyncio.Event().wait()


echorig.run(main())
