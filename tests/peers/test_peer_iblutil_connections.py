"""An iblutil client of a flooded server: after a long silence it answers a ping, and its messages are delivered."""

from __future__ import annotations

import asyncio

import iblutil_fixtures
import pytest

import internals
from attack_modes import attackers
from echorig import ExpMessage
from echorig.tuning import InternalTuning
from eventually import eventually
from hosts import needs_others

pytest.importorskip('iblutil')
patience, iblutil = iblutil_fixtures.patience, iblutil_fixtures.iblutil


@needs_others
@pytest.mark.blocks  # processes are started
@pytest.mark.parametrize('how', ['silent', 'drip', 'deaf', 'unfinished'])
async def test_it_stays_and_is_heard(lab, iblutil, how):
    tuning = InternalTuning(
        max_connections=20, idle_timeout=0.5, message_timeout=0.5, max_send_buffer=2**22, max_receive_buffer=2**22
    )
    ours = await lab.server('tcp', 'ours', host='0.0.0.0', tuning=tuning)
    heard = []
    ours.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append((addr[0], data[-1])))
    await iblutil.do('open', com='theirs', role='client', uri=f'tcp://127.0.0.1:{ours.port}')
    await eventually(lambda: internals.n_connections(ours) == 1, 'internals.n_connections(ours) == 1')
    [(addr, connection)] = internals.connections(ours).items()
    # It has sent nothing by itself: this is the echo of a ping.
    await eventually(lambda: connection.splitter.received > 0, 'the ping is echoed')
    await asyncio.sleep(1.0)
    async with attackers(how, ours, 60):
        for i in range(30):
            await iblutil.call('theirs', 'info', 20, i)
        await eventually(lambda: ours.rejected['127.0.0.66'].cut >= 40, 'ours.rejected[127.0.0.66].cut >= 40')
        for i in range(30):
            await ours.info(20, i, addr=addr)
    assert [data for host, data in heard if host == '127.0.0.1'] == list(range(30))
    assert internals.connections(ours)[addr] is connection
    assert set(ours.rejected) == {'127.0.0.66'}
