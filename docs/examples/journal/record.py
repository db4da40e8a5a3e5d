"""Record the journals that docs/journal.md analyses: a main PC and three rigs, each a program of its own.

`python record.py FOLDER` writes main.jsonl, camera.jsonl, ephys.jsonl and imaging.jsonl. The rig imaging is behind a
link that delays messages and loses some of them, as a bad wireless network does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from echorig import Rig, Services
from echorig.testing import LossyLink

N_SESSIONS = 5


async def rig(name: str, journal: Path) -> None:
    """Be a rig until the main PC closes the pipe to this program."""
    program = Rig(name)
    program.on('EXPSTART')(lambda exp_ref: time.sleep(0.02) or 'recording')  # a camera takes a moment to start
    program.on('EXPEND')(lambda: {'frames': 120})
    async with await program.open('udp://127.0.0.1:0', journal=journal):
        assert program.server_uri is not None
        faults = {'delay': 0.0015, 'jitter': 0.002, 'loss': 0.04} if name == 'imaging' else {}
        async with LossyLink(program.server_uri, **faults, seed=4) as link:
            print(link.uri, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def sessions(uris: dict[str, str], folder: Path) -> None:
    """Run the sessions."""
    async with await Services.connect(uris, wait=True, journal=folder / 'main.jsonl') as services:
        for n in range(1, N_SESSIONS + 1):
            async with services.experiment(f'2026-01-31_{n}_mouse7', data={'fps': 60}) as session:
                for _ in range(2):
                    await session.sleep(0.4)
                    await services.info('RUNNING')


def main(folder: Path) -> None:
    """Start the rigs, run the sessions, and end the rigs."""
    rigs = {
        name: subprocess.Popen(
            [sys.executable, __file__, str(folder), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ('camera', 'ephys', 'imaging')
    }
    uris = {name: program.stdout.readline().strip() for name, program in rigs.items() if program.stdout}
    asyncio.run(sessions(uris, folder))
    for program in rigs.values():
        program.communicate()


if __name__ == '__main__':
    folder, *name = sys.argv[1:]
    if name:
        asyncio.run(rig(name[0], Path(folder) / f'{name[0]}.jsonl'))
    else:
        main(Path(folder))
