"""The program of a main PC: it takes any number of rigs through one experiment and prints their answers.

Usage: python main_pc.py NAME=URI ...   such as: python main_pc.py camera=udp://192.168.0.12 ephys=tcp://192.168.0.13
"""

import asyncio
import logging
import sys
from contextlib import suppress

from echorig import ExpStatus, RemoteCallbackError, Services, ServicesError


async def session(rigs: Services, exp_ref: str) -> None:
    """Take the rigs through one experiment; if one fails, end it for all."""
    try:
        print('init', await rigs.init({'protocol': 'passive'}))
        print('start', await rigs.start(exp_ref))
        print('info', await rigs.info(ExpStatus.RUNNING))  # here the experiment runs
        print('stop', await rigs.stop())
        print('cleanup', await rigs.cleanup())
    except ServicesError:
        for end in (lambda: rigs.stop(immediately=True), rigs.cleanup):  # the other rigs must not continue alone
            with suppress(ServicesError):  # the first failure is the one to report
                await end()
        raise


async def main(uris: dict[str, str]) -> str | None:
    """Open a client of each rig; return the text of the failures."""
    try:
        async with await Services.connect(uris) as rigs:
            await session(rigs, '2026-01-31_1_mouse7')
    except ServicesError as error:
        lines = []
        for name, failure in error.failures.items():
            what = failure.message if isinstance(failure, RemoteCallbackError) else failure
            lines.append(f'{name} failed: {what}')
        return '\n'.join(lines)
    return None


if __name__ == '__main__':
    logging.basicConfig(level=logging.CRITICAL)  # failures are printed at the end
    sys.exit(asyncio.run(main(dict(argument.split('=', 1) for argument in sys.argv[1:]))))
