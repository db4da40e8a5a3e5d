"""`echorig.diagnosis` with rigs that run iblutil and Octave: they echo, and no callback runs."""

from __future__ import annotations

import iblutil_fixtures
import pytest
from iblutil_peer import PATIENCE
from octave_peer import OctaveRig

from findings import diagnosed, faults, finding

patience = iblutil_fixtures.patience
iblutil = iblutil_fixtures.iblutil


@pytest.mark.parametrize('scheme', ['udp', 'tcp', 'ws'])
async def test_iblutil(lab, iblutil, scheme):
    uri, _ = await iblutil.do('open', com='theirs', role='server', uri=f'{scheme}://127.0.0.1')
    await iblutil.do('listen', com='theirs', how='report')
    found = await diagnosed(uri, timeout=PATIENCE)
    assert faults(found) == []
    assert finding(found, 'kind').facts == {'kind': 'legacy'}
    assert await iblutil.nothing_more('theirs')
    client = await lab.client(uri)
    await client.confirmed_send([1, None])  # it still confirms what it is sent
    assert (await iblutil.hear())['event'] == 'EXPINIT'


async def test_octave():
    async with OctaveRig() as rig:
        found = await diagnosed(rig.uri, timeout=PATIENCE)
        assert rig.executed == []
    assert faults(found) == ['cut']
    assert finding(found, 'echo').facts['cut'] == 512
