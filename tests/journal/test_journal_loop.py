"""A journal never blocks the event loop: the guards of the tests fail if a call does."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from echorig import Rig, Services
from echorig.journal import Journal, check, read
from echorig.threads import in_thread
from lab import REF


async def test_a_session(tmp_path: Path) -> None:
    """Opening, writing and closing, on both sides."""
    rig = Rig('camera')
    rig.on('EXPSTART')(lambda exp_ref: 'recording')
    rig.on('EXPEND')(lambda: None)
    async with await rig.open('udp://127.0.0.1:0', journal=tmp_path / 'j'):
        async with await Services.connect({'camera': rig.server_uri}, journal=tmp_path / 'j') as rigs:
            async with rigs.experiment(REF):
                await asyncio.sleep(0.2)
    found = await in_thread(check, tmp_path / 'j')
    assert found.is_complete
    assert found.lines > 20


@pytest.mark.parametrize('durable', [False, True])
async def test_a_disk_that_hangs(lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    """Messages are confirmed while nothing can be written."""
    journal = await in_thread(lambda: Journal(tmp_path / 'j', durable=durable))
    server, client = await lab.pair(journal=journal)
    real, until = os.write, time.monotonic() + 1.0

    def write(fd: int, data: bytes) -> int:
        time.sleep(max(0.0, until - time.monotonic()))
        return real(fd, data)

    monkeypatch.setattr(os, 'write', write)
    n = 0
    while time.monotonic() < until:
        await client.confirmed_send([64, 20, n])
        n += 1
    await in_thread(journal.close)
    confirmed = await in_thread(lambda: [fields for fields in read(tmp_path / 'j') if fields['kind'] == 'confirmed'])
    assert len(confirmed) == n > 10
