"""Install the wheel in a bare environment without a compiler, and run the demo and a session in it.

``python .ci/install_wheel.py dist`` takes the wheel for this Python in that folder. The packages that it needs are
downloaded first, so that the time of the installation does not depend on the network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from pathlib import Path

LIMIT = 5.0  # seconds, on Linux
ATTEMPTS = 3  # the computer may be busy

SESSION = """
import asyncio, os, shutil
from echorig import Rig, Services

assert not any(map(shutil.which, (os.environ['CC'], 'cc', 'gcc', 'clang', 'cl'))), os.environ['PATH']

async def main():
    done, rigs = [], []
    for name, uri in ('camera', 'udp://127.0.0.1:0'), ('sound', 'tcp://127.0.0.1:0'):
        rig = Rig(name)
        rig.on('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP')(lambda *_: done.append(1))
        rigs.append(await rig.open(uri))
    async with await Services.connect({rig.name: rig.server_uri for rig in rigs}, wait=True) as services:
        async with services.experiment('2026-01-31_1_mouse') as session:
            await session.sleep(0.1)
    for rig in rigs:
        rig.close()
        await rig.wait_closed()
    assert len(done) == 8, done

asyncio.run(main())
print('a session with two rigs has run')
"""


class Environment:
    """A new virtual environment, whose programs find no other programs."""

    def __init__(self, home: Path) -> None:
        venv.create(home, clear=True, with_pip=True)
        self._home, self._programs = home, home / ('Scripts' if os.name == 'nt' else 'bin')

    def run(self, *args: str) -> str:
        """Run its Python outside of the sources; return the output."""
        variables = {**os.environ, 'PATH': str(self._programs), 'CC': str(self._home / 'no-compiler')}
        command = [str(self._programs / 'python'), *args]
        return subprocess.run(
            command, cwd=self._home, env=variables, stdout=subprocess.PIPE, text=True, check=True
        ).stdout


def main(folder: str) -> None:
    """Install the wheel and run the programs; end with an error if one fails, or if the installation is slow."""
    (wheel,) = Path(folder).resolve().glob('echorig-*-cp%d%d-*.whl' % sys.version_info[:2])
    packages = wheel.parent / 'packages'
    pip = '-m', 'pip', '--disable-pip-version-check'
    download = *pip, 'download', '--quiet', '--only-binary', ':all:', '--dest', str(packages), str(wheel)
    subprocess.run([sys.executable, *download], check=True)
    for attempt in range(ATTEMPTS):
        environment = Environment(Path('.venv-bare').resolve())
        started = time.monotonic()
        environment.run(*pip, 'install', '--quiet', '--no-index', '--find-links', str(packages), str(wheel))
        took = time.monotonic() - started
        print(f'{wheel.name} ({wheel.stat().st_size:,} bytes) was installed in {took:.1f} s')
        if took < LIMIT or sys.platform != 'linux':
            break
        if attempt == ATTEMPTS - 1:
            sys.exit(f'The installation takes more than {LIMIT:g} s.')
    demo = environment.run('-m', 'echorig', 'demo', '--rigs', '2', '--tcp', '1', '--rounds', '3')
    assert '63 of 63 confirmed' in demo, demo
    print(demo, environment.run('-W', 'error', '-c', SESSION), environment.run('-m', 'echorig', 'doctor', '--self'))


if __name__ == '__main__':
    main(sys.argv[1])
