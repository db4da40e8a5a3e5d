"""The main PC: ``python main_pc.py remote_devices.yaml 3600`` runs an experiment of an hour on the rigs of the file."""

import asyncio
import sys

from echorig import EchoError, Services

REFERENCE = '2026-01-31_1_mouse7'


async def run(rigs_file, seconds, data):
    async with await Services.connect(rigs_file, wait=True, timeout=60) as rigs:
        rigs.timeout = 10  # seconds for each answer
        async with rigs.experiment(REFERENCE, data, on_progress=print) as session:
            print('running', session.answers)
            await session.sleep(seconds)
    print('done')


try:
    asyncio.run(run(sys.argv[1], float(sys.argv[2]), {'broken': ''.join(sys.argv[3:])}))
except EchoError as error:
    sys.exit(f'failed: {error}')
except KeyboardInterrupt:
    sys.exit('interrupted: every rig was sent EXPINTERRUPT and EXPCLEANUP')
