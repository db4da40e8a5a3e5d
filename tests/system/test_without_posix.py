"""Sessions in processes that lack what Windows lacks, see `tests/support/windows`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WINDOWS = Path(__file__).parents[1] / 'support' / 'windows'

LACKING = """
import asyncio, importlib, os, socket
import echorig
from echorig.diagnosis.installation import installation

for name in 'uvloop', 'fcntl', '_datagram', '_stream':
    try:
        importlib.import_module(f'echorig.transports.{name}' if name[0] == '_' else name)
    except ImportError:
        continue
    raise AssertionError(name)
assert not hasattr(socket, 'SO_REUSEPORT') and not hasattr(socket, 'AF_UNIX') and not hasattr(os, 'fork')

async def main():
    loop = asyncio.get_running_loop()
    for method, *args in (
        (loop.add_reader, 0, print), (loop.add_writer, 0, print), (loop.add_signal_handler, 2, print)
    ):
        try:
            method(*args)
        except NotImplementedError:
            continue
        raise AssertionError(method)
    print(loop.__class__.__module__.partition('.')[0], echorig.loop_name())

asyncio.run(main())
echorig.run(main())
print(installation()['transports'])
"""

SESSION = """
import asyncio, logging, sys
from echorig import EchoProtocol, Rig, Services
from echorig.journal import Journal

URIS = ['udp://127.0.0.1:0', 'udp://0.0.0.0:0', 'tcp://127.0.0.1:0', 'tcp://[::]:0']
logging.basicConfig(level='WARNING', stream=sys.stdout, format='%(message)s')
done = []

async def open_rig(name, uri, journal):
    rig = Rig(name)

    @rig.on('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP')
    async def note():
        done.append(rig.name)

    return await rig.open(uri, journal=journal)

async def main(folder):
    journal = Journal(f'{folder}/rigs.jsonl', max_bytes=4000)
    rigs = [await open_rig(f'rig{i}', uri, journal) for i, uri in enumerate(URIS)]
    addresses = {rig.name: uri[:6] + '127.0.0.1:' + rig.server_uri.rpartition(':')[2] for rig, uri in zip(rigs, URIS)}
    async with await Services.connect(addresses, wait=True, timeout=30) as services:
        for _ in range(3):
            async with services.experiment('2026-01-31_1_mouse'):
                for name in 'rig0', 'rig1':  # the echoes to these clients are refused
                    gone = await EchoProtocol.client(addresses[name])
                    gone.send([64, 20, None])
                    gone.close()
                    await gone.wait_closed()
        print(*sorted(await services.ping()))
    for rig in rigs:
        rig.close()
        await rig.wait_closed()
    journal.close()
    print([done.count(rig.name) for rig in rigs])

asyncio.run(main(sys.argv[1]))
"""


def run(*args: str) -> str:
    """Run a Python program that lacks what Windows lacks, and return its output."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(WINDOWS), os.environ.get('PYTHONPATH', '')])}
    for name in ('ECHORIG_LOOP', 'ECHORIG_TRANSPORTS'):
        environment.pop(name, None)
    command = [sys.executable, '-X', 'dev', '-W', 'error', *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, ''), done.stdout + done.stderr
    return done.stdout


pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='Windows itself lacks it')


def test_what_windows_lacks_is_missing() -> None:
    assert run('-c', LACKING) == 'asyncio asyncio\nasyncio asyncio\nof the event loop\n'


def test_a_session_without_it(tmp_path: Path) -> None:
    """Over UDP and TCP, at one address and at all; with a journal of several files."""
    assert run('-c', SESSION, str(tmp_path)) == 'rig0 rig1 rig2 rig3\n[12, 12, 12, 12]\n'
    assert (tmp_path / 'rigs.jsonl.2').is_file()
    assert run('-m', 'echorig', 'journal', '--check', str(tmp_path / 'rigs.jsonl'))


def test_the_demo_without_it() -> None:
    pytest.importorskip('rich')
    assert '28 of 28 confirmed' in run('-m', 'echorig', 'demo', '--rigs', '1', '--tcp', '1', '--rounds', '2')
