"""The program of the main PC: it takes any number of rigs through one session and prints what they answer.

Usage: python main_pc.py NAME=URI ...   such as: python main_pc.py camera=udp://192.168.0.12 ephys=ws://192.168.0.13
"""

import asyncio
import logging
import sys

from echorig import EchoProtocol, ExpStatus, RemoteCallbackError, Services, ServicesError


async def session(rigs: Services, exp_ref: str) -> None:
    """Take the rigs through one experiment; if one fails, end it for all."""
    try:
        print('init', await rigs.init({'protocol': 'passive'}))
        print('start', await rigs.start(exp_ref))
        print('info', await rigs.info(ExpStatus.RUNNING))  # here the experiment runs
        print('stop', await rigs.stop())
    except ServicesError as error:
        for name, failure in error.failures.items():
            what = failure.message if isinstance(failure, RemoteCallbackError) else failure
            print(f'{name} failed: {what}', file=sys.stderr)
        await rigs.stop(immediately=True)  # the others must not go on alone
        raise
    finally:
        print('cleanup', await rigs.cleanup())


async def main(uris: dict[str, str]) -> None:
    """Open a client of each rig."""
    async with Services([await EchoProtocol.client(uri, name) for name, uri in uris.items()]) as rigs:
        await session(rigs, '2026-01-31_1_mouse7')


if __name__ == '__main__':
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(dict(argument.split('=', 1) for argument in sys.argv[1:])))
