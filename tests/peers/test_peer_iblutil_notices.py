"""Error notices between echorig and iblutil after a failed callback."""

from __future__ import annotations

import asyncio

import iblutil_fixtures
import pytest

from echorig import ExpMessage, RemoteCallbackError, Services, ServicesError
from lab import REF

pytest.importorskip('iblutil')
patience, iblutil, wire = iblutil_fixtures.patience, iblutil_fixtures.iblutil, iblutil_fixtures.wire


async def test_their_callback_fails(wire):
    """The message is confirmed, since the echo only means receipt; the notice reports the error."""
    await wire.they_listen('fail', text='no camera', events=['EXPSTART'])
    seen = asyncio.Queue()
    wire.ours.assign_callback(0, lambda data, addr: seen.put_nowait((data, addr)))
    waiting = asyncio.create_task(wire.ours.on_event(0))
    await wire.say('start', REF)
    told = (['ValueError: no camera', ExpMessage.EXPSTART], wire.their_addr)
    assert await asyncio.wait_for(waiting, 10) == told
    assert seen.get_nowait() == told
    # A notice is never echoed: iblutil would take the echo for a notice, and log an error.
    await wire.say('status', 'STOPPED')
    assert (await wire.process.hear())['event'] == 'EXPSTART'
    assert await wire.process.nothing_more('theirs')


async def test_our_callback_fails(wire):
    """iblutil's on_event(0) receives the notice, and iblutil continues to work."""
    confirmed = asyncio.Event()

    async def fail(data, addr):
        # Over TCP iblutil would take our echo and our notice for one message if they came together.
        if not wire.is_udp:
            await confirmed.wait()
        raise RuntimeError('no löck')

    wire.ours.assign_callback('EXPSTART', fail)
    notice = await wire.begin('on_event', 0)
    await wire.they_say('start', REF)
    confirmed.set()
    assert await asyncio.wait_for(notice, 10) == [
        ['RuntimeError: no löck', ExpMessage.EXPSTART],
        list(wire.our_addr),
    ]
    await wire.they_say('cleanup')


@pytest.mark.parametrize('wire', ['server-udp', 'client-udp'], indirect=True)
async def test_our_callback_fails_at_once(wire):
    """Echo and notice are sent together: iblutil can separate them over UDP, but not over TCP."""

    def fail(data, addr):
        raise KeyError('trial')

    others = []
    wire.ours.assign_callback('EXPINIT', fail)
    wire.ours.assign_callback('EXPINIT', lambda data, addr: others.append(data))
    notice = await wire.begin('on_event', 0)
    await wire.they_say('init', data=1)
    assert (await asyncio.wait_for(notice, 10))[0] == ["KeyError: 'trial'", ExpMessage.EXPINIT]
    assert others == [[1]]


@pytest.mark.parametrize('scheme', ['udp', 'ws'])
async def test_services_name_the_rig(iblutil, lab, scheme):
    """The callback of one iblutil rig raises: Services names the rig and the reason, and the others have answered."""
    uri, _ = await iblutil.do('open', com='camera', role='server', uri=f'{scheme}://127.0.0.1')
    await iblutil.do('listen', com='camera', how='fail', text='no light', events=['EXPSTART'])
    await iblutil.do('listen', com='camera', how='answer', events=['EXPEND'])
    rig = await lab.answering(name='rig')
    services = Services([await lab.client(uri, 'camera'), await lab.client(rig, 'rig')], timeout=30)

    with pytest.raises(ServicesError, match=r'camera.*ValueError: no light') as caught:
        await services.start(REF)
    assert caught.value.responses == {'rig': [REF, None]}
    failure = caught.value.failures['camera']
    assert isinstance(failure, RemoteCallbackError)
    assert (failure.event, failure.message) == (ExpMessage.EXPSTART, 'ValueError: no light')
    assert failure.addr == (services['camera'].hostname, services['camera'].port)

    assert await services.stop() == {'camera': [None], 'rig': [None]}
    await iblutil.has_answered('camera')
