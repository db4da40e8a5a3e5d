"""One end of a session between two hosts: ``namespace_end.py rig HOST`` or ``... main URI N TIMEOUT``.

The rig prints its URI, and at the end of its input the numbers that it received. The main PC prints each number that
was confirmed, and ``failed`` and why for one that was not. Both sign their messages if the environment has a KEY. With
LEGACY the rig has no tags. With PAUSE the main PC waits for a line of input before that message.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import echorig

KEY = {'key': os.environ['KEY']} if 'KEY' in os.environ else {}
LEGACY = {'tuning': echorig.Tuning(tags=False)} if 'LEGACY' in os.environ else {}
PADDING = 'x' * int(os.environ.get('PADDING', '0'))


async def rig(host: str, port: str = '0') -> None:
    com = await echorig.EchoProtocol.server(f'udp://{host}:{port}', 'rig', **KEY, **LEGACY)
    received: list[int] = []
    com.assign_callback('EXPINFO', lambda data, addr: received.append(data[1]))
    print(com.server_uri, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps(received), flush=True)
    com.close()
    await com.wait_closed()


async def main(uri: str, n: str, timeout: str) -> None:
    com = await echorig.EchoProtocol.client(uri, 'main', **KEY)
    for number in range(int(n)):
        if number == int(os.environ.get('PAUSE', '-1')):
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        try:
            await com.confirmed_send([64, 20, number, PADDING], timeout=float(timeout))
        except echorig.EchoError as ex:
            print('failed', number, repr(ex), flush=True)
        else:
            print(number, flush=True)
        await asyncio.sleep(0.005)
    com.close()
    await com.wait_closed()


if __name__ == '__main__':
    echorig.run({'rig': rig, 'main': main}[sys.argv[1]](*sys.argv[2:]))
