"""docs/discovery.md: the rig, the main PC and the file of the page find each other on the loopback interface."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from doc_blocks import all_blocks, select
from programs import Program
from rooms import LONG, new_room

pytest.importorskip('zeroconf')
pytest.importorskip('yaml')

PAGE = 'docs/discovery.md'
CONNECT = """
import asyncio
from echorig import Services

async def main():
    async with await Services.connect('remote_devices.yaml', timeout=60) as rigs:
        print(*sorted(await rigs.ping()))

asyncio.run(main())
"""


@pytest.mark.slow
def test_discovery_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, behaviour = new_room(), 'udp://192.168.0.14:11001'
    monkeypatch.setenv('ECHORIG_DISCOVERY_INTERFACES', '127.0.0.1')
    for_rig, for_main = (block.text.replace('room-2', room) for block in select(all_blocks(), 'python', PAGE))
    [file] = select(all_blocks(), 'yaml', PAGE)
    assert "'udp://0.0.0.0:11001'" in for_rig
    answers = (
        "@rig.on('EXPSTART')\ndef start(exp_ref):\n    return rig.name\n\nrig.run("  # the page leaves the work out
    )
    for_rig = for_rig.replace('udp://0.0.0.0:11001', 'udp://127.0.0.1:0').replace('rig.run(', answers)
    with Program(for_rig) as camera, Program(for_rig.replace("'camera'", "'ephys'")) as ephys:
        with Program(for_main) as main:
            assert main.wait(LONG) == 0, main.output
        # `discover` lists what is announced after two seconds; the search goes on until both are there.
        for name in ('camera', 'ephys'):
            assert all(f'{name} udp://127.0.0.1:' in line for line in main.lines if line.startswith(name))
        # In the file ephys has no group, so it would be found in any; here it must be that of this test.
        uri = camera.wait_for('listens on').split()[-1]
        text = file.text.replace('room-2', room).replace('mdns:ephys', f'mdns:ephys?group={room}')
        assert behaviour in text
        (tmp_path / 'remote_devices.yaml').write_text(text.replace(behaviour, uri), 'utf-8')
        with Program('', command=[sys.executable, '-c', CONNECT], folder=tmp_path) as main:
            assert main.wait(LONG) == 0, main.output
        assert main.lines[-1] == 'behaviour camera ephys'
        assert ephys.process.poll() is None
