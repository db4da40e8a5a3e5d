"""Ten typical mistakes. A type checker must report each one in the line that ends with its number."""

import asyncio

from echorig import EchoProtocol, ExpMessage, Services, sync


def on_start(data: list[object]) -> None:
    print(data)


async def main() -> None:
    com = await EchoProtocol.client('udp://192.168.0.12:11001', name='camera')
    rigs = Services([com])
    com.assign_callback('EXPSTRAT', print)  # 1: there is no such event
    com.assign_callback('EXPSTART', on_start)  # 2: the callback takes too few arguments
    rigs.start('2026-01-31_1_mouse7')  # 3: nothing awaits it
    await rigs.start(20260131)  # 4: a number is no reference
    await com.confirmed_send([ExpMessage.EXPEND], addr='192.168.0.12')  # 5: an address without a port
    await EchoProtocol.server('udp://0.0.0.0:11001', allowed='10.0.0.0/8')  # 6: the argument is called `allow`
    await EchoProtocol.server('udp://0.0.0.0:11001', tuning={'max_peers': 8})  # 7: a dict is no Tuning
    await com.ping(timeout='2 s')  # 8: a time-out is a number
    print((await rigs.init())[0])  # 9: the answers are a mapping by rig
    rigs['ephys'] = com  # 10: a set of rigs cannot be changed


def blocking_main() -> None:
    sync.EchoProtocol.client('udp://192.168.0.12', reconect=False)  # 6
    sync.Services.connect({'camera': 'udp://192.168.0.12'}, tuning={'max_peers': 8})  # 7
    with sync.Services.connect({'camera': 'udp://192.168.0.12'}) as rigs:
        rigs.assign_callback('EXPSTRAT', print)  # 1
        rigs['camera'].assign_callback('EXPSTART', on_start)  # 2
        rigs.start(20260131)  # 4
        rigs['camera'].confirmed_send([ExpMessage.EXPEND], addr='192.168.0.12')  # 5
        rigs['camera'].ping(timeout='2 s')  # 8
        print(rigs.init()[0])  # 9
        rigs['ephys'] = rigs['camera']  # 10


asyncio.run(main())
blocking_main()
