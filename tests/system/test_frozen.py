"""A program that PyInstaller has frozen contains all of echorig, and runs a rig."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('PyInstaller')
pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]

RIG = """
import asyncio
import sys

import echorig
from echorig import sync


async def main():
    started = []
    async with await echorig.EchoProtocol.server('udp://127.0.0.1:0', 'rig', key='k' * 16) as rig:
        rig.assign_callback('EXPSTART', lambda data, addr: started.append(data[0]))
        async with await echorig.EchoProtocol.client(rig.server_uri, 'main', key='k' * 16) as com:
            await com.start('2026-01-31_1_mouse', {'frames': {1, 2}})
    print(echorig.loop_name(), started)


if len(sys.argv) > 1:
    from echorig.cli.main import main as cli
    sys.exit(cli())
echorig.run(main())
"""


@pytest.fixture(scope='module')
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Freeze the rig, and return the program."""
    folder = tmp_path_factory.mktemp('frozen')
    (folder / 'rig.py').write_text(RIG)
    command = ['-m', 'PyInstaller', '--noconfirm', '--onedir', '--log-level', 'ERROR', '--exclude-module', 'pandas']
    subprocess.run([sys.executable, *command, 'rig.py'], cwd=folder, check=True, timeout=280)
    return folder / 'dist' / 'rig' / 'rig'


def run(program: Path, *options: str) -> str:
    """Run the program far from the sources, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith('PYTHON')}
    ran = subprocess.run(
        [program, *options], cwd=program.parent, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_frozen_rig_runs(program: Path) -> None:
    assert run(program) == "uvloop ['2026-01-31_1_mouse']\n"


def test_the_command_line_of_a_frozen_program_says_which_loop_it_runs(program: Path) -> None:
    assert 'uvloop' in run(program, '--version')
