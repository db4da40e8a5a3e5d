"""One end of a session between two hosts, as a program: ``namespace_end.py rig HOST`` or ``... main URI N TIMEOUT``.

The rig prints its URI, and at the end of its input the numbers that it heard. The main PC prints each number that
was confirmed, and ``failed`` and why for one that was not.
"""

from __future__ import annotations

import asyncio
import json
import sys

import echorig


async def rig(host: str) -> None:
    com = await echorig.EchoProtocol.server(f'udp://{host}:0', 'rig')
    heard: list[int] = []
    com.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
    print(com.server_uri, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps(heard), flush=True)
    com.close()
    await com.wait_closed()


async def main(uri: str, n: str, timeout: str) -> None:
    com = await echorig.EchoProtocol.client(uri, 'main')
    for number in range(int(n)):
        try:
            await com.confirmed_send([64, 20, number], timeout=float(timeout))
        except echorig.EchoError as ex:
            print('failed', number, repr(ex), flush=True)
        else:
            print(number, flush=True)
        await asyncio.sleep(0.005)
    com.close()
    await com.wait_closed()


if __name__ == '__main__':
    echorig.run({'rig': rig, 'main': main}[sys.argv[1]](*sys.argv[2:]))
